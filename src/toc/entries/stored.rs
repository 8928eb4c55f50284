//! How a table of entries is stored: one list of rows after the other, all of them unpacked from one stream.
//!
//! ```text
//! facts    │ complete, records, bytes of owners and rare data, warnings
//! owners   │ all but the first, which is root without a name
//! records  │ in the order in which they were made, names front-coded against the sibling before
//! order    │ of a complete layer: where each name of a directory comes among its siblings
//! warnings │ the first ones
//! ```
//!
//! What can be told from the rest is not stored: that a record was replaced (another has taken its name), that a directory
//! is opaque (its marker is there), where names lie in memory. In a tar made by walking sorted directories nearly all columns
//! hold zeros but those of names, sizes and times.

use super::{
    EntryTree, ROOT,
    record::{IMPLIED, REPLACED},
};
use crate::tar::entry::EntryKind;

mod reader;
#[cfg(test)]
mod tests;
mod writer;

/// Bits of a record's class, beside its kind.
const CLASS_IMPLIED: u8 = 0x10;
const CLASS_RARE: u8 = 0x20;
/// The record has taken its name from an older one.
const CLASS_REPLACES: u8 = 0x40;
const CLASS_KIND: u8 = 0x0f;

/// Bits that say which rare data follows.
const RARE_DATA_OFFSET: u8 = 1;
const RARE_DEVICE: u8 = 2;
const RARE_STORED_SIZE: u8 = 4;
const RARE_XATTRS: u8 = 8;

/// Steps from the record before to the parent that are worth counting; beyond, its number is stored.
const STEPS: u64 = 64;

/// Codes in the column of times; higher ones name a time of the same group, from 0 on.
const TIME_SAME: u64 = 0;
const TIME_NEW: u64 = 1;
const TIME_KNOWN: u64 = 2;

/// Number of columns of each list.
const FACTS: usize = 1;
const OWNERS: usize = 1;
const RECORDS: usize = 18;
const ORDER: usize = 1;
const WARNINGS: usize = 1;

fn code_of(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::File => 0,
        EntryKind::Directory => 1,
        EntryKind::Symlink => 2,
        EntryKind::Hardlink => 3,
        EntryKind::Whiteout => 4,
        EntryKind::Opaque => 5,
        EntryKind::Block => 6,
        EntryKind::Char => 7,
        EntryKind::Fifo => 8,
        EntryKind::Other => 9,
    }
}

fn kind_of(code: u8) -> Option<EntryKind> {
    Some(match code {
        0 => EntryKind::File,
        1 => EntryKind::Directory,
        2 => EntryKind::Symlink,
        3 => EntryKind::Hardlink,
        4 => EntryKind::Whiteout,
        5 => EntryKind::Opaque,
        6 => EntryKind::Block,
        7 => EntryKind::Char,
        8 => EntryKind::Fifo,
        9 => EntryKind::Other,
        _ => return None,
    })
}

impl EntryTree {
    /// The way from the record before to a parent: how many steps up, and the sibling that it passes.
    fn steps_to(&self, parent: u32, record: u32) -> Option<(u64, Option<u32>)> {
        let (mut here, mut sibling) = (record.checked_sub(1)?, None);
        for steps in 0..STEPS {
            if here == parent {
                return Some((steps, sibling));
            }
            if here == ROOT {
                return None;
            }
            sibling = Some(here);
            here = self.parent(here);
        }
        None
    }

    /// Where the header after an entry lies, if nothing comes between.
    fn end_of(&self, record: u32) -> u64 {
        let end = self.data_offset(record).0.saturating_add(self.stored_size(record));
        end.checked_next_multiple_of(super::record::BLOCK).unwrap_or(end)
    }

    /// The records that have a place in the sorted index, by parent, then in the order in which they were made.
    fn by_parent(&self) -> Vec<u32> {
        let named = || (ROOT + 1..self.records.len() as u32).filter(|record| self.is_named(*record));
        let mut ends = vec![0_u32; self.records.len() + 1];
        for record in named() {
            if let Some(count) = ends.get_mut(self.parent(record) as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut grouped = vec![ROOT; sum as usize];
        for record in named() {
            let Some(end) = ends.get_mut(self.parent(record) as usize) else { continue };
            if let Some(place) = grouped.get_mut(*end as usize) {
                *place = record;
            }
            *end += 1;
        }
        grouped
    }

    fn is_replaced(&self, record: u32) -> bool {
        self.record(record).has(REPLACED)
    }

    fn has_entry(&self, record: u32) -> bool {
        !self.record(record).has(IMPLIED)
    }
}
