//! One 512-byte header block and its fields in each format (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar
//! manual, "Basic Tar Format").

use std::ops::Range;

use crate::tar::{
    error::{Error, ErrorKind},
    number,
};

/// Size of a block, the unit of an archive, in bytes.
pub(super) const BLOCK: usize = 512;

/// A block of the archive.
pub(super) type Block = [u8; BLOCK];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAGIC_AND_VERSION: Range<usize> = 257..265;
const UNAME: Range<usize> = 265..297;
const GNAME: Range<usize> = 297..329;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
const USTAR_PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
const GNU_TIMES: [Range<usize>; 2] = [345..357, 357..369];
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;
const EXTENSION_SPARSE: Range<usize> = 0..504;
const EXTENSION_IS_EXTENDED: usize = 504;

/// Bytes of one offset and one length in a GNU sparse header.
const SPARSE_PAIR: usize = 24;
const SPARSE_NUMBER: usize = 12;

/// Which format defines the bytes after the fields that all formats share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Gnu,
    Star,
    Ustar,
    V7,
}

/// A block whose checksum matches.
pub(super) struct Header<'a> {
    block: &'a Block,
    offset: u64,
    format: Format,
}

impl<'a> Header<'a> {
    /// Parses the block at `offset`; `None` if its checksum does not match.
    pub(super) fn parse(block: &'a Block, offset: u64) -> Option<Self> {
        has_valid_checksum(block).then(|| Self { block, offset, format: format(block) })
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[TYPE]
    }

    /// The path, unless an extended header overrides it.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(self.block, NAME);
        let prefix = match self.format {
            Format::Gnu => self.misplaced_prefix(),
            Format::Star => text(self.block, STAR_PREFIX),
            Format::Ustar => text(self.block, USTAR_PREFIX),
            Format::V7 => &[],
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// GNU stores times where ustar has the prefix. Go before 1.8, and docker built with it, wrote a prefix there
    /// anyway: ASCII text that cannot be times is a prefix (golang.org/issue/12594, /21005).
    fn misplaced_prefix(&self) -> &'a [u8] {
        let is_time = |range: Range<usize>| {
            let field = bytes(self.block, range);
            field.first() == Some(&0) || number::numeric(field).is_some()
        };
        let prefix = text(self.block, USTAR_PREFIX);
        if prefix.is_empty() || GNU_TIMES.into_iter().all(is_time) || !prefix.is_ascii() {
            return &[];
        }
        prefix
    }

    pub(super) fn link(&self) -> &'a [u8] {
        text(self.block, LINK)
    }

    /// Permission and other bits of the mode, as stored.
    pub(super) fn mode(&self) -> Result<i64, Error> {
        self.number(MODE, "mode")
    }

    pub(super) fn uid(&self) -> Result<i64, Error> {
        self.number(UID, "uid")
    }

    pub(super) fn gid(&self) -> Result<i64, Error> {
        self.number(GID, "gid")
    }

    /// Seconds since the epoch.
    pub(super) fn mtime(&self) -> Result<i64, Error> {
        self.number(MTIME, "mtime")
    }

    /// Bytes of data that follow, for types that have data.
    pub(super) fn size(&self) -> Result<u64, Error> {
        self.length(SIZE, "size")
    }

    pub(super) fn uname(&self) -> &'a [u8] {
        self.ustar_text(UNAME)
    }

    pub(super) fn gname(&self) -> &'a [u8] {
        self.ustar_text(GNAME)
    }

    /// Major and minor number.
    pub(super) fn device(&self) -> Result<(u32, u32), Error> {
        if self.format == Format::V7 {
            return Ok((0, 0));
        }
        let part = |range: Range<usize>, field| {
            let error = self.error(&range, ErrorKind::Number { field });
            u32::try_from(self.number(range, field)?).map_err(|_| error)
        };
        Ok((part(DEVICE_MAJOR, "device number")?, part(DEVICE_MINOR, "device number")?))
    }

    /// Size of a GNU sparse file, holes included.
    pub(super) fn real_size(&self) -> Result<u64, Error> {
        self.length(GNU_REAL_SIZE, "size of a sparse file")
    }

    /// The first segments of a GNU sparse file, and whether extension blocks follow.
    pub(super) fn sparse(&self) -> SparseBlock<'a> {
        SparseBlock {
            pairs: bytes(self.block, GNU_SPARSE),
            offset: self.offset.saturating_add(GNU_SPARSE.start as u64),
            is_extended: self.block[GNU_IS_EXTENDED] != 0,
        }
    }

    fn ustar_text(&self, range: Range<usize>) -> &'a [u8] {
        if self.format == Format::V7 { &[] } else { text(self.block, range) }
    }

    fn length(&self, range: Range<usize>, field: &'static str) -> Result<u64, Error> {
        let error = self.error(&range, ErrorKind::NegativeSize);
        u64::try_from(self.number(range, field)?).map_err(|_| error)
    }

    fn number(&self, range: Range<usize>, field: &'static str) -> Result<i64, Error> {
        let error = self.error(&range, ErrorKind::Number { field });
        number::numeric(bytes(self.block, range)).ok_or(error)
    }

    fn error(&self, range: &Range<usize>, kind: ErrorKind) -> Error {
        Error::new(self.offset.saturating_add(range.start as u64), kind)
    }
}

