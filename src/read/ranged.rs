//! Reads content by a TOC: only the ranges that hold it, each decoded from the nearest place where decoding can begin.
//!
//! ```text
//! TOC ─▶ ranges ──▶ pump (several at a time) ──▶ extractor ─┬ spans:  verify leaves ─▶ decompress ─▶ tar ─▶ visitor
//!                                                on the     ├ zTOC:   verify span ─▶ decompress ─▶ tar ───▶ visitor
//!                                                pool       └ chunks: decompress ─▶ verify chunk ───────▶ visitor
//! ```

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use super::{method::ReadMethod, pool::WorkerPool, verification::Verification, visit::Visitor};
use crate::{
    error::Error,
    offset::{Compressed, Uncompressed},
    progress::Reporter,
    source::{
        Source,
        adaptive::{AdaptiveReader, ReadProgress},
    },
    tar::entry::EntryKind,
    toc::{ContentMap, LayerToc, chunks::Chunk},
};

mod extractor;
mod feed;
mod member;
mod ranges;

use self::{
    extractor::Extractor,
    feed::{Feed, RangeInput},
    ranges::{CoalescedRange, EntryExtent},
};

/// Ranges of one blob under way at a time.
const RANGES: usize = 4;

/// Pieces of the blob waiting between the network and the decoder.
const PIECES: usize = 16;

/// A layer's blob, and the TOC to read it by.
pub(crate) struct Extraction {
    /// The blob.
    pub(crate) source: Arc<dyn Source>,
    /// Its TOC.
    pub(crate) toc: Arc<LayerToc>,
    /// How far the TOC is verified.
    pub(crate) level: Verification,
    /// Receives progress.
    pub(crate) progress: Arc<Reporter>,
    /// Where the work is done.
    pub(crate) pool: Arc<WorkerPool>,
}

impl Extraction {
    /// How far content is verified that is read by this TOC.
    pub(crate) fn verification(&self) -> Verification {
        match &self.toc.content {
            ContentMap::Spans(_) => self.level.min(Verification::Span),
            _ => self.level.min(Verification::Chunk),
        }
    }

    /// How content is read by this TOC.
    pub(crate) fn method(&self) -> ReadMethod {
        match self.toc.content {
            ContentMap::Chunks(_) => ReadMethod::Chunks,
            ContentMap::Ztoc(_) => ReadMethod::Soci,
            ContentMap::Nothing | ContentMap::Spans(_) => ReadMethod::Toc,
        }
    }

    /// Whether the TOC says where content is.
    pub(crate) fn is_possible(&self) -> bool {
        !matches!(self.toc.content, ContentMap::Nothing)
    }

    /// The end of a range of which an unknown part is needed: the TOC covers only a part of the blob.
    fn open_end(&self) -> Option<Compressed> {
        let ContentMap::Spans(spans) = &self.toc.content else { return None };
        let size = Compressed(self.source.size());
        (spans.end.compressed < size).then_some(size)
    }

    /// The ranges that hold the content of these records.
    pub(crate) fn ranges(&self, records: &[u32]) -> Vec<Range<Compressed>> {
        self.work(records).into_ranges()
    }

    fn work(&self, records: &[u32]) -> Work {
        let table = &self.toc.entries;
        let files = records.iter().copied().filter(|record| table.kind(*record) == EntryKind::File);
        let wanted = |record| EntryExtent {
            header: table.header_offset(record),
            end: Uncompressed(table.data_offset(record).0.saturating_add(table.stored_size(record))),
        };
        match &self.toc.content {
            ContentMap::Chunks(chunks) => {
                let of = |record| (record, chunks.of(table.header_offset(record)));
                let ranges = ranges::chunk_ranges(files.map(of));
                let plain = |range: CoalescedRange<(u32, &[Chunk])>| CoalescedRange {
                    range: range.range,
                    wanted: range.wanted.into_iter().map(|(record, _)| record).collect(),
                };
                Work::Chunks(ranges.into_iter().map(plain).collect())
            }
            ContentMap::Nothing => Work::Spans(Vec::new()),
            ContentMap::Spans(spans) => {
                Work::Spans(ranges::span_ranges(spans, self.source.size(), files.map(wanted).collect()))
            }
            ContentMap::Ztoc(ztoc) => {
                let records = files.clone().map(|record| (table.header_offset(record), record)).collect();
                Work::Ztoc(ranges::ztoc_ranges(ztoc, files.map(wanted).collect()), records)
            }
        }
    }
}

/// What to read.
enum Work {
    Chunks(Vec<CoalescedRange<u32>>),
    Spans(Vec<CoalescedRange<EntryExtent>>),
    /// With the record of each header.
    Ztoc(Vec<CoalescedRange<EntryExtent>>, HashMap<Uncompressed, u32>),
}

