//! Files that nobody else may read: opened without following links, checked before they are believed, replaced at once or not
//! at all, under a lock that other processes of ours hold too.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use zeroize::Zeroizing;

use crate::{auth::error::CredentialError, limits};

/// Name of the lock file.
const LOCK: &str = "credentials.lock";

/// Beginning of the names of files being written. One that is there while the lock is free was left by a killed process.
const TEMPORARY_PREFIX: &str = ".credentials-";

/// How often a lock that somebody else holds is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Bits that let others in.
const OTHERS: u32 = 0o077;

/// A directory of ours with files of secrets.
#[derive(Clone, Debug)]
pub(crate) struct PrivateDirectory {
    path: PathBuf,
}

/// The right to write in a directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    directory: PathBuf,
}

impl PrivateDirectory {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file, if there is one that nobody else could have read or written.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, CredentialError> {
        let path = self.file(name);
        let shown = path.display();
        let Some(file) = open(&path, OFlags::RDONLY)? else { return Ok(None) };
        check(&path, &file)?;
        check_directory(&self.path)?;
        let mut text = Zeroizing::new(String::new());
        let read = file.take(limits::CREDENTIALS_BYTES + 1).read_to_string(&mut text);
        let read = read.map_err(|error| CredentialError::other(format!("reading {shown}: {error}")))?;
        if read as u64 > limits::CREDENTIALS_BYTES {
            let problem = format!("{shown} is larger than {} bytes", limits::CREDENTIALS_BYTES);
            return Err(CredentialError::other(problem));
        }
        Ok(Some(text))
    }

    /// Waits for the right to write; makes the directory if there is none.
    pub(crate) fn lock(&self) -> Result<Lock, CredentialError> {
        self.lock_named(LOCK)
    }

    /// Waits for a lock of this name.
    pub(crate) fn lock_named(&self, name: &str) -> Result<Lock, CredentialError> {
        let failed = |path: &Path, error: io::Error| {
            CredentialError::other(format!("locking {}: {error}", path.display()))
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.path).map_err(|error| failed(&self.path, error))?;
        check_directory(&self.path)?;
        let path = self.file(name);
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = open(&path, flags)?.ok_or_else(|| failed(&path, ErrorKind::NotFound.into()))?;
        check(&path, &file)?;
        let until = Instant::now() + limits::LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    let seconds = limits::LOCK_WAIT.as_secs();
                    let problem =
                        format!("{} has been held for {seconds} s by another process", path.display());
                    return Err(CredentialError::unavailable(problem));
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(&path, error)),
            }
        }
        Ok(Lock { _file: file, directory: self.path.clone() })
    }
}

impl Lock {
    /// Replaces a file: a reader sees the old one or the new one.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), CredentialError> {
        let path = self.directory.join(name);
        self.replace(&path, text)
            .map_err(|error| CredentialError::other(format!("writing {}: {error}", path.display())))
    }

    /// Whether a file could be written.
    pub(crate) fn try_out(&self) -> Result<(), CredentialError> {
        let written = self.temporary().and_then(|mut temporary| temporary.write_all(b"probe"));
        let shown = self.directory.display();
        written.map_err(|error| CredentialError::other(format!("writing in {shown}: {error}")))
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        self.remove_leftovers()?;
        let mut temporary = self.temporary()?;
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        // The rename itself must outlast a power failure.
        File::open(&self.directory)?.sync_all()
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.directory)
    }

    /// What killed processes of ours left behind. The lock is ours, so nobody is writing one now.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Opens a file that is no link. `None` if there is none.
fn open(path: &Path, flags: OFlags) -> Result<Option<File>, CredentialError> {
    let shown = path.display();
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(file.into())),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(rustix::io::Errno::LOOP) => Err(CredentialError::other(format!(
            "{shown} is a symbolic link, which is not followed; put the file itself there: \
             cp --remove-destination \"$(realpath '{shown}')\" '{shown}'"
        ))),
        Err(error) => Err(CredentialError::other(format!("opening {shown}: {}", io::Error::from(error)))),
    }
}

/// A file of secrets is a regular file of ours that nobody else may touch.
fn check(path: &Path, file: &File) -> Result<(), CredentialError> {
    let shown = path.display();
    let metadata =
        file.metadata().map_err(|error| CredentialError::other(format!("reading {shown}: {error}")))?;
    if !metadata.is_file() {
        return Err(CredentialError::other(format!("{shown} is not a regular file")));
    }
    check_access(path, &metadata, "600")
}

