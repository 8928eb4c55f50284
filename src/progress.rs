//! How the engine tells what it is doing; the command line draws bars from it.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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

    /// A request has been answered as far as anybody wants it, or has failed; of a local image, a stretch of a layer has been read.
    ///
    /// ```
    /// struct Requests;
    ///
    /// impl layerslayer::Progress for Requests {
    ///     fn request(&self, request: &layerslayer::Request) {
    ///         eprintln!("{request}");
    ///     }
    /// }
    /// ```
    fn request(&self, _request: &Request) {}

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

/// One request to a registry, a token server or wherever they send us, once it is over; or one read of a local image's layer. It
/// holds no secrets: of addresses only scheme, host and port.
///
/// ```
/// use layerslayer::{Progress, Request, RequestTarget};
///
/// struct Costs;
///
/// impl Progress for Costs {
///     fn request(&self, request: &Request) {
///         if let RequestTarget::Blob(digest) = &request.target {
///             eprintln!("{digest}: {} bytes", request.bytes);
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// How it was asked for.
    pub method: RequestMethod,
    /// What was asked for.
    pub target: RequestTarget,
    /// Who was asked: `https://registry.example.com:5000`; nobody for what is read locally.
    pub server: Option<String>,
    /// The bytes asked for, if not all of them.
    pub range: Option<Range<u64>>,
    /// The HTTP status that came back; `None` if no answer came, and for what is read locally.
    pub status: Option<u16>,
    /// Bytes of the answer's body that were read.
    pub bytes: u64,
}

/// How something was asked for.
///
/// ```
/// assert_eq!(layerslayer::RequestMethod::Get.to_string(), "GET");
/// assert_eq!(layerslayer::RequestMethod::Read.to_string(), "read");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RequestMethod {
    /// HTTP's GET.
    Get,
    /// HTTP's HEAD.
    Head,
    /// HTTP's POST.
    Post,
    /// HTTP's PUT.
    Put,
    /// Reading from a local image.
    Read,
}

/// What a request was for.
///
/// ```
/// let target = layerslayer::RequestTarget::Manifest("latest".to_owned());
/// assert_eq!(target.to_string(), "manifest latest");
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RequestTarget {
    /// The root of the registry's API, to learn how to log in.
    Api,
    /// A layer or a configuration.
    Blob(Digest),
    /// A manifest or image index, by tag or digest.
    Manifest(String),
    /// A token.
    Token,
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

/// Tells of everything but warnings, which wait until it is known that they are called for.
pub(crate) struct Unconfirmed {
    told: Arc<dyn Progress>,
    /// Those that wait; `None` once they need not.
    waiting: Mutex<Option<Vec<String>>>,
}

impl Unconfirmed {
    pub(crate) fn new(told: Arc<dyn Progress>) -> Self {
        Self { told, waiting: Mutex::new(Some(Vec::new())) }
    }

    /// They are called for, and so are those to come.
    pub(crate) fn confirm(&self) {
        let waiting = self.waiting().take();
        waiting.into_iter().flatten().for_each(|message| self.told.warning(&message));
    }

    /// A panic elsewhere leaves a whole list.
    fn waiting(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Unconfirmed {
    fn layer_started(&self, layer: usize, digest: &Digest, total: u64) {
        self.told.layer_started(layer, digest, total);
    }

    fn layer_advanced(&self, layer: usize, bytes: u64) {
        self.told.layer_advanced(layer, bytes);
    }

    fn layer_finished(&self, layer: usize) {
        self.told.layer_finished(layer);
    }

    fn request(&self, request: &Request) {
        self.told.request(request);
    }

    fn warning(&self, message: &str) {
        match &mut *self.waiting() {
            Some(waiting) => waiting.push(message.to_owned()),
            None => self.told.warning(message),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        if let Some(range) = &self.range {
            write!(f, " bytes {}..{}", range.start, range.end)?;
        }
        if let Some(server) = &self.server {
            write!(f, " from {server}")?;
        }
        match (self.status, self.method) {
            (Some(status), _) => write!(f, ": {status}, {} bytes came", self.bytes),
            (None, RequestMethod::Read) => write!(f, ": {} bytes read", self.bytes),
            (None, _) => f.write_str(": no answer"),
        }
    }
}

impl fmt::Display for RequestMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Read => "read",
        })
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str("API root"),
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Manifest(reference) => write!(f, "manifest {reference}"),
            Self::Token => f.write_str("token"),
        }
    }
}

/// A request under way; tells of it when dropped.
pub(crate) struct Ongoing {
    progress: Arc<dyn Progress>,
    request: Request,
}

impl Ongoing {
    /// Begins with nothing answered.
    pub(crate) fn new(progress: Arc<dyn Progress>, method: RequestMethod, target: RequestTarget) -> Self {
        let request = Request { method, target, server: None, range: None, status: None, bytes: 0 };
        Self { progress, request }
    }

    /// Says who is asked.
    pub(crate) fn of(mut self, server: String) -> Self {
        self.request.server = Some(server);
        self
    }

    /// Says what part is asked for.
    pub(crate) fn range(mut self, range: Option<Range<u64>>) -> Self {
        self.request.range = range;
        self
    }

    /// The head of an answer has come.
    pub(crate) fn answered(&mut self, status: u16) {
        self.request.status = Some(status);
    }

    /// So many bytes more have come.
    pub(crate) fn advanced(&mut self, bytes: u64) {
        self.request.bytes = self.request.bytes.saturating_add(bytes);
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.progress.request(&self.request);
    }
}
