//! The cache directory, held open and checked: only its owner may write to it. Its content is accessed relative to the open
//! directory, so that replacing the directory has no effect.

use std::{
    collections::hash_map::RandomState,
    fs::{DirBuilder, File, TryLockError},
    hash::{BuildHasher as _, Hasher as _},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::error::CacheError;

/// Folder of files that are being written.
pub(super) const TEMPORARY: &str = "tmp";
/// Makes backup programs skip the directory (<https://bford.info/cachedir/>).
const TAG_FILE: (&str, &[u8]) = ("CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n");
/// Only the owner may read the files: TOCs contain parts of file content.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_MODE: Mode = Mode::RWXU;
/// Number of names tried for a temporary file.
const ATTEMPTS: usize = 16;
/// Age at which a temporary file counts as abandoned, on file systems without locks.
const ABANDONED: Duration = Duration::from_secs(60 * 60);
/// Write permission for group and others.
const OTHERS_WRITE: u32 = 0o022;

/// The open cache directory.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
}

/// A file of the cache.
pub(super) struct StoredFile {
    pub(super) name: String,
    /// Size in bytes.
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// A file that is being written. It is removed on drop.
pub(super) struct Temporary<'a> {
    pub(super) file: File,
    root: &'a Root,
    name: String,
    is_persisted: bool,
}

