//! The keys of cache entries, and the trait of stores that hold them.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use bytes::Bytes;

use super::error::CacheError;
use crate::oci::digest::Digest;

/// The key of a cache entry.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Key {
    /// A manifest or configuration, by its digest.
    Document(Digest),
    /// The record of a registry, by the SHA-256 of its host.
    Registry(Digest),
    /// The record of a tag, by the SHA-256 of its canonical reference, so that file names do not reveal image names.
    Tag(Digest),
    /// The TOC of a layer, by the digest of the layer's blob.
    Toc(Digest),
}

/// An entry of a cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct StoredItem {
    pub(super) key: Key,
    /// Size in bytes.
    pub(super) size: u64,
    /// When the entry was last written or read.
    pub(super) used: SystemTime,
}

/// A store of named byte strings. All methods block.
pub(super) trait Store: Send + Sync {
    /// Reads an entry, if it exists and has at most `cap` bytes.
    fn read(&self, key: &Key, cap: u64) -> Result<Option<Bytes>, CacheError>;

    /// Stores what `write` writes and replaces an existing entry; `false` if it is larger than the whole capacity. Readers always
    /// see either the old or the new entry.
    fn write(
        &self,
        key: &Key,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, CacheError>;

    /// Removes an entry, if it exists.
    fn remove(&self, key: &Key) -> Result<(), CacheError>;

    /// Lists all entries, in no particular order.
    fn list(&self) -> Result<Vec<StoredItem>, CacheError>;
}

impl Key {
    /// The key of a registry's record.
    pub(super) fn registry(host: &str) -> Self {
        Self::Registry(Digest::sha256(host.as_bytes()))
    }

    /// The key of a tag's record.
    pub(super) fn tag(reference: &str) -> Self {
        Self::Tag(Digest::sha256(reference.as_bytes()))
    }

    /// The path below the cache directory.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Document(digest) => format!("blob/{}/{}", digest.algorithm().as_str(), digest.hex()),
            Self::Registry(digest) => format!("registry/{}", digest.hex()),
            Self::Tag(digest) => format!("tag/{}", digest.hex()),
            Self::Toc(digest) => format!("toc/{}/{}", digest.algorithm().as_str(), digest.hex()),
        }
    }

    /// The key with this path, if the path is valid.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        let digest = |text: &str| text.replacen('/', ":", 1).parse::<Digest>().ok();
        let key = match kind {
            "blob" => Self::Document(digest(rest)?),
            "registry" => Self::Registry(format!("sha256:{rest}").parse().ok()?),
            "tag" => Self::Tag(format!("sha256:{rest}").parse().ok()?),
            "toc" => Self::Toc(digest(rest)?),
            _ => return None,
        };
        // The parsing above also accepts `sha256:…` instead of `sha256/…`.
        (key.path() == path).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_back_to_its_key() {
        let digest = Digest::sha256(b"");
        let long = format!("sha512:{:0128}", 7).parse::<Digest>().unwrap();
        let keys = [
            Key::Document(digest.clone()),
            Key::Document(long.clone()),
            Key::registry("registry-1.docker.io"),
            Key::tag("docker.io/library/nginx:latest"),
            Key::Toc(digest.clone()),
            Key::Toc(long),
        ];
        for key in keys {
            assert_eq!(Key::of_path(&key.path()), Some(key));
        }
        let hex = digest.hex();
        for path in
            ["", "toc", "toc/sha256", "other/x", &format!("toc/sha256:{hex}"), &format!("tag/sha256/{hex}")]
        {
            assert_eq!(Key::of_path(path), None, "{path}");
        }
        assert_eq!(Key::of_path(&format!("toc/sha256/{}", &hex[1..])), None);
    }
}
