//! Rows of numbers and bytes, stored column by column, so that each column compresses by its own statistics. Writer and
//! reader hold one group of rows at a time.
//!
//! ```text
//! group │ rows │ length of each column │ column │ column │ …      a group of 0 rows ends the list
//! ```

use std::{array, io};

use super::Error;

/// Most rows per group.
const ROWS: usize = 16 << 10;

/// A group with this many bytes is full.
const FULL_BYTES: usize = 1 << 20;

/// Most bytes of a group, which may exceed `FULL_BYTES` by its last row.
const GROUP_BYTES: u64 = 16 << 20;

/// Most bytes of a number: seven bits in each.
const NUMBER_BYTES: usize = 10;

/// Collects the rows of a list with `N` columns.
pub(in crate::toc) struct Rows<const N: usize> {
    rows: usize,
    columns: [Vec<u8>; N],
}

impl<const N: usize> Rows<N> {
    pub(in crate::toc) fn new() -> Self {
        Self { rows: 0, columns: array::from_fn(|_| Vec::new()) }
    }

    /// The columns that receive the next row.
    pub(in crate::toc) fn columns(&mut self) -> &mut [Vec<u8>; N] {
        &mut self.columns
    }

    /// Whether the next row is the first of its group.
    pub(in crate::toc) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Ends the row.
    pub(in crate::toc) fn end_row(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        self.rows += 1;
        let bytes: usize = self.columns.iter().map(Vec::len).sum();
        if self.rows == ROWS || bytes >= FULL_BYTES { self.end_group(out) } else { Ok(()) }
    }

    /// Ends the list.
    pub(in crate::toc) fn end(mut self, out: &mut impl io::Write) -> io::Result<()> {
        if self.rows > 0 {
            self.end_group(out)?;
        }
        out.write_all(&[0])
    }

    fn end_group(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        let mut lengths = Vec::new();
        number(&mut lengths, self.rows as u64);
        for column in &self.columns {
            number(&mut lengths, column.len() as u64);
        }
        let bytes: usize = self.columns.iter().map(Vec::len).sum();
        if bytes as u64 > GROUP_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an entry is too large to store"));
        }
        out.write_all(&lengths)?;
        for column in &mut self.columns {
            // A flush ends the zstd block, so each column gets its own entropy tables.
            out.flush()?;
            out.write_all(column)?;
            column.clear();
        }
        out.flush()?;
        self.rows = 0;
        Ok(())
    }
}

/// Appends a number, the low seven bits first.
pub(in crate::toc) fn number(column: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        column.push(number as u8 | 0x80);
        number >>= 7;
    }
    column.push(number as u8);
}

/// Appends a number that may be negative. Small ones of either sign are short.
pub(in crate::toc) fn signed(column: &mut Vec<u8>, signed: i64) {
    number(column, (signed << 1 ^ signed >> 63).cast_unsigned());
}

/// Appends bytes after their length.
pub(in crate::toc) fn bytes(column: &mut Vec<u8>, bytes: &[u8]) {
    number(column, bytes.len() as u64);
    column.extend_from_slice(bytes);
}

/// Reads lists of rows.
pub(in crate::toc) struct Section<R> {
    input: R,
    name: &'static str,
    at: u64,
}

/// A column of one group.
pub(in crate::toc) struct Column {
    bytes: Vec<u8>,
    taken: usize,
    section: &'static str,
    /// Offset of its start.
    at: u64,
}

impl<R: io::Read> Section<R> {
    /// Reads unpacked bytes; errors refer to them as `name`.
    pub(in crate::toc) fn new(input: R, name: &'static str) -> Self {
        Self { input, name, at: 0 }
    }

