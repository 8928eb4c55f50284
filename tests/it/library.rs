//! The library's tree, metadata, random access and scans, against what carving and listing give, and umoci's unpacking.

use std::collections::{BTreeMap, BTreeSet};

use layerslayer::{Change, EntryKind, PeekOptions, ScanAction, ScanOptions, Tree, Verification};

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar, debian, tar::Member},
    inspect::{block_on, open},
    noise::Noise,
};

fn layers(compression: Compression, archives: impl IntoIterator<Item = Tar>) -> Layout {
    let layers = archives.into_iter().map(|tar| Layer::new(&tar.finish(), compression));
    Layout::of(&layers.fold(Image::new(), Image::layer))
}

fn names(tree: &Tree) -> Vec<String> {
    tree.entries().map(|entry| String::from_utf8(entry.path()).unwrap()).collect()
}

#[test]
fn a_tree_has_what_the_merged_listing_has_in_the_same_order() {
    block_on(async {
        let image = open(&debian::reference("gzip")).await.unwrap();
        let (tree, rootfs) = (image.tree().await.unwrap(), image.rootfs().await.unwrap());
        let listed: Vec<_> =
            rootfs.entries().into_iter().filter(|found| !found.entry.path.is_empty()).collect();
        assert_eq!(tree.entries().count(), listed.len());
        for (entry, found) in tree.entries().zip(&listed) {
            assert_eq!((entry.path(), entry.layer()), (found.entry.path.clone(), found.layer));
            assert_eq!(tree.get(&found.entry.path).map(|entry| entry.inode()), Some(entry.inode()));
        }
        // Links counted by the file system that umoci unpacked to.
        let mut linked = BTreeMap::<u64, BTreeSet<Vec<u8>>>::new();
        for entry in tree.entries().filter(|entry| entry.kind() == EntryKind::File) {
            linked.entry(entry.inode()).or_default().insert(entry.path());
        }
        for entry in tree.entries().filter(|entry| entry.kind() == EntryKind::File) {
            assert_eq!(entry.link_count() as usize, linked[&entry.inode()].len());
        }
    });
}

#[test]
fn inode_numbers_and_link_counts_follow_hard_links_across_layers() {
    let base = Tar::new().directory("d").file("d/f", "content").hardlink("d/g", "d/f").file("single", "1");
    let newest = Tar::new().hardlink("h", "d/f").directory("e");
    let layout = layers(Compression::Gzip, [base, newest]);
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let tree = image.tree().await.unwrap();
        assert_eq!(names(&tree), ["d", "d/f", "d/g", "e", "h", "single"]);
        let get = |path| tree.get(path).unwrap();
        assert_eq!([get("d/f"), get("d/g"), get("h")].map(|entry| entry.inode()), [3; 3]);
        assert_eq!([get("d/f"), get("h"), get("single")].map(|entry| entry.link_count()), [3, 3, 1]);
        assert_eq!((tree.root().inode(), tree.root().link_count(), get("d").link_count()), (1, 4, 2));
        assert_eq!(tree.inode(3).unwrap().path(), b"d/f");
        assert!(tree.inode(0).is_none() && tree.inode(8).is_none() && tree.inode(u64::MAX).is_none());
        // The same numbers the next time.
        let again = open(&layout.reference("latest")).await.unwrap().tree().await.unwrap();
        let inodes = |tree: &Tree| tree.entries().map(|entry| entry.inode()).collect::<Vec<_>>();
        assert_eq!(inodes(&tree), inodes(&again));
    });
}

#[test]
fn a_tree_says_what_a_layer_changed() {
    let file = |path: &str, content: &str| Member::file(path, content).modified(1_000);
    let base = Tar::new()
        .member(Member::directory("d").modified(1_000))
        .member(file("mode", "same"))
        .member(file("size", "short"))
        .member(file("same", "same"))
        .member(file("kind", "file"))
        .member(Member::symlink("link", "one").modified(1_000));
    let newest = Tar::new()
        .member(Member::directory("d").mode(0o700).modified(1_000))
        .member(file("mode", "same").mode(0o600))
        .member(file("size", "longer"))
        .member(file("same", "same"))
        .member(Member::symlink("kind", "same").modified(1_000))
        .member(Member::symlink("link", "two").modified(1_000))
        .member(file("new", "new"));
    let layout = layers(Compression::Gzip, [base, newest]);
    block_on(async {
        let tree = open(&layout.reference("latest")).await.unwrap().tree().await.unwrap();
        let change = |path| tree.get(path).unwrap().change();
        for (path, expected) in [
            ("d", Change::Metadata),
            ("mode", Change::Metadata),
            ("size", Change::Modified),
            ("same", Change::Unchanged),
            ("kind", Change::Modified),
            ("link", Change::Modified),
            ("new", Change::Added),
        ] {
            assert_eq!(change(path), expected, "{path}");
        }
    });
}

