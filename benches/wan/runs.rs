//! Runs of a program, and the cost of each.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::link::Traffic;

/// One run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// Wall time in seconds.
    pub(crate) seconds: f64,
    /// Bytes that servers sent, including heads and TLS, until they learned of a client that hung up.
    pub(crate) bytes: u64,
    /// Of these, bytes that reached the program before it hung up.
    pub(crate) arrived: u64,
    /// Requests.
    pub(crate) requests: u64,
    /// Peak resident memory of the first process, in KiB, if it was measured.
    pub(crate) resident: u64,
    /// Whether it succeeded with the expected output.
    pub(crate) right: bool,
}

impl Run {
    /// Adds the traffic of the link. It counts requests of unencrypted connections only.
    pub(crate) fn with_traffic(mut self, traffic: &[Traffic]) -> Self {
        self.bytes = traffic.iter().map(|connection| connection.down).sum();
        self.arrived = traffic.iter().map(|connection| connection.arrived).sum();
        self.requests = traffic.iter().map(|connection| connection.requests).sum();
        self
    }
}

/// Runs a command to its end. `expected` checks its output.
pub(crate) fn time(command: &mut Command, expected: impl FnOnce(&[u8]) -> bool) -> Run {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let seconds = start.elapsed().as_secs_f64();
    let right = output.status.success() && expected(&output.stdout);
    if !right {
        eprintln!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Run { seconds, right, ..Run::default() }
}

/// A run without a program.
pub(crate) fn of(duration: Duration) -> Run {
    Run { seconds: duration.as_secs_f64(), right: true, ..Run::default() }
}

/// The runs of one program at one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) runs: Vec<Run>,
}

impl Runs {
    /// Smallest, median and largest of a figure.
    pub(crate) fn spread(&self, figure: impl Fn(&Run) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.runs.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        [0, last / 2, last].map(|index| values.get(index).copied().unwrap_or(f64::NAN))
    }

    /// Seconds.
    pub(crate) fn seconds(&self) -> [f64; 3] {
        self.spread(|run| run.seconds)
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> [f64; 3] {
        self.spread(|run| run.bytes as f64)
    }

    /// Bytes that arrived.
    pub(crate) fn arrived(&self) -> [f64; 3] {
        self.spread(|run| run.arrived as f64)
    }

    /// Requests.
    pub(crate) fn requests(&self) -> [f64; 3] {
        self.spread(|run| run.requests as f64)
    }

    /// Peak resident memory, in MiB.
    pub(crate) fn resident(&self) -> [f64; 3] {
        self.spread(|run| run.resident as f64 / 1024.0)
    }

    /// Whether every run gave the expected output.
    pub(crate) fn right(&self) -> bool {
        self.runs.iter().all(|run| run.right)
    }
}
