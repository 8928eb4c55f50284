//! Builds an entry from its header and the extended headers before it.

use crate::{
    limits,
    offset::Uncompressed,
    tar::{
        entry::{Entry, EntryKind, Timestamp},
        error::{Error, ErrorKind},
        header::{Format, Header},
        number,
        path::normalise,
        pax::{Records, check_xattrs},
        sparse::Map,
    },
};

/// An entry without its content offsets, and how its content is stored.
pub(super) struct Member {
    pub(super) entry: Box<Entry>,
    /// Bytes of data after the header. They may start with a map of segments.
    pub(super) data: u64,
    pub(super) layout: Layout,
}

/// How a member's data is laid out.
pub(super) enum Layout {
    /// Segments, by a complete map.
    Mapped(Map),
    /// Segments, by a map that continues in extension blocks.
    MappedInBlocks(Map),
    /// Segments, by a map before the content.
    MappedInData,
    /// Not content; skip it.
    Skipped,
    /// The whole content without holes.
    Solid,
}

/// What extended headers say about the next entry.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// Offset of the first header before the entry.
    pub(super) start: Option<u64>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    pub(super) records: Records,
}

impl Overrides {
    /// The entry of the `header` at `offset`. Precedence as in Go: GNU.sparse.name, GNU long names, records of the
    /// entry, global records, the header.
    pub(super) fn member(self, global: &Records, header: &Header<'_>, offset: u64) -> Result<Member, Error> {
        let fault = |kind| Error::new(offset, kind);
        let value_fault = |key| fault(ErrorKind::PaxValue { key });
        let Records { path, linkpath, size, uid, gid, uname, gname, mtime, xattrs, sparse } = self.records;

        let is_sparse_in_pax = match (sparse.major.as_deref(), sparse.minor.as_deref()) {
            (Some(b"0"), Some(b"0" | b"1")) => Some(false),
            (Some(b"1"), Some(b"0")) => Some(true),
            // Go does not treat an unknown version as sparse. Versions 0.0 and 0.1 were also written without numbers.
            (None, None) if sparse.map.is_some() => Some(false),
            _ => None,
        };
        let is_gnu_sparse = header.type_flag() == b'S';

        let path = (self.long_name.filter(|name| !name.is_empty()))
            .or_else(|| chosen(path, global.path.as_ref()))
            .unwrap_or_else(|| header.path());
        let kind = kind(header.type_flag(), &path);
        let path = match sparse.name.filter(|name| !name.is_empty()) {
            Some(name) if is_sparse_in_pax.is_some() && !is_gnu_sparse => name,
            _ => path,
        };
        let link = match kind {
            EntryKind::Hardlink | EntryKind::Symlink => (self.long_link.filter(|link| !link.is_empty()))
                .or_else(|| chosen(linkpath, global.linkpath.as_ref()))
                .unwrap_or_else(|| header.link().to_vec()),
            _ => Vec::new(),
        };
        if path.len().max(link.len()) as u64 > limits::PATH_BYTES {
            return Err(fault(ErrorKind::PathTooLong));
        }

        let data = match kind {
            EntryKind::File | EntryKind::Other => match chosen(size, global.size.as_ref()) {
                Some(size) => number::decimal(&size).ok_or(value_fault("size"))?,
                None => header.size()?,
            },
            // Links, directories, devices and fifos have no data, whatever size a header gives: Go's archive/tar
            // ignores it, and so does every runtime.
            _ => 0,
        };
        let (real_size, layout) = match (kind, is_gnu_sparse, is_sparse_in_pax) {
            (EntryKind::Other, ..) => (0, Layout::Skipped),
            (EntryKind::File, true, _) => {
                if header.format() != Format::Gnu {
                    return Err(fault(ErrorKind::SparseMap));
                }
                (header.real_size()?, old_gnu_layout(header)?)
            }
            (EntryKind::File, false, Some(is_in_data)) => {
                let real_size =
                    [sparse.size, sparse.real_size].into_iter().flatten().find(|size| !size.is_empty());
                let real_size = match real_size {
                    Some(size) => number::decimal(&size).ok_or(value_fault("GNU.sparse.realsize"))?,
                    None => data,
                };
                let map =
                    || Map::parse(&sparse.map.unwrap_or_default(), &sparse.segments.unwrap_or_default());
                let layout =
                    if is_in_data { Layout::MappedInData } else { Layout::Mapped(map().map_err(fault)?) };
                (real_size, layout)
            }
            (EntryKind::File, false, None) => (data, Layout::Solid),
            (_, _, Some(_)) => return Err(fault(ErrorKind::SparseMap)),
            _ => (0, Layout::Solid),
        };

        let id = |value: Option<Vec<u8>>, key| match value {
            Some(value) => number::signed_decimal(&value).map(Some).ok_or(value_fault(key)),
            None => Ok(None),
        };
        let uid = match id(chosen(uid, global.uid.as_ref()), "uid")? {
            Some(uid) => uid,
            None => header.uid()?,
        };
        let gid = match id(chosen(gid, global.gid.as_ref()), "gid")? {
            Some(gid) => gid,
            None => header.gid()?,
        };
        let mtime = match chosen(mtime, global.mtime.as_ref()) {
            Some(time) => number::time(&time).ok_or(value_fault("mtime"))?,
            None => Timestamp { seconds: header.mtime()?, nanoseconds: 0 },
        };
        let device = match kind {
            EntryKind::Block | EntryKind::Char => Some(header.device()?),
            _ => None,
        };
        let are_merged = !global.xattrs.is_empty() && !xattrs.is_empty();
        let xattrs = global.xattrs.clone().overlaid(xattrs);
        if are_merged {
            check_xattrs(&xattrs).map_err(fault)?;
        }

        let entry = Box::new(Entry {
            path: normalise(&path),
            kind,
            size: real_size,
            mode: (header.mode()? & 0o7777) as u32,
            uid: owner(uid),
            gid: owner(gid),
            uname: chosen(uname, global.uname.as_ref()).unwrap_or_else(|| header.uname().to_vec()),
            gname: chosen(gname, global.gname.as_ref()).unwrap_or_else(|| header.gname().to_vec()),
            mtime,
            link: if kind == EntryKind::Hardlink { normalise(&link) } else { link },
            device,
            xattrs,
            header_offset: Uncompressed(self.start.unwrap_or(offset)),
            data_offset: Uncompressed::default(),
            stored_size: 0,
        });
        Ok(Member { entry, data, layout })
    }
}

/// The entry's own record, or else the global one. An empty value cancels both.
fn chosen(local: Option<Vec<u8>>, global: Option<&Vec<u8>>) -> Option<Vec<u8>> {
    local.or_else(|| global.cloned()).filter(|value| !value.is_empty())
}

fn kind(type_flag: u8, path: &[u8]) -> EntryKind {
    match type_flag {
        // v7 has no type for directories, so a slash marks them. In Go a `0` is a file whatever its name.
        0 if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::Hardlink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::Char,
        b'4' => EntryKind::Block,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        _ => EntryKind::Other,
    }
}

/// A negative owner (GNU tar writes -2 in base-256) becomes its low 32 bits, as with `chown`.
fn owner(id: i64) -> u64 {
    u64::try_from(id).unwrap_or_else(|_| u64::from(id as u32))
}

fn old_gnu_layout(header: &Header<'_>) -> Result<Layout, Error> {
    let mut map = Map::default();
    let block = header.sparse();
    for segment in block.segments() {
        let (at, offset, length) = segment?;
        map.push(offset, length).map_err(|kind| Error::new(at, kind))?;
    }
    Ok(if block.is_extended { Layout::MappedInBlocks(map) } else { Layout::Mapped(map) })
}
