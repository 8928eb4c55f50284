//! Long values that many entries repeat: they are written once and referred to afterwards.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

/// From this length on, in bytes, a value is written only once.
const LONG_VALUE: usize = 1 << 10;

/// The long values that have been written.
#[derive(Default)]
pub(super) struct LongValues {
    /// The number of the `entry` line, by the hash of a key and its value.
    lines: HashMap<[u8; 32], u64>,
}

impl LongValues {
    /// Returns the number of an earlier `entry` line with the same value for the key, which is a path of names. `None` if there is no
    /// such line or the value is short: then it must be written in `line`.
    pub(super) fn earlier(&mut self, key: &[&[u8]], value: &[u8], line: u64) -> Option<u64> {
        if value.len() < LONG_VALUE {
            return None;
        }
        let mut hash = Sha256::new();
        for part in key {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(value);
        let first = *self.lines.entry(hash.finalize().into()).or_insert(line);
        (first != line).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_values_of_the_same_key_are_repetitions() {
        let (mut values, long) = (LongValues::default(), vec![b'x'; LONG_VALUE]);
        assert_eq!(values.earlier(&[b"uname"], &long, 3), None);
        assert_eq!(values.earlier(&[b"uname"], &long, 3), None);
        assert_eq!(values.earlier(&[b"uname"], &long, 4), Some(3));
        assert_eq!(values.earlier(&[b"gname"], &long, 5), None);
        assert_eq!(values.earlier(&[b"xattrs", b"user.a"], &long, 5), None);
        assert_eq!(values.earlier(&[b"xattrs", b"user.a"], &long, 9), Some(5));
        let short = &long[1..];
        assert_eq!(values.earlier(&[b"uname"], short, 5), None);
        assert_eq!(values.earlier(&[b"uname"], short, 6), None);
    }
}
