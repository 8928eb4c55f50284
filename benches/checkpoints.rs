//! The cost of recording checkpoints of a gzip layer, and of reading from one.
//!
//! The lines before the benchmarks compare alternating passes, so that other load on the machine affects all of them.
#![expect(clippy::print_stderr, reason = "the measurements are the output")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use layerslayer::internals::{RecordedSpans, checkpoints, unpack};

mod decode {
    #[expect(dead_code, reason = "only the writers are used here")]
    pub(crate) mod bare;
    pub(crate) mod sample;
}

use self::decode::{bare, sample};

/// Rounds of the comparison.
const ROUNDS: usize = 11;

/// Bytes read after a restart.
const READ_BYTES: usize = 4 << 10;

fn main() {
    let sample = sample::tar();
    let blob = Bytes::from(bare::gzip(&sample.tar));
    let unpacked = sample.tar.len() as u64;
    let recording = RecordedSpans::of(&blob).expect("a valid blob");
    eprintln!(
        "content: {}, {} MiB as tar, {} MiB as gzip; {} spans, windows {:.3} % of the blob",
        sample.what,
        unpacked >> 20,
        blob.len() >> 20,
        recording.spans(),
        recording.windows() as f64 * 100.0 / blob.len() as f64,
    );
    compare(&blob);

    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(8)).configure_from_args();
    let mut group = criterion.benchmark_group("checkpoints");
    group.throughput(Throughput::Bytes(unpacked));
    group.bench_function("unpack", |bencher| bencher.iter(|| black_box(unpack(&blob))));
    group.bench_function("unpack, stop for checkpoints", |bencher| {
        bencher.iter(|| black_box(checkpoints(&blob)));
    });
    group.bench_function("unpack and record on one thread", |bencher| {
        bencher.iter(|| black_box(RecordedSpans::of(&blob).expect("a valid blob").spans()));
    });
    group.finish();
    let mut spans = (0..recording.spans()).cycle();
    let mut output = vec![0; READ_BYTES];
    criterion.bench_function("checkpoints/restart and 4 KiB", |bencher| {
        bencher.iter(|| {
            let span = spans.next().expect("at least one span");
            black_box(recording.restart(span, &blob, &mut output).expect("a valid blob"))
        });
    });
    criterion.final_summary();
}

/// The best time of each pass, which other load affects least.
fn compare(blob: &Bytes) {
    let mut best = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        let times = [
            seconds(|| assert!(unpack(blob).is_ok())),
            seconds(|| assert!(checkpoints(blob).is_ok())),
            seconds(|| assert!(RecordedSpans::of(blob).is_ok())),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = best.min(time);
        }
    }
    let [plain, stops, recorded] = best;
    eprintln!(
        "best of {ROUNDS}: unpack {plain:.3} s, with stops {stops:.3} s ({:.2}), recorded on the same thread {recorded:.3} s ({:.2})",
        stops / plain,
        recorded / plain,
    );
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}
