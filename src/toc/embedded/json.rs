//! The JSON of a publisher's TOC. Entries are added one by one while it is parsed (stargz-snapshotter, docs/estargz.md,
//! "TOC"; containers/storage, pkg/chunked; both descend from CRFS).

use std::{borrow::Cow, collections::BTreeMap, fmt};

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
    oci::digest::Digest,
    offset::Compressed,
    tar::entry::{Entry, EntryKind, Timestamp},
    toc::{LayerToc, chunks::Chunk},
};

/// The only known version.
const VERSION: u64 = 1;

/// Go's zero time, which means no time: 0001-01-01T00:00:00Z, in seconds.
const GO_ZERO_TIME: i64 = -62_135_596_800;

/// Parses a TOC. Its content is compressed with `encoding` and ends at `end`. `own` is the TOC itself, if it is a file of
/// the layer.
pub(crate) fn read(
    json: &[u8],
    encoding: Encoding,
    end: Compressed,
    own: Option<(Entry, Chunk)>,
) -> Result<LayerToc, Error> {
    let mut builder = TocBuilder::new();
    let mut fault = None;
    let mut parser = serde_json::Deserializer::from_slice(json);
    let document = Document { builder: &mut builder, fault: &mut fault };
    let parsed = parser.deserialize_map(document).and_then(|version| parser.end().map(|()| version));
    match (parsed, fault) {
        (_, Some(fault)) => Err(fault),
        (Err(error), None) => Err(Error::Json(error)),
        (Ok(VERSION), None) => builder.finish(encoding, end, own),
        (Ok(_), None) => Err(Error::Version),
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
