//! Sparse files: which parts of the content the archive stores (GNU tar manual, "Storing Sparse Files").

use std::vec;

use crate::{
    limits,
    tar::{error::ErrorKind, header::BLOCK, number},
};

/// Longest number in a map, in digits: more than `i64::MAX` needs, leading zeros included.
const DIGITS: usize = 32;

/// A range of a file's content that the archive stores.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Segment {
    start: u64,
    end: u64,
}

/// The segments of one file, in order and apart from each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    segments: Vec<Segment>,
    listed: usize,
    end: u64,
    stored: u64,
}

impl Map {
    /// Appends a segment, which must come after all others.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), ErrorKind> {
        if self.listed == limits::SPARSE_SEGMENTS {
            return Err(ErrorKind::SparseTooLong);
        }
        self.listed += 1;
        let end = offset.checked_add(length).ok_or(ErrorKind::SparseMap)?;
        if offset < self.end {
            return Err(ErrorKind::SparseMap);
        }
        self.end = end;
        self.stored = self.stored.checked_add(length).ok_or(ErrorKind::SparseMap)?;
        if length > 0 {
            self.segments.push(Segment { start: offset, end });
        }
        Ok(())
    }

    /// Parses the `offset,length,…` of version 0.1; `count` is the expected number of segments.
    pub(super) fn parse(text: &[u8], count: &[u8]) -> Result<Self, ErrorKind> {
        let mut map = Self::default();
        let mut numbers = text.split(|&byte| byte == b',').filter(|_| !text.is_empty());
        while let Some(offset) = numbers.next() {
            let length = numbers.next().ok_or(ErrorKind::SparseMap)?;
            match (number::decimal(offset), number::decimal(length)) {
                (Some(offset), Some(length)) => map.push(offset, length)?,
                _ => return Err(ErrorKind::SparseMap),
            }
        }
        if number::decimal(count) != Some(map.listed as u64) {
            return Err(ErrorKind::SparseMap);
        }
        Ok(map)
    }

    /// The layout of a content of `size` bytes, of which the archive stores `stored`.
    pub(super) fn extents(self, size: u64, stored: u64) -> Result<Extents, ErrorKind> {
        if self.end > size || self.stored != stored {
            return Err(ErrorKind::SparseMap);
        }
        Ok(Extents { position: 0, size, current: Segment::default(), rest: self.segments.into_iter() })
    }
}

/// Reads the map of version 1.0, which precedes the content: the number of segments, then the offset and length of
/// each, one number per line. (The manual says octal; GNU tar writes decimal.)
#[derive(Debug, Default)]
pub(super) struct MapReader {
    map: Map,
    digits: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    read: u64,
}

impl MapReader {
    /// Reads the next byte.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), ErrorKind> {
        self.read += 1;
        if byte != b'\n' {
            if self.digits.len() == DIGITS {
                return Err(ErrorKind::SparseMap);
            }
            self.digits.push(byte);
            return Ok(());
        }
        let number = number::decimal(&self.digits).ok_or(ErrorKind::SparseMap)?;
        self.digits.clear();
        match (self.count, self.offset.take()) {
            (None, _) if number > limits::SPARSE_SEGMENTS as u64 => Err(ErrorKind::SparseTooLong),
            (None, _) => {
                self.count = Some(number);
                Ok(())
            }
            (Some(_), None) => {
                self.offset = Some(number);
                Ok(())
            }
            (Some(_), Some(offset)) => self.map.push(offset, number),
        }
    }

    /// Whether the map is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.count == Some(self.map.listed as u64)
    }

    /// Bytes from the map's end to the content, which starts on the next block.
    pub(super) fn padding(&self) -> u64 {
        self.read.next_multiple_of(BLOCK as u64) - self.read
    }

    /// Records `bytes` of that padding as read.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.read += bytes;
    }

    pub(super) fn finish(self) -> Map {
        self.map
    }
}

/// Walks a file's content from start to end.
#[derive(Debug)]
pub(super) struct Extents {
    position: u64,
    size: u64,
    current: Segment,
    rest: vec::IntoIter<Segment>,
}

/// The next range of a file's content, with its length in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    Data(u64),
    End,
    Hole(u64),
}

impl Extents {
    /// Content without holes.
    pub(super) fn solid(size: u64) -> Self {
        Self { position: 0, size, current: Segment { start: 0, end: size }, rest: Vec::new().into_iter() }
    }

    /// The extent at the current position. Never 0 bytes.
    pub(super) fn peek(&mut self) -> Extent {
        while self.position >= self.current.end {
            match self.rest.next() {
                Some(segment) => self.current = segment,
                None if self.position < self.size => return Extent::Hole(self.size - self.position),
                None => return Extent::End,
            }
        }
        if self.position < self.current.start {
            return Extent::Hole(self.current.start - self.position);
        }
        Extent::Data(self.current.end - self.position)
    }

    /// Skips `bytes`, at most the length from [`peek`](Self::peek).
    pub(super) fn advance(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes);
    }

    /// Bytes of this content that the archive stores from here on.
    pub(super) fn stored_ahead(&self) -> u64 {
        let current = self.current.end.saturating_sub(self.position);
        self.rest.as_slice().iter().map(|segment| segment.end - segment.start).sum::<u64>() + current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_maximum_size() {
        let mut map = Map::default();
        for _ in 0..limits::SPARSE_SEGMENTS {
            map.push(0, 0).unwrap();
        }
        assert_eq!(map.push(0, 0), Err(ErrorKind::SparseTooLong));
    }
}
