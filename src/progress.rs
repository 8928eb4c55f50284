//! How the engine tells what it is doing; the command line draws bars from it.

use crate::oci::digest::Digest;

/// Receives the progress of transfers. All methods default to doing nothing and must return quickly.
pub trait Progress: Send + Sync {
    /// A layer's blob of `total` compressed bytes is about to be read.
    fn layer_started(&self, _layer: usize, _digest: &Digest, _total: u64) {}

    /// `bytes` more compressed bytes of the layer have arrived.
    fn layer_advanced(&self, _layer: usize, _bytes: u64) {}

    /// No more of the layer is being read, for now.
    fn layer_finished(&self, _layer: usize) {}

    /// Something the user should know that is not an error.
    fn warning(&self, _message: &str) {}
}

/// Progress that nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
