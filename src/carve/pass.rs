//! Passes over one layer: hunts, of which everything is kept, and reading content of what is known.

use std::{collections::HashMap, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    CarveOptions, File, Outcome,
    fetch::Fetch,
    file::Found,
    hunt::{Extent, Hunt, Query},
    sink::{Reader, Sink, Stream},
};
use crate::{
    error::Error,
    image::{Image, rootfs::Content},
    layer::{
        Layer, Plan, Verification,
        extract::extract,
        known::Known,
        scan::{Job, Pass, Reading, Scanned, scan},
    },
    source::growing::Demand,
    toc::entries::EntryTree,
};

/// A pass of a hunt.
pub(super) struct Hunting {
    /// Where content went, and how it was come by.
    pub(super) pass: BoxFuture<'static, Result<(Sink, Plan), Error>>,
    /// How far it has come.
    pub(super) demand: Arc<Demand>,
    /// Whether it goes on where an earlier one stopped.
    pub(super) resumed: bool,
}

/// Content on its way: where it went, what vouches for it, how it was read.
pub(super) type Fetching = BoxFuture<'static, Result<(Sink, Verification, Plan), Error>>;

impl Image {
    /// One pass of a hunt, whose findings are kept.
    pub(super) fn hunt(
        &self,
        known: Vec<Known>,
        layer: usize,
        query: Query<'_>,
        sink: Sink,
    ) -> Result<Hunting, Error> {
        let whole = query.extent != Extent::Answered;
        // What an earlier pass gave away nobody has kept: what is wanted of it is read by its spans.
        let read = self.layer(layer)?.clone();
        let unfinished = read.unfinished();
        let resumed = unfinished.is_some();
        let (table, resume) = match unfinished {
            Some((table, spans)) => (table, Some(spans)),
            None => (EntryTree::new(), None),
        };
        let job = Job { reading: reading(whole), record: true, resume, ..read.job() };
        let demand = Arc::clone(&job.demand);
        let hunt = Hunt::new(known, layer, table, query, sink);
        let pass = async move {
            let scanned = scan(job, hunt).await.map_err(|error| read.error(error))?;
            let Scanned { visitor, pass, spans, plan } = scanned;
            let (table, sink) = visitor.finish();
            read.keep(table, pass, spans);
            Ok((sink, plan))
        };
        Ok(Hunting { pass: pass.boxed(), demand, resumed })
    }

    /// Reads content of a layer that is known: by its table of contents, or by streaming the layer again.
    pub(super) fn fetch(
        &self,
        found: Found,
        content: Content,
        (rest, certain): (Verification, bool),
        known: &[Known],
        options: CarveOptions,
    ) -> Result<File, Error> {
        let (stream, Reader { pieces, .. }) = Stream::direct();
        let Some(of) = known.get(content.layer) else { return Err(self.lost(content)) };
        let wanted = HashMap::from([(of.table().header_offset(content.record), content)]);
        let fetch = Fetch::new(wanted, options.extent(), Sink::Stream(stream));
        let pass = self.fetched(content.layer, of, vec![content.record], fetch, options)?;
        let pass = async move {
            let (_, level, plan) = pass.await?;
            Ok(Outcome { verification: level.min(rest), is_final: certain, plan })
        };
        Ok(File::streaming(found, pieces, pass.boxed()))
    }

    /// Reads what a fetch wants of one layer; what vouches for it, and how it was read.
    pub(super) fn fetched(
        &self,
        layer: usize,
        known: &Known,
        records: Vec<u32>,
        fetch: Fetch,
        options: CarveOptions,
    ) -> Result<Fetching, Error> {
        let read: Layer = self.layer(layer)?.clone();
        let extraction = read.extraction(known);
        if let Some(job) = extraction.filter(|job| job.verification() >= options.least) {
            let (level, plan) = (job.verification(), job.plan());
            let pass = async move {
                let fetched = extract(job, records, fetch).await.and_then(Fetch::finish);
                let sink = fetched.map_err(|error| {
                    if error.is_corrupt() {
                        read.forget();
                    }
                    read.error(error)
                })?;
                Ok((sink, level, plan))
            };
            return Ok(pass.boxed());
        }
        let job = Job { reading: reading(options.verifies()), ..read.job() };
        let pass = async move {
            let scanned = scan(job, fetch).await.map_err(|error| read.error(error))?;
            let sink = scanned.visitor.finish().map_err(|error| read.error(error))?;
            // What was read the second time is vouched for by that pass alone.
            let complete = scanned.pass == Pass::Complete;
            Ok((sink, if complete { Verification::Blob } else { Verification::None }, scanned.plan))
        };
        Ok(pass.boxed())
    }
}

/// How a layer is best read: `whole` to its end whatever it holds.
fn reading(whole: bool) -> Reading {
    if whole { Reading::Whole } else { Reading::Growing }
}
