//! Builds a TOC from the publisher's statements, and rejects contradictions.
//!
//! The end of a piece of content is often not stated: a member or frame ends where the next one with content starts, the
//! last one where the TOC starts. Invariants of the result: no byte of unpacked content belongs to two files, chunks are
//! in order and add up to their file, and all content is before the TOC.

use std::collections::HashMap;

use super::{Error, Fault};
use crate::{
    decompress::Encoding,
    limits,
    oci::digest::Digest,
    offset::{Compressed, Uncompressed},
    tar::{
        entry::{Entry, EntryKind},
        normalise,
        whiteout::{self, Meaning},
    },
    toc::{
        ContentMap, LayerToc,
        chunks::{Chunk, Chunks},
        entries::{EntryTree, Hardlink},
    },
};

/// The character that JSON encoders write for bytes that are not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// What an entry states about a piece of content.
pub(super) struct StatedContent {
    /// Start of its first member or frame.
    pub(super) start: Compressed,
    /// End of its last member or frame, if stated.
    pub(super) end: Option<Compressed>,
    /// Unpacked bytes before it.
    pub(super) skip: u64,
    /// Its offset in the file.
    pub(super) offset: u64,
    /// Its length in bytes; 0 means to the end of the file.
    pub(super) size: u64,
    /// Its digest.
    pub(super) digest: Option<Digest>,
    /// Whether it is zeros that need not be read from the blob.
    pub(super) zeros: bool,
}

/// Builds one TOC.
pub(super) struct TocBuilder {
    tree: EntryTree,
    pieces: Vec<ContentPiece>,
    /// The number of the next entry.
    next: u64,
    open: Option<OpenFile>,
    unames: HashMap<u64, Vec<u8>>,
    gnames: HashMap<u64, Vec<u8>>,
}

/// A piece of content whose end may not be known yet.
struct ContentPiece {
    number: u64,
    /// Whether the file is in the tree.
    kept: bool,
    chunk: Chunk,
    start: Compressed,
    end: Option<Compressed>,
    zeros: bool,
}

/// The file that chunks belong to.
struct OpenFile {
    path: Vec<u8>,
    kept: bool,
    size: u64,
    covered: u64,
    digest: Option<Digest>,
    /// End of the whole content, if stated.
    end: Option<Compressed>,
    pieces: usize,
}

impl TocBuilder {
    pub(super) fn new() -> Self {
        Self {
            tree: EntryTree::limited(limits::PUBLISHED_ENTRIES_BYTES),
            pieces: Vec::new(),
            next: 0,
            open: None,
            unames: HashMap::new(),
            gnames: HashMap::new(),
        }
    }

    /// Adds an entry with its paths as stated. For a file, `content` is the first piece and `digest` that of the whole file.
    pub(super) fn entry(
        &mut self,
        mut entry: Entry,
        content: StatedContent,
        digest: Option<Digest>,
    ) -> Result<(), Error> {
        self.close()?;
        let number = self.next;
        self.next += 1;
        let fault = |fault| Error::Entry { number, fault };
        if [&entry.path, &entry.link].into_iter().any(|text| is_ambiguous(text)) {
            return Err(fault(Fault::Name));
        }
        check_sizes(&entry).map_err(fault)?;
        // A name is stated only where its owner occurs first.
        inherit(&mut self.unames, entry.uid, &mut entry.uname);
        inherit(&mut self.gnames, entry.gid, &mut entry.gname);
        (entry.header_offset, entry.data_offset) = (Uncompressed(number), Uncompressed(number));

        let file = (entry.kind == EntryKind::File).then(|| (normalise(&entry.path), entry.size));
        let kind = add_entry(&mut self.tree, entry).map_err(fault)?;
        if let Some((path, size)) = file {
            let kept = kind == Some(EntryKind::File);
            self.open = Some(OpenFile { path, kept, size, covered: 0, digest, end: content.end, pieces: 0 });
            if size > 0 {
                self.piece(StatedContent { end: None, ..content })?;
            }
        }
        Ok(())
    }

