//! What would be read of a layer, without reading any of it.

use std::ops::Range;

use crate::{
    layer::{Layer, toc_state::TocState},
    offset::Compressed,
    read::{method::ReadMethod, verification::Verification},
    reader::{
        discover::{discover_cached, embedded},
        driver,
    },
    source::adaptive,
};

use super::PeekOptions;

/// What would be read of one layer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let selection = layerslayer::Selection::paths(["/etc/passwd"]);
/// for read in image.plan(&selection, &Default::default()).await? {
///     println!("layer {}: {}, at most {} bytes", read.layer, read.method, read.bytes);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlannedRead {
    /// Bytes of the blob, at most.
    pub bytes: u64,
    /// Whether it will certainly be read; else that depends on what the layers before it in the plan hold.
    pub is_certain: bool,
    /// The layer's index, 0 = base.
    pub layer: usize,
    /// How it would be read.
    pub method: ReadMethod,
    /// The first ranges that would be requested, half-open, in bytes of the blob. The rest depends on the content; with
    /// [`ReadMethod::Toc`] this is all.
    pub ranges: Vec<Range<u64>>,
    /// Requests, at most: without those for tokens, redirects and retries. `None` where a TOC embedded in the blob has to be read
    /// first, or content of a plain tar is skipped.
    pub requests: Option<u64>,
}

impl PlannedRead {
    /// Reads exactly these ranges.
    pub(crate) fn exactly(layer: usize, method: ReadMethod, ranges: Vec<Range<Compressed>>) -> Self {
        let ranges: Vec<_> = ranges.into_iter().map(|range| range.start.0..range.end.0).collect();
        let ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        let bytes = ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
        Self { bytes, is_certain: true, layer, method, requests: Some(ranges.len() as u64), ranges }
    }
}

impl Layer {
    /// What listing the layer would read of it; `None` if all of it is known. The cache is consulted, the layer is not read.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let read = image.layer(0)?.plan_listing(&Default::default()).await;
    /// assert_eq!(read.map(|read| read.bytes), Some(356));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn plan_listing(&self, options: &PeekOptions) -> Option<PlannedRead> {
        discover_cached(self, options.min_verification).await;
        let is_known = self.toc.state().satisfies(options.min_verification);
        (!is_known).then(|| planned(self, options.min_verification, true, true))
    }
}

/// How a layer would be read whose TOC is not known: `whole` to its end.
pub(crate) fn planned(
    layer: &Layer,
    min_verification: Verification,
    whole: bool,
    is_certain: bool,
) -> PlannedRead {
    let (index, size) = (layer.index, layer.size());
    if let Some(first) = embedded::location(layer, min_verification) {
        let (method, ranges) = (ReadMethod::Chunks, vec![first]);
        return PlannedRead { bytes: size, is_certain, layer: index, method, ranges, requests: None };
    }
    let from = match layer.toc.state() {
        TocState::Partial(_) => {
            let partial = driver::load_partial(layer);
            partial.and_then(|(_, spans)| Some(spans.spans.last()?.at.compressed.0)).unwrap_or(0)
        }
        _ => 0,
    };
    let (first, requests) = match whole {
        true => adaptive::forecast_full(from, size, adaptive::pays(&*layer.source)),
        false => adaptive::forecast(from, size),
    };
    // Content of a plain tar that is not wanted is skipped.
    let is_plain = layer.media_type.layer_encoding() == Some("tar");
    let requests = (whole || !is_plain).then_some(requests);
    let ranges = Some(first).filter(|range| !range.is_empty()).into_iter().collect();
    let (bytes, method) = (size.saturating_sub(from), ReadMethod::Scan);
    PlannedRead { bytes, is_certain, layer: index, method, ranges, requests }
}
