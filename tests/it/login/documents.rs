//! The examples in `docs/credentials.md` and the help work as shown.

use std::fs;

use super::{PASSWORD, USER, private_image};
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Done, Home},
};

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/credentials.md")).unwrap()
}

#[test]
fn every_command_of_the_page_works() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    private_image(&registry);
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame").file("token", PASSWORD);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_layerslayer"), home.path("bin/layerslayer")).unwrap();
    let page = page();
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for line in blocks.flat_map(str::lines) {
        // Prompts need a terminal.
        if line.contains("# asks") {
            continue;
        }
        let line = line.replace("registry.example:5000", &registry.host());
        let mut shell = home.other("bash");
        shell.args(["-c", &line]).current_dir(home.path("."));
        Done::of(&mut shell, "").done();
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn the_line_of_status_has_the_documented_keys() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let home = Home::new();
    home.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext"]).done();
    let page = page();
    let example = page.split("```json\n").nth(1).unwrap().lines().next().unwrap();
    let example: serde_json::Value = serde_json::from_str(example).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&home.status(&[])[0]), keys(&example));
}

#[test]
fn every_example_in_the_help_is_valid_and_fits_its_width() {
    let home = Home::new();
    for words in [&["login"][..], &["logout"], &["auth"], &["auth", "status"], &["auth", "migrate"]] {
        let help = home.run(words.iter().chain(&["--help"]), "").done().stdout;
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            let Some(example) = line.strip_prefix("  layerslayer ") else { continue };
            let example = example.split("  ").next().unwrap().split(" < ").next().unwrap();
            // With `--help` at the end it is only parsed.
            home.run(example.split(' ').chain(["--help"]), "").done();
        }
    }
}
