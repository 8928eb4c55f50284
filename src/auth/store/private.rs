//! Files that only their owner may read: opened without following links, checked before use, replaced atomically, under a lock shared
//! with our other processes.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use crate::{auth::error::CredentialError, files::check_private, limits};

/// The name of the lock file.
const LOCK: &str = "credentials.lock";

/// Prefix of files being written. If the lock is free, such a file is left over from a killed process.
const TEMPORARY_PREFIX: &str = ".credentials-";

/// Interval at which a lock held by another process is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Our directory of files with secrets.
#[derive(Clone, Debug)]
pub(crate) struct PrivateDirectory {
    path: PathBuf,
}

/// The lock of a directory, held until dropped.
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

    /// Reads a file, if there is one. A file that other users can access is refused.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, CredentialError> {
        let path = self.file(name);
        let shown = path.display();
        let Some(file) = open(&path, OFlags::RDONLY)? else { return Ok(None) };
        check_file(&path, &file)?;
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

    /// Waits for the lock. Creates the directory if necessary.
    pub(crate) fn lock(&self) -> Result<Lock, CredentialError> {
        self.lock_named(LOCK)
    }

    /// Waits for the lock with this name.
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
        check_file(&path, &file)?;
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
    /// Replaces a file atomically.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), CredentialError> {
        let path = self.directory.join(name);
        self.replace(&path, text)
            .map_err(|error| CredentialError::other(format!("writing {}: {error}", path.display())))
    }

    /// Checks whether a file could be written.
    pub(crate) fn probe(&self) -> Result<(), CredentialError> {
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
        // The rename must survive a power failure.
        File::open(&self.directory)?.sync_all()
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.directory)
    }

    /// Removes leftovers of killed processes. No other process is writing, since we hold the lock.
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

/// Opens a file that is not a symbolic link; `None` if there is none.
fn open(path: &Path, flags: OFlags) -> Result<Option<File>, CredentialError> {
    let shown = path.display();
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(file.into())),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(rustix::io::Errno::LOOP) => Err(CredentialError::other(format!(
            "{shown} is a symbolic link, which is not followed; replace it with the file: \
             cp --remove-destination \"$(realpath '{shown}')\" '{shown}'"
        ))),
        Err(error) => Err(CredentialError::other(format!("opening {shown}: {}", io::Error::from(error)))),
    }
}

/// Refuses anything but a regular file that only this user can access.
fn check_file(path: &Path, file: &File) -> Result<(), CredentialError> {
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
    // A link to a directory is fine if only this user can access its target.
    let metadata = if metadata.is_symlink() { fs::metadata(path).unwrap_or(metadata) } else { metadata };
    if !metadata.is_dir() {
        return Err(CredentialError::other(format!("{shown} is not a directory")));
    }
    check_access(path, &metadata, "700")
}

fn check_access(path: &Path, metadata: &fs::Metadata, mode: &str) -> Result<(), CredentialError> {
    check_private(path, metadata, mode).map_err(CredentialError::other)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    /// A folder that only its owner can access.
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
    fn written_files_are_accessible_to_their_owner_only() {
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
    fn a_file_that_other_users_can_access_is_refused_with_the_command_that_fixes_it() {
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
    fn a_symbolic_link_and_a_directory_are_refused() {
        let (_folder, directory) = directory();
        let lock = directory.lock().unwrap();
        lock.write("real", "secret").unwrap();
        symlink(directory.file("real"), directory.file("link")).unwrap();
        let error = directory.read("link").unwrap_err().to_string();
        assert!(error.contains("symbolic link") && error.contains("realpath"), "{error}");
        fs::create_dir(directory.file("folder")).unwrap();
        assert!(directory.read("folder").unwrap_err().to_string().contains("not a regular file"));
        // Writing replaces the link, not its target.
        lock.write("link", "new").unwrap();
        assert_eq!(directory.read("link").unwrap().unwrap().as_str(), "new");
        assert_eq!(directory.read("real").unwrap().unwrap().as_str(), "secret");
    }

    #[test]
    fn a_file_beyond_the_cap_is_refused() {
        let (_folder, directory) = directory();
        directory.lock().unwrap().write("x", "").unwrap();
        let file = File::options().write(true).open(directory.file("x")).unwrap();
        file.set_len(limits::CREDENTIALS_BYTES + 1).unwrap();
        assert!(directory.read("x").unwrap_err().to_string().contains("larger than"));
    }

    #[test]
    fn a_probe_finds_an_unwritable_directory_and_leaves_no_file() {
        let (_folder, directory) = directory();
        let lock = directory.lock().unwrap();
        lock.probe().unwrap();
        assert_eq!(fs::read_dir(&directory.path).unwrap().count(), 1);
        // Modes do not restrict root, so the directory is removed instead.
        fs::remove_dir_all(&directory.path).unwrap();
        assert!(lock.probe().unwrap_err().to_string().contains("writing in"));
    }

    #[test]
    fn leftovers_of_killed_writers_are_removed() {
        let (_folder, directory) = directory();
        let lock = directory.lock().unwrap();
        let left = directory.file(&format!("{TEMPORARY_PREFIX}x"));
        fs::write(&left, "secret").unwrap();
        lock.write("x", "").unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn writers_take_turns() {
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
