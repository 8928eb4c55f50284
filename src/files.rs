//! Documents on disk that other programs or people write: configuration files, keys, certificates.

use std::{
    fs::{File, Metadata},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use zeroize::Zeroizing;

/// Mode bits that give access to other users.
const OTHER_USERS: u32 = 0o077;

/// Reads a regular file of at most `cap` bytes. A FIFO or device is refused without being read: it might never end.
pub(crate) fn read_document(path: &Path, cap: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_with_metadata(path, cap).map(|(text, _)| text)
}

/// As [`read_document`], with the metadata of the file that was read.
pub(crate) fn read_with_metadata(path: &Path, cap: u64) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    // Without `NONBLOCK` opening a FIFO waits for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let too_large = || io::Error::new(ErrorKind::FileTooLarge, format!("larger than {cap} bytes"));
    if metadata.len() > cap {
        return Err(too_large());
    }
    // Room for all of it, and for the read that finds the end: a buffer that grows leaves copies of secrets behind.
    let mut text =
        Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 64));
    // The file may have grown since.
    let read = file.take(cap.saturating_add(1)).read_to_end(&mut text)?;
    if read as u64 > cap { Err(too_large()) } else { Ok((text, metadata)) }
}

/// Refuses a file or directory that another user owns or can access. The error names the command that fixes it, with `mode`.
pub(crate) fn check_private(path: &Path, metadata: &Metadata, mode: &str) -> Result<(), String> {
    let shown = path.display();
    let user = geteuid().as_raw();
    if metadata.uid() != user {
        let owner = metadata.uid();
        return Err(format!(
            "{shown} belongs to user {owner}, not to user {user}; fix it with: chown {user} '{shown}'"
        ));
    }
    if metadata.mode() & OTHER_USERS != 0 {
        return Err(format!(
            "other users can access {shown} (mode {:04o}); fix it with: chmod {mode} '{shown}'",
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_regular_file_is_read_up_to_its_cap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read_document(&path, 3).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_document(&path, 3).unwrap().as_slice(), b"abc");
        let error = read_document(&path, 2).unwrap_err();
        assert!(error.kind() == ErrorKind::FileTooLarge && error.to_string().contains("2 bytes"), "{error}");
    }

    #[test]
    fn a_fifo_a_device_and_a_directory_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/null"), Path::new("/dev/tty")] {
            let error = read_document(path, 1 << 20).unwrap_err();
            let is_refused = error.to_string() == "not a regular file" || path.ends_with("tty");
            assert!(is_refused, "{}: {error}", path.display());
        }
        assert_eq!(read_document(folder.path(), 1).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}
