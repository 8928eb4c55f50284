//! Records of PAX extended headers (POSIX.1-2017 pax, "pax Extended Header").

use std::{collections::BTreeMap, mem};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{
    limits,
    tar::{entry::Xattrs, error::ErrorKind, number},
};

/// libarchive writes no padding, but its manual shows some.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The records of one extended header that are used here. An empty value cancels an earlier one.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<Vec<u8>>,
    pub(super) uid: Option<Vec<u8>>,
    pub(super) gid: Option<Vec<u8>>,
    pub(super) uname: Option<Vec<u8>>,
    pub(super) gname: Option<Vec<u8>>,
    pub(super) mtime: Option<Vec<u8>>,
    /// Extended attributes. An empty value is an empty attribute, as GNU tar writes it and containerd reads it.
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    pub(super) major: Option<Vec<u8>>,
    pub(super) minor: Option<Vec<u8>>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<Vec<u8>>,
    pub(super) size: Option<Vec<u8>>,
    pub(super) segments: Option<Vec<u8>>,
    /// Offsets and lengths, comma-separated as in version 0.1. The record pairs of version 0.0 are converted to this form.
    pub(super) map: Option<Vec<u8>>,
}

impl Records {
    /// Parses a whole extended header. The error has the offset of the malformed record in `content`.
    pub(super) fn parse(content: &[u8]) -> Result<Self, (usize, ErrorKind)> {
        let mut records = Self::default();
        let (mut star, mut libarchive) = (XattrList::default(), XattrList::default());
        let mut pairs = Pairs::default();
        let mut rest = content;
        while !rest.is_empty() {
            let at = content.len() - rest.len();
            let malformed = (at, ErrorKind::PaxRecord);
            let fault = |kind| (at, kind);
            let (key, value, following) = split_record(rest).ok_or(malformed)?;
            rest = following;
            let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname" | b"GNU.sparse.name");
            if is_text && value.contains(&0) {
                return Err(malformed);
            }
            if matches!(key, b"uname" | b"gname") && value.len() > limits::OWNER_NAME_BYTES {
                return Err(fault(ErrorKind::OwnerTooLong));
            }
            if let Some(slot) = records.slot(key) {
                *slot = Some(value.to_vec());
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                star.add(name.to_vec(), value.to_vec()).map_err(fault)?;
            } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                // Only libarchive reads these, so one that cannot be decoded is not an error.
                if let (Some(name), Ok(value)) = (percent_decoded(name), BASE64.decode(value)) {
                    libarchive.add(name, value).map_err(fault)?;
                }
            } else if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                pairs.push(key, value).ok_or(malformed)?;
            }
        }
        if pairs.count > 0 {
            records.sparse.map = Some(pairs.joined);
        }
        records.xattrs = libarchive.finish().overlaid(star.finish());
        check_xattrs(&records.xattrs).map_err(|kind| (0, kind))?;
        Ok(records)
    }

    /// Merges a later global header, which takes precedence. Sparse maps make no sense there and are ignored.
    pub(super) fn merge(&mut self, later: Self) {
        let Self { path, linkpath, size, uid, gid, uname, gname, mtime, xattrs, sparse: _ } = later;
        for (slot, value) in [
            (&mut self.path, path),
            (&mut self.linkpath, linkpath),
            (&mut self.size, size),
            (&mut self.uid, uid),
            (&mut self.gid, gid),
            (&mut self.uname, uname),
            (&mut self.gname, gname),
            (&mut self.mtime, mtime),
        ] {
            if value.is_some() {
                *slot = value;
            }
        }
        self.xattrs = mem::take(&mut self.xattrs).overlaid(xattrs);
    }

    /// Total bytes of all values and attribute names.
    pub(super) fn bytes(&self) -> u64 {
        let texts = [
            &self.path,
            &self.linkpath,
            &self.size,
            &self.uid,
            &self.gid,
            &self.uname,
            &self.gname,
            &self.mtime,
        ];
        let texts: usize = texts.into_iter().flatten().map(Vec::len).sum();
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        (texts + xattrs) as u64
    }

    fn slot(&mut self, key: &[u8]) -> Option<&mut Option<Vec<u8>>> {
        Some(match key {
            b"path" => &mut self.path,
            b"linkpath" => &mut self.linkpath,
            b"size" => &mut self.size,
            b"uid" => &mut self.uid,
            b"gid" => &mut self.gid,
            b"uname" => &mut self.uname,
            b"gname" => &mut self.gname,
            b"mtime" => &mut self.mtime,
            b"GNU.sparse.major" => &mut self.sparse.major,
            b"GNU.sparse.minor" => &mut self.sparse.minor,
            b"GNU.sparse.name" => &mut self.sparse.name,
            b"GNU.sparse.realsize" => &mut self.sparse.real_size,
            b"GNU.sparse.size" => &mut self.sparse.size,
            b"GNU.sparse.numblocks" => &mut self.sparse.segments,
            b"GNU.sparse.map" => &mut self.sparse.map,
            _ => return None,
        })
    }
}

