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
    /// Waits for a table of a layer by which less of it has to be read for these paths than by going on with the scan. There may never
    /// be one.
    pub(super) async fn referred(
        &self,
        layer: &Layer,
        demand: &Demand,
        paths: &[Vec<u8>],
        options: CarveOptions,
    ) -> Known {
        if !paths.is_empty() && options.may_be_referred(layer) {
            demand.grown(FAR_BYTES).await;
            if let Some(known) = layer.referred().await
                && self.is_shorter(layer, &known, demand.requested(), paths, options)
            {
                return known;
            }
        }
        future::pending().await
    }

    /// Whether the table leads to content in the layer for all paths that wait for it, by less than the scan has still to ask for.
    fn is_shorter(
        &self,
        layer: &Layer,
        table: &Known,
        requested: u64,
        paths: &[Vec<u8>],
        options: CarveOptions,
    ) -> bool {
        let now = self.known();
        let mut then = now.clone();
        if let Some(known) = then.get_mut(layer.index()) {
            *known = table.clone();
        }
        let resolve = |known: &[Known], path: &[u8]| stack(known).resolve(path, options.resolution()).0;
        let mut records = Vec::new();
        for path in paths {
            let needed = resolve(&now, path);
            if !matches!(needed, Resolution::NeedMore { layer: index } if index == layer.index()) {
                continue;
            }
            // That the layer has nothing for the path is for the layer itself to say, and nothing is lost by waiting for it: a scan of
            // a layer that has not got it goes to its end anyway.
            match resolve(&then, path) {
                Resolution::Found { content, .. } if content.layer == layer.index() => {
                    records.push(content.record);
                }
                _ => return false,
            }
        }
        records.sort_unstable();
        records.dedup();
        let ranges = layer.extraction(table).map(|job| job.ranges(&records)).unwrap_or_default();
        let by_table = ranges.iter().map(|range| range.end.0 - range.start.0).sum::<u64>();
        let end = ranges.last().map_or(0, |range| range.end.0);
        end.checked_sub(requested).is_some_and(|by_scan| by_scan > 0 && by_table <= by_scan)
    }
}
