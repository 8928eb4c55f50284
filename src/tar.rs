//! The tar format: bytes in, entries out.

mod decoder;
pub mod entry;
mod error;
mod header;
mod number;
mod overrides;
mod path;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
pub(crate) mod whiteout;

#[allow(unused_imports, reason = "the rooms above use them")]
pub(crate) use self::{
    decoder::{Decoder, Event},
    error::{Error, ErrorKind},
    path::normalise,
};