/// The attributes of one header, held to Linux's limits while they are collected.
#[derive(Default)]
struct XattrList {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of the list of names, a NUL after each.
    listed: usize,
}

impl XattrList {
    fn add(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), ErrorKind> {
        if value.len() > limits::XATTR_BYTES {
            return Err(ErrorKind::XattrTooLong);
        }
        let length = name.len() + 1;
        if self.values.insert(name, value).is_none() {
            self.listed += length;
        }
        if self.listed > limits::XATTR_BYTES { Err(ErrorKind::XattrListTooLong) } else { Ok(()) }
    }

    fn finish(self) -> Xattrs {
        if self.values.is_empty() { Xattrs::default() } else { self.values.into_iter().collect() }
    }
}

/// Holds the names of merged attributes to Linux's limit.
pub(super) fn check_xattrs(xattrs: &Xattrs) -> Result<(), ErrorKind> {
    if xattrs.list_bytes() > limits::XATTR_BYTES { Err(ErrorKind::XattrListTooLong) } else { Ok(()) }
}

/// The repeated records of sparse version 0.0, which must come as offset, length, offset, length, …
#[derive(Default)]
struct Pairs {
    joined: Vec<u8>,
    count: usize,
}

impl Pairs {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let expected: &[u8] =
            if self.count.is_multiple_of(2) { b"GNU.sparse.offset" } else { b"GNU.sparse.numbytes" };
        if key != expected || value.contains(&b',') {
            return None;
        }
        if self.count > 0 {
            self.joined.push(b',');
        }
        self.joined.extend_from_slice(value);
        self.count += 1;
        Some(())
    }
}

