//! Reading a range of a blob: what comes is held against what was asked for, and cut connections are taken up again where they
//! broke.

use std::{fmt, mem, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::{
    limits,
    oci::digest::Digest,
    registry::{
        error::{Error, Kind},
        http::answer::{Answer, FailureKind},
        response::ContentRange,
        retry::Retry,
        session::Session,
        transfers::BlobRequest,
    },
};

/// Progress from which a cut connection is taken up again without a pause.
const STRIDE_BYTES: u64 = 64 << 10;

/// Least of a range that a server may send at a time without a pause before the next: some send no more than so much of anything.
const LEAST_PART_BYTES: u64 = 4 << 10;

/// Reads a range of a blob in order. Dropping it ends the transfer.
pub(crate) struct BlobReader {
    session: Arc<Session>,
    digest: Digest,
    /// What is still to be given.
    wanted: Range<u64>,
    size: u64,
    transfer: Option<Transfer>,
    retry: Retry,
    /// Bytes that may still be read again and thrown away.
    skip_budget: u64,
    /// Whether a server that ignores ranges has sent what lies before the range.
    has_skipped: bool,
}

/// An answer that is being read.
struct Transfer {
    answer: Answer,
    /// Bytes before the wanted ones, where the server ignored the range.
    skip: u64,
    /// Where it ends in the blob: a whole blob behind the wanted bytes, a part perhaps before their end.
    end: u64,
    delivered: u64,
    /// Counts it among the parallel requests.
    _request: BlobRequest,
}

impl BlobReader {
    pub(super) fn new(session: Arc<Session>, digest: Digest, range: Range<u64>, size: u64) -> Self {
        let retry = Retry::new(&session.http);
        let end = range.end.min(size);
        let wanted = range.start.min(end)..end;
        let (skip_budget, has_skipped) = (limits::SKIP_BYTES, false);
        Self { session, digest, wanted, size, transfer: None, retry, skip_budget, has_skipped }
    }

    /// The next piece, never empty; `None` once the whole range has been given.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            self.finish().await?;
            if self.wanted.is_empty() {
                return Ok(None);
            }
            self.start().await?;
            let Some(transfer) = &mut self.transfer else { continue };
            let problem = match transfer.answer.chunk().await {
                Ok(Some(chunk)) => match self.take(chunk) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => "the answer ended early".to_owned(),
                Err(failure) if failure.kind == FailureKind::OverBudget => {
                    return Err(failure.into_error(&self.doing()));
                }
                Err(failure) => failure.to_string(),
            };
            self.resume(&problem).await?;
        }
    }

    /// Sends the request, if none is being answered, and waits for the head of the answer.
    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        if self.transfer.is_some() || self.wanted.is_empty() {
            return Ok(());
        }
        let is_whole = self.wanted == (0..self.size);
        let range = if is_whole { None } else { Some(&self.wanted) };
        let task = self.session.blob_task(&self.digest);
        let wanted = self.session.counters.check(self.wanted.end - self.wanted.start);
        wanted.map_err(|failure| failure.into_error(&task.doing))?;
        let request = self.session.transfers.request();
        let mut answer = self.session.get(&task, range, &mut self.retry).await?;
        self.transfer = match answer.status.as_u16() {
            200 => Some(self.accept_whole(answer, request)?),
            206 => Some(self.accept_part(answer, request)?),
            416 => return Err(self.out_of_range(&answer)),
            _ => return Err(self.session.unexpected(&task, &mut answer, Kind::BlobUnknown).await),
        };
        Ok(())
    }

    /// The pieces as a stream.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        stream::try_unfold(self, |mut reader| async move {
            let piece = reader.next().await?;
            Ok(piece.map(|piece| (piece, reader)))
        })
    }

    /// What is being done, for messages.
    pub(super) fn doing(&self) -> String {
        self.session.blob_task(&self.digest).doing
    }

    /// The wanted part of a chunk.
    fn take(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let transfer = self.transfer.as_mut()?;
        let skipped = usize::try_from(transfer.skip).unwrap_or(usize::MAX).min(chunk.len());
        transfer.skip -= skipped as u64;
        let mut piece = chunk.split_off(skipped);
        let left = self.wanted.end.min(transfer.end) - self.wanted.start;
        if piece.len() as u64 > left {
            // More than that: of no concern in a whole blob, and found out by `finish` otherwise.
            let beyond = piece.split_off(usize::try_from(left).unwrap_or(usize::MAX));
            transfer.answer.put_back(beyond);
        }
        if piece.is_empty() {
            return None;
        }
        let length = piece.len() as u64;
        self.wanted.start += length;
        transfer.delivered += length;
        self.retry.progress();
        Some(piece)
    }

    /// Lets go of an answer of which everything has come; what it has announced is all that may come.
    async fn finish(&mut self) -> Result<(), Error> {
        let (place, is_done) = (self.wanted.start, self.wanted.is_empty());
        let is_given = |transfer: &mut Transfer| is_done || transfer.end == place;
        let Some(mut transfer) = self.transfer.take_if(is_given) else { return Ok(()) };
        if transfer.end > place {
            return Ok(());
        }
        if let Ok(Some(_)) = transfer.answer.chunk().await {
            transfer.answer.abandon();
            return Err(Error::corrupt(self.doing(), "more bytes came than were announced"));
        }
        if !is_done && transfer.delivered < LEAST_PART_BYTES {
            // Progress, so there is always another attempt; but not one after the other for a few bytes each.
            self.retry.pause(None).await;
        }
        Ok(())
    }

    /// Gets ready to go on where the answer broke off.
    async fn resume(&mut self, problem: &str) -> Result<(), Error> {
        let transfer = self.transfer.take();
        if transfer.as_ref().is_some_and(|transfer| transfer.delivered >= STRIDE_BYTES) {
            return Ok(());
        }
        self.session.transfers.note_refusal();
        drop(transfer);
        if self.retry.pause(None).await {
            return Ok(());
        }
        let problem = format!("{problem}, at byte {} of {}, again and again", self.wanted.start, self.size);
        Err(Error::unavailable(self.doing(), problem).advise("try again later"))
    }

    fn accept_whole(&mut self, answer: Answer, request: BlobRequest) -> Result<Transfer, Error> {
        if let Some(length) = answer.length.filter(|length| *length != self.size) {
            return Err(self.wrong_size(length));
        }
        let skip = self.wanted.start;
        if self.wanted != (0..self.size) {
            self.session.note_ignored_range();
        }
        // There is no other way to the range: a layer that is read from its start costs no less.
        let again = if mem::replace(&mut self.has_skipped, true) { skip } else { 0 };
        if again > self.skip_budget {
            let problem = format!(
                "the server ignores ranges, and byte {skip} is too far to read everything before it once more (more \
                 than {} bytes in all)",
                limits::SKIP_BYTES
            );
            return Err(Error::other(self.doing(), problem));
        }
        self.skip_budget -= again;
        Ok(Transfer { answer, skip, end: self.size, delivered: 0, _request: request })
    }

    /// A server may send less than it was asked for (RFC 9110, section 15.3.7): the rest is asked for then.
    fn accept_part(&self, answer: Answer, request: BlobRequest) -> Result<Transfer, Error> {
        let wrong = |problem: String| Err(Error::corrupt(self.doing(), problem));
        let Some(came) = ContentRange::of(&answer.headers) else {
            return wrong("the server answers a range without saying which (no valid Content-Range)".into());
        };
        let Range { start, end } = came.range.unwrap_or(0..0);
        if start != self.wanted.start || end <= start || end > self.wanted.end {
            return wrong(format!(
                "bytes {}..{} were asked for, and the server answers with {start}..{end}",
                self.wanted.start, self.wanted.end
            ));
        }
        if let Some(total) = came.total.filter(|total| *total != self.size) {
            return Err(self.wrong_size(total));
        }
        let length = end - start;
        if let Some(announced) = answer.length.filter(|announced| *announced > length) {
            return wrong(format!("the server answers with {length} bytes, and announces {announced}"));
        }
        Ok(Transfer { answer, skip: 0, end, delivered: 0, _request: request })
    }

    fn out_of_range(&self, answer: &Answer) -> Error {
        match ContentRange::of(&answer.headers).and_then(|range| range.total) {
            Some(total) if total != self.size => self.wrong_size(total),
            _ => Error::other(self.doing(), "the server refuses a range that lies within the blob (416)"),
        }
    }

    fn wrong_size(&self, found: u64) -> Error {
        Error::corrupt(self.doing(), format!("it has {found} bytes at the server, not {}", self.size))
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("digest", &self.digest)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}
