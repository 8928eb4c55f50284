//! The table of contents that a publisher has put into the blob: eStargz, zstd:chunked.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use super::{Layer, Verification};
use crate::{
    error::{Error, Kind},
    limits,
    oci::digest::Digest,
    offset::Compressed,
    source::Source,
    toc::{ContentMap, LayerToc, embedded, estargz, zstd_chunked},
};

impl Layer {
    /// Where reading a table begins that the manifest says to lie inside the blob.
    pub(super) fn table_inside(&self, least: Verification) -> Option<Range<u64>> {
        if least > Verification::Chunk {
            return None;
        }
        let annotation = |key: &str| self.annotations.get(key).map(String::as_str);
        match zstd_chunked::annotations(annotation) {
            Some(location) => location.ok().map(|location| location.range.start.0..location.range.end.0),
            None => {
                annotation(estargz::DIGEST_ANNOTATION)?;
                Some(self.size().saturating_sub(estargz::FOOTER_BYTES)..self.size())
            }
        }
    }
}

/// The table that a blob's publisher has put into it, if the manifest says that there is one, and what vouches for it.
pub(super) async fn published(layer: &Layer) -> Result<Option<(LayerToc, Verification)>, Error> {
    if layer.source.ignores_ranges() {
        // It lies at the end, and costs all of the blob.
        return Ok(None);
    }
    let annotation = |key: &str| layer.annotations.get(key).map(String::as_str);
    let size = layer.size();
    if let Some(location) = zstd_chunked::annotations(annotation) {
        let location = location.map_err(lies)?;
        if location.range.end.0 > size {
            return Err(lies(embedded::Error::Position));
        }
        let bytes = read(&*layer.source, location.range.clone()).await?;
        let level = level(location.digest.is_some() || location.unpacked_digest.is_some());
        return blocking(move || zstd_chunked::toc(&bytes, &location, size))
            .await
            .map(|toc| Some((toc, level)));
    }
    let Some(expected) = annotation(estargz::DIGEST_ANNOTATION) else { return Ok(None) };
    let expected: Digest = expected.parse().map_err(lies)?;
    let start = size.saturating_sub(estargz::FOOTER_BYTES);
    let tail = read(&*layer.source, Compressed(start)..Compressed(size)).await?;
    let Some(estargz::Footer::Toc { offset }) = estargz::footer(&tail) else { return Ok(None) };
    if layer.source.ignores_ranges() {
        return Ok(None);
    }
    if offset.0 >= start {
        return Err(Error::new(Kind::Corrupt, format!("its footer says that its table begins at {offset}")));
    }
    let bytes = read(&*layer.source, offset..Compressed(start)).await?;
    let toc = blocking(move || estargz::toc(&bytes, Some(&expected), size, offset)).await?;
    Ok(Some((toc, Verification::Chunk)))
}

/// What can vouch for the content that a table leads to, whatever vouches for the table.
pub(super) fn content_level(toc: &LayerToc) -> Verification {
    match &toc.content {
        ContentMap::Chunks(chunks) => level(chunks.are_verifiable()),
        _ => Verification::Chunk,
    }
}

fn level(is_chained: bool) -> Verification {
    if is_chained { Verification::Chunk } else { Verification::None }
}

async fn read(source: &dyn Source, range: Range<Compressed>) -> Result<Bytes, Error> {
    let length = range.end.0.saturating_sub(range.start.0);
    if length > limits::TOC_BYTES {
        return Err(Error::new(
            Kind::Corrupt,
            format!("its table of contents is said to have {length} bytes"),
        ));
    }
    let mut bytes = BytesMut::new();
    let mut stream = source.open(range).await?;
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

async fn blocking<E>(work: impl FnOnce() -> Result<LayerToc, E> + Send + 'static) -> Result<LayerToc, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(lies),
        Err(error) => Err(Error::caused(Kind::Other, "reading was interrupted", error)),
    }
}

fn lies(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "the table of contents inside the blob cannot be used", error)
}
