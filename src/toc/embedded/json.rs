//! The JSON of a publisher's TOC. Entries are added one by one while it is parsed (stargz-snapshotter, docs/estargz.md,
//! "TOC"; containers/storage, pkg/chunked; both descend from CRFS).

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    io::{self, BufReader},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Error, Fault,
    builder::{StatedContent, TocBuilder, is_ambiguous},
};
use crate::{
    decompress::Encoding,
    limits,
    oci::digest::{Digest, Hasher},
    offset::Compressed,
    tar::entry::{Entry, EntryKind, Timestamp},
    toc::{LayerToc, chunks::Chunk},
};

/// The only known version.
const VERSION: u64 = 1;

/// Go's zero time, which means no time: 0001-01-01T00:00:00Z, in seconds.
const GO_ZERO_TIME: i64 = -62_135_596_800;

/// Small in tests, so that they parse both ways.
const IN_MEMORY_BYTES: usize = if cfg!(test) { 4 << 10 } else { limits::TOC_IN_MEMORY_BYTES };

/// Longest entry, and longest text outside of entries, in bytes of JSON. Attributes of an entry take most.
pub(super) const ENTRY_BYTES: u64 = 4 << 20;

/// Appends the next piece of the JSON to a buffer; returns false once it is complete.
pub(crate) type PieceSource<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> Result<bool, Error>;

/// Parses a TOC whose JSON comes from `pieces` and has the digest `expected`. Its content is compressed with `encoding` and ends at
/// `end`. `own` makes the file that the TOC itself is from the length of the JSON, if it is a file of the layer.
///
/// A small TOC is verified before it is parsed. A large one is parsed while it is unpacked, because its JSON takes more memory
/// than the entries in it; nothing is returned before it is verified.
pub(crate) fn read(
    pieces: PieceSource<'_>,
    expected: Option<&Digest>,
    encoding: Encoding,
    end: Compressed,
    own: impl FnOnce(u64) -> Option<(Entry, Chunk)>,
) -> Result<LayerToc, Error> {
    let mut head = Vec::new();
    while head.len() <= IN_MEMORY_BYTES {
        if !pieces(&mut head)? {
            super::verify(&head, expected)?;
            let builder = parse(serde_json::Deserializer::from_slice(&head))?;
            return builder.finish(encoding, end, own(head.len() as u64));
        }
    }
    let mut rest = Rest::new(head, pieces, expected);
    let parsed = parse(serde_json::Deserializer::from_reader(BufReader::new(&mut rest)));
    if let Some(fault) = rest.fault.take() {
        return Err(fault);
    }
    let builder = parsed?;
    rest.verify()?;
    builder.finish(encoding, end, own(rest.at))
}

fn parse<'de, R: serde_json::de::Read<'de>>(
    mut parser: serde_json::Deserializer<R>,
) -> Result<TocBuilder, Error> {
    let mut builder = TocBuilder::new();
    let mut fault = None;
    let document = Document { builder: &mut builder, fault: &mut fault };
    let parsed = parser.deserialize_map(document).and_then(|version| parser.end().map(|()| version));
    match (parsed, fault) {
        (_, Some(fault)) => Err(fault),
        (Err(error), None) => Err(Error::Json(error)),
        (Ok(VERSION), None) => Ok(builder),
        (Ok(_), None) => Err(Error::Version),
    }
}

/// The JSON of a large TOC as a reader, which hashes it and refuses entries that are too long before the parser collects them.
struct Rest<'a> {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read.
    taken: usize,
    pieces: PieceSource<'a>,
    expected: Option<&'a Digest>,
    hasher: Option<Hasher>,
    /// Bytes that were read.
    at: u64,
    /// Where the current entry or text starts.
    start: u64,
    depth: u64,
    is_text: bool,
    is_escaped: bool,
    fault: Option<Error>,
}

/// The depth of the list of entries in the document.
const LIST_DEPTH: u64 = 2;

