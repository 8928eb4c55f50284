//! Adds an entry to a layer's tree, as extracting it would add it to a directory.
//!
//! ```text
//! path ─ split ─▶ parent ─ resolve_parent ─▶ directory + missing components ─ ensure_directory ─▶ directory
//!           └──▶ name ────────────────────────────────────────────────────────────────────▶ push_record
//! ```
//!
//! Deviations from an extraction: a whiteout never removes entries of its own layer, wherever it is in the tar; a hard
//! link to a missing path is kept instead of rejected; no kind of entry is rejected.

use std::borrow::Cow;

use super::{
    EntryTree, Index, RECORDS, ROOT, TEXT_BYTES, components, names::Key, record::*,
    segmented_vec::SegmentedVec, warnings::WarningKind,
};
use crate::{
    limits,
    offset::Uncompressed,
    tar::entry::{Entry, EntryKind},
};

/// Why an entry cannot be added.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    /// An entry after the end of the layer.
    #[error("an entry after the end of the layer, at {0}")]
    Complete(Uncompressed),
    /// Names, links, owners and extended attributes exceed [`limits::NAME_BYTES`].
    #[error("the layer's names take more than {max} bytes, at {0}", max = limits::NAME_BYTES)]
    NameBytes(Uncompressed),
    /// A path or link target longer than [`limits::PATH_BYTES`], or of more components than
    /// [`limits::PATH_COMPONENTS`].
    #[error("a path is too long or too deep, at {0}")]
    Path(Uncompressed),
    /// More entries than [`limits::ENTRIES`].
    #[error("the layer has more than {max} entries, at {0}", max = limits::ENTRIES)]
    TooMany(Uncompressed),
}

/// The result of inserting an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Inserted {
    /// The entry's record.
    pub(crate) record: u32,
    /// A symbolic link of this layer was followed, so `EntryTree::path` differs from the entry's path.
    pub(crate) moved: bool,
    /// The layer already had an entry at this path.
    pub(crate) replaced: bool,
}

/// The directory of the last entry, if no link led there. Most entries are in the same directory as the one before, and an
/// entry never replaces its own directory.
#[derive(Clone, Debug, Default)]
pub(super) struct LastDirectory {
    path: Vec<u8>,
    directory: Option<u32>,
}

impl LastDirectory {
    fn directory(&self, path: &[u8]) -> Option<u32> {
        self.directory.filter(|_| self.path == path)
    }

    fn set(&mut self, path: &[u8], directory: u32) {
        self.path.clear();
        self.path.extend_from_slice(path);
        self.directory = Some(directory);
    }
}

/// The directory that a path leads to within a layer.
pub(super) struct ResolvedParent<'a> {
    /// The last existing directory.
    pub(super) directory: u32,
    /// The components below it that are not directories yet.
    pub(super) missing: Vec<Cow<'a, [u8]>>,
    /// Whether a symbolic link was followed.
    followed: bool,
}

/// A path's parent and last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

impl EntryTree {
    /// Adds the next entry of the layer. Its path must be normalised, and its markers interpreted as kinds `Whiteout` and
    /// `Opaque`.
    ///
    /// # Errors
    /// If a cap would be exceeded. The layer cannot be listed then.
    pub(crate) fn insert(&mut self, entry: &Entry) -> Result<Inserted, Error> {
        let at = entry.header_offset;
        if self.is_complete() {
            return Err(Error::Complete(at));
        }
        if entry.path.len().max(entry.link.len()) as u64 > limits::PATH_BYTES {
            return Err(Error::Path(at));
        }
        if entry.path.is_empty() || entry.kind == EntryKind::Opaque {
            return self.insert_directory_itself(entry);
        }
        // Before the path itself is replaced: a link to its own path means the earlier entry.
        let target = self.hardlink_target(entry);
        let (parent, name) = split(&entry.path);
        let (directory, moved) = self.ensure_directory(parent, at)?;
        let before = self.find(directory, name, entry.kind == EntryKind::Whiteout);
        let replaced =
            before.is_some_and(|record| !self.is_implied(record) || entry.kind != EntryKind::Directory);
        if replaced {
            self.warnings.add(WarningKind::Duplicate, &entry.path);
        }
        let stays = before.filter(|record| self.kind(*record) == entry.kind && !is_fresh(entry.kind));
        let record = match stays {
            Some(record) => record,
            None => self.push_record(directory, name, entry.kind, before, at)?,
        };
        self.fill_record(record, entry, target)?;
        Ok(Inserted { record, moved, replaced })
    }

