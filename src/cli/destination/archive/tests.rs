use std::{collections::BTreeMap, fs, process::Command};

use layerslayer::Timestamp;

use super::*;

fn entry(kind: EntryKind) -> Entry {
    let mut entry = Entry::new("", kind);
    entry.mode = 0o644;
    entry.mtime = Timestamp { seconds: 1_704_067_200, nanoseconds: 0 };
    entry
}

fn file(content: &[u8]) -> Entry {
    let mut entry = entry(EntryKind::File);
    entry.size = content.len() as u64;
    entry
}

fn archive(write: impl FnOnce(&mut Archive<Vec<u8>>)) -> Vec<u8> {
    let mut archive = Archive::new(Vec::new());
    write(&mut archive);
    archive.finish().unwrap()
}

/// Reads an archive with the `tar` crate: path, link, content, header and pax records of each entry.
struct Member {
    path: Vec<u8>,
    link: Vec<u8>,
    content: Vec<u8>,
    header: Header,
    records: BTreeMap<String, Vec<u8>>,
}

fn read(bytes: &[u8]) -> Vec<Member> {
    assert_eq!(bytes.len() % BLOCK_BYTES, 0);
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let records = entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap);
        Member {
            records: records
                .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
                .collect(),
            path: entry.path_bytes().into_owned(),
            link: entry.link_name_bytes().unwrap_or_default().into_owned(),
            header: entry.header().clone(),
            content,
        }
    });
    entries.collect()
}

#[test]
fn entries_are_read_back_as_written() {
    let mut symlink = entry(EntryKind::Symlink);
    symlink.link = b"usr/bin".to_vec();
    let mut device = entry(EntryKind::Char);
    device.device = Some((1, 3));
    let mut named = file(b"content");
    (named.uname, named.gname, named.uid, named.gid) = (b"root".to_vec(), b"wheel".to_vec(), 1, 2);
    named.mode = 0o4755;
    let entries = read(&archive(|archive| {
        archive.write(b"", &entry(EntryKind::Directory), None, io::empty()).unwrap();
        archive.write(b"etc", &entry(EntryKind::Directory), None, io::empty()).unwrap();
        archive.write(b"etc/a", &named, None, &b"content"[..]).unwrap();
        archive.write(b"etc/b", &named, Some(b"etc/a"), io::empty()).unwrap();
        archive.write(b"bin", &symlink, None, io::empty()).unwrap();
        archive.write(b"null", &device, None, io::empty()).unwrap();
        archive.write(b"pipe", &entry(EntryKind::Fifo), None, io::empty()).unwrap();
    }));
    let paths: Vec<_> =
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
    assert_eq!(paths, ["./", "etc/", "etc/a", "etc/b", "bin", "null", "pipe"]);
    assert_eq!(entries[2].content, b"content");
    assert_eq!((entries[2].header.mode().unwrap(), entries[2].header.uid().unwrap()), (0o4755, 1));
    assert_eq!(entries[2].header.username().unwrap(), Some("root"));
    assert_eq!((entries[3].header.entry_type(), &entries[3].link[..]), (EntryType::Link, &b"etc/a"[..]));
    assert_eq!(&entries[4].link[..], b"usr/bin");
    assert_eq!(entries[5].header.device_minor().unwrap(), Some(3));
    assert_eq!(entries[6].header.entry_type(), EntryType::Fifo);
    assert!(entries.iter().all(|entry| entry.records.is_empty()));
}

#[test]
fn values_that_do_not_fit_the_header_go_to_pax_records() {
    let path = [b"long/".repeat(40), b"\xff".to_vec()].concat();
    let mut long = file(b"");
    long.uid = u64::from(u32::MAX);
    long.mtime = Timestamp { seconds: -2, nanoseconds: 500_000_000 };
    long.xattrs.insert(b"security.capability".to_vec(), b"\0=\xff".to_vec());
    let mut symlink = entry(EntryKind::Symlink);
    symlink.link = vec![b'l'; 101];
    let entries = read(&archive(|archive| {
        archive.write(&path, &long, None, io::empty()).unwrap();
        archive.write(b"link", &symlink, None, io::empty()).unwrap();
    }));
    assert_eq!(entries[0].path, path);
    let record = |key: &str| entries[0].records[key].as_slice();
    assert_eq!(record("hdrcharset"), b"BINARY");
    assert_eq!(record("uid"), b"4294967295");
    assert_eq!(record("mtime"), b"-1.5");
    assert_eq!(record("SCHILY.xattr.security.capability"), b"\0=\xff");
    assert_eq!(entries[1].link, symlink.link);
}

#[test]
fn record_lengths_include_their_own_digits() {
    for (value, length) in
        [(1, 9), (2, 11), (89, 98), (90, 99), (91, 101), (92, 102), (989, 999), (990, 1001)]
    {
        let record = record("path", &vec![b'v'; value]);
        assert_eq!(record.len(), length, "{value}");
        assert!(record.starts_with(format!("{length} path=v").as_bytes()));
    }
}

#[test]
fn times_are_decimal_fractions_of_seconds() {
    let cases =
        [((0, 1), "0.000000001"), ((-1, 0), "-1"), ((-1, 250_000_000), "-0.75"), ((10, 500_000_000), "10.5")];
    for ((seconds, nanoseconds), expected) in cases {
        assert_eq!(decimal(seconds, nanoseconds), expected);
    }
}

#[test]
fn short_content_is_an_error_and_leaves_the_archive_unfinished() {
    let mut out = Vec::new();
    let mut archive = Archive::new(&mut out);
    assert!(archive.write(b"a", &file(b"content"), None, &b"cont"[..]).is_err());
    assert_eq!(out.len(), BLOCK_BYTES + 4);
}

#[test]
fn gnu_tar_unpacks_it() {
    let directory = tempfile::tempdir().unwrap();
    let long = [b"n".repeat(150), "/gr\u{fc}n".into()].concat();
    let bytes = archive(|archive| {
        archive.write(&long, &file(b"content"), None, &b"content"[..]).unwrap();
        archive.write(b"second", &file(b"content"), Some(&long), io::empty()).unwrap();
    });
    fs::write(directory.path().join("a.tar"), bytes).unwrap();
    let status = Command::new("tar").args(["-x", "-f", "a.tar"]).current_dir(&directory).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read(directory.path().join("second")).unwrap(), b"content");
    assert!(directory.path().join(String::from_utf8(long).unwrap()).exists());
}
