//! Every cap on a size that a peer chooses, with its unit. Nothing from outside is allocated before it is checked against one.

use std::time::Duration;

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

/// Longest entry path or link target in a tar archive, in bytes.
pub(crate) const PATH_BYTES: u64 = 32 << 10;

/// Most components walked for one path, including those of symbolic links in it. Linux walks at most 2,048 in a path of the
/// maximum length (`PATH_MAX`, 4,096 bytes).
pub(crate) const PATH_COMPONENTS: usize = 4_096;

/// Largest PAX extended header or GNU long name, in bytes. Extended attributes are in PAX headers too.
pub(crate) const PAX_BYTES: u64 = 1 << 20;

/// Most bytes kept of PAX global headers, names and values together. They apply to every entry.
pub(crate) const PAX_GLOBAL_BYTES: u64 = 64 << 10;

/// Most segments in the map of one sparse file.
pub(crate) const SPARSE_SEGMENTS: usize = 1 << 20;

/// Symbolic links followed in one path resolution (Linux: `MAXSYMLINKS`).
pub(crate) const SYMLINKS: usize = 40;

/// Most entries of one layer.
pub(crate) const ENTRIES: usize = 16 << 20;

/// Most bytes of names (paths and link targets) kept of one layer.
pub(crate) const NAME_BYTES: u64 = 2 << 30;

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

/// Longest wait that a server can request with `Retry-After`.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Longest accepted lifetime of a token, in seconds.
pub(crate) const TOKEN_LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Authentication challenges read from one response.
pub(crate) const CHALLENGES: usize = 16;

/// Largest `config.json` of docker, in bytes.
pub(crate) const DOCKER_CONFIG_BYTES: u64 = 4 << 20;

/// Largest `registries.conf`, or file of `registries.conf.d`, in bytes.
pub(crate) const REGISTRIES_CONF_BYTES: u64 = 1 << 20;

/// Most files of one `registries.conf.d`.
pub(crate) const REGISTRIES_CONF_FILES: usize = 1_000;

/// Most credential helpers of `registries.conf` that run for one registry: each may take [`HELPER_WAIT`].
pub(crate) const HELPERS: usize = 8;

/// Most members of an image archive (`oci-archive:`, `docker-archive:`).
pub(crate) const ARCHIVE_MEMBERS: usize = 1 << 16;

/// Largest unpacked size of a compressed image archive, in bytes.
pub(crate) const UNPACKED_ARCHIVE_BYTES: u64 = 64 << 30;

/// Largest publisher's TOC in a blob, in bytes, packed and unpacked.
pub(crate) const TOC_BYTES: u64 = 256 << 20;

/// Most chunks of content in a publisher's TOC.
pub(crate) const TOC_CHUNKS: usize = 2 << 20;

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
