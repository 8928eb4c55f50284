//! What a container would see, according to umoci: the image is unpacked and every path is read
//! back from the file system.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt as _, ffi::OsStringExt as _, fs::FileTypeExt as _, fs::MetadataExt as _},
    path::Path,
    sync::LazyLock,
};

use layerslayer::Digest;

use super::super::tools;

/// One path of an unpacked image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unpacked {
    pub(crate) kind: Kind,
    /// Bytes of content, for files; 0 for all else.
    pub(crate) size: u64,
    /// Permission bits; 0 for symbolic links, whose mode the file system does not keep.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// A symbolic link's target.
    pub(crate) link: Vec<u8>,
    /// The digest of a file's content.
    pub(crate) digest: Option<Digest>,
    /// Major and minor number of a device.
    pub(crate) device: Option<(u32, u32)>,
    /// Paths with the same number are names of one file.
    pub(crate) inode: u64,
    /// The number of names.
    pub(crate) links: u64,
}

/// What a path is on disk; a hard link is a file like any other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Block,
    Char,
    Directory,
    Fifo,
    File,
    Symlink,
}

impl Unpacked {
    /// Without the numbers that have meaning on one file system only, for comparisons.
    pub(crate) fn portable(&self) -> Self {
        let owner = if is_root() { (self.uid, self.gid) } else { (0, 0) };
        Self { inode: 0, links: 0, uid: owner.0, gid: owner.1, ..self.clone() }
    }
}

/// Whether this process may change owners and create devices, which umoci needs for them.
pub(crate) fn is_root() -> bool {
    static ROOT: LazyLock<bool> = LazyLock::new(|| tools::run(tools::command("id").arg("-u")) == b"0\n");
    *ROOT
}

/// What a process inside would find at `path`, with all symbolic links followed; `None` where
/// opening it would fail.
pub(crate) fn follow<'a>(found: &'a BTreeMap<Vec<u8>, Unpacked>, path: &[u8]) -> Option<&'a Unpacked> {
    let components =
        |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).rev().collect::<Vec<_>>();
    let (mut done, mut pending, mut links) = (Vec::<Vec<u8>>::new(), components(path), 0);
    while let Some(name) = pending.pop() {
        let here = found.get(&done.join(&b'/'));
        if here.is_some_and(|here| here.kind != Kind::Directory) {
            return None;
        }
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => done.push(name),
        }
        let next = found.get(&done.join(&b'/'))?;
        if next.kind == Kind::Symlink {
            links += 1;
            if links > 40 {
                return None;
            }
            done.pop();
            if next.link.starts_with(b"/") {
                done.clear();
            }
            pending.extend(components(&next.link));
        }
    }
    found.get(&done.join(&b'/'))
}

/// Unpacks image `tag` of the layout in `folder`, which umoci must be able to read: gzip or plain
/// layers. The root itself is omitted, and paths have no leading slash. Owners and devices are only
/// right as root; otherwise they are the user's own, and empty files.
pub(crate) fn unpack(folder: &Path, tag: &str) -> BTreeMap<Vec<u8>, Unpacked> {
    let bundle = tools::temporary_folder();
    let target = bundle.path().join("bundle");
    let image = format!("{}:{tag}", tools::text(folder));
    let mut command = tools::command("umoci");
    command.args(["unpack", "--image", &image]);
    if !is_root() {
        command.arg("--rootless");
    }
    tools::run(command.arg(&target));
    let mut found = BTreeMap::new();
    walk(&target.join("rootfs"), b"", &mut found);
    found
}

fn walk(folder: &Path, prefix: &[u8], found: &mut BTreeMap<Vec<u8>, Unpacked>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = [prefix, entry.file_name().as_bytes()].concat();
        let unpacked = look(&entry.path());
        if unpacked.kind == Kind::Directory {
            walk(&entry.path(), &[path.as_slice(), b"/"].concat(), found);
        }
        found.insert(path, unpacked);
    }
}

fn look(path: &Path) -> Unpacked {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_block_device() => Kind::Block,
        kind if kind.is_char_device() => Kind::Char,
        _ => Kind::File,
    };
    let is_file = kind == Kind::File;
    Unpacked {
        kind,
        size: if is_file { metadata.len() } else { 0 },
        mode: if kind == Kind::Symlink { 0 } else { metadata.mode() & 0o7777 },
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified: metadata.mtime(),
        link: if kind == Kind::Symlink {
            fs::read_link(path).unwrap().into_os_string().into_vec()
        } else {
            Vec::new()
        },
        digest: is_file.then(|| Digest::sha256(&fs::read(path).unwrap())),
        device: matches!(kind, Kind::Block | Kind::Char).then(|| numbers(metadata.rdev())),
        inode: metadata.ino(),
        links: metadata.nlink(),
    }
}

/// Linux' encoding of a device number in 64 bits (`makedev(3)`).
fn numbers(device: u64) -> (u32, u32) {
    let major = (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000;
    let minor = device & 0xff | (device >> 12) & 0xffff_ff00;
    (u32::try_from(major).unwrap(), u32::try_from(minor & 0xffff_ffff).unwrap())
}
