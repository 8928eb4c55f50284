//! A question has the same answer however it is obtained: by streaming, by a TOC that an earlier
//! run left of all or part of a layer, and by reading everything.

use std::{io::Read as _, path::Path};

use layerslayer::{
    Cache, CacheOptions, CarveOptions, Client, Digest, Entry, Image, Platform, Selection, Verification,
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::support::{
    images::{self, Compression, Layer, Layout, Tar, tar::Member},
    inspect::{Carved, Failure, block_on, carve, chain, failure},
    noise::Noise,
    tools,
};

const CASES: u32 = 12;

/// More than may remain unread before a layer is read to its end anyway.
const BIG: usize = (1 << 20) + 700_000;

const PATHS: [&str; 9] = ["a", "b", "d", "d/a", "d/b", "d/e/c", "l", "l/a", "q"];

/// One or a few entries of a layer.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Compressible text, or incompressible noise.
    Big {
        path: usize,
        is_text: bool,
    },
    Directory {
        path: usize,
    },
    File {
        path: usize,
        size: usize,
    },
    /// A global header that does not affect entries, or one that sets the size of the next file.
    Global {
        path: usize,
        is_size: bool,
    },
    Hardlink {
        path: usize,
        target: usize,
    },
    LongName {
        path: usize,
    },
    Opaque {
        path: usize,
    },
    Sparse {
        path: usize,
    },
    Symlink {
        path: usize,
        target: usize,
    },
    Whiteout {
        path: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Gzip(u32),
    Members,
    Of(Compression),
    PigzDependent,
    ZstdFrames,
}

fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS.len();
    prop_oneof![
        2 => (path(), any::<bool>()).prop_map(|(path, is_text)| Step::Big { path, is_text }),
        2 => path().prop_map(|path| Step::Directory { path }),
        6 => (path(), 0_usize..3_000).prop_map(|(path, size)| Step::File { path, size }),
        1 => path().prop_map(|path| Step::File { path, size: 0 }),
        1 => (path(), any::<bool>()).prop_map(|(path, is_size)| Step::Global { path, is_size }),
        2 => (path(), path()).prop_map(|(path, target)| Step::Hardlink { path, target }),
        1 => path().prop_map(|path| Step::LongName { path }),
        1 => path().prop_map(|path| Step::Opaque { path }),
        1 => path().prop_map(|path| Step::Sparse { path }),
        2 => (path(), path()).prop_map(|(path, target)| Step::Symlink { path, target }),
        1 => path().prop_map(|path| Step::Whiteout { path }),
    ]
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        3 => (1_u32..10).prop_map(Encoding::Gzip),
        1 => Just(Encoding::Members),
        1 => Just(Encoding::PigzDependent),
        1 => Just(Encoding::ZstdFrames),
        4 => (0..Compression::ALL.len()).prop_map(|index| Encoding::Of(Compression::ALL[index])),
    ]
}

/// Text of a few words, so that deflate refers far back.
fn text(noise: &mut Noise, length: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..500).map(|_| noise.bytes(7)).collect();
    let mut text = Vec::with_capacity(length + 7);
    while text.len() < length {
        text.extend_from_slice(&words[usize::try_from(noise.below(500)).unwrap()]);
    }
    text
}

