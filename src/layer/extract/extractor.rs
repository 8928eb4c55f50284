//! The extract thread: bytes of ranges in, entries and their content out.

use std::{collections::HashMap, sync::Arc};

use super::{
    Work,
    feed::{Feed, cut},
    member::Member,
};
use crate::{
    decompress::Decompressor,
    error::{Error, Kind},
    layer::{
        plan::{Stretch, Wanted},
        visit::{Attention, Piece, Visitor, Want},
    },
    oci::digest::Hasher,
    offset::Uncompressed,
    tar::{
        Decoder, Event,
        entry::{Entry, EntryKind},
    },
    toc::{
        ContentMap, LayerToc,
        chunks::{Chunk, Chunks},
        entries::EntryTree,
        leaves::LeafVerifier,
        soci::Ztoc,
        spans::Spans,
    },
};

/// Unpacked bytes decoded at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// The extract thread.
pub(super) struct Extractor<V> {
    toc: Arc<LayerToc>,
    feed: Feed,
    attention: Attention,
    verifies: bool,
    visitor: V,
    buffer: Vec<u8>,
}

impl<V: Visitor> Extractor<V> {
    /// By this table; `verifies` holds spans against its digests.
    pub(super) fn new(toc: Arc<LayerToc>, feed: Feed, verifies: bool, visitor: V) -> Self {
        let (attention, buffer) = (Attention::new(), vec![0; BUFFER_BYTES]);
        Self { toc, feed, attention, verifies, visitor, buffer }
    }

    /// Reads what there is to read, in the order in which its ranges come.
    pub(super) fn run(mut self, work: Work) -> Result<V, Error> {
        let toc = Arc::clone(&self.toc);
        match (&toc.content, work) {
            (ContentMap::Chunks(chunks), Work::Chunks(stretches)) => {
                for stretch in stretches {
                    self.feed.begin(&stretch.range)?;
                    self.chunks(chunks, &stretch)?;
                }
            }
            (ContentMap::Spans(spans), Work::Spans(stretches)) => {
                for stretch in stretches {
                    self.feed.begin(&stretch.range)?;
                    self.spans(spans, &stretch)?;
                }
            }
            (ContentMap::Ztoc(ztoc), Work::Ztoc(stretches, records)) => {
                for stretch in stretches {
                    self.feed.begin(&stretch.range)?;
                    self.ztoc(ztoc, &stretch, &records)?;
                }
            }
            _ => {}
        }
        Ok(self.visitor)
    }

    /// Decodes the tar from the first wanted header to the end of the last wanted content.
    fn spans(&mut self, spans: &Spans, stretch: &Stretch<Wanted>) -> Result<(), Error> {
        let (Some(first), Some(last)) = (stretch.wanted.first(), stretch.wanted.last()) else {
            return Ok(());
        };
        let index = spans.span_at(first.header).ok_or_else(cut)?;
        let checkpoint = spans.checkpoint(index).map_err(unusable)?;
        let mut skip = first.header.0.saturating_sub(checkpoint.at.uncompressed.0);
        let mut decompressor = Decompressor::restart(spans.encoding, &checkpoint)?;
        let mut leaves = self.verifies.then(|| LeafVerifier::new(spans, index));
        let mut tar = Decoder::at(first.header);
        let end = stretch.wanted.iter().map(|wanted| wanted.end).max().unwrap_or(last.end);
        loop {
            let length = self.feed.fill()?.len();
            let mut piece = self.feed.take(length);
            if let Some(leaves) = &mut leaves {
                // Nothing goes on before the digest of its leaf was right.
                piece = if length == 0 { leaves.finish() } else { leaves.push(piece) }.map_err(changed)?;
            }
            let mut input = &*piece;
            loop {
                let produced = decompressor.decompress(&mut input, &mut self.buffer)?;
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(produced);
                skip -= skipped as u64;
                let mut unpacked = self.buffer.get(skipped..produced).unwrap_or_default();
                while let Some(event) = tar.decode(&mut unpacked)? {
                    self.attention.visit(&mut self.visitor, event)?;
                }
                if tar.offset() >= end && !self.attention.is_within() {
                    return Ok(());
                }
                if produced == 0 {
                    break;
                }
            }
            if length == 0 {
                return Err(cut());
            }
        }
    }

