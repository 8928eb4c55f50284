//! Names and documents of the OCI specifications, as types that are always well-formed.

pub(crate) mod digest;
pub(crate) mod manifest;
pub(crate) mod media_type;
pub(crate) mod platform;
pub(crate) mod reference;
