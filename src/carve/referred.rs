//! The table of a large layer in a SOCI index that merely refers to the image: few images have one, so it is asked for beside the scan
//! of the layer and delays nothing.
//!
//! ```text
//! scan      [ first range ][ range, growing ][ … ]│ dropped, where less is still to be read by the table
//! beside                   └ what refers to the image? ─▶ index ─▶ zTOC of the layer ─▶ spans
//! ```

use std::future;

use super::{CarveOptions, hunt::stack};
use crate::{
    image::{Image, rootfs::Resolution},
    layer::{Layer, Verification, known::Known},
    offset::Compressed,
    source::growing::Demand,
};

/// What a scan has asked for by when a table is looked for, in compressed bytes: what lies before costs less to read than to ask, and
/// a SOCI index's own spans are as long. The question would keep a connection from the first ranges.
const FAR_BYTES: u64 = 4 << 20;

impl CarveOptions {
    /// Whether answers will do that nothing vouches for, of this layer.
    pub(super) fn may_be_referred(self, layer: &Layer) -> bool {
        self.least == Verification::None && layer.may_be_referred()
    }
}

impl Image {
    /// Waits for a table of a layer by which less of it has to be read for a path than by going on with the scan. There may never be
    /// one.
    pub(super) async fn referred(
        &self,
        layer: &Layer,
        demand: &Demand,
        path: &[u8],
        options: CarveOptions,
    ) -> Known {
        if options.may_be_referred(layer) {
            demand.grown(FAR_BYTES).await;
            if let Some(known) = layer.referred().await
                && self.is_shorter(layer, &known, demand.requested(), path, options)
            {
                return known;
            }
        }
        future::pending().await
    }

    /// Whether the table leads to content in the layer, past all that the scan has asked for.
    fn is_shorter(
        &self,
        layer: &Layer,
        table: &Known,
        requested: u64,
        path: &[u8],
        options: CarveOptions,
    ) -> bool {
        let mut known = self.known();
        if let Some(known) = known.get_mut(layer.index()) {
            *known = table.clone();
        }
        // That the layer has nothing for the path is for the layer itself to say, and nothing is lost by waiting for it: a scan of a
        // layer that has not got it goes to its end anyway.
        let Resolution::Found { content, .. } = stack(&known).resolve(path, options.resolution()).0 else {
            return false;
        };
        let job = layer.extraction(table).filter(|_| content.layer == layer.index());
        let ranges = job.map(|job| job.ranges(&[content.record])).unwrap_or_default();
        ranges.first().is_some_and(|range| range.start >= Compressed(requested))
    }
}
