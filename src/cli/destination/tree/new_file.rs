//! A file below a directory that is still being written.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    sync::Arc,
};

use layerslayer::Entry;
use rustix::fs::AtFlags;

use crate::cli::destination::{holes, temporary::Pending};

/// A temporary file of a [`Tree`](super::Tree). Dropping an unfinished one removes it.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(super) file: File,
    pub(super) parent: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    pub(super) temporary: String,
    /// `None` once the file has been renamed.
    pub(super) pending: Option<Pending>,
    pub(super) entry: Entry,
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        holes::write(&mut self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.pending.take().is_some() {
            // An error cannot be reported from here.
            let _ = rustix::fs::unlinkat(&self.parent, self.temporary.as_str(), AtFlags::empty());
        }
    }
}
