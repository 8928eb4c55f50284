//! Detects that no server has sent a byte for a while.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// Time without a byte after which a server counts as stalled.
const STALL: Duration = Duration::from_secs(5);

/// Requests in progress, and when the last byte arrived.
pub(super) struct StallDetector {
    /// Servers by the number of the request.
    servers: BTreeMap<u64, String>,
    last_byte: Instant,
    /// Whether the current stall has been returned by [`StallDetector::check`].
    reported: bool,
    /// Writers that wait for a reader of the output.
    paused: usize,
}

/// A server that has sent nothing for a while.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Stall {
    server: String,
    waited: Duration,
    /// Whether this is the first report of the stall.
    pub(super) is_new: bool,
}

impl StallDetector {
    pub(super) fn new(now: Instant) -> Self {
        Self { servers: BTreeMap::new(), last_byte: now, reported: false, paused: 0 }
    }

    /// A request is being sent.
    pub(super) fn started(&mut self, id: u64, server: &str, now: Instant) {
        if self.servers.is_empty() {
            self.advanced(now);
        }
        self.servers.insert(id, server.to_owned());
    }

    /// Bytes have arrived.
    pub(super) fn advanced(&mut self, now: Instant) {
        self.last_byte = now;
        self.reported = false;
    }

    /// A request is over.
    pub(super) fn finished(&mut self, id: u64, now: Instant) {
        if self.servers.remove(&id).is_some() {
            self.advanced(now);
        }
    }

    /// The program waits for a reader of its output, not for a server.
    pub(super) fn pause(&mut self) {
        self.paused += 1;
    }

    /// The end of a [`StallDetector::pause`].
    pub(super) fn resume(&mut self, now: Instant) {
        self.paused = self.paused.saturating_sub(1);
        self.last_byte = self.last_byte.max(now);
    }

    /// Returns the oldest request's server if nothing has arrived for [`STALL`].
    pub(super) fn check(&mut self, now: Instant) -> Option<Stall> {
        let waited = now.saturating_duration_since(self.last_byte);
        let (_, server) = self.servers.first_key_value()?;
        if waited < STALL || self.paused > 0 {
            return None;
        }
        let is_new = !std::mem::replace(&mut self.reported, true);
        Some(Stall { server: server.clone(), waited, is_new })
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}: no data for {} s", self.server, self.waited.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn text(detector: &mut StallDetector, now: Instant) -> Option<String> {
        detector.check(now).map(|stall| stall.to_string())
    }

    #[test]
    fn five_seconds_without_a_byte_are_a_stall_of_the_oldest_request() {
        let start = Instant::now();
        let mut detector = StallDetector::new(start);
        assert_eq!(text(&mut detector, after(start, 60)), None);
        detector.started(1, "https://a", after(start, 60));
        detector.started(2, "https://b", after(start, 62));
        assert_eq!(text(&mut detector, after(start, 64)), None);
        let stall = detector.check(after(start, 65)).unwrap();
        assert!(stall.is_new);
        assert_eq!(stall.to_string(), "waiting for https://a: no data for 5 s");
        assert!(!detector.check(after(start, 66)).unwrap().is_new);
        detector.advanced(after(start, 67));
        assert_eq!(text(&mut detector, after(start, 71)), None);
        detector.finished(1, after(start, 72));
        let stall = detector.check(after(start, 80)).unwrap();
        assert_eq!((stall.is_new, stall.server.as_str()), (true, "https://b"));
    }

    #[test]
    fn waiting_for_a_reader_is_not_a_stall() {
        let start = Instant::now();
        let mut detector = StallDetector::new(start);
        detector.started(1, "https://a", start);
        detector.pause();
        assert_eq!(text(&mut detector, after(start, 60)), None);
        detector.resume(after(start, 60));
        assert_eq!(text(&mut detector, after(start, 64)), None);
        assert!(text(&mut detector, after(start, 65)).is_some());
    }
}
