//! TOCs of one image built by several machines: the registry gets one artifact.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    cutter::Cutter,
    docker_registry::DockerRegistry,
    images::{
        Compression, Image, Layer, Layout, Tar,
        transport::{Trust, push},
    },
    noise::Noise,
    program::Program,
    tools,
};

/// Content that compresses to about a fifth.
fn words(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let words: Vec<Vec<u8>> = (0..2_000).map(|_| noise.bytes(8)).collect();
    std::iter::repeat_with(|| words[noise.below(2_000) as usize].clone()).flatten().take(length).collect()
}

/// Builds and pushes the TOCs, and returns the description of the artifact.
fn pushed(host: &str, key: &Path, cache: &Path) -> Value {
    let program = Program::new(["toc", "push", "--json", &format!("{host}/app:1")]).cache(cache);
    let lines = program.variable("LAYERSLAYER_TOC_KEY", tools::text(key)).run().done().lines();
    let line = lines.iter().find(|line| line["type"] == "pushed").unwrap();
    assert_eq!(line["tocs"], 4);
    line["digest"].clone()
}

#[test]
fn tocs_of_an_image_are_identical_however_its_bytes_arrived() {
    let registry = DockerRegistry::open();
    let layers = Compression::ALL.into_iter().zip(1..).map(|(compression, seed)| {
        let tar = Tar::new().file(format!("data/{seed}"), words(seed, 5_000_000));
        Layer::new(&tar.file(format!("last/{seed}"), "last").finish(), compression)
    });
    let mut image = layers.skip(1).fold(Image::new(), Image::layer);
    let top = Tar::new().file("first", words(7, 5_000_000)).file("early", "early");
    image = image.layer(Layer::new(&top.file("rest", words(8, 9_000_000)).finish(), Compression::Gzip));
    let mut layout = Layout::new();
    let descriptor = layout.image(&image);
    layout.tag("1", descriptor);
    push(&layout, "1", &format!("{}/app:1", registry.host()), Trust::Plain);

    let folder = tools::temporary_folder();
    let key = folder.path().join("own.pem");
    let mut keygen = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    tools::run(keygen.args(["toc", "keygen", "-o", tools::text(&key)]));
    let machine = |name: &str| {
        let cache = folder.path().join(name);
        fs::create_dir(&cache).unwrap();
        cache
    };

    let first = pushed(&registry.host(), &key, &machine("first"));
    for seed in [1, 2] {
        let cutter = Cutter::before(&registry.host(), &mut Noise::new(seed), 9, 4 << 20);
        assert_eq!(pushed(&cutter.host(), &key, &machine(&format!("cut {seed}"))), first);
        assert_eq!(cutter.left(), 0);
    }
    // A machine that stopped in the middle of the uppermost layer before.
    let stopped = machine("stopped");
    let reference = format!("{}/app:1", registry.host());
    let carved = Program::new(["carve", &reference, "/early"]).cache(&stopped).run().done();
    assert_eq!((carved.stdout, &carved.report["verified"]), (b"early".to_vec(), &"none".into()));
    assert_eq!(pushed(&registry.host(), &key, &stopped), first);
}
