//! Sparse files: long runs of zeros become holes.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
};

/// Shortest run of zeros that becomes a hole, in bytes: the block size of most file systems.
const HOLE_BYTES: usize = 4 << 10;

/// Zeros to compare with: comparing memory is many times faster than checking every byte.
const ZEROS: &[u8] = &[0; 64 << 10];

/// From this size on, in bytes, a file is checked before it is written.
const LARGE_FILE: u64 = 1 << 30;

/// Refuses a size that the file system cannot hold, before the first byte is written. The file must be empty.
pub(super) fn check_size(file: &File, size: u64) -> io::Result<()> {
    if size < LARGE_FILE {
        return Ok(());
    }
    let system = rustix::fs::fstatvfs(file)?;
    let total = system.f_blocks.saturating_mul(system.f_frsize);
    // Some network file systems do not know their size.
    if total > 0 && size > total {
        let problem = format!("{size} bytes do not fit on this file system of {total} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    // The limit for a single file can be lower.
    file.set_len(size)?;
    file.set_len(0)
}

/// Like [`File::write`], but leaves a hole for a long run of zeros. The file must be new.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    let is_zero = |piece: &[u8]| ZEROS.get(..piece.len()) == Some(piece);
    if bytes.len() < HOLE_BYTES || !bytes.chunks(ZEROS.len()).all(is_zero) {
        return file.write(bytes);
    }
    file.seek_relative(bytes.len() as i64)?;
    Ok(bytes.len())
}

/// Sets the length of a file that may end in a hole.
pub(super) fn finish(file: &mut File) -> io::Result<()> {
    let length = file.stream_position()?;
    if file.metadata()?.len() < length { file.set_len(length) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_size_beyond_the_file_system_is_refused() {
        let file = tempfile::tempfile().unwrap();
        for size in [1 << 62, u64::MAX] {
            assert_eq!(check_size(&file, size).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
        check_size(&file, LARGE_FILE).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn holes_in_the_middle_and_at_the_end_read_as_zeros() {
        let mut file = tempfile::tempfile().unwrap();
        let pieces = [&[0; HOLE_BYTES][..], b"text", &[0; 3], &[0; 2 * HOLE_BYTES + 1]];
        for piece in pieces {
            assert_eq!(write(&mut file, piece).unwrap(), piece.len());
        }
        finish(&mut file).unwrap();
        let mut content = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut content).unwrap();
        assert!(content == pieces.concat());
    }
}
