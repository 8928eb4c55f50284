//! Puts a table together from what its publisher states, and refuses what cannot be true.
//!
//! Where a piece of content ends is often not stated: a member or frame of compressed data ends where the next one that holds
//! content begins, the last one where the table itself begins. Invariants of what comes out: no byte of unpacked content belongs
//! to two files, chunks are in order and add up to their file, everything lies before the table.

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

/// A character that JSON encoders write for bytes that are not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// What an entry states of a piece of content.
pub(super) struct Stated {
    /// Where its first member or frame begins.
    pub(super) start: Compressed,
    /// Where its last one ends, if stated.
    pub(super) end: Option<Compressed>,
    /// Unpacked bytes before it.
    pub(super) skip: u64,
    /// Where it belongs in the file.
    pub(super) offset: u64,
    /// Its length in bytes; 0 means to the end of the file.
    pub(super) size: u64,
    /// What it hashes to.
    pub(super) digest: Option<Digest>,
    /// Whether it is zeros, for which the blob need not be read.
    pub(super) zeros: bool,
}

/// A table being put together.
pub(super) struct Builder {
    table: EntryTree,
    pieces: Vec<Piece>,
    /// The number of the next entry.
    next: u64,
    open: Option<Open>,
    unames: HashMap<u64, Vec<u8>>,
    gnames: HashMap<u64, Vec<u8>>,
}

/// A piece of content whose end may not be known yet.
struct Piece {
    number: u64,
    /// Whether the file is in the table.
    kept: bool,
    chunk: Chunk,
    start: Compressed,
    end: Option<Compressed>,
    zeros: bool,
}

