//! Broken connections to Debian's registry, and damaged bytes in its storage.

use std::fs;

use crate::support::{
    cutter::Cutter,
    docker_registry::DockerRegistry,
    images::{
        Compression, Image, Layer, Layout, Tar,
        transport::{Trust, push},
    },
    noise::Noise,
    program::{Program, Ran},
    tools,
};

/// Larger than the remainder that is read to the end anyway once the answer is known.
const BIG: usize = 6 << 20;

/// An image of one layer with a small file at either end, and the layer's digest.
struct Stored {
    registry: DockerRegistry,
    reference: String,
    layer: String,
    big: Vec<u8>,
}

fn stored(compression: Compression, length: usize) -> Stored {
    let registry = DockerRegistry::open();
    let big = Noise::new(5).bytes(length);
    let tar = Tar::new().file("first", "first\n").file("big", &big).file("last", "last\n").finish();
    let layer = Layer::new(&tar, compression);
    let digest = layer.digest();
    let reference = format!("{}/one:1", registry.host());
    push(&Layout::of(&Image::new().layer(layer)), "latest", &reference, Trust::Plain);
    Stored { registry, reference, layer: digest, big }
}

impl Stored {
    /// Changes one byte in the middle of the layer.
    fn tamper(&self) {
        let file = self.registry.blob_file(&self.layer);
        let mut blob = fs::read(&file).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        fs::write(&file, blob).unwrap();
    }

    fn carve(&self, path: &str) -> Program {
        Program::new(["carve", &self.reference, path])
    }
}

#[track_caller]
fn gave_nothing(ran: Ran) -> Ran {
    let ran = ran.failed(8);
    assert!(ran.stdout.is_empty(), "{} bytes", ran.stdout.len());
    ran
}

#[test]
fn a_connection_cut_at_twenty_places_gives_the_same_bytes() {
    for (seed, compression) in [(1, Compression::None), (2, Compression::Gzip)] {
        let stored = stored(compression, 24 << 20);
        let cutter = Cutter::before(&stored.registry.host(), &mut Noise::new(seed), 20, 24 << 20);
        let reference = stored.reference.replace(&stored.registry.host(), &cutter.host());
        let ran = Program::new(["carve", &reference, "/big"]).run().done();
        assert!(ran.stdout == stored.big, "{} of {} bytes", ran.stdout.len(), stored.big.len());
        assert_eq!(cutter.left(), 0);
        assert_eq!(ran.report["verified"], "blob");
        assert!(ran.report["requests"].as_u64().unwrap() >= 20, "{}", ran.report);
    }
}

#[test]
fn a_listing_over_a_broken_connection_is_complete() {
    let tar = (0..2_000).fold(Tar::new(), |tar, index| tar.file(format!("f/{index}"), [b'x'; 600]));
    let registry = DockerRegistry::open();
    let layer = Layer::new(&tar.finish(), Compression::None);
    let layout = Layout::of(&Image::new().layer(layer));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    let whole = Program::new(["peek", &format!("{}/one:1", registry.host()), "--all"]).run().done();
    let cutter = Cutter::before(&registry.host(), &mut Noise::new(9), 4, 3 << 20);
    let cut = Program::new(["peek", &format!("{}/one:1", cutter.host()), "--all"]).run().done();
    assert_eq!(cutter.left(), 0);
    let entries = |ran: &Ran| {
        String::from_utf8_lossy(&ran.stdout).lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(entries(&cut), entries(&whole));
    assert!(entries(&whole).len() >= 2_000);
}

#[test]
fn a_tampered_layer_prints_nothing_under_verify() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let stored = stored(compression, BIG);
        stored.tamper();
        let folder = tools::temporary_folder();
        let output = folder.path().join("output");
        for verify in ["--verify", "--verify=blob"] {
            for path in ["/first", "/big", "/last", "/missing"] {
                gave_nothing(stored.carve(path).arg(verify).run()).said(&stored.layer);
            }
            gave_nothing(stored.carve("/first").arg(verify).arg("-o").arg(&output).run());
            let directory = folder.path().join("directory/");
            gave_nothing(stored.carve("/first").arg(verify).arg("-o").arg(&directory).run());
            gave_nothing(stored.carve("/first").args(["/big", "--tar", verify]).run());
            for listing in ["--all", "--layer=0", "--rootfs"] {
                gave_nothing(Program::new(["peek", &stored.reference, listing, verify]).run());
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&output, "before").unwrap();
        gave_nothing(stored.carve("/first").arg("--verify").arg("-o").arg(&output).run());
        assert_eq!(fs::read_to_string(&output).unwrap(), "before");
    }
}

