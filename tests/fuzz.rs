//! Feeds every parser of what peers send with the samples in `fuzz/corpus` and with random changes of them.
//!
//! A run of `cargo test` takes seconds and always makes the same changes. A longer run makes others:
//!
//! ```text
//! FUZZ_SECONDS=600 cargo test --all-features --test fuzz tar
//! ```
//! An input that makes a parser fail is written to `fuzz/corpus`, where it stays as a regression test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use layerslayer::internals::FUZZ_TARGETS;

/// Changed inputs of a short run.
const SHORT_RUN: u64 = 400;

/// Most changes of one input.
const CHANGES: u64 = 8;

/// Longest input, in bytes.
const INPUT_BYTES: usize = 256 << 10;

/// Numbers at which parsers change their mind.
const NUMBERS: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// A generator of pseudo-random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The samples of a target, sorted by name, and those of `fixtures`.
fn samples(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus(target))
        .map(|files| files.map(|file| file.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/toc");
    let names: &[&str] = match target {
        "estargz" => &["estargz", "estargz-min-chunk"],
        "soci-index" => &["soci-index-v1", "soci-index-v2"],
        "soci-ztoc" => &["soci-ztoc"],
        _ => &[],
    };
    paths.extend(names.iter().map(|name| fixtures.join(name)));
    let mut samples: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    if target == "stored-toc" {
        samples.push(stored_toc());
    }
    assert!(!samples.is_empty(), "{target} has no samples");
    samples
}

/// A stored TOC without its checksum, which the target adds.
fn stored_toc() -> Vec<u8> {
    use layerslayer::{Entry, EntryKind, internals::Toc};
    let entries = ["d/a", "d/b", "e"].map(|path| Entry::new(path, EntryKind::File));
    let mut stored = Toc::of(entries, 5 << 20).unwrap().stored().unwrap();
    stored.truncate(stored.len() - 32);
    stored
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    // Most formats have their structure at the start or at the end.
    let length = input.len();
    let at = match random.below(4) {
        0 => random.below(length.min(100)),
        1 => length - random.below(length.min(300)).min(length),
        _ => random.below(length),
    };
    let range = at..length.min(at + 1 + random.below(64));
    match random.below(8) {
        0 if at < length => input[at] ^= 1 << random.below(8),
        1 if at < length => input[at] = random.below(256) as u8,
        2 => drop(input.drain(range)),
        3 => {
            let copy = input[range].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            let size = [1, 2, 4, 8][random.below(4)].min(length - at);
            input[at..at + size].copy_from_slice(&number[..size]);
        }
        5 => {
            let number = NUMBERS[random.below(NUMBERS.len())].to_string();
            let digits = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            input.splice(at..at + digits, number.bytes());
        }
        6 if !other.is_empty() => {
            let start = random.below(other.len());
            let end = other.len().min(start + 1 + random.below(600));
            input.splice(range, other[start..end].iter().copied());
        }
        _ => input.truncate(length - random.below(length.min(40))),
    }
    input.truncate(INPUT_BYTES);
}

/// Fixes the checksum of every block that looks like a tar header, so that changes get past it.
fn fix_checksums(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn fuzz(target: &str) {
    let parse = FUZZ_TARGETS.iter().find(|(name, _)| *name == target).unwrap().1;
    let samples = samples(target);
    let run = |input: &[u8], name: String| {
        if let Err(cause) = panic::catch_unwind(AssertUnwindSafe(|| parse(input))) {
            let path = corpus(target).join(name);
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, input).unwrap();
            panic!("{target} fails at {}: {:?}", path.display(), cause.downcast_ref::<String>());
        }
    };
    for (index, sample) in samples.iter().enumerate() {
        run(sample, format!("failed-sample-{index}"));
    }
    let seconds: u64 = env::var("FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let first = match seconds {
        0 => 0,
        _ => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() << 32,
    };
    let mut count = 0;
    while count < SHORT_RUN || Instant::now() < end {
        let seed = first + count;
        let mut random = Random::new(seed + 1);
        let mut input = samples[random.below(samples.len())].clone();
        let other = &samples[random.below(samples.len())];
        for _ in 0..=random.below(CHANGES as usize) {
            if !input.is_empty() {
                change(&mut input, other, &mut random);
            }
        }
        if target == "tar" && random.below(8) > 0 {
            fix_checksums(&mut input);
        }
        run(&input, format!("failed-{seed:x}"));
        count += 1;
    }
}

/// One test for each target.
macro_rules! targets {
    ($($name:ident $target:literal)*) => {
        $(#[test]
        fn $name() {
            fuzz($target);
        })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$($target),*];
            let targets: Vec<&str> = FUZZ_TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(targets, tested);
        }
    };
}

targets! {
    config "config"
    estargz "estargz"
    gzip "gzip"
    manifest "manifest"
    reference "reference"
    soci_index "soci-index"
    soci_ztoc "soci-ztoc"
    stored_toc_of_the_cache "stored-toc"
    tar "tar"
    zstd "zstd"
    zstd_chunked "zstd-chunked"
}
