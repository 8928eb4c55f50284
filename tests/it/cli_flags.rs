//! Options, and the examples of `docs/json.md`.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Compression, Image, Layer, Layout, Member, Tar,
        transport::{Trust, push},
    },
    noise::Noise,
    program::{Program, Ran},
    tools,
};

const DEMO: &str = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");

fn run(words: &[&str]) -> Ran {
    Program::new(words).run()
}

fn text(ran: &Ran) -> &str {
    std::str::from_utf8(&ran.stdout).unwrap()
}

#[test]
fn a_layer_is_selected_by_index_or_digest() {
    let digest = run(&["peek", DEMO, "--json"]).done().lines()[3]["digest"].as_str().unwrap().to_owned();
    for layer in ["1", &digest, &digest["sha256:".len()..][..6]] {
        let listed = run(&["peek", DEMO, "--layer", layer, "app/secret"]).done();
        assert!(text(&listed).lines().last().unwrap().ends_with(" app/secret"), "{layer}");
        // A lower layer still has the file that a newer one removed.
        assert_eq!(
            text(&run(&["carve", DEMO, "/app/secret", "--layer", layer]).done()),
            "token = not-really-a-secret\n"
        );
    }
    let listed = run(&["peek", DEMO, "--layer", "2", "--layer", "0"]).done();
    let headers: Vec<_> = text(&listed).lines().filter(|line| line.starts_with("layer ")).collect();
    assert!(headers[0].starts_with("layer 2 ") && headers[1].starts_with("layer 0 ") && headers.len() == 2);
    run(&["carve", DEMO, "/etc/os-release", "--layer", "1"]).failed(3);
}

#[test]
fn explain_prints_links_whiteouts_and_layers_to_stderr() {
    let ran = run(&["carve", DEMO, "/etc/app.conf", "--explain"]).done();
    assert_eq!(text(&ran), "listen = 8080\n");
    ran.said("/etc/app.conf is a symbolic link to /app/app.conf").said("layer 1: /app/app.conf");
    run(&["carve", DEMO, "/app/secret", "--explain"]).failed(4).said("layer 2").said("whiteout");
}

#[test]
fn another_platform_is_a_warning_by_default_and_a_failure_with_platform() {
    let tar = Tar::new().file("a", "a").finish();
    let image = Image::of([tar]).platform("plan9", "mips", "");
    let layout = Layout::of(&image);
    let image = layout.reference("latest");
    let ran = run(&["carve", &image, "/a"]).done().said("layerslayer: warning: ").said("plan9/mips");
    assert_eq!(text(&ran), "a");
    assert_eq!(run(&["carve", &image, "/a", "-q"]).done().stderr, "");
    run(&["carve", &image, "/a", "--platform", "linux/amd64"]).failed(9).said("plan9/mips");
    assert_eq!(run(&["carve", &image, "/a", "--platform", "plan9/mips"]).done().stderr, "");
    run(&["carve", &image, "/a", "--platform", "a/b/c/d"]).failed(2);
}

#[test]
fn a_note_says_that_content_is_not_verified_and_verbose_adds_a_summary() {
    let tar = Tar::new().file("first", "first\n").file("big", Noise::new(3).bytes(8 << 20)).finish();
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::None)));
    let image = layout.reference("latest");
    let note = "layerslayer: not verified; --verify reads the whole layer\n";
    assert_eq!(run(&["carve", &image, "/first"]).done().stderr, note);
    assert_eq!(run(&["carve", &image, "/first", "-q", "--no-cache"]).done().stderr, "");
    for verify in ["--verify", "--verify=blob"] {
        let ran = run(&["carve", &image, "/first", verify]).done();
        assert_eq!((ran.stderr.as_str(), &ran.report["verified"]), ("", &"blob".into()));
    }
    let ran = run(&["peek", &image, "-v"]).done();
    assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains("0 requests"), "{}", ran.stderr);
}

#[test]
fn an_unsupported_compression_is_named() {
    let tar = Tar::new().file("a", "a").finish();
    let layer = Layer::new(&tar, Compression::None).blob(b"\xfd7zXZ\0 and so on".to_vec());
    let layout = Layout::of(&Image::new().layer(layer));
    for words in
        [&["carve", &layout.reference("latest"), "/a"][..], &["peek", &layout.reference("latest"), "--all"]]
    {
        run(words).failed(1).said("xz");
    }
}

#[test]
fn a_missing_tag_is_no_such_image() {
    let registry = DockerRegistry::open();
    let layout = Layout::of(&Image::of([Tar::new().file("a", "a").finish()]));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    for reference in ["one:2", "two:1"] {
        run(&["peek", &format!("{}/{reference}", registry.host())])
            .failed(9)
            .said(reference.split_once(':').unwrap().0);
    }
    run(&["carve", &format!("{}/one:1", registry.host()), "/a"]).done();
}

/// The examples of `docs/json.md`, by type.
fn documented_lines(page: &str) -> Vec<Value> {
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn keys(line: &Value) -> Vec<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn json_lines_have_the_documented_keys() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).unwrap();
    let file = Member::file("etc/passwd", "a").owner_names("root", "root");
    let layer = Layer::new(&Tar::new().member(file).finish(), Compression::Gzip).created_by("COPY . .");
    let layout = Layout::of(&Image::new().layer(layer));
    let (image, out) = (layout.reference("latest"), tools::temporary_folder());
    let below = format!("{}/", tools::text(out.path()));
    let mut lines = run(&["peek", &image, "--all", "--json"]).done().lines();
    lines.extend(run(&["peek", &image, "--rootfs", "--json", "etc/*"]).done().lines());
    lines.extend(run(&["carve", &image, "/no", "--json", "-o", &below]).failed(3).lines());
    let documented = documented_lines(&page);
    let types: BTreeSet<&str> = documented.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types.len(), 7, "{types:?}");
    for example in &documented {
        let mut real = lines.iter().filter(|line| line["type"] == example["type"]).peekable();
        assert!(real.peek().is_some(), "{example}");
        for line in real {
            assert_eq!(keys(line), keys(example));
        }
    }
}

#[test]
fn a_report_has_the_documented_keys_in_order() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).unwrap();
    let table = page.split("## `--report FILE`").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let documented: Vec<&str> =
        rows.flat_map(|cell| cell.split(", ")).map(|key| key.trim_matches('`')).collect();
    let mut seen = BTreeSet::new();
    for ran in [
        run(&["carve", DEMO, "/etc/app.conf"]).done(),
        run(&["carve", DEMO, "/etc", "/bin", "--tar"]).done(),
        run(&["peek", DEMO, "--rootfs"]).done(),
        run(&["carve", DEMO, "/no"]).failed(3),
    ] {
        let places: Vec<_> = keys(&ran.report)
            .iter()
            .map(|key| documented.iter().position(|name| name == key).unwrap())
            .collect();
        assert!(places.is_sorted(), "{}", ran.report);
        seen.extend(places);
    }
    assert_eq!(seen.len(), documented.len(), "{documented:?}");
}
