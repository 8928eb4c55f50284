//! `--tar`: writes entries as a tar archive in the POSIX (pax) format.

use std::io::{self, Read, Write};

use layerslayer::{Entry, EntryKind};
use tar::{EntryType, Header};

use super::copy_exactly;

/// Largest number that fits the 8-byte fields of owners and devices.
const MAX_ID: u64 = 0o7_777_777;

/// Largest number that fits the 12-byte fields of sizes and times.
const MAX_NUMBER: u64 = 0o77_777_777_777;

/// Size of a tar block in bytes; headers and content are padded to it.
const BLOCK_BYTES: usize = 512;

/// File name under which readers without pax support extract pax headers.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// A tar archive writer. It takes the header layout from the `tar` crate, but not its `Builder`: that one would write the end of the
/// archive even after a failure.
pub(crate) struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    /// Creates an archive that is written to `out`.
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds an entry at `path`; with `hardlink_to`, as a hard link to that earlier entry.
    pub(crate) fn write(
        &mut self,
        path: &[u8],
        entry: &Entry,
        hardlink_to: Option<&[u8]>,
        content: impl Read,
    ) -> io::Result<()> {
        let (kind, link) = match (hardlink_to, entry.kind) {
            (Some(target), _) => (EntryType::Link, target),
            (None, EntryKind::Symlink) => (EntryType::Symlink, &entry.link[..]),
            (None, kind) => (plain_type(kind), &b""[..]),
        };
        let size = if kind == EntryType::Regular { entry.size } else { 0 };
        let mut path = path.to_vec();
        match (path.is_empty(), kind == EntryType::Directory) {
            (true, _) => path.extend_from_slice(b"./"),
            (false, true) => path.push(b'/'),
            (false, false) => {}
        }
        let mut header = Header::new_ustar();
        let mut extensions = Extensions::default();
        header.set_entry_type(kind);
        header.set_mode(entry.mode & 0o7777);
        header.set_uid(extensions.number("uid", entry.uid, MAX_ID));
        header.set_gid(extensions.number("gid", entry.gid, MAX_ID));
        header.set_size(extensions.number("size", size, MAX_NUMBER));
        header.set_mtime(extensions.time(entry));
        if let Some((major, minor)) = entry.device {
            let fits = |number: u32| u64::from(number) <= MAX_ID;
            if !fits(major) || !fits(minor) {
                return Err(io::Error::other(format!(
                    "device number {major},{minor} does not fit in a tar header"
                )));
            }
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        if let Some(fields) = header.as_ustar_mut() {
            extensions.bytes("path", &mut fields.name, &path);
            extensions.bytes("linkpath", &mut fields.linkname, link);
            extensions.bytes("uname", &mut fields.uname, &entry.uname);
            extensions.bytes("gname", &mut fields.gname, &entry.gname);
        }
        for (name, value) in entry.xattrs.iter().filter(|_| hardlink_to.is_none()) {
            // A key cannot contain "=": the first one ends it.
            if let Ok(name) = str::from_utf8(name)
                && !name.contains('=')
            {
                extensions.records.push((format!("SCHILY.xattr.{name}"), value.clone()));
            }
        }
        let records = extensions.encoded();
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            header.set_mtime(0);
            if let Some(fields) = header.as_ustar_mut() {
                Extensions::default().bytes("path", &mut fields.name, PAX_NAME);
            }
            self.member(header, records.as_slice(), records.len() as u64)?;
        }
        self.member(header, content, size)
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        Ok(self.out)
    }

    fn member(&mut self, mut header: Header, content: impl Read, size: u64) -> io::Result<()> {
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        copy_exactly(content, &mut self.out, size)?;
        let padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out)?;
        Ok(())
    }
}

fn plain_type(kind: EntryKind) -> EntryType {
    match kind {
        EntryKind::Block => EntryType::Block,
        EntryKind::Char => EntryType::Char,
        EntryKind::Directory => EntryType::Directory,
        EntryKind::Fifo => EntryType::Fifo,
        _ => EntryType::Regular,
    }
}

/// Records of a pax header, for values that do not fit in the ustar header.
#[derive(Default)]
struct Extensions {
    records: Vec<(String, Vec<u8>)>,
    is_binary: bool,
}

impl Extensions {
    /// Writes bytes to a field, and adds a record if they do not fit.
    fn bytes(&mut self, key: &str, field: &mut [u8], value: &[u8]) {
        field.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        if value.len() > field.len() {
            self.is_binary |= str::from_utf8(value).is_err();
            self.records.push((key.to_owned(), value.to_vec()));
        }
    }

    /// Returns the number for a field, or 0 and adds a record if it does not fit.
    fn number(&mut self, key: &str, value: u64, last: u64) -> u64 {
        if value <= last {
            return value;
        }
        self.records.push((key.to_owned(), value.to_string().into_bytes()));
        0
    }

    /// Returns the time for the header, and adds a record if it has a fraction or does not fit.
    fn time(&mut self, entry: &Entry) -> u64 {
        let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
        let whole = u64::try_from(seconds).ok().filter(|&seconds| seconds <= MAX_NUMBER);
        if whole.is_none() || nanoseconds != 0 {
            self.records.push(("mtime".to_owned(), decimal(seconds, nanoseconds).into_bytes()));
        }
        whole.unwrap_or(0)
    }

    /// Encodes the records, `hdrcharset` first.
    fn encoded(self) -> Vec<u8> {
        let charset = self.is_binary.then(|| ("hdrcharset".to_owned(), b"BINARY".to_vec()));
        let records = charset.into_iter().chain(self.records);
        records.flat_map(|(key, value)| record(&key, &value)).collect()
    }
}

/// Encodes one record: `LENGTH KEY=VALUE\n`. The length includes its own digits.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Formats seconds since 1970 as a decimal fraction. Before 1970 the nanoseconds count towards zero.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, fraction) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    match fraction {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction:09}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests;
