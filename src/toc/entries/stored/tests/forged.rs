//! Stored trees with one column replaced: each check of the reader by its message.

use super::*;
use crate::toc::format::columns::number;

const KINDS: usize = 0;
const STEPS: usize = 1;
const PARENTS: usize = 2;
const SHARED: usize = 3;
const LENGTHS: usize = 4;
const NAMES: usize = 5;
const MODES: usize = 6;
const OWNERS: usize = 7;
const TIMES: usize = 11;
const NEW_TIMES: usize = 12;
const LINK_LENGTHS: usize = 13;
const TARGETS: usize = 15;
const REPLACES: usize = 16;
const RARE: usize = 17;

/// The parts of a stored tree with one group per list.
#[derive(Clone)]
struct Lists {
    facts: Vec<u8>,
    records: Vec<Vec<u8>>,
    order: Option<(u8, Vec<u8>)>,
}

impl Lists {
    /// All numbers outside the columns are below 128; owners and warnings are empty.
    fn of(tree: &EntryTree) -> Self {
        let stored = store(tree);
        let mut rest = &stored[..];
        let mut take = |length: u8| {
            let (taken, after) = rest.split_at(usize::from(length));
            rest = after;
            taken.to_vec()
        };
        let head = take(2);
        let facts = take(head[1]);
        assert_eq!(take(2), [0, 0], "no second fact, no owners");
        let lengths = take(19);
        let records = lengths[1..].iter().map(|length| take(*length)).collect();
        assert_eq!(take(1), [0]);
        let order = tree.is_complete().then(|| {
            let head = take(2);
            let order = (head[0], take(head[1]));
            assert_eq!(take(1), [0]);
            order
        });
        assert_eq!(rest, [0], "no warnings");
        Self { facts, records, order }
    }

    fn stored(&self) -> Vec<u8> {
        let mut stored = vec![1, self.facts.len() as u8];
        stored.extend(&self.facts);
        stored.extend([0, 0, self.records[KINDS].len() as u8]);
        for column in &self.records {
            number(&mut stored, column.len() as u64);
        }
        stored.extend(self.records.concat());
        stored.push(0);
        if let Some((rows, order)) = &self.order {
            stored.extend([*rows, order.len() as u8]);
            stored.extend(order);
            stored.push(0);
        }
        stored.push(0);
        stored
    }

    /// The error message with one column of the records replaced.
    fn refused(&self, column: usize, by: &[u8]) -> String {
        let mut forged = self.clone();
        forged.records[column] = by.to_vec();
        forged.said()
    }

    fn said(&self) -> String {
        let error = load(&self.stored()).map(|_| ()).unwrap_err().to_string();
        error.split(" at byte ").next().unwrap().to_owned()
    }
}

/// Records: 0 root, 1 `d`, 2 `d/x`, 3 `y`, 4 the marker in `d`.
fn lists() -> Lists {
    let lists = Lists::of(&layer([dir("d"), file("d/x"), hard("y", "d/x"), opaque("d")]));
    assert_eq!(lists.records[KINDS], [0x11, 1, 0, 3, 5]);
    assert_eq!(lists.records[STEPS], [1, 1, 3, 0]);
    assert_eq!(lists.records[NAMES], b"dxy");
    assert!(load(&lists.stored()).is_ok());
    lists
}

#[test]
fn invalid_kinds_are_rejected() {
    let lists = lists();
    for kinds in [[0x11, 1, 0, 3, 15], [0x91, 1, 0, 3, 5], [0x11, 1, 0x80, 3, 5]] {
        assert_eq!(lists.refused(KINDS, &kinds), "an unknown kind of record");
    }
    for kinds in [[0x11, 1, 0x10, 3, 5], [0x11, 0x31, 0, 3, 5], [0, 1, 0, 3, 5], [0x51, 1, 0, 3, 5]] {
        assert_eq!(lists.refused(KINDS, &kinds), "an invalid record");
    }
}

#[test]
fn invalid_parents_are_rejected() {
    let lists = lists();
    assert_eq!(lists.refused(STEPS, &[1, 1, 1, 0]), "a parent that is not a directory");
    assert_eq!(lists.refused(STEPS, &[1, 1, 65, 0]), "a number that is too large");
    assert_eq!(lists.refused(PARENTS, &[5]), "a number that is too large");
    assert_eq!(lists.refused(PARENTS, &[0]), "a record that refers to itself");
    assert_eq!(lists.refused(PARENTS, &[1]), "a parent that is not a directory");
}

#[test]
fn invalid_names_are_rejected() {
    let lists = lists();
    assert_eq!(lists.refused(SHARED, &[1, 0, 0, 0]), "a number that is too large");
    assert_eq!(lists.refused(NAMES, b"d/y"), "an invalid name");
    assert_eq!(lists.refused(NAMES, b"dx"), "missing bytes");
    assert_eq!(lists.refused(NAMES, b"dxyz"), "excess bytes");
    for lengths in [[1, 0, 1, 0], [1, 1, 0, 1]] {
        assert_eq!(lists.refused(LENGTHS, &lengths), "an invalid name");
    }
}

