//! How much was requested and how much may be: bytes are claimed before the request if their number is known, else as they arrive.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::transfer_error::TransferError;

/// Requests sent, bytes received, and the limit on bytes.
#[derive(Debug)]
pub(in crate::registry) struct Counters {
    pub(in crate::registry) requests: AtomicU64,
    /// Bytes of bodies received.
    pub(in crate::registry) bytes: AtomicU64,
    /// Those, and all that are requested.
    claimed: AtomicU64,
    limit: u64,
}

/// Permission to receive bytes.
#[derive(Debug)]
pub(super) struct Claim {
    counters: Arc<Counters>,
    left: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Counters {
    /// Allows at most `limit` bytes of bodies.
    pub(super) fn new(limit: u64) -> Self {
        Self { requests: AtomicU64::new(0), bytes: AtomicU64::new(0), claimed: AtomicU64::new(0), limit }
    }

    /// Bytes that may still be requested.
    pub(in crate::registry) fn left(&self) -> u64 {
        match self.limit {
            u64::MAX => u64::MAX,
            limit => limit.saturating_sub(self.claimed.load(Ordering::Relaxed)),
        }
    }

    /// Fails if `bytes` more exceed the limit.
    pub(in crate::registry) fn check(&self, bytes: u64) -> Result<(), TransferError> {
        if bytes <= self.left() { Ok(()) } else { Err(self.exceeded(bytes)) }
    }

    /// Claims `bytes`, all or none.
    pub(super) fn claim(self: &Arc<Self>, bytes: u64) -> Result<Claim, TransferError> {
        let more = |claimed: u64| claimed.checked_add(bytes).filter(|claimed| *claimed <= self.limit);
        match self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Claim { counters: Arc::clone(self), left: bytes }),
            Err(_) => Err(self.exceeded(bytes)),
        }
    }

    /// Claims as many of these bytes as the limit allows.
    fn claim_up_to(&self, bytes: u64) -> u64 {
        let granted = |claimed: u64| bytes.min(self.limit.saturating_sub(claimed));
        let more = |claimed: u64| Some(claimed.saturating_add(granted(claimed)));
        let before = self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        before.map_or(0, granted)
    }

    fn exceeded(&self, bytes: u64) -> TransferError {
        TransferError::over_budget(bytes, self.bytes.load(Ordering::Relaxed), self.limit)
    }
}

impl Claim {
    /// Takes note of `bytes` received. Returns how many of them may be used: fewer only if more arrived than were claimed.
    pub(super) fn take(&mut self, bytes: u64) -> Result<u64, TransferError> {
        let covered = bytes.min(self.left);
        let taken = covered.saturating_add(self.counters.claim_up_to(bytes - covered));
        if taken == 0 {
            return Err(self.counters.exceeded(bytes));
        }
        self.left -= covered;
        self.counters.bytes.fetch_add(taken, Ordering::Relaxed);
        Ok(taken)
    }

    /// The error for `bytes` beyond the limit.
    pub(super) fn exceeded(&self, bytes: u64) -> TransferError {
        self.counters.exceeded(bytes)
    }

    /// An empty claim.
    pub(super) fn none(&self) -> Self {
        Self { counters: Arc::clone(&self.counters), left: 0 }
    }

    /// Reduces the claim to `bytes`, or extends it to them. Returns whether the claim covers them all.
    pub(super) fn shrink(&mut self, bytes: u64) -> bool {
        let returned = self.left.saturating_sub(bytes);
        self.left -= returned;
        self.counters.claimed.fetch_sub(returned, Ordering::Relaxed);
        self.left == bytes || {
            self.left += self.counters.claim_up_to(bytes - self.left);
            self.left == bytes
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.counters.claimed.fetch_sub(self.left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_bytes_that_do_not_arrive_can_be_claimed_again() {
        let counters = Arc::new(Counters::new(100));
        let mut claim = counters.claim(60).unwrap();
        assert!(counters.claim(41).is_err());
        assert_eq!((claim.take(20).unwrap(), counters.left()), (20, 40));
        drop(claim);
        assert_eq!((counters.left(), counters.bytes.load(Ordering::Relaxed)), (80, 20));
        assert!(counters.check(80).is_ok() && counters.check(81).is_err());
    }

    #[test]
    fn bytes_beyond_the_claim_are_cut_at_the_limit() {
        let counters = Arc::new(Counters::new(100));
        let mut claim = counters.claim(0).unwrap();
        assert_eq!((claim.take(70).unwrap(), claim.take(70).unwrap()), (70, 30));
        assert!(claim.take(1).is_err());
        assert_eq!(counters.bytes.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_claim_shrinks_and_grows_within_the_limit() {
        let counters = Arc::new(Counters::new(100));
        let mut claim = counters.claim(90).unwrap();
        assert!(claim.shrink(10));
        assert_eq!(counters.left(), 90);
        assert!(claim.shrink(100));
        assert!(!claim.shrink(101));
        drop(claim);
        assert_eq!(counters.left(), 100);
    }

    #[test]
    fn no_limit_refuses_nothing() {
        let counters = Arc::<Counters>::default();
        let mut claim = counters.claim(u64::MAX).unwrap();
        assert_eq!(claim.take(u64::MAX).unwrap(), u64::MAX);
    }
}
