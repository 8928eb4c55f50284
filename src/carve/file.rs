//! The content of one file, as it arrives.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream, StreamExt,
    future::{self, BoxFuture, Either},
};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Kind},
    layer::{Plan, Verification},
    tar::entry::Entry,
};

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
    /// The weakest verification over every layer that the answer rests on.
    pub verification: Verification,
    /// False if a layer was not read to its end: a later entry of the same name could replace the answer (the image
    /// specification forbids such layers).
    pub is_final: bool,
    /// How the bytes were come by.
    pub plan: Plan,
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
    pub(super) found: Found,
    body: Body,
    /// The first piece, where it was waited for before anybody asked.
    first: Option<Bytes>,
    outcome: Option<Outcome>,
}

/// What was found at a path.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) layer: usize,
    pub(super) trace: Vec<String>,
}

enum Body {
    Done,
    Held(Bytes, Outcome),
    Spooled(Box<dyn io::Read + Send>, Outcome),
    Streaming { pieces: mpsc::Receiver<Bytes>, pass: BoxFuture<'static, Result<Outcome, Error>> },
}

impl File {
    pub(super) fn held(found: Found, content: Bytes, outcome: Outcome) -> Self {
        Self { found, body: Body::Held(content, outcome), first: None, outcome: None }
    }

    pub(super) fn spooled(found: Found, content: impl io::Read + Send + 'static, outcome: Outcome) -> Self {
        Self { found, body: Body::Spooled(Box::new(content), outcome), first: None, outcome: None }
    }

    pub(super) fn streaming(
        found: Found,
        pieces: mpsc::Receiver<Bytes>,
        pass: BoxFuture<'static, Result<Outcome, Error>>,
    ) -> Self {
        Self { found, body: Body::Streaming { pieces, pass }, first: None, outcome: None }
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

    /// Waits for the first piece, which stays to be given.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.first = self.next().await.transpose()?;
        Ok(())
    }

    /// Waits for something else while what reads the content goes on, as far as it can before anybody takes a piece. Who waits without
    /// this could wait for what a transfer that stands still holds.
    pub(crate) async fn meanwhile<T>(&mut self, other: impl Future<Output = T> + Unpin) -> T {
        let Body::Streaming { pass, .. } = &mut self.body else { return other.await };
        match future::select(other, &mut *pass).await {
            Either::Left((value, _)) => value,
            Either::Right((result, other)) => {
                *pass = future::ready(result).boxed();
                other.await
            }
        }
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
                // A file just written: it comes from the page cache.
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
            Body::Streaming { pieces, pass } => {
                if let Poll::Ready(Some(piece)) = pieces.poll_recv(context) {
                    return Poll::Ready(Some(Ok(piece)));
                }
                let result = ready!(pass.poll_unpin(context));
                // The pass has ended: what is left lies in the channel.
                match (result, pieces.try_recv()) {
                    (Ok(outcome), Ok(piece)) => {
                        let (_, none) = mpsc::channel(1);
                        let pieces = std::mem::replace(pieces, none);
                        let rest = future::ready(Ok(outcome)).boxed();
                        file.body = Body::Streaming { pieces, pass: rest };
                        Poll::Ready(Some(Ok(piece)))
                    }
                    (Ok(outcome), Err(_)) => file.end(outcome),
                    (Err(error), _) => {
                        file.body = Body::Done;
                        Poll::Ready(Some(Err(error)))
                    }
                }
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_a_file_reads_goes_on_while_something_else_is_waited_for() {
        let (told, other) = oneshot::channel();
        let (sender, pieces) = mpsc::channel(1);
        let outcome = Outcome { verification: Verification::Span, is_final: true, plan: Plan::Toc };
        let pass = async move {
            sender.send(Bytes::from_static(b"content")).await.unwrap();
            // What holds the other up is let go by the transfer only.
            told.send(()).unwrap();
            Ok(outcome)
        };
        let entry = Entry::new(b"f".to_vec(), crate::tar::entry::EntryKind::File);
        let mut file = File::streaming(Found { entry, layer: 0, trace: Vec::new() }, pieces, pass.boxed());
        let waited = tokio::time::timeout(Duration::from_secs(20), file.meanwhile(other)).await;
        waited.expect("it stands still").unwrap();
        assert_eq!(file.read_to_end(100).await.unwrap(), b"content");
        assert_eq!(file.outcome(), Some(outcome));
    }
}
