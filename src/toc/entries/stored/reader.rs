//! Reads a stored tree of entries. Nothing in it is trusted.

use std::io;

use super::{
    super::{
        EntryTree, Index, ROOT,
        insert::LastDirectory,
        names::NameIndex,
        record::{NONE, OPAQUE, Owner, Owners, RARE, REPLACED, Rare, Record},
        segmented_vec::SegmentedVec,
        warnings::{Warning, WarningKind, Warnings},
    },
    *,
};
use crate::{
    limits,
    tar::entry::{EntryKind, Timestamp, Xattrs},
    toc::format::{
        Error,
        columns::{Column, Section},
    },
};

/// Longest path of a record: a parent and a name of [`limits::PATH_BYTES`] each.
const PATH_BYTES: u64 = 2 * limits::PATH_BYTES + 1;

/// The summary before the lists.
struct Summary {
    complete: bool,
    records: u64,
    extra_bytes: u64,
    warnings: u64,
}

impl EntryTree {
    /// Reads a tree that [`EntryTree::store`] wrote.
    ///
    /// # Errors
    ///
    /// If [`EntryTree::store`] could not have written it.
    pub(in crate::toc) fn load(section: &mut Section<impl io::Read>) -> Result<Self, Error> {
        let summary = load_summary(section)?;
        let owners = load_owners(section)?;
        let mut loader = Loader {
            tree: Self {
                records: SegmentedVec::new(),
                names: SegmentedVec::new(),
                owners,
                rare: Default::default(),
                xattrs: Default::default(),
                extra_bytes: summary.extra_bytes,
                index: Index::Sorted(Box::default()),
                last_directory: LastDirectory::default(),
                warnings: Warnings::default(),
                max_bytes: limits::LAYER_ENTRIES_BYTES,
                link_steps: 0,
            },
            path_lengths: Vec::new(),
            expected: 0,
            name: Vec::new(),
        };
        while let Some((rows, columns)) = section.group::<RECORDS>()? {
            loader.group(rows, columns)?;
        }
        let mut tree = loader.tree;
        if tree.records.len() as u64 != summary.records {
            return Err(section.corrupt("a wrong number of records"));
        }
        tree.index = if summary.complete {
            Index::Sorted(tree.load_order(section)?)
        } else {
            tree.hashed().ok_or_else(|| section.corrupt("a duplicate name"))?
        };
        tree.warnings = load_warnings(summary.warnings, section)?;
        if summary.complete {
            tree.records.shrink_to_fit();
            tree.names.shrink_to_fit();
        }
        Ok(tree)
    }

    fn load_order(&self, section: &mut Section<impl io::Read>) -> Result<Box<[u32]>, Error> {
        let grouped = self.by_parent();
        let mut order = Vec::with_capacity(grouped.len());
        let (mut siblings, mut rest, mut expected) = (&[][..], &*grouped, 0_i64);
        let mut left = 0;
        while let Some((rows, [mut column])) = section.group::<ORDER>()? {
            for _ in 0..rows {
                if left == 0 {
                    let Some(first) = rest.first() else {
                        return Err(column.corrupt("too many names"));
                    };
                    let parent = self.parent(*first);
                    left = rest.iter().take_while(|record| self.parent(**record) == parent).count();
                    (siblings, rest) = rest.split_at_checked(left).unwrap_or_default();
                    expected = 0;
                }
                let index = expected.wrapping_add(column.signed()?);
                let named = usize::try_from(index).ok().and_then(|index| siblings.get(index));
                let Some(record) = named.copied() else {
                    return Err(column.corrupt("an invalid position of a name"));
                };
                // Strictly ascending names are unique and allow a binary search.
                let before = order.last().filter(|_| left < siblings.len());
                if before.is_some_and(|before| self.sibling_key(*before) >= self.sibling_key(record)) {
                    return Err(column.corrupt("names out of order"));
                }
                order.push(record);
                expected = index.wrapping_add(1);
                left -= 1;
            }
            column.end()?;
        }
        if order.len() == grouped.len() { Ok(order.into()) } else { Err(section.corrupt("too few names")) }
    }

    fn sibling_key(&self, record: u32) -> (&[u8], bool) {
        (self.name(record), self.kind(record) == EntryKind::Whiteout)
    }

