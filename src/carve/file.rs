//! The content of one file, as it arrives.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::sink::ContentPiece;
use crate::{
    error::{Error, Kind},
    read::{method::ReadMethod, task::Task, verification::Verification},
    tar::entry::Entry,
};

/// Largest piece of a hole.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Bytes read at a time from a temporary file.
const CHUNK_BYTES: usize = 256 << 10;

/// How far an answer can be relied on.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut file = image.carve("/etc/passwd").await?;
/// while let Some(piece) = file.next().await {
///     piece?;
/// }
/// if let Some(outcome) = file.outcome() {
///     println!("verified: {}, final: {}", outcome.verification, outcome.is_final);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The weakest verification over every layer that the answer depends on.
    pub verification: Verification,
    /// False if a layer was not read to its end: a later entry of the same name could replace the answer (the image
    /// specification forbids such layers).
    pub is_final: bool,
    /// How the bytes were obtained.
    pub method: ReadMethod,
}

/// A file of an image: what it is, where it comes from, and its content as a [`Stream`] of pieces. Dropping it ends the
/// transfer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut file = image.carve("/etc/passwd").await?;
/// let mut content = Vec::new();
/// while let Some(piece) = file.next().await {
///     content.extend_from_slice(&piece?);
/// }
/// assert_eq!(content.len() as u64, file.entry().size);
/// # Ok(())
/// # }
/// ```
pub struct File {
    pub(super) found: FoundFile,
    body: Body,
    /// The first piece, where it was awaited ahead.
    first: Option<Bytes>,
    outcome: Option<Outcome>,
}

/// What was found at a path.
#[derive(Clone)]
pub(super) struct FoundFile {
    pub(super) entry: Entry,
    pub(super) layer: usize,
    pub(super) trace: Vec<String>,
}

enum Body {
    Done,
    Held(Bytes, Outcome),
    Spooled(Box<dyn io::Read + Send>, Outcome),
    Streaming { pieces: mpsc::Receiver<ContentPiece>, hole: u64, pass: Task<Outcome> },
}

impl File {
    pub(super) fn held(found: FoundFile, content: Bytes, outcome: Outcome) -> Self {
        Self { found, body: Body::Held(content, outcome), first: None, outcome: None }
    }

    pub(super) fn spooled(
        found: FoundFile,
        content: impl io::Read + Send + 'static,
        outcome: Outcome,
    ) -> Self {
        Self { found, body: Body::Spooled(Box::new(content), outcome), first: None, outcome: None }
    }

    pub(super) fn streaming(
        found: FoundFile,
        pieces: mpsc::Receiver<ContentPiece>,
        pass: Task<Outcome>,
    ) -> Self {
        Self { found, body: Body::Streaming { pieces, hole: 0, pass }, first: None, outcome: None }
    }

    /// The file's entry. Its path is the one that links led to.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let file = image.carve("/etc/app.conf").await?;
    /// assert_eq!(file.entry().size, 14);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.found.entry
    }

    /// The layer that holds its name, 0 = base.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let file = image.carve("/etc/app.conf").await?;
    /// assert_eq!(file.layer(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self) -> usize {
        self.found.layer
    }

    /// The path with all symbolic links resolved, without a leading slash.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let file = image.carve("/etc/app.conf").await?;
    /// assert_eq!(file.resolved_path(), b"app/app.conf");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn resolved_path(&self) -> &[u8] {
        &self.found.entry.path
    }

    /// What decided the answer, step by step, in words.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let file = image.carve("/etc/app.conf").await?;
    /// assert_eq!(file.trace()[0], "layer 1: /etc/app.conf is a symbolic link to /app/app.conf");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn trace(&self) -> &[String] {
        &self.found.trace
    }

    /// How far the content can be relied on, once the stream has ended without an error.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut file = image.carve("/etc/app.conf").await?;
    /// assert_eq!(file.outcome(), None);
    /// file.read_to_end(1 << 20).await?;
    /// assert!(file.outcome().is_some_and(|outcome| outcome.is_final));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The next piece of the content, `None` at its end.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut file = image.carve("/etc/app.conf").await?;
    /// let mut size = 0;
    /// while let Some(piece) = file.next().await {
    ///     size += piece?.len();
    /// }
    /// assert_eq!(size, 14);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        StreamExt::next(self).await
    }

    /// The whole content.
    ///
    /// # Errors
    ///
    /// What the transfer and the content give, and if there is more than `limit` bytes.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut file = image.carve("/etc/app.conf").await?;
    /// assert_eq!(file.read_to_end(1 << 20).await?, b"listen = 8080\n");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_to_end(&mut self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if (content.len() + piece.len()) as u64 > limit {
                return Err(Error::new(Kind::Other, format!("the file has more than {limit} bytes")));
            }
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    /// The content as [`tokio::io::AsyncRead`]. An error of the transfer or of the proof is the error of the last read.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut reader = image.carve("/etc/app.conf").await?.into_async_read();
    /// let mut content = Vec::new();
    /// tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut content).await?;
    /// assert_eq!(content, b"listen = 8080\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_async_read(self) -> impl tokio::io::AsyncRead + Send + Unpin {
        StreamReader::new(self.map_err(io::Error::other))
    }

    /// Waits for the first piece, which [`File::next`] then gives.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.first = self.next().await.transpose()?;
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) -> Poll<Option<Result<Bytes, Error>>> {
        self.body = Body::Done;
        self.outcome = Some(outcome);
        Poll::Ready(None)
    }
}

impl Stream for File {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let file = &mut *self;
        if let Some(piece) = file.first.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match &mut file.body {
            Body::Done => Poll::Ready(None),
            Body::Held(content, outcome) => {
                let outcome = *outcome;
                match std::mem::take(content) {
                    content if content.is_empty() => file.end(outcome),
                    content => Poll::Ready(Some(Ok(content))),
                }
            }
            Body::Spooled(reader, outcome) => {
                let outcome = *outcome;
                let mut chunk = vec![0; CHUNK_BYTES];
                // The file was just written: reading it does not block for long.
                match reader.read(&mut chunk) {
                    Ok(0) => file.end(outcome),
                    Ok(length) => {
                        chunk.truncate(length);
                        Poll::Ready(Some(Ok(chunk.into())))
                    }
                    Err(error) => {
                        file.body = Body::Done;
                        Poll::Ready(Some(Err(super::sink::spool_error(error))))
                    }
                }
            }
            Body::Streaming { pieces, hole, pass } => loop {
                if *hole > 0 {
                    let zeros = Bytes::from_static(ZEROS);
                    let zeros = zeros.slice(..usize::try_from(*hole).unwrap_or(usize::MAX).min(zeros.len()));
                    *hole -= zeros.len() as u64;
                    return Poll::Ready(Some(Ok(zeros)));
                }
                // The channel closes when the pass has ended.
                match ready!(pieces.poll_recv(context)) {
                    Some(ContentPiece::Data(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Some(ContentPiece::Hole(length)) => *hole = length,
                    None => {
                        return match ready!(pass.poll_unpin(context)) {
                            Ok(outcome) => file.end(outcome),
                            Err(error) => {
                                file.body = Body::Done;
                                Poll::Ready(Some(Err(error)))
                            }
                        };
                    }
                }
            },
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("File");
        text.field("entry", &self.found.entry).field("layer", &self.found.layer);
        text.field("outcome", &self.outcome).finish_non_exhaustive()
    }
}
