//! SOCI: an index of an image with a zTOC for each large layer, which has its entries and the checkpoints for decoding
//! (soci-snapshotter, docs/index.md, docs/glossary.md; ztoc/fbs/ztoc.fbs).
//!
//! ```text
//! image manifest ─ annotation (v2) or referrers (v1) ─▶ index ─▶ zTOC of a layer: entries, checkpoints, digests of spans
//! ```
//! Deviation: a zTOC is rejected if an entry has attributes or holes in a form that the producer does not resolve.

use self::flatbuffer::{Buffer, Malformed, Table};
use crate::{
    limits,
    oci::{
        digest::Digest,
        manifest::{Descriptor, Manifest, ManifestError},
    },
    offset::{Compressed, Position, Uncompressed},
    tar::entry::{Entry, EntryKind},
    toc::{
        ContentMap, LayerToc,
        embedded::{self, Fault},
        entries::EntryTree,
    },
};

mod flatbuffer;
mod spans;
#[cfg(test)]
mod tests;

pub(crate) use self::spans::Ztoc;

/// The media type of an index of version 1, which refers to its image.
pub(crate) const INDEX_V1: &str = "application/vnd.amazon.soci.index.v1+json";

/// The media type of an index of version 2, which its image's manifest names.
pub(crate) const INDEX_V2: &str = "application/vnd.amazon.soci.index.v2+json";

/// The manifest annotation with the digest of the index.
pub(crate) const INDEX_ANNOTATION: &str = "com.amazon.soci.index-digest";

const LAYER_ANNOTATION: &str = "com.amazon.soci.image-layer-digest";

/// The media type of a zTOC.
const ZTOC_TYPE: &str = "application/octet-stream";

/// The only known version.
const ZTOC_VERSION: &[u8] = b"0.9";

/// Prefix of PAX records with extended attributes.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// Size of a tar block in bytes.
const BLOCK: u64 = 512;

/// A SOCI index.
#[derive(Debug)]
pub(crate) struct Index {
    /// Its version.
    pub(crate) version: IndexVersion,
    /// The manifest that it refers to (version 1 only).
    pub(crate) subject: Option<Digest>,
    /// Layers with a zTOC, and the zTOC.
    pub(crate) layers: Vec<(Digest, Descriptor)>,
}

/// How an index belongs to its image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IndexVersion {
    /// It refers to the image: anyone who can push to the repository can make one.
    V1,
    /// The image's manifest names it by digest.
    V2,
}

/// Why an index or zTOC is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It describes a blob of another size.
    #[error("the zTOC describes a blob of {found} bytes, not of {expected}")]
    BlobSize {
        /// The blob's size in bytes.
        expected: u64,
        /// The size in the zTOC.
        found: i64,
    },
    /// The number of checkpoints or digests is wrong.
    #[error("the zTOC's checkpoints and digests do not match its number of spans")]
    Checkpoints,
    /// An unknown compression.
    #[error("the zTOC has an unknown compression ({0})")]
    Compression(u8),
    /// One of its entries is invalid.
    #[error("entry {number} of the zTOC: {fault}")]
    Entry {
        /// Its number, from 0.
        number: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// It is not a valid flatbuffer of its schema.
    #[error("malformed zTOC at byte {at}")]
    Flatbuffer {
        /// Offset of the reference to the malformed part.
        at: u64,
    },
    /// It is not a manifest.
    #[error("malformed SOCI index: {0}")]
    Index(ManifestError),
    /// It is another kind of manifest, or lists a layer twice or without digest.
    #[error("the manifest is not a SOCI index")]
    NotIndex,
    /// An invalid span: out of order, outside the blob, empty or too long.
    #[error("span {number} of the zTOC is invalid")]
    Span {
        /// Its number, from 0.
        number: u64,
    },
    /// The blob does not match the zTOC.
    #[error("span {number} of the layer does not match its digest in the zTOC")]
    SpanDigest {
        /// Its number, from 0.
        number: u64,
    },
    /// It is larger than [`limits::ZTOC_BYTES`].
    #[error("the zTOC has more than {max} bytes", max = limits::ZTOC_BYTES)]
    TooLong,
    /// No blob of this size unpacks to that many bytes.
    #[error("the zTOC claims an impossible unpacked size of {unpacked} bytes")]
    UnpackedSize {
        /// The size in the zTOC.
        unpacked: u64,
    },
    /// It has an unknown version.
    #[error("the zTOC has an unknown version")]
    Version,
}

impl From<Malformed> for Error {
    fn from(Malformed(at): Malformed) -> Self {
        Self::Flatbuffer { at: at as u64 }
    }
}

