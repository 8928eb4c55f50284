//! The blob of a layer as it is stored, whatever its format: the layers of artifacts need not be tar archives.

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::{
    error::{Error, Kind},
    layer::Layer,
    oci::digest::{Digest, Hasher},
    offset::Compressed,
    read::verification::Verification,
    source::ByteStream,
};

/// The stored blob of a layer, as pieces. The last one is followed by an error if the blob does not match its digest. Dropping
/// it ends the transfer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let layer = image.layer(0)?;
/// let mut blob = layer.blob().await?;
/// let mut content = Vec::new();
/// while let Some(piece) = blob.next().await {
///     content.extend_from_slice(&piece?);
/// }
/// assert!(layer.digest().matches(&content));
/// # Ok(())
/// # }
/// ```
pub struct LayerBlob {
    layer: Layer,
    pieces: ByteStream,
    /// `None` once the blob has been verified or has failed.
    hasher: Option<Hasher>,
    verification: Verification,
}

impl Layer {
    /// The blob of the layer as it is stored: compressed, or of any other format.
    ///
    /// # Errors
    ///
    /// [`Error::is_corrupt`] if a local image lacks the blob; [`Error::is_unavailable`] and [`Error::is_unauthorized`] if the
    /// registry fails.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(image.layer(0)?.blob().await?.next().await.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn blob(&self) -> Result<LayerBlob, Error> {
        let range = Compressed(0)..Compressed(self.source.size());
        let pieces = self.source.open(range).await.map_err(|error| self.error(error.into()))?;
        let hasher = Some(Hasher::new(self.name.algorithm()));
        Ok(LayerBlob { layer: self.clone(), pieces, hasher, verification: Verification::None })
    }
}

impl LayerBlob {
    /// The next piece; `None` after the last one, when the blob has been verified.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut blob = image.layer(0)?.blob().await?;
    /// assert!(blob.next().await.transpose()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let hasher = self.hasher.as_mut()?;
        match self.pieces.next().await {
            Some(Ok(piece)) => {
                hasher.update(&piece);
                Some(Ok(piece))
            }
            Some(Err(error)) => {
                self.hasher = None;
                Some(Err(self.layer.error(error.into())))
            }
            None => {
                let found = self.hasher.take()?.finish();
                self.verify(&found).err().map(Err)
            }
        }
    }

    /// How far the blob was verified: `Blob` once all of it matched its digest. In a `docker save` archive, which has no digests of
    /// blobs, that is only possible for a layer that is not compressed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// use layerslayer::Verification;
    ///
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut blob = image.layer(0)?.blob().await?;
    /// while blob.next().await.transpose()?.is_some() {}
    /// assert_eq!(blob.verification(), Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verification(&self) -> Verification {
        self.verification
    }

    fn verify(&mut self, found: &Digest) -> Result<(), Error> {
        if *found == self.layer.name {
            self.verification = Verification::Blob;
            return Ok(());
        }
        match &self.layer.digest {
            Some(expected) => {
                let message = format!("the blob hashes to {found}, not to {expected}");
                Err(self.layer.error(Error::new(Kind::Corrupt, message)))
            }
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for LayerBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerBlob").field("layer", &self.layer).finish_non_exhaustive()
    }
}
