//! `--same-permissions`: owners, extended attributes and all bits of the mode.

use std::{io, os::fd::BorrowedFd};

use layerslayer::Entry;
use rustix::{
    fs::{Gid, Mode, Uid, XattrFlags},
    io::Errno,
};

/// Gives the open file the owner, extended attributes and mode of `entry`. Returns what this user may not keep, in words.
pub(crate) fn keep(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<Vec<String>> {
    let mut lost = Vec::new();
    let mut mode = entry.mode;
    if let Some(owners) = owners(entry)
        && rustix::fs::fchown(file, Some(owners.0), Some(owners.1)).is_ok()
    {
        // What follows would be undone by a change of the owner, so the owner came first.
    } else {
        // Another user's file that is run with this user's rights would be no copy but a trap.
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

/// The owners of an entry, if the system can have them.
pub(super) fn owners(entry: &Entry) -> Option<(Uid, Gid)> {
    // The highest number means "leave it".
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    Some((Uid::from_raw(id(entry.uid)?), Gid::from_raw(id(entry.gid)?)))
}
