//! Every cap on what a peer sizes, with its unit. Nothing from outside is allocated before it is held against one of these.

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

/// Longest gzip header (name, comment and extra field together), in bytes.
pub const GZIP_HEADER_BYTES: u64 = 256 << 10;

/// Bytes before the wanted range that are read and thrown away when a server ignores `Range`.
pub const SKIP_BYTES: u64 = 64 << 20;

/// Redirects followed for one request.
pub const REDIRECTS: usize = 5;
