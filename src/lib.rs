//! Look inside container images without pulling them.
#![allow(dead_code)]

mod decompress;
mod image;
pub mod limits;
pub mod oci;
pub mod offset;
pub mod tar;
mod toc;

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