    /// Follows a path of directories as far as this layer has it.
    pub(super) fn resolve_parent<'a>(&self, path: &'a [u8]) -> Result<ResolvedParent<'a>, TooDeep> {
        let mut resolved = ResolvedParent { directory: ROOT, missing: Vec::new(), followed: false };
        let mut rest: Vec<Cow<'a, [u8]>> = components(path).map(Cow::Borrowed).collect();
        rest.reverse();
        // How many of `rest` are the path's own components, the last one taken, and the directory it was looked up in.
        let (mut own, mut current, mut start) = (rest.len(), &b""[..], ROOT);
        let mut unwalked = components(path);
        let (mut steps, mut links) = (0, 0);
        while let Some(name) = rest.pop() {
            steps += 1;
            if steps > limits::PATH_COMPONENTS {
                return Err(TooDeep);
            }
            if rest.len() < own {
                own = rest.len();
                current = unwalked.next().unwrap_or_default();
                start = resolved.directory;
            }
            if *name == *b".." {
                // A missing component is removed by name, an existing one by its parent. The root is its own parent.
                if resolved.missing.pop().is_none() {
                    resolved.directory = self.parent(resolved.directory);
                }
                continue;
            }
            let child =
                if resolved.missing.is_empty() { self.child(resolved.directory, &name) } else { None };
            let Some(record) = child else {
                resolved.missing.push(name);
                continue;
            };
            if self.kind(record) == EntryKind::Directory {
                resolved.directory = record;
                continue;
            }
            let Some(target) = self.symlink(record) else {
                resolved.missing.push(name);
                continue;
            };
            if links == limits::SYMLINKS {
                // A loop: the component that led into it is treated as missing.
                resolved.directory = start;
                resolved.missing.push(Cow::Borrowed(current));
                rest.truncate(own);
                continue;
            }
            if rest.len() + target.len() / 2 > limits::PATH_COMPONENTS {
                return Err(TooDeep);
            }
            links += 1;
            resolved.followed = true;
            if target.starts_with(b"/") {
                resolved.directory = ROOT;
            }
            let before = rest.len();
            rest.extend(components(target).map(|name| Cow::Owned(name.to_vec())));
            if let Some(added) = rest.get_mut(before..) {
                added.reverse();
            }
        }
        Ok(resolved)
    }

    /// A symbolic link's target, also through a hard link of this layer.
    fn symlink(&self, record: u32) -> Option<&[u8]> {
        let target = match self.record(record) {
            link if link.kind == EntryKind::Hardlink && link.target != NONE => link.target,
            _ => record,
        };
        (self.kind(target) == EntryKind::Symlink).then(|| self.link(target))
    }

    fn hardlink_target(&self, entry: &Entry) -> u32 {
        if entry.kind != EntryKind::Hardlink {
            return NONE;
        }
        match self.lookup(&entry.link) {
            Some(record) if self.kind(record) == EntryKind::Directory => NONE,
            Some(record) if self.record(record).target != NONE => self.record(record).target,
            Some(record) => record,
            None => NONE,
        }
    }

    /// The directory that a path leads to. Missing components are created.
    fn ensure_directory(&mut self, path: &[u8], at: Uncompressed) -> Result<(u32, bool), Error> {
        if let Some(directory) = self.last_directory.directory(path) {
            return Ok((directory, false));
        }
        let ResolvedParent { mut directory, missing, followed } =
            self.resolve_parent(path).map_err(|TooDeep| Error::Path(at))?;
        for name in missing {
            let before = self.child(directory, &name);
            if before.is_some() {
                self.warnings.add(WarningKind::ReplacedByDirectory, path);
            }
            directory = self.push_record(directory, &name, EntryKind::Directory, before, at)?;
        }
        if followed {
            self.last_directory = LastDirectory::default();
            self.warnings.add(WarningKind::FollowedLink, path);
            if self.path(directory).len() as u64 > limits::PATH_BYTES {
                return Err(Error::Path(at));
            }
        } else {
            self.last_directory.set(path, directory);
        }
        Ok((directory, followed))
    }

    /// Adds an entry for the root, or an opaque marker, which describes its directory.
    fn insert_directory_itself(&mut self, entry: &Entry) -> Result<Inserted, Error> {
        let (record, moved) = self.ensure_directory(&entry.path, entry.header_offset)?;
        let replaced = entry.kind != EntryKind::Opaque && !self.is_implied(record);
        match entry.kind {
            EntryKind::Directory => self.fill_record(record, entry, NONE)?,
            EntryKind::Opaque => self.mark_opaque(record, entry)?,
            _ => self.warnings.add(WarningKind::RootIgnored, &entry.path),
        }
        Ok(Inserted { record, moved, replaced })
    }

    /// Adds an opaque marker as a record without a name below its directory, outside the index.
    fn mark_opaque(&mut self, directory: u32, marker: &Entry) -> Result<(), Error> {
        let at = marker.header_offset;
        if self.records.len() >= self.max_records {
            return Err(Error::TooMany(at));
        }
        let number = self.records.len() as u32;
        let text = self.push_text(&[], at)?;
        self.records.push(Record { kind: EntryKind::Opaque, ..Record::implied(directory, text) });
        if let Some(directory) = self.records.get_mut(directory as usize) {
            directory.flags |= OPAQUE;
        }
        self.fill_record(number, marker, NONE)
    }

    /// Adds a record. It replaces `before`, the record of the same name and kind (whiteout or not).
    fn push_record(
        &mut self,
        parent: u32,
        name: &[u8],
        kind: EntryKind,
        before: Option<u32>,
        at: Uncompressed,
    ) -> Result<u32, Error> {
        if self.records.len() >= self.max_records {
            return Err(Error::TooMany(at));
        }
        let whiteout = kind == EntryKind::Whiteout;
        let text = match before {
            Some(record) => (self.record(record).name_start, self.record(record).name_length),
            None => self.push_text(name, at)?,
        };
        let number = self.records.len() as u32;
        self.records.push(Record { kind, ..Record::implied(parent, text) });
        if let Some(before) = before.and_then(|before| self.records.get_mut(before as usize)) {
            before.flags |= REPLACED;
        }
        let Self { records, names, index: Index::Hashed(index), .. } = self else {
            return Err(Error::Complete(at));
        };
        index.insert((parent, name, whiteout), number, before, |other| key_of(records, names, other));
        Ok(number)
    }

    /// Writes the entry's metadata into its record.
    fn fill_record(&mut self, number: u32, entry: &Entry, target: u32) -> Result<(), Error> {
        let at = entry.header_offset;
        let size_or_link = match entry.kind {
            EntryKind::Hardlink | EntryKind::Symlink => {
                let (start, length) = self.push_text(&entry.link, at)?;
                u64::from(start) | u64::from(length) << 32
            }
            _ => entry.size,
        };
        let (owner, owner_bytes) = self.owners.intern(entry);
        let rare = Rare::of(entry);
        let mut flags = if rare.is_some() { RARE } else { 0 };
        self.extra_bytes += owner_bytes + rare.as_ref().map_or(0, |rare| rare.bytes());
        self.check_bytes(0, at)?;
        match rare {
            Some(rare) => self.rare.insert(number, rare),
            None => self.rare.remove(&number),
        };
        let Some(record) = self.records.get_mut(number as usize) else { return Ok(()) };
        flags |= record.flags & OPAQUE;
        *record = Record {
            seconds: entry.mtime.seconds,
            size_or_link,
            header_offset: at.0,
            nanoseconds: entry.mtime.nanoseconds,
            owner,
            // If it does not fit, `Rare` has the offset.
            header_blocks: header_blocks(entry).unwrap_or(0),
            target,
            mode: (entry.mode & 0o7777) as u16,
            kind: entry.kind,
            flags,
            ..*record
        };
        Ok(())
    }

    /// Copies a name or link target into the arena.
    fn push_text(&mut self, text: &[u8], at: Uncompressed) -> Result<(u32, u16), Error> {
        self.check_bytes(text.len(), at)?;
        let start = self.names.push_slice(text).and_then(|start| u32::try_from(start).ok());
        let (Some(start), Ok(length)) = (start, u16::try_from(text.len())) else {
            return Err(Error::NameBytes(at));
        };
        Ok((start, length))
    }

    fn check_bytes(&self, more: usize, at: Uncompressed) -> Result<(), Error> {
        let bytes = self.extra_bytes + (self.names.len() + more) as u64;
        if bytes > self.max_bytes { Err(Error::NameBytes(at)) } else { Ok(()) }
    }
}

/// A path of more than [`limits::PATH_COMPONENTS`] components.
#[derive(Debug)]
pub(super) struct TooDeep;

/// Whether a second entry of this kind replaces the first one instead of updating it.
fn is_fresh(kind: EntryKind) -> bool {
    !matches!(kind, EntryKind::Directory | EntryKind::Whiteout)
}

fn key_of<'a>(
    records: &SegmentedVec<Record, RECORDS>,
    names: &'a SegmentedVec<u8, TEXT_BYTES>,
    record: u32,
) -> Key<'a> {
    let Some(record) = records.get(record as usize) else { return (NONE, &[], false) };
    let name = names.slice(record.name_start as usize, record.name_length.into()).unwrap_or_default();
    (record.parent, name, record.kind == EntryKind::Whiteout)
}
