//! Where a pass that records stops for checkpoints, and where it samples its position.

use super::{CHECKPOINT_BYTES, Restart};
use crate::offset::{Compressed, Uncompressed};

/// Minimum distance between two candidates, in unpacked bytes.
const CANDIDATE_BYTES: u64 = 256 << 10;

/// Compressed bytes between two samples: the length of a leaf. The decoder stops at each, so four times as many samples
/// make decoding 6 % slower.
const SAMPLE_BYTES: u64 = 64 << 10;

/// The first this many compressed bytes have samples at that distance; it doubles in the next twice as many, and so on.
const DOUBLING_BYTES: u64 = 4 << 30;

/// The next unpacked offset from which a checkpoint is due.
///
/// ```text
/// │ MiB                         │ MiB                    │ MiB
/// │──▶ first ── 256 KiB ──▶ second │──▶ first …          │──▶ a member's start: needs no window, so no second
/// ```
pub(super) struct CheckpointSchedule {
    due: u64,
    /// The MiB that already has its first candidate.
    begun: Option<u64>,
}

impl CheckpointSchedule {
    /// For a pass that starts here with a checkpoint.
    pub(super) fn new(at: Uncompressed) -> Self {
        Self { due: next_mib(at.0), begun: None }
    }

    /// Unpacked bytes until a checkpoint is due: 0 if it is due now.
    pub(super) fn distance(&self, at: Uncompressed) -> u64 {
        self.due.saturating_sub(at.0)
    }

    /// Records that a checkpoint was taken.
    pub(super) fn taken(&mut self, at: Uncompressed, restart: &Restart) {
        let (mib, end) = (at.0 / CHECKPOINT_BYTES, next_mib(at.0));
        let another = match restart {
            Restart::Deflate { window, .. } => !window.is_empty() && self.begun != Some(mib),
            Restart::Frame | Restart::Member | Restart::Plain => false,
        };
        self.begun = Some(mib);
        let second = at.0.saturating_add(CANDIDATE_BYTES);
        self.due = if another && second < end { second } else { end };
    }
}

/// The compressed offsets at which a pass samples how many bytes the blob unpacks to up to there.
///
/// They are the same in every pass of a blob. They are sparser far into the blob, where few layers reach.
#[derive(Debug)]
pub(super) struct SampleSchedule {
    next: u64,
}

impl SampleSchedule {
    /// For a pass that starts here.
    pub(super) fn new(at: Compressed) -> Self {
        let mut schedule = Self { next: SAMPLE_BYTES };
        if at.0 > 0 {
            let length = interval(at.0 - 1);
            schedule.next = at.0.div_ceil(length).saturating_mul(length);
        }
        schedule
    }

    /// Compressed bytes until the next sample; 0 at one until [`advance`](Self::advance) is called.
    pub(super) fn distance(&self, at: Compressed) -> u64 {
        self.next.saturating_sub(at.0)
    }

    /// Moves on to the next sample.
    pub(super) fn advance(&mut self) {
        self.next = self.next.saturating_add(interval(self.next));
    }
}

/// Distance between samples at this offset.
fn interval(at: u64) -> u64 {
    SAMPLE_BYTES << (at / DOUBLING_BYTES + 1).ilog2()
}

fn next_mib(at: u64) -> u64 {
    (at / CHECKPOINT_BYTES).saturating_add(1).saturating_mul(CHECKPOINT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn block(window: usize) -> Restart {
        Restart::Deflate { bits: 0, value: 0, window: vec![0; window] }
    }

    #[test]
    fn each_mib_has_at_most_two_candidates() {
        let mut schedule = CheckpointSchedule::new(Uncompressed(0));
        assert_eq!(schedule.distance(Uncompressed(0)), MIB);
        schedule.taken(Uncompressed(MIB + 10), &block(1));
        assert_eq!(schedule.distance(Uncompressed(MIB + 10)), 256 << 10);
        schedule.taken(Uncompressed(MIB + (300 << 10)), &block(1));
        assert_eq!(schedule.distance(Uncompressed(0)), 2 * MIB);
    }

    #[test]
    fn a_first_candidate_late_in_its_mib_has_no_second() {
        let mut schedule = CheckpointSchedule::new(Uncompressed(0));
        schedule.taken(Uncompressed(2 * MIB - 1), &block(1));
        assert_eq!(schedule.distance(Uncompressed(0)), 2 * MIB);
    }

    #[test]
    fn a_candidate_in_a_later_mib_is_a_first_candidate() {
        let mut schedule = CheckpointSchedule::new(Uncompressed(0));
        schedule.taken(Uncompressed(MIB), &block(1));
        schedule.taken(Uncompressed(2 * MIB + 5), &block(1));
        assert_eq!(schedule.distance(Uncompressed(2 * MIB + 5)), 256 << 10);
    }

    #[test]
    fn a_candidate_without_a_window_is_the_only_one_of_its_mib() {
        for restart in [Restart::Member, Restart::Frame, Restart::Plain, block(0)] {
            let mut schedule = CheckpointSchedule::new(Uncompressed(0));
            schedule.taken(Uncompressed(MIB), &restart);
            assert_eq!(schedule.distance(Uncompressed(MIB)), MIB);
        }
    }

    #[test]
    fn samples_do_not_depend_on_where_a_pass_starts_and_get_sparser() {
        let mut samples = SampleSchedule::new(Compressed(0));
        let (mut at, mut longest) = (0, 0);
        for _ in 0..200_000 {
            let next = at + samples.distance(Compressed(at));
            assert_eq!(SampleSchedule::new(Compressed(at + 1)).distance(Compressed(next)), 0, "after {at}");
            assert_eq!(SampleSchedule::new(Compressed(next)).distance(Compressed(next)), 0, "at {next}");
            longest = longest.max(next - at);
            at = next;
            samples.advance();
        }
        assert_eq!(longest, 8 * SAMPLE_BYTES);
    }
}
