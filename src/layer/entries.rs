//! The entries of one layer, as a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, Stream, StreamExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::{
    Layer, Verification,
    scan::{self, Pass, Visitor, Want},
};
use crate::{error::Error, tar::entry::Entry};

/// Entries waiting to be taken from the stream; decoding pauses when there are more.
const ENTRIES: usize = 256;

/// The entries of one layer, in the order of its tar: a [`Stream`] of `Result<Entry, Error>`. Dropping it ends the transfer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut entries = image.layer(0)?.entries().await?;
/// while let Some(entry) = entries.next().await {
///     println!("{}", String::from_utf8_lossy(&entry?.path));
/// }
/// assert_eq!(entries.verification(), Some(layerslayer::Verification::Blob));
/// # Ok(())
/// # }
/// ```
pub struct Entries {
    entries: mpsc::Receiver<Entry>,
    pass: Option<BoxFuture<'static, Result<(), Error>>>,
    verification: Option<Verification>,
}

impl Entries {
    pub(super) fn new(layer: &Layer) -> Self {
        let (sender, entries) = mpsc::channel(ENTRIES);
        let (job, layer) = (layer.job(), layer.clone());
        let pass = async move {
            match scan::scan(job, Sender(sender)).await {
                Ok((_, Pass::Complete | Pass::Stopped)) => Ok(()),
                Err(error) => Err(layer.error(error)),
            }
        };
        Self { entries, pass: Some(pass.boxed()), verification: None }
    }

    /// The next entry, `None` at the end of the layer.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(2)?.entries().await?;
    /// let first = entries.next().await.ok_or("an empty layer")??;
    /// assert_eq!(first.path, b"app");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        StreamExt::next(self).await
    }

    /// How far the layer was checked, once the stream has ended without an error.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries().await?;
    /// assert_eq!(entries.verification(), None);
    /// while let Some(entry) = entries.next().await {
    ///     entry?;
    /// }
    /// assert_eq!(entries.verification(), Some(layerslayer::Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verification(&self) -> Option<Verification> {
        self.verification
    }
}

impl Stream for Entries {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(Some(entry)) = self.entries.poll_recv(context) {
                return Poll::Ready(Some(Ok(entry)));
            }
            let Some(pass) = &mut self.pass else { return Poll::Ready(None) };
            let result = ready!(pass.poll_unpin(context));
            self.pass = None;
            match result {
                // What was sent just before the end is still in the channel.
                Ok(()) => self.verification = Some(Verification::Blob),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("verification", &self.verification).finish_non_exhaustive()
    }
}

struct Sender(mpsc::Sender<Entry>);

impl Visitor for Sender {
    fn entry(&mut self, entry: Entry) -> Result<Want, Error> {
        // A closed channel means that the stream was dropped, and with it this pass.
        Ok(if self.0.blocking_send(entry).is_ok() { Want::Entries } else { Want::Nothing })
    }
}