    /// Adds another piece of the last file; `path` is as stated.
    pub(super) fn chunk(&mut self, path: &[u8], content: StatedContent) -> Result<(), Error> {
        let belongs = |open: &OpenFile| path.is_empty() || normalise(path) == open.path;
        if !self.open.as_ref().is_some_and(belongs) {
            return Err(Error::Entry { number: self.next, fault: Fault::ChunkWithoutFile });
        }
        self.piece(content)
    }

    /// The whole TOC. The blob's content ends at `end`. `own` is the TOC itself, if it is a file of the layer.
    pub(super) fn finish(
        mut self,
        encoding: Encoding,
        end: Compressed,
        own: Option<(Entry, Chunk)>,
    ) -> Result<LayerToc, Error> {
        self.close()?;
        self.locate(encoding, end)?;
        self.check_overlaps()?;
        let own = own.map(|(entry, chunk)| self.own(entry, chunk)).transpose()?;
        let mut of: HashMap<Uncompressed, Vec<Chunk>> = HashMap::new();
        for piece in self.pieces {
            if piece.kept {
                of.entry(Uncompressed(piece.number)).or_default().push(piece.chunk);
            }
        }
        of.extend(own);
        self.tree.complete();
        Ok(LayerToc { entries: self.tree, content: ContentMap::Chunks(Chunks { encoding, of }) })
    }

    /// Adds the TOC itself as a file, which it cannot list.
    fn own(&mut self, mut entry: Entry, chunk: Chunk) -> Result<(Uncompressed, Vec<Chunk>), Error> {
        let number = self.next;
        (entry.header_offset, entry.data_offset) = (Uncompressed(number), Uncompressed(number));
        add_entry(&mut self.tree, entry).map_err(|fault| Error::Entry { number, fault })?;
        Ok((Uncompressed(number), vec![chunk]))
    }

    fn piece(&mut self, stated: StatedContent) -> Result<(), Error> {
        let number = self.next.saturating_sub(1);
        let fault = |fault| Err(Error::Entry { number, fault });
        let Some(open) = &mut self.open else { return fault(Fault::ChunkWithoutFile) };
        let left = open.size - open.covered;
        let size = if stated.size == 0 { left } else { stated.size };
        if stated.offset != open.covered || size == 0 || size > left {
            return fault(Fault::Chunks);
        }
        if stated.skip.checked_add(size).is_none() {
            return fault(Fault::ContentOutside);
        }
        if self.pieces.len() >= limits::TOC_CHUNKS {
            return fault(Fault::TooManyChunks);
        }
        open.covered += size;
        open.pieces += 1;
        let chunk = Chunk {
            compressed: Compressed(0)..Compressed(0),
            skip: if stated.zeros { 0 } else { stated.skip },
            size,
            digest: stated.digest,
        };
        let StatedContent { start, end, zeros, .. } = stated;
        self.pieces.push(ContentPiece { number, kept: open.kept, chunk, start, end, zeros });
        Ok(())
    }

