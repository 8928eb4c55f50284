//! The programs in `examples/` do what their first line says, on the bundled image.

use crate::support::inspect::block_on;

#[path = "../../examples/carve.rs"]
#[expect(dead_code, reason = "its main function")]
mod carve;
#[path = "../../examples/list.rs"]
#[expect(dead_code, reason = "its main function")]
mod list;

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
fn every_example_is_short() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES, "{} has {lines} lines", path.display());
    }
}
