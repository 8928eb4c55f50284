//! Caches in directories: modes, sizes, eviction order, killed writers.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::oci::digest::Digest;

const ROOM: u64 = 1 << 20;
const BLOCK: u64 = 4 << 10;

fn cache(capacity: u64) -> (TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path().join("a/b"), capacity).unwrap();
    (folder, directory)
}

fn toc(number: u8) -> Key {
    Key::Toc(Digest::sha256(&[number]))
}

fn put(cache: &Directory, key: &Key, bytes: &[u8]) -> bool {
    cache.write(key, &mut |out| out.write_all(bytes)).unwrap()
}

fn read(cache: &Directory, key: &Key) -> Option<Bytes> {
    cache.read(key, ROOM).unwrap()
}

/// Sets the time of last use, in seconds after 1970.
fn set_last_use(cache: &Directory, key: &Key, seconds: u64) {
    let file = File::options().write(true).open(cache.path.join(key.path())).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(cache: &Directory, folder: &str) -> usize {
    fs::read_dir(cache.path.join(folder)).map_or(0, Iterator::count)
}

/// The total size in the log.
fn logged(cache: &Directory) -> u64 {
    let bytes = fs::read(cache.path.join(USAGE)).unwrap();
    let changes = bytes.chunks_exact(8).map(|change| i64::from_le_bytes(change.try_into().unwrap()));
    u64::try_from(changes.sum::<i64>()).unwrap()
}

#[test]
fn only_the_owner_may_read_the_files() {
    let (_folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"table");
    put(&cache, &Key::tag("x"), b"tag");
    let mut found = vec![cache.path.clone(), cache.path.parent().unwrap().to_owned()];
    let mut index = 0;
    while let Some(path) = found.get(index).cloned() {
        let is_directory = path.is_dir();
        assert_eq!(mode(&path), if is_directory { 0o700 } else { 0o600 }, "{}", path.display());
        if is_directory {
            found.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        index += 1;
    }
    assert!(found.len() > 8, "{found:?}");
}

#[test]
fn a_directory_writable_by_others_is_refused_even_through_a_link_and_once_it_is_open() {
    let (folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"table");
    let link = folder.path().join("link");
    symlink(&cache.path, &link).unwrap();
    let through = Directory::open(link.clone(), ROOM).unwrap();
    assert!(read(&through, &toc(1)).is_some());
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(&cache.path, Permissions::from_mode(mode)).unwrap();
        for path in [&cache.path, &link] {
            let error = Directory::open(path.clone(), ROOM).unwrap_err();
            assert!(error.is_refused() && error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert!(cache.read(&toc(1), ROOM).unwrap_err().is_refused());
        assert!(cache.write(&toc(2), &mut |_| Ok(())).unwrap_err().is_refused());
        assert!(cache.remove(&toc(1)).unwrap_err().is_refused());
        assert!(cache.list().unwrap_err().is_refused());
        assert!(cache.shrink(0).unwrap_err().is_refused());
    }
    fs::set_permissions(&cache.path, Permissions::from_mode(0o755)).unwrap();
    assert!(read(&cache, &toc(1)).is_some());
}

#[test]
fn only_regular_files_are_read() {
    let (folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"table");
    let path = cache.path.join(toc(1).path());
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(cache.read(&toc(1), ROOM).is_err());
    fs::remove_file(&path).unwrap();
    // A blocking open of a pipe would wait for a writer.
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    assert!(cache.read(&toc(1), ROOM).is_err());
    // Writing replaces it.
    assert!(put(&cache, &toc(1), b"new"));
    assert_eq!(read(&cache, &toc(1)).unwrap(), "new");
    assert_eq!(fs::read(elsewhere).unwrap(), b"table");
}

#[test]
fn an_entry_exists_until_it_is_removed() {
    let (_folder, cache) = cache(ROOM);
    let keys = [toc(1), toc(2), Key::Document(Digest::sha256(b"d")), Key::tag("t")];
    for key in &keys {
        assert_eq!(read(&cache, key), None);
        put(&cache, key, b"old");
        put(&cache, key, key.path().as_bytes());
    }
    let mut listed: Vec<Key> = cache.list().unwrap().into_iter().map(|item| item.key).collect();
    listed.sort();
    let mut expected = keys.to_vec();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(logged(&cache), 4 * BLOCK);
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(read(&cache, key).unwrap(), key.path());
        let size = key.path().len() as u64;
        assert_eq!(
            (cache.read(key, size).unwrap().is_some(), cache.read(key, size - 1).unwrap()),
            (true, None)
        );
        cache.remove(key).unwrap();
        cache.remove(key).unwrap();
        assert_eq!(read(&cache, key), None);
        assert_eq!(logged(&cache), (3 - index as u64) * BLOCK);
    }
}

#[test]
fn the_least_recently_used_entries_are_evicted_once_the_capacity_is_exceeded() {
    let (_folder, cache) = cache(10 * BLOCK);
    for number in 0..10 {
        assert!(put(&cache, &toc(number), &[number; 4096]));
        set_last_use(&cache, &toc(number), 1_000 + u64::from(number));
    }
    // The first writer created the log and the others appended to it, without listing the directory.
    assert_eq!(fs::metadata(cache.path.join(USAGE)).unwrap().len(), 8 * 10);
    assert!(read(&cache, &toc(0)).is_some());
    assert!(put(&cache, &toc(10), b"one too many"));
    let left: Vec<u8> = (0..=10).filter(|number| read(&cache, &toc(*number)).is_some()).collect();
    assert_eq!(left, [0, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!((logged(&cache), names(&cache, TEMPORARY)), (9 * BLOCK, 0));
    assert_eq!(cache.shrink(9 * BLOCK).unwrap(), Removed::default());
    assert_eq!(cache.shrink(2 * BLOCK).unwrap(), Removed { files: 7, bytes: 7 * BLOCK });
    assert_eq!(cache.shrink(0).unwrap().files, 2);
    assert_eq!((cache.list().unwrap(), logged(&cache)), (Vec::new(), 0));
}

#[test]
fn eviction_does_not_follow_links() {
    let (folder, cache) = cache(ROOM);
    assert!(put(&cache, &toc(1), b"kept"));
    let (toc_folder, elsewhere) = (cache.path.join("toc"), folder.path().join("elsewhere"));
    std::fs::rename(&toc_folder, &elsewhere).unwrap();
    symlink(&elsewhere, &toc_folder).unwrap();
    let error = cache.shrink(0).unwrap_err();
    assert!(format!("{error:?}").contains("is a symbolic link"), "{error:?}");
    assert!(elsewhere.join(toc(1).path().strip_prefix("toc/").unwrap()).exists());
}

#[test]
fn a_lost_or_damaged_log_is_restarted() {
    let (_folder, cache) = cache(4 * BLOCK);
    let log = cache.path.join(USAGE);
    for (number, damage) in [(0, None), (1, Some(&b"torn"[..])), (2, Some(&[0xff; 8])), (3, None)] {
        match damage {
            Some(bytes) => fs::write(&log, bytes).unwrap(),
            None => drop(fs::remove_file(&log)),
        }
        put(&cache, &toc(number), b"x");
        assert_eq!(logged(&cache), u64::from(number + 1) * BLOCK);
        set_last_use(&cache, &toc(number), u64::from(number));
    }
    fs::remove_file(&log).unwrap();
    put(&cache, &toc(4), b"x");
    assert_eq!(logged(&cache), 3 * BLOCK);
}

#[test]
fn an_entry_larger_than_the_capacity_is_not_stored() {
    let (_folder, cache) = cache(BLOCK);
    assert!(put(&cache, &toc(1), &[0; 4096]));
    assert!(!put(&cache, &toc(2), &[0; 4097]));
    assert_eq!((read(&cache, &toc(2)), names(&cache, TEMPORARY)), (None, 0));
    assert!(read(&cache, &toc(1)).is_some());
}

#[test]
fn a_failing_writer_leaves_the_old_entry() {
    let (_folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"old");
    let failed = cache.write(&toc(1), &mut |out| {
        out.write_all(&[7; 100_000])?;
        Err(io::ErrorKind::UnexpectedEof.into())
    });
    assert!(failed.is_err());
    assert_eq!(read(&cache, &toc(1)).unwrap(), "old");
    assert_eq!((names(&cache, TEMPORARY), logged(&cache)), (0, BLOCK));
}

#[test]
fn leftovers_of_killed_writers_are_removed_but_files_being_written_are_not() {
    let (_folder, cache) = cache(ROOM);
    let root = Root::open(&cache.path).unwrap();
    let living = root.temporary().unwrap();
    let abandoned = cache.path.join(TEMPORARY).join("abandoned");
    fs::write(&abandoned, b"half").unwrap();
    cache.shrink(ROOM).unwrap();
    assert!(!abandoned.exists());
    assert_eq!(names(&cache, TEMPORARY), 1);
    living.persist("tag/living").unwrap();
    assert_eq!(names(&cache, TEMPORARY), 0);
    assert!(cache.path.join("tag/living").exists());
    // An unknown name is neither counted nor removed.
    cache.shrink(0).unwrap();
    assert!(cache.path.join("tag/living").exists());
}

#[test]
fn a_directory_that_is_removed_under_an_open_cache_is_recreated() {
    let (_folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"table");
    fs::remove_dir_all(&cache.path).unwrap();
    assert_eq!(read(&cache, &toc(1)), None);
    assert!(put(&cache, &toc(1), b"again"));
    assert_eq!(read(&cache, &toc(1)).unwrap(), "again");
}

#[test]
fn symbolic_links_in_the_cache_are_never_followed() {
    for link in ["toc", "toc/sha256", "tmp"] {
        let (folder, cache) = cache(ROOM);
        put(&cache, &toc(1), b"entry");
        let (link, elsewhere) = (cache.path.join(link), folder.path().join("elsewhere"));
        // The link leads to a folder that looks like the cache's own.
        fs::rename(&link, &elsewhere).unwrap();
        symlink(&elsewhere, &link).unwrap();
        let inside = |name: &Path| {
            let mut files = vec![name.to_owned()];
            let mut index = 0;
            while let Some(path) = files.get(index).cloned() {
                if path.is_dir() {
                    files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                }
                index += 1;
            }
            files.sort();
            files
        };
        fs::write(elsewhere.join("half"), b"of another program").unwrap();
        let before = inside(&elsewhere);
        let error = cache.shrink(0).unwrap_err();
        assert!(format!("{error:?}").contains("is a symbolic link or not a directory"), "{error:?}");
        assert_eq!(inside(&elsewhere), before, "{}", link.display());
        let is_read = cache.read(&toc(1), ROOM).is_ok_and(|found| found.is_some());
        assert!(!is_read || link.ends_with("tmp"), "{}", link.display());
        assert!(cache.write(&toc(2), &mut |out| out.write_all(b"new")).is_err(), "{}", link.display());
        assert!(cache.remove(&toc(1)).is_err() || link.ends_with("tmp"));
        assert_eq!(inside(&elsewhere), before, "{}", link.display());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn readers_see_complete_entries_while_others_write() {
    const WRITERS: u8 = 4;
    const ROUNDS: usize = 25;
    let (_folder, first) = cache(6 * BLOCK);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            // Each has its own cache, as processes do. The capacity is half of what is written.
            let cache = Directory::open(first.path.clone(), first.capacity).unwrap();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let key = toc(u8::try_from(round % 12).unwrap());
                    put(&cache, &key, &vec![writer; 4096 - usize::from(writer)]);
                    let found = read(&cache, &toc(u8::try_from((round + 5) % 12).unwrap()));
                    if let Some(found) = found {
                        let writer = found[0];
                        assert_eq!(found, vec![writer; 4096 - usize::from(writer)]);
                    }
                }
            });
        }
    });
    assert_eq!(names(&first, TEMPORARY), 0);
    put(&first, &toc(0), b"");
    first.shrink(first.capacity).unwrap();
    assert!(logged(&first) <= first.capacity);
}
