//! Tar archives written entry by entry, in exactly the order and form that a test needs, nonsense
//! included.

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// Longest name that fits into a header without an extension.
const NAME_BYTES: usize = 100;

/// An archive under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// An archive without entries.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends an entry.
    pub(crate) fn member(mut self, member: Member) -> Self {
        member.write(&mut self.bytes);
        self
    }

    /// Appends a regular file of mode 0644.
    pub(crate) fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.member(Member::file(path, content))
    }

    /// Appends a directory of mode 0755.
    pub(crate) fn directory(self, path: impl AsRef<[u8]>) -> Self {
        self.member(Member::directory(path))
    }

    /// Appends a symbolic link.
    pub(crate) fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.member(Member::symlink(path, target))
    }

    /// Appends a hard link.
    pub(crate) fn hardlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.member(Member::hardlink(path, target))
    }

    /// Appends the whiteout that removes `path` from lower layers.
    pub(crate) fn whiteout(self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if parent.is_empty() { "" } else { "/" };
        self.file(format!("{parent}{slash}.wh.{name}"), "")
    }

    /// Appends the marker that hides what lower layers hold in `directory` (empty for the root).
    pub(crate) fn opaque(self, directory: &str) -> Self {
        let slash = if directory.is_empty() { "" } else { "/" };
        self.file(format!("{directory}{slash}.wh..wh..opq"), "")
    }

    /// Appends a PAX global header.
    pub(crate) fn global_pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        write_entry(
            &mut self.bytes,
            &plain_header(EntryType::XGlobalHeader),
            b"",
            b"",
            &pax_record(key, value.as_ref()),
        );
        self
    }

    /// Appends bytes as they are.
    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// The number of bytes: the offset of the next entry's first header.
    pub(crate) fn position(&self) -> usize {
        self.bytes.len()
    }

    /// The archive with its two closing blocks of zeros.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.raw([0; 2 * BLOCK]).bytes
    }

    /// The archive without closing blocks, as some builders leave it.
    pub(crate) fn finish_without_end(self) -> Vec<u8> {
        self.bytes
    }
}

/// How a name too long for a header is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LongNames {
    /// GNU's `././@LongLink` entries.
    Gnu,
    /// PAX `path` and `linkpath` records.
    Pax,
}

/// One entry of a [`Tar`].
#[derive(Clone, Debug)]
pub(crate) struct Member {
    header: Header,
    path: Vec<u8>,
    link: Vec<u8>,
    content: Vec<u8>,
    pax: Vec<u8>,
    long_names: LongNames,
}

impl Member {
    /// A regular file of mode 0644.
    pub(crate) fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self { content: content.as_ref().to_vec(), ..Self::new(EntryType::Regular, path, "") }
    }

    /// A directory of mode 0755; its name gets the customary slash at the end.
    pub(crate) fn directory(path: impl AsRef<[u8]>) -> Self {
        let mut path = path.as_ref().to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        Self::new(EntryType::Directory, path, "").mode(0o755)
    }

    /// A symbolic link.
    pub(crate) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(EntryType::Symlink, path, target).mode(0o777)
    }

    /// A hard link.
    pub(crate) fn hardlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(EntryType::Link, path, target)
    }

    /// A named pipe.
    pub(crate) fn fifo(path: impl AsRef<[u8]>) -> Self {
        Self::new(EntryType::Fifo, path, "")
    }

    /// A character device.
    pub(crate) fn character_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self::device(EntryType::Char, path, major, minor)
    }

    /// A block device.
    pub(crate) fn block_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self::device(EntryType::Block, path, major, minor)
    }

    /// An entry of any type, mode 0644, owned by root, from 2024-01-01T00:00:00Z.
    pub(crate) fn new(kind: EntryType, path: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Self {
        Self {
            header: plain_header(kind),
            path: path.as_ref().to_vec(),
            link: link.as_ref().to_vec(),
            content: Vec::new(),
            pax: Vec::new(),
            long_names: LongNames::Pax,
        }
    }

    fn device(kind: EntryType, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        let mut member = Self::new(kind, path, "");
        member.header.set_device_major(major).unwrap();
        member.header.set_device_minor(minor).unwrap();
        member
    }

    /// Sets permission bits.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    /// Sets numeric owner and group.
    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    /// Sets the names of owner and group.
    pub(crate) fn owner_names(mut self, user: &str, group: &str) -> Self {
        self.header.set_username(user).unwrap();
        self.header.set_groupname(group).unwrap();
        self
    }

    /// Sets the time of last modification, in seconds since 1970.
    pub(crate) fn modified(mut self, seconds: u64) -> Self {
        self.header.set_mtime(seconds);
        self
    }

    /// Adds a PAX record before the entry; the value may be any bytes.
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.extend(pax_record(key, value.as_ref()));
        self
    }

    /// Adds an extended attribute.
    pub(crate) fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Chooses how long names are written; PAX if not called.
    pub(crate) fn long_names(mut self, form: LongNames) -> Self {
        self.long_names = form;
        self
    }

    /// Changes the header freely; size, names and checksum are filled in afterwards.
    pub(crate) fn header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    fn write(mut self, bytes: &mut Vec<u8>) {
        for (gnu, key, value) in
            [(EntryType::GNULongLink, "linkpath", &self.link), (EntryType::GNULongName, "path", &self.path)]
        {
            if value.len() <= NAME_BYTES {
                continue;
            }
            match self.long_names {
                LongNames::Gnu => {
                    let content = [value.as_slice(), b"\0"].concat();
                    write_entry(bytes, &plain_header(gnu), b"././@LongLink", b"", &content);
                }
                LongNames::Pax => self.pax.extend(pax_record(key, value)),
            }
        }
        if !self.pax.is_empty() {
            write_entry(bytes, &plain_header(EntryType::XHeader), b"pax_headers", b"", &self.pax);
        }
        write_entry(bytes, &self.header, &self.path, &self.link, &self.content);
    }
}

fn plain_header(kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_704_067_200);
    header
}

fn write_entry(bytes: &mut Vec<u8>, header: &Header, path: &[u8], link: &[u8], content: &[u8]) {
    let mut header = header.clone();
    header.set_size(content.len() as u64);
    let names = header.as_old_mut();
    for (field, value) in [(&mut names.name, path), (&mut names.linkname, link)] {
        // `tar`'s setters refuse odd names, and odd names are the point. Too long names are cut
        // here and complete in an extension.
        let length = value.len().min(NAME_BYTES);
        field[..length].copy_from_slice(&value[..length]);
    }
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself (POSIX.1-2017, pax, "Extended Header").
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}
