//! What a cache holds by which name, and what a place that keeps it must be able to do.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use bytes::Bytes;

use super::error::CacheError;
use crate::oci::digest::Digest;

/// The name of something in a cache.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Key {
    /// A manifest or configuration, by its digest.
    Document(Digest),
    /// How a registry was found, by the SHA-256 of its host.
    Registry(Digest),
    /// What a tag was, by the SHA-256 of its canonical reference: names of images stay out of names of files.
    Tag(Digest),
    /// The table of a layer, by the digest of the layer's blob.
    Toc(Digest),
}

/// Something in a cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Item {
    pub(super) key: Key,
    /// In bytes.
    pub(super) size: u64,
    /// When it was last written or read.
    pub(super) used: SystemTime,
}

/// Keeps named pieces of bytes. Everything blocks.
pub(super) trait Store: Send + Sync {
    /// What is kept under this name, if it is there and has at most `cap` bytes.
    fn read(&self, key: &Key, cap: u64) -> Result<Option<Bytes>, CacheError>;

    /// Keeps what `write` writes, in place of what is there; not if it is larger than all there is room for (`false`). Readers
    /// see the old or the new, whatever happens.
    fn write(
        &self,
        key: &Key,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, CacheError>;

    /// Forgets it. That it is not there is no error.
    fn remove(&self, key: &Key) -> Result<(), CacheError>;

    /// All that is kept, in no particular order.
    fn list(&self) -> Result<Vec<Item>, CacheError>;
}

impl Key {
    /// The name of a registry's record.
    pub(super) fn registry(host: &str) -> Self {
        Self::Registry(Digest::sha256(host.as_bytes()))
    }

    /// The name of a tag's record.
    pub(super) fn tag(reference: &str) -> Self {
        Self::Tag(Digest::sha256(reference.as_bytes()))
    }

    /// Its place below the root.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Document(digest) => format!("blob/{}/{}", digest.algorithm().as_str(), digest.hex()),
            Self::Registry(digest) => format!("registry/{}", digest.hex()),
            Self::Tag(digest) => format!("tag/{}", digest.hex()),
            Self::Toc(digest) => format!("toc/{}/{}", digest.algorithm().as_str(), digest.hex()),
        }
    }

    /// The key with this place, if it is one.
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
        // `sha256:…` would do for `sha256/…` above.
        (key.path() == path).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_leads_back_to_its_key() {
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
