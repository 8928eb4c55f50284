//! The programs in `examples/` do what their first line says, on the bundled image.

use crate::support::{
    images::{Image, Layout, Tar},
    inspect::block_on,
};

#[path = "../../examples/carve.rs"]
#[expect(dead_code, reason = "its main function")]
mod carve;
#[path = "../../examples/list.rs"]
#[expect(dead_code, reason = "its main function")]
mod list;
#[path = "../../examples/packages.rs"]
#[expect(dead_code, reason = "its main function")]
mod packages;
#[path = "../../examples/secrets.rs"]
#[expect(dead_code, reason = "its main function")]
mod secrets;

const IMAGE: &str = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");

/// Longest example, in lines.
const LINES: usize = 80;

#[test]
fn carve_writes_one_file() {
    let mut out = Vec::new();
    block_on(carve::run(IMAGE, "/etc/app.conf", &mut out)).unwrap();
    assert_eq!(out, b"listen = 8080\n");
}

#[test]
fn list_writes_every_entry_of_every_layer() {
    let mut out = Vec::new();
    block_on(list::run(IMAGE, &mut out)).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("layer ")).count(), 3, "{text}");
    assert!(text.lines().any(|line| line.ends_with("28 app/secret")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("Whiteout")), "{text}");
}

#[test]
fn packages_lists_those_of_every_package_manager() {
    let dpkg = "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\n\n\
                Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
    let base = Tar::new()
        .file("var/lib/dpkg/status", dpkg)
        .file("lib/apk/db/installed", "C:Q1\nP:musl\nV:1.2.5-r0\n\nP:zlib\nV:1.3-r1\n")
        .file("usr/lib/python3/site-packages/six-1.0.dist-info/METADATA", "Name: old\nVersion: 0\n");
    let newest = Tar::new()
        .file("usr/lib/python3/site-packages/six-1.0.dist-info/METADATA", "Name: six\nVersion: 1.0\n\nText\n")
        .file("app/node_modules/left-pad/package.json", r#"{"name":"left-pad","version":"1.3.0"}"#)
        .file("app/node_modules/@scope/x/package.json", r#"{"name":"@scope/x","version":"2.0.0"}"#)
        .file("app/node_modules/odd/package.json", "{");
    let layout = Layout::of(&Image::of([base.finish(), newest.finish()]));
    let mut out = Vec::new();
    block_on(packages::run(&layout.reference("latest"), &mut out)).unwrap();
    let expected = "apk musl 1.2.5-r0\napk zlib 1.3-r1\ndeb bash 5.2-1\nnpm @scope/x 2.0.0\nnpm left-pad 1.3.0\n\
                    python six 1.0\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn secrets_finds_what_a_newer_layer_deleted() {
    let mut out = Vec::new();
    block_on(secrets::run(IMAGE, &mut out)).unwrap();
    let expected = "layer 1: app/secret: password or token (deleted or replaced)\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn every_example_is_short() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES, "{} has {lines} lines", path.display());
    }
}
