//! Stands in for the library's API until the real one is merged; then this file goes.
#![allow(missing_docs, clippy::exhaustive_enums, clippy::indexing_slicing, clippy::unused_async)]

use std::{
    collections::VecDeque,
    fmt,
    io::{Cursor, Read},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;

use crate::{Digest, Entry, EntryKind, Progress};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Corrupt,
    Deleted,
    NotFound,
    NoSuchImage,
    Usage,
    WrongKind,
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    pub fn is_corrupt(&self) -> bool {
        self.kind == Kind::Corrupt
    }
    pub fn is_deleted(&self) -> bool {
        self.kind == Kind::Deleted
    }
    pub fn is_no_such_image(&self) -> bool {
        self.kind == Kind::NoSuchImage
    }
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }
    pub fn is_unauthorized(&self) -> bool {
        false
    }
    pub fn is_unavailable(&self) -> bool {
        false
    }
    pub fn is_usage(&self) -> bool {
        self.kind == Kind::Usage
    }
    pub fn is_wrong_kind(&self) -> bool {
        self.kind == Kind::WrongKind
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageReference(String);
#[derive(Debug, thiserror::Error)]
#[error("character 0: the repository has to be lower case")]
pub struct ReferenceError;
impl FromStr for ImageReference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with(|first: char| first.is_uppercase()) {
            return Err(ReferenceError);
        }
        Ok(Self(text.to_owned()))
    }
}
impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform(String);
#[derive(Debug, thiserror::Error)]
#[error("a platform looks like OS/ARCH or OS/ARCH/VARIANT")]
pub struct PlatformError;
impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        if text.contains("//") { Err(PlatformError) } else { Ok(Self(text.to_owned())) }
    }
}
impl Default for Platform {
    fn default() -> Self {
        Self("linux/amd64".to_owned())
    }
}
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub struct Credential;
impl Credential {
    pub fn basic(_username: impl Into<String>, _password: secrecy::SecretString) -> Self {
        Self
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Transferred {
    pub requests: u64,
    pub bytes: u64,
}

#[derive(Default)]
pub struct ClientBuilder {
    progress: Option<Arc<dyn Progress>>,
}
impl ClientBuilder {
    #[must_use]
    pub fn plain_http(self, _plain: bool) -> Self {
        self
    }
    #[must_use]
    pub fn ca_file(self, _file: PathBuf) -> Self {
        self
    }
    #[must_use]
    pub fn credential(self, _credential: Credential) -> Self {
        self
    }
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client { progress: self.progress })
    }
}
pub struct Client {
    progress: Option<Arc<dyn Progress>>,
}
impl Client {
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
    pub async fn image(&self, reference: &ImageReference, platform: &Platform) -> Result<Image, Error> {
        if reference.0.contains("missing") {
            return Err(Error::new(Kind::NoSuchImage, format!("no such image {reference}")));
        }
        if let Some(progress) = &self.progress {
            progress.warning("this is a stand-in");
        }
        Ok(Image {
            reference: reference.clone(),
            digest: Digest::sha256(b"image"),
            platform: platform.clone(),
            config: ImageConfig { cmd: vec!["sh".to_owned()], env: vec!["PATH=/bin".to_owned()] },
            layers: (0..2).map(|index| Layer::fake(index, self.progress.clone())).collect(),
        })
    }
    pub fn transferred(&self) -> Transferred {
        Transferred { requests: 3, bytes: 1234 }
    }
}

pub struct ImageConfig {
    cmd: Vec<String>,
    env: Vec<String>,
}
impl ImageConfig {
    pub fn created(&self) -> Option<&str> {
        Some("2024-01-01T00:00:00Z")
    }
    pub fn user(&self) -> Option<&str> {
        None
    }
    pub fn entrypoint(&self) -> &[String] {
        &[]
    }
    pub fn cmd(&self) -> &[String] {
        &self.cmd
    }
    pub fn env(&self) -> &[String] {
        &self.env
    }
    pub fn working_dir(&self) -> Option<&str> {
        None
    }
    pub fn exposed_ports(&self) -> &[String] {
        &[]
    }
    pub fn volumes(&self) -> &[String] {
        &[]
    }
    pub fn labels(&self) -> &std::collections::BTreeMap<String, String> {
        static NONE: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        &NONE
    }
    pub fn stop_signal(&self) -> Option<&str> {
        None
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Verification {
    None,
    Blob,
}
impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Blob { "blob" } else { "none" })
    }
}
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    pub verification: Verification,
    pub is_final: bool,
}

