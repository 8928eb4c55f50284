//! Where a pass that records stops for checkpoints.

use super::{CHECKPOINT_BYTES, Restart};
use crate::offset::{Compressed, Uncompressed};

/// The least distance between two candidates, in unpacked bytes.
const CANDIDATE_BYTES: u64 = 256 << 10;

/// Compressed bytes between two places where it is noted how much came out: a leaf. The decoder stops there, so that four times as many
/// make decoding 6 % dearer.
const STEP_BYTES: u64 = 64 << 10;

/// In so many compressed bytes they lie that close; in twice as many behind these half as close, and so on.
const STEPS_DOUBLE_BYTES: u64 = 4 << 30;

/// The next unpacked offset from which on a checkpoint is welcome.
///
/// ```text
/// │ MiB                         │ MiB                    │ MiB
/// │──▶ first ── 256 KiB ──▶ second │──▶ first …          │──▶ a member's start: needs no window, so no second
/// ```
pub(super) struct Marks {
    due: u64,
    /// The MiB that has its first candidate already.
    begun: Option<u64>,
}

impl Marks {
    /// Of a pass that begins here, with a checkpoint.
    pub(super) fn new(at: Uncompressed) -> Self {
        Self { due: next_mib(at.0), begun: None }
    }

    /// Unpacked bytes until a checkpoint is due: 0 if it is due now.
    pub(super) fn distance(&self, at: Uncompressed) -> u64 {
        self.due.saturating_sub(at.0)
    }

    /// A checkpoint was made.
    pub(super) fn made(&mut self, at: Uncompressed, restart: &Restart) {
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

/// The places of a blob where it is noted how much its bytes up to there unpack to, in compressed bytes.
///
/// They are the same in every pass, so that its notes are. Far behind, where few layers reach, there are fewer.
#[derive(Debug)]
pub(super) struct Steps {
    next: u64,
}

impl Steps {
    /// Of a pass that begins here.
    pub(super) fn new(at: Compressed) -> Self {
        let mut steps = Self { next: STEP_BYTES };
        if at.0 > 0 {
            let length = step(at.0 - 1);
            steps.next = at.0.div_ceil(length).saturating_mul(length);
        }
        steps
    }

    /// Compressed bytes until the next place: 0 at one that was not [`passed`](Self::passed).
    pub(super) fn distance(&self, at: Compressed) -> u64 {
        self.next.saturating_sub(at.0)
    }

    /// The next place was noted.
    pub(super) fn passed(&mut self) {
        self.next = self.next.saturating_add(step(self.next));
    }
}

/// How far the next place is from the one at or before `at`.
fn step(at: u64) -> u64 {
    STEP_BYTES << (at / STEPS_DOUBLE_BYTES + 1).ilog2()
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
    fn each_mib_has_two_candidates_at_most() {
        let mut marks = Marks::new(Uncompressed(0));
        assert_eq!(marks.distance(Uncompressed(0)), MIB);
        marks.made(Uncompressed(MIB + 10), &block(1));
        assert_eq!(marks.distance(Uncompressed(MIB + 10)), 256 << 10);
        marks.made(Uncompressed(MIB + (300 << 10)), &block(1));
        assert_eq!(marks.distance(Uncompressed(0)), 2 * MIB);
    }

    #[test]
    fn a_first_candidate_late_in_its_mib_has_no_second() {
        let mut marks = Marks::new(Uncompressed(0));
        marks.made(Uncompressed(2 * MIB - 1), &block(1));
        assert_eq!(marks.distance(Uncompressed(0)), 2 * MIB);
    }

    #[test]
    fn what_comes_after_the_mib_of_its_forerunner_is_a_first_candidate() {
        let mut marks = Marks::new(Uncompressed(0));
        marks.made(Uncompressed(MIB), &block(1));
        marks.made(Uncompressed(2 * MIB + 5), &block(1));
        assert_eq!(marks.distance(Uncompressed(2 * MIB + 5)), 256 << 10);
    }

    #[test]
    fn what_needs_no_window_is_the_only_one_of_its_mib() {
        for restart in [Restart::Member, Restart::Frame, Restart::Plain, block(0)] {
            let mut marks = Marks::new(Uncompressed(0));
            marks.made(Uncompressed(MIB), &restart);
            assert_eq!(marks.distance(Uncompressed(MIB)), MIB);
        }
    }

    #[test]
    fn steps_are_the_same_wherever_a_pass_begins_and_grow_far_behind() {
        let mut steps = Steps::new(Compressed(0));
        let (mut at, mut longest) = (0, 0);
        for _ in 0..200_000 {
            let next = at + steps.distance(Compressed(at));
            assert_eq!(Steps::new(Compressed(at + 1)).distance(Compressed(next)), 0, "behind {at}");
            assert_eq!(Steps::new(Compressed(next)).distance(Compressed(next)), 0, "at {next}");
            longest = longest.max(next - at);
            at = next;
            steps.passed();
        }
        assert_eq!(longest, 8 * STEP_BYTES);
    }
}
