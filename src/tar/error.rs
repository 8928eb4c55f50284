//! Errors of the tar decoder, with their offset.

use crate::offset::Uncompressed;

/// Why a stream is not a valid tar archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind} at {offset}")]
pub(crate) struct Error {
    /// Start of the malformed field, record or block.
    pub(crate) offset: Uncompressed,
    /// What is wrong.
    pub(crate) kind: ErrorKind,
}

impl Error {
    pub(super) fn new(offset: u64, kind: ErrorKind) -> Self {
        Self { offset: Uncompressed(offset), kind }
    }

    /// Whether the stream does not even start like a tar archive.
    pub(crate) fn is_not_tar(&self) -> bool {
        self.kind == ErrorKind::NotTar
    }
}

/// The kinds of errors. Each text continues with "at byte …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ErrorKind {
    #[error("header checksum does not match")]
    Checksum,
    #[error("extended header larger than {} bytes", crate::limits::PAX_BYTES)]
    ExtensionTooLong,
    #[error("more than {} bytes of global extended headers", crate::limits::PAX_GLOBAL_BYTES)]
    GlobalTooLong,
    #[error("zero block that is not followed by the end of the archive")]
    LoneZeroBlock,
    #[error("negative size")]
    NegativeSize,
    #[error("not a tar archive: no header")]
    NotTar,
    #[error("malformed {field} in a header")]
    Number { field: &'static str },
    #[error("owner name longer than {} bytes", crate::limits::OWNER_NAME_BYTES)]
    OwnerTooLong,
    #[error("path or link target longer than {} bytes", crate::limits::PATH_BYTES)]
    PathTooLong,
    #[error("malformed record in an extended header")]
    PaxRecord,
    #[error("malformed value of {key} in an extended header")]
    PaxValue { key: &'static str },
    #[error("malformed map of a sparse file")]
    SparseMap,
    #[error("more than {} segments in a sparse file", crate::limits::SPARSE_SEGMENTS)]
    SparseTooLong,
    #[error("truncated archive")]
    Truncated,
    #[error("names of extended attributes longer than {} bytes in total", crate::limits::XATTR_BYTES)]
    XattrListTooLong,
    #[error("extended attribute longer than {} bytes", crate::limits::XATTR_BYTES)]
    XattrTooLong,
}
