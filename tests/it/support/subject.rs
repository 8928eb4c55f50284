//! An image in several encodings: asked through the public interface in every way there is, and compared with what umoci unpacks.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    future::Future,
    io::Read as _,
    sync::{LazyLock, OnceLock},
};

use layerslayer::{
    CarveOptions, Client, Digest, Entry, EntryKind, Error, File, Image, Outcome, Platform, RootfsEntry,
    Selection, Verification,
};

use super::images::{
    self, Compression, Layer, Layout, Tar,
    oracle::{self, Kind, Unpacked},
};

/// Most bytes of one file in a test.
const LIMIT: u64 = 64 << 20;

/// 2025-01-01T00:00:00Z. Directories later than this got their time from being unpacked: umoci does not set it back where it
/// deleted something.
const UNPACKING: i64 = 1_735_689_600;

/// What an image is stored as, by tag.
const ENCODINGS: [(&str, Compression); 3] =
    [("gzip", Compression::Gzip), ("none", Compression::None), ("zstd", Compression::Zstd)];

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Opens an image of this machine's platform.
pub(crate) async fn open(reference: &str) -> Result<Image, Error> {
    // Setting one up loads the platform's certificates, which takes a while.
    static CLIENT: LazyLock<Client> = LazyLock::new(|| Client::builder().build().unwrap());
    CLIENT.image(&reference.parse().unwrap(), &Platform::default()).await
}

/// A file, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Carved {
    pub(crate) entry: Entry,
    pub(crate) layer: usize,
    pub(crate) content: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// Carves a file and reads it to its end.
pub(crate) async fn carve(image: &Image, path: &[u8], options: &CarveOptions) -> Result<Carved, Error> {
    read(image.carve_with(path, options).await?).await
}

/// Reads a file to its end.
pub(crate) async fn read(mut file: File) -> Result<Carved, Error> {
    let content = file.read_to_end(LIMIT).await?;
    let (entry, layer) = (file.entry().clone(), file.layer());
    Ok(Carved { entry, layer, content, outcome: file.outcome().unwrap() })
}

/// What an error says of itself; its predicates exclude each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    Corrupt,
    Deleted,
    NoSuchImage,
    NotFound,
    Other,
    Usage,
    WrongKind,
}

