//! One entry of a tar archive as plain data.

use std::{
    collections::{BTreeMap, btree_map},
    fmt, hash,
    ops::{Deref, DerefMut},
    sync::Arc,
};

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
    pub xattrs: Xattrs,
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
            xattrs: Xattrs::default(),
            header_offset: Uncompressed(0),
            data_offset: Uncompressed(0),
            stored_size: 0,
        }
    }
}

/// Extended attributes: values by name. Clones share them, so that an archive that gives the same attributes to all of its
/// entries costs their size once.
///
/// ```
/// use layerslayer::{Entry, EntryKind, Xattrs};
///
/// let mut ping = Entry::new("bin/ping", EntryKind::File);
/// ping.xattrs.insert(b"user.note".to_vec(), b"text".to_vec());
/// assert_eq!(ping.xattrs.get(&b"user.note"[..]).unwrap(), b"text");
/// assert_eq!(ping.xattrs, Xattrs::from_iter([(b"user.note".to_vec(), b"text".to_vec())]));
/// ```
#[derive(Clone, Default)]
pub struct Xattrs(Option<Arc<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl Xattrs {
    /// Whether both are clones of the same attributes.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Bytes of the list of names, with a NUL after each, as Linux counts them.
    pub(crate) fn list_bytes(&self) -> usize {
        self.keys().map(|name| name.len() + 1).sum()
    }

    /// These attributes, with those of `other` in addition and instead of others of the same name.
    pub(crate) fn overlaid(self, other: Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return if self.is_empty() { other } else { self };
        }
        let mut all = self;
        all.extend(other.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
}

impl Deref for Xattrs {
    type Target = BTreeMap<Vec<u8>, Vec<u8>>;

    fn deref(&self) -> &Self::Target {
        const EMPTY: &BTreeMap<Vec<u8>, Vec<u8>> = &BTreeMap::new();
        self.0.as_deref().unwrap_or(EMPTY)
    }
}

impl DerefMut for Xattrs {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(attributes: I) -> Self {
        Self(Some(Arc::new(BTreeMap::from_iter(attributes))))
    }
}

impl<'a> IntoIterator for &'a Xattrs {
    type Item = (&'a Vec<u8>, &'a Vec<u8>);
    type IntoIter = btree_map::Iter<'a, Vec<u8>, Vec<u8>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Xattrs {
    fn eq(&self, other: &Self) -> bool {
        self.is_shared_with(other) || **self == **other
    }
}

impl Eq for Xattrs {}

impl hash::Hash for Xattrs {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Xattrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
