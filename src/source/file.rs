//! A blob that is a local file or a range of one.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, BoxFuture},
    stream,
};
use rustix::fs::OFlags;

use super::{ByteStream, Error, Source};
use crate::{offset::Compressed, threads::run_blocking};

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// A range of an open file.
#[derive(Clone, Debug)]
pub(crate) struct FileBlob {
    file: Arc<File>,
    name: Arc<str>,
    start: u64,
    size: u64,
}

impl FileBlob {
    /// The whole file at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let irregular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        // Checked before opening, which can have effects on devices, and after it, because the path may have changed.
        if !fs::metadata(path)?.is_file() {
            return Err(irregular());
        }
        // Opening a pipe must not block.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(irregular());
        }
        let size = metadata.len();
        Ok(Self { file: Arc::new(file), name: path.display().to_string().into(), start: 0, size })
    }

    /// An open file, with a name for messages.
    pub(crate) fn new(file: File, name: &str) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), name: name.into(), start: 0, size })
    }

    /// A range of this one; `None` if it is not within it.
    pub(crate) fn slice(&self, range: Range<u64>) -> Option<Self> {
        let size = range.end.checked_sub(range.start)?;
        if range.end > self.size {
            return None;
        }
        Some(Self { start: self.start + range.start, size, ..self.clone() })
    }

    /// The file's name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads exactly `buffer.len()` bytes at `offset`, on the calling thread.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_exact_at(&self.file, buffer, self.start + offset)
    }

    /// The whole content, of at most `cap` bytes, read on the calling thread.
    pub(crate) fn read_all(&self, cap: u64) -> io::Result<Vec<u8>> {
        if self.size > cap {
            let message = format!("{} bytes, more than the limit of {cap}", self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut content = vec![0; usize::try_from(self.size).map_err(io::Error::other)?];
        self.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Io { path: self.name.to_string(), source }
    }
}

impl Source for FileBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let blob = self.clone();
        let stream = stream::unfold((blob, range.start.0), move |(blob, at)| async move {
            let length = CHUNK_BYTES.min(range.end.0.checked_sub(at).filter(|&left| left > 0)?);
            let reader = blob.clone();
            let read = run_blocking(move || {
                let mut chunk = vec![0; length as usize];
                reader.read_exact_at(&mut chunk, at).map(|()| Bytes::from(chunk))
            });
            let chunk = read.await.map_err(io::Error::other).flatten();
            let next = if chunk.is_ok() { at + length } else { range.end.0 };
            Some((chunk.map_err(|error| blob.error(error)), (blob, next)))
        });
        future::ready(Ok(stream.boxed())).boxed()
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = buffer.split_at_mut(read).1;
        offset += read as u64;
    }
    Ok(())
}
