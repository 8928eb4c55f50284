//! Content in an unlinked temporary file.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    sync::Arc,
};

use crate::{read::visit::Piece, source::file::FileBlob};

/// An append-only temporary file.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    length: u64,
}

impl Spool {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, length: 0 })
    }

    /// Bytes in it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends a piece; a hole stays one where the file system knows holes.
    pub(super) fn append(&mut self, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Data(data) => {
                write_all_at(&self.file, data, self.length)?;
                self.length += data.len() as u64;
            }
            Piece::Hole(length) => {
                let end = self.length.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
                self.file.set_len(end)?;
                self.length = end;
            }
        }
        Ok(())
    }

    /// Ends writing.
    pub(super) fn finish(self) -> io::Result<SpoolReader> {
        Ok(SpoolReader { blob: Arc::new(FileBlob::new(self.file, "temporary file")?) })
    }
}

/// A spool that is only read.
#[derive(Clone, Debug)]
pub(super) struct SpoolReader {
    blob: Arc<FileBlob>,
}

impl SpoolReader {
    /// The bytes of a range that was appended.
    pub(super) fn reader(&self, range: Range<u64>) -> impl Read + Send + use<> {
        Reader { blob: Arc::clone(&self.blob), range }
    }
}

struct Reader {
    blob: Arc<FileBlob>,
    range: Range<u64>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end.saturating_sub(self.range.start)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let Some(target) = buffer.get_mut(..length) else { return Ok(0) };
        self.blob.read_exact_at(target, self.range.start)?;
        self.range.start += length as u64;
        Ok(length)
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

#[cfg(windows)]
fn write_all_at(mut file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek as _, Write as _};
    file.seek(io::SeekFrom::Start(offset))?;
    file.write_all(data)
}
