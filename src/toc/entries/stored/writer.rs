//! Stores a tree of entries.

use std::{collections::HashMap, io};

use super::{
    super::{
        EntryTree, Index, ROOT,
        record::{NONE, RARE, Rare},
        warnings::WarningKind,
    },
    *,
};
use crate::{
    limits,
    tar::entry::{EntryKind, Timestamp},
    toc::format::columns::{Rows, bytes, number, signed},
};

impl EntryTree {
    /// Writes the tree in the form that [`EntryTree::load`] reads.
    ///
    /// # Errors
    ///
    /// Those of `out`; also if an entry is too large to store.
    pub(in crate::toc) fn store(&self, out: &mut impl io::Write) -> io::Result<()> {
        self.store_summary(out)?;
        self.store_owners(out)?;
        self.store_records(out)?;
        if let Index::Sorted(order) = &self.index {
            self.store_order(order, out)?;
        }
        self.store_warnings(out)
    }

    fn store_summary(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut rows: Rows<SUMMARY> = Rows::new();
        let [summary] = rows.columns();
        for value in [
            u64::from(self.is_complete()),
            self.records.len() as u64,
            self.extra_bytes,
            self.warnings.count(),
        ] {
            number(summary, value);
        }
        rows.end_row(out)?;
        rows.end(out)
    }

    fn store_owners(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut rows: Rows<OWNERS> = Rows::new();
        for owner in self.owners.all().iter().skip(1) {
            let [column] = rows.columns();
            number(column, owner.uid);
            number(column, owner.gid);
            bytes(column, &owner.uname);
            bytes(column, &owner.gname);
            rows.end_row(out)?;
        }
        rows.end(out)
    }

    fn store_records(&self, out: &mut impl io::Write) -> io::Result<()> {
        let before = self.names_taken();
        let mut rows: Rows<RECORDS> = Rows::new();
        let mut times = Times::default();
        let (mut expected, mut xattrs) = (0, 0);
        for record in ROOT..self.records.len() as u32 {
            if rows.is_empty() {
                times = Times::default();
            }
            let predecessor = before.get(&record).copied();
            self.store_name(record, predecessor, rows.columns());
            if let Some(rare) = self.rare(record) {
                xattrs +=
                    rare.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() as u64;
            }
            if xattrs > limits::STORED_XATTRS_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "too many extended attributes to store",
                ));
            }
            if self.has_entry(record) {
                self.store_entry(record, expected, &mut times, rows.columns());
                expected = self.end_of(record);
            }
            rows.end_row(out)?;
        }
        rows.end(out)
    }

    /// From records to the ones that they replace.
    fn names_taken(&self) -> HashMap<u32, u32> {
        // A replacing record shares its name in the arena. In most layers nothing is replaced.
        let replaced = (ROOT..self.records.len() as u32).filter(|record| self.is_replaced(*record));
        let mut last: HashMap<u32, u32> =
            replaced.clone().map(|record| (self.record(record).name_start, NONE)).collect();
        let mut taken = HashMap::new();
        if last.is_empty() {
            return taken;
        }
        for record in ROOT + 1..self.records.len() as u32 {
            // The empty name of an opaque marker has the same start as the text after it.
            if self.record(record).name_length == 0 {
                continue;
            }
            let Some(before) = last.get_mut(&self.record(record).name_start) else { continue };
            if *before != NONE {
                taken.insert(record, *before);
            }
            *before = record;
        }
        taken
    }

    fn store_name(&self, record: u32, predecessor: Option<u32>, columns: &mut [Vec<u8>; RECORDS]) {
        let [classes, steps, parents, shared, lengths, names, .., replaces, _] = columns;
        let mut class = code_of(self.kind(record));
        class |= if self.has_entry(record) { 0 } else { CLASS_IMPLIED };
        class |= if self.record(record).has(RARE) { CLASS_RARE } else { 0 };
        class |= if predecessor.is_some() { CLASS_REPLACES } else { 0 };
        classes.push(class);
        if record == ROOT {
            return;
        }
        if let Some(predecessor) = predecessor {
            // It has the same parent and name.
            number(replaces, u64::from(record - predecessor));
            return;
        }
        let parent = self.parent(record);
        let sibling = match self.steps_to(parent, record) {
            Some((count, sibling)) => {
                number(steps, count + 1);
                sibling
            }
            None => {
                number(steps, 0);
                number(parents, u64::from(record - parent));
                None
            }
        };
        let (name, near) = (self.name(record), sibling.map_or(&b""[..], |sibling| self.name(sibling)));
        let same = name.iter().zip(near).take_while(|(one, other)| one == other).count();
        let suffix = name.get(same..).unwrap_or_default();
        number(shared, same as u64);
        number(lengths, suffix.len() as u64);
        names.extend_from_slice(suffix);
    }

    fn store_entry(&self, record: u32, expected: u64, times: &mut Times, columns: &mut [Vec<u8>; RECORDS]) {
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
        let entry = *self.record(record);
        modes.extend_from_slice(&entry.mode.to_le_bytes());
        number(owners, entry.owner.into());
        signed(offsets, entry.header_offset.wrapping_sub(expected).cast_signed());
        number(blocks, entry.header_blocks.into());
        times.store(entry.mtime(), time_codes, new_times);
        match entry.kind {
            EntryKind::Hardlink | EntryKind::Symlink => {
                let link = self.link(record);
                number(link_lengths, link.len() as u64);
                links.extend_from_slice(link);
            }
            _ => number(sizes, entry.size()),
        }
        if entry.kind == EntryKind::Hardlink {
            number(targets, if entry.target == NONE { 0 } else { u64::from(record - entry.target) });
        }
        if let Some(data) = self.rare(record) {
            store_rare(data, rare);
        }
    }

    fn store_order(&self, order: &[u32], out: &mut impl io::Write) -> io::Result<()> {
        let grouped = self.by_parent();
        let mut rows: Rows<ORDER> = Rows::new();
        // The children of the current parent, and the index of the next one if they are sorted already.
        let (mut siblings, mut rest, mut expected) = (&[][..], &*grouped, 0);
        let mut parent = NONE;
        for record in order {
            if self.parent(*record) != parent {
                parent = self.parent(*record);
                let length = rest.partition_point(|other| self.parent(*other) == parent);
                (siblings, rest) = rest.split_at_checked(length).unwrap_or_default();
                expected = 0;
            }
            let index = match siblings.get(expected) {
                Some(near) if near == record => expected,
                _ => siblings.binary_search(record).unwrap_or(expected),
            };
            let [column] = rows.columns();
            signed(column, index as i64 - expected as i64);
            expected = index + 1;
            rows.end_row(out)?;
        }
        rows.end(out)
    }

    fn store_warnings(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut rows: Rows<WARNINGS> = Rows::new();
        for warning in self.warnings.first() {
            let [column] = rows.columns();
            column.push(match warning.kind {
                WarningKind::Duplicate => 0,
                WarningKind::FollowedLink => 1,
                WarningKind::ReplacedByDirectory => 2,
                WarningKind::RootIgnored => 3,
            });
            bytes(column, &warning.path);
            rows.end_row(out)?;
        }
        rows.end(out)
    }
}

