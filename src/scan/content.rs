//! The content of one file, as a scan reads it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, Kind};

/// Pieces of a file waiting for the caller.
const PIECES: usize = 4;

/// Largest piece of a hole.
const ZEROS: &[u8] = &[0; 64 << 10];

/// What is sent of a file.
pub(super) enum ScanPiece {
    Data(Bytes),
    End,
    Hole(u64),
}

/// The content of one file: a [`Stream`] of pieces. Drop it to skip the rest. It is proved right only when the scan ends without an
/// error: the digest of a layer is known at its end.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// use layerslayer::{ScanAction, ScanOptions};
///
/// let mut scan = image.scan(ScanOptions::each_layer()).filter(|_, _| ScanAction::Read);
/// while let Some(found) = scan.next().await {
///     if let Some(mut content) = found?.content {
///         while let Some(piece) = content.next().await {
///             println!("{} bytes", piece?.len());
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct ScanContent {
    pieces: mpsc::Receiver<ScanPiece>,
    hole: u64,
    is_ended: bool,
}

impl ScanContent {
    pub(super) fn channel() -> (mpsc::Sender<ScanPiece>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES);
        (sender, Self { pieces, hole: 0, is_ended: false })
    }

    /// The next piece, `None` at the end of the file.
    ///
    /// ```
    /// # async fn example(mut content: layerslayer::ScanContent) -> Result<(), layerslayer::Error> {
    /// while let Some(piece) = content.next().await {
    ///     println!("{} bytes", piece?.len());
    /// }
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
    /// If there are more than `limit` bytes, or the layer ends early.
    ///
    /// ```
    /// # async fn example(mut content: layerslayer::ScanContent) -> Result<(), layerslayer::Error> {
    /// let content = content.read_to_end(1 << 20).await?;
    /// # let _ = content;
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
}

impl Stream for ScanContent {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.is_ended {
                return Poll::Ready(None);
            }
            if self.hole > 0 {
                let zeros = Bytes::from_static(ZEROS);
                let length = usize::try_from(self.hole).unwrap_or(usize::MAX).min(zeros.len());
                self.hole -= length as u64;
                return Poll::Ready(Some(Ok(zeros.slice(..length))));
            }
            match ready!(self.pieces.poll_recv(context)) {
                Some(ScanPiece::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Some(ScanPiece::Hole(length)) => self.hole = length,
                Some(ScanPiece::End) => self.is_ended = true,
                None => {
                    self.is_ended = true;
                    let cut = Error::new(Kind::Other, "the scan ended before the end of the file");
                    return Poll::Ready(Some(Err(cut)));
                }
            }
        }
    }
}

impl fmt::Debug for ScanContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanContent").finish_non_exhaustive()
    }
}
