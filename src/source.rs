//! Ranges of a blob, wherever it lies.

use std::{fmt, ops::Range};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
    stream::BoxStream,
};

use crate::{offset::Compressed, registry};

pub(crate) mod file;
pub(crate) mod growing;
pub(crate) mod local;
pub(crate) mod registry_blob;
pub(crate) mod told;

/// The bytes of one range, in order, in pieces of the transport's choosing.
pub(crate) type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// A blob of known size that can be read by range.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// The blob's size in bytes, compressed.
    fn size(&self) -> u64;

    /// Opens the bytes of `range`, which lies within `0..size`. The stream yields exactly that many bytes or an error; dropping
    /// it ends the transfer.
    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>>;

    /// Whether reading range by range keeps bytes from being sent that nobody will read: not from a file, which is read as far as
    /// it is wanted, nor from a server that was seen to ignore ranges.
    fn wants_ranges(&self) -> bool {
        false
    }

    /// Whether each range costs all bytes before it too: from a server that was seen to ignore ranges.
    fn ignores_ranges(&self) -> bool {
        false
    }

    /// Gets ready for so many further ranges to be asked for at once, as far as that takes time. It fails in silence, and may be
    /// dropped.
    fn prepare(&self, ranges: usize) -> BoxFuture<'static, ()> {
        let _ = ranges;
        future::ready(()).boxed()
    }

    /// Bytes that may still be asked for.
    fn allowance(&self) -> u64 {
        u64::MAX
    }
}

/// Why bytes of a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A local file failed.
    #[error("reading {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A local image lacks a blob, or holds another one under its name.
    #[error("{name} {problem}")]
    Local {
        /// The blob's file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}
