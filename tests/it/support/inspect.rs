//! Images read through the public interface, and comparison of everything they list with what umoci
//! unpacks.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    future::Future,
    io::Read as _,
    sync::LazyLock,
};

use layerslayer::{
    CarveOptions, Client, Digest, Entry, EntryKind, Error, File, Image, Outcome, Platform, RootfsEntry,
    Selection, Verification,
};

use super::images::oracle::{self, Kind, Unpacked};

/// Most bytes of one file in a test.
const LIMIT: u64 = 64 << 20;

/// 2025-01-01T00:00:00Z. Directories newer than this got their time from unpacking: umoci does not
/// restore it where it deleted something.
const UNPACKING: i64 = 1_735_689_600;

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Opens an image of this machine's platform.
pub(crate) async fn open(reference: &str) -> Result<Image, Error> {
    // Building a client loads the platform's certificates, which takes a while.
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

/// The kind of an error; its predicates exclude each other.
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

/// Everything that `image` lists, in the terms of the oracle, by path.
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

/// Compares what `image` lists with what umoci unpacked, path by path, and reports differences.
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
        // A directory that no layer describes has attributes of umoci's own choice.
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
