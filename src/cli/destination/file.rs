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

/// Permission bits of new files before the umask applies.
const MODE: u32 = 0o666;

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
    /// Opens `path` for writing.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if let Some(stream) = standard_stream(path)? {
            return Ok(Self::Through(stream));
        }
        let target = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => path.to_owned(),
            Ok(metadata) if metadata.is_symlink() => match fs::canonicalize(path) {
                Ok(target) if target.is_file() && !is_system_path(&target) && !is_system_path(path) => target,
                // A device, or a link to a file that is not there yet.
                _ => {
                    return OpenOptions::new()
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .open(path)
                        .map(Self::Through);
                }
            },
            Ok(_) => return OpenOptions::new().write(true).open(path).map(Self::Through),
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
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
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(directory)?;
        let pending = Pending::new(temporary.path());
        Ok(Self::Beside { temporary, pending, target })
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
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(stream.into()))
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
        let mut file = Replacement::create(path).unwrap();
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
        let mut file = Replacement::create(&path).unwrap();
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
        let mut file = Replacement::create(&path).unwrap();
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
        assert!(Replacement::create(Path::new("no/such/directory/file")).is_err());
    }
}
