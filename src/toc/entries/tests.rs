use super::*;

fn entry(path: &str, kind: EntryKind, link: &str, number: u64) -> Entry {
    Entry {
        path: path.into(),
        kind,
        size: if kind == EntryKind::File { number } else { 0 },
        mode: 0o644,
        uid: number,
        gid: 7,
        uname: b"root".to_vec(),
        gname: Vec::new(),
        mtime: Timestamp { seconds: -1, nanoseconds: 5 },
        link: link.into(),
        device: None,
        xattrs: Default::default(),
        header_offset: Uncompressed(number * 1024),
        data_offset: Uncompressed(number * 1024 + 512),
        stored_size: if kind == EntryKind::File { number } else { 0 },
    }
}

#[test]
fn an_entry_comes_out_as_it_went_in() {
    let mut table = LayerTable::new();
    let file = entry("usr/bin/env", EntryKind::File, "", 3);
    let inserted = table.insert(&file).unwrap();
    assert_eq!(inserted, Inserted { record: inserted.record, moved: false, replaced: false });
    assert_eq!(table.entry(inserted.record), file);
    table.complete();
    assert_eq!(table.entry(inserted.record), file);
    assert_eq!(table.lookup(b"usr/bin/env"), Some(inserted.record));
}