#[test]
fn metadata_follows_links_and_directories_list_what_a_container_sees() {
    let base = Tar::new().directory("etc").file("etc/a", "a").file("etc/b", "b").symlink("link", "etc/a");
    let newest = Tar::new().whiteout("etc/b").file("etc/c/deep", "c");
    let layout = layers(Compression::Zstd, [base, newest]);
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        assert_eq!(image.metadata("/link").await.unwrap().path, b"etc/a");
        assert_eq!(image.symlink_metadata("/link").await.unwrap().kind, EntryKind::Symlink);
        assert_eq!(image.read_link("/link").await.unwrap(), b"etc/a");
        assert_eq!(image.metadata("/etc").await.unwrap().kind, EntryKind::Directory);
        assert!(image.read_link("/etc/a").await.is_err_and(|error| error.is_wrong_kind()));
        assert!(image.read_dir("/etc/a").await.is_err_and(|error| error.is_wrong_kind()));
        assert!(image.metadata("/etc/b").await.is_err_and(|error| error.is_deleted()));
        assert!(image.exists("/etc/c/deep").await.unwrap() && !image.exists("/etc/b").await.unwrap());
        let listed = image.read_dir("/etc").await.unwrap();
        let listed: Vec<_> = listed.iter().map(|found| (found.name.as_slice(), found.layer)).collect();
        assert_eq!(listed, [(&b"a"[..], 0), (b"c", 1)]);
        assert_eq!(image.read_dir("/").await.unwrap().len(), 2);
    });
}

#[test]
fn random_access_gives_what_reading_in_order_gives() {
    let content = Noise::new(7).bytes(5 << 20);
    for compression in Compression::ALL {
        let tar = Tar::new().file("before", Noise::new(1).bytes(3 << 20)).file("big", &content);
        let layout = layers(compression, [tar.file("empty", "").file("after", "after")]);
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            let file = image.open("/big").await.unwrap();
            assert!(file.verification() >= Verification::Span, "{}", file.verification());
            let size = content.len();
            let mut random = Noise::new(3).bytes(800).into_iter();
            let mut number = || {
                let bytes: [u8; 4] = std::array::from_fn(|_| random.next().unwrap());
                u32::from_le_bytes(bytes) as usize
            };
            for _ in 0..100 {
                let (offset, length) = (number() % (size + 10), number() % (300 << 10));
                let read = file.read_at(offset as u64, length).await.unwrap();
                let end = (offset + length).min(size);
                assert!(read == content[offset.min(size)..end.max(offset.min(size))], "{offset} {length}");
            }
            assert_eq!(file.read_at(u64::MAX, usize::MAX).await.unwrap().len(), 0);
            assert!(file.read_at(0, usize::MAX).await.unwrap() == content);
            assert_eq!(image.open("/empty").await.unwrap().read_at(0, 9).await.unwrap().len(), 0);
            assert_eq!(image.open("/after").await.unwrap().read_at(1, 9).await.unwrap(), "fter");
            assert!(image.open("/").await.is_err_and(|error| error.is_wrong_kind()));
        });
    }
}

#[test]
fn random_access_refuses_bytes_that_changed_after_the_layer_was_verified() {
    let tar = Tar::new().file("big", Noise::new(7).bytes(5 << 20));
    let layer = Layer::new(&tar.finish(), Compression::Gzip);
    let digest = layer.digest();
    let layout = Layout::of(&Image::new().layer(layer));
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let file = image.open("/big").await.unwrap();
        let path = layout.blob_file(&digest);
        let mut blob = std::fs::read(&path).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        std::fs::write(&path, blob).unwrap();
        let error = file.read_at(0, 5 << 20).await.unwrap_err();
        assert!(error.is_corrupt(), "{error}");
    });
}