#[test]
fn paths_that_are_too_long_are_rejected() {
    let lists = Lists::of(&layer([file("a/b/c")]));
    let forged = |name: u64| {
        let mut forged = lists.clone();
        forged.records[LENGTHS].clear();
        for _ in 0..3 {
            number(&mut forged.records[LENGTHS], name);
        }
        forged.records[NAMES] = vec![b'n'; 3 * name as usize];
        load(&forged.stored()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(forged(2 * limits::PATH_BYTES / 3 - 1).is_ok());
    assert!(forged(2 * limits::PATH_BYTES / 3 + 1).unwrap_err().starts_with("an invalid name"));
    assert!(forged(limits::PATH_BYTES + 1).unwrap_err().starts_with("a number that is too large"));
}

#[test]
fn invalid_metadata_is_rejected() {
    let lists = lists();
    assert_eq!(lists.refused(MODES, &[0xff; 8]), "an invalid mode");
    assert_eq!(lists.refused(OWNERS, &[0, 0, 0, 1]), "a number that is too large");
    assert_eq!(lists.refused(TIMES, &[2, 0, 0, 0]), "an unknown time");
    assert_eq!(lists.refused(LINK_LENGTHS, &[4]), "missing bytes");
    let mut forged = lists.clone();
    forged.records[TIMES][0] = 1;
    forged.records[NEW_TIMES] = vec![0];
    number(&mut forged.records[NEW_TIMES], 1_000_000_000);
    assert_eq!(forged.said(), "a number that is too large");
    let mut forged = lists;
    forged.records[KINDS][2] = 0x20;
    forged.records[RARE] = vec![0x10];
    assert_eq!(forged.said(), "unknown rare fields");
}

#[test]
fn invalid_hard_link_targets_are_rejected() {
    let lists = lists();
    assert_eq!(lists.refused(TARGETS, &[4]), "a number that is too large");
    for target in [2, 3] {
        assert_eq!(lists.refused(TARGETS, &[target]), "an invalid target of a hard link");
    }
    // A link to a resolved hard link, and a link to a whiteout.
    let links = Lists::of(&layer([file("x"), hard("y", "x"), hard("z", "x")]));
    assert_eq!(links.refused(TARGETS, &[1, 1]), "an invalid target of a hard link");
    let removed = Lists::of(&layer([whiteout("x"), hard("y", "x")]));
    assert_eq!(removed.refused(TARGETS, &[1]), "an invalid target of a hard link");
}

#[test]
fn invalid_replacements_are_rejected() {
    let replaced = |entries: &[Entry]| {
        let mut tree = incomplete(entries.iter().cloned());
        tree.warnings = Warnings::default();
        Lists::of(&tree)
    };
    let lists = replaced(&[file("x"), file("x"), file("x")]);
    assert_eq!(
        (&lists.records[KINDS][..], &lists.records[REPLACES][..]),
        (&[0x11, 0, 0x40, 0x40][..], &[1, 1][..])
    );
    assert_eq!(lists.refused(REPLACES, &[1, 0]), "a record that refers to itself");
    for predecessors in [[1, 2], [1, 3], [2, 1]] {
        assert_eq!(lists.refused(REPLACES, &predecessors), "an invalid replacement");
    }
    assert_eq!(lists.refused(KINDS, &[0x11, 4, 0x40, 0x40]), "an invalid replacement");
    assert_eq!(lists.refused(KINDS, &[0x11, 0, 0x40, 0x45]), "an invalid replacement");
}

#[test]
fn invalid_orders_are_rejected() {
    let lists = lists();
    let refused = |rows: u8, order: &[u8]| {
        let mut forged = lists.clone();
        forged.order = Some((rows, order.to_vec()));
        forged.said()
    };
    // Children of the root: d and y; of d: x. A step forward is 2, one back 1, two back 3.
    assert_eq!(refused(3, &[2, 3, 0]), "names out of order");
    assert_eq!(refused(3, &[0, 1, 0]), "names out of order");
    assert_eq!(refused(3, &[4, 0, 0]), "an invalid position of a name");
    assert_eq!(refused(3, &[1, 0, 0]), "an invalid position of a name");
    assert_eq!(refused(2, &[0, 0]), "too few names");
    assert_eq!(refused(4, &[0, 0, 0, 0]), "too many names");
}

#[test]
fn invalid_summaries_are_rejected() {
    let lists = lists();
    assert_eq!(lists.facts, [1, 5, 0, 0]);
    for (facts, error) in [
        (&[2, 5, 0, 0][..], "a number that is too large"),
        (&[1, 4, 0, 0], "a wrong number of records"),
        (&[1, 0, 0, 0], "an invalid summary"),
        (&[1, 5, 0, 1], "a wrong number of warnings"),
        (&[1, 5, 0], "a broken number"),
        (&[1, 5, 0, 0, 0], "excess bytes"),
    ] {
        let said = Lists { facts: facts.to_vec(), ..lists.clone() }.said();
        assert_eq!(said, error);
    }
    let mut facts = vec![1, 5];
    number(&mut facts, limits::LAYER_ENTRIES_BYTES + 1);
    facts.push(0);
    assert_eq!(Lists { facts, ..lists.clone() }.said(), "a number that is too large");
    // Owners take so many bytes that no record fits.
    let mut facts = vec![1, 5];
    number(&mut facts, limits::LAYER_ENTRIES_BYTES);
    facts.push(0);
    assert_eq!(Lists { facts, ..lists }.said(), "too many records");
}
