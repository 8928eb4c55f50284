//! JSON Lines, as documented and versioned in `docs/json.md`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use layerslayer::{Entry, EntryKind, PlannedRead};
use repeats::LongValues;
use serde::Serialize;

use super::{
    Listing, Proof, Row,
    facts::{ConfigFacts, ImageFacts, LayerFacts},
    time,
};

mod repeats;

/// Version of the schema; it changes when a key is removed or changes its meaning.
pub(crate) const SCHEMA: u32 = 1;

/// Writes JSON Lines.
pub(crate) struct Json<W> {
    out: W,
    /// The number of `entry` lines so far.
    entries: u64,
    values: LongValues,
}

impl<W: Write> Json<W> {
    /// Creates a writer to `out`.
    pub(crate) fn new(out: W) -> Self {
        Self { out, entries: 0, values: LongValues::default() }
    }

    /// Writes a PATH or pattern that could not be carved.
    pub(crate) fn failure(&mut self, path: &[u8], exit: u8, error: &str) -> io::Result<()> {
        let (path, path_bytes) = text(path);
        self.line(&FailureLine { kind: "failure", path, path_bytes, exit, error })
    }

    /// Writes the artifact that `toc push` stored.
    pub(crate) fn pushed(&mut self, digest: &str, tocs: usize, bytes: u64) -> io::Result<()> {
        self.line(&PushedLine { kind: "pushed", digest, tocs, bytes })
    }

    /// Writes the reads that would be made of the layer with this digest.
    pub(crate) fn plan(&mut self, read: &PlannedRead, digest: &str) -> io::Result<()> {
        self.line(&PlanLine {
            kind: "plan",
            layer: read.layer,
            digest,
            plan: read.method.to_string(),
            certain: read.is_certain,
            requests: read.requests,
            bytes: read.bytes,
            ranges: read.ranges.iter().map(|range| (range.start, range.end)).collect(),
        })
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write + Send> Listing for Json<W> {
    fn image(&mut self, image: &ImageFacts) -> io::Result<()> {
        self.line(&ImageLine { kind: "image", schema: SCHEMA, image })
    }

    fn config(&mut self, config: &ConfigFacts) -> io::Result<()> {
        self.line(&Tagged { kind: "config", facts: config })
    }

    fn layer(&mut self, layer: &LayerFacts) -> io::Result<()> {
        self.line(&Tagged { kind: "layer", facts: layer })
    }

    fn entry(&mut self, row: &Row<'_>) -> io::Result<()> {
        let line = EntryLine::new(row, self.entries, &mut self.values);
        self.entries += 1;
        // Not `self.line`: the line borrows the values.
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    fn layer_end(&mut self, layer: usize, entries: u64, proof: &Proof) -> io::Result<()> {
        let Proof { verified, source } = proof;
        self.line(&EndOfEntries { kind: "layer_end", layer: Some(layer), entries, verified, source })?;
        self.out.flush()
    }

    fn rootfs_end(&mut self, entries: u64, proof: &Proof) -> io::Result<()> {
        let Proof { verified, source } = proof;
        self.line(&EndOfEntries { kind: "rootfs_end", layer: None, entries, verified, source })
    }

    fn end(&mut self) -> io::Result<()> {
        self.line(&End { kind: "end", complete: true })?;
        self.out.flush()
    }
}

#[derive(Serialize)]
struct ImageLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: u32,
    #[serde(flatten)]
    image: &'a ImageFacts,
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    facts: &'a T,
}

#[derive(Serialize)]
struct EndOfEntries<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    entries: u64,
    verified: &'a str,
    source: &'static str,
}

#[derive(Serialize)]
struct PushedLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    digest: &'a str,
    tocs: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct End {
    #[serde(rename = "type")]
    kind: &'static str,
    complete: bool,
}

#[derive(Serialize)]
struct FailureLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    exit: u8,
    error: &'a str,
}

#[derive(Serialize)]
struct PlanLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    layer: usize,
    digest: &'a str,
    plan: String,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    bytes: u64,
    ranges: Vec<(u64, u64)>,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    #[serde(rename = "type")]
    line: &'static str,
    layer: usize,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    uname: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    gname: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<Cow<'a, str>, String>,
    #[serde(skip_serializing_if = "SameAs::is_empty")]
    same_as: SameAs<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    implied: bool,
}

/// The numbers of earlier `entry` lines that have the values which this line leaves out.
#[derive(Default, Serialize)]
struct SameAs<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uname: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gname: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<Cow<'a, str>, u64>,
}

impl SameAs<'_> {
    fn is_empty(&self) -> bool {
        let Self { uname, gname, link, xattrs } = self;
        uname.is_none() && gname.is_none() && link.is_none() && xattrs.is_empty()
    }
}

impl<'a> EntryLine<'a> {
    /// The line with this number. Long values that an earlier line has are replaced by its number.
    fn new(row: &Row<'a>, number: u64, values: &mut LongValues) -> Self {
        let entry: &Entry = row.entry;
        let (path, path_bytes) = text(&entry.path);
        let mut same_as = SameAs {
            uname: values.earlier(&[b"uname"], &entry.uname, number),
            gname: values.earlier(&[b"gname"], &entry.gname, number),
            link: values.earlier(&[b"link"], &entry.link, number),
            xattrs: BTreeMap::new(),
        };
        let mut xattrs = BTreeMap::new();
        for (name, value) in &entry.xattrs {
            match values.earlier(&[b"xattrs", name], value, number) {
                Some(line) => drop(same_as.xattrs.insert(text(name).0, line)),
                None => drop(xattrs.insert(text(name).0, base64(value))),
            }
        }
        let link = (is_link(entry.kind) && same_as.link.is_none()).then(|| text(&entry.link));
        // Whiteouts, opaque directories and implied directories have no attributes.
        let has_attributes = !row.implied && !matches!(entry.kind, EntryKind::Opaque | EntryKind::Whiteout);
        Self {
            line: "entry",
            layer: row.layer,
            path,
            path_bytes,
            kind: kind(entry.kind),
            size: (entry.kind == EntryKind::File).then_some(entry.size),
            mode: has_attributes.then(|| format!("{:04o}", entry.mode)),
            uid: has_attributes.then_some(entry.uid),
            gid: has_attributes.then_some(entry.gid),
            uname: String::from_utf8_lossy(if has_attributes && same_as.uname.is_none() {
                &entry.uname
            } else {
                b""
            }),
            gname: String::from_utf8_lossy(if has_attributes && same_as.gname.is_none() {
                &entry.gname
            } else {
                b""
            }),
            mtime: if has_attributes { time::rfc3339(entry.mtime) } else { None },
            link_bytes: link.as_ref().and_then(|(_, bytes)| bytes.clone()),
            link: link.map(|(link, _)| link),
            dev: entry.device,
            xattrs,
            same_as,
            implied: row.implied,
        }
    }
}

/// Bytes as text, and in base64 as well if they are not UTF-8.
fn text(bytes: &[u8]) -> (Cow<'_, str>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let exact = text.as_bytes() == bytes;
    (text, (!exact).then(|| base64(bytes)))
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn is_link(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Hardlink | EntryKind::Symlink)
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Block => "block",
        EntryKind::Char => "char",
        EntryKind::Directory => "dir",
        EntryKind::Fifo => "fifo",
        EntryKind::File => "file",
        EntryKind::Hardlink => "hardlink",
        EntryKind::Opaque => "opaque",
        EntryKind::Symlink => "symlink",
        EntryKind::Whiteout => "whiteout",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