/// Parses an index.
pub(crate) fn index(bytes: &[u8]) -> Result<Index, Error> {
    let Manifest::Image(manifest) = Manifest::parse(bytes, None).map_err(Error::Index)? else {
        return Err(Error::NotIndex);
    };
    let version = match manifest.config().media_type().as_str() {
        INDEX_V1 => IndexVersion::V1,
        INDEX_V2 => IndexVersion::V2,
        _ => return Err(Error::NotIndex),
    };
    let mut layers: Vec<(Digest, Descriptor)> = Vec::new();
    // Descriptors of other types are lists of files to prefetch.
    for ztoc in manifest.layers().iter().filter(|layer| layer.media_type().as_str() == ZTOC_TYPE) {
        let layer = ztoc.annotations().get(LAYER_ANNOTATION).and_then(|digest| digest.parse().ok());
        let layer = layer.ok_or(Error::NotIndex)?;
        if layers.iter().any(|(other, _)| *other == layer) {
            return Err(Error::NotIndex);
        }
        layers.push((layer, ztoc.clone()));
    }
    let subject = manifest.subject().map(|subject| subject.digest().clone());
    Ok(Index { version, subject, layers })
}

/// Parses a zTOC of a blob of this size. Its bytes must be verified already.
pub(crate) fn ztoc(bytes: &[u8], blob_size: u64) -> Result<LayerToc, Error> {
    if bytes.len() as u64 > limits::ZTOC_BYTES {
        return Err(Error::TooLong);
    }
    let buffer = Buffer::new(bytes);
    let root = buffer.root()?;
    if root.text(field::ztoc::VERSION)? != ZTOC_VERSION {
        return Err(Error::Version);
    }
    let found = root.i64(field::ztoc::COMPRESSED_SIZE)?;
    if u64::try_from(found) != Ok(blob_size) {
        return Err(Error::BlobSize { expected: blob_size, found });
    }
    let unpacked =
        u64::try_from(root.i64(field::ztoc::UNCOMPRESSED_SIZE)?).map_err(|_| Error::Checkpoints)?;
    let end = Position { compressed: Compressed(blob_size), uncompressed: Uncompressed(unpacked) };
    let spans = spans(&root.table(field::ztoc::COMPRESSION)?, end)?;
    if unpacked > spans.encoding().max_unpacked(blob_size) {
        return Err(Error::UnpackedSize { unpacked });
    }
    let entries = entries(&root.table(field::ztoc::TOC)?, unpacked)?;
    Ok(LayerToc { entries, content: ContentMap::Ztoc(spans) })
}

/// The numbers of fields in the schema.
mod field {
    pub(super) mod ztoc {
        pub(crate) const VERSION: u16 = 0;
        pub(crate) const COMPRESSED_SIZE: u16 = 2;
        pub(crate) const UNCOMPRESSED_SIZE: u16 = 3;
        pub(crate) const TOC: u16 = 4;
        pub(crate) const COMPRESSION: u16 = 5;
    }
    pub(super) mod compression {
        pub(crate) const ALGORITHM: u16 = 0;
        pub(crate) const MAX_SPAN: u16 = 1;
        pub(crate) const DIGESTS: u16 = 2;
        pub(crate) const CHECKPOINTS: u16 = 3;
    }
    pub(super) mod plain {
        pub(crate) const SPAN_SIZE: u16 = 1;
        pub(crate) const SIZE: u16 = 2;
    }
    pub(super) mod toc {
        pub(crate) const ENTRIES: u16 = 0;
    }
    pub(super) mod entry {
        pub(crate) const NAME: u16 = 0;
        pub(crate) const KIND: u16 = 1;
        pub(crate) const OFFSET: u16 = 2;
        pub(crate) const SIZE: u16 = 3;
        pub(crate) const LINK: u16 = 4;
        pub(crate) const MODE: u16 = 5;
        pub(crate) const UID: u16 = 6;
        pub(crate) const GID: u16 = 7;
        pub(crate) const UNAME: u16 = 8;
        pub(crate) const GNAME: u16 = 9;
        pub(crate) const TIME: u16 = 10;
        pub(crate) const DEVICE_MAJOR: u16 = 11;
        pub(crate) const DEVICE_MINOR: u16 = 12;
        pub(crate) const RECORDS: u16 = 13;
    }
    pub(super) mod record {
        pub(crate) const KEY: u16 = 0;
        pub(crate) const VALUE: u16 = 1;
    }
}

