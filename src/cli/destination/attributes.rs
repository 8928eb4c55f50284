//! `--same-permissions`: owners, extended attributes and all mode bits.

use std::{io, os::fd::BorrowedFd};

use layerslayer::Entry;
use rustix::{
    fs::{Gid, Mode, Uid, XattrFlags},
    io::Errno,
};

/// Applies the owner, extended attributes and mode of `entry` to an open file. Returns names of attributes that this user may
/// not set.
pub(crate) fn apply(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<Vec<String>> {
    let mut lost = Vec::new();
    let mut mode = entry.mode;
    if let Some(owners) = owners(entry)
        && rustix::fs::fchown(file, Some(owners.0), Some(owners.1)).is_ok()
    {
        // The owner comes first: changing it resets set-user-ID bits and capabilities.
    } else {
        // Without the right owner, a set-user-ID bit would run the file with the rights of the current user.
        mode &= 0o1777;
        lost.push("owners".to_owned());
    }
    for (name, value) in &entry.xattrs {
        match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => {
                lost.push(format!("the extended attribute {}", String::from_utf8_lossy(name)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(lost)
}

/// The owner and group of an entry, if the system can represent them.
pub(super) fn owners(entry: &Entry) -> Option<(Uid, Gid)> {
    // The largest number means "do not change".
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    Some((Uid::from_raw(id(entry.uid)?), Gid::from_raw(id(entry.gid)?)))
}
