//! The stored form of a tree of entries: several lists of rows, all in one stream.
//!
//! ```text
//! summary  │ complete, records, bytes of owners and rare fields, warnings
//! owners   │ all but the first, which is root without a name
//! records  │ in the order of insertion, names front-coded against the previous sibling
//! order    │ of a complete layer: the position of each name among its siblings
//! warnings │ the first ones
//! ```
//!
//! Values that follow from others are not stored: that a record was replaced (another has its name), that a directory is
//! opaque (it has a marker), where names are in memory. If the tar lists sorted directories, nearly all columns except
//! names, sizes and times are zeros.

use super::{
    EntryTree, ROOT,
    record::{IMPLIED, REPLACED},
};
use crate::tar::entry::EntryKind;

mod reader;
#[cfg(test)]
mod tests;
mod writer;

/// Bits of a record's class in addition to its kind.
const CLASS_IMPLIED: u8 = 0x10;
const CLASS_RARE: u8 = 0x20;
/// The record replaces an older one of the same name.
const CLASS_REPLACES: u8 = 0x40;
const CLASS_KIND: u8 = 0x0f;

/// Bits for the rare fields that follow.
const RARE_DATA_OFFSET: u8 = 1;
const RARE_DEVICE: u8 = 2;
const RARE_STORED_SIZE: u8 = 4;
const RARE_XATTRS: u8 = 8;

/// Most steps that encode the way from the previous record to a parent; beyond that, its number is stored.
const STEPS: u64 = 64;

/// Codes in the column of times; higher ones refer to a time of the same group, from 0 on.
const TIME_SAME: u64 = 0;
const TIME_NEW: u64 = 1;
const TIME_KNOWN: u64 = 2;

/// Number of columns of each list.
const SUMMARY: usize = 1;
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
    /// The way from the previous record to a parent: the number of steps up, and the sibling on the way.
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

    /// Offset of the next header, if it directly follows this entry.
    fn end_of(&self, record: u32) -> u64 {
        let end = self.data_offset(record).0.saturating_add(self.stored_size(record));
        end.checked_next_multiple_of(super::record::BLOCK).unwrap_or(end)
    }

    /// The records of the sorted index, by parent, then in the order of insertion.
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
            if let Some(slot) = grouped.get_mut(*end as usize) {
                *slot = record;
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