pub struct Layer {
    index: usize,
    digest: Digest,
    entries: Vec<(Entry, Vec<u8>)>,
    progress: Option<Arc<dyn Progress>>,
}
impl Layer {
    fn fake(index: usize, progress: Option<Arc<dyn Progress>>) -> Self {
        let mut entries = Vec::new();
        let mut add = |path: &[u8], kind, mode: u32, link: &str, content: &[u8]| {
            let mut entry = Entry::new(path, kind);
            entry.mode = mode;
            entry.link = link.into();
            entry.size = content.len() as u64;
            entry.mtime.seconds = 1_704_067_200;
            entry.uname = b"root".to_vec();
            entry.gname = b"root".to_vec();
            if kind == EntryKind::Char {
                entry.device = Some((1, 3));
            }
            entries.push((entry, content.to_vec()));
        };
        if index == 0 {
            add(b"", EntryKind::Directory, 0o755, "", b"");
            add(b"bin", EntryKind::Symlink, 0o777, "usr/bin", b"");
            add(b"dev/null", EntryKind::Char, 0o666, "", b"");
            add(b"etc", EntryKind::Directory, 0o755, "", b"");
            add(b"etc/motd", EntryKind::File, 0o644, "", b"welcome\n");
            add(b"etc/passwd", EntryKind::File, 0o644, "", b"root:x:0:0:root:/root:/bin/sh\n");
            add(b"odd\n\x1bname\xff", EntryKind::File, 0o644, "", b"odd\n");
            add(b"tmp", EntryKind::Directory, 0o1777, "", b"");
            add(b"usr/bin/sh", EntryKind::File, 0o4755, "", b"\x7fELF\0\0");
            add(b"usr/bin/dash", EntryKind::Hardlink, 0o4755, "usr/bin/sh", b"");
        } else {
            add(b"etc/hosts", EntryKind::File, 0o644, "", b"127.0.0.1 localhost\n");
            add(b"etc/motd", EntryKind::Whiteout, 0, "", b"");
            add(b"tmp", EntryKind::Opaque, 0, "", b"");
        }
        Self { index, digest: Digest::sha256(&[index as u8]), entries, progress }
    }
    pub fn index(&self) -> usize {
        self.index
    }
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    pub fn diff_id(&self) -> Option<&Digest> {
        None
    }
    pub fn media_type(&self) -> &str {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    }
    pub fn size(&self) -> u64 {
        29_700_000
    }
    pub fn created_by(&self) -> Option<&str> {
        Some(
            "/bin/sh -c #(nop) ADD file:4b03b5f551e3fbdf47ec609712007327828f7530cc3455c43bbcdcaf449a75a9 in / ",
        )
    }
    pub async fn entries(&self) -> Result<Entries, Error> {
        if let Some(progress) = &self.progress {
            progress.layer_started(self.index, &self.digest, self.size());
            progress.layer_advanced(self.index, self.size());
            progress.layer_finished(self.index);
        }
        Ok(Entries { left: self.entries.iter().map(|(entry, _)| entry.clone()).collect() })
    }
}
pub struct Entries {
    left: VecDeque<Entry>,
}
impl Entries {
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        tokio::task::yield_now().await;
        self.left.pop_front().map(Ok)
    }
    pub fn verification(&self) -> Option<Verification> {
        self.left.is_empty().then_some(Verification::Blob)
    }
}

pub struct Rootfs {
    entries: Vec<RootfsEntry>,
}
#[derive(Clone, Debug)]
pub struct RootfsEntry {
    pub entry: Entry,
    pub layer: usize,
    pub implied: bool,
}
impl Rootfs {
    pub fn entries(&self) -> impl Iterator<Item = RootfsEntry> {
        self.entries.iter().cloned()
    }
    pub fn verification(&self) -> Verification {
        Verification::Blob
    }
}

#[derive(Clone, Debug, Default)]
pub struct CarveOptions {
    layer: Option<usize>,
    verify: bool,
}
impl CarveOptions {
    #[must_use]
    pub fn layer(mut self, layer: usize) -> Self {
        self.layer = Some(layer);
        self
    }
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }
}

