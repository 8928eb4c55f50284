//! Caches in directories: modes, sizes, order of leaving, writers that die.

use std::{
    fs::{File, Permissions},
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

/// Says of a file that it was used so many seconds after 1970.
fn age(cache: &Directory, key: &Key, seconds: u64) {
    let file = File::options().write(true).open(cache.path.join(key.path())).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(cache: &Directory, place: &str) -> usize {
    fs::read_dir(cache.path.join(place)).map_or(0, Iterator::count)
}

/// The sum that writers go by.
fn noted(cache: &Directory) -> u64 {
    let bytes = fs::read(cache.path.join(USAGE)).unwrap();
    let changes = bytes.chunks_exact(8).map(|change| i64::from_le_bytes(change.try_into().unwrap()));
    u64::try_from(changes.sum::<i64>()).unwrap()
}

#[test]
fn only_the_owner_may_read_what_is_written() {
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
fn a_directory_that_others_may_write_to_is_refused_also_behind_a_link_and_once_it_is_open() {
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
fn what_is_no_plain_file_is_not_read() {
    let (folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"table");
    let path = cache.path.join(toc(1).path());
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(cache.read(&toc(1), ROOM).is_err());
    fs::remove_file(&path).unwrap();
    // Opening a pipe for reading would wait for a writer.
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    assert!(cache.read(&toc(1), ROOM).is_err());
    // Writing heals it.
    assert!(put(&cache, &toc(1), b"new"));
    assert_eq!(read(&cache, &toc(1)).unwrap(), "new");
    assert_eq!(fs::read(elsewhere).unwrap(), b"table");
}

#[test]
fn what_is_put_is_there_until_it_is_removed() {
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
    assert_eq!(noted(&cache), 4 * BLOCK);
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
        assert_eq!(noted(&cache), (3 - index as u64) * BLOCK);
    }
}

#[test]
fn the_least_recently_used_go_first_and_only_once_there_is_too_much() {
    let (_folder, cache) = cache(10 * BLOCK);
    for number in 0..10 {
        assert!(put(&cache, &toc(number), &[number; 4096]));
        age(&cache, &toc(number), 1_000 + u64::from(number));
    }
    // The list was begun by the first and appended to by the others: nobody listed the directory.
    assert_eq!(fs::metadata(cache.path.join(USAGE)).unwrap().len(), 8 * 10);
    assert!(read(&cache, &toc(0)).is_some());
    assert!(put(&cache, &toc(10), b"one too many"));
    let left: Vec<u8> = (0..=10).filter(|number| read(&cache, &toc(*number)).is_some()).collect();
    assert_eq!(left, [0, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!((noted(&cache), names(&cache, TEMPORARY)), (9 * BLOCK, 0));
    assert_eq!(cache.shrink(9 * BLOCK).unwrap(), Removed::default());
    assert_eq!(cache.shrink(2 * BLOCK).unwrap(), Removed { files: 7, bytes: 7 * BLOCK });
    assert_eq!(cache.shrink(0).unwrap().files, 2);
    assert_eq!((cache.list().unwrap(), noted(&cache)), (Vec::new(), 0));
}

#[test]
fn a_lost_or_damaged_list_of_changes_is_begun_anew() {
    let (_folder, cache) = cache(4 * BLOCK);
    let list = cache.path.join(USAGE);
    for (number, damage) in [(0, None), (1, Some(&b"torn"[..])), (2, Some(&[0xff; 8])), (3, None)] {
        match damage {
            Some(bytes) => fs::write(&list, bytes).unwrap(),
            None => drop(fs::remove_file(&list)),
        }
        put(&cache, &toc(number), b"x");
        assert_eq!(noted(&cache), u64::from(number + 1) * BLOCK);
        age(&cache, &toc(number), u64::from(number));
    }
    fs::remove_file(&list).unwrap();
    put(&cache, &toc(4), b"x");
    assert_eq!(noted(&cache), 3 * BLOCK);
}

#[test]
fn what_has_no_room_at_all_is_not_stored() {
    let (_folder, cache) = cache(BLOCK);
    assert!(put(&cache, &toc(1), &[0; 4096]));
    assert!(!put(&cache, &toc(2), &[0; 4097]));
    assert_eq!((read(&cache, &toc(2)), names(&cache, TEMPORARY)), (None, 0));
    assert!(read(&cache, &toc(1)).is_some());
}

#[test]
fn a_writer_that_fails_leaves_what_was_there() {
    let (_folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"old");
    let failed = cache.write(&toc(1), &mut |out| {
        out.write_all(&[7; 100_000])?;
        Err(io::ErrorKind::UnexpectedEof.into())
    });
    assert!(failed.is_err());
    assert_eq!(read(&cache, &toc(1)).unwrap(), "old");
    assert_eq!((names(&cache, TEMPORARY), noted(&cache)), (0, BLOCK));
}

#[test]
fn what_a_killed_writer_left_is_swept_up_and_what_is_being_written_is_not() {
    let (_folder, cache) = cache(ROOM);
    let root = Root::open(&cache.path).unwrap();
    let living = root.temporary().unwrap();
    let abandoned = cache.path.join(TEMPORARY).join("abandoned");
    fs::write(&abandoned, b"half").unwrap();
    cache.shrink(ROOM).unwrap();
    assert!(!abandoned.exists());
    assert_eq!(names(&cache, TEMPORARY), 1);
    living.place("tag/living").unwrap();
    assert_eq!(names(&cache, TEMPORARY), 0);
    assert!(cache.path.join("tag/living").exists());
    // A name that is none of ours is neither counted nor removed.
    cache.shrink(0).unwrap();
    assert!(cache.path.join("tag/living").exists());
}

#[test]
fn a_directory_that_is_removed_under_an_open_cache_is_begun_anew() {
    let (_folder, cache) = cache(ROOM);
    put(&cache, &toc(1), b"table");
    fs::remove_dir_all(&cache.path).unwrap();
    assert_eq!(read(&cache, &toc(1)), None);
    assert!(put(&cache, &toc(1), b"again"));
    assert_eq!(read(&cache, &toc(1)).unwrap(), "again");
}

#[test]
fn readers_beside_many_writers_see_something_whole() {
    const WRITERS: u8 = 4;
    const ROUNDS: usize = 25;
    let (_folder, first) = cache(6 * BLOCK);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            // A cache of its own each, as processes have; there is room for half of all that is written.
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
    assert!(noted(&first) <= first.capacity);
}