/// What kind of failure an error is.
pub(crate) fn failure(error: &Error) -> Failure {
    let answers = [
        (error.is_corrupt(), Failure::Corrupt),
        (error.is_deleted(), Failure::Deleted),
        (error.is_no_such_image(), Failure::NoSuchImage),
        (error.is_not_found(), Failure::NotFound),
        (error.is_usage(), Failure::Usage),
        (error.is_wrong_kind(), Failure::WrongKind),
    ];
    let mut kinds = answers.into_iter().filter(|(is, _)| *is).map(|(_, failure)| failure);
    let kind = kinds.next().unwrap_or(Failure::Other);
    assert_eq!(kinds.next(), None, "{error:?}");
    kind
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Everything that `image` shows, in the terms of the oracle, by path.
pub(crate) async fn everything(image: &Image) -> BTreeMap<Vec<u8>, Unpacked> {
    let options = CarveOptions::default().verify(true);
    let collection = image.collect(&Selection::paths(["/"]), &options).await.unwrap();
    assert!(collection.failures().is_empty(), "{:?}", collection.failures());
    let mut found = BTreeMap::new();
    for item in collection.items().iter().filter(|item| !item.path.is_empty()) {
        let mut content = Vec::new();
        collection.open(item).read_to_end(&mut content).unwrap();
        let before = found.insert(item.path.clone(), described(&item.entry, &content));
        assert_eq!(before, None, "{} is listed twice", item.path.escape_ascii());
    }
    found
}

fn described(entry: &Entry, content: &[u8]) -> Unpacked {
    let kind = match entry.kind {
        EntryKind::Block => Kind::Block,
        EntryKind::Char => Kind::Char,
        EntryKind::Directory => Kind::Directory,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::File => Kind::File,
        EntryKind::Symlink => Kind::Symlink,
        other => panic!("{other:?} at {}", entry.path.escape_ascii()),
    };
    Unpacked {
        kind,
        size: entry.size,
        mode: if kind == Kind::Symlink { 0 } else { entry.mode },
        uid: u32::try_from(entry.uid).unwrap(),
        gid: u32::try_from(entry.gid).unwrap(),
        modified: entry.mtime.seconds,
        link: entry.link.clone(),
        digest: (kind == Kind::File).then(|| Digest::sha256(content)),
        device: entry.device,
        inode: 0,
        links: 0,
    }
}

/// Holds what `image` shows against what umoci unpacked, path by path; says what differs.
pub(crate) async fn compare(image: &Image, unpacked: &BTreeMap<Vec<u8>, Unpacked>) -> Result<(), String> {
    let rootfs = image.rootfs().await.unwrap();
    assert_eq!(rootfs.verification(), Verification::Blob);
    let listed: HashMap<Vec<u8>, RootfsEntry> =
        rootfs.entries().into_iter().map(|found| (found.entry.path.clone(), found)).collect();
    let ours = everything(image).await;
    let mut differences = Vec::new();
    for path in ours.keys().chain(unpacked.keys().filter(|path| !ours.contains_key(*path))) {
        let (our, their) = (ours.get(path), unpacked.get(path).map(Unpacked::portable));
        let entry = listed.get(path);
        if entry.is_some() != our.is_some() {
            differences.push(format!("{}: rootfs and collect disagree", path.escape_ascii()));
        }
        // What umoci gives a directory that no layer describes is its own affair.
        let implied = entry.is_some_and(|entry| entry.implied);
        let our = our.map(|our| match &their {
            Some(their) if implied && our.kind == Kind::Directory => {
                Unpacked { kind: our.kind, link: our.link.clone(), ..their.clone() }
            }
            Some(their) if their.kind == Kind::Directory && their.modified > UNPACKING => {
                Unpacked { modified: their.modified, ..our.portable() }
            }
            _ => our.portable(),
        });
        if our != their && (oracle::is_root() || our.as_ref().is_none_or(|our| our.device.is_none())) {
            differences.push(format!("{}:\n  ours {our:?}\n umoci {their:?}", path.escape_ascii()));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// An image under test.
pub(crate) struct Subject {
    layout: Layout,
    unpacked: OnceLock<BTreeMap<Vec<u8>, Unpacked>>,
}

impl Subject {
    /// The image of these layers, base first, in every encoding.
    pub(crate) fn new(layers: impl IntoIterator<Item = Tar>) -> Self {
        Self::of(&layers.into_iter().map(Tar::finish).collect::<Vec<_>>())
    }

    /// The image of these archives, base first, in every encoding.
    pub(crate) fn of(archives: &[Vec<u8>]) -> Self {
        let mut layout = Layout::new();
        for (tag, compression) in ENCODINGS {
            let layers = archives.iter().map(|tar| Layer::new(tar, compression));
            let descriptor = layout.image(&layers.fold(images::Image::new(), images::Image::layer));
            layout.tag(tag, descriptor);
        }
        Self { layout, unpacked: OnceLock::new() }
    }

    /// References to the image in each encoding.
    pub(crate) fn references(&self) -> impl Iterator<Item = String> {
        ENCODINGS.into_iter().map(|(tag, _)| self.layout.reference(tag))
    }

    /// What umoci makes of it.
    pub(crate) fn unpacked(&self) -> &BTreeMap<Vec<u8>, Unpacked> {
        self.unpacked.get_or_init(|| oracle::unpack(self.layout.path(), "gzip"))
    }

    /// The path is a file of this content whose name lies in this layer; umoci agrees.
    pub(crate) fn holds(&self, path: impl AsRef<[u8]>, layer: usize, content: impl AsRef<[u8]>) -> &Self {
        let (path, content) = (path.as_ref(), content.as_ref());
        self.holds_unlike_umoci(path, layer, content);
        let their = oracle::follow(self.unpacked(), path).map(|found| (found.kind, found.digest.clone()));
        assert_eq!(
            their,
            Some((Kind::File, Some(Digest::sha256(content)))),
            "umoci: {}",
            path.escape_ascii()
        );
        self
    }

    /// The path is a file of this content whose name lies in this layer, whatever umoci says.
    pub(crate) fn holds_unlike_umoci(
        &self,
        path: impl AsRef<[u8]>,
        layer: usize,
        content: impl AsRef<[u8]>,
    ) -> &Self {
        let path = path.as_ref();
        self.ask(path, |how, found| {
            let found = found.unwrap_or_else(|error| panic!("{how}: {}", chain(&error)));
            assert_eq!(
                found.content.escape_ascii().to_string(),
                content.as_ref().escape_ascii().to_string(),
                "{how}"
            );
            assert_eq!((found.layer, found.entry.size), (layer, found.content.len() as u64), "{how}");
            // So little is left of a layer this small that it is always read to its end.
            assert_eq!(found.outcome.verification, Verification::Blob, "{how}");
            assert!(found.outcome.is_final, "{how}");
        });
        self
    }

    /// The path gives no file, for this reason; umoci agrees that there is none.
    pub(crate) fn lacks(&self, path: impl AsRef<[u8]>, reason: Failure) -> &Self {
        let path = path.as_ref();
        self.lacks_unlike_umoci(path, reason);
        let their = oracle::follow(self.unpacked(), path).map(|found| found.kind);
        let as_umoci = match reason {
            // Without privileges umoci makes plain files of devices.
            Failure::WrongKind => their.is_some_and(|kind| kind != Kind::File || !oracle::is_root()),
            _ => their.is_none(),
        };
        assert!(as_umoci, "{}: {reason:?}, umoci: {their:?}", path.escape_ascii());
        self
    }

    /// The path gives no file, for this reason, whatever umoci says.
    pub(crate) fn lacks_unlike_umoci(&self, path: impl AsRef<[u8]>, reason: Failure) -> &Self {
        self.ask(path.as_ref(), |how, found| {
            let error = found.map(|found| found.content).expect_err(how);
            assert_eq!(failure(&error), reason, "{how}: {}", chain(&error));
        });
        self
    }

    /// The merged view consists of these paths; it is umoci's in every respect.
    pub(crate) fn lists(&self, paths: &[&str]) -> &Self {
        self.lists_unlike_umoci(paths);
        for reference in self.references() {
            let differences =
                block_on(async { compare(&open(&reference).await.unwrap(), self.unpacked()).await });
            assert_eq!(differences, Ok(()), "{reference}");
        }
        self
    }

    /// The merged view consists of these paths, whatever umoci says.
    pub(crate) fn lists_unlike_umoci(&self, paths: &[&str]) -> &Self {
        for reference in self.references() {
            let entries =
                block_on(async { open(&reference).await.unwrap().rootfs().await.unwrap().entries() });
            let found: Vec<String> = entries
                .iter()
                .filter(|found| !found.entry.path.is_empty())
                .map(|found| found.entry.path.escape_ascii().to_string())
                .collect();
            assert_eq!(found, paths, "{reference}");
        }
        self
    }

    /// Asks each encoding for a file: without knowing anything, with verification, and after all layers have been read.
    fn ask(&self, path: &[u8], check: impl Fn(&str, Result<Carved, Error>)) {
        let plain = CarveOptions::default();
        for reference in self.references() {
            let how = |way: &str| format!("/{} of {reference}, {way}", path.escape_ascii());
            block_on(async {
                let image = open(&reference).await.unwrap();
                check(&how("at first"), carve(&image, path, &plain).await);
                check(&how("a second time"), carve(&image, path, &plain).await);
                let image = open(&reference).await.unwrap();
                check(&how("verified"), carve(&image, path, &plain.verify(true)).await);
                let image = open(&reference).await.unwrap();
                image.rootfs().await.unwrap();
                check(&how("after a listing"), carve(&image, path, &plain).await);
            });
        }
    }
}
