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

/// Why an entry cannot be added, and which one.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind}: \"{path}\", at {at}")]
pub(crate) struct Error {
    /// Offset of the entry's header.
    pub(crate) at: Uncompressed,
    /// What is wrong.
    pub(crate) kind: ErrorKind,
    /// The start of the entry's path, escaped.
    pub(crate) path: Box<str>,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ErrorKind {
    /// An entry after the end of the layer.
    #[error("an entry after the end of the layer")]
    Complete,
    /// Resolving symbolic links exceeds [`limits::LINK_STEPS`] and [`limits::LINK_STEPS_PER_BLOCK`].
    #[error("the symbolic links in the layer's paths take too many steps to resolve")]
    LinkSteps,
    /// A path or link target longer than [`limits::PATH_BYTES`].
    #[error("a path or link target of more than {max} bytes", max = limits::PATH_BYTES)]
    PathTooLong,
    /// A path with more components than [`limits::PATH_COMPONENTS`], including those of links.
    #[error("a path of more than {max} components", max = limits::PATH_COMPONENTS)]
    TooDeep,
    /// All entries together exceed the cap on memory.
    #[error("the entries of the layer take more than {max} bytes of memory")]
    TooLarge {
        /// The cap in bytes.
        max: u64,
    },
}

/// Longest path shown in an error, in bytes.
const SHOWN_PATH_BYTES: usize = 256;

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

/// The directory of the last entry. Most entries are in the same directory as the one before. It is forgotten when an entry is
/// replaced, because a link or directory on the way may be the replaced one.
#[derive(Clone, Debug, Default)]
pub(super) struct LastDirectory {
    path: Vec<u8>,
    directory: Option<u32>,
    /// Whether a symbolic link was followed.
    followed: bool,
}

impl LastDirectory {
    fn directory(&self, path: &[u8]) -> Option<(u32, bool)> {
        self.directory.filter(|_| self.path == path).map(|directory| (directory, self.followed))
    }

    fn set(&mut self, path: &[u8], directory: u32, followed: bool) {
        self.path.clear();
        self.path.extend_from_slice(path);
        (self.directory, self.followed) = (Some(directory), followed);
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
    /// Components of the targets of links that were walked.
    steps: u64,
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
        self.try_insert(entry).map_err(|kind| {
            let shown = entry.path.get(..SHOWN_PATH_BYTES).unwrap_or(&entry.path);
            Error { at: entry.header_offset, kind, path: shown.escape_ascii().to_string().into() }
        })
    }

    fn try_insert(&mut self, entry: &Entry) -> Result<Inserted, ErrorKind> {
        let at = entry.header_offset;
        if self.is_complete() {
            return Err(ErrorKind::Complete);
        }
        if entry.path.len().max(entry.link.len()) as u64 > limits::PATH_BYTES {
            return Err(ErrorKind::PathTooLong);
        }
        if entry.path.is_empty() || entry.kind == EntryKind::Opaque {
            return self.insert_directory_itself(entry);
        }
        // Before the path itself is replaced: a link to its own path means the earlier entry.
        let target = self.hardlink_target(entry, at)?;
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
            None => self.push_record(directory, name, entry.kind, before)?,
        };
        self.fill_record(record, entry, target)?;
        Ok(Inserted { record, moved, replaced })
    }