    /// The index of a partial layer; `None` if a name occurs twice.
    fn hashed(&self) -> Option<Index> {
        let mut names = NameIndex::new();
        for record in (ROOT + 1..self.records.len() as u32).filter(|record| self.is_named(*record)) {
            let key = self.key(record);
            if names.find(key, |other| self.key(other) == key).is_some() {
                return None;
            }
            names.insert(key, record, None, |other| self.key(other));
        }
        Some(Index::Hashed(names))
    }
}

/// A tree whose records are being read.
struct Loader {
    tree: EntryTree,
    /// Length of each record's path, in bytes.
    path_lengths: Vec<u32>,
    /// Offset of the next header, if it directly follows the last entry.
    expected: u64,
    /// The current name.
    name: Vec<u8>,
}

impl Loader {
    fn group(&mut self, rows: usize, mut columns: [Column; RECORDS]) -> Result<(), Error> {
        let mut times = Times::default();
        for _ in 0..rows {
            self.row(&mut times, &mut columns)?;
        }
        columns.iter().try_for_each(Column::end)
    }

    fn row(&mut self, times: &mut Times, columns: &mut [Column; RECORDS]) -> Result<(), Error> {
        let number = self.tree.records.len() as u32;
        let [classes, ..] = columns;
        if self.tree.check_budget(limits::ENTRY_BYTES).is_err() {
            return Err(classes.corrupt("too many records"));
        }
        let class = classes.byte()?;
        let kind = kind_of(class & CLASS_KIND);
        let Some(kind) =
            kind.filter(|_| class & !(CLASS_KIND | CLASS_IMPLIED | CLASS_RARE | CLASS_REPLACES) == 0)
        else {
            return Err(classes.corrupt("an unknown kind of record"));
        };
        let is_implied = class & CLASS_IMPLIED != 0;
        let is_directory = kind == EntryKind::Directory;
        let root_alone = class & CLASS_REPLACES != 0 || !is_directory;
        if is_implied && (!is_directory || class & CLASS_RARE != 0) || number == ROOT && root_alone {
            return Err(classes.corrupt("an invalid record"));
        }
        let mut record = match number {
            ROOT => {
                self.path_lengths.push(0);
                Record::implied(ROOT, (0, 0))
            }
            _ if class & CLASS_REPLACES != 0 => self.successor(number, kind, columns)?,
            _ => self.named(number, kind, columns)?,
        };
        record.kind = kind;
        if !is_implied {
            record.flags = if class & CLASS_RARE != 0 { RARE } else { 0 };
            self.entry(number, &mut record, times, columns)?;
        }
        self.tree.records.push(record);
        if !is_implied {
            self.expected = self.tree.end_of(number);
        }
        Ok(())
    }

    /// A record that replaces an older one.
    fn successor(
        &mut self,
        number: u32,
        kind: EntryKind,
        columns: &mut [Column; RECORDS],
    ) -> Result<Record, Error> {
        let [.., replaces, _] = columns;
        let before = back(number, replaces)?;
        let is_whiteout = |kind| kind == EntryKind::Whiteout;
        let has_name = |kind| kind != EntryKind::Opaque;
        let path_length = self.path_lengths.get(before as usize).copied().unwrap_or_default();
        let Some(old) = self.tree.records.get_mut(before as usize).filter(|old| {
            before != ROOT
                && !old.has(REPLACED)
                && is_whiteout(old.kind) == is_whiteout(kind)
                && has_name(old.kind)
                && has_name(kind)
        }) else {
            return Err(replaces.corrupt("an invalid replacement"));
        };
        old.flags |= REPLACED;
        self.path_lengths.push(path_length);
        Ok(Record::implied(old.parent, (old.name_start, old.name_length)))
    }

