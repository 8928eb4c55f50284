//! Every cap on what a peer sizes, with its unit. Nothing from outside is allocated before it is held against one of these.

use std::time::Duration;

/// Largest manifest or image index accepted, in bytes (the distribution specification's own recommendation).
///
/// ```
/// assert_eq!(layerslayer::limits::MANIFEST_BYTES, 4 * 1024 * 1024);
/// ```
pub const MANIFEST_BYTES: u64 = 4 << 20;

/// Largest image configuration accepted, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::CONFIG_BYTES, 8 * 1024 * 1024);
/// ```
pub const CONFIG_BYTES: u64 = 8 << 20;

/// Largest token server response accepted, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::TOKEN_BYTES, 1024 * 1024);
/// ```
pub const TOKEN_BYTES: u64 = 1 << 20;

/// Largest body of an error response that is read, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::ERROR_BODY_BYTES, 16 * 1024);
/// ```
pub const ERROR_BODY_BYTES: u64 = 16 << 10;

/// Most nested image indexes.
///
/// ```
/// assert_eq!(layerslayer::limits::INDEX_DEPTH, 4);
/// ```
pub const INDEX_DEPTH: usize = 4;

/// Most layers accepted in one image.
///
/// ```
/// assert_eq!(layerslayer::limits::LAYERS, 1_024);
/// ```
pub const LAYERS: usize = 1_024;

/// Longest entry path or link target in a tar archive, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::PATH_BYTES, 32 * 1024);
/// ```
pub const PATH_BYTES: u64 = 32 << 10;

/// Most components walked for one path, those of the symbolic links in it included. Linux walks 2,048 at most
/// in a path of its longest length (`PATH_MAX`, 4,096 bytes).
///
/// ```
/// assert_eq!(layerslayer::limits::PATH_COMPONENTS, 4_096);
/// ```
pub const PATH_COMPONENTS: usize = 4_096;

/// Largest PAX extended header or GNU long name, in bytes. Extended attributes live here too.
///
/// ```
/// assert_eq!(layerslayer::limits::PAX_BYTES, 1024 * 1024);
/// ```
pub const PAX_BYTES: u64 = 1 << 20;

/// Most bytes of PAX global headers that are kept, names and values together. They are copied into every entry.
///
/// ```
/// assert_eq!(layerslayer::limits::PAX_GLOBAL_BYTES, 64 * 1024);
/// ```
pub const PAX_GLOBAL_BYTES: u64 = 64 << 10;

/// Most segments in the map of one sparse file.
///
/// ```
/// assert_eq!(layerslayer::limits::SPARSE_SEGMENTS, 1_048_576);
/// ```
pub const SPARSE_SEGMENTS: usize = 1 << 20;

/// Symbolic links followed in one path resolution (Linux: `MAXSYMLINKS`).
///
/// ```
/// assert_eq!(layerslayer::limits::SYMLINKS, 40);
/// ```
pub const SYMLINKS: usize = 40;

/// Most entries kept of one layer.
///
/// ```
/// assert_eq!(layerslayer::limits::ENTRIES, 16_777_216);
/// ```
pub const ENTRIES: usize = 16 << 20;

/// Most bytes of names (paths and link targets) kept of one layer.
///
/// ```
/// assert_eq!(layerslayer::limits::NAME_BYTES, 2 * 1024 * 1024 * 1024);
/// ```
pub const NAME_BYTES: u64 = 2 << 30;

/// Largest zstd window, as a power of two: 128 MiB, the limit of RFC 8878's long mode.
///
/// ```
/// assert_eq!(layerslayer::limits::ZSTD_WINDOW_LOG, 27);
/// ```
pub const ZSTD_WINDOW_LOG: u32 = 27;

/// Largest zstd window, in bytes, of which there may be many at a time; of larger ones only one is alive in the process.
///
/// ```
/// assert_eq!(layerslayer::limits::ZSTD_SMALL_WINDOW_BYTES, 8 * 1024 * 1024);
/// ```
pub const ZSTD_SMALL_WINDOW_BYTES: u64 = 8 << 20;