/// Splits `LEN key=value\n` off the front: key, value and the rest. Only the length ends a record, because values may
/// contain newlines.
fn split_record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().position(|&byte| byte == b' ')?;
    let length = number::decimal(content.get(..space)?)?;
    let (record, rest) = content.split_at_checked(usize::try_from(length).ok()?)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (text.get(..equals)?, text.get(equals + 1..)?);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        decoded.push(digit()? << 4 | digit()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let text = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length = (text.len()..).find(|length| text.len() + length.to_string().len() == *length).unwrap();
        [length.to_string().as_bytes(), &text].concat()
    }

    #[test]
    fn a_record_ends_where_its_length_says() {
        let content = [
            record("SCHILY.xattr.user.a", b"x\n15 path=smuggle\n\0"),
            record("path", b"name with\nnewline = and equals"),
            record("comment", b""),
            record("unknown.key", b"anything"),
        ]
        .concat();
        let records = Records::parse(&content).unwrap();
        assert_eq!(records.path.unwrap(), b"name with\nnewline = and equals");
        assert_eq!(records.xattrs[&b"user.a"[..]], b"x\n15 path=smuggle\n\0");
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_an_empty_value_is_kept() {
        let content =
            [record("path", b"a"), record("path", b"b"), record("uid", b"1"), record("uid", b"")].concat();
        let records = Records::parse(&content).unwrap();
        assert_eq!((records.path.unwrap(), records.uid.unwrap()), (b"b".to_vec(), Vec::new()));
    }

    #[test]
    fn a_malformed_record_is_reported_by_its_offset() {
        let good = record("uid", b"1");
        for bad in [
            &b"6 k=v"[..],
            b"7 k=v\n",
            b"5 k=v\n",
            b"6 k=v\0",
            b"7 kkkv\n",
            b"5 =v\n",
            b"0 k=v\n",
            b"-6 k=v\n",
            b"+6 k=v\n",
            b" 6 k=v\n",
            b"x k=v\n",
            b"99999999999999999999 k=v\n",
            b"2 ",
            b"1 k=v\n",
            b"6",
            b"\n",
            b"\0\0\0\0",
            b"7 k\0=v\n",
            b"11 path=a\0\n",
            b"16 linkpath=a\0\n",
            b"22 GNU.sparse.name=\0\n",
            b"25 GNU.sparse.numbytes=1\n",
            b"25 GNU.sparse.offset=1,2\n",
        ] {
            let content = [&good[..], bad].concat();
            assert_eq!(
                Records::parse(&content).err(),
                Some((good.len(), ErrorKind::PaxRecord)),
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn libarchive_attributes_are_decoded_and_star_attributes_win() {
        let content = [
            record("LIBARCHIVE.xattr.user.%41%3d%0a", b"AAEC"),
            record("LIBARCHIVE.xattr.user.padded", b"AA=="),
            record("LIBARCHIVE.xattr.user.bare", b"AA"),
            record("LIBARCHIVE.xattr.user.both", b"AA"),
            record("SCHILY.xattr.user.both", b"star"),
            record("LIBARCHIVE.xattr.user.%4", b"AA"),
            record("LIBARCHIVE.xattr.user.bad", b"A A"),
            record("SCHILY.xattr.user.empty", b""),
        ]
        .concat();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"user.A=\n", &[0, 1, 2]),
            (b"user.bare", &[0]),
            (b"user.both", b"star"),
            (b"user.empty", b""),
            (b"user.padded", &[0]),
        ];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(*Records::parse(&content).unwrap().xattrs, BTreeMap::from(expected));
    }

    #[test]
    fn attributes_are_held_to_the_limits_of_linux() {
        let value = |length: usize| record("SCHILY.xattr.user.a", &vec![b'v'; length]);
        assert!(Records::parse(&value(limits::XATTR_BYTES)).is_ok());
        let content = [record("uid", b"1"), value(limits::XATTR_BYTES + 1)].concat();
        let at = record("uid", b"1").len();
        assert_eq!(Records::parse(&content).err(), Some((at, ErrorKind::XattrTooLong)));

        // Names of 7 bytes and a NUL.
        let list = |prefix: &str, count: usize| -> Vec<u8> {
            (0..count).flat_map(|number| record(&format!("{prefix}.xattr.u{number:06}"), b"")).collect()
        };
        let most = limits::XATTR_BYTES / 8;
        assert!(Records::parse(&list("SCHILY", most)).is_ok());
        let too_long = |content: &[u8]| Records::parse(content).err().map(|(_, kind)| kind);
        assert_eq!(too_long(&list("SCHILY", most + 1)), Some(ErrorKind::XattrListTooLong));
        assert_eq!(too_long(&list("LIBARCHIVE", most + 1)), Some(ErrorKind::XattrListTooLong));
        let repeated = [list("SCHILY", most), list("LIBARCHIVE", most)].concat();
        assert!(Records::parse(&repeated).is_ok(), "a repeated name counts once");
        let both = [list("SCHILY", most), record("LIBARCHIVE.xattr.user", b"")].concat();
        assert_eq!(too_long(&both), Some(ErrorKind::XattrListTooLong));
    }

    #[test]
    fn owner_names_are_held_to_the_limit_of_linux() {
        for key in ["uname", "gname"] {
            assert!(Records::parse(&record(key, &[b'n'; limits::OWNER_NAME_BYTES])).is_ok());
            let refused = Records::parse(&record(key, &[b'n'; limits::OWNER_NAME_BYTES + 1]));
            assert_eq!(refused.err(), Some((0, ErrorKind::OwnerTooLong)));
        }
    }
}