fn tar(steps: &[Step], noise: &mut Noise) -> Vec<u8> {
    let mut tar = Tar::new().file("first", noise.bytes(100));
    for step in steps {
        tar = match *step {
            Step::Big { path, is_text: true } => tar.file(PATHS[path], text(noise, 2 * BIG)),
            Step::Big { path, is_text: false } => tar.file(PATHS[path], noise.bytes(BIG)),
            Step::Directory { path } => tar.directory(PATHS[path]),
            Step::File { path, size } => tar.file(PATHS[path], noise.bytes(size)),
            Step::Global { path, is_size: true } => {
                // Two files whose own headers say that they are empty.
                let mut tar = tar.global_pax("size", "700");
                for path in [PATHS[path], "sized"] {
                    tar = tar.file(path, "").raw(noise.bytes(700)).raw([0; 1_024 - 700]);
                }
                tar.global_pax("size", "")
            }
            Step::Global { path, .. } => {
                tar.global_pax("comment", "no more").file(PATHS[path], noise.bytes(50))
            }
            Step::Hardlink { path, target } => tar.hardlink(PATHS[path], PATHS[target]),
            Step::LongName { path } => {
                let name = format!("{}/{}", PATHS[path], "n".repeat(200));
                tar.file(name, noise.bytes(30)).hardlink("long", format!("d/{}", "n".repeat(200)))
            }
            Step::Opaque { path } => tar.opaque(PATHS[path]),
            Step::Sparse { path } => {
                // GNU tar's format 1.0: two pieces of data between holes.
                let mut content = b"2\n0\n512\n8192\n100\n".to_vec();
                content.resize(512, 0);
                content.extend(noise.bytes(612));
                let member = Member::file(format!("GNUSparseFile.0/{path}"), content)
                    .pax("GNU.sparse.major", "1")
                    .pax("GNU.sparse.minor", "0")
                    .pax("GNU.sparse.name", PATHS[path])
                    .pax("GNU.sparse.realsize", "20000");
                tar.member(member)
            }
            Step::Symlink { path, target } => tar.symlink(PATHS[path], format!("/{}", PATHS[target])),
            Step::Whiteout { path } => tar.whiteout(PATHS[path]),
        };
    }
    tar.file("z", noise.bytes(BIG)).file("last", "last").finish()
}

fn encoded(encoding: Encoding, tar: &[u8]) -> Layer {
    let gzip = |bytes: &[u8], level: u32| {
        let mut encoder = flate2::bufread::GzEncoder::new(bytes, flate2::Compression::new(level));
        let mut encoded = Vec::new();
        encoder.read_to_end(&mut encoded).unwrap();
        encoded
    };
    let stored = |compression: Compression, blob| {
        Layer::new(tar, Compression::None).media_type(&compression.media_type()).blob(blob)
    };
    match encoding {
        Encoding::Gzip(level) => stored(Compression::Gzip, gzip(tar, level)),
        Encoding::Members => {
            stored(Compression::Gzip, tar.chunks(300_000).flat_map(|part| gzip(part, 6)).collect())
        }
        Encoding::Of(compression) => Layer::new(tar, compression),
        Encoding::PigzDependent => {
            stored(Compression::Gzip, tools::filter(tools::command("pigz").args(["-c", "-n"]), tar))
        }
        Encoding::ZstdFrames => {
            let frames = tar.chunks(400_000).flat_map(|part| Compression::Zstd.encode(part));
            stored(Compression::Zstd, frames.collect())
        }
    }
}

/// Opens an image again and again, as run after run does.
struct Runs<'a> {
    client: Client,
    cache: Option<Cache>,
    reference: &'a str,
}

impl<'a> Runs<'a> {
    /// Without a cache, or with one in this folder.
    fn new(folder: Option<&Path>, reference: &'a str) -> Self {
        let cache = folder.map(|folder| Cache::open(&CacheOptions::new(folder)).unwrap());
        let builder = Client::builder();
        let client = match &cache {
            Some(cache) => builder.cache(cache.clone()),
            None => builder,
        };
        Self { client: client.build().unwrap(), cache, reference }
    }

    /// Each image is new: it knows only what the cache holds.
    fn ask<T>(&self, question: impl AsyncFnOnce(&Image) -> T) -> T {
        block_on(async {
            let reference = self.reference.parse().unwrap();
            let image = self.client.image(&reference, &Platform::default()).await.unwrap();
            let answer = question(&image).await;
            self.cache.iter().for_each(Cache::finish_writes);
            answer
        })
    }
}

/// The result of carving: the part that must be equal, then whether the answer is final.
type Answer = (Result<(Digest, u64, usize), Failure>, bool, String);

fn answer(carved: Result<Carved, layerslayer::Error>) -> Answer {
    match carved {
        Ok(carved) => {
            let outcome = format!("{:?}", carved.outcome);
            let facts = (Digest::sha256(&carved.content), carved.entry.size, carved.layer);
            (Ok(facts), carved.outcome.is_final, outcome)
        }
        Err(error) => (Err(failure(&error)), true, chain(&error)),
    }
}

fn carved(runs: &Runs<'_>, path: &str, options: CarveOptions) -> Answer {
    runs.ask(async |image| answer(carve(image, path.as_bytes(), &options).await))
}