    /// A record with a name of its own.
    fn named(
        &mut self,
        number: u32,
        kind: EntryKind,
        columns: &mut [Column; RECORDS],
    ) -> Result<Record, Error> {
        let [_, steps, parents, shared, lengths, names, ..] = columns;
        let (parent, sibling) = match steps.number_to(STEPS)? {
            0 => (back(number, parents)?, None),
            steps => {
                let (mut parent, mut sibling) = (number - 1, None);
                for _ in 1..steps {
                    sibling = Some(parent);
                    parent = self.tree.parent(parent);
                }
                (parent, sibling)
            }
        };
        if self.tree.kind(parent) != EntryKind::Directory {
            return Err(steps.corrupt("a parent that is not a directory"));
        }
        let near = sibling.map_or(&b""[..], |sibling| self.tree.name(sibling));
        let same = shared.number_to(near.len() as u64)? as usize;
        let length = lengths.number_to(limits::PATH_BYTES)?;
        self.name.clear();
        self.name.extend_from_slice(near.get(..same).unwrap_or_default());
        self.name.extend_from_slice(names.take(length)?);
        let is_name = match &self.name[..] {
            [] => kind == EntryKind::Opaque,
            b"." | b".." => false,
            name => kind != EntryKind::Opaque && !name.contains(&b'/'),
        };
        let above = self.path_lengths.get(parent as usize).copied().unwrap_or_default();
        let path_length = u64::from(above) + 1 + self.name.len() as u64;
        if !is_name || self.name.len() as u64 > limits::PATH_BYTES || path_length > PATH_BYTES {
            return Err(names.corrupt("an invalid name"));
        }
        self.path_lengths.push(path_length as u32);
        if kind == EntryKind::Opaque
            && let Some(directory) = self.tree.records.get_mut(parent as usize)
        {
            directory.flags |= OPAQUE;
        }
        let Some(text) = push_text(&mut self.tree, &self.name) else {
            return Err(names.corrupt("too many bytes of names"));
        };
        Ok(Record::implied(parent, text))
    }

    /// The metadata of an entry.
    fn entry(
        &mut self,
        number: u32,
        record: &mut Record,
        times: &mut Times,
        columns: &mut [Column; RECORDS],
    ) -> Result<(), Error> {
        let [
            ..,
            modes,
            owners,
            sizes,
            offsets,
            blocks,
            time_codes,
            new_times,
            link_lengths,
            links,
            targets,
            _,
            rare,
        ] = columns;
        record.mode = u16::from_le_bytes([modes.byte()?, modes.byte()?]);
        if record.mode > 0o7777 {
            return Err(modes.corrupt("an invalid mode"));
        }
        record.owner = owners.number_to(self.tree.owners.all().len() as u64 - 1)? as u32;
        record.header_offset = self.expected.wrapping_add(offsets.signed()?.cast_unsigned());
        record.header_blocks = blocks.number_to(u16::MAX.into())? as u16;
        let mtime = times.load(time_codes, new_times)?;
        (record.seconds, record.nanoseconds) = (mtime.seconds, mtime.nanoseconds);
        match record.kind {
            EntryKind::Hardlink | EntryKind::Symlink => {
                let length = link_lengths.number_to(limits::PATH_BYTES)?;
                let Some((start, length)) = push_text(&mut self.tree, links.take(length)?) else {
                    return Err(links.corrupt("too many bytes of links"));
                };
                record.size_or_link = u64::from(start) | u64::from(length) << 32;
            }
            _ => record.size_or_link = sizes.number()?,
        }
        if record.kind == EntryKind::Hardlink {
            record.target = match targets.number_to(number.into())? as u32 {
                0 => NONE,
                steps => number - steps,
            };
            if record.target != NONE && !self.can_be_linked_to(record.target) {
                return Err(targets.corrupt("an invalid target of a hard link"));
            }
        }
        if record.has(RARE) {
            let mut data = load_rare(rare)?;
            // The summary has the bytes of all sets.
            self.tree.xattrs.intern(&mut data.xattrs);
            self.tree.rare.insert(number, Box::new(data));
        }
        Ok(())
    }

    fn can_be_linked_to(&self, target: u32) -> bool {
        match self.tree.kind(target) {
            EntryKind::Directory | EntryKind::Opaque | EntryKind::Whiteout => false,
            EntryKind::Hardlink => self.tree.record(target).target == NONE,
            _ => true,
        }
    }
}

/// The number of an older record, stored as the distance to it.
fn back(number: u32, column: &mut Column) -> Result<u32, Error> {
    match column.number_to(number.into())? as u32 {
        0 => Err(column.corrupt("a record that refers to itself")),
        steps => Ok(number - steps),
    }
}

/// Copies a name or link target into the arena; `None` if there are too many.
fn push_text(tree: &mut EntryTree, text: &[u8]) -> Option<(u32, u16)> {
    tree.push_text(text).ok()
}

