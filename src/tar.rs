//! The tar format: bytes in, entries out.

mod decoder;
pub(crate) mod entry;
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

pub(crate) use self::{
    decoder::{Decoder, Event},
    error::{Error, ErrorKind},
    path::normalise,
};