impl<'a> Rest<'a> {
    fn new(head: Vec<u8>, pieces: PieceSource<'a>, expected: Option<&'a Digest>) -> Self {
        let hasher = expected.map(|digest| Hasher::new(digest.algorithm()));
        Self {
            buffer: head,
            taken: 0,
            pieces,
            expected,
            hasher,
            at: 0,
            start: 0,
            depth: 0,
            is_text: false,
            is_escaped: false,
            fault: None,
        }
    }

    /// Follows the structure of the JSON, as far as that is well-formed; the parser refuses the rest.
    fn scan(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for byte in bytes {
            self.at += 1;
            if self.at - self.start > ENTRY_BYTES {
                return Err(Error::LongEntry { at: self.start });
            }
            match (self.is_text, byte) {
                (true, _) if self.is_escaped => self.is_escaped = false,
                (true, b'\\') => self.is_escaped = true,
                (_, b'"') => self.is_text = !self.is_text,
                (true, _) => {}
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                (false, _) => {}
            }
            if !self.is_text && self.depth <= LIST_DEPTH && matches!(byte, b',' | b'{' | b'}' | b'[' | b']') {
                self.start = self.at;
            }
        }
        Ok(())
    }

    fn fill(&mut self, output: &mut [u8]) -> Result<usize, Error> {
        if self.taken == self.buffer.len() {
            (self.buffer, self.taken) = (Vec::new(), 0);
            if !(self.pieces)(&mut self.buffer)? {
                return Ok(0);
            }
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let length = rest.len().min(output.len());
        let (output, _) = output.split_at_mut(length);
        output.copy_from_slice(rest.get(..length).unwrap_or_default());
        self.taken += length;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(output);
        }
        self.scan(output)?;
        Ok(length)
    }

    /// Compares the digest of all bytes.
    fn verify(&mut self) -> Result<(), Error> {
        let (Some(expected), Some(hasher)) = (self.expected, self.hasher.take()) else { return Ok(()) };
        let found = hasher.finish();
        if found == *expected {
            return Ok(());
        }
        Err(Error::Digest { expected: Box::new(expected.clone()), found: Box::new(found) })
    }
}

impl io::Read for Rest<'_> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        self.fill(output).map_err(|fault| {
            self.fault = Some(fault);
            io::ErrorKind::InvalidData.into()
        })
    }
}

/// The whole document; yields its version.
struct Document<'a> {
    builder: &'a mut TocBuilder,
    /// What was wrong with an entry, because serde's errors only carry a text.
    fault: &'a mut Option<Error>,
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a TOC")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let Self { builder, fault } = self;
        let (mut version, mut entries) = (None, None);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "entries" if entries.is_some() => return Err(de::Error::duplicate_field("entries")),
                "entries" => {
                    entries =
                        Some(map.next_value_seed(Entries { builder: &mut *builder, fault: &mut *fault })?);
                }
                "version" if version.is_some() => return Err(de::Error::duplicate_field("version")),
                "version" => version = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        entries.ok_or(de::Error::missing_field("entries"))?;
        version.ok_or(de::Error::missing_field("version"))
    }
}

/// The list of entries.
struct Entries<'a> {
    builder: &'a mut TocBuilder,
    fault: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(entry) = sequence.next_element::<JsonEntry<'de>>()? {
            let is_chunk = entry.kind == "chunk";
            if let Err(fault) = entry.add(number, self.builder) {
                let text = de::Error::custom(&fault);
                *self.fault = Some(fault);
                return Err(text);
            }
            number += u64::from(!is_chunk);
        }
        Ok(())
    }
}

/// One entry as it is written. Absent fields are 0 or empty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEntry<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    size: u64,
    #[serde(default, borrow)]
    modtime: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    link_name: Cow<'a, str>,
    #[serde(default)]
    mode: i64,
    #[serde(default)]
    uid: i64,
    #[serde(default)]
    gid: i64,
    #[serde(default, borrow)]
    user_name: Cow<'a, str>,
    #[serde(default, borrow)]
    group_name: Cow<'a, str>,
    #[serde(default)]
    dev_major: i64,
    #[serde(default)]
    dev_minor: i64,
    #[serde(default)]
    xattrs: Option<BTreeMap<String, String>>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    end_offset: u64,
    #[serde(default)]
    inner_offset: u64,
    #[serde(default)]
    chunk_offset: u64,
    #[serde(default)]
    chunk_size: u64,
    #[serde(default, borrow)]
    chunk_type: Cow<'a, str>,
    #[serde(default, borrow)]
    digest: Cow<'a, str>,
    #[serde(default, borrow)]
    chunk_digest: Cow<'a, str>,
}

