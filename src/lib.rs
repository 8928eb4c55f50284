//! Look inside container images without pulling them.
//!
//! [`Client::image`] opens an image in a registry, an OCI layout or a `docker save` archive; an [`Image`] tells of its
//! [`Layer`]s, lists what they hold ([`Layer::entries`], [`Image::rootfs`]) and brings out files as a container would see them
//! ([`Image::carve`], [`Image::collect`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use layerslayer::{Client, Platform};
//!
//! let client = Client::builder().build()?;
//! let image = client.image(&"nginx:alpine".parse()?, &Platform::default()).await?;
//! let mut file = image.carve("/etc/passwd").await?;
//! while let Some(piece) = file.next().await {
//!     println!("{} bytes", piece?.len());
//! }
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic"))]

mod auth;
pub mod blocking;
mod build_toc;
mod cache;
mod carve;
mod client;
mod decompress;
mod error;
mod files;
mod hint;
mod image;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod layer;
#[cfg_attr(
    not(feature = "stores"),
    allow(dead_code, reason = "limits of files that the engine alone does not read")
)]
mod limits;
mod oci;
mod offset;
mod open;
mod peek;
mod progress;
mod read;
mod reader;
mod referrers;
mod registry;
mod scan;
mod source;
mod tar;
mod threads;
mod toc;
mod tree;

pub use auth::{
    Candidate, Credential, CredentialError, CredentialKind, CredentialProvider, CredentialQuery,
    CredentialStore, Credentials, RegistryKey, StoredEntry,
};
#[cfg(feature = "stores")]
pub use auth::{
    helper_server::HelperRequest,
    migrate::{Migrated, MigrationOptions, MigrationOutcome, MigrationSource},
    passphrase::PassphrasePurpose,
    store::choice::StoreKind,
};
pub use build_toc::BuiltToc;
pub use cache::{Cache, CacheError, CacheOptions, CachedToc, Removed, SigningKey, parse_size};
pub use carve::{CarveOptions, Collection, DirectoryEntry, File, Item, LayerBlob, Outcome, Selection};
pub use client::{Client, ClientBuilder, DeviceSignIn, Login, PushedArtifact, Transferred};
pub use error::Error;
pub use hint::Hint;
pub use image::Image;
pub use layer::Layer;
pub use limits::Limits;
pub use oci::{
    digest::{Algorithm, Digest, DigestError},
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
pub use offset::{Compressed, Uncompressed};
pub use open::OpenFile;
pub use peek::{Entries, LayersInTurn, PeekOptions, PlannedRead, Rootfs, RootfsEntry};
pub use progress::{Event, EventImage, EventLayer, Progress, Request, RequestMethod, RequestTarget, Silent};
pub use read::{method::ReadMethod, verification::Verification};
pub use registry::AddressPolicy;
pub use scan::{Found, Scan, ScanAction, ScanCache, ScanContent, ScanOptions};
pub use tar::entry::{Entry, EntryKind, Timestamp, Xattrs};
pub use tree::{Change, Tree, TreeEntry};

/// Compiles the programs in the guide as doctests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Guide;
