//! What would be read of a layer, told without reading any of it.

use std::ops::Range;

use super::{Layer, Plan, Verification, known::Known};
use crate::{offset::Compressed, source::growing};

/// What would be read of one layer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let selection = layerslayer::Selection::paths(["/etc/passwd"]);
/// for read in image.plan(&selection, &Default::default()).await? {
///     println!("layer {}: {}, at most {} bytes", read.layer, read.plan, read.bytes);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlannedRead {
    /// Bytes of the blob, at most.
    pub bytes: u64,
    /// Whether it will be read; otherwise it depends on what the layers before it in the plan hold.
    pub is_certain: bool,
    /// The layer's index, 0 = base.
    pub layer: usize,
    /// How it would be read.
    pub plan: Plan,
    /// What would be asked for first, half-open, in bytes of the blob. The rest depends on what comes; of [`Plan::Toc`] this is all.
    pub ranges: Vec<Range<u64>>,
    /// Requests, at most: without those for tokens, redirects and what has to be tried again. Nobody knows where a table inside the blob
    /// has to be read first, or a plain tar is hopped through.
    pub requests: Option<u64>,
}

impl PlannedRead {
    /// Reads exactly these ranges.
    pub(crate) fn exactly(layer: usize, plan: Plan, ranges: Vec<Range<Compressed>>) -> Self {
        let ranges: Vec<_> = ranges.into_iter().map(|range| range.start.0..range.end.0).collect();
        let ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        let bytes = ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
        Self { bytes, is_certain: true, layer, plan, requests: Some(ranges.len() as u64), ranges }
    }
}

impl Layer {
    /// What listing the layer would read of it, with nothing in the list that is vouched for by less than `least`; `None` if all that
    /// it takes is known. The cache is looked at, the layer is not.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::Verification;
    ///
    /// let read = image.layer(0)?.plan_listing(Verification::None).await;
    /// assert_eq!(read.map(|read| read.bytes), Some(356));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn plan_listing(&self, least: Verification) -> Option<PlannedRead> {
        self.learn_cached(least).await;
        if self.known().is_known(least) { None } else { Some(self.planned(least, true, true)) }
    }

    /// How the layer would be read, which is not known yet: `whole` where nothing less will do.
    pub(crate) fn planned(&self, least: Verification, whole: bool, is_certain: bool) -> PlannedRead {
        let (layer, size) = (self.index, self.size());
        if let Some(first) = self.table_inside(least) {
            let (plan, ranges) = (Plan::Chunks, vec![first]);
            let (bytes, requests) = (size, None);
            return PlannedRead { bytes, is_certain, layer, plan, ranges, requests };
        }
        let from = match self.known() {
            Known::Partly(_) => {
                let last = self.unfinished().and_then(|(_, spans)| Some(spans.spans.last()?.at.compressed.0));
                last.unwrap_or(0)
            }
            _ => 0,
        };
        let (first, requests) = match whole {
            true => (from..size, u64::from(size > from)),
            false => growing::forecast(from, size),
        };
        // Of a plain tar, what nobody wants is hopped over.
        let is_plain = self.media_type.layer_encoding() == Some("tar");
        let requests = (whole || !is_plain).then_some(requests);
        let ranges = Some(first).filter(|range| !range.is_empty()).into_iter().collect();
        let (bytes, plan) = (size.saturating_sub(from), Plan::Scan);
        PlannedRead { bytes, is_certain, layer, plan, ranges, requests }
    }
}
