//! One file below a directory, until it has its place.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
};

use layerslayer::Entry;
use rustix::fs::AtFlags;

use crate::cli::destination::{holes, temporary::Pending};

/// A file of a [`Tree`] being written; dropped unfinished, it is removed.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(super) file: File,
    pub(super) parent: OwnedFd,
    pub(super) name: Vec<u8>,
    pub(super) temporary: String,
    /// Present until the file has its place.
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
            // There is nobody to tell.
            let _ = rustix::fs::unlinkat(&self.parent, self.temporary.as_str(), AtFlags::empty());
        }
    }
}
