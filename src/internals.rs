//! Internals for the benches of this project, behind the feature `internals`. They are not a stable API and change without
//! notice.

mod fuzz;
mod spans;

use bytes::Bytes;

pub use self::{
    fuzz::{FUZZ_TARGETS, FuzzTarget},
    spans::{RecordedSpans, checkpoints, unpack},
};
pub use crate::registry::held::HeldToken;
use crate::{
    decompress::Encoding,
    error::{Error, Kind},
    oci::digest::Digest,
    offset::{Compressed, Position, Uncompressed},
    tar::{Decoder, Event, entry::Entry},
    toc::{
        ContentMap, LayerToc,
        entries::EntryTree,
        format::{self, Header},
        spans::{LEAF_BYTES, Span, Spans, Start, WindowStore as _},
        windows::MemoryWindows,
    },
};

/// Unpacked bytes between two checkpoints.
const SPACING: u64 = 1 << 20;

/// Unpacked bytes between two samples.
const PROGRESS: u64 = 32 << 10;

/// Ratio of the unpacked size to the blob size.
const RATIO: u64 = 3;

/// Length of an encoded window, in bytes: 0.6 % of the blob.
const WINDOW: usize = 2 << 10;

/// A layer's TOC.
///
/// ```
/// use layerslayer::{Entry, EntryKind, internals::Toc};
///
/// let made = Toc::of([Entry::new("etc/passwd", EntryKind::File)], 5 << 20)?;
/// let opened = Toc::open(made.stored()?.into()).expect("a valid TOC");
/// assert_eq!(opened.lookup(b"etc/passwd"), Some(0));
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Debug)]
pub struct Toc(LayerToc);

impl Toc {
    /// The TOC of a layer with these entries, and with checkpoints like a layer of `unpacked` bytes.
    ///
    /// # Errors
    ///
    /// If a limit is exceeded.
    ///
    /// ```
    /// # use layerslayer::internals::Toc;
    /// assert!(Toc::of([], 5 << 20).is_ok());
    /// ```
    pub fn of(entries: impl IntoIterator<Item = Entry>, unpacked: u64) -> Result<Self, Error> {
        let mut tree = EntryTree::new();
        for entry in entries {
            tree.insert(&entry)?;
        }
        tree.complete();
        Ok(Self(LayerToc { entries: tree, content: ContentMap::Spans(spans(unpacked)?) }))
    }

    /// The TOC as it is stored in a cache.
    ///
    /// # Errors
    ///
    /// If entries are beyond the end of the layer.
    ///
    /// ```
    /// # use layerslayer::internals::Toc;
    /// assert!(Toc::of([], 5 << 20)?.stored()?.len() > 5 << 10);
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    pub fn stored(&self) -> Result<Vec<u8>, Error> {
        let ContentMap::Spans(spans) = &self.0.content else { return Ok(Vec::new()) };
        let header = Header::new(Digest::sha256(b""), spans.end.compressed.0, None, &self.0);
        let mut stored = Vec::new();
        format::write(&header, &self.0, &mut stored).map_err(caused)?;
        Ok(stored)
    }

    /// Opens a stored TOC; `None` if it is invalid.
    ///
    /// ```
    /// # use layerslayer::internals::Toc;
    /// assert!(Toc::open(b"garbage".to_vec().into()).is_none());
    /// ```
    #[must_use]
    pub fn open(stored: Bytes) -> Option<Self> {
        format::read(stored).ok().map(|(_, toc)| Self(toc))
    }

    /// Offset of the header of the entry at a path in the unpacked layer.
    ///
    /// ```
    /// # use layerslayer::internals::Toc;
    /// assert_eq!(Toc::of([], 5 << 20)?.lookup(b"etc/passwd"), None);
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn lookup(&self, path: &[u8]) -> Option<u64> {
        let record = self.0.entries.lookup(path)?;
        Some(self.0.entries.header_offset(record).0)
    }

    /// The paths of all entries, in the order of the tar.
    ///
    /// ```
    /// # use layerslayer::internals::Toc;
    /// assert!(Toc::of([], 5 << 20)?.paths().is_empty());
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let entries = &self.0.entries;
        entries.in_tar_order().into_iter().map(|record| entries.path(record)).collect()
    }
}

/// Decodes a tar in pieces of `piece` bytes; returns its number of entries.
///
/// # Errors
///
/// If it is corrupt.
///
/// ```
/// assert_eq!(layerslayer::internals::tar_entries(&[0; 1024], 256 << 10)?, 0);
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub fn tar_entries(tar: &[u8], piece: usize) -> Result<usize, Error> {
    let mut decoder = Decoder::new();
    let mut entries = 0;
    for mut piece in tar.chunks(piece.max(1)) {
        while let Some(event) = decoder.decode(&mut piece)? {
            entries += usize::from(matches!(event, Event::Entry(_)));
        }
    }
    decoder.finish()?;
    Ok(entries)
}

fn spans(unpacked: u64) -> Result<Spans, Error> {
    let at = |uncompressed: u64| Position {
        compressed: Compressed(uncompressed / RATIO),
        uncompressed: Uncompressed(uncompressed),
    };
    let every = |step: u64| (1..unpacked / step).map(move |number| at(number * step + number % 1_000));
    let mut noise = 1_u32;
    let mut bytes = [0; WINDOW];
    let mut windows = MemoryWindows::default();
    let mut list = vec![Span { at: at(0), start: Start::Member }];
    for at in every(SPACING) {
        for byte in &mut bytes {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (noise >> 24) as u8;
        }
        let window = windows.push(&bytes).map_err(caused)?;
        list.push(Span { at, start: Start::Deflate { bits: 3, value: 1, window } });
    }
    let end = at(unpacked);
    let ends = list.iter().skip(1).map(|span| span.at.compressed.0).chain([end.compressed.0]);
    let lengths = list.iter().zip(ends).map(|(span, end)| end - span.at.compressed.0);
    let leaves: u64 = lengths.map(|length| length.div_ceil(LEAF_BYTES)).sum();
    Ok(Spans {
        encoding: Encoding::Gzip,
        end,
        leaves: (0..leaves).map(|leaf| [leaf as u8; 32]).collect(),
        progress: every(PROGRESS).collect(),
        windows: Box::new(windows),
        resume: None,
        spans: list,
    })
}

fn caused(error: std::io::Error) -> Error {
    Error::caused(Kind::Other, "storing a TOC", error)
}
