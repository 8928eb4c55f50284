//! Ranges of a blob, wherever it is.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
    stream::BoxStream,
};

use crate::{
    offset::Compressed,
    registry::{self, Transfers},
};

pub(crate) mod adaptive;
pub(crate) mod archive;
pub(crate) mod file;
pub(crate) mod local;
pub(crate) mod registry_blob;
mod spool;
pub(crate) mod traced;

/// The bytes of one range, in order, in chunks of the transport's choosing.
pub(crate) type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// A blob of known size that can be read by range.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// The blob's size in bytes, compressed.
    fn size(&self) -> u64;

    /// Opens `range`, which is within `0..size`. The stream yields exactly that many bytes or an error; dropping it ends the
    /// transfer.
    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>>;

    /// Whether reading range by range saves bytes: false for a file, which is only read as far as needed, and for a server that
    /// was seen to ignore ranges.
    fn wants_ranges(&self) -> bool {
        false
    }

    /// Whether each range also costs all bytes before it, as from a server that was seen to ignore ranges.
    fn ignores_ranges(&self) -> bool {
        false
    }

    /// The transfers that share the host with this blob; `None` if parallel ones cannot be faster.
    fn transfers(&self) -> Option<&Arc<Transfers>> {
        None
    }

    /// Opens connections for this many further ranges. Failures are ignored, and it may be dropped.
    fn prepare(&self, ranges: usize) -> BoxFuture<'static, ()> {
        let _ = ranges;
        future::ready(()).boxed()
    }

    /// Bytes that may still be requested.
    fn allowance(&self) -> u64 {
        u64::MAX
    }
}

/// Why bytes of a blob could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A local file failed.
    #[error("reading {path}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A local image lacks a blob, or has a different one under its name.
    #[error("{name} {problem}")]
    Local {
        /// The blob's file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A temporary copy of an archive could not be written.
    #[error("copying {name} to a temporary file in {directory}")]
    Spool {
        /// The archive.
        name: String,
        /// The directory for temporary files.
        directory: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file cannot be used as an image archive, although it is not damaged.
    #[error("{name}: {problem}")]
    Unusable {
        /// The file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}
