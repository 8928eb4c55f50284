//! Reading the bytes of one layer: one pass over the blob ([`pass`]), or the content of entries by a TOC ([`ranged`]).

pub(crate) mod config;
pub(crate) mod decode;
pub(crate) mod hash;
pub(crate) mod method;
pub(crate) mod pass;
pub(crate) mod pool;
pub(crate) mod random;
pub(crate) mod ranged;
pub(crate) mod record;
pub(crate) mod task;
pub(crate) mod verification;
pub(crate) mod visit;