/// Everything below the root, with its content.
fn collected(runs: &Runs<'_>, options: CarveOptions) -> Vec<String> {
    runs.ask(async |image| {
        let collection = image.collect(&Selection::paths(["/"]), &options).await.unwrap();
        let items = collection.items().iter().map(|item| {
            let mut content = Vec::new();
            collection.open(item).read_to_end(&mut content).unwrap();
            format!("{:?} {:?} {}", item.entry, item.hardlink_to, Digest::sha256(&content))
        });
        let failures =
            collection.failures().iter().map(|(path, error)| format!("{path:?} {:?}", failure(error)));
        items.chain(failures).collect()
    })
}

/// The entries of all layers.
fn listed(runs: &Runs<'_>) -> Vec<Vec<Entry>> {
    runs.ask(async |image| {
        let mut layers = Vec::new();
        for layer in image.layers() {
            let (mut entries, mut all) = (layer.entries(), Vec::new());
            while let Some(entry) = entries.next().await {
                all.push(entry.unwrap());
            }
            layers.push(all);
        }
        layers
    })
}

fn check(stack: &[(Vec<Step>, Encoding)]) {
    let mut noise = Noise::new(7);
    let sizes = |step: &Step| matches!(step, Step::Global { is_size: true, .. });
    let is_governed = stack.iter().flat_map(|(steps, _)| steps).any(sizes);
    let image = stack.iter().fold(images::Image::new(), |image, (steps, encoding)| {
        image.layer(encoded(*encoding, &tar(steps, &mut noise)))
    });
    let layout = Layout::of(&image);
    let reference = layout.reference("latest");
    let folder = tools::temporary_folder();
    let (plain, whole) =
        (CarveOptions::default(), CarveOptions::default().min_verification(Verification::Blob));
    let with = |name: &str| Runs::new(Some(&folder.path().join(name)), &reference);
    let (none, complete) = (Runs::new(None, &reference), with("complete"));
    let (partial, resumed) = (with("partial"), with("resumed"));
    let entries = listed(&none);
    let everything = collected(&none, whole);

    assert_eq!(listed(&complete), entries, "while TOCs are built");
    assert_eq!(listed(&complete), entries, "by TOC");
    assert_eq!(collected(&complete, plain), everything, "by TOC");

    let paths: Vec<&str> =
        PATHS.into_iter().chain(["sized", "long", "d/../l", "z", "last", "none"]).collect();
    for path in paths {
        let right = carved(&none, path, whole);
        let same = |way: &str, found: Answer| {
            assert_eq!((&found.0, found.1), (&right.0, right.1), "/{path} {way}: {} {}", right.2, found.2);
        };
        // An answer that has not seen all of a layer may be wrong about a name that occurs twice,
        // and reports that.
        let early = |way: &str, found: Answer| {
            let is_again = found.2.contains("again after the content that was given");
            let says_so = found.0 == right.0 || !found.1 || is_again;
            assert!(says_so, "/{path} {way}: {} {}", right.2, found.2);
        };
        let by_toc = carved(&complete, path, plain);
        // Layers whose global headers affect entries have no TOC.
        if is_governed {
            early("again", by_toc)
        } else {
            same("by TOC", by_toc)
        }
        same("by TOC, verified", carved(&complete, path, plain.min_verification(Verification::Span)));
        early("cold", carved(&none, path, plain));
        partial.cache.as_ref().unwrap().clear().unwrap();
        let _ = carved(&partial, "first", plain);
        early("after another file", carved(&partial, path, plain));
        early("a second time", carved(&partial, path, plain));
        early("after all before it", carved(&resumed, path, plain));
    }
    assert_eq!(listed(&partial), entries, "resumed");
    assert_eq!(collected(&partial, plain), everything, "resumed");
    assert_eq!(listed(&resumed), entries, "resumed often");
    assert_eq!(collected(&resumed, plain), everything, "resumed often");
}

#[test]
fn every_way_to_a_file_gives_the_same_answer() {
    let config =
        Config { cases: CASES, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let stacks = vec((vec(step(), 0..7), encoding()), 1..4);
    runner
        .run(&stacks, |stack| {
            check(&stack);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_file_sized_only_by_a_global_header_is_the_same_by_every_way() {
    let (size, big) = (Step::Global { path: 0, is_size: true }, Step::Big { path: 1, is_text: true });
    check(&[(vec![big, size], Encoding::Gzip(6))]);
    check(&[(vec![size, big], Encoding::Of(Compression::None))]);
}
