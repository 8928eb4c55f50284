//! The total size of a cache, stored as a log of changes: each writer appends eight bytes, which needs no lock and no listing of the
//! directory. If the log is missing, damaged or long, the directory is listed and the log restarts. Changes made during the listing
//! may be missed until the next listing.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

/// Bytes of one change: a signed number, little-endian.
const CHANGE_BYTES: usize = 8;
/// Longest log that is read, in bytes.
const LOG_BYTES: u64 = 64 << 10;
/// Size of the blocks that file sizes are rounded up to, as most file systems do.
const BLOCK_BYTES: u64 = 4 << 10;

/// Disk space of a file of `size` bytes. Even an empty file counts as one block.
pub(super) fn stored(size: u64) -> u64 {
    size.max(1).checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// Appends a change to the log, which must be open for reading and appending. Returns the sum, or `None` if the log is invalid.
pub(super) fn append(log: &mut File, change: i64) -> io::Result<Option<u64>> {
    log.write_all(&change.to_le_bytes())?;
    sum(log)
}

/// The sum of all changes in a log.
fn sum(log: &mut File) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    let start = io::Seek::rewind(log);
    start.and_then(|()| log.take(LOG_BYTES + 1).read_to_end(&mut bytes))?;
    let (changes, rest) = bytes.as_chunks::<CHANGE_BYTES>();
    if !rest.is_empty() || bytes.len() as u64 > LOG_BYTES {
        return Ok(None);
    }
    let sum = changes.iter().fold(0_i64, |sum, change| sum.saturating_add(i64::from_le_bytes(*change)));
    Ok(u64::try_from(sum).ok().filter(|sum| sum % BLOCK_BYTES == 0))
}

/// The change in size when a file of `old` bytes is replaced by one of `new` bytes; `None` means no file.
pub(super) fn change(old: Option<u64>, new: Option<u64>) -> i64 {
    let bytes = |size: Option<u64>| size.map_or(0, |size| i64::try_from(stored(size)).unwrap_or(i64::MAX));
    bytes(new).saturating_sub(bytes(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(start: &[u8], change: i64) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage");
        std::fs::write(&path, start).unwrap();
        let mut log = File::options().read(true).append(true).open(&path).unwrap();
        append(&mut log, change).unwrap()
    }

    #[test]
    fn changes_add_up() {
        assert_eq!(appended(b"", 4096), Some(4096));
        let start = [8192_i64.to_le_bytes(), (-4096_i64).to_le_bytes()].concat();
        assert_eq!(appended(&start, 4096), Some(8192));
    }

    #[test]
    fn a_damaged_or_long_log_has_no_sum() {
        assert_eq!(appended(b"torn", 1), None);
        assert_eq!(appended(&[0; 64 << 10], 0), None);
        assert_eq!(appended(&[0; (64 << 10) - 8], 4096), Some(4096));
        assert_eq!(appended(b"", -4096), None);
        assert_eq!(appended(b"", 1), None);
    }

    #[test]
    fn files_are_counted_in_whole_blocks() {
        assert_eq!(change(None, Some(1)), 4096);
        assert_eq!(change(Some(1), Some(4097)), 4096);
        assert_eq!(change(Some(4096), None), -4096);
        assert_eq!(change(Some(u64::MAX), None), -i64::MAX);
        assert_eq!(change(Some(0), Some(4096)), 0);
    }
}
