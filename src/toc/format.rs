//! The stored form of a TOC.
//!
//! ```text
//! header   │ magic, version, the blob, how much of it is known            fixed, not compressed
//! entries  │ zstd: see `entries/stored.rs`
//! spans    │ zstd: see `format/spans.rs`; empty if the content is unknown
//! leaves   │ SHA-256 of every leaf, 32 bytes each
//! windows  │ encoded windows, packed one by one: only the needed one is unpacked
//! footer   │ lengths of entries, spans and windows; SHA-256 of everything before it
//! ```
//!
//! It is written in one pass. A reader verifies the checksum first and still trusts nothing, because a shared TOC comes
//! from another machine. Numbers outside zstd are little-endian.

use std::io;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zstd::stream::{read::Decoder, write::Encoder};

use self::{columns::Section, header::FLAG_SPANS};
use super::{ContentMap, LayerToc, entries::EntryTree};

pub(in crate::toc) mod columns;
mod header;
mod spans;
#[cfg(test)]
mod tests;

pub(crate) use self::header::{HEADER_BYTES, Header, read_header};

/// Level 9 makes a whole TOC 1 % smaller, but delays the end of a pass.
const LEVEL: i32 = 3;

/// Window of zstd, as a power of two.
const WINDOW_LOG: u32 = 20;

/// Length of a SHA-256 in bytes.
const HASH: usize = 32;

/// Length of the footer in bytes.
const FOOTER: usize = 3 * size_of::<u64>() + HASH;

/// Why a stored TOC is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The checksum over the whole file does not match.
    #[error("the checksum of the stored TOC does not match")]
    Checksum,
    /// It is malformed or contradicts itself.
    #[error("{what} at byte {at} of the {section}")]
    Corrupt {
        /// Offset from the start of the section.
        at: u64,
        /// The section.
        section: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// It is not a stored TOC.
    #[error("not a stored TOC")]
    Magic,
    /// It has the format of another version of this program.
    #[error("a stored TOC of the unknown version {0}")]
    Version(u32),
}

/// Writes a TOC. TOCs of publishers (`ContentMap::Chunks`, `ContentMap::Ztoc`) are not stored, because they are cheap to
/// read again.
///
/// # Errors
///
/// Those of `out`; [`io::ErrorKind::InvalidInput`] for a TOC that could not be read again.
pub(crate) fn write(header: &Header, toc: &LayerToc, out: &mut impl io::Write) -> io::Result<()> {
    let spans = match &toc.content {
        ContentMap::Chunks(_) | ContentMap::Ztoc(_) => {
            return Err(invalid("a publisher's TOC is not stored"));
        }
        ContentMap::Nothing => None,
        ContentMap::Spans(spans) => Some(spans),
    };
    header.check(toc).map_err(invalid)?;
    let mut out = Hashing { out, hasher: Sha256::new(), written: 0 };
    io::Write::write_all(&mut out, &header.encode(spans.is_some()))?;
    let entries = compressed(&mut out, |section| toc.entries.store(section))?;
    let (mut list, mut windows) = (0, 0);
    if let Some(spans) = spans {
        list = compressed(&mut out, |section| spans::store(spans, section))?;
        io::Write::write_all(&mut out, spans.leaves.as_flattened())?;
        windows = spans::store_windows(spans, &mut out)?;
    }
    for length in [entries, list, windows] {
        io::Write::write_all(&mut out, &length.to_le_bytes())?;
    }
    let checksum: [u8; HASH] = out.hasher.finalize().into();
    out.out.write_all(&checksum)
}

/// Reads a TOC.
///
/// # Errors
///
/// If anything is wrong with it. It must be discarded then.
pub(crate) fn read(bytes: Bytes) -> Result<(Header, LayerToc), Error> {
    let header = read_header(&bytes)?;
    let (content, checksum) = bytes
        .len()
        .checked_sub(HASH)
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or(Error::Checksum)?;
    if *Sha256::digest(content) != *checksum {
        return Err(Error::Checksum);
    }
    let parts = Parts::new(&bytes)?;
    let mut section = section(&parts.entries, "stored entries")?;
    let entries = EntryTree::load(&mut section)?;
    section.end()?;
    let content = if header::flags(&bytes) & FLAG_SPANS != 0 {
        ContentMap::Spans(spans::load(&parts, &header)?)
    } else if bytes.len() == parts.header + parts.entries.len() + FOOTER {
        ContentMap::Nothing
    } else {
        return Err(parts.corrupt("excess bytes"));
    };
    let toc = LayerToc { entries, content };
    header.check(&toc).map_err(|what| Error::Corrupt { at: 0, section: "header", what })?;
    Ok((header, toc))
}

/// The sections of a stored TOC.
struct Parts {
    /// Length of the header.
    header: usize,
    entries: Bytes,
    spans: Bytes,
    leaves: Bytes,
    windows: Bytes,
}

impl Parts {
    fn new(bytes: &Bytes) -> Result<Self, Error> {
        let header = header::length(bytes)?;
        let at = bytes.len().saturating_sub(FOOTER);
        let broken = || Error::Corrupt { at: at as u64, section: "stored TOC", what: "invalid lengths" };
        let mut footer = bytes.get(at..).unwrap_or_default();
        let mut lengths = [0; 3];
        for length in &mut lengths {
            let (number, rest) = footer.split_first_chunk().ok_or_else(broken)?;
            *length = usize::try_from(u64::from_le_bytes(*number)).map_err(|_| broken())?;
            footer = rest;
        }
        let [entries, spans, windows] = lengths;
        let after = |start: usize, length: usize| start.checked_add(length).filter(|end| *end <= at);
        let entries_end = after(header, entries).ok_or_else(broken)?;
        let spans_end = after(entries_end, spans).ok_or_else(broken)?;
        let leaves_end = at.checked_sub(windows).filter(|end| *end >= spans_end).ok_or_else(broken)?;
        Ok(Self {
            header,
            entries: bytes.slice(header..entries_end),
            spans: bytes.slice(entries_end..spans_end),
            leaves: bytes.slice(spans_end..leaves_end),
            windows: bytes.slice(leaves_end..at),
        })
    }

    /// An error in the layout of the sections.
    fn corrupt(&self, what: &'static str) -> Error {
        let at = (self.header + self.entries.len() + self.spans.len()) as u64;
        Error::Corrupt { at, section: "stored TOC", what }
    }
}

fn compressed<W: io::Write>(
    out: &mut Hashing<W>,
    store: impl FnOnce(&mut Encoder<'_, &mut Hashing<W>>) -> io::Result<()>,
) -> io::Result<u64> {
    let before = out.written;
    let mut encoder = Encoder::new(&mut *out, LEVEL)?;
    encoder.window_log(WINDOW_LOG)?;
    store(&mut encoder)?;
    encoder.finish()?;
    Ok(out.written - before)
}

fn section<'a>(
    bytes: &'a [u8],
    name: &'static str,
) -> Result<Section<io::BufReader<Decoder<'static, &'a [u8]>>>, Error> {
    let broken = |_| Error::Corrupt { at: 0, section: name, what: "not a zstd frame" };
    let mut decoder = Decoder::with_buffer(bytes).map_err(broken)?;
    decoder.window_log_max(WINDOW_LOG).map_err(broken)?;
    Ok(Section::new(io::BufReader::new(decoder), name))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Hashes and counts the bytes that are written.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
    written: u64,
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Only the encoder flushes, between columns; the bytes need not arrive before the end.
        Ok(())
    }
}