impl Root {
    /// Opens the directory and creates it if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Self, CacheError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let created =
                    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE.as_raw_mode()).create(path);
                created.map_err(|error| CacheError::io("creating the cache directory", path, error))?;
                fs::open(path, flags, Mode::empty())
            }
            opened => opened,
        };
        let fd = opened.map_err(|error| CacheError::io("opening the cache directory", path, error.into()))?;
        let stat = fs::fstat(&fd)
            .map_err(|error| CacheError::io("checking the cache directory", path, error.into()))?;
        let (owner, own) = (stat.st_uid, rustix::process::geteuid().as_raw());
        check(path, (owner, own), Mode::from_raw_mode(stat.st_mode).as_raw_mode())?;
        Ok(Self { fd })
    }

    /// Opens a file for reading; `None` if it does not exist. Refuses files of other users and anything but regular files.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<File>> {
        self.open_file(path, OFlags::RDONLY)
    }

    /// Opens a file for reading and appending; `None` if it does not exist.
    pub(super) fn open_log(&self, path: &str) -> io::Result<Option<File>> {
        self.open_file(path, OFlags::RDWR | OFlags::APPEND)
    }

    fn open_file(&self, path: &str, access: OFlags) -> io::Result<Option<File>> {
        // Opening a pipe must not block.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened =
            self.folder(path).and_then(|(folder, name)| fs::openat(folder, name, flags, Mode::empty()));
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a regular file of this user"));
        }
        Ok(Some(file))
    }

    /// Opens the folder that contains `path`, without following symbolic links: another program may have put them there, and what
    /// is behind them is not part of the cache. Also returns the name in that folder.
    fn folder<'a>(&self, path: &'a str) -> rustix::io::Result<(OwnedFd, &'a str)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = fs::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut rest = path;
        while let Some((name, below)) = rest.split_once('/') {
            folder = fs::openat(&folder, name, flags, Mode::empty())?;
            rest = below;
        }
        Ok((folder, rest))
    }

    /// The regular files in a folder that belong to this user; empty if there is no such folder.
    pub(super) fn files(&self, folder: &str) -> io::Result<Vec<StoredFile>> {
        let folder = match self.folder(&format!("{folder}/")) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let problem = format!("{folder} is a symbolic link or not a directory");
                return Err(io::Error::new(io::ErrorKind::NotADirectory, problem));
            }
            folder => folder?.0,
        };
        let own = rustix::process::geteuid().as_raw();
        let mut files = Vec::new();
        for entry in fs::Dir::read_from(&folder)? {
            let entry = entry?;
            let stat = match fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                // Another process has removed or renamed it.
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if let Ok(name) = entry.file_name().to_str()
                && is_file
                && stat.st_uid == own
            {
                let (seconds, nanoseconds) =
                    (u64::try_from(stat.st_mtime), u32::try_from(stat.st_mtime_nsec));
                let age = Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default());
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                files.push(StoredFile {
                    name: name.to_owned(),
                    size,
                    modified: SystemTime::UNIX_EPOCH + age,
                });
            }
        }
        Ok(files)
    }

    /// Creates a temporary file. It stays locked until it is persisted or dropped.
    pub(super) fn temporary(&self) -> io::Result<Temporary<'_>> {
        for _ in 0..ATTEMPTS {
            // The hasher is seeded randomly per thread and changes with each call.
            let name = format!("{TEMPORARY}/{:016x}", RandomState::new().build_hasher().finish());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened =
                self.folder(&name).and_then(|(folder, name)| fs::openat(folder, name, flags, FILE_MODE));
            let file = match opened {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST) => continue,
                Err(Errno::NOENT) => {
                    self.create_directories(TEMPORARY)?;
                    self.write_cachedir_tag()?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let temporary = Temporary { file, root: self, name, is_persisted: false };
            // Another process may have removed it between creation and locking.
            let is_ours = match temporary.file.try_lock() {
                Err(TryLockError::WouldBlock) => false,
                Ok(()) | Err(TryLockError::Error(_)) => temporary.file.metadata()?.nlink() > 0,
            };
            if is_ours {
                return Ok(temporary);
            }
        }
        Err(io::Error::other("no temporary file could be created"))
    }

    /// Removes a file, if it exists.
    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        let removed =
            self.folder(path).and_then(|(folder, name)| fs::unlinkat(folder, name, AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a temporary file whose writer is gone.
    pub(super) fn sweep(&self, path: &str) -> io::Result<()> {
        let Some(file) = self.open_file(path, OFlags::RDWR)? else { return Ok(()) };
        let is_abandoned = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => {
                file.metadata()?.modified()?.elapsed().is_ok_and(|age| age > ABANDONED)
            }
        };
        if is_abandoned { self.remove(path) } else { Ok(()) }
    }

    fn create_directories(&self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let (folder, name) = self.folder(path.get(..end).unwrap_or(path))?;
            match fs::mkdirat(folder, name, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_cachedir_tag(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&self.fd, TAG_FILE.0, flags, FILE_MODE) {
            Ok(fd) => File::from(fd).write_all(TAG_FILE.1),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Temporary<'_> {
    /// Syncs the file and renames it to its final path. The rename itself is not synced: losing it in a power failure only costs a
    /// rebuild.
    pub(super) fn persist(mut self, path: &str) -> io::Result<()> {
        self.file.sync_all()?;
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        let rename = || {
            let (from, temporary) = self.root.folder(&self.name)?;
            let (to, name) = self.root.folder(path)?;
            fs::renameat(from, temporary, to, name)
        };
        match rename() {
            Err(Errno::NOENT) => {
                self.root.create_directories(parent)?;
                rename()?;
            }
            renamed => renamed?,
        }
        self.is_persisted = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_persisted {
            // If this fails, a later sweep removes it.
            let _ = self.root.remove(&self.name);
        }
    }
}

/// Refuses a directory that anyone but the user `own` can write to.
fn check(path: &Path, (owner, own): (u32, u32), mode: u32) -> Result<(), CacheError> {
    let shown = path.display();
    if owner != own {
        return Err(CacheError::refused(format!(
            "the cache directory {shown} belongs to user {owner}, and this is user {own}: use a directory of your own"
        )));
    }
    if mode & OTHERS_WRITE != 0 {
        let quoted = path.to_string_lossy().replace('\'', r"'\''");
        return Err(CacheError::refused(format!(
            "other users may write to the cache directory {shown}: run `chmod go-w '{quoted}'`, and clear the cache if you \
             do not trust them"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_user_or_writable_by_others_is_refused() {
        let path = Path::new("/it's/here");
        for mode in [0o700, 0o755, 0o1711] {
            assert!(check(path, (7, 7), mode).is_ok(), "{mode:o}");
        }
        for mode in [0o770, 0o720, 0o702, 0o777, 0o1777] {
            let error = check(path, (7, 7), mode).unwrap_err();
            assert!(
                error.is_refused() && error.to_string().contains(r"chmod go-w '/it'\''s/here'"),
                "{error}"
            );
        }
        let error = check(path, (0, 7), 0o700).unwrap_err();
        assert!(error.is_refused() && error.to_string().contains("belongs to user 0, and this is user 7"));
    }
}