/// The file that chunks belong to.
struct Open {
    path: Vec<u8>,
    kept: bool,
    size: u64,
    covered: u64,
    digest: Option<Digest>,
    /// Where the whole content ends, if stated.
    end: Option<Compressed>,
    pieces: usize,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            table: EntryTree::new(),
            pieces: Vec::new(),
            next: 0,
            open: None,
            unames: HashMap::new(),
            gnames: HashMap::new(),
        }
    }

    /// Adds an entry whose paths are as stated. Of a file, `content` is its first piece and `digest` that of all of it.
    pub(super) fn entry(
        &mut self,
        mut entry: Entry,
        content: Stated,
        digest: Option<Digest>,
    ) -> Result<(), Error> {
        self.close()?;
        let number = self.next;
        self.next += 1;
        let fault = |fault| Error::Entry { number, fault };
        if [&entry.path, &entry.link].into_iter().any(|text| is_guessed(text)) {
            return Err(fault(Fault::Name));
        }
        // A name stands only where its owner occurs first.
        inherit(&mut self.unames, entry.uid, &mut entry.uname);
        inherit(&mut self.gnames, entry.gid, &mut entry.gname);
        (entry.header_offset, entry.data_offset) = (Uncompressed(number), Uncompressed(number));

        let file = (entry.kind == EntryKind::File).then(|| (normalise(&entry.path), entry.size));
        let kind = admit(&mut self.table, entry).map_err(fault)?;
        if let Some((path, size)) = file {
            let kept = kind == Some(EntryKind::File);
            self.open = Some(Open { path, kept, size, covered: 0, digest, end: content.end, pieces: 0 });
            if size > 0 {
                self.piece(Stated { end: None, ..content })?;
            }
        }
        Ok(())
    }

    /// Adds a further piece of the file before it; `path` is as stated.
    pub(super) fn chunk(&mut self, path: &[u8], content: Stated) -> Result<(), Error> {
        let belongs = |open: &Open| path.is_empty() || normalise(path) == open.path;
        if !self.open.as_ref().is_some_and(belongs) {
            return Err(Error::Entry { number: self.next, fault: Fault::ChunkWithoutFile });
        }
        self.piece(content)
    }

    /// The whole table. The blob's content ends at `end`, but for what the table itself is in the layer, if it is anything.
    pub(super) fn finish(
        mut self,
        encoding: Encoding,
        end: Compressed,
        own: Option<(Entry, Chunk)>,
    ) -> Result<LayerToc, Error> {
        self.close()?;
        self.locate(end)?;
        self.check_overlaps()?;
        let own = own.map(|(entry, chunk)| self.own(entry, chunk)).transpose()?;
        let mut of: HashMap<Uncompressed, Vec<Chunk>> = HashMap::new();
        for piece in self.pieces {
            if piece.kept {
                of.entry(Uncompressed(piece.number)).or_default().push(piece.chunk);
            }
        }
        of.extend(own);
        self.table.complete();
        Ok(LayerToc { entries: self.table, content: ContentMap::Chunks(Chunks { encoding, of }) })
    }

    /// Adds the file that the table itself is, which it cannot list.
    fn own(&mut self, mut entry: Entry, chunk: Chunk) -> Result<(Uncompressed, Vec<Chunk>), Error> {
        let number = self.next;
        (entry.header_offset, entry.data_offset) = (Uncompressed(number), Uncompressed(number));
        admit(&mut self.table, entry).map_err(|fault| Error::Entry { number, fault })?;
        Ok((Uncompressed(number), vec![chunk]))
    }

    fn piece(&mut self, stated: Stated) -> Result<(), Error> {
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
        let Stated { start, end, zeros, .. } = stated;
        self.pieces.push(Piece { number, kept: open.kept, chunk, start, end, zeros });
        Ok(())
    }

    /// The file before is complete.
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

    /// Finds where each piece ends.
    fn locate(&mut self, end: Compressed) -> Result<(), Error> {
        let mut starts: Vec<Compressed> = self.pieces.iter().map(|piece| piece.start).collect();
        starts.sort_unstable();
        starts.dedup();
        for piece in &mut self.pieces {
            let outside = Error::Entry { number: piece.number, fault: Fault::ContentOutside };
            let next = starts.partition_point(|start| *start <= piece.start);
            let next = starts.get(next).copied().unwrap_or(end).min(end);
            let stated = piece.end.unwrap_or(next);
            // The first bytes of a blob unpack to a header: content there has something before it.
            let is_header = piece.start == Compressed(0) && piece.chunk.skip == 0 && !piece.zeros;
            if is_header || piece.start >= next || stated <= piece.start || stated > end {
                return Err(outside);
            }
            if stated > next {
                return Err(Error::Entry { number: piece.number, fault: Fault::Overlap });
            }
            piece.chunk.compressed = if piece.zeros { piece.start..piece.start } else { piece.start..stated };
        }
        Ok(())
    }

    /// Refuses two pieces that claim the same unpacked bytes.
    fn check_overlaps(&self) -> Result<(), Error> {
        let mut order: Vec<&Piece> = self.pieces.iter().filter(|piece| !piece.zeros).collect();
        order.sort_unstable_by_key(|piece| (piece.start, piece.chunk.skip));
        for (piece, next) in order.iter().zip(order.iter().skip(1)) {
            if piece.start == next.start && piece.chunk.skip + piece.chunk.size > next.chunk.skip {
                return Err(Error::Entry { number: next.number, fault: Fault::Overlap });
            }
        }
        Ok(())
    }
}

/// Adds an entry whose paths are as stated to a table; returns what it turned out to be, nothing if it is no part of the layer.
pub(crate) fn admit(table: &mut EntryTree, mut entry: Entry) -> Result<Option<EntryKind>, Fault> {
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
    // As in archives, only files have content, whatever the size says.
    if entry.kind != EntryKind::File {
        entry.size = 0;
    }
    if whiteout::interpret(&mut entry) == Meaning::Metadata {
        return Ok(None);
    }
    entry.stored_size = entry.size;
    let inserted = table.insert(&entry).map_err(Fault::Table)?;
    if inserted.replaced {
        return Err(Fault::Duplicate);
    }
    match table.hardlink(inserted.record) {
        Some(Hardlink::Unresolved(_)) => Err(Fault::Hardlink),
        Some(Hardlink::Record(_)) | None => Ok(Some(entry.kind)),
    }
}

/// Whether a text from JSON may stand for several: see [`super`].
pub(super) fn is_guessed(text: &[u8]) -> bool {
    text.windows(REPLACEMENT.len()).any(|part| part == REPLACEMENT)
}

fn inherit(names: &mut HashMap<u64, Vec<u8>>, id: u64, name: &mut Vec<u8>) {
    if name.is_empty() {
        name.clone_from(names.entry(id).or_default());
    } else if names.get(&id) != Some(name) {
        names.insert(id, name.clone());
    }
}
