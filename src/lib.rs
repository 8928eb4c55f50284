//! Look inside container images without pulling them.
#![allow(dead_code)]

mod auth;
pub mod limits;
pub mod oci;
mod offset;
mod progress;
mod registry;
mod source;
mod tar;

pub use auth::Credential;
pub use oci::digest::{Digest, DigestError};
pub use progress::{Progress, Silent};