pub struct Image {
    reference: ImageReference,
    digest: Digest,
    platform: Platform,
    config: ImageConfig,
    layers: Vec<Layer>,
}
impl Image {
    pub fn reference(&self) -> &ImageReference {
        &self.reference
    }
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    pub fn platform(&self) -> &Platform {
        &self.platform
    }
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
    pub fn layer(&self, index: usize) -> Result<&Layer, Error> {
        let count = self.layers.len();
        self.layers
            .get(index)
            .ok_or_else(|| Error::new(Kind::Usage, format!("no layer {index}: the image has {count} layers")))
    }
    pub async fn rootfs(&self) -> Result<Rootfs, Error> {
        let mut entries = Vec::new();
        for layer in &self.layers {
            for (entry, _) in &layer.entries {
                if !matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) && entry.path != b"etc/motd"
                {
                    entries.push(RootfsEntry { entry: entry.clone(), layer: layer.index, implied: false });
                }
            }
        }
        Ok(Rootfs { entries })
    }
    fn find(&self, path: &[u8]) -> Result<(Entry, Vec<u8>, usize), Error> {
        let name = String::from_utf8_lossy(path).into_owned();
        let image = &self.reference;
        let wanted = path.strip_prefix(b"/").unwrap_or(path);
        for layer in self.layers.iter().rev() {
            for (entry, content) in &layer.entries {
                if entry.path != wanted {
                    continue;
                }
                let fail =
                    |kind, what: &str| Err(Error::new(kind, format!("carving {name} from {image}: {what}")));
                return match entry.kind {
                    EntryKind::Whiteout => fail(Kind::Deleted, "deleted by layer 1"),
                    EntryKind::File => Ok((entry.clone(), content.clone(), layer.index)),
                    EntryKind::Directory => fail(Kind::WrongKind, "it is a directory"),
                    _ => fail(Kind::WrongKind, "it is no file"),
                };
            }
        }
        Err(Error::new(Kind::NotFound, format!("carving {name} from {image}: not in the image")))
    }
    pub async fn carve_with(&self, path: impl AsRef<[u8]>, options: &CarveOptions) -> Result<File, Error> {
        let (entry, content, layer) = self.find(path.as_ref())?;
        Ok(File {
            entry,
            layer,
            left: Some(content),
            verify: options.verify,
            trace: vec!["layer 0 holds it".into()],
        })
    }
    pub async fn collect(&self, selection: &Selection, options: &CarveOptions) -> Result<Collection, Error> {
        let mut collection = Collection { items: Vec::new(), failures: Vec::new(), verify: options.verify };
        for (requested, path) in selection.paths.iter().enumerate() {
            let wanted = path.strip_prefix(b"/").unwrap_or(path).to_vec();
            let below = [&wanted[..], b"/"].concat();
            let mut any = false;
            for layer in &self.layers {
                for (entry, content) in &layer.entries {
                    if entry.path != wanted && !entry.path.starts_with(&below) {
                        continue;
                    }
                    if matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque)
                        || entry.path == b"etc/motd"
                    {
                        continue;
                    }
                    any = true;
                    let mut entry = entry.clone();
                    let hardlink_to = (entry.kind == EntryKind::Hardlink).then(|| entry.link.clone());
                    if hardlink_to.is_some() {
                        entry.kind = EntryKind::File;
                    }
                    let item = Item {
                        path: entry.path.clone(),
                        entry: entry.clone(),
                        layer: layer.index,
                        hardlink_to,
                        requested,
                    };
                    collection.items.push((item, content.clone()));
                }
            }
            if !any {
                let error = self.find(path).err().unwrap_or_else(|| Error::new(Kind::NotFound, "no"));
                collection.failures.push((path.clone(), error));
            }
        }
        Ok(collection)
    }
}

pub struct File {
    entry: Entry,
    layer: usize,
    left: Option<Vec<u8>>,
    verify: bool,
    trace: Vec<String>,
}
impl File {
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
    pub fn layer(&self) -> usize {
        self.layer
    }
    pub fn resolved_path(&self) -> &[u8] {
        &self.entry.path
    }
    pub fn trace(&self) -> &[String] {
        &self.trace
    }
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let content = self.left.take()?;
        if content.starts_with(b"odd") {
            return Some(Err(Error::new(Kind::Corrupt, "the content is odd")));
        }
        Some(Ok(Bytes::from(content)))
    }
    pub fn outcome(&self) -> Option<Outcome> {
        let verification = if self.verify { Verification::Blob } else { Verification::None };
        self.left.is_none().then_some(Outcome { verification, is_final: self.verify })
    }
}

#[derive(Clone, Debug)]
pub struct Selection {
    paths: Vec<Vec<u8>>,
}
impl Selection {
    pub fn paths(paths: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        Self { paths: paths.into_iter().map(|path| path.as_ref().to_vec()).collect() }
    }
    pub fn glob(patterns: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Self, Error> {
        Ok(Self::paths(patterns))
    }
}
pub struct Collection {
    items: Vec<(Item, Vec<u8>)>,
    failures: Vec<(Vec<u8>, Error)>,
    verify: bool,
}
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Item {
    pub path: Vec<u8>,
    pub entry: Entry,
    pub layer: usize,
    pub hardlink_to: Option<Vec<u8>>,
    pub requested: usize,
}
impl Collection {
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.items.iter().map(|(item, _)| item.clone())
    }
    pub fn failures(&self) -> &[(Vec<u8>, Error)] {
        &self.failures
    }
    pub fn outcome(&self) -> Outcome {
        let verification = if self.verify { Verification::Blob } else { Verification::None };
        Outcome { verification, is_final: true }
    }
    pub fn open(&self, item: &Item) -> impl Read {
        let content = self.items.iter().find(|(other, _)| other.path == item.path);
        Cursor::new(content.map(|(_, content)| content.clone()).unwrap_or_default())
    }
}
