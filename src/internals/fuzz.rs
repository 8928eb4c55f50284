//! The parsers of what peers send, for `tests/fuzz.rs`. Each target must return for any input, and must not contradict itself.

use crate::{
    decompress::{Decompressor, Encoding},
    oci::{
        digest::Digest,
        manifest::{ImageConfig, Manifest},
        reference::ImageReference,
    },
    offset::{Compressed, Uncompressed},
    tar::{
        Decoder, Event,
        entry::Entry,
        whiteout::{self, Meaning},
    },
    toc::{entries::EntryTree, estargz, format, soci, zstd_chunked},
};

/// Most bytes that a target unpacks: small inputs can unpack to gigabytes.
const UNPACKED_BYTES: usize = 4 << 20;

/// A name, and a function that parses any bytes.
///
/// ```
/// let target: layerslayer::internals::FuzzTarget = ("nothing", |_| ());
/// target.1(b"");
/// ```
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
///
/// ```
/// for (name, parse) in layerslayer::internals::FUZZ_TARGETS {
///     assert!(!name.is_empty());
///     parse(b"");
/// }
/// ```
pub const FUZZ_TARGETS: &[FuzzTarget] = &[
    ("config", |bytes| drop(ImageConfig::parse(bytes))),
    ("estargz", parse_estargz),
    ("gzip", |bytes| decode(&[b"\x1f\x8b", bytes].concat())),
    ("manifest", |bytes| drop(Manifest::parse(bytes, None))),
    ("reference", parse_reference),
    ("soci-index", |bytes| drop(soci::index(bytes))),
    ("soci-ztoc", parse_ztoc),
    ("stored-toc", parse_stored),
    ("tar", parse_tar),
    ("zstd", |bytes| decode(&[b"\x28\xb5\x2f\xfd", bytes].concat())),
    ("zstd-chunked", parse_zstd_chunked),
];

fn parse_estargz(bytes: &[u8]) {
    let size = bytes.len() as u64;
    if let Some(estargz::Footer::Toc { offset }) = estargz::footer(bytes)
        && let Some(member) = usize::try_from(offset.0).ok().and_then(|start| bytes.get(start..))
    {
        drop(estargz::toc(member, None, size, offset));
    }
    drop(estargz::toc(bytes, None, 1 << 40, Compressed(1 << 20)));
}

fn parse_zstd_chunked(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let annotated = |unpacked: u64| {
        let position = format!("{}:{size}:{unpacked}:1", 1_u64 << 20);
        zstd_chunked::annotations(|key| {
            (key == "io.github.containers.zstd-chunked.manifest-position").then_some(position.as_str())
        })
    };
    let content = unpacked(bytes).len() as u64;
    if let Some(Ok(location)) = annotated(content) {
        drop(zstd_chunked::toc(bytes, &location, 1 << 40));
    }
}

fn parse_ztoc(bytes: &[u8]) {
    let size = 26_371;
    let Ok(toc) = soci::ztoc(bytes, size) else { return };
    let crate::toc::ContentMap::Ztoc(ztoc) = toc.content else { return };
    for span in ztoc.covering(Uncompressed(0)..Uncompressed(u64::MAX)) {
        let range = ztoc.compressed(span).unwrap_or_default();
        assert!(range.start < range.end && range.end.0 <= size, "span {span} is {range:?}");
    }
}

/// The input is a stored TOC without its checksum, which hides the parser from random changes.
fn parse_stored(bytes: &[u8]) {
    use sha2::{Digest as _, Sha256};
    let checksum = Sha256::digest(bytes);
    let Ok((_, toc)) = format::read([bytes, &checksum].concat().into()) else { return };
    for record in toc.entries.in_tar_order() {
        drop((toc.entries.entry(record), toc.entries.hardlink(record)));
    }
}

fn parse_reference(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    drop(text.parse::<Digest>());
    if let Ok(reference) = text.parse::<ImageReference>() {
        let shown = reference.to_string();
        let again = shown.parse::<ImageReference>().map(|again| again.to_string());
        assert_eq!(again.ok(), Some(shown), "{text:?}");
    }
}

/// The events are the same in one piece and in pieces of 100 bytes, and all entries can be kept.
fn parse_tar(bytes: &[u8]) {
    let whole = entries(bytes, usize::MAX);
    assert!(entries(bytes, 100) == whole, "the entries depend on how the input is split");
    let mut tree = EntryTree::new();
    for mut entry in whole.0 {
        if whiteout::interpret(&mut entry) == Meaning::Metadata || tree.insert(&entry).is_err() {
            continue;
        }
        let _ = tree.lookup(&entry.path);
    }
    tree.complete();
    drop(tree.warning());
}

fn entries(bytes: &[u8], step: usize) -> (Vec<Entry>, bool) {
    let (mut decoder, mut entries) = (Decoder::new(), Vec::new());
    for mut piece in bytes.chunks(step) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(Event::Entry(entry))) => entries.push(*entry),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return (entries, false),
            }
        }
    }
    (entries, decoder.finish().is_ok())
}

/// Decoding from every checkpoint gives what decoding from the start gave.
fn decode(blob: &[u8]) {
    let mut decompressor = Decompressor::new();
    decompressor.record();
    let (mut content, mut checkpoints) = (Vec::new(), Vec::new());
    let mut output = vec![0; 64 << 10];
    let mut input = blob;
    while content.len() < UNPACKED_BYTES {
        let Ok(produced) = decompressor.decompress(&mut input, &mut output) else { break };
        content.extend_from_slice(output.get(..produced).unwrap_or_default());
        let checkpoint = decompressor.take_checkpoint();
        if produced == 0 && checkpoint.is_none() {
            break;
        }
        checkpoints.extend(checkpoint);
    }
    let Some(encoding) = decompressor.encoding().filter(|encoding| *encoding != Encoding::Plain) else {
        return;
    };
    for checkpoint in checkpoints.iter().take(4) {
        let Ok(mut resumed) = Decompressor::restart(encoding, checkpoint) else {
            panic!("a valid checkpoint")
        };
        let start = usize::try_from(checkpoint.at.compressed.0).unwrap_or(usize::MAX);
        let mut input = blob.get(start..).unwrap_or_default();
        let produced = resumed.decompress(&mut input, &mut output).unwrap_or_default();
        let start = usize::try_from(checkpoint.at.uncompressed.0).unwrap_or(usize::MAX);
        let expected = content.get(start..).unwrap_or_default();
        let length = produced.min(expected.len());
        assert!(output.get(..length) == expected.get(..length), "a checkpoint leads elsewhere");
    }
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let (mut decompressor, mut content) = (Decompressor::new(), Vec::new());
    let (mut input, mut output) = (blob, vec![0; 64 << 10]);
    while content.len() < UNPACKED_BYTES {
        match decompressor.decompress(&mut input, &mut output) {
            Ok(0) | Err(_) => break,
            Ok(produced) => content.extend_from_slice(output.get(..produced).unwrap_or_default()),
        }
    }
    content
}