#[test]
fn tampering_is_detected_at_the_end_of_a_layer_and_labelled_unverified_before_it() {
    let packed = stored(Compression::Gzip, BIG);
    packed.tamper();
    gave_nothing(packed.carve("/last").run()).said(&packed.layer);
    let stored = stored(Compression::None, BIG);
    stored.tamper();
    let early = stored.carve("/first").run().done().said("not verified");
    assert_eq!(early.stdout, b"first\n");
    assert_eq!((&early.report["verified"], &early.report["final"]), (&"none".into(), &false.into()));
    // The tampered bytes are skipped.
    let last = stored.carve("/last").run().done().said("not verified");
    assert_eq!((&last.report["verified"], &last.report["plan"]), (&"none".into(), &"hop".into()));
    // A long file streams as it arrives; the failure at its end still sets the exit code.
    let long = stored.carve("/big").run().failed(8);
    assert!(long.stdout != stored.big);
    let folder = tools::temporary_folder();
    stored.carve("/big").arg("-o").arg(folder.path().join("big")).run().failed(8);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let listing = Program::new(["peek", &stored.reference, "--all", "--json"]).run().failed(8);
    assert_ne!(listing.lines().last().unwrap()["type"], "end");
}

#[test]
fn a_truncated_extended_or_missing_layer_is_corrupt() {
    let stored = stored(Compression::None, BIG);
    let file = stored.registry.blob_file(&stored.layer);
    let blob = fs::read(&file).unwrap();
    fs::write(&file, &blob[..blob.len() - 1]).unwrap();
    gave_nothing(stored.carve("/first").run()).said(&stored.layer);
    fs::write(&file, [&blob[..], b"x"].concat()).unwrap();
    gave_nothing(stored.carve("/first").run()).said(&stored.layer);
    fs::remove_file(&file).unwrap();
    gave_nothing(stored.carve("/first").run()).said(&stored.layer).said("404");
    fs::write(&file, &blob).unwrap();
    assert_eq!(stored.carve("/first").arg("--verify").run().done().stdout, b"first\n");
}

#[test]
fn a_tampered_manifest_or_configuration_is_refused() {
    let stored = stored(Compression::None, 1_000);
    let peek = Program::new(["peek", &stored.reference, "--json"]).run().done();
    let digest = peek.report["digest"].as_str().unwrap().to_owned();
    let manifest = stored.registry.blob_file(&digest);
    let text = fs::read_to_string(&manifest).unwrap();
    let by_digest = stored.reference.replace("/one:1", &format!("/one@{digest}"));
    Program::new(["peek", &by_digest]).run().done();
    let config = serde_json::from_str::<serde_json::Value>(&text).unwrap()["config"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let config = stored.registry.blob_file(&config);
    let before = fs::read_to_string(&config).unwrap();
    fs::write(&config, before.replace("layerslayer test", "layerslayer text")).unwrap();
    gave_nothing(Program::new(["peek", &stored.reference]).run());
    fs::write(&config, before).unwrap();
    fs::write(&manifest, text.replace("\"schemaVersion\":2", "\"schemaVersion\" :2")).unwrap();
    gave_nothing(Program::new(["peek", &by_digest]).run()).said(&digest);
}
