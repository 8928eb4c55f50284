//! Every cap on a size that a peer chooses, with its unit. Nothing from outside is allocated before it is checked against one.

use std::time::Duration;

/// The limits that callers can change with [`ClientBuilder::limits`](crate::ClientBuilder::limits). All others are fixed.
///
/// ```
/// use layerslayer::{Client, Limits};
///
/// let limits = Limits::default().with_unpacked_archive_bytes(1 << 30);
/// let client = Client::builder().limits(limits).build()?;
/// # let _ = client;
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Most memory for the entries of one layer, in bytes: 64 and its name for each, with link targets, owners and extended
    /// attributes. 224 MiB by default, enough for three million files. A layer that needs more fails.
    pub layer_entries_bytes: u64,
    /// Largest unpacked size of a compressed image archive, in bytes: it is unpacked into a temporary file. 16 GiB by default.
    pub unpacked_archive_bytes: u64,
}

impl Limits {
    /// Sets [`Self::layer_entries_bytes`].
    ///
    /// ```
    /// use layerslayer::Limits;
    ///
    /// assert_eq!(Limits::default().with_layer_entries_bytes(1 << 20).layer_entries_bytes, 1 << 20);
    /// ```
    #[must_use]
    pub fn with_layer_entries_bytes(mut self, bytes: u64) -> Self {
        self.layer_entries_bytes = bytes;
        self
    }

    /// Sets [`Self::unpacked_archive_bytes`].
    ///
    /// ```
    /// use layerslayer::Limits;
    ///
    /// assert_eq!(Limits::default().with_unpacked_archive_bytes(1 << 20).unpacked_archive_bytes, 1 << 20);
    /// ```
    #[must_use]
    pub fn with_unpacked_archive_bytes(mut self, bytes: u64) -> Self {
        self.unpacked_archive_bytes = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { layer_entries_bytes: LAYER_ENTRIES_BYTES, unpacked_archive_bytes: 16 << 30 }
    }
}

/// Largest manifest or image index, in bytes (recommended by the distribution specification).
pub(crate) const MANIFEST_BYTES: u64 = 4 << 20;

/// Largest image configuration, in bytes.
pub(crate) const CONFIG_BYTES: u64 = 8 << 20;

/// Largest response of a token server, in bytes.
pub(crate) const TOKEN_BYTES: u64 = 1 << 20;

/// Most bytes read of an error response's body.
pub(crate) const ERROR_BODY_BYTES: u64 = 16 << 10;

/// Deepest nesting of image indexes.
pub(crate) const INDEX_DEPTH: usize = 4;

/// Most layers of one image.
pub(crate) const LAYERS: usize = 1_024;

/// Longest entry path or link target in a layer, in bytes. Linux allows 4,095 in one call, but a layer with a longer one can still
/// be read; this leaves room for relative targets with many `..` and for deep trees.
pub(crate) const PATH_BYTES: u64 = 16 << 10;

/// Longest name of an owner or group, in bytes (Linux: `LOGIN_NAME_MAX`).
pub(crate) const OWNER_NAME_BYTES: usize = 256;

/// Longest value of an extended attribute, and longest list of the names of an entry's attributes with a NUL after each, in bytes
/// (Linux: `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
pub(crate) const XATTR_BYTES: usize = 64 << 10;

/// Most components walked for one path, including those of symbolic links in it. Linux walks at most 2,048 in a path of the
/// maximum length (`PATH_MAX`, 4,096 bytes).
pub(crate) const PATH_COMPONENTS: usize = 4_096;

/// Most components that are looked up in all layers to resolve one path, links included.
pub(crate) const PATH_STEPS: usize = 4 << 20;

/// Largest PAX extended header or GNU long name, in bytes. Extended attributes are in PAX headers too.
pub(crate) const PAX_BYTES: u64 = 1 << 20;

/// Most bytes kept of PAX global headers, names and values together. They apply to every entry.
pub(crate) const PAX_GLOBAL_BYTES: u64 = 64 << 10;

/// Most segments in the map of one sparse file.
pub(crate) const SPARSE_SEGMENTS: usize = 1 << 20;

/// Symbolic links followed in one path resolution (Linux: `MAXSYMLINKS`).
pub(crate) const SYMLINKS: usize = 40;

/// The default of [`Limits::layer_entries_bytes`], and the most of a stored TOC.
pub(crate) const LAYER_ENTRIES_BYTES: u64 = 224 << 20;

/// The same for a layer listed by its publisher's TOC, whose chunks take memory too.
pub(crate) const PUBLISHED_ENTRIES_BYTES: u64 = 96 << 20;

/// Memory counted for each entry in addition to its name, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 64;

/// Components of symbolic links' targets that may be walked while the entries of a layer are added: this many in any layer...
pub(crate) const LINK_STEPS: u64 = 1 << 20;

/// ...and this many more for each tar block read, so that the time is linear in the size of the layer.
pub(crate) const LINK_STEPS_PER_BLOCK: u64 = 32;

/// Most bytes of extended attributes in a stored TOC, which repeats shared ones.
pub(crate) const STORED_XATTRS_BYTES: u64 = 64 << 20;

/// Largest zstd window, as a power of two: 128 MiB, the limit of RFC 8878's long mode.
pub(crate) const ZSTD_WINDOW_LOG: u32 = 27;

/// Largest zstd window, in bytes, that may exist many times; of larger ones only one exists in the process.
pub(crate) const ZSTD_SMALL_WINDOW_BYTES: u64 = 8 << 20;

/// Longest wait for a large zstd window while its holder makes no progress.
pub(crate) const ZSTD_WINDOW_PATIENCE: Duration = Duration::from_secs(30);

