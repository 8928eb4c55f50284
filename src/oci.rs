//! Names and documents of the OCI specifications, as types that cannot be malformed.

pub mod digest;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