impl Work {
    fn into_ranges(self) -> Vec<Range<Compressed>> {
        match self {
            Self::Chunks(ranges) => ranges.into_iter().map(|range| range.range).collect(),
            Self::Spans(ranges) | Self::Ztoc(ranges, _) => {
                ranges.into_iter().map(|range| range.range).collect()
            }
        }
    }
}

/// Reads the content of the files among `records` and gives it to the visitor, each after its entry.
///
/// # Errors
///
/// Those of the source, the codecs and the visitor; corrupt if the bytes do not match the TOC.
pub(crate) async fn extract<V: Visitor>(job: Extraction, records: Vec<u32>, visitor: V) -> Result<V, Error> {
    let (pieces, received) = mpsc::channel(PIECES);
    let read_progress = Arc::new(ReadProgress::default());
    let (ranges, work) = (job.ranges(&records), job.work(&records));
    let feed = Feed::new(received, Arc::clone(&read_progress), job.open_end());
    let verifies = job.level > Verification::None;
    let extractor = Extractor::new(Arc::clone(&job.toc), feed, verifies, visitor, Arc::clone(&job.pool));
    let mut extracting = job.pool.spawn(extractor.run(work))?;
    let pumped = tokio::select! {
        biased;
        result = &mut extracting => return result,
        pumped = pump(&job, ranges, read_progress, pieces) => pumped,
    };
    match (extracting.await, pumped) {
        (Err(_), Err(error)) => Err(error.into()),
        (result, _) => result,
    }
}

async fn pump(
    job: &Extraction,
    ranges: Vec<Range<Compressed>>,
    read_progress: Arc<ReadProgress>,
    pieces: mpsc::Sender<RangeInput>,
) -> Result<(), crate::source::Error> {
    let total = ranges.iter().map(|range| range.end.0 - range.start.0).sum();
    let _finished = Finished::start(job, total);
    let open_end = job.open_end();
    let opening = |range: Range<Compressed>| async {
        match range {
            range if range.is_empty() => Ok(stream::empty().boxed()),
            range if Some(range.end) == open_end => {
                Ok(AdaptiveReader::new(Arc::clone(&job.source), range.start, Arc::clone(&read_progress))
                    .into_stream()
                    .boxed())
            }
            range => job.source.open(range).await,
        }
    };
    let (mut streams, mut read) = (stream::iter(ranges.clone()).map(opening).buffered(RANGES), 0);
    loop {
        let left = ranges.get(read..).unwrap_or_default();
        // Each of several ranges would cost all of the blob before it.
        if left.len() > 1 && job.source.ignores_ranges() {
            drop(streams);
            return pump_together(job, left, pieces).await;
        }
        let Some(mut stream) = streams.try_next().await? else { return Ok(()) };
        if left.len() > 1 && job.source.ignores_ranges() {
            continue;
        }
        while let Some(piece) = stream.try_next().await? {
            job.progress.layer_advanced(piece.len() as u64);
            if pieces.send(RangeInput::Piece(piece)).await.is_err() {
                return Ok(());
            }
        }
        if pieces.send(RangeInput::End).await.is_err() {
            return Ok(());
        }
        read += 1;
    }
}

/// The same by one range from the first to the last of them; the bytes between are dropped.
async fn pump_together(
    job: &Extraction,
    ranges: &[Range<Compressed>],
    pieces: mpsc::Sender<RangeInput>,
) -> Result<(), crate::source::Error> {
    // The place of an empty range means nothing.
    let needed = || ranges.iter().filter(|range| !range.is_empty());
    let bounds = needed().next().zip(needed().next_back());
    let mut stream = match bounds {
        Some((first, last)) => job.source.open(first.start..last.end).await?,
        None => stream::empty().boxed(),
    };
    let mut at = bounds.map_or(0, |(first, _)| first.start.0);
    let mut piece = Bytes::new();
    for range in ranges {
        while at < range.end.0 && !range.is_empty() {
            if piece.is_empty() {
                let Some(next) = stream.try_next().await? else { break };
                piece = next;
            }
            let place = if at < range.start.0 { range.start } else { range.end };
            let length = usize::try_from(place.0 - at).unwrap_or(usize::MAX).min(piece.len());
            let now = piece.split_to(length);
            let is_wanted = at >= range.start.0;
            at += length as u64;
            if is_wanted {
                job.progress.layer_advanced(length as u64);
                if pieces.send(RangeInput::Piece(now)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if pieces.send(RangeInput::End).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reports that reading has ended, also when the future is dropped.
struct Finished<'a>(&'a Extraction);

impl<'a> Finished<'a> {
    fn start(job: &'a Extraction, total: u64) -> Self {
        job.progress.layer_started(total);
        Self(job)
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.progress.layer_finished();
    }
}