/// Longest wait for the turn of a large zstd window while whoever has it does nothing.
///
/// ```
/// assert_eq!(layerslayer::limits::ZSTD_WINDOW_PATIENCE.as_secs(), 30);
/// ```
pub const ZSTD_WINDOW_PATIENCE: Duration = Duration::from_secs(30);

/// Longest gzip header (name, comment and extra field together), in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::GZIP_HEADER_BYTES, 256 * 1024);
/// ```
pub const GZIP_HEADER_BYTES: u64 = 256 << 10;

/// Bytes before the wanted range that are read again and thrown away when a server ignores `Range` and its answers break off. What lies
/// before a range is read once, however far that is: a server of this kind has no shorter way.
///
/// ```
/// assert_eq!(layerslayer::limits::SKIP_BYTES, 64 * 1024 * 1024);
/// ```
pub const SKIP_BYTES: u64 = 64 << 20;

/// Redirects followed for one request.
///
/// ```
/// assert_eq!(layerslayer::limits::REDIRECTS, 5);
/// ```
pub const REDIRECTS: usize = 5;

/// Longest address that a server may send us to, in bytes. Presigned links have some two thousand.
///
/// ```
/// assert_eq!(layerslayer::limits::URL_BYTES, 16 * 1024);
/// ```
pub const URL_BYTES: usize = 16 << 10;

/// Most entries accepted in one image index.
///
/// ```
/// assert_eq!(layerslayer::limits::MANIFESTS, 16_384);
/// ```
pub const MANIFESTS: usize = 16_384;

/// Most items in any other list or map of a manifest or configuration.
///
/// ```
/// assert_eq!(layerslayer::limits::DOCUMENT_ITEMS, 16_384);
/// ```
pub const DOCUMENT_ITEMS: usize = 16_384;

/// Bytes of a response that nobody wants any more, up to which it is read to its end so that the connection lives on.
///
/// ```
/// assert_eq!(layerslayer::limits::DRAIN_BYTES, 64 * 1024);
/// ```
pub const DRAIN_BYTES: u64 = 64 << 10;

/// Longest wait that a server may ask for with `Retry-After`.
///
/// ```
/// assert_eq!(layerslayer::limits::RETRY_AFTER.as_secs(), 60);
/// ```
pub const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Longest lifetime that is believed of a token, in seconds.
///
/// ```
/// assert_eq!(layerslayer::limits::TOKEN_LIFETIME_SECONDS, 86_400);
/// ```
pub const TOKEN_LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Authentication challenges read from one response.
///
/// ```
/// assert_eq!(layerslayer::limits::CHALLENGES, 16);
/// ```
pub const CHALLENGES: usize = 16;

/// Largest `config.json` of docker that is read, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::DOCKER_CONFIG_BYTES, 4 * 1024 * 1024);
/// ```
pub const DOCKER_CONFIG_BYTES: u64 = 4 << 20;

/// Largest `registries.conf`, or file of `registries.conf.d`, that is read, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::REGISTRIES_CONF_BYTES, 1 << 20);
/// ```
pub const REGISTRIES_CONF_BYTES: u64 = 1 << 20;

/// Most files of one `registries.conf.d` that are read.
///
/// ```
/// assert_eq!(layerslayer::limits::REGISTRIES_CONF_FILES, 1_000);
/// ```
pub const REGISTRIES_CONF_FILES: usize = 1_000;

/// Most credential helpers of `registries.conf` that are asked for one registry: each may take [`HELPER_WAIT`].
///
/// ```
/// assert_eq!(layerslayer::limits::HELPERS, 8);
/// ```
pub const HELPERS: usize = 8;

/// Most members of an image archive (`oci-archive:`, `docker-archive:`).
///
/// ```
/// assert_eq!(layerslayer::limits::ARCHIVE_MEMBERS, 65_536);
/// ```
pub const ARCHIVE_MEMBERS: usize = 1 << 16;

/// Largest image archive that a compressed one may unpack to, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::UNPACKED_ARCHIVE_BYTES, 64 * 1024 * 1024 * 1024);
/// ```
pub const UNPACKED_ARCHIVE_BYTES: u64 = 64 << 30;

