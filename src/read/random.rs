//! Random access to the content of one file by a TOC.
//!
//! ```text
//! read_at ─▶ blocks that cover the range ─┬ decoded lately: from the cache
//!                                         └ else: one ranged request ─▶ verify ─▶ decompress (on the pool) ─▶ cache
//! ```

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use super::{ranged::Extraction, verification::Verification};
use crate::{
    decompress::{Checkpoint, Decompressor, Encoding, Restart},
    error::{Error, Kind},
    oci::digest::Hasher,
    offset::{Compressed, Position},
    toc::{ContentMap, chunks::Chunk, leaves::LeafVerifier},
};

/// Decoded bytes that are kept of one file.
const CACHE_BYTES: usize = 16 << 20;

/// Most bytes of a block, compressed or not. Files with larger blocks are read from their start.
const BLOCK_BYTES: u64 = 32 << 20;

/// The content of one file, which can be read in any order.
pub(crate) struct RandomAccess {
    extraction: Extraction,
    blocks: Vec<Block>,
    size: u64,
    cache: Mutex<VecDeque<(usize, Bytes)>>,
}

/// A part of the content that is decoded by itself.
struct Block {
    /// Its place in the content.
    content: Range<u64>,
    source: BlockSource,
}

enum BlockSource {
    /// A chunk of a publisher's TOC.
    Chunk(Chunk),
    /// A span of our own TOC, and what to skip of it.
    Span(usize, u64),
    /// A span of a SOCI index, and what to skip of it.
    Ztoc(usize, u64),
}

impl RandomAccess {
    /// Random access to a record of a complete TOC; gives the extraction back where the TOC does not allow it: for sparse files, and
    /// where blocks are too large.
    pub(crate) fn new(extraction: Extraction, record: u32) -> Result<Self, Extraction> {
        let entries = &extraction.toc.entries;
        let size = entries.size(record);
        if entries.stored_size(record) != size {
            return Err(extraction);
        }
        let data = entries.data_offset(record);
        let end = data.0.saturating_add(size);
        let overlap = |unpacked: Range<u64>| {
            let (start, stop) = (unpacked.start.max(data.0), unpacked.end.min(end));
            let content = start.saturating_sub(data.0)..stop.saturating_sub(data.0);
            (content, start.saturating_sub(unpacked.start))
        };
        let mut blocks = Vec::new();
        let mut is_small = true;
        match &extraction.toc.content {
            ContentMap::Nothing => return Err(extraction),
            ContentMap::Chunks(chunks) => {
                let mut at = 0_u64;
                for chunk in chunks.of(entries.header_offset(record)) {
                    let stop = at.saturating_add(chunk.size);
                    let stored = chunk.compressed.end.0.saturating_sub(chunk.compressed.start.0);
                    is_small &= stored <= BLOCK_BYTES
                        && (stored == 0 || chunk.skip.saturating_add(chunk.size) <= BLOCK_BYTES);
                    blocks.push(Block { content: at..stop, source: BlockSource::Chunk(chunk.clone()) });
                    at = stop;
                }
                if at != size {
                    return Err(extraction);
                }
            }
            ContentMap::Spans(spans) => {
                let first = spans.span_at(data).unwrap_or(0);
                for index in first..spans.spans.len() {
                    let Some(span) = spans.spans.get(index) else { break };
                    let next = index.checked_add(1).and_then(|next| spans.spans.get(next));
                    let stop = next.map_or(spans.end.uncompressed, |next| next.at.uncompressed);
                    if span.at.uncompressed.0 >= end {
                        break;
                    }
                    let compressed = spans.compressed_range(index);
                    is_small &= compressed.end.0 - compressed.start.0 <= BLOCK_BYTES
                        && stop.0.saturating_sub(span.at.uncompressed.0) <= BLOCK_BYTES;
                    let (content, skip) = overlap(span.at.uncompressed.0..stop.0);
                    if !content.is_empty() {
                        blocks.push(Block { content, source: BlockSource::Span(index, skip) });
                    }
                }
            }
            ContentMap::Ztoc(ztoc) => {
                for index in ztoc.covering(data..crate::offset::Uncompressed(end)) {
                    let (Some(compressed), Some(unpacked)) = (ztoc.compressed(index), ztoc.unpacked(index))
                    else {
                        return Err(extraction);
                    };
                    is_small &= compressed.end.0.saturating_sub(compressed.start.0) <= BLOCK_BYTES
                        && unpacked.end.0.saturating_sub(unpacked.start.0) <= BLOCK_BYTES;
                    let (content, skip) = overlap(unpacked.start.0..unpacked.end.0);
                    if !content.is_empty() {
                        blocks.push(Block { content, source: BlockSource::Ztoc(index, skip) });
                    }
                }
            }
        }
        let is_covered = blocks.first().map_or(size == 0, |first| first.content.start == 0)
            && blocks.last().map_or(size == 0, |last| last.content.end == size);
        if !is_small || !is_covered {
            return Err(extraction);
        }
        Ok(Self { extraction, blocks, size, cache: Mutex::default() })
    }

    /// How far its content is verified.
    pub(crate) fn verification(&self) -> Verification {
        self.extraction.verification()
    }

    /// Up to `length` bytes at an offset: fewer at the end of the content.
    pub(crate) async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let end = offset.saturating_add(length as u64).min(self.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let first = self.blocks.partition_point(|block| block.content.end <= offset);
        let mut pieces = Vec::new();
        for (index, block) in self.blocks.iter().enumerate().skip(first) {
            if block.content.start >= end {
                break;
            }
            let bytes = self.block(index, block).await?;
            let from = offset.max(block.content.start) - block.content.start;
            let to = end.min(block.content.end) - block.content.start;
            let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            let (from, to) = range.filter(|(_, to)| *to <= bytes.len()).ok_or_else(short)?;
            pieces.push(bytes.slice(from..to));
        }
        if let [only] = pieces.as_slice() {
            return Ok(only.clone());
        }
        let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        Ok(all.freeze())
    }