#[test]
fn a_scan_of_each_layer_gives_all_that_the_layers_ship() {
    let base = Tar::new().directory("d").file("d/gone", "gone").file("kept", "kept").symlink("s", "kept");
    let newest = Tar::new().whiteout("d/gone").file("kept", "newer");
    for compression in Compression::ALL {
        let layout = layers(compression, [base.clone(), newest.clone()]);
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            for parallel in [1, 2] {
                let options = ScanOptions::each_layer().parallel(parallel);
                let mut scan = image.scan(options).filter(|_, _| ScanAction::Read);
                let mut found = BTreeMap::new();
                while let Some(entry) = scan.next().await {
                    let mut entry = entry.unwrap();
                    let content = match &mut entry.content {
                        Some(content) => Some(content.read_to_end(100).await.unwrap()),
                        None => None,
                    };
                    let path = String::from_utf8(entry.entry.path).unwrap();
                    found.insert((entry.layer, path), (entry.entry.kind, content));
                }
                let text = |content: &str| (EntryKind::File, Some(content.as_bytes().to_vec()));
                let expected = [
                    ((0, "d"), (EntryKind::Directory, None)),
                    ((0, "d/gone"), text("gone")),
                    ((0, "kept"), text("kept")),
                    ((0, "s"), (EntryKind::Symlink, None)),
                    ((1, "d/gone"), (EntryKind::Whiteout, None)),
                    ((1, "kept"), text("newer")),
                ];
                let expected = expected.map(|((layer, path), what)| ((layer, path.to_owned()), what));
                assert_eq!(found, expected.into(), "{compression:?} {parallel}");
            }
        });
    }
}

#[test]
fn a_merged_scan_gives_what_the_merged_listing_gives() {
    let base = Tar::new()
        .directory("d")
        .file("d/a", "a")
        .file("d/b", "b")
        .directory("opaque")
        .file("opaque/old", "old")
        .directory("replaced")
        .file("replaced/below", "below")
        .file("becomes", "file")
        .directory("implied")
        .file("implied/x", "x");
    let middle =
        Tar::new().whiteout("d/a").file("implied/y", "y").directory("becomes").file("becomes/c", "c");
    let newest = Tar::new()
        .opaque("opaque")
        .file("opaque/new", "new")
        .file("replaced", "file now")
        .file("d/b", "newer")
        .whiteout("becomes");
    let layout = layers(Compression::Gzip, [base, middle, newest]);
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let mut scan = image.scan(ScanOptions::merged()).filter(|_, _| ScanAction::Read);
        let mut scanned = BTreeMap::new();
        while let Some(found) = scan.next().await {
            let mut found = found.unwrap();
            let content = match &mut found.content {
                Some(content) => content.read_to_end(100).await.unwrap(),
                None => Vec::new(),
            };
            let key = (String::from_utf8(found.entry.path).unwrap(), found.layer);
            assert!(scanned.insert(key, content).is_none());
        }
        let rootfs = image.rootfs_with(&PeekOptions::default()).await.unwrap();
        let mut listed = BTreeMap::new();
        for found in rootfs.entries().into_iter().filter(|found| !found.implied) {
            let content = match found.entry.kind {
                EntryKind::File => {
                    image.carve(&found.entry.path).await.unwrap().read_to_end(100).await.unwrap()
                }
                _ => Vec::new(),
            };
            listed.insert((String::from_utf8(found.entry.path).unwrap(), found.layer), content);
        }
        assert_eq!(scanned, listed);
    });
}

#[test]
fn content_that_is_not_read_to_its_end_is_skipped() {
    let tar = Tar::new().file("a", Noise::new(1).bytes(3 << 20)).file("b", "b");
    let layout = layers(Compression::Gzip, [tar]);
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let mut scan = image.scan(ScanOptions::each_layer()).filter(|_, _| ScanAction::Read);
        let mut first = scan.next().await.unwrap().unwrap();
        assert!(first.content.as_mut().unwrap().next().await.unwrap().is_ok());
        drop(first);
        let mut second = scan.next().await.unwrap().unwrap();
        assert_eq!(second.content.as_mut().unwrap().read_to_end(9).await.unwrap(), b"b");
        assert!(scan.next().await.is_none());
    });
}

#[test]
fn a_scan_of_a_damaged_layer_ends_with_an_error() {
    let layer = Layer::new(&Tar::new().file("a", "a").finish(), Compression::Gzip);
    let digest = layer.digest();
    let layout = Layout::of(&Image::new().layer(layer));
    std::fs::write(
        layout.blob_file(&digest),
        Layer::new(&Tar::new().file("a", "b").finish(), Compression::Gzip).blob,
    )
    .unwrap();
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let ended = image.scan(ScanOptions::each_layer()).for_each(|_| async { Ok(()) }).await;
        assert!(ended.is_err_and(|error| error.is_corrupt()));
    });
}
