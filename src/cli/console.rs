//! Output streams: stdout for data, stderr for everything else.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::fd::AsFd as _,
    sync::Arc,
};

use layerslayer::{Layer, RequestTarget};

use super::{
    exit::{Exit, Failure},
    output::sanitize,
    progress::Display,
    startup,
};

/// Size of the stdout buffer in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// The output streams of a run.
pub(crate) struct Console {
    display: Arc<Display>,
    quiet: bool,
}

impl Console {
    /// Creates a console. `quiet` suppresses progress, notes and warnings; `explain` records requests for
    /// [`Console::explain_requests`].
    pub(crate) fn new(quiet: bool, explain: bool) -> Self {
        Self { display: Arc::new(Display::new(quiet, explain)), quiet }
    }

    /// Returns the progress display.
    pub(crate) fn display(&self) -> Arc<Display> {
        Arc::clone(&self.display)
    }

    /// Removes the progress bars.
    pub(crate) fn clear(&self) {
        self.display.clear();
    }

    /// Prints an error.
    pub(crate) fn error(&self, message: &str) {
        self.display.line(&sanitize::stderr_line(message));
    }

    /// Prints a note.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            self.error(message);
        }
    }

    /// Prints a line of `--explain`.
    pub(crate) fn explain(&self, line: &str) {
        self.display.line(&sanitize::message(line));
    }

    /// Prints a line for each request since the last call, with the index of its layer.
    pub(crate) fn explain_requests(&self, layers: &[Layer]) {
        for request in self.display.take_requests() {
            let layer = match &request.target {
                RequestTarget::Blob(digest) => layers.iter().find(|layer| layer.digest() == digest),
                _ => None,
            };
            let prefix = layer.map(|layer| format!("layer {}: ", layer.index())).unwrap_or_default();
            self.explain(&format!("{prefix}{request}"));
        }
    }

    /// Prints a warning.
    pub(crate) fn warning(&self, message: &str) {
        self.note(&format!("warning: {message}"));
    }

    /// Opens stdout, buffered; writes to a terminal do not mix with progress bars.
    pub(crate) fn stdout(&self) -> Result<BufWriter<Stdout>, Failure> {
        if startup::stdout_is_closed() {
            return Err(Failure::new(Exit::Other, "writing stdout: it is closed"));
        }
        let stdout = io::stdout();
        let file = stdout.as_fd().try_clone_to_owned().map_err(|error| Failure::writing("stdout", &error))?;
        let (display, is_terminal) = (self.display(), stdout.is_terminal());
        Ok(BufWriter::with_capacity(BUFFER_BYTES, Stdout { file: file.into(), display, is_terminal }))
    }
}

/// Number of columns if stdout is a terminal.
pub(crate) fn stdout_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout.as_fd()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Stdout without line buffering.
pub(crate) struct Stdout {
    file: File,
    display: Arc<Display>,
    is_terminal: bool,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let display = &self.display;
        display.while_blocked(|| match self.is_terminal {
            true => display.suspend(|| self.file.write(bytes)),
            false => self.file.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
