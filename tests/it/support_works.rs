//! The test support itself, held against independent tools.

mod archives;
mod homes;
mod registries;
