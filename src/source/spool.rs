//! Temporary copies of archives that cannot be read in place.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

use super::Error;
use crate::decompress::{self, Decompressor, Encoding};

/// Bytes read and unpacked at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// A temporary file without a name.
struct Spool {
    file: File,
    length: u64,
}

/// Copies what `input` unpacks to into a temporary file of at most `max_unpacked` bytes; `None` if it is seekable and not
/// compressed, so that no copy is needed. `name` is for messages.
pub(super) fn unpack(
    input: &mut File,
    is_seekable: bool,
    max_unpacked: u64,
    name: &str,
) -> Result<Option<File>, Error> {
    let mut decompressor = Decompressor::new();
    let mut spool: Option<Spool> = None;
    let (mut compressed, mut output) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let read = match input.read(&mut compressed) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|source| Error::Io { path: name.to_owned(), source })?,
        };
        let mut piece = compressed.get(..read).unwrap_or_default();
        loop {
            let produced = match read {
                0 => decompressor.finish(&mut output),
                _ => decompressor.decompress(&mut piece, &mut output),
            };
            let produced = produced.map_err(|error| undecodable(error, name))?;
            if is_seekable && decompressor.encoding() == Some(Encoding::Plain) {
                return Ok(None);
            }
            if produced == 0 {
                break;
            }
            let target = match &mut spool {
                Some(spool) => spool,
                none => none.insert(Spool::new(name)?),
            };
            if target.length.saturating_add(produced as u64) > max_unpacked {
                let problem = format!(
                    "unpacks to more than {max_unpacked} bytes, the limit for compressed and piped archives"
                );
                return Err(Error::Unusable { name: name.to_owned(), problem });
            }
            target
                .write(output.get(..produced).unwrap_or_default())
                .map_err(|error| unspooled(error, name))?;
        }
        if read == 0 {
            break;
        }
    }
    match spool {
        Some(spool) => spool.finish().map(Some).map_err(|error| unspooled(error, name)),
        None => Spool::new(name).map(|spool| Some(spool.file)),
    }
}

impl Spool {
    fn new(name: &str) -> Result<Self, Error> {
        let file = tempfile::tempfile().map_err(|error| unspooled(error, name))?;
        Ok(Self { file, length: 0 })
    }

    /// Appends bytes. Zeros become holes, so that a file that compresses well does not fill the disk.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.iter().all(|&byte| byte == 0) {
            let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
            self.file.seek(SeekFrom::Current(length))?;
        } else {
            self.file.write_all(bytes)?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn finish(self) -> io::Result<File> {
        self.file.set_len(self.length)?;
        Ok(self.file)
    }
}

/// The temporary directory, not the archive, is at fault.
fn unspooled(source: io::Error, name: &str) -> Error {
    Error::Spool { name: name.to_owned(), directory: env::temp_dir().display().to_string(), source }
}

fn undecodable(error: decompress::Error, name: &str) -> Error {
    let name = name.to_owned();
    match error {
        decompress::Error::Unsupported { compression } => {
            let problem = format!(
                "the archive is compressed with {compression}, which is not supported (gzip, zstd and plain tar are)"
            );
            Error::Unusable { name, problem }
        }
        decompress::Error::Truncated { at, within } => {
            let problem = format!("is cut off at byte {} of the compressed archive, inside a {within}", at.0);
            Error::Local { name, problem }
        }
        decompress::Error::Corrupt { at, what } => Error::Local {
            name,
            problem: format!("is damaged: {what} at byte {} of the compressed archive", at.0),
        },
        error @ (decompress::Error::Busy { .. } | decompress::Error::Window { .. }) => {
            Error::Unusable { name, problem: error.to_string() }
        }
    }
}
