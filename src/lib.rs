//! Look inside container images without pulling them.
#![allow(dead_code)]

mod decompress;
pub mod limits;
pub mod oci;
pub mod offset;
pub mod tar;

pub use oci::{
    digest::{Digest, DigestError},
    manifest::{
        Descriptor, FieldProblem, HistoryEntry, ImageConfig, ImageIndex, ImageManifest, Manifest,
        ManifestError,
    },
    media_type::{MediaType, MediaTypeError},
    platform::{Platform, PlatformError, PlatformErrorKind},
    reference::{
        ArchiveImage, ImageReference, LayoutImage, Part, Reference, ReferenceError, ReferenceErrorKind,
    },
};