    /// The next group of a list and its number of rows; `None` at the end of the list.
    pub(in crate::toc) fn group<const N: usize>(&mut self) -> Result<Option<(usize, [Column; N])>, Error> {
        let rows = self.number()?;
        if rows == 0 {
            return Ok(None);
        }
        let mut lengths = [0; N];
        for length in &mut lengths {
            *length = self.number()?;
        }
        let bytes = lengths.iter().fold(0, |sum: u64, length| sum.saturating_add(*length));
        if rows > ROWS as u64 || bytes > GROUP_BYTES {
            return Err(self.corrupt("a group that is too large"));
        }
        let mut columns =
            array::from_fn(|_| Column { bytes: Vec::new(), taken: 0, section: self.name, at: 0 });
        for (column, length) in columns.iter_mut().zip(lengths) {
            // `GROUP_BYTES` limits the length.
            column.at = self.at;
            column.bytes.resize(length as usize, 0);
            self.input.read_exact(&mut column.bytes).map_err(|_| self.corrupt("a broken column"))?;
            self.at += length;
        }
        Ok(Some((rows as usize, columns)))
    }

    /// Ends the section: fails if bytes remain.
    pub(in crate::toc) fn end(mut self) -> Result<(), Error> {
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            _ => Err(self.corrupt("excess bytes")),
        }
    }

    pub(in crate::toc) fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { at: self.at, section: self.name, what }
    }

    fn number(&mut self) -> Result<u64, Error> {
        let mut bytes = [0; NUMBER_BYTES];
        let mut length = 0;
        for byte in &mut bytes {
            self.input.read_exact(std::slice::from_mut(byte)).map_err(|_| self.corrupt("a broken list"))?;
            length += 1;
            if *byte < 0x80 {
                break;
            }
        }
        let (value, _) = decode(&bytes).ok_or_else(|| self.corrupt("a number that is too large"))?;
        self.at += length;
        Ok(value)
    }
}

impl Column {
    /// The next number.
    #[inline]
    pub(in crate::toc) fn number(&mut self) -> Result<u64, Error> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        if let Some(byte) = rest.first().filter(|byte| **byte < 0x80) {
            self.taken += 1;
            return Ok(u64::from(*byte));
        }
        let (value, length) = decode(rest).ok_or_else(|| self.corrupt("a broken number"))?;
        self.taken += length;
        Ok(value)
    }

    /// The next number, at most `most`.
    #[inline]
    pub(in crate::toc) fn number_to(&mut self, most: u64) -> Result<u64, Error> {
        let number = self.number()?;
        if number > most { Err(self.corrupt("a number that is too large")) } else { Ok(number) }
    }

    /// The next number of 32 bits.
    #[inline]
    pub(in crate::toc) fn short(&mut self) -> Result<u32, Error> {
        Ok(self.number_to(u32::MAX.into())? as u32)
    }

    /// The next number that may be negative.
    #[inline]
    pub(in crate::toc) fn signed(&mut self) -> Result<i64, Error> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// The next byte.
    #[inline]
    pub(in crate::toc) fn byte(&mut self) -> Result<u8, Error> {
        let byte = self.bytes.get(self.taken).copied().ok_or_else(|| self.corrupt("a missing byte"))?;
        self.taken += 1;
        Ok(byte)
    }

    /// The next `length` bytes.
    #[inline]
    pub(in crate::toc) fn take(&mut self, length: u64) -> Result<&[u8], Error> {
        let end = usize::try_from(length).ok().and_then(|length| self.taken.checked_add(length));
        let Some(end) = end.filter(|end| *end <= self.bytes.len()) else {
            return Err(self.corrupt("missing bytes"));
        };
        let taken = self.bytes.get(self.taken..end).unwrap_or_default();
        self.taken = end;
        Ok(taken)
    }

    /// The next bytes, preceded by their length of at most `most`.
    pub(in crate::toc) fn bytes(&mut self, most: u64) -> Result<&[u8], Error> {
        let length = self.number_to(most)?;
        self.take(length)
    }

    /// Ends the group: fails if bytes remain.
    pub(in crate::toc) fn end(&self) -> Result<(), Error> {
        if self.taken == self.bytes.len() { Ok(()) } else { Err(self.corrupt("excess bytes")) }
    }

    /// An error at the last value read.
    #[cold]
    pub(in crate::toc) fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { at: self.at + self.taken as u64, section: self.section, what }
    }
}

