//! One entry of a tar archive as plain data.

use std::collections::BTreeMap;

use crate::offset::Uncompressed;

/// What an entry is.
///
/// ```
/// use layerslayer::{Entry, EntryKind};
///
/// assert_eq!(Entry::new("etc", EntryKind::Directory).kind, EntryKind::Directory);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum EntryKind {
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A regular file.
    File,
    /// Another name of an entry of the same archive.
    Hardlink,
    /// An opaque marker (`.wh..wh..opq`): hides this directory's contents in lower layers.
    Opaque,
    /// Anything else: GNU dumps and volume labels, or a type that no format defines. Its data is ignored.
    Other,
    /// A symbolic link.
    Symlink,
    /// A whiteout (`.wh.NAME`): hides this path in lower layers.
    Whiteout,
}

/// A point in time: seconds and nanoseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use layerslayer::Timestamp;
///
/// let half_a_second_before_1970 = Timestamp { seconds: -1, nanoseconds: 500_000_000 };
/// assert!(half_a_second_before_1970 < Timestamp::default());
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, `0..1_000_000_000`.
    pub nanoseconds: u32,
}

/// One entry of a layer.
///
/// ```
/// use layerslayer::{Entry, EntryKind};
///
/// let entry = Entry::new("etc/passwd", EntryKind::File);
/// assert_eq!((entry.path.as_slice(), entry.size), (&b"etc/passwd"[..], 0));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Path from the root: no leading `./` or `/`, no trailing `/`, no `.` or `..` components; empty for the root itself.
    /// For a whiteout, the path that it removes; for an opaque marker, its directory.
    pub path: Vec<u8>,
    /// The kind of entry.
    pub kind: EntryKind,
    /// Size of the content in bytes, holes of sparse files included; 0 for anything but files.
    pub size: u64,
    /// Permission bits, set-user-ID, set-group-ID and sticky bit: `0..=0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Name of the owner, if the archive has one.
    pub uname: Vec<u8>,
    /// Name of the group, if the archive has one.
    pub gname: Vec<u8>,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// The target of a symbolic link, verbatim, or of a hard link, as a path like `path`. Empty for other kinds.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Extended attributes (PAX `SCHILY.xattr.*` and `LIBARCHIVE.xattr.*`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset of the entry's first header block, extension headers included.
    pub header_offset: Uncompressed,
    /// Offset of the entry's stored content.
    pub data_offset: Uncompressed,
    /// Bytes of content stored in the archive: less than `size` for a sparse file; the data of an [`EntryKind::Other`].
    pub stored_size: u64,
}

impl Entry {
    /// An entry of this kind at this path. Size, owners, time and mode are 0.
    ///
    /// ```
    /// use layerslayer::{Entry, EntryKind};
    ///
    /// let mut entry = Entry::new("etc/passwd", EntryKind::File);
    /// entry.mode = 0o644;
    /// assert_eq!(entry.path, b"etc/passwd");
    /// ```
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        Self {
            path: path.into(),
            kind,
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            uname: Vec::new(),
            gname: Vec::new(),
            mtime: Timestamp::default(),
            link: Vec::new(),
            device: None,
            xattrs: BTreeMap::new(),
            header_offset: Uncompressed(0),
            data_offset: Uncompressed(0),
            stored_size: 0,
        }
    }
}