impl JsonEntry<'_> {
    fn add(self, number: u64, builder: &mut TocBuilder) -> Result<(), Error> {
        let of_entry = |fault| Error::Entry { number, fault };
        let content = self.content().map_err(of_entry)?;
        if self.kind == "chunk" {
            return builder.chunk(self.name.as_bytes(), content);
        }
        let digest = digest(&self.digest).map_err(of_entry)?;
        builder.entry(self.entry().map_err(of_entry)?, content, digest)
    }

    fn content(&self) -> Result<StatedContent, Fault> {
        Ok(StatedContent {
            start: Compressed(self.offset),
            end: (self.end_offset != 0).then_some(Compressed(self.end_offset)),
            skip: self.inner_offset,
            offset: self.chunk_offset,
            size: self.chunk_size,
            digest: digest(&self.chunk_digest)?,
            zeros: match &*self.chunk_type {
                "" => false,
                "zeros" => true,
                _ => return Err(Fault::Kind),
            },
        })
    }

    fn entry(self) -> Result<Entry, Fault> {
        let kind = match &*self.kind {
            "block" => EntryKind::Block,
            "char" => EntryKind::Char,
            "dir" => EntryKind::Directory,
            "fifo" => EntryKind::Fifo,
            "hardlink" => EntryKind::Hardlink,
            "reg" => EntryKind::File,
            "symlink" => EntryKind::Symlink,
            _ => return Err(Fault::Kind),
        };
        let mut entry = Entry::new(self.name.into_owned(), kind);
        entry.size = self.size;
        entry.mode = (self.mode & 0o7777) as u32;
        (entry.uid, entry.gid) = (owner(self.uid), owner(self.gid));
        entry.uname = self.user_name.into_owned().into_bytes();
        entry.gname = self.group_name.into_owned().into_bytes();
        entry.mtime = time(self.modtime.as_deref().unwrap_or_default())?;
        if matches!(kind, EntryKind::Hardlink | EntryKind::Symlink) {
            entry.link = self.link_name.into_owned().into_bytes();
        }
        if matches!(kind, EntryKind::Block | EntryKind::Char) {
            let number = |number| u32::try_from(number).map_err(|_| Fault::Device);
            entry.device = Some((number(self.dev_major)?, number(self.dev_minor)?));
        }
        for (name, value) in self.xattrs.unwrap_or_default() {
            if is_ambiguous(name.as_bytes()) {
                return Err(Fault::Xattr);
            }
            let value = STANDARD.decode(value).map_err(|_| Fault::Xattr)?;
            entry.xattrs.insert(name.into_bytes(), value);
        }
        Ok(entry)
    }
}

fn digest(text: &str) -> Result<Option<Digest>, Fault> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| Fault::Digest) }
}

/// A negative owner (GNU tar writes -2 for nobody) becomes its low 32 bits, as with `chown`.
fn owner(id: i64) -> u64 {
    u64::try_from(id).unwrap_or_else(|_| u64::from(id as u32))
}

/// RFC 3339. An absent time and Go's zero time mean the epoch.
pub(crate) fn time(text: &str) -> Result<Timestamp, Fault> {
    if text.is_empty() {
        return Ok(Timestamp::default());
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| Fault::Time)?;
    let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
    // Jiff's fractions point away from the epoch on both sides.
    let (seconds, nanoseconds) =
        if nanoseconds < 0 { (seconds - 1, nanoseconds + 1_000_000_000) } else { (seconds, nanoseconds) };
    if seconds == GO_ZERO_TIME {
        return Ok(Timestamp::default());
    }
    Ok(Timestamp { seconds, nanoseconds: nanoseconds.unsigned_abs() })
}
