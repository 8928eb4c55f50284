//! Every cap on what a peer sizes, with its unit. Nothing from outside is allocated before it is held against one of these.

use std::time::Duration;

/// Largest manifest or image index accepted, in bytes (the distribution specification's own recommendation).
pub const MANIFEST_BYTES: u64 = 4 << 20;

/// Largest image configuration accepted, in bytes.
pub const CONFIG_BYTES: u64 = 8 << 20;

/// Largest token server response accepted, in bytes.
pub const TOKEN_BYTES: u64 = 1 << 20;

/// Largest body of an error response that is read, in bytes.
pub const ERROR_BODY_BYTES: u64 = 16 << 10;

/// How many image indexes may lie inside each other.
pub const INDEX_DEPTH: usize = 4;

/// Most layers accepted in one image.
pub const LAYERS: usize = 1_024;

/// Longest entry path or link target in a tar archive, in bytes.
pub const PATH_BYTES: u64 = 32 << 10;

/// Most components walked for one path, those of the symbolic links in it included. Linux walks 2,048 at most
/// in a path of its longest length (`PATH_MAX`, 4,096 bytes).
pub const PATH_COMPONENTS: usize = 4_096;

/// Largest PAX extended header or GNU long name, in bytes. Extended attributes live here too.
pub const PAX_BYTES: u64 = 1 << 20;

/// Most bytes of PAX global headers that are kept, names and values together. They are copied into every entry.
pub const PAX_GLOBAL_BYTES: u64 = 64 << 10;

/// Most segments in the map of one sparse file.
pub const SPARSE_SEGMENTS: usize = 1 << 20;

/// Symbolic links followed in one path resolution (Linux: `MAXSYMLINKS`).
pub const SYMLINKS: usize = 40;

/// Most entries kept of one layer.
pub const ENTRIES: usize = 16 << 20;

/// Most bytes of names (paths and link targets) kept of one layer.
pub const NAME_BYTES: u64 = 2 << 30;

/// Largest zstd window, as a power of two: 128 MiB, the limit of RFC 8878's long mode.
pub const ZSTD_WINDOW_LOG: u32 = 27;

/// Largest zstd window, in bytes, of which there may be many at a time; of larger ones only one is alive in the process.
pub const ZSTD_SMALL_WINDOW_BYTES: u64 = 8 << 20;

/// Longest wait for the turn of a large zstd window while whoever has it does nothing.
pub const ZSTD_WINDOW_PATIENCE: Duration = Duration::from_secs(30);

/// Longest gzip header (name, comment and extra field together), in bytes.
pub const GZIP_HEADER_BYTES: u64 = 256 << 10;

/// Bytes before the wanted range that are read and thrown away when a server ignores `Range`.
pub const SKIP_BYTES: u64 = 64 << 20;

/// Redirects followed for one request.
pub const REDIRECTS: usize = 5;

/// Longest address that a server may send us to, in bytes. Presigned links have some two thousand.
pub const URL_BYTES: usize = 16 << 10;

/// Most entries accepted in one image index.
pub const MANIFESTS: usize = 16_384;

/// Most items in any other list or map of a manifest or configuration.
pub const DOCUMENT_ITEMS: usize = 16_384;

/// Bytes of a response that nobody wants any more, up to which it is read to its end so that the connection lives on.
pub const DRAIN_BYTES: u64 = 64 << 10;

/// Longest wait that a server may ask for with `Retry-After`.
pub const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Longest lifetime that is believed of a token, in seconds.
pub const TOKEN_LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Authentication challenges read from one response.
pub const CHALLENGES: usize = 16;

/// Largest `config.json` of docker that is read, in bytes.
pub const DOCKER_CONFIG_BYTES: u64 = 4 << 20;

/// Most members of an image archive (`oci-archive:`, `docker-archive:`).
pub const ARCHIVE_MEMBERS: usize = 1 << 16;

/// Largest image archive that a compressed one may unpack to, in bytes.
pub const UNPACKED_ARCHIVE_BYTES: u64 = 64 << 30;

/// Largest table of contents of a publisher that is read from a blob, in bytes, before and after it is unpacked.
pub const TOC_BYTES: u64 = 256 << 20;

/// Most chunks of content that a publisher's table of contents may list.
pub const TOC_CHUNKS: usize = 2 << 20;

/// Largest stored table of a layer that is read, in bytes.
pub const STORED_TOC_BYTES: u64 = 1 << 30;

/// Longest note of what a tag was, in bytes. References have a few hundred.
pub const TAG_RECORD_BYTES: u64 = 16 << 10;
/// Most spans of a layer in a stored table of contents: enough for 1 TiB unpacked.
pub const SPANS: usize = 1 << 20;

/// Most places in a stored table of contents where a read may end.
pub const PROGRESS: usize = 16 << 20;

/// Largest encoded window in a stored table of contents, in bytes. Unpacked it has at most 32 KiB.
pub const WINDOW_BYTES: u64 = 64 << 10;

/// Largest saved state of a digest, in bytes.
pub const DIGEST_STATE_BYTES: u64 = 1 << 10;
