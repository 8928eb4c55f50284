//! Reads a range of a blob. Responses are checked against the request, and a transfer that breaks resumes at the same byte.

use std::{fmt, mem, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::{
    limits,
    oci::digest::Digest,
    registry::{
        error::{Error, Kind},
        http::{response::Response, transfer_error::TransferError},
        message::ContentRange,
        retry::Retry,
        session::Session,
        transfers::BlobRequest,
    },
};

/// Progress after which a broken transfer resumes without a pause.
const STRIDE_BYTES: u64 = 64 << 10;

/// Least bytes of a partial response after which the next request is sent without a pause: some servers send only small parts.
const LEAST_PART_BYTES: u64 = 4 << 10;

/// Reads a range of a blob in order. Dropping it ends the transfer.
pub(crate) struct BlobReader {
    session: Arc<Session>,
    digest: Digest,
    /// What is still to be delivered.
    wanted: Range<u64>,
    size: u64,
    transfer: Option<Transfer>,
    retry: Retry,
    /// Bytes that may still be read again and discarded.
    skip_budget: u64,
    /// Whether a server that ignores ranges has sent the bytes before the range once.
    has_skipped: bool,
}

/// A response that is being read.
struct Transfer {
    response: Response,
    /// Bytes before the wanted ones, if the server ignored the range.
    skip: u64,
    /// Its end in the blob: after the wanted bytes if it is the whole blob, possibly before their end if it is a part.
    end: u64,
    delivered: u64,
    /// Counts it among the parallel requests.
    _request: BlobRequest,
}

impl BlobReader {
    pub(super) fn new(session: Arc<Session>, digest: Digest, range: Range<u64>, size: u64) -> Self {
        let retry = Retry::new(&session.http, &session.budget);
        let end = range.end.min(size);
        let wanted = range.start.min(end)..end;
        let (skip_budget, has_skipped) = (limits::SKIP_BYTES, false);
        Self { session, digest, wanted, size, transfer: None, retry, skip_budget, has_skipped }
    }

    /// The next piece, never empty; `None` once the whole range has been delivered.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            self.finish().await?;
            if self.wanted.is_empty() {
                return Ok(None);
            }
            self.start().await?;
            let Some(transfer) = &mut self.transfer else { continue };
            let failure = match transfer.response.chunk().await {
                Ok(Some(chunk)) => match self.take(chunk) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => None,
                Err(failure) if failure.is_transient() => Some(failure),
                Err(failure) => return Err(failure.into_error(&self.operation())),
            };
            self.resume(failure).await?;
        }
    }

    /// Sends the request, unless a response is being read, and waits for its head.
    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        if self.transfer.is_some() || self.wanted.is_empty() {
            return Ok(());
        }
        let is_whole = self.wanted == (0..self.size);
        let range = if is_whole { None } else { Some(&self.wanted) };
        let task = self.session.blob_task(&self.digest);
        let wanted = self.session.counters.check(self.wanted.end - self.wanted.start);
        wanted.map_err(|failure| failure.into_error(&task.operation))?;
        let request = self.session.transfers.request();
        let mut response = self.session.get(&task, range, &mut self.retry).await?;
        self.transfer = match response.status.as_u16() {
            200 => Some(self.accept_whole(response, request)?),
            206 => Some(self.accept_part(response, request)?),
            416 => return Err(self.out_of_range(&response)),
            _ => return Err(self.session.unexpected(&task, &mut response, Kind::BlobUnknown).await),
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
    pub(super) fn operation(&self) -> String {
        self.session.blob_task(&self.digest).operation
    }

    /// The wanted part of a chunk.
    fn take(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let transfer = self.transfer.as_mut()?;
        let skipped = usize::try_from(transfer.skip).unwrap_or(usize::MAX).min(chunk.len());
        transfer.skip -= skipped as u64;
        let mut piece = chunk.split_off(skipped);
        let left = self.wanted.end.min(transfer.end) - self.wanted.start;
        if piece.len() as u64 > left {
            // More than that: irrelevant in a whole blob, otherwise detected by `finish`.
            let beyond = piece.split_off(usize::try_from(left).unwrap_or(usize::MAX));
            transfer.response.put_back(beyond);
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

    /// Drops a response that is complete, after checking that no more arrives than was announced.
    async fn finish(&mut self) -> Result<(), Error> {
        let (place, is_done) = (self.wanted.start, self.wanted.is_empty());
        let is_given = |transfer: &mut Transfer| is_done || transfer.end == place;
        let Some(mut transfer) = self.transfer.take_if(is_given) else { return Ok(()) };
        if transfer.end > place {
            return Ok(());
        }
        if let Ok(Some(_)) = transfer.response.chunk().await {
            transfer.response.abandon();
            return Err(Error::corrupt(self.operation(), "more bytes arrived than were announced"));
        }
        if !is_done && transfer.delivered < LEAST_PART_BYTES {
            // A small part is progress, but requests for a few bytes each must not follow each other immediately.
            let detail = format!(
                "the server sends no more than {} B of a range at a time, at byte {place} of {}",
                transfer.delivered, self.size
            );
            self.retry.pause(Error::unavailable(self.operation(), detail), None).await?;
        }
        Ok(())
    }

    /// Prepares the next request at the byte where the response broke off.
    async fn resume(&mut self, failure: Option<TransferError>) -> Result<(), Error> {
        let transfer = self.transfer.take();
        if transfer.as_ref().is_some_and(|transfer| transfer.delivered >= STRIDE_BYTES) {
            return Ok(());
        }
        self.session.transfers.note_refusal();
        drop(transfer);
        let place = format!("at byte {} of {}, repeatedly", self.wanted.start, self.size);
        let error = match failure {
            Some(failure) => failure.into_error(&self.operation()).after(place),
            None => Error::unavailable(self.operation(), format!("the response ended early, {place}")),
        };
        self.retry.pause(error, None).await
    }

    fn accept_whole(&mut self, response: Response, request: BlobRequest) -> Result<Transfer, Error> {
        if let Some(length) = response.length.filter(|length| *length != self.size) {
            return Err(self.wrong_size(length));
        }
        let skip = self.wanted.start;
        if self.wanted != (0..self.size) {
            self.session.note_ignored_range();
        }
        // There is no other way to the range: reading the layer from its start costs the same.
        let again = if mem::replace(&mut self.has_skipped, true) { skip } else { 0 };
        if again > self.skip_budget {
            let detail = format!(
                "the server ignores ranges, and byte {skip} is too far to read everything before it once more (more \
                 than {} bytes in all)",
                limits::SKIP_BYTES
            );
            return Err(Error::other(self.operation(), detail));
        }
        self.skip_budget -= again;
        Ok(Transfer { response, skip, end: self.size, delivered: 0, _request: request })
    }

    /// A server may send less than requested (RFC 9110, section 15.3.7): the rest is requested next.
    fn accept_part(&self, response: Response, request: BlobRequest) -> Result<Transfer, Error> {
        let wrong = |detail: String| Err(Error::corrupt(self.operation(), detail));
        let Some(came) = ContentRange::of(&response.headers) else {
            return wrong("the server answers a range without a valid Content-Range".into());
        };
        let Range { start, end } = came.range.unwrap_or(0..0);
        if start != self.wanted.start || end <= start || end > self.wanted.end {
            return wrong(format!(
                "bytes {}..{} were requested, and the server answers with {start}..{end}",
                self.wanted.start, self.wanted.end
            ));
        }
        if let Some(total) = came.total.filter(|total| *total != self.size) {
            return Err(self.wrong_size(total));
        }
        let length = end - start;
        if let Some(announced) = response.length.filter(|announced| *announced != length) {
            return wrong(format!(
                "the server announces {length} bytes in Content-Range, and {announced} in Content-Length"
            ));
        }
        Ok(Transfer { response, skip: 0, end, delivered: 0, _request: request })
    }

    fn out_of_range(&self, response: &Response) -> Error {
        match ContentRange::of(&response.headers).and_then(|range| range.total) {
            Some(total) if total != self.size => self.wrong_size(total),
            _ => Error::other(self.operation(), "the server refuses a range within the blob (416)"),
        }
    }

    fn wrong_size(&self, found: u64) -> Error {
        Error::corrupt(self.operation(), format!("it has {found} bytes at the server, not {}", self.size))
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
