//! `-o DIR/`: entries as files below a directory.
//!
//! Every directory on the way is opened without following links, one below the other: whatever an image holds, and whatever
//! lies there already, nothing is written outside.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use layerslayer::{Entry, EntryKind, Timestamp};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};

use super::{attributes, copy_exactly, file::TEMPORARY_PREFIX, holes, temporary::Pending};
use new_file::NewFile;

mod new_file;

/// Permission bits of directories that nothing in the image describes, before the umask takes some away.
const DIRECTORY_MODE: u32 = 0o777;

/// Files below a directory.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    same_permissions: bool,
    /// Directories with attributes that are set last: they might forbid to write below.
    directories: Vec<(Vec<u8>, Entry)>,
    lost: Vec<String>,
    temporaries: u64,
}

impl Tree {
    /// Opens the directory at `path`; creates it, and what leads there, if need be.
    pub(crate) fn open(path: &Path, same_permissions: bool) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let root = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = path.to_owned();
        Ok(Self { path, root, same_permissions, directories: Vec::new(), lost: Vec::new(), temporaries: 0 })
    }

    /// What could not be kept or written, in words; each once.
    pub(crate) fn lost(&mut self) -> Vec<String> {
        self.lost.sort();
        self.lost.dedup();
        std::mem::take(&mut self.lost)
    }

    /// Writes one entry at `path`, which is that of an earlier file for `hardlink_to`.
    pub(crate) fn write(
        &mut self,
        path: &[u8],
        entry: &Entry,
        hardlink_to: Option<&[u8]>,
        content: impl Read,
    ) -> io::Result<()> {
        match entry.kind {
            EntryKind::Directory => self.directory(path, entry),
            EntryKind::File | EntryKind::Hardlink => {
                if hardlink_to.is_some_and(|target| self.link(path, target).is_ok()) {
                    return Ok(());
                }
                let mut file = self.create(path, entry)?;
                copy_exactly(content, &mut file, entry.size)?;
                self.finish(file)
            }
            EntryKind::Symlink => self.symlink(path, entry),
            EntryKind::Fifo => self.node(path, entry, FileType::Fifo),
            EntryKind::Block if self.same_permissions => self.node(path, entry, FileType::BlockDevice),
            EntryKind::Char if self.same_permissions => self.node(path, entry, FileType::CharacterDevice),
            EntryKind::Block | EntryKind::Char => {
                self.lost.push("devices (--same-permissions makes them, --tar keeps them)".to_owned());
                Ok(())
            }
            _ => {
                self.lost.push("entries of unknown types".to_owned());
                Ok(())
            }
        }
    }

    /// Begins a file; nothing is at `path` before [`finish`](Self::finish).
    pub(crate) fn create(&mut self, path: &[u8], entry: &Entry) -> io::Result<NewFile> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // With --same-permissions the mode comes last, when the owner is right.
        let mode = if self.same_permissions { 0o600 } else { entry.mode & 0o777 };
        loop {
            let temporary = self.temporary_name();
            match rustix::fs::openat(&parent, temporary.as_str(), flags, Mode::from_raw_mode(mode)) {
                Ok(file) => {
                    let directory = path.strip_suffix(name.as_slice()).unwrap_or_default();
                    let place = self.path.join(as_path(directory)).join(&temporary);
                    return Ok(NewFile {
                        file: file.into(),
                        parent,
                        name,
                        pending: Some(Pending::new(&place)),
                        temporary,
                        entry: entry.clone(),
                    });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// All of a file has been written: it takes its place.
    pub(crate) fn finish(&mut self, mut file: NewFile) -> io::Result<()> {
        holes::finish(&mut file.file)?;
        if self.same_permissions {
            self.lost.append(&mut attributes::apply(file.file.as_fd(), &file.entry)?);
        }
        if let Some(time) = system_time(file.entry.mtime) {
            file.file.set_modified(time)?;
        }
        rustix::fs::renameat(&file.parent, file.temporary.as_str(), &file.parent, file.name.as_slice())?;
        file.pending = None;
        Ok(())
    }

    /// Sets what has to be set last.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        for (path, entry) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self.walk(&path)?;
            if self.same_permissions {
                self.lost.append(&mut attributes::apply(directory.as_fd(), &entry)?);
            }
            if let Some(time) = system_time(entry.mtime) {
                File::from(directory).set_modified(time)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        if !path.is_empty() {
            let (parent, name) = self.parent(path)?;
            // Whoever carves must be able to write below, and to remove it again.
            let mode = entry.mode & 0o777 | 0o700;
            match rustix::fs::mkdirat(&parent, name.as_slice(), Mode::from_raw_mode(mode)) {
                // What is there already must be a directory itself, no link to one.
                Ok(()) | Err(Errno::EXIST) => drop(self.walk(path)?),
                Err(error) => return Err(error.into()),
            }
            self.directories.push((path.to_vec(), entry.clone()));
        }
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.replace(&parent, &name, |parent, temporary| {
            rustix::fs::symlinkat(entry.link.as_slice(), parent, temporary)?;
            set_time(parent, temporary, entry);
            Ok(())
        })?;
        if self.same_permissions {
            let changed = attributes::owners(entry).is_some_and(|(user, group)| {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&parent, name.as_slice(), Some(user), Some(group), flags).is_ok()
            });
            if !changed {
                self.lost.push("owners".to_owned());
            }
        }
        Ok(())
    }

    fn node(&mut self, path: &[u8], entry: &Entry, kind: FileType) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let device = entry.device.map_or(0, |(major, minor)| rustix::fs::makedev(major, minor));
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let made = self.replace(&parent, &name, |parent, temporary| {
            rustix::fs::mknodat(parent, temporary, kind, mode, device)?;
            set_time(parent, temporary, entry);
            Ok(())
        });
        match made {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.lost.push("devices (this user may not make them)".to_owned());
                Ok(())
            }
            made => made,
        }
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (target_parent, target_name) = self.parent(target)?;
        let (parent, name) = self.parent(path)?;
        self.replace(&parent, &name, |parent, temporary| {
            rustix::fs::linkat(&target_parent, target_name.as_slice(), parent, temporary, AtFlags::empty())
        })
    }

    /// Makes something under a temporary name and puts it in its place.
    fn replace(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        make: impl Fn(&OwnedFd, &str) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let temporary = loop {
            let temporary = self.temporary_name();
            match make(parent, &temporary) {
                Ok(()) => break temporary,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let renamed = rustix::fs::renameat(parent, temporary.as_str(), parent, name);
        // Renaming one name of a file to another of the same file does nothing, by POSIX: the first is still there.
        match rustix::fs::unlinkat(parent, temporary.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(renamed?),
            Err(error) => Err(error.into()),
        }
    }

    fn temporary_name(&mut self) -> String {
        self.temporaries += 1;
        format!("{TEMPORARY_PREFIX}{}-{}", std::process::id(), self.temporaries)
    }

    /// The directory that holds `path`, made if need be, and the last name of `path`.
    fn parent(&self, path: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
        path.split(|&byte| byte == b'/').try_for_each(is_name)?;
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (path.get(..at), path.get(at + 1..)),
            None => (None, Some(path)),
        };
        let (parent, name) = (parent.unwrap_or_default(), name.unwrap_or_default());
        Ok((self.walk(parent)?, name.to_vec()))
    }

    /// Opens the directory at `path` below the root, component by component, making those that are missing.
    fn walk(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = self.root.try_clone()?;
        if path.is_empty() {
            return Ok(directory);
        }
        for name in path.split(|&byte| byte == b'/') {
            is_name(name)?;
            let opened = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let mode = Mode::from_raw_mode(DIRECTORY_MODE);
                    match rustix::fs::mkdirat(&directory, name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    rustix::fs::openat(&directory, name, flags, Mode::empty())
                }
                opened => opened,
            };
            directory = match opened {
                Ok(opened) => opened,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let name = String::from_utf8_lossy(name);
                    let what =
                        format!("{name:?} on the way is not a directory, and links are not followed here");
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(directory)
    }
}

/// Gives something that cannot be opened the time of `entry`, where the file system can.
fn set_time(parent: &OwnedFd, name: &str, entry: &Entry) {
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let modified = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    let times = Timestamps { last_access: omitted, last_modification: modified };
    let _ = rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW);
}

fn is_name(name: &[u8]) -> io::Result<()> {
    match name {
        b"" | b"." | b".." => Err(io::Error::new(io::ErrorKind::InvalidInput, "no path below a directory")),
        _ => Ok(()),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The time for the file system, if it can have it.
fn system_time(time: Timestamp) -> Option<SystemTime> {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = match time.seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    second?.checked_add(Duration::from_nanos(u64::from(time.nanoseconds)))
}

#[cfg(test)]
mod tests;
