//! `-o FILE`: a regular file is replaced atomically, anything else is written through.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use layerslayer::Entry;
use tempfile::{Builder, NamedTempFile};

use super::{attributes, holes, temporary::Pending};
use crate::cli::startup;

/// Permission bits of ordinary new files before the umask applies.
pub(crate) const FILE_MODE: u32 = 0o666;

/// Symlinks that are followed to a target, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Name prefix of temporary files.
pub(super) const TEMPORARY_PREFIX: &str = ".layerslayer-";

/// A file being written.
#[derive(Debug)]
pub(crate) enum Replacement {
    /// A temporary file in the directory of the file that it will replace.
    Beside { temporary: NamedTempFile, pending: Pending, target: PathBuf },
    /// A device, FIFO or stream that is written directly.
    Through(File),
}

impl Replacement {
    /// Opens `path` for writing; a new or replaced file gets the permission bits `mode`, under the umask.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        if let Some(stream) = standard_stream(path)? {
            return Ok(Self::Through(stream));
        }
        let Some(target) = regular_target(path)? else {
            return OpenOptions::new().write(true).open(path).map(Self::Through);
        };
        if target.as_os_str().as_bytes().ends_with(b"/") {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let directory =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // An error about the directory is clearer than one about the name of the temporary file.
        fs::metadata(directory)?;
        let temporary = Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .permissions(Permissions::from_mode(mode & 0o777))
            .tempfile_in(directory)?;
        let pending = Pending::new(temporary.path());
        Ok(Self::Beside { temporary, pending, target })
    }

    /// Refuses content of `size` bytes if the file system cannot hold it. Call this before writing.
    pub(crate) fn check_size(&self, size: u64) -> io::Result<()> {
        match self {
            Self::Beside { temporary, .. } => holes::check_size(temporary.as_file(), size),
            Self::Through(_) => Ok(()),
        }
    }

    /// Applies the owner, mode and extended attributes of `entry`; returns what could not be applied.
    pub(crate) fn apply_attributes(&self, entry: &Entry) -> io::Result<Vec<String>> {
        match self {
            Self::Beside { temporary, .. } => attributes::apply(temporary.as_file().as_fd(), entry),
            Self::Through(_) => Ok(Vec::new()),
        }
    }

    /// Completes the write and renames the file to its target.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Beside { mut temporary, pending, target } => {
                holes::finish(temporary.as_file_mut())?;
                temporary.as_file().sync_all()?;
                let result = temporary.persist(target);
                drop(pending);
                result.map(drop).map_err(|error| error.error)
            }
            Self::Through(mut file) => file.flush(),
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside { temporary, .. } => holes::write(temporary.as_file_mut(), bytes),
            Self::Through(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside { temporary, .. } => temporary.flush(),
            Self::Through(file) => file.flush(),
        }
    }
}

/// Returns a standard stream of this process if `path` names one. Opening it again would start at the beginning of a file
/// that `>>` appends to.
fn standard_stream(path: &Path) -> io::Result<Option<File>> {
    let stream = match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") if startup::stdout_is_closed() => {
            return Err(io::Error::other("it is closed"));
        }
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(stream.into()))
}

/// The file that `path` names, after links, if it is a regular file or does not exist; `None` for a device, a FIFO and the like.
fn regular_target(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut target = path.to_owned();
    for _ in 0..=MAX_LINKS {
        if is_system_path(&target) {
            return Ok(None);
        }
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&target)?;
                // A relative link starts at the directory of the link, whatever links lead to that directory.
                target = target.parent().unwrap_or(Path::new("/")).join(link);
            }
            Ok(metadata) if metadata.is_file() => return Ok(Some(target)),
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(target)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
}

/// Links below these directories lead to open files of a process, not to files by name. `/dev/shm` is an ordinary directory.
fn is_system_path(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};

    use super::*;

    fn write(path: &Path, content: &[u8]) {
        let mut file = Replacement::create(path, FILE_MODE).unwrap();
        file.write_all(content).unwrap();
        file.finish().unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_only_when_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut file = Replacement::create(&path, FILE_MODE).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn an_abandoned_file_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = Replacement::create(&path, FILE_MODE).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_new_file_has_the_default_mode() {
        let directory = tempfile::tempdir().unwrap();
        let usual = directory.path().join("usual");
        fs::write(&usual, "").unwrap();
        let path = directory.path().join("file");
        write(&path, b"");
        assert_eq!(fs::metadata(path).unwrap().mode(), fs::metadata(usual).unwrap().mode());
    }

    #[test]
    fn a_symlink_stays_and_its_target_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "old and longer").unwrap();
        symlink("file", &link).unwrap();
        write(&link, b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_dangling_symlink_stays_and_its_target_appears_only_when_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        fs::create_dir(path("below")).unwrap();
        symlink("below/second", path("first")).unwrap();
        symlink("../file", path("below/second")).unwrap();
        let mut file = Replacement::create(&path("first"), FILE_MODE).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(names(directory.path()), ["below", "first"]);
        write(&path("first"), b"whole");
        assert_eq!(fs::read(path("file")).unwrap(), b"whole");
        assert!(fs::symlink_metadata(path("below/second")).unwrap().is_symlink());
    }

    #[test]
    fn a_symlink_loop_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loop");
        symlink("loop", &path).unwrap();
        assert!(Replacement::create(&path, FILE_MODE).is_err());
    }

    #[test]
    fn another_hard_link_of_a_replaced_file_keeps_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("file"), directory.path().join("other"));
        fs::write(&other, "old").unwrap();
        fs::hard_link(&other, &file).unwrap();
        write(&file, b"new");
        assert_eq!((fs::read(&file).unwrap(), fs::read(&other).unwrap()), (b"new".to_vec(), b"old".to_vec()));
    }

    #[test]
    fn the_mode_of_a_file_is_under_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let usual = directory.path().join("usual");
        fs::write(&usual, "").unwrap();
        let path = directory.path().join("file");
        Replacement::create(&path, 0o4755).unwrap().finish().unwrap();
        let umask = !fs::metadata(usual).unwrap().mode() & 0o666;
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o755 & !umask);
    }

    #[test]
    fn files_in_shared_memory_are_ordinary_files() {
        for (path, expected) in [("/dev/fd/3", true), ("/proc/self/fd/3", true), ("/dev/shm/a", false)] {
            assert_eq!(is_system_path(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_device_is_written_through() {
        write(Path::new("/dev/null"), b"gone");
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(Replacement::create(Path::new("no/such/directory/file"), FILE_MODE).is_err());
    }
}
