//! The progress display on stderr: one bar per layer on a terminal, warnings, and a notice when a server stalls.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use layerslayer::{Event, EventImage, EventLayer, Progress, Request};
use stall::StallDetector;

use super::output::sanitize;

mod stall;

/// Digits of a digest in the label of a bar.
const DIGEST_DIGITS: usize = 12;

/// How often to check for a stall.
const STALL_INTERVAL: Duration = Duration::from_secs(1);

/// Displays the events of the engine.
pub(crate) struct Display {
    quiet: bool,
    bars: Option<Bars>,
    /// The finished requests, if they will be printed.
    requests: Option<Mutex<Vec<Request>>>,
    stalls: Mutex<StallDetector>,
}

struct Bars {
    all: MultiProgress,
    by_layer: Mutex<HashMap<LayerKey, ProgressBar>>,
    /// The line that says which server is stalled.
    stall: ProgressBar,
}

/// A layer of one of several images.
type LayerKey = (Option<Arc<EventImage>>, EventLayer);

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let stall = ProgressBar::no_length().with_style(style);
        Self { all, by_layer: Mutex::default(), stall }
    }

    fn start(&self, key: LayerKey, total: u64) {
        let mut by_layer = locked(&self.by_layer);
        if let Some(bar) = by_layer.get(&key) {
            bar.set_length(total);
            return;
        }
        let digits: String = key.1.digest.hex().chars().take(DIGEST_DIGITS).collect();
        let template = "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.all.add(ProgressBar::new(total).with_style(style.progress_chars("=> ")));
        bar.set_message(format!("layer {} {digits}", key.1.index));
        by_layer.insert(key, bar);
    }

    fn advance(&self, key: &LayerKey, bytes: u64) {
        if let Some(bar) = locked(&self.by_layer).get(key) {
            bar.inc(bytes);
        }
    }

    fn finish(&self, key: &LayerKey) {
        if let Some(bar) = locked(&self.by_layer).remove(key) {
            bar.finish_and_clear();
        }
    }

    fn show_stall(&self, text: Option<String>) {
        match text {
            Some(text) => {
                self.all.add(self.stall.clone()).set_message(text);
                self.stall.tick();
            }
            None => self.all.remove(&self.stall),
        }
    }

    fn clear(&self) {
        locked(&self.by_layer).drain().for_each(|(_, bar)| bar.finish_and_clear());
        self.show_stall(None);
        drop(self.all.clear());
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Display {
    /// Creates a display: bars if stderr is a terminal, nothing at all if `quiet`. Records requests if `explain`.
    pub(crate) fn new(quiet: bool, explain: bool) -> Self {
        let bars = (!quiet && io::stderr().is_terminal()).then(Bars::new);
        let stalls = Mutex::new(StallDetector::new(Instant::now()));
        Self { quiet, bars, requests: explain.then(Mutex::default), stalls }
    }

    /// Returns the finished requests since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        let requests = self.requests.iter();
        requests.flat_map(|requests| std::mem::take(&mut *locked(requests))).collect()
    }

    /// Prints a line to stderr, above the bars.
    pub(crate) fn line(&self, line: &str) {
        // An error of stderr itself cannot be reported.
        drop(self.suspend(|| writeln!(io::stderr(), "{line}")));
    }

    /// Runs `write` while no bar is on the screen.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.all.suspend(write),
            None => write(),
        }
    }

    /// Runs `write`, which may block until somebody reads the output. The time does not count as a stall of a server.
    pub(crate) fn while_blocked<T>(&self, write: impl FnOnce() -> T) -> T {
        locked(&self.stalls).pause();
        let result = write();
        locked(&self.stalls).resume(Instant::now());
        result
    }

    /// Removes the bars for good. Later events are not drawn.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.clear();
        }
    }

    /// Clears the bars and prints the lines, but gives up after `patience` if the terminal is blocked.
    pub(crate) fn end_within(self: Arc<Self>, patience: Duration, lines: Vec<String>) {
        let (done, cleared) = mpsc::channel();
        let clearing = thread::Builder::new().spawn(move || {
            self.clear();
            lines.iter().for_each(|line| self.line(line));
            // The receiver is gone if it took too long.
            let _ = done.send(());
        });
        if clearing.is_ok() {
            let _ = cleared.recv_timeout(patience);
        }
    }

    /// Says which server is stalled, until aborted.
    pub(crate) async fn watch_stalls(self: Arc<Self>) {
        let mut interval = tokio::time::interval(STALL_INTERVAL);
        loop {
            interval.tick().await;
            self.check_stall(Instant::now());
        }
    }

    fn check_stall(&self, now: Instant) {
        let stall = locked(&self.stalls).check(now);
        match (&self.bars, stall) {
            (Some(bars), stall) => bars.show_stall(stall.map(|stall| stall.to_string())),
            (None, Some(stall)) if stall.is_new && !self.quiet => {
                self.line(&sanitize::stderr_line(&stall.to_string()));
            }
            (None, _) => {}
        }
    }
}

impl Progress for Display {
    fn event(&self, event: &Event) {
        let key = |image: &Option<Arc<EventImage>>, layer: &EventLayer| (image.clone(), layer.clone());
        match (event, &self.bars) {
            (Event::LayerAdvanced { image, layer, bytes, .. }, Some(bars)) => {
                bars.advance(&key(image, layer), *bytes);
            }
            (Event::LayerFinished { image, layer, .. }, Some(bars)) => bars.finish(&key(image, layer)),
            (Event::LayerStarted { image, layer, total, .. }, Some(bars)) => {
                bars.start(key(image, layer), *total);
            }
            (Event::RequestAdvanced { .. }, _) => locked(&self.stalls).advanced(Instant::now()),
            (Event::RequestFinished { id, request, .. }, _) => {
                locked(&self.stalls).finished(*id, Instant::now());
                if let Some(requests) = &self.requests {
                    locked(requests).push(request.clone());
                }
            }
            (Event::RequestStarted { id, request, .. }, _) => {
                if let Some(server) = &request.server {
                    locked(&self.stalls).started(*id, server, Instant::now());
                }
            }
            (Event::Warning { message, .. }, _) if !self.quiet => {
                self.line(&sanitize::stderr_line(&format!("warning: {message}")));
            }
            _ => {}
        }
    }
}
