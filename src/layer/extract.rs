//! Reads content by a table of contents: only the ranges that hold it, each decoded from the nearest place where decoding can begin.
//!
//! ```text
//! plan ─▶ ranges ──▶ pump (async, several at a time) ──▶ extract thread ─┬ spans:  verify leaves ─▶ decompress ─▶ tar ─▶ visitor
//!                                                                        ├ zTOC:   verify span ─▶ decompress ─▶ tar ───▶ visitor
//!                                                                        └ chunks: decompress ─▶ verify chunk ───────▶ visitor
//! ```

use std::{
    collections::HashMap,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

use super::{
    Plan, Verification,
    plan::{self, Stretch, Wanted},
    scan::joined,
    visit::Visitor,
};
use crate::{
    error::{Error, Kind},
    oci::digest::Digest,
    offset::{Compressed, Uncompressed},
    progress::Progress,
    source::{
        Source,
        growing::{Demand, Growing},
    },
    tar::entry::EntryKind,
    toc::{ContentMap, LayerToc, chunks::Chunk},
};

mod extractor;
mod feed;
mod member;

use self::{
    extractor::Extractor,
    feed::{Feed, Message},
};

/// Ranges of one blob under way at a time.
const RANGES: usize = 4;

/// Pieces of the blob waiting between the network and the decoder.
const PIECES: usize = 16;

/// What to read by which table.
pub(crate) struct Extraction {
    /// The blob.
    pub(crate) source: Arc<dyn Source>,
    /// Its table of contents.
    pub(crate) toc: Arc<LayerToc>,
    /// What vouches for the table.
    pub(crate) level: Verification,
    /// Who is told of progress.
    pub(crate) progress: Arc<dyn Progress>,
    /// The layer's index, 0 = base.
    pub(crate) layer: usize,
    /// Its name in progress reports.
    pub(crate) name: Digest,
}

impl Extraction {
    /// What content is worth that is read by this table.
    pub(crate) fn verification(&self) -> Verification {
        match &self.toc.content {
            ContentMap::Spans(_) => self.level.min(Verification::Span),
            _ => self.level.min(Verification::Chunk),
        }
    }

    /// How content is read by this table.
    pub(crate) fn plan(&self) -> Plan {
        match self.toc.content {
            ContentMap::Chunks(_) => Plan::Chunks,
            ContentMap::Ztoc(_) => Plan::Soci,
            ContentMap::Nothing | ContentMap::Spans(_) => Plan::Toc,
        }
    }

    /// Whether the table says where content lies.
    pub(crate) fn is_possible(&self) -> bool {
        !matches!(self.toc.content, ContentMap::Nothing)
    }

    /// The end of a range of which nobody knows how much is needed: the table is of a part of the blob.
    fn endless(&self) -> Option<Compressed> {
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
        let wanted = |record| Wanted {
            header: table.header_offset(record),
            end: Uncompressed(table.data_offset(record).0.saturating_add(table.stored_size(record))),
        };
        match &self.toc.content {
            ContentMap::Chunks(chunks) => {
                let of = |record| (record, chunks.of(table.header_offset(record)));
                let stretches = plan::chunk_stretches(files.map(of));
                let plain = |stretch: Stretch<(u32, &[Chunk])>| Stretch {
                    range: stretch.range,
                    wanted: stretch.wanted.into_iter().map(|(record, _)| record).collect(),
                };
                Work::Chunks(stretches.into_iter().map(plain).collect())
            }
            ContentMap::Nothing => Work::Spans(Vec::new()),
            ContentMap::Spans(spans) => {
                Work::Spans(plan::span_stretches(spans, self.source.size(), files.map(wanted).collect()))
            }
            ContentMap::Ztoc(ztoc) => {
                let records = files.clone().map(|record| (table.header_offset(record), record)).collect();
                Work::Ztoc(plan::ztoc_stretches(ztoc, files.map(wanted).collect()), records)
            }
        }
    }
}

/// What there is to read.
enum Work {
    Chunks(Vec<Stretch<u32>>),
    Spans(Vec<Stretch<Wanted>>),
    /// With the record that belongs to each header.
    Ztoc(Vec<Stretch<Wanted>>, HashMap<Uncompressed, u32>),
}

impl Work {
    fn into_ranges(self) -> Vec<Range<Compressed>> {
        match self {
            Self::Chunks(stretches) => stretches.into_iter().map(|stretch| stretch.range).collect(),
            Self::Spans(stretches) | Self::Ztoc(stretches, _) => {
                stretches.into_iter().map(|stretch| stretch.range).collect()
            }
        }
    }
}

/// Reads the content of the files among `records` and gives it to the visitor, each after its entry.
///
/// # Errors
///
/// What the source, the codecs or the visitor say; corrupt if the bytes are not those that the table vouches for.
pub(crate) async fn extract<V: Visitor>(job: Extraction, records: Vec<u32>, visitor: V) -> Result<V, Error> {
    let (pieces, received) = mpsc::channel(PIECES);
    let (done, mut extracting) = oneshot::channel();
    let demand = Arc::new(Demand::default());
    let ranges = job.ranges(&records);
    let work = job.work(&records);
    let feed = Feed::new(received, Arc::clone(&demand), job.endless());
    let extractor = Extractor::new(Arc::clone(&job.toc), feed, job.level > Verification::None, visitor);
    let run = move || drop(done.send(panic::catch_unwind(AssertUnwindSafe(|| extractor.run(work)))));
    thread::Builder::new()
        .name("extract".to_owned())
        .spawn(run)
        .map_err(|error| Error::caused(Kind::Other, "starting the extract thread", error))?;
    let pumped = tokio::select! {
        biased;
        result = &mut extracting => return joined(result),
        pumped = pump(&job, ranges, demand, pieces) => pumped,
    };
    match (joined(extracting.await), pumped) {
        (Err(_), Err(error)) => Err(error.into()),
        (result, _) => result,
    }
}

async fn pump(
    job: &Extraction,
    ranges: Vec<Range<Compressed>>,
    demand: Arc<Demand>,
    pieces: mpsc::Sender<Message>,
) -> Result<(), crate::source::Error> {
    let total = ranges.iter().map(|range| range.end.0 - range.start.0).sum();
    let _finished = Finished::start(job, total);
    let endless = job.endless();
    let opening = |range: Range<Compressed>| async {
        match range {
            range if range.is_empty() => Ok(stream::empty().boxed()),
            range if Some(range.end) == endless => {
                Ok(Growing::new(Arc::clone(&job.source), range.start, Arc::clone(&demand)).boxed())
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
            job.progress.layer_advanced(job.layer, piece.len() as u64);
            if pieces.send(Message::Piece(piece)).await.is_err() {
                return Ok(());
            }
        }
        if pieces.send(Message::End).await.is_err() {
            return Ok(());
        }
        read += 1;
    }
}

/// The same by one range from the first to the last of them, and what lies between is left out.
async fn pump_together(
    job: &Extraction,
    ranges: &[Range<Compressed>],
    pieces: mpsc::Sender<Message>,
) -> Result<(), crate::source::Error> {
    // Where one lies that needs no byte means nothing.
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
                job.progress.layer_advanced(job.layer, length as u64);
                if pieces.send(Message::Piece(now)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if pieces.send(Message::End).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells the progress that reading has ended, also when the future is dropped.
struct Finished<'a>(&'a Extraction);

impl<'a> Finished<'a> {
    fn start(job: &'a Extraction, total: u64) -> Self {
        job.progress.layer_started(job.layer, &job.name, total);
        Self(job)
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.progress.layer_finished(self.0.layer);
    }
}
