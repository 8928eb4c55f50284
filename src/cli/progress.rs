//! One bar a layer on stderr, if that is a terminal; warnings between them.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use layerslayer::{Digest, Progress, Request};

use super::output::sanitize;

/// Digits of a digest in a bar's name.
const DIGEST_DIGITS: usize = 12;

/// What the engine tells, drawn.
pub(crate) struct Display {
    quiet: bool,
    bars: Option<Bars>,
    /// What was asked for, if that is to be explained.
    requests: Option<Mutex<Vec<Request>>>,
}

struct Bars {
    all: MultiProgress,
    by_layer: Mutex<BTreeMap<usize, ProgressBar>>,
}

impl Bars {
    fn by_layer(&self) -> MutexGuard<'_, BTreeMap<usize, ProgressBar>> {
        locked(&self.by_layer)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Display {
    /// Bars if stderr is a terminal, nothing at all if `quiet`; keeps what was asked for if `explain`.
    pub(crate) fn new(quiet: bool, explain: bool) -> Self {
        let drawn = !quiet && io::stderr().is_terminal();
        let bars = drawn.then(|| Bars { all: MultiProgress::new(), by_layer: Mutex::default() });
        Self { quiet, bars, requests: explain.then(Mutex::default) }
    }

    /// What was asked for since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        let requests = self.requests.iter();
        requests.flat_map(|requests| std::mem::take(&mut *locked(requests))).collect()
    }

    /// Prints a line to stderr, above the bars.
    pub(crate) fn line(&self, line: &str) {
        // Nobody is left to tell if stderr itself fails.
        drop(self.suspend(|| writeln!(io::stderr(), "{line}")));
    }

    /// Runs `write` while no bar is on the screen.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.all.suspend(write),
            None => write(),
        }
    }

    /// Takes the bars away for good: what threads still tell is not drawn.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            let mut by_layer = bars.by_layer();
            std::mem::take(&mut *by_layer).into_values().for_each(|bar| bar.finish_and_clear());
            drop(bars.all.clear());
            bars.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// The same, unless somebody who cannot go on keeps the terminal for so long.
    pub(crate) fn clear_within(self: Arc<Self>, patience: Duration) {
        let (done, cleared) = mpsc::channel();
        thread::spawn(move || {
            self.clear();
            // Nobody waits any more if it took too long.
            let _ = done.send(());
        });
        let _ = cleared.recv_timeout(patience);
    }
}

impl Progress for Display {
    fn layer_started(&self, layer: usize, digest: &Digest, total: u64) {
        let Some(bars) = &self.bars else { return };
        if let Some(bar) = bars.by_layer().get(&layer) {
            bar.set_length(total);
            return;
        }
        let digits: String = digest.hex().chars().take(DIGEST_DIGITS).collect();
        let template = "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bars.all.add(ProgressBar::new(total).with_style(style.progress_chars("=> ")));
        bar.set_message(format!("layer {layer} {digits}"));
        bars.by_layer().insert(layer, bar);
    }

    fn layer_advanced(&self, layer: usize, bytes: u64) {
        let Some(bars) = &self.bars else { return };
        if let Some(bar) = bars.by_layer().get(&layer) {
            bar.inc(bytes);
        }
    }

    fn layer_finished(&self, layer: usize) {
        let Some(bars) = &self.bars else { return };
        if let Some(bar) = bars.by_layer().remove(&layer) {
            bar.finish_and_clear();
        }
    }

    fn request(&self, request: &Request) {
        if let Some(requests) = &self.requests {
            locked(requests).push(request.clone());
        }
    }

    fn warning(&self, message: &str) {
        if !self.quiet {
            self.line(&format!("layerslayer: warning: {}", sanitize::message(message)));
        }
    }
}