    /// Decodes the tar by the spans of a SOCI index, each checked before it is decoded.
    fn ztoc(
        &mut self,
        ztoc: &Ztoc,
        stretch: &Stretch<Wanted>,
        records: &HashMap<Uncompressed, u32>,
    ) -> Result<(), Error> {
        let Some(first) = stretch.wanted.first() else { return Ok(()) };
        let end = stretch.wanted.iter().map(|wanted| wanted.end).max().unwrap_or(first.end);
        let (mut tar, mut packed) = (Decoder::at(first.header), Vec::new());
        for span in ztoc.covering(first.header..end) {
            let ranges = ztoc.compressed(span).zip(ztoc.unpacked(span));
            let (compressed, unpacked) = ranges.ok_or_else(cut)?;
            self.feed.collect(&compressed, &mut packed)?;
            let (checkpoint, mut input) = ztoc.open(span, &packed).map_err(changed)?;
            let mut decompressor = Decompressor::restart(ztoc.encoding(), &checkpoint)?;
            let mut at = unpacked.start;
            while at < unpacked.end {
                let room = usize::try_from(unpacked.end.0 - at.0).unwrap_or(usize::MAX);
                let room = room.min(self.buffer.len());
                let output = self.buffer.get_mut(..room).unwrap_or_default();
                let produced = decompressor.decompress(&mut input, output)?;
                if produced == 0 {
                    return Err(cut());
                }
                let skip = usize::try_from(first.header.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
                at.0 += produced as u64;
                let mut bytes = self.buffer.get(skip.min(produced)..produced).unwrap_or_default();
                while let Some(event) = tar.decode(&mut bytes)? {
                    if let Event::Entry(entry) = &event {
                        agree(&self.toc.entries, records, entry)?;
                    }
                    self.attention.visit(&mut self.visitor, event)?;
                }
                if tar.offset() >= end && !self.attention.is_within() {
                    return Ok(());
                }
            }
        }
        Err(cut())
    }

    /// Decodes the chunks of one file after the other.
    fn chunks(&mut self, chunks: &Chunks, stretch: &Stretch<u32>) -> Result<(), Error> {
        let mut member = None;
        for record in &stretch.wanted {
            let entry = self.toc.entries.entry(*record);
            let wants = self.visitor.entry(entry.clone())? == Want::Content;
            for chunk in chunks.of(entry.header_offset).iter().filter(|_| wants) {
                self.chunk(chunks, chunk, &mut member)?;
            }
            if wants {
                self.visitor.content_end()?;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunks: &Chunks, chunk: &Chunk, member: &mut Option<Member>) -> Result<(), Error> {
        if chunk.compressed.is_empty() {
            return if chunk.size == 0 { Ok(()) } else { self.visitor.content(Piece::Hole(chunk.size)) };
        }
        // Several small files may share a member: decoding goes on in it.
        let goes_on =
            |member: &Member| member.start == chunk.compressed.start && member.produced <= chunk.skip;
        let mut current = match member.take().filter(goes_on) {
            Some(member) => member,
            None if chunk.compressed.start < self.feed.at => {
                return Err(Error::new(Kind::Corrupt, "the layer's table of contents goes back and forth"));
            }
            None => {
                self.feed.skip_to(chunk.compressed.start)?;
                Member::new(chunk.compressed.start, chunks.encoding)?
            }
        };
        let mut hasher = chunk.digest.as_ref().map(|digest| (digest, Hasher::new(digest.algorithm())));
        let end = chunk.skip.saturating_add(chunk.size);
        while current.produced < end {
            let produced = current.decode(&mut self.feed, &mut self.buffer, chunk.compressed.end, end)?;
            let start = current.produced;
            current.produced += produced as u64;
            let skip = usize::try_from(chunk.skip.saturating_sub(start)).unwrap_or(usize::MAX).min(produced);
            let content = self.buffer.get(skip..produced).unwrap_or_default();
            if !content.is_empty() {
                if let Some((_, hasher)) = &mut hasher {
                    hasher.update(content);
                }
                self.visitor.content(Piece::Data(content))?;
            }
        }
        *member = Some(current);
        match hasher {
            Some((digest, hasher)) if hasher.clone().finish() != *digest => {
                let at = chunk.compressed.start;
                let message = format!("a chunk at {at} does not hash to {digest}");
                Err(Error::new(Kind::Corrupt, message))
            }
            _ => Ok(()),
        }
    }
}

/// Holds an entry of the tar against the table that led to it.
fn agree(table: &EntryTree, records: &HashMap<Uncompressed, u32>, entry: &Entry) -> Result<(), Error> {
    let Some(&record) = records.get(&entry.header_offset) else { return Ok(()) };
    let is_same = entry.kind == EntryKind::File
        && entry.size == table.size(record)
        && table.lookup(&entry.path) == Some(record);
    if is_same {
        return Ok(());
    }
    let (path, at) = (entry.path.escape_ascii(), entry.header_offset);
    let message = format!("the layer has /{path} at {at}, unlike its table of contents");
    Err(Error::new(Kind::Corrupt, message))
}

fn changed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "reading by the layer's table of contents", error)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "the layer's table of contents cannot be used", error)
}
