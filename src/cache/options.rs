//! Settings of a cache: directory, size, shared store and keys.

use std::{env, ffi::OsString, path::PathBuf};

use etcetera::BaseStrategy as _;

use super::error::CacheError;

/// The cache directory.
const DIRECTORY_VARIABLE: &str = "LAYERSLAYER_CACHE_DIR";
/// The size of the cache.
const SIZE_VARIABLE: &str = "LAYERSLAYER_CACHE_SIZE";
/// The address of the shared TOC store.
const STORE_VARIABLE: &str = "LAYERSLAYER_TOC_STORE";
/// The key files for shared TOCs.
const KEY_VARIABLE: &str = "LAYERSLAYER_TOC_KEY";
/// Our folder in the user's cache directory.
const NAME: &str = "layerslayer";
/// Default size of a cache, in bytes.
const DEFAULT_BYTES: u64 = 2 << 30;

/// Settings of a [`Cache`](crate::Cache).
///
/// ```
/// let options = layerslayer::CacheOptions::new("/var/cache/layers").size(512 << 20);
/// assert_eq!(options.directory()?, std::path::Path::new("/var/cache/layers"));
/// # Ok::<(), layerslayer::CacheError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheOptions {
    directory: Option<PathBuf>,
    bytes: u64,
    shared: Option<String>,
    keys: Vec<PathBuf>,
}

impl CacheOptions {
    /// Settings for a cache of at most 2 GiB in this directory.
    ///
    /// ```
    /// let options = layerslayer::CacheOptions::new("/var/cache/layers");
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()), bytes: DEFAULT_BYTES, shared: None, keys: Vec::new() }
    }

    /// Settings from the environment:
    ///
    /// - `LAYERSLAYER_CACHE_DIR`: the directory; by default `layerslayer` in the user's cache directory (`$XDG_CACHE_HOME`,
    ///   `~/.cache`).
    /// - `LAYERSLAYER_CACHE_SIZE`: the size in bytes, or with a suffix `K`, `M` or `G` (powers of 1,024); by default 2 GiB.
    /// - `LAYERSLAYER_TOC_STORE`: the address of the shared TOC store ([`Self::shared`]).
    /// - `LAYERSLAYER_TOC_KEY`: key files, separated by colons ([`Self::key`]).
    ///
    /// Empty variables count as unset.
    ///
    /// ```
    /// let options = layerslayer::CacheOptions::from_environment()?;
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the size is malformed.
    pub fn from_environment() -> Result<Self, CacheError> {
        let options = Self::from_variables(env::var_os(DIRECTORY_VARIABLE), env::var_os(SIZE_VARIABLE))?;
        let keys = env::var_os(KEY_VARIABLE).filter(|text| !text.is_empty());
        let keys = keys.iter().flat_map(env::split_paths).collect();
        let shared = env::var_os(STORE_VARIABLE).filter(|text| !text.is_empty());
        let shared = shared.map(|text| text.to_string_lossy().into_owned());
        Ok(Self { shared, keys, ..options })
    }

    fn from_variables(directory: Option<OsString>, size: Option<OsString>) -> Result<Self, CacheError> {
        let directory = directory.filter(|text| !text.is_empty()).map(PathBuf::from);
        let bytes = match size.filter(|text| !text.is_empty()) {
            None => DEFAULT_BYTES,
            Some(text) => text.to_str().and_then(parse_size).ok_or_else(|| {
                CacheError::setting(format!(
                    "{SIZE_VARIABLE}: {text:?} is not a size (bytes, or a number followed by K, M or G)"
                ))
            })?,
        };
        Ok(Self { directory, bytes, shared: None, keys: Vec::new() })
    }

    /// Sets the most bytes that the cache may use.
    ///
    /// ```
    /// let options = layerslayer::CacheOptions::new("/var/cache/layers").size(512 << 20);
    /// assert_eq!(options.capacity(), 512 << 20);
    /// ```
    #[must_use]
    pub fn size(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Also looks for TOCs in this shared store: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` (with
    /// credentials from the environment) or `file:///DIRECTORY`. Needs the feature `object-store`. Only TOCs signed by a
    /// [key](Self::key) are trusted. TOCs reveal what layers contain: share a store only between users who may see the same
    /// images.
    ///
    /// ```
    /// let options = layerslayer::CacheOptions::new("cache").shared("s3://tocs/team").key("team.pem");
    /// ```
    #[must_use]
    pub fn shared(self, address: impl Into<String>) -> Self {
        Self { shared: Some(address.into()), ..self }
    }

    /// Trusts shared TOCs signed by the key in this file (PEM). With a private key, this machine also signs and shares the TOCs that
    /// it builds. Repeatable.
    ///
    /// ```
    /// let options = layerslayer::CacheOptions::new("cache").key("ours.pem").key("theirs.pem");
    /// ```
    #[must_use]
    pub fn key(mut self, file: impl Into<PathBuf>) -> Self {
        self.keys.push(file.into());
        self
    }

    pub(super) fn shared_address(&self) -> Option<&str> {
        self.shared.as_deref()
    }

    pub(super) fn keys(&self) -> &[PathBuf] {
        &self.keys
    }

    /// The most bytes that the cache may use.
    ///
    /// ```
    /// assert_eq!(layerslayer::CacheOptions::new("/var/cache/layers").capacity(), 2 << 30);
    /// ```
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.bytes
    }

    /// The directory. It need not exist.
    ///
    /// ```
    /// let options = layerslayer::CacheOptions::from_environment()?;
    /// println!("{}", options.directory()?.display());
    /// # Ok::<(), layerslayer::CacheError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if no directory was set and the user has no home directory.
    pub fn directory(&self) -> Result<PathBuf, CacheError> {
        if let Some(directory) = &self.directory {
            return Ok(directory.clone());
        }
        let strategy = etcetera::choose_base_strategy().map_err(|_| {
            CacheError::homeless(format!(
                "the user has no home directory for the cache: set {DIRECTORY_VARIABLE}"
            ))
        })?;
        Ok(strategy.cache_dir().join(NAME))
    }
}

/// Parses a number of bytes: digits, optionally followed by `K`, `M` or `G` for powers of 1,024.
///
/// ```
/// assert_eq!(layerslayer::parse_size("2G"), Some(2 << 30));
/// assert_eq!(layerslayer::parse_size("2 GB"), None);
/// ```
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (text.get(..at)?, 10),
        (at, 'M' | 'm') => (text.get(..at)?, 20),
        (at, 'G' | 'g') => (text.get(..at)?, 30),
        _ => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(directory: &str, size: &str) -> Result<CacheOptions, CacheError> {
        CacheOptions::from_variables(Some(directory.into()), Some(size.into()))
    }

    #[test]
    fn sizes_are_bytes_or_binary_multiples() {
        let cases = [("0", 0), ("4096", 4096), ("3K", 3 << 10), ("5m", 5 << 20), ("2G", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "K", "-1", "+1", "1.5G", "1T", "1 G", "1GB", "18446744073709551616", "17179869184G"]
        {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_malformed_size_is_an_error_and_an_empty_variable_counts_as_unset() {
        assert!(from("", "lots").unwrap_err().is_setting());
        let options = from("", "").unwrap();
        assert_eq!((options.directory, options.bytes), (None, 2 << 30));
        let options = from("d", "1K").unwrap();
        assert_eq!((options.directory, options.bytes), (Some("d".into()), 1 << 10));
    }
}