fn store_rare(data: &Rare, column: &mut Vec<u8>) {
    let Rare { data_offset, device, stored_size, xattrs } = data;
    let bits = [
        (RARE_DATA_OFFSET, data_offset.is_some()),
        (RARE_DEVICE, device.is_some()),
        (RARE_STORED_SIZE, stored_size.is_some()),
        (RARE_XATTRS, !xattrs.is_empty()),
    ];
    column.push(bits.iter().filter(|(_, is_present)| *is_present).fold(0, |bits, (bit, _)| bits | bit));
    if let Some(offset) = data_offset {
        number(column, *offset);
    }
    if let Some((major, minor)) = device {
        number(column, (*major).into());
        number(column, (*minor).into());
    }
    if let Some(size) = stored_size {
        number(column, *size);
    }
    if !xattrs.is_empty() {
        number(column, xattrs.len() as u64);
    }
    for (name, value) in xattrs {
        bytes(column, name);
        bytes(column, value);
    }
}

/// The times of a group, each stored once.
#[derive(Default)]
struct Times {
    known: HashMap<Timestamp, u64>,
    last: Timestamp,
    last_new: i64,
}

impl Times {
    fn store(&mut self, time: Timestamp, codes: &mut Vec<u8>, new_times: &mut Vec<u8>) {
        if time == self.last {
            return number(codes, TIME_SAME);
        }
        self.last = time;
        let next = self.known.len() as u64;
        let index = *self.known.entry(time).or_insert(next);
        if index < next {
            return number(codes, index + TIME_KNOWN);
        }
        number(codes, TIME_NEW);
        signed(new_times, time.seconds.wrapping_sub(self.last_new));
        number(new_times, time.nanoseconds.into());
        self.last_new = time.seconds;
    }
}
