//! How many bytes a cache takes, kept as a list of changes: each writer appends eight bytes, and nobody lists the directory to
//! learn the sum. Appending needs no lock. When the list is missing, damaged or long, the directory is listed after all and
//! begins a new one; changes made at that moment may be missed, until the next time.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

/// Bytes of one change: a signed number, little-endian.
const CHANGE_BYTES: usize = 8;
/// Longest list that is read, in bytes.
const LIST_BYTES: u64 = 64 << 10;
/// What a file takes is counted in blocks of so many bytes, as most file systems store it.
const BLOCK_BYTES: u64 = 4 << 10;

/// What a file of `size` bytes takes; its name alone takes something.
pub(super) fn stored(size: u64) -> u64 {
    size.max(1).checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// Appends a change to the list, which must be open for reading and appending; returns the sum, or `None` if it is not to be
/// had from the list.
pub(super) fn note(list: &mut File, change: i64) -> io::Result<Option<u64>> {
    list.write_all(&change.to_le_bytes())?;
    sum(list)
}

/// The sum of all changes of a list open at its start.
fn sum(list: &mut File) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    let start = io::Seek::rewind(list);
    start.and_then(|()| list.take(LIST_BYTES + 1).read_to_end(&mut bytes))?;
    let (changes, rest) = bytes.as_chunks::<CHANGE_BYTES>();
    if !rest.is_empty() || bytes.len() as u64 > LIST_BYTES {
        return Ok(None);
    }
    let sum = changes.iter().fold(0_i64, |sum, change| sum.saturating_add(i64::from_le_bytes(*change)));
    Ok(u64::try_from(sum).ok().filter(|sum| sum % BLOCK_BYTES == 0))
}

/// The change from a file of `old` bytes to one of `new`, with `None` for no file.
pub(super) fn change(old: Option<u64>, new: Option<u64>) -> i64 {
    let bytes = |size: Option<u64>| size.map_or(0, |size| i64::try_from(stored(size)).unwrap_or(i64::MAX));
    bytes(new).saturating_sub(bytes(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(start: &[u8], change: i64) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage");
        std::fs::write(&path, start).unwrap();
        let mut list = File::options().read(true).append(true).open(&path).unwrap();
        note(&mut list, change).unwrap()
    }

    #[test]
    fn changes_add_up() {
        assert_eq!(noted(b"", 4096), Some(4096));
        let start = [8192_i64.to_le_bytes(), (-4096_i64).to_le_bytes()].concat();
        assert_eq!(noted(&start, 4096), Some(8192));
    }

    #[test]
    fn a_list_that_is_damaged_or_long_gives_no_sum() {
        assert_eq!(noted(b"torn", 1), None);
        assert_eq!(noted(&[0; 64 << 10], 0), None);
        assert_eq!(noted(&[0; (64 << 10) - 8], 4096), Some(4096));
        assert_eq!(noted(b"", -4096), None);
        assert_eq!(noted(b"", 1), None);
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