fn spans(compression: &Table<'_, '_>, end: Position) -> Result<Ztoc, Error> {
    const GZIP: u8 = 1;
    const PLAIN: u8 = 2;
    let digests = compression.texts(field::compression::DIGESTS)?;
    let last = usize::try_from(compression.i32(field::compression::MAX_SPAN)?);
    if last.ok().and_then(|last| last.checked_add(1)) != Some(digests.len()) {
        return Err(Error::Checkpoints);
    }
    let mut parsed = Vec::with_capacity(digests.len());
    for digest in digests {
        let digest = str::from_utf8(digest?).ok().and_then(|digest| digest.parse().ok());
        parsed.push(digest.ok_or(Error::Span { number: parsed.len() as u64 })?);
    }
    let checkpoints = compression.text(field::compression::CHECKPOINTS)?;
    match compression.u8(field::compression::ALGORITHM, GZIP)? {
        GZIP => Ztoc::gzip(checkpoints, parsed, end),
        PLAIN => {
            let buffer = Buffer::new(checkpoints);
            let plain = buffer.root()?;
            if u64::try_from(plain.i64(field::plain::SIZE)?) != Ok(end.compressed.0) {
                return Err(Error::Checkpoints);
            }
            let size = u64::try_from(plain.i64(field::plain::SPAN_SIZE)?).map_err(|_| Error::Checkpoints)?;
            Ztoc::plain(size, parsed, end)
        }
        other => Err(Error::Compression(other)),
    }
}

fn entries(toc: &Table<'_, '_>, unpacked: u64) -> Result<EntryTree, Error> {
    let mut tree = EntryTree::limited(limits::PUBLISHED_ENTRIES_BYTES);
    let mut header = 0;
    for (stated, number) in toc.tables(field::toc::ENTRIES)?.zip(0..) {
        let stated = stated?;
        let of_entry = |fault| Error::Entry { number, fault };
        let mut entry = entry(&stated)?.map_err(of_entry)?;
        // An entry starts where the one before it ends, and has at least one header before its content.
        let data = u64::try_from(stated.i64(field::entry::OFFSET)?).ok().filter(|data| data % BLOCK == 0);
        let data = data.filter(|data| data.checked_sub(header).is_some_and(|bytes| bytes >= BLOCK));
        let data = data.ok_or(of_entry(Fault::Overlap))?;
        let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
        let end =
            data.checked_add(size).filter(|end| *end <= unpacked).ok_or(of_entry(Fault::ContentOutside))?;
        (entry.header_offset, entry.data_offset) = (Uncompressed(header), Uncompressed(data));
        header = end.next_multiple_of(BLOCK);
        embedded::add_entry(&mut tree, entry).map_err(of_entry)?;
    }
    tree.complete();
    Ok(tree)
}

/// One entry without its offsets, with paths as stated.
fn entry(stated: &Table<'_, '_>) -> Result<Result<Entry, Fault>, Malformed> {
    let kind = match stated.text(field::entry::KIND)? {
        b"block" => EntryKind::Block,
        b"char" => EntryKind::Char,
        b"dir" => EntryKind::Directory,
        b"fifo" => EntryKind::Fifo,
        b"hardlink" => EntryKind::Hardlink,
        b"reg" => EntryKind::File,
        b"symlink" => EntryKind::Symlink,
        _ => return Ok(Err(Fault::Kind)),
    };
    let mut entry = Entry::new(stated.text(field::entry::NAME)?, kind);
    let Ok(size) = u64::try_from(stated.i64(field::entry::SIZE)?) else {
        return Ok(Err(Fault::ContentOutside));
    };
    entry.size = size;
    entry.mode = (stated.i64(field::entry::MODE)? & 0o7777) as u32;
    entry.uid = stated.u32(field::entry::UID)?.into();
    entry.gid = stated.u32(field::entry::GID)?.into();
    entry.uname = stated.text(field::entry::UNAME)?.to_vec();
    entry.gname = stated.text(field::entry::GNAME)?.to_vec();
    let time = str::from_utf8(stated.text(field::entry::TIME)?).map_err(|_| Fault::Time);
    match time.and_then(embedded::time) {
        Ok(time) => entry.mtime = time,
        Err(fault) => return Ok(Err(fault)),
    }
    if matches!(kind, EntryKind::Hardlink | EntryKind::Symlink) {
        entry.link = stated.text(field::entry::LINK)?.to_vec();
    }
    if matches!(kind, EntryKind::Block | EntryKind::Char) {
        let major = u32::try_from(stated.i64(field::entry::DEVICE_MAJOR)?);
        let minor = u32::try_from(stated.i64(field::entry::DEVICE_MINOR)?);
        let (Ok(major), Ok(minor)) = (major, minor) else { return Ok(Err(Fault::Device)) };
        entry.device = Some((major, minor));
    }
    for record in stated.tables(field::entry::RECORDS)? {
        let record = record?;
        let (key, value) = (record.text(field::record::KEY)?, record.text(field::record::VALUE)?);
        if let Some(name) = key.strip_prefix(ATTRIBUTE) {
            entry.xattrs.insert(name.to_vec(), value.to_vec());
        } else if key.starts_with(b"LIBARCHIVE.xattr.") {
            return Ok(Err(Fault::Xattr));
        } else if key.starts_with(b"GNU.sparse.") {
            return Ok(Err(Fault::Sparse));
        }
    }
    Ok(Ok(entry))
}
