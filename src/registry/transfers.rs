//! The blob transfers of a session: what they achieve in parallel, and whether the host accepts them.
//!
//! One transfer at a time is the default. Another one is tried once the throughput without it is known, and kept while it raises
//! the throughput by at least a third of an even share. A host that answers parallel requests with 429, 503 or a reset gets one
//! request at a time from then on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{limits, registry::lock};

/// Bytes after which the throughput of a number of transfers is known.
const MEASURED_BYTES: u64 = 1 << 20;

/// Or the time after which it is.
const MEASURED_TIME: Duration = Duration::from_secs(1);

/// The blob transfers of a session.
#[derive(Debug)]
pub(crate) struct Transfers {
    state: Mutex<State>,
    is_sequential: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    /// Requests for blobs whose bodies have not ended.
    requests: usize,
    /// Ranges that readers have requested and not completely received.
    ranges: usize,
    /// The ones among them whose bytes are being received.
    receiving: usize,
    window: Measured,
    window_start: Instant,
    /// By the number of parallel transfers, from 1.
    measured: [Measured; limits::PARALLEL_RANGES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    bytes: u64,
    time: Duration,
}

/// A request for a blob, until its body ends.
#[derive(Debug)]
pub(crate) struct BlobRequest(Arc<Transfers>);

/// A range that a reader has requested, until all of it has been received.
#[derive(Debug)]
pub(crate) struct RangeTransfer {
    transfers: Arc<Transfers>,
    is_receiving: bool,
}

impl Default for Transfers {
    fn default() -> Self {
        let state = State {
            requests: 0,
            ranges: 0,
            receiving: 0,
            window: Measured::default(),
            window_start: Instant::now(),
            measured: Default::default(),
        };
        Self { state: Mutex::new(state), is_sequential: watch::Sender::new(false) }
    }
}

impl Transfers {
    /// Registers a request for a blob.
    pub(crate) fn request(self: &Arc<Self>) -> BlobRequest {
        lock(&self.state).requests += 1;
        BlobRequest(Arc::clone(self))
    }

    /// Registers a range that is about to be requested.
    pub(crate) fn range(self: &Arc<Self>) -> RangeTransfer {
        let mut state = lock(&self.state);
        state.close_window(Instant::now());
        state.ranges += 1;
        RangeTransfer { transfers: Arc::clone(self), is_receiving: false }
    }

    /// Records that the host refused or dropped a request. If it was not the only one, the host gets one at a time from now on.
    pub(crate) fn note_refusal(&self) {
        if lock(&self.state).requests > 1 {
            self.is_sequential.send_replace(true);
        }
    }

    /// Whether the host gets only one request at a time.
    pub(crate) fn is_sequential(&self) -> bool {
        *self.is_sequential.borrow()
    }

    /// Waits until the host gets only one request at a time.
    pub(crate) async fn sequential(&self) {
        // The sender is part of this.
        let _ = self.is_sequential.subscribe().wait_for(|is_sequential| *is_sequential).await;
    }

    /// Whether one more transfer raises the throughput, or might: then it has to be tried.
    pub(crate) fn may_add(&self) -> bool {
        let mut state = lock(&self.state);
        state.close_window(Instant::now());
        let ranges = state.ranges;
        let pays = |count| match (state.throughput(count), state.throughput(count + 1)) {
            (Some(before), Some(after)) => pays(count, before, after),
            (Some(_), None) => true,
            (None, _) => count < ranges,
        };
        ranges == 0 || ranges < limits::PARALLEL_RANGES && !self.is_sequential() && (1..=ranges).all(pays)
    }

    /// Whether a second transfer raises the throughput; `None` if that is unknown.
    pub(crate) fn pays(&self) -> Option<bool> {
        if self.is_sequential() {
            return Some(false);
        }
        let state = lock(&self.state);
        let (one, two) = state.throughput(1).zip(state.throughput(2))?;
        Some(pays(1, one, two))
    }
}

/// Whether raising the number of transfers from `count` to one more raised the throughput enough.
fn pays(count: usize, before: f64, after: f64) -> bool {
    after >= before * (1.0 + 1.0 / (3.0 * count as f64))
}

impl State {
    /// Adds what was received since the last change to the measurements. Not while a transfer is yet to begin, or its bytes wait in
    /// the transport.
    fn close_window(&mut self, now: Instant) {
        let window = std::mem::take(&mut self.window);
        let time = now.saturating_duration_since(std::mem::replace(&mut self.window_start, now));
        let measured = self.receiving.checked_sub(1).and_then(|index| self.measured.get_mut(index));
        if let Some(measured) = measured.filter(|_| self.ranges == self.receiving) {
            measured.bytes += window.bytes;
            measured.time += time;
        }
    }

