//! An image in several encodings, queried for a path in every possible way.

use std::{collections::BTreeMap, sync::OnceLock};

use layerslayer::{CarveOptions, Digest, Error, Verification};

use super::{
    images::{
        self, Compression, Layer, Layout, Tar,
        oracle::{self, Kind, Unpacked},
    },
    inspect::{Carved, Failure, block_on, carve, chain, compare, failure, open},
};

/// The encodings of an image, by tag.
const ENCODINGS: [(&str, Compression); 3] =
    [("gzip", Compression::Gzip), ("none", Compression::None), ("zstd", Compression::Zstd)];

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

    /// What umoci unpacks.
    pub(crate) fn unpacked(&self) -> &BTreeMap<Vec<u8>, Unpacked> {
        self.unpacked.get_or_init(|| oracle::unpack(self.layout.path(), "gzip"))
    }

    /// The path is a file with this content whose name is in this layer; umoci agrees.
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

    /// The path is a file with this content whose name is in this layer, whatever umoci says.
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
            // A layer this small is always read to its end.
            assert!(found.outcome.verification >= Verification::Span, "{how}: {:?}", found.outcome);
            assert!(found.outcome.is_final, "{how}");
        });
        self
    }

    /// The path gives no file, for this reason; umoci agrees that none exists.
    pub(crate) fn lacks(&self, path: impl AsRef<[u8]>, reason: Failure) -> &Self {
        let path = path.as_ref();
        self.lacks_unlike_umoci(path, reason);
        let their = oracle::follow(self.unpacked(), path).map(|found| found.kind);
        let as_umoci = match reason {
            // Without privileges umoci creates plain files in place of devices.
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

    /// The merged view consists of these paths and equals umoci's in every respect.
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

    /// Requests a file in each encoding: with an empty cache, with verification, and after all
    /// layers have been read.
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
