//! The header of a stored TOC: first and not compressed.

use super::Error;
use crate::{
    oci::digest::{Algorithm, Digest},
    offset::Position,
    toc::{ContentMap, LayerToc},
};

const MAGIC: [u8; 8] = *b"LayerToc";

/// Incremented with every change of the format.
const VERSION: u32 = 1;

const FLAG_COMPLETE: u8 = 1;
const FLAG_DIFF_ID: u8 = 2;
pub(super) const FLAG_SPANS: u8 = 4;

/// Longest header: this many bytes from the start of a file are enough for [`read_header`].
pub(crate) const HEADER_BYTES: usize = 8 + 4 + 1 + 3 * 8 + 2 * (1 + 64);

/// The blob of a TOC, and how much of it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// The blob's digest, or another digest that identifies it.
    pub(crate) digest: Digest,
    /// The blob's size in bytes.
    pub(crate) size: u64,
    /// The digest of the unpacked layer, if it was verified.
    pub(crate) diff_id: Option<Digest>,
    /// Unpacked bytes that are covered; the whole layer if `complete`, 0 if the content is unknown.
    pub(crate) unpacked: u64,
    /// Whether it has all entries.
    pub(crate) complete: bool,
    /// The number of entries, without replaced ones.
    pub(crate) entries: u64,
}

impl Header {
    /// The header of a TOC.
    pub(crate) fn new(digest: Digest, size: u64, diff_id: Option<Digest>, toc: &LayerToc) -> Self {
        let end = end(toc).unwrap_or_default();
        Self {
            digest,
            size,
            diff_id,
            unpacked: end.uncompressed.0,
            complete: toc.entries.is_complete(),
            entries: toc.entries.entry_count(),
        }
    }

    /// Checks that this is the header of `toc`; returns why not.
    pub(super) fn check(&self, toc: &LayerToc) -> Result<(), &'static str> {
        let end = end(toc);
        let whole = end.is_none_or(|end| end.compressed.0 == self.size);
        if self.complete != toc.entries.is_complete() || self.complete && !whole {
            return Err("a TOC that is more or less complete than its header");
        }
        if self.entries != toc.entries.entry_count() {
            return Err("more or fewer entries than the header says");
        }
        let unpacked = end.unwrap_or_default().uncompressed.0;
        if self.unpacked != unpacked || end.is_some_and(|end| end.compressed.0 > self.size) {
            return Err("more or fewer bytes than the header says");
        }
        if let ContentMap::Spans(spans) = &toc.content {
            if self.unpacked > spans.encoding.max_unpacked(spans.end.compressed.0) {
                return Err("more unpacked bytes than the blob can have");
            }
            // A partial TOC may list content that was not read.
            if spans.resume.is_none() && toc.entries.content_end() > spans.end.uncompressed {
                return Err("content beyond the end of the layer");
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, has_spans: bool) -> Vec<u8> {
        let flags =
            [(FLAG_COMPLETE, self.complete), (FLAG_DIFF_ID, self.diff_id.is_some()), (FLAG_SPANS, has_spans)];
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.push(flags.iter().filter(|(_, is_set)| *is_set).fold(0, |flags, (flag, _)| flags | flag));
        for number in [self.size, self.unpacked, self.entries] {
            bytes.extend(number.to_le_bytes());
        }
        for digest in [Some(&self.digest), self.diff_id.as_ref()].into_iter().flatten() {
            bytes.push(match digest.algorithm() {
                Algorithm::Sha256 => 0,
                Algorithm::Sha512 => 1,
            });
            let (pairs, _) = digest.hex().as_bytes().as_chunks::<2>();
            bytes.extend(pairs.iter().map(|[high, low]| nibble(*high) << 4 | nibble(*low)));
        }
        bytes
    }
}

/// Reads the header of a stored TOC without verifying the checksum: good enough to identify it, but not to use it.
///
/// # Errors
///
/// If there is no header, or it has another version.
pub(crate) fn read_header(bytes: &[u8]) -> Result<Header, Error> {
    parse(bytes).map(|(header, _)| header)
}

/// Length of the header in bytes.
pub(super) fn length(bytes: &[u8]) -> Result<usize, Error> {
    parse(bytes).map(|(_, rest)| bytes.len() - rest.len())
}

/// The flags of a valid header.
pub(super) fn flags(bytes: &[u8]) -> u8 {
    bytes.get(MAGIC.len() + size_of_val(&VERSION)).copied().unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Result<(Header, &[u8]), Error> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::Magic)?;
    let (version, rest) = rest.split_first_chunk().ok_or(Error::Magic)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let corrupt =
        |rest: &[u8], what| Error::Corrupt { at: (bytes.len() - rest.len()) as u64, section: "header", what };
    let Some((flags, mut rest)) = rest.split_first() else { return Err(corrupt(rest, "a missing byte")) };
    if flags & !(FLAG_COMPLETE | FLAG_DIFF_ID | FLAG_SPANS) != 0 {
        return Err(corrupt(rest, "unknown flags"));
    }
    let mut numbers = [0; 3];
    for number in &mut numbers {
        let Some((bytes, after)) = rest.split_first_chunk() else {
            return Err(corrupt(rest, "a missing number"));
        };
        (*number, rest) = (u64::from_le_bytes(*bytes), after);
    }
    let [size, unpacked, entries] = numbers;
    let mut digest = || {
        let (digest, after) = parse_digest(rest).ok_or_else(|| corrupt(rest, "a broken digest"))?;
        rest = after;
        Ok::<_, Error>(digest)
    };
    let header = Header {
        digest: digest()?,
        size,
        diff_id: (flags & FLAG_DIFF_ID != 0).then(&mut digest).transpose()?,
        unpacked,
        complete: flags & FLAG_COMPLETE != 0,
        entries,
    };
    Ok((header, rest))
}

fn parse_digest(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    let (algorithm, rest) = bytes.split_first()?;
    let (name, length) = match algorithm {
        0 => (Algorithm::Sha256, 32),
        1 => (Algorithm::Sha512, 64),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    Some((format!("{}:{hex}", name.as_str()).parse().ok()?, rest))
}

/// The value of a lower-case hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit.wrapping_sub(b'a') + 10 }
}

/// How far the blob was read.
fn end(toc: &LayerToc) -> Option<Position> {
    match &toc.content {
        ContentMap::Spans(spans) => Some(spans.end),
        ContentMap::Chunks(_) | ContentMap::Nothing | ContentMap::Ztoc(_) => None,
    }
}
