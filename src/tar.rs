//! The tar format: bytes in, entries out.

pub mod entry;
