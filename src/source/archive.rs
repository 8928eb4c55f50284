//! An image archive: a tar file that is read in place, or a temporary copy of one that is compressed or comes through a pipe.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Seek as _, SeekFrom},
    ops::Range,
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    path::Path,
};

use super::{Error, Source as _, file::FileBlob, spool};
use crate::{
    limits,
    tar::{self, Event, entry::EntryKind},
};

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// Bytes read at a time while skipping from header to header: most headers are one block.
const HEADER_BYTES: usize = 512;

/// Links followed inside an archive: older versions of `docker save` link a layer to the same layer of another image.
const ARCHIVE_LINKS: usize = 8;

/// Memory that a member needs besides its name and its link target, in bytes.
const MEMBER_BYTES: u64 = 64;

/// An open tar archive and its members.
#[derive(Debug)]
pub(crate) struct Archive {
    tar: FileBlob,
    members: HashMap<String, Member>,
}

/// A member of an archive.
#[derive(Debug)]
enum Member {
    /// A file, and the range of its content in the archive.
    File(Range<u64>),
    /// A link to another member.
    Link(String),
}

impl Archive {
    /// Opens the archive at `path`, or on standard input if the path is `-`. An archive that is compressed or comes through a pipe is
    /// copied once, to an unlinked temporary file of at most `max_unpacked` bytes. Blocks.
    pub(crate) fn open(path: &Path, max_unpacked: u64) -> Result<Self, Error> {
        let name = match path.to_str() {
            Some(STANDARD_INPUT) => "standard input".to_owned(),
            _ => path.display().to_string(),
        };
        let (mut file, is_seekable) = open_file(path, &name)?;
        if let Some(copy) = spool::unpack(&mut file, is_seekable, max_unpacked, &name)? {
            file = copy;
        }
        let failed = |source| Error::Io { path: name.clone(), source };
        let tar = FileBlob::new(file, &name).map_err(failed)?;
        let members = members(&tar, &name)?;
        Ok(Self { tar, members })
    }

    /// The file `name`, a relative path with `/`; `None` if it does not exist.
    pub(crate) fn file(&self, name: &str) -> Option<FileBlob> {
        let mut name = clean("", name);
        for _ in 0..ARCHIVE_LINKS {
            match self.members.get(&name)? {
                Member::File(range) => return self.tar.slice(range.clone()),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

/// Opens a regular file (`true`), or a pipe, which cannot seek. Devices and directories are refused.
fn open_file(path: &Path, name: &str) -> Result<(File, bool), Error> {
    let failed = |source| Error::Io { path: name.to_owned(), source };
    let file = if path.as_os_str() == STANDARD_INPUT {
        File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?)
    } else {
        // Opening a device can have effects, so its type is checked before as well.
        check_type(fs::metadata(path).map_err(failed)?.file_type(), name)?;
        File::open(path).map_err(failed)?
    };
    let is_seekable = check_type(file.metadata().map_err(failed)?.file_type(), name)?;
    if is_seekable {
        // Standard input may have been read from before.
        file.try_clone().and_then(|mut file| file.seek(SeekFrom::Start(0))).map_err(failed)?;
    }
    Ok((file, is_seekable))
}

/// Whether this is a regular file; an error if it is not a pipe either.
fn check_type(kind: fs::FileType, name: &str) -> Result<bool, Error> {
    let refused = |problem: &str| Err(Error::Unusable { name: name.to_owned(), problem: problem.to_owned() });
    match kind {
        _ if kind.is_file() => Ok(true),
        _ if kind.is_fifo() || kind.is_socket() => Ok(false),
        _ if kind.is_dir() => {
            refused("is a directory, not an archive (an OCI image layout is written oci:DIRECTORY)")
        }
        _ => refused("is neither a regular file nor a pipe"),
    }
}

/// The members of a tar archive, found by skipping from header to header.
fn members(tar: &FileBlob, name: &str) -> Result<HashMap<String, Member>, Error> {
    let corrupt = |problem| Error::Local { name: name.to_owned(), problem };
    let unusable = |problem| Error::Unusable { name: name.to_owned(), problem };
    let cut =
        |detail: &str| corrupt(format!("is cut off at byte {} of the unpacked archive{detail}", tar.size()));
    let malformed = |error: tar::Error| {
        let tar::Error { kind, offset } = error;
        match kind {
            tar::ErrorKind::Truncated => cut(""),
            _ if error.is_not_tar() => {
                unusable(format!("{kind} at byte {} of the unpacked archive", offset.0))
            }
            _ => corrupt(format!("is damaged: {kind} at byte {} of the unpacked archive", offset.0)),
        }
    };
    let mut members = HashMap::new();
    let (mut decoder, mut at, mut kept) = (tar::Decoder::new(), 0, 0_u64);
    let mut buffer = vec![0; HEADER_BYTES];
    while at < tar.size() {
        let left = usize::try_from(tar.size() - at).unwrap_or(usize::MAX);
        let Some(piece) = buffer.get_mut(..HEADER_BYTES.min(left)) else { break };
        tar.read_exact_at(piece, at).map_err(|source| Error::Io { path: name.to_owned(), source })?;
        let mut input = &*piece;
        let event = decoder.decode(&mut input).map_err(malformed)?;
        at = decoder.offset().0;
        let Some(event) = event else { continue };
        let entry = match event {
            Event::End => return Ok(members),
            Event::Entry(entry) => entry,
            Event::Data(_) | Event::EntryEnd | Event::Hole(_) => continue,
        };
        let end = entry.data_offset.0.saturating_add(entry.stored_size);
        if end > tar.size() {
            return Err(cut(&format!(": {} ends at byte {end}", entry.path.escape_ascii())));
        }
        decoder.skip_content();
        at = decoder.offset().0;
        if members.len() >= limits::ARCHIVE_MEMBERS {
            return Err(unusable(format!("has more than {} members", limits::ARCHIVE_MEMBERS)));
        }
        kept = kept.saturating_add(MEMBER_BYTES).saturating_add((entry.path.len() + entry.link.len()) as u64);
        if kept > limits::ARCHIVE_NAME_BYTES {
            return Err(unusable(format!(
                "has more than {} bytes of member names",
                limits::ARCHIVE_NAME_BYTES
            )));
        }
        let Ok(path) = String::from_utf8(entry.path.clone()) else { continue };
        let link = String::from_utf8_lossy(&entry.link);
        let member = match entry.kind {
            EntryKind::File if entry.stored_size == entry.size => Member::File(entry.data_offset.0..end),
            EntryKind::Hardlink => Member::Link(link.into_owned()),
            EntryKind::Symlink => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                Member::Link(clean(parent, &link))
            }
            _ => continue,
        };
        members.insert(path, member);
    }
    decoder.finish().map_err(malformed)?;
    Ok(members)
}

/// `target` relative to `base`, without `.` and `..`, and never outside the archive.
fn clean(base: &str, target: &str) -> String {
    let path = if target.starts_with('/') { target.to_owned() } else { format!("{base}/{target}") };
    String::from_utf8_lossy(&tar::normalise(path.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests;
