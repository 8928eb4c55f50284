//! The cost of decoding a tar: with ordinary files, and with headers only.
#![expect(clippy::print_stderr, reason = "the measurements are the output")]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use layerslayer::internals::tar_entries;

mod decode {
    pub(crate) mod sample;
}

use self::decode::sample;

/// Bytes decoded at a time, as in a pass.
const PIECE_BYTES: usize = 256 << 10;

/// Entries of the tar without content.
const ENTRIES: usize = 25_000;

fn main() {
    let sample = sample::tar();
    eprintln!("content: {}, {} MiB as tar", sample.what, sample.tar.len() >> 20);
    let empty = empty_files();
    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5)).configure_from_args();
    let mut group = criterion.benchmark_group("tar");
    for (name, tar) in [("files", &sample.tar), ("headers only", &empty)] {
        let entries = tar_entries(tar, PIECE_BYTES).expect("a valid tar");
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(tar_entries(tar, PIECE_BYTES).expect("a valid tar")));
        });
    }
    group.finish();
    criterion.final_summary();
}

fn empty_files() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..ENTRIES {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(0);
        let name = format!("usr/share/folder-{}/file-{number}", number % 97);
        builder.append_data(&mut header, name, &[][..]).expect("memory takes all");
    }
    builder.into_inner().expect("memory takes all")
}
