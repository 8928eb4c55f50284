//! A real Debian root file system compared with what umoci unpacks of it, entry by entry.

use std::collections::{BTreeMap, HashMap};

use layerslayer::{Entry, EntryKind, Verification};

use crate::support::{
    images::{
        debian,
        oracle::{Kind, Unpacked},
    },
    inspect::{block_on, carve, compare, open},
    tools,
};

const TAGS: [&str; 3] = ["gzip", "none", "zstd"];

/// Compares the listing of an image's layer 0 with the oracle's, entry by entry.
async fn compare_layer(reference: &str) {
    let unpacked = debian::unpacked();
    let image = open(reference).await.unwrap();
    let mut entries = image.layer(0).unwrap().entries();
    let mut found: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    while let Some(entry) = entries.next().await {
        let entry = entry.unwrap();
        assert!(!entry.path.is_empty() || entry.kind == EntryKind::Directory);
        found.insert(entry.path.clone(), entry);
    }
    assert_eq!(entries.verification(), Some(Verification::Blob));
    found.remove(&b""[..]);
    assert!(found.keys().eq(unpacked.keys()), "{reference}: other names");
    for (path, entry) in &found {
        let (kind, their) = (kind(entry, &found), &unpacked[path]);
        assert_eq!(kind, their.kind, "{reference}: {}", path.escape_ascii());
        if entry.kind == EntryKind::Hardlink {
            assert_eq!(unpacked[&entry.link].inode, their.inode, "{reference}: {}", path.escape_ascii());
            continue;
        }
        let ours = Unpacked {
            kind,
            size: entry.size,
            mode: if kind == Kind::Symlink { 0 } else { entry.mode },
            uid: u32::try_from(entry.uid).unwrap(),
            gid: u32::try_from(entry.gid).unwrap(),
            modified: entry.mtime.seconds,
            link: entry.link.clone(),
            device: entry.device,
            ..their.clone()
        };
        assert_eq!(ours.portable(), their.portable(), "{reference}: {}", path.escape_ascii());
    }
}

fn kind(entry: &Entry, found: &BTreeMap<Vec<u8>, Entry>) -> Kind {
    match entry.kind {
        EntryKind::Block => Kind::Block,
        EntryKind::Char => Kind::Char,
        EntryKind::Directory => Kind::Directory,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::File => Kind::File,
        EntryKind::Hardlink => kind(&found[&entry.link], found),
        EntryKind::Symlink => Kind::Symlink,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_layer_lists_what_umoci_unpacks() {
    for tag in TAGS {
        block_on(compare_layer(&debian::reference(tag)));
    }
}

#[test]
fn the_root_file_system_is_what_umoci_unpacks_content_included() {
    for tag in TAGS {
        let reference = debian::reference(tag);
        let same = block_on(async { compare(&open(&reference).await.unwrap(), debian::unpacked()).await });
        assert_eq!(same, Ok(()), "{reference}");
    }
}

#[test]
fn archives_made_by_skopeo_hold_the_same() {
    let folder = tools::temporary_folder();
    for (tag, transport) in [("zstd", "oci-archive"), ("gzip", "docker-archive")] {
        let file = folder.path().join(transport);
        let destination = format!("{transport}:{}:example/debian:1", tools::text(&file));
        tools::run(tools::command("skopeo").args(["copy", "--quiet", &debian::reference(tag), &destination]));
        block_on(async {
            for reference in [format!("{transport}:{}", tools::text(&file)), destination] {
                let image = open(&reference).await.unwrap();
                let file = carve(&image, b"/bin/perl", &Default::default()).await.unwrap();
                assert_eq!(file.entry.path, b"usr/bin/perl");
                let same = compare(&image, debian::unpacked()).await;
                assert_eq!(same, Ok(()), "{reference}");
            }
        });
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn names_of_one_file_share_their_content() {
    let unpacked = debian::unpacked();
    let mut names: HashMap<u64, Vec<&[u8]>> = HashMap::new();
    for (path, found) in unpacked.iter().filter(|(_, found)| found.kind == Kind::File && found.links > 1) {
        names.entry(found.inode).or_default().push(path);
    }
    assert!(!names.is_empty(), "no hard links in the image");
    block_on(async {
        let image = open(&debian::reference("zstd")).await.unwrap();
        for name in names.values().take(3).flatten() {
            let file = carve(&image, name, &Default::default()).await.unwrap();
            assert_eq!(Some(layerslayer::Digest::sha256(&file.content)), unpacked[*name].digest);
        }
    });
}