    /// Completes the last file.
    fn close(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let fault = |fault| Err(Error::Entry { number: self.next.saturating_sub(1), fault });
        if open.covered != open.size {
            return fault(Fault::Chunks);
        }
        if open.pieces == 0 {
            return Ok(());
        }
        let Some(last) = self.pieces.last_mut() else { return Ok(()) };
        last.end = last.end.or(open.end);
        if open.pieces == 1 {
            match (&last.chunk.digest, &open.digest) {
                (Some(one), Some(other)) if one != other => return fault(Fault::Digests),
                (None, Some(digest)) => last.chunk.digest = Some(digest.clone()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Finds the end of each piece.
    fn locate(&mut self, encoding: Encoding, end: Compressed) -> Result<(), Error> {
        let mut starts: Vec<Compressed> = self.pieces.iter().map(|piece| piece.start).collect();
        starts.sort_unstable();
        starts.dedup();
        for piece in &mut self.pieces {
            let outside = Error::Entry { number: piece.number, fault: Fault::ContentOutside };
            let next = starts.partition_point(|start| *start <= piece.start);
            let next = starts.get(next).copied().unwrap_or(end).min(end);
            let stated = piece.end.unwrap_or(next);
            // The first bytes of a blob unpack to a header, so content there starts after it.
            let is_header = piece.start == Compressed(0) && piece.chunk.skip == 0 && !piece.zeros;
            if is_header || piece.start >= next || stated <= piece.start || stated > end {
                return Err(outside);
            }
            if stated > next {
                return Err(Error::Entry { number: piece.number, fault: Fault::Overlap });
            }
            // The members or frames of zeros are in the blob too.
            let most = encoding.max_unpacked(stated.0 - piece.start.0);
            if piece.chunk.skip.saturating_add(piece.chunk.size) > most {
                return Err(outside);
            }
            piece.chunk.compressed = if piece.zeros { piece.start..piece.start } else { piece.start..stated };
        }
        Ok(())
    }

    /// Refuses two pieces that claim the same unpacked bytes.
    fn check_overlaps(&self) -> Result<(), Error> {
        let mut order: Vec<&ContentPiece> = self.pieces.iter().filter(|piece| !piece.zeros).collect();
        order.sort_unstable_by_key(|piece| (piece.start, piece.chunk.skip));
        for (piece, next) in order.iter().zip(order.iter().skip(1)) {
            if piece.start == next.start && piece.chunk.skip + piece.chunk.size > next.chunk.skip {
                return Err(Error::Entry { number: next.number, fault: Fault::Overlap });
            }
        }
        Ok(())
    }
}

/// Adds an entry with its paths as stated to a tree. Returns its kind, or nothing if it is not part of the layer.
pub(crate) fn add_entry(tree: &mut EntryTree, mut entry: Entry) -> Result<Option<EntryKind>, Fault> {
    check_sizes(&entry)?;
    let is_hardlink = entry.kind == EntryKind::Hardlink;
    let is_name = |text: &[u8]| text.split(|byte| *byte == b'/').all(|component| component != b"..");
    // In an archive a null byte ends a text.
    let is_text = |text: &[u8]| !text.contains(&0);
    if !is_name(&entry.path) || is_hardlink && !is_name(&entry.link) {
        return Err(Fault::Name);
    }
    if !is_text(&entry.path) || !is_text(&entry.link) {
        return Err(Fault::Name);
    }
    entry.path = normalise(&entry.path);
    if is_hardlink {
        entry.link = normalise(&entry.link);
    }
    // As in archives, only files have content, whatever size is stated.
    if entry.kind != EntryKind::File {
        entry.size = 0;
    }
    if whiteout::interpret(&mut entry) == Meaning::Metadata {
        return Ok(None);
    }
    entry.stored_size = entry.size;
    let inserted = tree.insert(&entry).map_err(Fault::Tree)?;
    if inserted.replaced {
        return Err(Fault::Duplicate);
    }
    match tree.hardlink(inserted.record) {
        Some(Hardlink::Unresolved(_)) => Err(Fault::Hardlink),
        Some(Hardlink::Record(_)) | None => Ok(Some(entry.kind)),
    }
}

/// Holds owners' names and extended attributes to the limits of Linux, as in archives.
fn check_sizes(entry: &Entry) -> Result<(), Fault> {
    if entry.uname.len().max(entry.gname.len()) > limits::OWNER_NAME_BYTES {
        return Err(Fault::OwnerName);
    }
    let is_long = |value: &Vec<u8>| value.len() > limits::XATTR_BYTES;
    if entry.xattrs.list_bytes() > limits::XATTR_BYTES || entry.xattrs.values().any(is_long) {
        return Err(Fault::Xattr);
    }
    Ok(())
}

/// Whether a text from JSON is ambiguous: see [`super`].
pub(super) fn is_ambiguous(text: &[u8]) -> bool {
    text.windows(REPLACEMENT.len()).any(|part| part == REPLACEMENT)
}

fn inherit(names: &mut HashMap<u64, Vec<u8>>, id: u64, name: &mut Vec<u8>) {
    if name.is_empty() {
        name.clone_from(names.entry(id).or_default());
    } else if names.get(&id) != Some(name) {
        names.insert(id, name.clone());
    }
}
