//! Directories below a root, opened relative to the last one: the cost of a path is the part that differs from the one before.

use std::{collections::VecDeque, io, os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Permission bits of directories without an entry in the image, before the umask applies.
const DIRECTORY_MODE: u32 = 0o777;

/// Directories that are kept open at a time; a process may often open no more than 1,024 files.
const MAX_OPEN: usize = 64;

/// The directory that was opened last, and its nearest parents.
#[derive(Debug)]
pub(super) struct Cursor {
    root: Arc<OwnedFd>,
    /// The components of the path of the last directory.
    names: Vec<Vec<u8>>,
    /// The directories of the last of `names`.
    open: VecDeque<Arc<OwnedFd>>,
}

impl Cursor {
    pub(super) fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, names: Vec::new(), open: VecDeque::new() }
    }

    /// Opens the directory at `path`, and creates it and its parents if they are missing. Follows no links.
    pub(super) fn open(&mut self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let names = || path.split(|&byte| byte == b'/').filter(|_| !path.is_empty());
        let common = names().zip(&self.names).take_while(|(name, open)| *name == open.as_slice()).count();
        while self.names.len() > common {
            self.names.pop();
            self.open.pop_back();
        }
        // Too far up: that directory is no longer open.
        if self.open.is_empty() {
            self.names.clear();
        }
        for name in names().skip(self.names.len()) {
            check_name(name)?;
            let directory = open_or_create(self.last(), name)?;
            self.names.push(name.to_vec());
            self.open.push_back(Arc::new(directory));
            if self.open.len() > MAX_OPEN {
                self.open.pop_front();
            }
        }
        Ok(Arc::clone(self.last()))
    }

    /// Opens the parent directory of `path`; returns it and the last component of `path`.
    pub(super) fn parent<'a>(&mut self, path: &'a [u8]) -> io::Result<(Arc<OwnedFd>, &'a [u8])> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (path.get(..at), path.get(at + 1..)),
            None => (None, Some(path)),
        };
        let name = name.unwrap_or_default();
        check_name(name)?;
        let parent = match parent {
            Some([]) => return Err(not_below()),
            parent => self.open(parent.unwrap_or_default())?,
        };
        Ok((parent, name))
    }

    fn last(&self) -> &Arc<OwnedFd> {
        self.open.back().unwrap_or(&self.root)
    }
}

fn open_or_create(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            open()
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => {
            let name = String::from_utf8_lossy(name);
            let problem = format!("its parent {name:?} is not a directory, and links are not followed here");
            io::Error::new(io::ErrorKind::NotADirectory, problem)
        }
        error => error.into(),
    })
}

fn check_name(name: &[u8]) -> io::Result<()> {
    match name {
        b"" | b"." | b".." => Err(not_below()),
        _ => Ok(()),
    }
}

fn not_below() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a path below the directory")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn any_order_of_paths_opens_the_right_directories() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let mut cursor = Cursor::new(Arc::new(root.into()));
        let deep = vec!["d"; 3 * MAX_OPEN].join("/");
        let paths = ["a/b/c", "a/b", "a/x", "", "z", &deep, "d", "d/d/d", &deep, &deep[2..], "a/b/c", ""];
        for path in paths {
            let opened = cursor.open(path.as_bytes()).unwrap();
            let expected = std::fs::metadata(folder.path().join(path)).unwrap();
            assert_eq!(rustix::fs::fstat(&opened).unwrap().st_ino, expected.ino(), "{path}");
            assert!(cursor.open.len() <= MAX_OPEN);
        }
    }

    #[test]
    fn neighbouring_paths_open_only_the_directories_that_differ() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let mut cursor = Cursor::new(Arc::new(root.into()));
        let first = cursor.open(b"a/b").unwrap();
        assert!(Arc::ptr_eq(&first, &cursor.open(b"a/b").unwrap()));
        cursor.open(b"a/b/c").unwrap();
        assert!(Arc::ptr_eq(&first, &cursor.open(b"a/b").unwrap()));
    }
}
