//! The test support itself, checked against independent tools.

mod archives;
mod homes;
mod registries;
