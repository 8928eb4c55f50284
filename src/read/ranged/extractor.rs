//! The extractor: bytes of ranges in, entries and their content out.

use std::{collections::HashMap, sync::Arc};

use super::{
    Work,
    feed::{Feed, cut},
    member::Member,
    ranges::{CoalescedRange, EntryExtent},
};
use crate::{
    decompress::Decompressor,
    error::{Error, Kind},
    oci::digest::Hasher,
    offset::Uncompressed,
    read::{
        pool::{PassGuard, WorkerPool},
        visit::{Interest, Piece, VisitAction, Visitor},
    },
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

/// The extractor.
pub(super) struct Extractor<V> {
    toc: Arc<LayerToc>,
    feed: Feed,
    interest: Interest,
    verifies: bool,
    visitor: V,
    pool: Arc<WorkerPool>,
    _pass: PassGuard,
}

impl<V: Visitor> Extractor<V> {
    /// An extractor by this TOC; `verifies`: spans are checked against its digests.
    pub(super) fn new(
        toc: Arc<LayerToc>,
        feed: Feed,
        verifies: bool,
        visitor: V,
        pool: Arc<WorkerPool>,
    ) -> Self {
        let pass = pool.begin_pass();
        Self { toc, feed, interest: Interest::new(), verifies, visitor, pool, _pass: pass }
    }

    /// Reads the ranges in the order in which they arrive.
    pub(super) async fn run(mut self, work: Work) -> Result<V, Error> {
        let toc = Arc::clone(&self.toc);
        match (&toc.content, work) {
            (ContentMap::Chunks(chunks), Work::Chunks(ranges)) => {
                for range in ranges {
                    self.feed.begin(&range.range).await?;
                    self.chunks(chunks, &range).await?;
                }
            }
            (ContentMap::Spans(spans), Work::Spans(ranges)) => {
                for range in ranges {
                    self.feed.begin(&range.range).await?;
                    self.spans(spans, &range).await?;
                }
            }
            (ContentMap::Ztoc(ztoc), Work::Ztoc(ranges, records)) => {
                for range in ranges {
                    self.feed.begin(&range.range).await?;
                    self.ztoc(ztoc, &range, &records).await?;
                }
            }
            _ => {}
        }
        self.visitor.flush().await?;
        Ok(self.visitor)
    }

    /// Decodes the tar from the first wanted header to the end of the last wanted content.
    async fn spans(&mut self, spans: &Spans, range: &CoalescedRange<EntryExtent>) -> Result<(), Error> {
        let (Some(first), Some(last)) = (range.wanted.first(), range.wanted.last()) else {
            return Ok(());
        };
        let index = spans.span_at(first.header).ok_or_else(cut)?;
        let checkpoint = spans.checkpoint(index).map_err(unusable)?;
        let mut skip = first.header.0.saturating_sub(checkpoint.at.uncompressed.0);
        let mut decompressor = Decompressor::restart(spans.encoding, &checkpoint)?;
        let mut leaves = self.verifies.then(|| LeafVerifier::new(spans, index));
        let mut tar = Decoder::at(first.header);
        let end = range.wanted.iter().map(|wanted| wanted.end).max().unwrap_or(last.end);
        loop {
            let length = self.feed.fill().await?.len();
            let mut piece = self.feed.take(length);
            if let Some(leaves) = &mut leaves {
                // Bytes are decoded only after the digest of their leaf matched.
                piece = if length == 0 { leaves.finish() } else { leaves.push(piece) }.map_err(mismatch)?;
            }
            let mut input = &*piece;
            loop {
                let mut buffer = self.pool.buffer().await;
                let produced = decompressor.decompress(&mut input, &mut buffer)?;
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(produced);
                skip -= skipped as u64;
                let mut unpacked = buffer.get(skipped..produced).unwrap_or_default();
                while let Some(event) = tar.decode(&mut unpacked)? {
                    self.interest.visit(&mut self.visitor, event)?;
                }
                drop(buffer);
                self.visitor.flush().await?;
                if tar.offset() >= end && !self.interest.is_in_content() {
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
    async fn ztoc(
        &mut self,
        ztoc: &Ztoc,
        range: &CoalescedRange<EntryExtent>,
        records: &HashMap<Uncompressed, u32>,
    ) -> Result<(), Error> {
        let Some(first) = range.wanted.first() else { return Ok(()) };
        let end = range.wanted.iter().map(|wanted| wanted.end).max().unwrap_or(first.end);
        let (mut tar, mut packed) = (Decoder::at(first.header), Vec::new());
        for span in ztoc.covering(first.header..end) {
            let ranges = ztoc.compressed(span).zip(ztoc.unpacked(span));
            let (compressed, unpacked) = ranges.ok_or_else(cut)?;
            self.feed.collect(&compressed, &mut packed).await?;
            let (checkpoint, mut input) = ztoc.open(span, &packed).map_err(mismatch)?;
            let mut decompressor = Decompressor::restart(ztoc.encoding(), &checkpoint)?;
            let mut at = unpacked.start;
            while at < unpacked.end {
                let mut buffer = self.pool.buffer().await;
                let room = usize::try_from(unpacked.end.0 - at.0).unwrap_or(usize::MAX);
                let room = room.min(buffer.len());
                let output = buffer.get_mut(..room).unwrap_or_default();
                let produced = decompressor.decompress(&mut input, output)?;
                if produced == 0 {
                    return Err(cut());
                }
                let skip = usize::try_from(first.header.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
                at.0 += produced as u64;
                let mut bytes = buffer.get(skip.min(produced)..produced).unwrap_or_default();
                while let Some(event) = tar.decode(&mut bytes)? {
                    if let Event::Entry(entry) = &event {
                        agree(&self.toc.entries, records, entry)?;
                    }
                    self.interest.visit(&mut self.visitor, event)?;
                }
                drop(buffer);
                self.visitor.flush().await?;
                if tar.offset() >= end && !self.interest.is_in_content() {
                    return Ok(());
                }
            }
        }
        Err(cut())
    }

    /// Decodes the chunks of one file after the other.
    async fn chunks(&mut self, chunks: &Chunks, range: &CoalescedRange<u32>) -> Result<(), Error> {
        let mut member = None;
        for record in &range.wanted {
            let entry = self.toc.entries.entry(*record);
            let wants = self.visitor.entry(entry.clone())? == VisitAction::Content;
            for chunk in chunks.of(entry.header_offset).iter().filter(|_| wants) {
                self.chunk(chunks, chunk, &mut member).await?;
            }
            if wants {
                self.visitor.content_end()?;
            }
        }
        Ok(())
    }

    async fn chunk(
        &mut self,
        chunks: &Chunks,
        chunk: &Chunk,
        member: &mut Option<Member>,
    ) -> Result<(), Error> {
        if chunk.compressed.is_empty() {
            return if chunk.size == 0 { Ok(()) } else { self.visitor.content(Piece::Hole(chunk.size)) };
        }
        // Several small files may share a member: decoding continues in it.
        let continues =
            |member: &Member| member.start == chunk.compressed.start && member.produced <= chunk.skip;
        let mut current = match member.take().filter(continues) {
            Some(member) => member,
            None if chunk.compressed.start < self.feed.at => {
                return Err(Error::new(Kind::Corrupt, "the layer's TOC has chunks out of order"));
            }
            None => {
                self.feed.skip_to(chunk.compressed.start).await?;
                Member::new(chunk.compressed.start, chunks.encoding)?
            }
        };
        let mut hasher = chunk.digest.as_ref().map(|digest| (digest, Hasher::new(digest.algorithm())));
        let end = chunk.skip.saturating_add(chunk.size);
        while current.produced < end {
            let (buffer, produced) =
                current.decode(&mut self.feed, &self.pool, chunk.compressed.end, end).await?;
            let start = current.produced;
            current.produced += produced as u64;
            let skip = usize::try_from(chunk.skip.saturating_sub(start)).unwrap_or(usize::MAX).min(produced);
            let content = buffer.get(skip..produced).unwrap_or_default();
            if !content.is_empty() {
                if let Some((_, hasher)) = &mut hasher {
                    hasher.update(content);
                }
                self.visitor.content(Piece::Data(content))?;
            }
            drop(buffer);
            self.visitor.flush().await?;
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

/// Checks an entry of the tar against the TOC that led to it.
fn agree(tree: &EntryTree, records: &HashMap<Uncompressed, u32>, entry: &Entry) -> Result<(), Error> {
    let Some(&record) = records.get(&entry.header_offset) else { return Ok(()) };
    let is_same = entry.kind == EntryKind::File
        && entry.size == tree.size(record)
        && tree.lookup(&entry.path) == Some(record);
    if is_same {
        return Ok(());
    }
    let (path, at) = (entry.path.escape_ascii(), entry.header_offset);
    let message = format!("the layer has /{path} at {at}, unlike its TOC");
    Err(Error::new(Kind::Corrupt, message))
}

fn mismatch(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "reading by the layer's TOC", error)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "the layer's TOC cannot be used", error)
}