/// Longest gzip header (name, comment and extra field together), in bytes.
pub(crate) const GZIP_HEADER_BYTES: u64 = 256 << 10;

/// Most bytes before a range that are read again when a server ignores `Range` and its response breaks off. The first time
/// there is no limit, because such a server offers no shorter way.
pub(crate) const SKIP_BYTES: u64 = 64 << 20;

/// Redirects followed for one request.
pub(crate) const REDIRECTS: usize = 5;

/// Longest URL of a redirect, in bytes. Presigned URLs have about two thousand.
pub(crate) const URL_BYTES: usize = 16 << 10;

/// Most entries of one image index.
pub(crate) const MANIFESTS: usize = 16_384;

/// Most items in any other list or map of a manifest or configuration.
pub(crate) const DOCUMENT_ITEMS: usize = 16_384;

/// Most bytes of an unneeded response that are read so that its connection can be reused.
pub(crate) const DRAIN_BYTES: u64 = 64 << 10;

/// Longest accepted lifetime of a token, in seconds.
pub(crate) const TOKEN_LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Authentication challenges read from one response.
pub(crate) const CHALLENGES: usize = 16;

/// Largest file of certificates, in bytes; a system's whole collection has some hundred KiB.
pub(crate) const CERTIFICATES_BYTES: u64 = 8 << 20;

/// Largest `config.json` of docker, in bytes.
pub(crate) const DOCKER_CONFIG_BYTES: u64 = 4 << 20;

/// Largest `registries.conf`, or file of `registries.conf.d`, in bytes.
pub(crate) const REGISTRIES_CONF_BYTES: u64 = 1 << 20;

/// Most files of one `registries.conf.d`.
pub(crate) const REGISTRIES_CONF_FILES: usize = 1_000;

/// Most credential helpers of `registries.conf` that run for one registry: each may take [`HELPER_WAIT`].
pub(crate) const HELPERS: usize = 8;

/// Most index entries without a platform whose configurations are read to find the platform.
pub(crate) const UNSTATED_PLATFORMS: usize = 16;

/// Most members of an image archive (`oci-archive:`, `docker-archive:`).
pub(crate) const ARCHIVE_MEMBERS: usize = 1 << 16;

/// Most bytes of member names and link targets kept of an image archive.
pub(crate) const ARCHIVE_NAME_BYTES: u64 = 64 << 20;

/// Largest publisher's TOC in a blob, in bytes, unpacked.
pub(crate) const TOC_BYTES: u64 = 256 << 20;

/// Largest publisher's TOC as it is stored in a blob, in bytes: it is kept until its digest is verified.
pub(crate) const PACKED_TOC_BYTES: u64 = 64 << 20;

/// Largest publisher's TOC, in bytes, that is unpacked into memory to be parsed; larger ones are parsed while they are unpacked.
pub(crate) const TOC_IN_MEMORY_BYTES: usize = 16 << 20;

/// Largest SOCI zTOC, in bytes: enough for a layer of 12 GB.
pub(crate) const ZTOC_BYTES: u64 = 96 << 20;

/// Most chunks of content in a publisher's TOC.
pub(crate) const TOC_CHUNKS: usize = 1 << 19;

/// Most pages of an image's referrers. Together they have at most [`MANIFEST_BYTES`].
pub(crate) const REFERRERS_PAGES: usize = 16;

/// Largest stored TOC, in bytes.
pub(crate) const STORED_TOC_BYTES: u64 = 1 << 30;

/// Largest cache record of a tag or a registry, in bytes. References have a few hundred.
pub(crate) const CACHE_RECORD_BYTES: u64 = 16 << 10;

/// Most spans in a stored TOC: enough for 1 TiB unpacked.
pub(crate) const SPANS: usize = 1 << 20;

/// Most samples in a stored TOC: positions where a read may end.
pub(crate) const PROGRESS: usize = 16 << 20;

/// Largest encoded window in a stored TOC, in bytes. Unpacked it has at most 32 KiB.
pub(crate) const WINDOW_BYTES: u64 = 64 << 10;

/// Largest saved state of a digest, in bytes.
pub(crate) const DIGEST_STATE_BYTES: u64 = 1 << 10;

/// Longest span of a SOCI index, in bytes of the blob: it is kept until its digest is verified.
pub(crate) const ZTOC_SPAN_BYTES: u64 = 64 << 20;

/// Largest credential file of this program, in bytes.
pub(crate) const CREDENTIALS_BYTES: u64 = 4 << 20;

/// Longest passphrase read from a file descriptor, in bytes.
pub(crate) const PASSPHRASE_BYTES: u64 = 4 << 10;

/// Longest wait for another process of this program that writes credentials.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Most Argon2id memory that the header of an encrypted file can request, in KiB.
pub(crate) const ARGON2_KIB: u32 = 1 << 20;

/// Most Argon2id passes.
pub(crate) const ARGON2_PASSES: u32 = 64;

/// Most Argon2id lanes.
pub(crate) const ARGON2_LANES: u32 = 16;

/// Longest run of a credential helper.
pub(crate) const HELPER_WAIT: Duration = Duration::from_secs(10);

/// Most output read of a credential helper, in bytes.
pub(crate) const HELPER_BYTES: u64 = 1 << 20;

/// Most ranges of one blob that are received in parallel.
pub(crate) const PARALLEL_RANGES: usize = 4;

/// Most bytes of one blob that are buffered while ranges are received in parallel.
pub(crate) const READ_AHEAD_BYTES: u64 = 16 << 20;