    async fn block(&self, index: usize, block: &Block) -> Result<Bytes, Error> {
        if let Some(bytes) = self.cached(index) {
            return Ok(bytes);
        }
        let bytes = self.decode(block).await?;
        let mut cache = self.lock();
        cache.push_back((index, bytes.clone()));
        let mut kept: usize = cache.iter().map(|(_, bytes)| bytes.len()).sum();
        while kept > CACHE_BYTES && cache.len() > 1 {
            kept -= cache.pop_front().map_or(0, |(_, bytes)| bytes.len());
        }
        Ok(bytes)
    }

    fn cached(&self, index: usize) -> Option<Bytes> {
        let mut cache = self.lock();
        let place = cache.iter().position(|(other, _)| *other == index)?;
        let found = cache.remove(place)?;
        let bytes = found.1.clone();
        cache.push_back(found);
        Some(bytes)
    }

    async fn decode(&self, block: &Block) -> Result<Bytes, Error> {
        let length = usize::try_from(block.content.end - block.content.start).map_err(|_| short())?;
        let toc = Arc::clone(&self.extraction.toc);
        match (&block.source, &self.extraction.toc.content) {
            (BlockSource::Chunk(chunk), ContentMap::Chunks(chunks)) => {
                if chunk.compressed.is_empty() {
                    return Ok(Bytes::from(vec![0; length]));
                }
                let (packed, chunk) = (self.fetch(&chunk.compressed).await?, chunk.clone());
                let encoding = chunks.encoding;
                self.on_pool(move || decode_chunk(&packed, &chunk, encoding, length)).await
            }
            (BlockSource::Span(index, skip), ContentMap::Spans(spans)) => {
                let packed = self.fetch(&spans.compressed_range(*index)).await?;
                let (index, skip, verifies) = (*index, *skip, self.extraction.level > Verification::None);
                self.on_pool(move || {
                    let ContentMap::Spans(spans) = &toc.content else { return Err(short()) };
                    let checkpoint = spans.checkpoint(index).map_err(unusable)?;
                    let verified = if verifies {
                        let mut leaves = LeafVerifier::new(spans, index);
                        let mut verified = BytesMut::from(&leaves.push(packed).map_err(mismatch)?[..]);
                        // The last leaf of a span may be shorter.
                        verified.extend_from_slice(&leaves.finish().map_err(mismatch)?);
                        verified.freeze()
                    } else {
                        packed
                    };
                    unpack(&verified, spans.encoding, &checkpoint, skip, length)
                })
                .await
            }
            (BlockSource::Ztoc(index, skip), ContentMap::Ztoc(ztoc)) => {
                let range = ztoc.compressed(*index).ok_or_else(short)?;
                let packed = self.fetch(&range).await?;
                let (index, skip) = (*index, *skip);
                self.on_pool(move || {
                    let ContentMap::Ztoc(ztoc) = &toc.content else { return Err(short()) };
                    let (checkpoint, input) = ztoc.open(index, &packed).map_err(mismatch)?;
                    unpack(input, ztoc.encoding(), &checkpoint, skip, length)
                })
                .await
            }
            _ => Err(short()),
        }
    }

    async fn fetch(&self, range: &Range<Compressed>) -> Result<Bytes, Error> {
        let mut stream = self.extraction.source.open(range.clone()).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    async fn on_pool(
        &self,
        work: impl FnOnce() -> Result<Bytes, Error> + Send + 'static,
    ) -> Result<Bytes, Error> {
        self.extraction.pool.spawn(async move { work() })?.await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(usize, Bytes)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode_chunk(packed: &[u8], chunk: &Chunk, encoding: Encoding, length: usize) -> Result<Bytes, Error> {
    let restart = match encoding {
        Encoding::Gzip => Restart::Member,
        Encoding::Plain => Restart::Plain,
        Encoding::Zstd => Restart::Frame,
    };
    let at = Position { compressed: chunk.compressed.start, ..Position::default() };
    let bytes = unpack(packed, encoding, &Checkpoint { at, restart }, chunk.skip, length)?;
    if let Some(digest) = &chunk.digest {
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            let at = chunk.compressed.start;
            return Err(Error::new(Kind::Corrupt, format!("a chunk at {at} does not hash to {digest}")));
        }
    }
    Ok(bytes)
}

/// Decodes from a checkpoint on: `length` bytes after the first `skip`, which the caller has bounded.
fn unpack(
    mut input: &[u8],
    encoding: Encoding,
    checkpoint: &Checkpoint,
    skip: u64,
    length: usize,
) -> Result<Bytes, Error> {
    let mut decompressor = Decompressor::restart(encoding, checkpoint)?;
    let skip = usize::try_from(skip).map_err(|_| short())?;
    let wanted = skip.checked_add(length).ok_or_else(short)?;
    let mut unpacked = vec![0; wanted];
    let mut filled = 0;
    while let Some(room) = unpacked.get_mut(filled..).filter(|room| !room.is_empty()) {
        let produced = match input.is_empty() {
            true => decompressor.finish(room)?,
            false => decompressor.decompress(&mut input, room)?,
        };
        if produced == 0 && input.is_empty() {
            return Err(short());
        }
        filled += produced;
    }
    Ok(Bytes::from(unpacked).slice(skip..))
}

fn short() -> Error {
    Error::new(Kind::Corrupt, "the content ends before the layer's TOC says")
}

fn mismatch(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "reading by the layer's TOC", error)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "the layer's TOC cannot be used", error)
}