/// The number at the front of `bytes` and its encoded length.
fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(NUMBER_BYTES) {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * index);
        if shifted >> (7 * index) != bits {
            return None;
        }
        value |= shifted;
        if *byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [u64; 9] = [0, 1, 127, 128, 16_383, 16_384, u32::MAX as u64, 1 << 63, u64::MAX];

    fn column(bytes: Vec<u8>) -> Column {
        Column { bytes, taken: 0, section: "test", at: 7 }
    }

    #[test]
    fn numbers_round_trip() {
        let mut written = Vec::new();
        for value in NUMBERS {
            number(&mut written, value);
            signed(&mut written, value.cast_signed());
            signed(&mut written, value.cast_signed().wrapping_neg());
        }
        let mut read = column(written);
        for value in NUMBERS {
            assert_eq!(read.number().unwrap(), value);
            assert_eq!(read.signed().unwrap(), value.cast_signed());
            assert_eq!(read.signed().unwrap(), value.cast_signed().wrapping_neg());
        }
        assert!(read.end().is_ok());
    }

    #[test]
    fn broken_numbers_are_rejected_with_their_offset() {
        let refused = |bytes: &[u8]| column(bytes.to_vec()).number().unwrap_err().to_string();
        for bytes in
            [&[][..], &[0x80], &[0xff; 10], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]]
        {
            assert_eq!(refused(bytes), "a broken number at byte 7 of the test");
        }
        assert!(column(vec![0x80, 1]).number_to(127).is_err());
        assert!(column(vec![1, 2]).take(3).is_err());
        assert!(column(vec![1, 2]).take(u64::MAX).is_err());
        assert!(column(vec![1, 2]).end().is_err());
    }

    #[test]
    fn rows_round_trip_in_groups() {
        let mut stored = Vec::new();
        let mut rows: Rows<2> = Rows::new();
        for row in 0..ROWS + 5 {
            let [one, other] = rows.columns();
            number(one, row as u64);
            bytes(other, &[b'x'; 3]);
            rows.end_row(&mut stored).unwrap();
        }
        rows.end(&mut stored).unwrap();
        let mut section = Section::new(&stored[..], "test");
        let mut expected = 0;
        for length in [ROWS, 5] {
            let (rows, [mut one, mut other]) = section.group::<2>().unwrap().unwrap();
            assert_eq!(rows, length);
            for _ in 0..rows {
                assert_eq!(one.number().unwrap(), expected);
                assert_eq!(other.bytes(3).unwrap(), b"xxx");
                expected += 1;
            }
            assert!(one.end().is_ok() && other.end().is_ok());
        }
        assert!(section.group::<2>().unwrap().is_none());
        assert!(section.end().is_ok());
    }

    #[test]
    fn oversized_and_truncated_groups_are_rejected() {
        let refused = |rows: u64, lengths: [u64; 2], content: &[u8]| {
            let mut stored = Vec::new();
            for value in [rows].iter().chain(&lengths) {
                number(&mut stored, *value);
            }
            stored.extend_from_slice(content);
            let mut section = Section::new(&stored[..], "test");
            section.group::<2>().map(|_| ()).and_then(|()| section.end()).is_err()
        };
        assert!(!refused(1, [1, 2], b"abc"));
        assert!(refused(1, [1, 3], b"abc"));
        assert!(refused(1, [1, 1], b"abc"));
        assert!(refused(ROWS as u64 + 1, [1, 2], b"abc"));
        assert!(refused(1, [u64::MAX, 2], b"abc"));
        assert!(refused(1, [GROUP_BYTES, 1], &vec![0; GROUP_BYTES as usize + 1]));
    }
}
