//! `layerslayer toc`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::support::tools;

fn keygen(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.current_dir(folder).args(["toc", "keygen"]).args(words).output().unwrap()
}

#[test]
fn a_key_that_openssl_reads_goes_to_a_new_file_of_the_owners_alone() {
    let folder = tools::temporary_folder();
    for (words, name) in [(&[][..], "layerslayer-toc.pem"), (&["-o", "own.pem"], "own.pem")] {
        let output = keygen(folder.path(), words);
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        let path = folder.path().join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let private = fs::read(&path).unwrap();
        assert!(private.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
        let public = folder.path().join("public.pem");
        fs::write(&public, &output.stdout).unwrap();
        let openssl =
            |words: &[&str]| tools::run(tools::command("openssl").current_dir(folder.path()).args(words));
        let text =
            String::from_utf8(openssl(&["pkey", "-pubin", "-in", "public.pem", "-noout", "-text"])).unwrap();
        assert!(text.contains("ED25519"), "{text}");
        // A key is not written over.
        let output = keygen(folder.path(), words);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
        assert_eq!(fs::read(&path).unwrap(), private);
    }
}

#[test]
fn a_store_or_key_that_makes_no_sense_is_a_usage_error() {
    let folder = tools::temporary_folder();
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    let run = |name: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        command.env_clear().env("LAYERSLAYER_CACHE_DIR", folder.path()).env(name, value).args(["peek", demo]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let key = folder.path().join("key.pem");
    fs::write(&key, "no key").unwrap();
    for value in ["/no/such/key", tools::text(&key)] {
        let (code, stderr) = run("LAYERSLAYER_TOC_KEY", value);
        assert!(code == Some(2) && stderr.contains(value), "{code:?} {stderr}");
    }
    assert_eq!(run("LAYERSLAYER_TOC_STORE", "nowhere").0, Some(2));
    let (code, stderr) = run("LAYERSLAYER_TOC_STORE", "s3://tables/team");
    match cfg!(feature = "object-store") {
        true => assert_eq!((code, stderr.as_str()), (Some(0), "")),
        false => assert!(code == Some(2) && stderr.contains("object-store"), "{code:?} {stderr}"),
    }
}
