//! Names and documents of the OCI specifications, as types that cannot be malformed.

pub mod digest;
