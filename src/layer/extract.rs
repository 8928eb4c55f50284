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
    visit::{Attention, Piece, Visitor, Want},
};
use crate::{
    decompress::{Checkpoint, Decompressor, Encoding, Restart},
    error::{Error, Kind},
    oci::digest::{Digest, Hasher},
    offset::{Compressed, Position, Uncompressed},
    progress::Progress,
    source::{
        Source,
        growing::{Demand, Growing},
    },
    tar::{
        Decoder, Event,
        entry::{Entry, EntryKind},
    },
    toc::{
        ContentMap, LayerToc,
        chunks::{Chunk, Chunks},
        entries::LayerTable,
        leaves::LeafVerifier,
        soci::Ztoc,
        spans::Spans,
    },
};

/// Ranges of one blob under way at a time.
const RANGES: usize = 4;

/// Pieces of the blob waiting between the network and the decoder.
const PIECES: usize = 16;

/// Unpacked bytes decoded at a time.
const BUFFER_BYTES: usize = 256 << 10;

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
    let verifies = job.level > Verification::None;
    let extractor = Extractor {
        toc: Arc::clone(&job.toc),
        feed: Feed {
            pieces: received,
            piece: Bytes::new(),
            at: Compressed(0),
            ended: true,
            demand: Arc::clone(&demand),
            endless: job.endless(),
            is_endless: false,
        },
        attention: Attention::new(),
        verifies,
        visitor,
        buffer: vec![0; BUFFER_BYTES],
    };
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

/// What comes to the thread: the pieces of a range, then its end.
enum Message {
    End,
    Piece(Bytes),
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
    let mut streams = stream::iter(ranges).map(opening).buffered(RANGES);
    while let Some(mut stream) = streams.try_next().await? {
        while let Some(piece) = stream.try_next().await? {
            job.progress.layer_advanced(job.layer, piece.len() as u64);
            if pieces.send(Message::Piece(piece)).await.is_err() {
                return Ok(());
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

/// The bytes of one range after the other, for a thread that waits for them.
struct Feed {
    pieces: mpsc::Receiver<Message>,
    /// What is left of the last piece.
    piece: Bytes,
    /// Where it lies in the blob.
    at: Compressed,
    /// Whether the range has no more pieces.
    ended: bool,
    /// Told how far a range has been taken that ends at `endless`.
    demand: Arc<Demand>,
    endless: Option<Compressed>,
    is_endless: bool,
}

impl Feed {
    /// Goes on to the next range.
    fn begin(&mut self, range: &Range<Compressed>) -> Result<(), Error> {
        while !self.ended {
            self.piece = Bytes::new();
            self.fill()?;
        }
        self.piece = Bytes::new();
        self.at = range.start;
        self.ended = false;
        self.is_endless = Some(range.end) == self.endless;
        Ok(())
    }

    /// The bytes at hand, or the next ones; none at the end of the range.
    fn fill(&mut self) -> Result<&[u8], Error> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Message::End) => self.ended = true,
                Some(Message::Piece(piece)) => self.piece = piece,
                None => return Err(Error::new(Kind::Other, "the reader was dropped")),
            }
        }
        Ok(&self.piece)
    }

    /// So many of the bytes at hand have been taken.
    fn take(&mut self, bytes: usize) -> Bytes {
        let taken = self.piece.split_to(bytes.min(self.piece.len()));
        self.at.0 += taken.len() as u64;
        if self.is_endless {
            self.demand.decoded(taken.len() as u64);
        }
        taken
    }

    /// The bytes of a range into `bytes`, which has those of the range before: the two may overlap.
    fn collect(&mut self, range: &Range<Compressed>, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let shared = usize::try_from(self.at.0.saturating_sub(range.start.0)).unwrap_or(usize::MAX);
        bytes.drain(..bytes.len().saturating_sub(shared));
        self.skip_to(range.start)?;
        while self.at < range.end {
            let length = self.fill()?.len();
            if length == 0 {
                return Err(cut());
            }
            let missing = usize::try_from(range.end.0 - self.at.0).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&self.take(length.min(missing)));
        }
        Ok(())
    }

    /// Leaves out all up to a place.
    fn skip_to(&mut self, place: Compressed) -> Result<(), Error> {
        while self.at < place {
            let length = self.fill()?.len();
            if length == 0 {
                return Err(cut());
            }
            let missing = usize::try_from(place.0 - self.at.0).unwrap_or(usize::MAX);
            self.take(length.min(missing));
        }
        Ok(())
    }
}

/// The extract thread.
struct Extractor<V> {
    toc: Arc<LayerToc>,
    feed: Feed,
    attention: Attention,
    verifies: bool,
    visitor: V,
    buffer: Vec<u8>,
}

impl<V: Visitor> Extractor<V> {
    fn run(mut self, work: Work) -> Result<V, Error> {
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

/// A member or a run of frames that is being decoded.
struct Member {
    start: Compressed,
    decompressor: Decompressor,
    /// Unpacked bytes so far.
    produced: u64,
}

impl Member {
    fn new(start: Compressed, encoding: Encoding) -> Result<Self, Error> {
        let restart = match encoding {
            Encoding::Gzip => Restart::Member,
            Encoding::Plain => Restart::Plain,
            Encoding::Zstd => Restart::Frame,
        };
        let at = Position { compressed: start, ..Position::default() };
        let decompressor = Decompressor::restart(encoding, &Checkpoint { at, restart })?;
        Ok(Self { start, decompressor, produced: 0 })
    }

    /// Decodes the next bytes, at least one, and none from `end` (unpacked) on.
    fn decode(
        &mut self,
        feed: &mut Feed,
        buffer: &mut [u8],
        compressed_end: Compressed,
        end: u64,
    ) -> Result<usize, Error> {
        let room = usize::try_from(end - self.produced).unwrap_or(usize::MAX).min(buffer.len());
        let output = buffer.get_mut(..room).unwrap_or_default();
        loop {
            let left = usize::try_from(compressed_end.0.saturating_sub(feed.at.0)).unwrap_or(usize::MAX);
            let input = if left == 0 { &[][..] } else { feed.fill()? };
            let mut input = input.get(..left.min(input.len())).unwrap_or_default();
            let length = input.len();
            let produced = if length == 0 {
                self.decompressor.finish(output)?
            } else {
                self.decompressor.decompress(&mut input, output)?
            };
            let taken = length - input.len();
            feed.take(taken);
            if produced > 0 {
                return Ok(produced);
            }
            if length == 0 {
                return Err(cut());
            }
        }
    }
}

/// Holds an entry of the tar against the table that led to it.
fn agree(table: &LayerTable, records: &HashMap<Uncompressed, u32>, entry: &Entry) -> Result<(), Error> {
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

fn cut() -> Error {
    Error::new(Kind::Corrupt, "the content ends before the layer's table of contents says")
}

fn changed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "reading by the layer's table of contents", error)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "the layer's table of contents cannot be used", error)
}