/// The part of a GNU header or extension block that lists segments.
pub(super) struct SparseBlock<'a> {
    pairs: &'a [u8],
    offset: u64,
    /// Whether one more extension block follows.
    pub(super) is_extended: bool,
}

impl<'a> SparseBlock<'a> {
    /// The extension block at `offset`.
    pub(super) fn extension(block: &'a Block, offset: u64) -> Self {
        Self { pairs: bytes(block, EXTENSION_SPARSE), offset, is_extended: block[EXTENSION_IS_EXTENDED] != 0 }
    }

    /// The pair's offset in the archive, then the segment's offset and length in the file. As in GNU and BSD tar, the
    /// first blank offset ends the list.
    pub(super) fn segments(&self) -> impl Iterator<Item = Result<(u64, u64, u64), Error>> {
        let used = self.pairs.chunks_exact(SPARSE_PAIR).take_while(|pair| pair.first() != Some(&0));
        used.zip(0_u64..).map(|(pair, index)| {
            let at = self.offset.saturating_add(index * SPARSE_PAIR as u64);
            let (offset, length) = pair.split_at_checked(SPARSE_NUMBER).unwrap_or_default();
            let number = |field| number::numeric(field).and_then(|number| u64::try_from(number).ok());
            match (number(offset), number(length)) {
                (Some(offset), Some(length)) => Ok((at, offset, length)),
                _ => Err(Error::new(at, ErrorKind::SparseMap)),
            }
        })
    }
}

/// Whether a block that starts like this has the magic of a header. Its checksum is not checked.
pub(super) fn has_magic(start: &[u8]) -> bool {
    start.get(MAGIC).is_some_and(|magic| magic.starts_with(b"ustar"))
}

fn format(block: &Block) -> Format {
    let is_star = bytes(block, STAR_TRAILER) == b"tar\0";
    match (bytes(block, MAGIC), bytes(block, MAGIC_AND_VERSION)) {
        (b"ustar\0", _) if is_star => Format::Star,
        (b"ustar\0", _) => Format::Ustar,
        (_, b"ustar  \0") => Format::Gnu,
        _ => Format::V7,
    }
}

/// The checksum is the sum of all bytes, with its own field as spaces. POSIX adds unsigned bytes, old Suns signed ones.
fn has_valid_checksum(block: &Block) -> bool {
    let field = bytes(block, CHECKSUM);
    let Some(expected) = number::octal(field) else { return false };
    let total = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte)).sum::<i64>();
    let unsigned = total(block) - total(field) + CHECKSUM.len() as i64 * i64::from(b' ');
    if unsigned == expected {
        return true;
    }
    let high = |bytes: &[u8]| bytes.iter().filter(|byte| !byte.is_ascii()).count() as i64;
    unsigned - 256 * (high(block) - high(field)) == expected
}

/// Text up to its first NUL, or to the end of the field.
fn text(block: &Block, range: Range<usize>) -> &[u8] {
    bytes(block, range).split(|&byte| byte == 0).next().unwrap_or_default()
}

fn bytes(block: &Block, range: Range<usize>) -> &[u8] {
    block.get(range).unwrap_or_default()
}
