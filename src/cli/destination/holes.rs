//! Sparse files: long runs of zeros become holes.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
};

/// Shortest run of zeros that becomes a hole, in bytes: the block size of most file systems.
const HOLE_BYTES: usize = 4 << 10;

/// Zeros to compare with: comparing memory is many times faster than checking every byte.
const ZEROS: &[u8] = &[0; 64 << 10];

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