/// Largest table of contents of a publisher that is read from a blob, in bytes, before and after it is unpacked.
///
/// ```
/// assert_eq!(layerslayer::limits::TOC_BYTES, 256 * 1024 * 1024);
/// ```
pub const TOC_BYTES: u64 = 256 << 20;

/// Most chunks of content that a publisher's table of contents may list.
///
/// ```
/// assert_eq!(layerslayer::limits::TOC_CHUNKS, 2_097_152);
/// ```
pub const TOC_CHUNKS: usize = 2 << 20;

/// Pages of the list of what refers to an image that are read. Together they have at most [`MANIFEST_BYTES`].
///
/// ```
/// assert_eq!(layerslayer::limits::REFERRERS_PAGES, 16);
/// ```
pub const REFERRERS_PAGES: usize = 16;

/// Largest stored table of a layer that is read, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::STORED_TOC_BYTES, 1024 * 1024 * 1024);
/// ```
pub const STORED_TOC_BYTES: u64 = 1 << 30;

/// Longest note in the cache of what a tag was or how a registry was found, in bytes. References have a few hundred.
///
/// ```
/// assert_eq!(layerslayer::limits::CACHE_RECORD_BYTES, 16 * 1024);
/// ```
pub const CACHE_RECORD_BYTES: u64 = 16 << 10;

/// Most spans of a layer in a stored table of contents: enough for 1 TiB unpacked.
///
/// ```
/// assert_eq!(layerslayer::limits::SPANS, 1_048_576);
/// ```
pub const SPANS: usize = 1 << 20;

/// Most places in a stored table of contents where a read may end.
///
/// ```
/// assert_eq!(layerslayer::limits::PROGRESS, 16_777_216);
/// ```
pub const PROGRESS: usize = 16 << 20;

/// Largest encoded window in a stored table of contents, in bytes. Unpacked it has at most 32 KiB.
///
/// ```
/// assert_eq!(layerslayer::limits::WINDOW_BYTES, 64 * 1024);
/// ```
pub const WINDOW_BYTES: u64 = 64 << 10;

/// Largest saved state of a digest, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::DIGEST_STATE_BYTES, 1024);
/// ```
pub const DIGEST_STATE_BYTES: u64 = 1 << 10;

/// Longest span of a SOCI index that is read, in bytes of the blob: it is kept until its digest is checked.
///
/// ```
/// assert_eq!(layerslayer::limits::ZTOC_SPAN_BYTES, 64 * 1024 * 1024);
/// ```
pub const ZTOC_SPAN_BYTES: u64 = 64 << 20;
/// Largest file of credentials of our own that is read, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::CREDENTIALS_BYTES, 4 << 20);
/// ```
pub const CREDENTIALS_BYTES: u64 = 4 << 20;

/// Longest passphrase read from a file descriptor, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::PASSPHRASE_BYTES, 4 << 10);
/// ```
pub const PASSPHRASE_BYTES: u64 = 4 << 10;

/// Longest wait for another process of ours that writes credentials.
///
/// ```
/// assert_eq!(layerslayer::limits::LOCK_WAIT.as_secs(), 30);
/// ```
pub const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Most memory that the header of an encrypted file may ask of Argon2id, in KiB.
///
/// ```
/// assert_eq!(layerslayer::limits::ARGON2_KIB, 1 << 20);
/// ```
pub const ARGON2_KIB: u32 = 1 << 20;

/// Most passes over it.
///
/// ```
/// assert_eq!(layerslayer::limits::ARGON2_PASSES, 64);
/// ```
pub const ARGON2_PASSES: u32 = 64;

/// Most lanes of it.
///
/// ```
/// assert_eq!(layerslayer::limits::ARGON2_LANES, 16);
/// ```
pub const ARGON2_LANES: u32 = 16;

/// Longest that a credential helper may take.
///
/// ```
/// assert_eq!(layerslayer::limits::HELPER_WAIT.as_secs(), 10);
/// ```
pub const HELPER_WAIT: Duration = Duration::from_secs(10);

/// Most output of a credential helper that is read, in bytes.
///
/// ```
/// assert_eq!(layerslayer::limits::HELPER_BYTES, 1 << 20);
/// ```
pub const HELPER_BYTES: u64 = 1 << 20;
