//! What a cache trusts.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Mutex, PoisonError},
};

use tempfile::TempDir;

use super::*;
use crate::toc::{ContentMap, LayerToc, entries::EntryTree, format::Header};

const CAP: u64 = 1 << 20;
const NAME: &str = "docker.io/library/nginx:latest";

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl crate::progress::Progress for Warnings {
    fn event(&self, event: &crate::progress::Event) {
        if let crate::progress::Event::Warning { message, .. } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
        }
    }
}

fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
    (folder, cache)
}

#[test]
fn a_document_that_does_not_match_its_digest_is_removed_and_not_returned() {
    let (_folder, cache) = cache();
    let digest = Digest::sha256(b"{}");
    cache.put_document(&digest, b"{}");
    assert_eq!(cache.document(&digest, CAP).unwrap(), "{}");
    assert_eq!(cache.document(&digest, 1), None);
    let path = cache.path().join(Key::Document(digest.clone()).path());
    fs::write(&path, b"{ }").unwrap();
    assert_eq!(cache.document(&digest, CAP), None);
    assert!(!path.exists());
}

#[test]
fn the_record_of_a_tag_is_valid_only_for_its_own_reference() {
    let (_folder, cache) = cache();
    let digest = Digest::sha256(b"manifest");
    let other = "docker.io/library/nginx:1";
    assert_eq!(cache.tag(NAME), None);
    cache.put_tag(NAME, &digest);
    assert_eq!((cache.tag(NAME), cache.tag(other)), (Some(digest.clone()), None));
    let path_of = |reference| cache.path().join(Key::tag(reference).path());
    fs::copy(path_of(NAME), path_of(other)).unwrap();
    assert_eq!(cache.tag(other), None);
    for damage in ["", "{}", r#"{"reference":"docker.io/library/nginx:latest","digest":"sha256:1"}"#] {
        fs::write(path_of(NAME), damage).unwrap();
        assert_eq!(cache.tag(NAME), None, "{damage}");
        assert!(!path_of(NAME).exists());
    }
    let found: Vec<_> = fs::read_dir(cache.path().join("tag")).unwrap().collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_tocs_are_listed_sorted_by_layer() {
    let (_folder, cache) = cache();
    let layers = [b"one", b"two"].map(|content| Digest::sha256(content));
    for (size, layer) in layers.iter().enumerate() {
        assert!(cache.put_toc(layer, |out| out.write_all(&vec![0; size])));
    }
    cache.put_document(&Digest::sha256(b"{}"), b"{}");
    cache.put_tag(NAME, &layers[0]);
    let mut expected = layers.to_vec();
    expected.sort();
    let listed: Vec<Digest> = cache.tocs().unwrap().into_iter().map(|toc| toc.digest).collect();
    assert_eq!(listed, expected);
    let listing_of = |layer: &Digest| {
        let tocs = cache.tocs().unwrap();
        let toc = tocs.into_iter().find(|toc| toc.digest == *layer).unwrap();
        (toc.size > 1, toc.entries, toc.complete)
    };
    assert_eq!(listing_of(&layers[1]), (false, None, None));
    let toc = LayerToc { entries: EntryTree::new(), content: ContentMap::Nothing };
    for (written, entries) in [(&layers[0], Some(0)), (&layers[1], None)] {
        // A TOC of another layer is ignored.
        let header = Header::new(layers[0].clone(), 0, None, &toc);
        assert!(cache.put_toc(written, |mut out| format::write(&header, &toc, &mut out)));
        assert_eq!(listing_of(written), (true, entries, entries.map(|_| false)));
    }
    cache.remove_toc(&layers[0]);
    assert_eq!((cache.toc(&layers[0]), cache.toc(&layers[1]).is_some()), (None, true));
    assert_eq!(cache.clear().unwrap().files, 3);
    assert!(cache.tocs().unwrap().is_empty());
}

#[test]
fn a_failing_cache_causes_one_warning_and_counts_as_empty() {
    let (_folder, cache) = cache();
    let warnings = Arc::new(Warnings::default());
    let cache =
        cache.with_progress(Arc::new(crate::progress::Reporter::new(Arc::<Warnings>::clone(&warnings))));
    let digest = Digest::sha256(b"{}");
    cache.put_document(&digest, b"{}");
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for cache in [cache.clone(), cache] {
        assert_eq!(cache.document(&digest, CAP), None);
        assert!(!cache.put_toc(&digest, |_| Ok(())));
    }
    let warnings = warnings.0.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("chmod go-w") && warnings[0].ends_with("continuing without the cache"),
        "{warnings:?}"
    );
}
