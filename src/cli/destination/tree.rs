//! `-o DIR/`: writes entries as files below a directory.
//!
//! Directories are opened relative to each other without following links, and existing files and links are replaced, never written
//! through. So nothing is written outside of the directory, whatever the image contains and whatever the directory contains already.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use layerslayer::{Entry, EntryKind, Timestamp};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};

use super::{attributes, copy_exactly, file::TEMPORARY_PREFIX, holes, temporary::Pending};
use cursor::Cursor;
use new_file::NewFile;

mod cursor;
mod new_file;

/// What to restore, and how much to write.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TreeOptions {
    /// Restore owners, all mode bits and extended attributes.
    pub(crate) same_permissions: bool,
    /// Create device nodes.
    pub(crate) devices: bool,
    /// Bytes that may be written for copies of files whose hard links the file system refuses.
    pub(crate) copy_bytes: u64,
}

/// Files below a directory.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    options: TreeOptions,
    paths: Cursor,
    /// Hard links often alternate between two directories.
    targets: Cursor,
    /// Directories whose attributes are set last, because they may forbid writing.
    directories: Vec<(Vec<u8>, Entry)>,
    lost: Vec<String>,
    temporaries: u64,
}

impl Tree {
    /// Opens the directory at `path`. Creates it and its parents if they are missing.
    pub(crate) fn open(path: &Path, options: TreeOptions) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let root = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let root = Arc::new(root);
        Ok(Self {
            path: path.to_owned(),
            options,
            paths: Cursor::new(Arc::clone(&root)),
            targets: Cursor::new(root),
            directories: Vec::new(),
            lost: Vec::new(),
            temporaries: 0,
        })
    }

    /// What could not be written or restored, in words, without repetitions.
    pub(crate) fn lost(&mut self) -> Vec<String> {
        self.lost.sort();
        self.lost.dedup();
        std::mem::take(&mut self.lost)
    }

    /// Writes an entry at `path`; with `hardlink_to`, as a hard link to that earlier entry.
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
                if let Some(target) = hardlink_to {
                    match self.link(path, target) {
                        Ok(()) => return Ok(()),
                        Err(error) => self.count_copy(entry.size, target, &error)?,
                    }
                }
                let mut file = self.create(path, entry)?;
                copy_exactly(content, &mut file, entry.size)?;
                self.finish(file)
            }
            EntryKind::Symlink => self.symlink(path, entry),
            EntryKind::Fifo => self.node(path, entry, FileType::Fifo),
            EntryKind::Block if self.options.devices => self.node(path, entry, FileType::BlockDevice),
            EntryKind::Char if self.options.devices => self.node(path, entry, FileType::CharacterDevice),
            EntryKind::Block | EntryKind::Char => {
                self.lose("devices (--devices creates them, --tar keeps them)");
                Ok(())
            }
            _ => {
                self.lose("entries of unknown types");
                Ok(())
            }
        }
    }

    /// Creates a temporary file for the entry at `path`; [`finish`](Self::finish) renames it.
    pub(crate) fn create(&mut self, path: &[u8], entry: &Entry) -> io::Result<NewFile> {
        let (parent, name) = self.paths.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // With --same-permissions the mode is set last, after the owner.
        let mode = if self.options.same_permissions { 0o600 } else { entry.mode & 0o777 };
        loop {
            let temporary = self.temporary_name();
            match rustix::fs::openat(&parent, temporary.as_str(), flags, Mode::from_raw_mode(mode)) {
                Ok(file) => {
                    let directory = path.strip_suffix(name).unwrap_or_default();
                    let place = self.path.join(OsStr::from_bytes(directory)).join(&temporary);
                    let file = NewFile {
                        file: file.into(),
                        parent,
                        name: name.to_vec(),
                        pending: Some(Pending::new(&place)),
                        temporary,
                        entry: entry.clone(),
                    };
                    holes::check_size(&file.file, entry.size)?;
                    return Ok(file);
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Completes a file and renames it to its path.
    pub(crate) fn finish(&mut self, mut file: NewFile) -> io::Result<()> {
        holes::finish(&mut file.file)?;
        if self.options.same_permissions {
            self.lost.append(&mut attributes::apply(file.file.as_fd(), &file.entry)?);
        }
        if let Some(time) = system_time(file.entry.mtime) {
            file.file.set_modified(time)?;
        }
        rustix::fs::renameat(&file.parent, file.temporary.as_str(), &file.parent, file.name.as_slice())?;
        file.pending = None;
        Ok(())
    }

    /// Sets the attributes of directories.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        for (path, entry) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self.paths.open(&path)?;
            if self.options.same_permissions {
                self.lost.append(&mut attributes::apply(directory.as_fd(), &entry)?);
            }
            if let Some(time) = system_time(entry.mtime) {
                File::from(directory.try_clone()?).set_modified(time)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let (parent, name) = self.paths.parent(path)?;
        // The owner must be able to write to it and to remove it again.
        let mode = entry.mode & 0o777 | 0o700;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            // An existing one must be a directory itself, not a link to one.
            Ok(()) | Err(Errno::EXIST) => drop(self.paths.open(path)?),
            Err(error) => return Err(error.into()),
        }
        self.directories.push((path.to_vec(), entry.clone()));
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let (parent, name) = self.paths.parent(path)?;
        self.place(&parent, name, |name| rustix::fs::symlinkat(entry.link.as_slice(), &parent, name))?;
        set_time(&parent, name, entry);
        if self.options.same_permissions {
            let changed = attributes::owners(entry).is_some_and(|(user, group)| {
                rustix::fs::chownat(&parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).is_ok()
            });
            if !changed {
                self.lose("owners");
            }
        }
        Ok(())
    }

    fn node(&mut self, path: &[u8], entry: &Entry, kind: FileType) -> io::Result<()> {
        let (parent, name) = self.paths.parent(path)?;
        let device = entry.device.map_or(0, |(major, minor)| rustix::fs::makedev(major, minor));
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match self.place(&parent, name, |name| rustix::fs::mknodat(&parent, name, kind, mode, device)) {
            Ok(()) => {
                set_time(&parent, name, entry);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.lose("devices (this user may not create them)");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (target_parent, target_name) = self.targets.parent(target)?;
        let (parent, name) = self.paths.parent(path)?;
        self.place(&parent, name, |name| {
            rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())
        })
    }

    /// Counts a copy that replaces a hard link. Many links to one file can exceed any disk.
    fn count_copy(&mut self, size: u64, target: &[u8], refused: &io::Error) -> io::Result<()> {
        match self.options.copy_bytes.checked_sub(size) {
            Some(left) => {
                self.options.copy_bytes = left;
                Ok(())
            }
            None => {
                let target = String::from_utf8_lossy(target);
                Err(io::Error::other(format!(
                    "no further hard link to {target:?} is possible ({refused}), and copies in place of hard links would add up to \
                     more than all files of the image"
                )))
            }
        }
    }

    /// Creates something that has no content at `name`, and replaces what exists there.
    fn place(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        make: impl Fn(&[u8]) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        match make(name) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        let temporary = loop {
            let temporary = self.temporary_name();
            match make(temporary.as_bytes()) {
                Ok(()) => break temporary,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let renamed = rustix::fs::renameat(parent, temporary.as_str(), parent, name);
        // In POSIX, renaming a file to another hard link of itself does nothing, so the temporary name still exists.
        match rustix::fs::unlinkat(parent, temporary.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(renamed?),
            Err(error) => Err(error.into()),
        }
    }

    fn lose(&mut self, what: &str) {
        self.lost.push(what.to_owned());
    }

    fn temporary_name(&mut self) -> String {
        self.temporaries += 1;
        format!("{TEMPORARY_PREFIX}{}-{}", std::process::id(), self.temporaries)
    }
}

/// Sets the time of something that cannot be opened, if the file system supports it.
fn set_time(parent: &OwnedFd, name: &[u8], entry: &Entry) {
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let modified = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    let times = Timestamps { last_access: omitted, last_modification: modified };
    let _ = rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW);
}

/// Converts a time, if the system can represent it.
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