    /// Follows a path of directories as far as this layer has it.
    pub(super) fn resolve_parent<'a>(&self, path: &'a [u8]) -> Result<ResolvedParent<'a>, TooDeep> {
        let mut resolved = ResolvedParent { directory: ROOT, missing: Vec::new(), followed: false, steps: 0 };
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
            resolved.steps += 1 + target.len() as u64 / 2;
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

    fn hardlink_target(&mut self, entry: &Entry, at: Uncompressed) -> Result<u32, ErrorKind> {
        if entry.kind != EntryKind::Hardlink {
            return Ok(NONE);
        }
        let (parent, name) = split(&entry.link);
        // A path that is too deep leads nowhere.
        let Ok(resolved) = self.resolve_parent(parent) else {
            self.count_link_steps(limits::PATH_COMPONENTS as u64, at)?;
            return Ok(NONE);
        };
        let found = match name {
            _ if !resolved.missing.is_empty() => None,
            [] => Some(resolved.directory),
            name => self.child(resolved.directory, name),
        };
        self.count_link_steps(resolved.steps, at)?;
        Ok(match found {
            Some(record) if self.kind(record) == EntryKind::Directory => NONE,
            Some(record) if self.record(record).target != NONE => self.record(record).target,
            Some(record) => record,
            None => NONE,
        })
    }

    /// Counts steps against the budget of a layer that has been read up to `at`.
    fn count_link_steps(&mut self, steps: u64, at: Uncompressed) -> Result<(), ErrorKind> {
        self.link_steps = self.link_steps.saturating_add(steps);
        let earned = (at.0 / BLOCK).saturating_mul(limits::LINK_STEPS_PER_BLOCK);
        if self.link_steps > limits::LINK_STEPS.saturating_add(earned) {
            return Err(ErrorKind::LinkSteps);
        }
        Ok(())
    }

    /// The directory that a path leads to. Missing components are created.
    fn ensure_directory(&mut self, path: &[u8], at: Uncompressed) -> Result<(u32, bool), ErrorKind> {
        if let Some((directory, followed)) = self.last_directory.directory(path) {
            if followed {
                self.warnings.add(WarningKind::FollowedLink, path);
            }
            return Ok((directory, followed));
        }
        let ResolvedParent { mut directory, missing, followed, steps } =
            self.resolve_parent(path).map_err(|TooDeep| ErrorKind::TooDeep)?;
        for name in missing {
            let before = self.child(directory, &name);
            if before.is_some() {
                self.warnings.add(WarningKind::ReplacedByDirectory, path);
            }
            directory = self.push_record(directory, &name, EntryKind::Directory, before)?;
        }
        if followed {
            self.warnings.add(WarningKind::FollowedLink, path);
            let resolved = self.path(directory).len() as u64;
            if resolved > limits::PATH_BYTES {
                return Err(ErrorKind::PathTooLong);
            }
            self.count_link_steps(steps + resolved / 2, at)?;
        }
        self.last_directory.set(path, directory, followed);
        Ok((directory, followed))
    }

    /// Adds an entry for the root, or an opaque marker, which describes its directory.
    fn insert_directory_itself(&mut self, entry: &Entry) -> Result<Inserted, ErrorKind> {
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
    fn mark_opaque(&mut self, directory: u32, marker: &Entry) -> Result<(), ErrorKind> {
        self.check_budget(limits::ENTRY_BYTES)?;
        let number = self.records.len() as u32;
        let text = self.push_text(&[])?;
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
    ) -> Result<u32, ErrorKind> {
        self.check_budget(limits::ENTRY_BYTES)?;
        let whiteout = kind == EntryKind::Whiteout;
        let text = match before {
            Some(record) => (self.record(record).name_start, self.record(record).name_length),
            None => self.push_text(name)?,
        };
        let number = self.records.len() as u32;
        self.records.push(Record { kind, ..Record::implied(parent, text) });
        if let Some(before) = before.and_then(|before| self.records.get_mut(before as usize)) {
            before.flags |= REPLACED;
            self.last_directory = LastDirectory::default();
        }
        let Self { records, names, index: Index::Hashed(index), .. } = self else {
            return Err(ErrorKind::Complete);
        };
        index.insert((parent, name, whiteout), number, before, |other| key_of(records, names, other));
        Ok(number)
    }

    /// Writes the entry's metadata into its record.
    fn fill_record(&mut self, number: u32, entry: &Entry, target: u32) -> Result<(), ErrorKind> {
        let size_or_link = match entry.kind {
            EntryKind::Hardlink | EntryKind::Symlink => {
                let (start, length) = self.push_text(&entry.link)?;
                u64::from(start) | u64::from(length) << 32
            }
            _ => entry.size,
        };
        let (owner, owner_bytes) = self.owners.intern(entry);
        let mut rare = Rare::of(entry);
        let mut flags = if rare.is_some() { RARE } else { 0 };
        self.extra_bytes += owner_bytes;
        if let Some(rare) = &mut rare {
            self.extra_bytes += rare.bytes() + self.xattrs.intern(&mut rare.xattrs);
        }
        self.check_budget(0)?;
        match rare {
            Some(rare) => self.rare.insert(number, rare),
            None => self.rare.remove(&number),
        };
        let Some(record) = self.records.get_mut(number as usize) else { return Ok(()) };
        flags |= record.flags & OPAQUE;
        *record = Record {
            seconds: entry.mtime.seconds,
            size_or_link,
            header_offset: entry.header_offset.0,
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
    pub(super) fn push_text(&mut self, text: &[u8]) -> Result<(u32, u16), ErrorKind> {
        self.check_budget(text.len() as u64)?;
        let start = self.names.push_slice(text).and_then(|start| u32::try_from(start).ok());
        let (Some(start), Ok(length)) = (start, u16::try_from(text.len())) else {
            return Err(ErrorKind::TooLarge { max: self.max_bytes });
        };
        Ok((start, length))
    }

    /// Whether `more` bytes fit in the budget.
    pub(super) fn check_budget(&self, more: u64) -> Result<(), ErrorKind> {
        let max = self.max_bytes;
        if self.kept_bytes().saturating_add(more) > max { Err(ErrorKind::TooLarge { max }) } else { Ok(()) }
    }

    /// The memory of all entries, in bytes.
    pub(super) fn kept_bytes(&self) -> u64 {
        let fixed = (self.records.len() as u64).saturating_mul(limits::ENTRY_BYTES);
        fixed.saturating_add(self.names.len() as u64).saturating_add(self.extra_bytes)
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