    /// Bytes a second with this many transfers, if known.
    fn throughput(&self, transfers: usize) -> Option<f64> {
        let measured = self.measured.get(transfers.checked_sub(1)?)?;
        let is_known = measured.bytes >= MEASURED_BYTES || measured.time >= MEASURED_TIME;
        is_known.then(|| measured.bytes as f64 / measured.time.as_secs_f64().max(f64::MIN_POSITIVE))
    }
}

impl RangeTransfer {
    /// Records received bytes.
    pub(crate) fn received(&mut self, bytes: u64) {
        let mut state = lock(&self.transfers.state);
        if !std::mem::replace(&mut self.is_receiving, true) {
            state.close_window(Instant::now());
            state.receiving += 1;
        }
        state.window.bytes += bytes;
    }
}

impl Drop for RangeTransfer {
    fn drop(&mut self) {
        let mut state = lock(&self.transfers.state);
        state.close_window(Instant::now());
        state.ranges -= 1;
        state.receiving -= usize::from(self.is_receiving);
    }
}

impl Drop for BlobRequest {
    fn drop(&mut self) {
        lock(&self.0.state).requests -= 1;
    }
}

#[cfg(test)]
impl Transfers {
    /// Transfers of a link on which every connection has the same share.
    pub(crate) fn with_throughputs(throughputs: [u64; limits::PARALLEL_RANGES]) -> Arc<Self> {
        let transfers = Self::default();
        let measured = throughputs.map(|bytes| Measured { bytes, time: MEASURED_TIME });
        lock(&transfers.state).measured = measured;
        Arc::new(transfers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Receives for a second through this many transfers at `rate` bytes a second each.
    async fn receive(transfers: &Arc<Transfers>, count: u64, rate: u64) {
        let mut ranges: Vec<_> = (0..count).map(|_| transfers.range()).collect();
        for range in &mut ranges {
            range.received(0);
        }
        tokio::time::sleep(SECOND).await;
        for range in &mut ranges {
            range.received(rate);
        }
    }

    /// Whether another transfer may be added to this many.
    fn may_add(transfers: &Arc<Transfers>, count: usize) -> bool {
        let _ranges: Vec<_> = (0..count).map(|_| transfers.range()).collect();
        transfers.may_add()
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_is_added_while_the_last_one_raised_the_throughput() {
        let transfers = Arc::<Transfers>::default();
        assert!(may_add(&transfers, 0) && !may_add(&transfers, 1), "nothing is measured");
        assert_eq!(transfers.pays(), None);
        receive(&transfers, 1, 6_000_000).await;
        assert!(may_add(&transfers, 1) && !may_add(&transfers, 2));
        receive(&transfers, 2, 5_000_000).await;
        assert!(may_add(&transfers, 2));
        assert_eq!(transfers.pays(), Some(true));
        // No faster than two.
        receive(&transfers, 3, 3_400_000).await;
        assert!(may_add(&transfers, 1) && !may_add(&transfers, 2) && !may_add(&transfers, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn no_transfer_is_added_where_two_share_the_throughput_of_one() {
        let transfers = Arc::<Transfers>::default();
        receive(&transfers, 1, 6_000_000).await;
        receive(&transfers, 2, 3_500_000).await;
        assert!(!may_add(&transfers, 1));
        assert_eq!(transfers.pays(), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_four_transfers_are_tried() {
        let transfers = Arc::<Transfers>::default();
        for count in 1..=4 {
            receive(&transfers, count, 6_000_000).await;
            assert_eq!(may_add(&transfers, count as usize), count < 4, "{count}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_has_not_begun_is_not_measured() {
        let transfers = Arc::<Transfers>::default();
        let _waiting = transfers.range();
        receive(&transfers, 1, 6_000_000).await;
        assert!(!may_add(&transfers, 0), "one range is waiting, and nothing is measured");
    }

    #[test]
    fn a_refusal_counts_only_while_another_request_is_open() {
        let transfers = Arc::<Transfers>::default();
        let _first = transfers.request();
        transfers.note_refusal();
        assert!(!transfers.is_sequential());
        let _second = transfers.request();
        transfers.note_refusal();
        assert!(transfers.is_sequential());
        assert_eq!(transfers.pays(), Some(false));
        let _range = transfers.range();
        assert!(!transfers.may_add());
    }
}