fn check_directory(path: &Path) -> Result<(), CredentialError> {
    let shown = path.display();
    let metadata = fs::symlink_metadata(path)
        .map_err(|error| CredentialError::other(format!("reading {shown}: {error}")))?;
    // A link to a directory is fine as long as what it leads to is ours alone.
    let metadata = if metadata.is_symlink() { fs::metadata(path).unwrap_or(metadata) } else { metadata };
    if !metadata.is_dir() {
        return Err(CredentialError::other(format!("{shown} is not a directory")));
    }
    check_access(path, &metadata, "700")
}

fn check_access(path: &Path, metadata: &fs::Metadata, mode: &str) -> Result<(), CredentialError> {
    let shown = path.display();
    let user = geteuid().as_raw();
    if metadata.uid() != user {
        let owner = metadata.uid();
        return Err(CredentialError::other(format!(
            "{shown} belongs to user {owner}, not to user {user}; mend it with: chown {user} '{shown}'"
        )));
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(CredentialError::other(format!(
            "others can open {shown} (mode {:04o}); mend it with: chmod {mode} '{shown}'",
            metadata.mode() & 0o7777
        )));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder for its owner alone.
    pub(crate) fn private_folder() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
    }

    fn directory() -> (tempfile::TempDir, PrivateDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::new(folder.path().join("a/layerslayer"));
        (folder, directory)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_written_is_for_its_owner_alone() {
        let (_folder, directory) = directory();
        assert!(directory.read("x").unwrap().is_none());
        directory.lock().unwrap().write("x", "secret").unwrap();
        assert_eq!(directory.read("x").unwrap().unwrap().as_str(), "secret");
        assert_eq!((mode(&directory.path), mode(&directory.file("x"))), (0o700, 0o600));
        assert_eq!(mode(&directory.file(LOCK)), 0o600);
        directory.lock().unwrap().write("x", "other").unwrap();
        assert_eq!(directory.read("x").unwrap().unwrap().as_str(), "other");
    }

    #[test]
    fn a_file_that_others_can_open_is_refused_with_the_command_that_mends_it() {
        let (_folder, directory) = directory();
        directory.lock().unwrap().write("x", "secret").unwrap();
        let path = directory.file("x");
        for bits in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            let error = directory.read("x").unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 '{}'", path.display())), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&directory.path, Permissions::from_mode(0o755)).unwrap();
        for error in [directory.read("x").unwrap_err(), directory.lock().unwrap_err()] {
            assert!(error.to_string().contains("chmod 700"), "{error}");
        }
    }

    #[test]
    fn a_link_and_what_is_no_file_are_refused() {
        let (_folder, directory) = directory();
        let lock = directory.lock().unwrap();
        lock.write("real", "secret").unwrap();
        symlink(directory.file("real"), directory.file("link")).unwrap();
        let error = directory.read("link").unwrap_err().to_string();
        assert!(error.contains("symbolic link") && error.contains("realpath"), "{error}");
        fs::create_dir(directory.file("folder")).unwrap();
        assert!(directory.read("folder").unwrap_err().to_string().contains("not a regular file"));
        // Writing replaces the link, not what it leads to.
        lock.write("link", "new").unwrap();
        assert_eq!(directory.read("link").unwrap().unwrap().as_str(), "new");
        assert_eq!(directory.read("real").unwrap().unwrap().as_str(), "secret");
    }

    #[test]
    fn an_endless_file_is_not_read() {
        let (_folder, directory) = directory();
        directory.lock().unwrap().write("x", "").unwrap();
        let file = File::options().write(true).open(directory.file("x")).unwrap();
        file.set_len(limits::CREDENTIALS_BYTES + 1).unwrap();
        assert!(directory.read("x").unwrap_err().to_string().contains("larger than"));
    }

    #[test]
    fn a_directory_that_cannot_be_written_in_is_found_out_and_nothing_is_left_by_trying() {
        let (_folder, directory) = directory();
        let lock = directory.lock().unwrap();
        lock.try_out().unwrap();
        assert_eq!(fs::read_dir(&directory.path).unwrap().count(), 1);
        // For root no mode is in the way.
        fs::remove_dir_all(&directory.path).unwrap();
        assert!(lock.try_out().unwrap_err().to_string().contains("writing in"));
    }

    #[test]
    fn what_killed_writers_left_is_removed() {
        let (_folder, directory) = directory();
        let lock = directory.lock().unwrap();
        let left = directory.file(&format!("{TEMPORARY_PREFIX}x"));
        fs::write(&left, "secret").unwrap();
        lock.write("x", "").unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn only_one_writes_at_a_time() {
        let (_folder, directory) = directory();
        let add = || {
            let lock = directory.lock().unwrap();
            let text = directory.read("x").unwrap().unwrap_or_default();
            lock.write("x", &format!("{}.", text.as_str())).unwrap();
        };
        std::thread::scope(|scope| (0..16).for_each(|_| drop(scope.spawn(add))));
        assert_eq!(directory.read("x").unwrap().unwrap().len(), 16);
    }
}
