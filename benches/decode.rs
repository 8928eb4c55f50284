//! The cost of a whole pass (decompression, tar and both digests of a layer, through the public API) compared with the
//! codec alone.
//!
//! The table compares a pass with a loop around the codec over the same blob. The two alternate in every round, so that
//! other load on the machine affects both.
#![expect(clippy::print_stderr, reason = "the measurements are the output")]

use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use layerslayer::{Client, Digest, Image};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

mod decode {
    pub(crate) mod bare;
    pub(crate) mod sample;
}

use self::decode::{bare, sample};

/// Rounds of the comparison. The table has medians.
const ROUNDS: usize = 21;

/// A layer in one encoding, as a blob in memory and as an image in a layout.
struct Case {
    name: &'static str,
    blob: Vec<u8>,
    image: Image,
    bare: fn(&[u8]) -> u64,
}

fn main() {
    let sample = sample::tar();
    eprintln!("content: {}, {} MiB as tar", sample.what, sample.tar.len() >> 20);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = runtime();
    let cases = [
        case("gzip", bare::gzip(&sample.tar), bare::inflate, &sample.tar, folder.path(), &runtime),
        case("zstd", bare::zstd(&sample.tar), bare::unzstd, &sample.tar, folder.path(), &runtime),
        case("plain", sample.tar.clone(), bare::copy, &sample.tar, folder.path(), &runtime),
    ];
    let bytes = sample.tar.len() as u64;
    compare(&cases, bytes, &runtime);

    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(8)).configure_from_args();
    for case in &cases {
        let mut group = criterion.benchmark_group(case.name);
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function("bare", |bencher| bencher.iter(|| black_box((case.bare)(&case.blob))));
        group.bench_function("entries", |bencher| bencher.iter(|| black_box(entries(&case.image, &runtime))));
        group.finish();
    }
    criterion.final_summary();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Reads all entries of the only layer, which verifies both digests.
fn entries(image: &Image, runtime: &Runtime) -> usize {
    runtime.block_on(async {
        let layer = image.layer(0).expect("one layer");
        let mut entries = layer.entries();
        let mut count = 0;
        while let Some(entry) = entries.next().await {
            entry.expect("an entry");
            count += 1;
        }
        assert!(entries.verification().is_some());
        count
    })
}

/// Alternates the codec loop and the pass: medians, and the best of each, which other load affects least.
fn compare(cases: &[Case], bytes: u64, runtime: &Runtime) {
    let rate = |seconds: f64| bytes as f64 / seconds / f64::from(1 << 20);
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    eprintln!(
        "| encoding | blob | codec, median | pass, median | ratio | codec, best | pass, best | ratio |"
    );
    eprintln!("|---|---|---|---|---|---|---|---|");
    for case in cases {
        let (mut bare, mut pass, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let one = seconds(|| assert_eq!(black_box((case.bare)(&case.blob)), bytes));
            let other = seconds(|| assert!(black_box(entries(&case.image, runtime)) > 0));
            bare.push(one);
            pass.push(other);
            ratios.push(one / other);
        }
        let (best_bare, best_pass) = (best(&bare), best(&pass));
        eprintln!(
            "| {} | {} MiB | {:.0} MiB/s | {:.0} MiB/s | {:.2} | {:.0} MiB/s | {:.0} MiB/s | {:.2} |",
            case.name,
            case.blob.len() >> 20,
            rate(median(bare)),
            rate(median(pass)),
            median(ratios),
            rate(best_bare),
            rate(best_pass),
            best_bare / best_pass,
        );
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    *values.get(values.len() / 2).expect("at least one round")
}

fn case(
    name: &'static str,
    blob: Vec<u8>,
    bare: fn(&[u8]) -> u64,
    tar: &[u8],
    folder: &Path,
    runtime: &Runtime,
) -> Case {
    let folder = folder.join(name);
    fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder");
    let store = |bytes: &[u8], media_type: &str| {
        let digest = Digest::sha256(bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).expect("a blob");
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    };
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(tar).to_string()] } });
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": store(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json"),
        "layers": [store(&blob, "application/vnd.oci.image.layer.v1.tar")] });
    let manifests: Vec<Value> =
        vec![store(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")];
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    fs::write(folder.join("index.json"), index.to_string()).expect("a file");
    let reference = format!("oci:{}", folder.display()).parse().expect("a reference");
    let platform = "linux/amd64".parse().expect("a platform");
    let client = Client::builder().build().expect("a client");
    let image = runtime.block_on(client.image(&reference, &platform)).expect("the image");
    Case { name, blob, image, bare }
}
