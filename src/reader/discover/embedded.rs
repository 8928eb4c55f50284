//! The TOC that a publisher has embedded in the blob: eStargz, zstd:chunked.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, TryStreamExt as _, future::BoxFuture};

use super::source::TocSource;
use crate::{
    error::{Error, Kind},
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState},
    },
    limits,
    oci::digest::Digest,
    offset::Compressed,
    read::verification::Verification,
    reader::store::warn_unusable,
    source::Source,
    toc::{ContentMap, LayerToc, embedded, estargz, zstd_chunked},
};

/// The TOC embedded in the blob, if the annotations of the layer say that there is one.
pub(super) struct Embedded;

impl TocSource for Embedded {
    fn id(&self) -> TocSourceId {
        TocSourceId::Embedded
    }

    fn best_level(&self) -> Verification {
        Verification::Chunk
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        async move {
            match read_toc(layer).await {
                Ok(Some((toc, level))) => {
                    let level = level.min(content_level(&toc));
                    Ok((level >= min_verification).then(|| TocState::Complete(Arc::new(toc), level)))
                }
                Ok(None) => Ok(None),
                Err(error) if error.is_corrupt() => {
                    warn_unusable(layer, &error);
                    Ok(None)
                }
                Err(error) => Err(layer.error(error)),
            }
        }
        .boxed()
    }
}

/// Where reading the embedded TOC begins, if the manifest says that there is one and it can be verified to this level.
pub(crate) fn location(layer: &Layer, min_verification: Verification) -> Option<Range<u64>> {
    if min_verification > Verification::Chunk {
        return None;
    }
    let annotation = |key: &str| layer.annotations.get(key).map(String::as_str);
    match zstd_chunked::annotations(annotation) {
        Some(location) => location.ok().map(|location| location.range.start.0..location.range.end.0),
        None => {
            annotation(estargz::DIGEST_ANNOTATION)?;
            Some(layer.size().saturating_sub(estargz::FOOTER_BYTES)..layer.size())
        }
    }
}

/// The embedded TOC, and how far it is verified.
async fn read_toc(layer: &Layer) -> Result<Option<(LayerToc, Verification)>, Error> {
    if layer.source.ignores_ranges() {
        // It is at the end, and costs all of the blob.
        return Ok(None);
    }
    let annotation = |key: &str| layer.annotations.get(key).map(String::as_str);
    let size = layer.size();
    if let Some(location) = zstd_chunked::annotations(annotation) {
        let location = location.map_err(unusable)?;
        if location.range.end.0 > size {
            return Err(unusable(embedded::Error::Position));
        }
        let bytes = read(&*layer.source, location.range.clone()).await?;
        let level = level(location.digest.is_some() || location.unpacked_digest.is_some());
        let toc =
            layer.pool.spawn(async move { zstd_chunked::toc(&bytes, &location, size).map_err(unusable) })?;
        return Ok(Some((toc.await?, level)));
    }
    let Some(expected) = annotation(estargz::DIGEST_ANNOTATION) else { return Ok(None) };
    let expected: Digest = expected.parse().map_err(unusable)?;
    let start = size.saturating_sub(estargz::FOOTER_BYTES);
    let tail = read(&*layer.source, Compressed(start)..Compressed(size)).await?;
    let Some(estargz::Footer::Toc { offset }) = estargz::footer(&tail) else { return Ok(None) };
    if layer.source.ignores_ranges() {
        return Ok(None);
    }
    if offset.0 >= start {
        return Err(Error::new(Kind::Corrupt, format!("its footer says that its TOC begins at {offset}")));
    }
    let bytes = read(&*layer.source, offset..Compressed(start)).await?;
    let toc = layer
        .pool
        .spawn(async move { estargz::toc(&bytes, Some(&expected), size, offset).map_err(unusable) })?;
    Ok(Some((toc.await?, Verification::Chunk)))
}

/// How far content can be verified by a TOC, however far the TOC itself is verified.
fn content_level(toc: &LayerToc) -> Verification {
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
    if length > limits::PACKED_TOC_BYTES {
        return Err(Error::new(Kind::Corrupt, format!("its TOC is said to have {length} bytes")));
    }
    let mut bytes = BytesMut::new();
    let mut stream = source.open(range).await?;
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Corrupt, "the TOC embedded in the blob cannot be used", error)
}
