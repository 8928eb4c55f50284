//! How the engine tells what it is doing; the command line draws bars from it.

use crate::oci::digest::Digest;

/// Receives the progress of transfers. All methods default to doing nothing and must return quickly.
///
/// ```no_run
/// use std::sync::Arc;
///
/// struct Warnings;
///
/// impl layerslayer::Progress for Warnings {
///     fn warning(&self, message: &str) {
///         eprintln!("warning: {message}");
///     }
/// }
///
/// let client = layerslayer::Client::builder().progress(Arc::new(Warnings)).build()?;
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub trait Progress: Send + Sync {
    /// A layer's blob of `total` compressed bytes is about to be read.
    ///
    /// ```
    /// struct Lines;
    ///
    /// impl layerslayer::Progress for Lines {
    ///     fn layer_started(&self, layer: usize, digest: &layerslayer::Digest, total: u64) {
    ///         eprintln!("layer {layer}: {digest}, {total} bytes");
    ///     }
    /// }
    /// ```
    fn layer_started(&self, _layer: usize, _digest: &Digest, _total: u64) {}

    /// `bytes` more compressed bytes of the layer have arrived.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// struct Total(AtomicU64);
    ///
    /// impl layerslayer::Progress for Total {
    ///     fn layer_advanced(&self, _layer: usize, bytes: u64) {
    ///         self.0.fetch_add(bytes, Ordering::Relaxed);
    ///     }
    /// }
    /// ```
    fn layer_advanced(&self, _layer: usize, _bytes: u64) {}

    /// No more of the layer is being read, for now.
    ///
    /// ```
    /// struct Lines;
    ///
    /// impl layerslayer::Progress for Lines {
    ///     fn layer_finished(&self, layer: usize) {
    ///         eprintln!("layer {layer}: done");
    ///     }
    /// }
    /// ```
    fn layer_finished(&self, _layer: usize) {}

    /// Something the user should know that is not an error.
    ///
    /// ```
    /// struct Lines;
    ///
    /// impl layerslayer::Progress for Lines {
    ///     fn warning(&self, message: &str) {
    ///         eprintln!("warning: {message}");
    ///     }
    /// }
    /// ```
    fn warning(&self, _message: &str) {}
}

/// Progress that nobody watches.
///
/// ```no_run
/// let silent = std::sync::Arc::new(layerslayer::Silent);
/// let client = layerslayer::Client::builder().progress(silent).build()?;
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
