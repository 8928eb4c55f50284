//! Leaves: ranges of a blob with a digest, small enough to be verified before they are decoded.

use std::{collections::VecDeque, io, mem};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::spans::{LEAF_BYTES, Spans, leaf_count};
use crate::offset::Compressed;

/// Computes the digests of leaves, span after span.
#[derive(Debug)]
pub(super) struct LeafHasher {
    hasher: Sha256,
    /// Bytes of the open leaf.
    filled: usize,
    done: Vec<[u8; 32]>,
}

impl LeafHasher {
    /// Starts at a span after spans with these digests.
    pub(super) fn new(done: Vec<[u8; 32]>) -> Self {
        Self { hasher: Sha256::new(), filled: 0, done }
    }

    /// Hashes the next bytes of the span.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(LEAF_BYTES as usize - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == LEAF_BYTES as usize {
                self.end_span();
            }
        }
    }

    /// Ends the span and its last leaf.
    pub(super) fn end_span(&mut self) {
        if self.filled > 0 {
            self.done.push(mem::take(&mut self.hasher).finalize().into());
            self.filled = 0;
        }
    }

    /// The digests of all complete leaves.
    pub(super) fn finish(self) -> Vec<[u8; 32]> {
        self.done
    }
}

/// Passes on bytes of a blob leaf by leaf, once their digests are verified.
#[derive(Debug)]
pub(crate) struct LeafVerifier {
    /// Lengths and digests of the remaining leaves.
    leaves: VecDeque<(usize, [u8; 32])>,
    /// Start of the open leaf.
    at: Compressed,
    hasher: Sha256,
    filled: usize,
    /// Bytes of the open leaf that came in earlier pieces.
    held: BytesMut,
}

impl LeafVerifier {
    /// For bytes from the start of a span to the end of the blob.
    pub(crate) fn new(spans: &Spans, index: usize) -> Self {
        let mut leaves = VecDeque::new();
        let before = (0..index).map(|index| leaf_count(&spans.compressed_range(index))).sum::<u64>();
        let start = usize::try_from(before).unwrap_or(usize::MAX);
        let mut digests = spans.leaves.get(start..).unwrap_or_default().iter();
        'spans: for index in index..spans.spans.len() {
            let range = spans.compressed_range(index);
            let mut left = range.end.0 - range.start.0;
            while left > 0 {
                let Some(digest) = digests.next() else { break 'spans };
                let length = left.min(LEAF_BYTES);
                leaves.push_back((length as usize, *digest));
                left -= length;
            }
        }
        let at = spans.compressed_range(index).start;
        Self { leaves, at, hasher: Sha256::new(), filled: 0, held: BytesMut::new() }
    }

    /// Takes the next piece of the blob and returns the bytes that are verified now, up to the end of the last complete leaf.
    ///
    /// # Errors
    ///
    /// Invalid data if a leaf does not match its digest or has none, with its offset in the blob.
    pub(crate) fn push(&mut self, mut piece: Bytes) -> io::Result<Bytes> {
        let mut rest = piece.as_ref();
        let mut verified = 0;
        while let Some(&(length, digest)) = self.leaves.front().filter(|_| !rest.is_empty()) {
            let (now, later) = rest.split_at(rest.len().min(length - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            rest = later;
            if self.filled < length {
                continue;
            }
            if mem::take(&mut self.hasher).finalize().as_slice() != digest {
                return Err(self.refused(&format!("{length} bytes do not match their digest in the TOC")));
            }
            self.leaves.pop_front();
            self.filled = 0;
            self.at.0 += length as u64;
            verified = piece.len() - rest.len();
        }
        if !rest.is_empty() {
            return Err(self.refused("the TOC has no digest for the bytes"));
        }
        let open = piece.split_off(verified);
        if self.held.is_empty() {
            self.held.extend_from_slice(&open);
            return Ok(piece);
        }
        if verified == 0 {
            self.held.extend_from_slice(&open);
            return Ok(Bytes::new());
        }
        self.held.extend_from_slice(&piece);
        let verified = self.held.split().freeze();
        self.held.extend_from_slice(&open);
        Ok(verified)
    }

    /// Ends the input; returns no bytes.
    ///
    /// # Errors
    ///
    /// Invalid data if the last leaf is incomplete.
    pub(crate) fn finish(&mut self) -> io::Result<Bytes> {
        match self.filled {
            0 => Ok(Bytes::new()),
            _ => Err(self.refused("the bytes end inside a leaf")),
        }
    }

    fn refused(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{what} at {}", self.at))
    }
}