fn load_summary(section: &mut Section<impl io::Read>) -> Result<Summary, Error> {
    let Some((1, [mut column])) = section.group::<SUMMARY>()? else {
        return Err(section.corrupt("a missing summary"));
    };
    let summary = Summary {
        complete: column.number_to(1)? == 1,
        records: column.number_to(limits::LAYER_ENTRIES_BYTES / limits::ENTRY_BYTES)?,
        extra_bytes: column.number_to(limits::LAYER_ENTRIES_BYTES)?,
        warnings: column.number()?,
    };
    column.end()?;
    match section.group::<SUMMARY>()? {
        None if summary.records > 0 => Ok(summary),
        _ => Err(section.corrupt("an invalid summary")),
    }
}

fn load_owners(section: &mut Section<impl io::Read>) -> Result<Owners, Error> {
    let mut owners = Owners::new();
    let mut left = limits::LAYER_ENTRIES_BYTES;
    while let Some((rows, [mut column])) = section.group::<OWNERS>()? {
        for _ in 0..rows {
            let (uid, gid) = (column.number()?, column.number()?);
            let uname = column.bytes(limits::OWNER_NAME_BYTES as u64)?.into();
            let gname = column.bytes(limits::OWNER_NAME_BYTES as u64)?.into();
            let owner = Owner { uid, gid, uname, gname };
            let Some(rest) = left.checked_sub(owner.bytes()) else {
                return Err(column.corrupt("too many owners"));
            };
            left = rest;
            owners.add(owner);
        }
        column.end()?;
    }
    Ok(owners)
}

fn load_rare(column: &mut Column) -> Result<Rare, Error> {
    let bits = column.byte()?;
    if bits & !(RARE_DATA_OFFSET | RARE_DEVICE | RARE_STORED_SIZE | RARE_XATTRS) != 0 {
        return Err(column.corrupt("unknown rare fields"));
    }
    let mut rare = Rare::default();
    if bits & RARE_DATA_OFFSET != 0 {
        rare.data_offset = Some(column.number()?);
    }
    if bits & RARE_DEVICE != 0 {
        rare.device = Some((column.short()?, column.short()?));
    }
    if bits & RARE_STORED_SIZE != 0 {
        rare.stored_size = Some(column.number()?);
    }
    if bits & RARE_XATTRS != 0 {
        rare.xattrs = load_xattrs(column)?;
    }
    Ok(rare)
}

fn load_xattrs(column: &mut Column) -> Result<Xattrs, Error> {
    let mut xattrs = Xattrs::default();
    for _ in 0..column.number()? {
        let name = column.bytes(limits::XATTR_BYTES as u64)?.to_vec();
        let value = column.bytes(limits::XATTR_BYTES as u64)?.to_vec();
        xattrs.insert(name, value);
    }
    Ok(xattrs)
}

fn load_warnings(count: u64, section: &mut Section<impl io::Read>) -> Result<Warnings, Error> {
    let mut first = Vec::new();
    while let Some((rows, [mut column])) = section.group::<WARNINGS>()? {
        for _ in 0..rows {
            let kind = match column.byte()? {
                0 => WarningKind::Duplicate,
                1 => WarningKind::FollowedLink,
                2 => WarningKind::ReplacedByDirectory,
                3 => WarningKind::RootIgnored,
                _ => return Err(column.corrupt("an unknown kind of warning")),
            };
            first.push(Warning { kind, path: column.bytes(limits::PATH_BYTES)?.to_vec() });
        }
        column.end()?;
    }
    Warnings::restored(count, first).ok_or_else(|| section.corrupt("a wrong number of warnings"))
}

/// The times of a group.
#[derive(Default)]
struct Times {
    known: Vec<Timestamp>,
    last: Timestamp,
    last_new: i64,
}

impl Times {
    fn load(&mut self, codes: &mut Column, new_times: &mut Column) -> Result<Timestamp, Error> {
        self.last = match codes.number()? {
            TIME_SAME => self.last,
            TIME_NEW => {
                let seconds = self.last_new.wrapping_add(new_times.signed()?);
                let nanoseconds = new_times.number_to(999_999_999)? as u32;
                self.last_new = seconds;
                self.known.push(Timestamp { seconds, nanoseconds });
                Timestamp { seconds, nanoseconds }
            }
            code => {
                let known = self.known.get(code.saturating_sub(TIME_KNOWN) as usize);
                *known.ok_or_else(|| codes.corrupt("an unknown time"))?
            }
        };
        Ok(self.last)
    }
}
