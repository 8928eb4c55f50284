//! What is reported, and to whom.

use std::{fmt, ops::Range, sync::Arc};

use crate::oci::digest::Digest;

/// Receives the events of a client. [`Progress::event`] must return quickly: the engine waits for it.
///
/// With the cargo feature `tracing`, the same events are also emitted as spans and events of the `tracing` crate, whether or not a
/// client has a `Progress`.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use layerslayer::{Event, Progress};
///
/// struct Warnings;
///
/// impl Progress for Warnings {
///     fn event(&self, event: &Event) {
///         if let Event::Warning { message, .. } = event {
///             eprintln!("warning: {message}");
///         }
///     }
/// }
///
/// let client = layerslayer::Client::builder().progress(Arc::new(Warnings)).build()?;
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub trait Progress: Send + Sync {
    /// Something happened.
    ///
    /// ```
    /// use layerslayer::{Event, Progress};
    ///
    /// struct Lines;
    ///
    /// impl Progress for Lines {
    ///     fn event(&self, event: &Event) {
    ///         if let Event::LayerStarted { layer, total, .. } = event {
    ///             eprintln!("layer {}: {}, {total} bytes", layer.index, layer.digest);
    ///         }
    ///     }
    /// }
    /// ```
    fn event(&self, event: &Event);
}

/// Something that happened while a question was answered.
///
/// Every event names the image that it belongs to, so that a client that works on several images at a time can tell them apart.
///
/// ```
/// use layerslayer::{Event, Progress};
///
/// struct Costs;
///
/// impl Progress for Costs {
///     fn event(&self, event: &Event) {
///         if let (Some(image), Event::RequestFinished { request, .. }) = (event.image(), event) {
///             eprintln!("{}: {request}", image.reference);
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// More bytes of the blob of a layer have arrived.
    #[non_exhaustive]
    LayerAdvanced {
        /// The image of the layer.
        image: Option<Arc<EventImage>>,
        /// The layer.
        layer: EventLayer,
        /// The number of compressed bytes.
        bytes: u64,
    },
    /// The layer is no longer being read, for now.
    #[non_exhaustive]
    LayerFinished {
        /// The image of the layer.
        image: Option<Arc<EventImage>>,
        /// The layer.
        layer: EventLayer,
    },
    /// Reading the blob of a layer starts.
    #[non_exhaustive]
    LayerStarted {
        /// The image of the layer.
        image: Option<Arc<EventImage>>,
        /// The layer.
        layer: EventLayer,
        /// The number of compressed bytes that will be read, if all of them are needed.
        total: u64,
    },
    /// More bytes of the body of a response have been read.
    #[non_exhaustive]
    RequestAdvanced {
        /// The image of the request.
        image: Option<Arc<EventImage>>,
        /// The layer whose blob was requested.
        layer: Option<EventLayer>,
        /// The number of the request, as in its [`Event::RequestStarted`].
        id: u64,
        /// The number of bytes.
        bytes: u64,
    },
    /// A request is over: the response has been read as far as it is needed, or the request has failed.
    #[non_exhaustive]
    RequestFinished {
        /// The image of the request.
        image: Option<Arc<EventImage>>,
        /// The layer whose blob was requested.
        layer: Option<EventLayer>,
        /// The number of the request, as in its [`Event::RequestStarted`].
        id: u64,
        /// The request.
        request: Request,
    },
    /// A request is being sent.
    #[non_exhaustive]
    RequestStarted {
        /// The image of the request.
        image: Option<Arc<EventImage>>,
        /// The layer whose blob is requested.
        layer: Option<EventLayer>,
        /// A number that identifies the request in this process.
        id: u64,
        /// The request, without status and bytes.
        request: Request,
    },
    /// Something that the user should know and that is not an error.
    #[non_exhaustive]
    Warning {
        /// The image that the warning is about.
        image: Option<Arc<EventImage>>,
        /// The layer that the warning is about.
        layer: Option<EventLayer>,
        /// The warning, in words.
        message: String,
    },
}

impl Event {
    /// The image that the event belongs to; `None` for events outside of any image, such as a login.
    ///
    /// ```
    /// fn reference(event: &layerslayer::Event) -> Option<&str> {
    ///     event.image().map(|image| image.reference.as_str())
    /// }
    /// ```
    #[must_use]
    pub fn image(&self) -> Option<&EventImage> {
        match self {
            Self::LayerAdvanced { image, .. }
            | Self::LayerFinished { image, .. }
            | Self::LayerStarted { image, .. }
            | Self::RequestAdvanced { image, .. }
            | Self::RequestFinished { image, .. }
            | Self::RequestStarted { image, .. }
            | Self::Warning { image, .. } => image.as_deref(),
        }
    }

    /// The layer that the event is about, if it is about one.
    ///
    /// ```
    /// fn layer(event: &layerslayer::Event) -> Option<usize> {
    ///     event.layer().map(|layer| layer.index)
    /// }
    /// ```
    #[must_use]
    pub fn layer(&self) -> Option<&EventLayer> {
        match self {
            Self::LayerAdvanced { layer, .. }
            | Self::LayerFinished { layer, .. }
            | Self::LayerStarted { layer, .. } => Some(layer),
            Self::RequestAdvanced { layer, .. }
            | Self::RequestFinished { layer, .. }
            | Self::RequestStarted { layer, .. }
            | Self::Warning { layer, .. } => layer.as_ref(),
        }
    }
}

/// The image that an [`Event`] belongs to.
///
/// ```
/// fn title(image: &layerslayer::EventImage) -> String {
///     match &image.digest {
///         Some(digest) => format!("{} ({digest})", image.reference),
///         None => image.reference.clone(),
///     }
/// }
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct EventImage {
    /// The reference, in full.
    pub reference: String,
    /// The digest of the image manifest, once it is known.
    pub digest: Option<Digest>,
}

/// The layer that an [`Event`] is about.
///
/// ```
/// fn title(layer: &layerslayer::EventLayer) -> String {
///     format!("layer {} ({})", layer.index, layer.digest)
/// }
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct EventLayer {
    /// The index of the layer; 0 is the base.
    pub index: usize,
    /// The digest of its blob; in an archive of `docker save`, its DiffID.
    pub digest: Digest,
}

/// A request to a registry, a token server or the target of a redirect; or a read of a layer of a local image. It contains no
/// secrets: of URLs only scheme, host and port.
///
/// ```
/// use layerslayer::{Event, Progress, RequestTarget};
///
/// struct Costs;
///
/// impl Progress for Costs {
///     fn event(&self, event: &Event) {
///         if let Event::RequestFinished { request, .. } = event
///             && let RequestTarget::Blob(digest) = &request.target
///         {
///             eprintln!("{digest}: {} bytes", request.bytes);
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The method.
    pub method: RequestMethod,
    /// The resource.
    pub target: RequestTarget,
    /// The server, such as `https://registry.example.com:5000`; `None` for local reads.
    pub server: Option<String>,
    /// The requested range of bytes; `None` for the whole resource.
    pub range: Option<Range<u64>>,
    /// The HTTP status of the response; `None` without a response and for local reads.
    pub status: Option<u16>,
    /// The number of bytes of the response body that were read.
    pub bytes: u64,
}

/// The method of a [`Request`].
///
/// ```
/// assert_eq!(layerslayer::RequestMethod::Get.to_string(), "GET");
/// assert_eq!(layerslayer::RequestMethod::Read.to_string(), "read");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RequestMethod {
    /// HTTP GET.
    Get,
    /// HTTP HEAD.
    Head,
    /// HTTP POST.
    Post,
    /// HTTP PUT.
    Put,
    /// A read of a local image.
    Read,
}

/// The resource of a [`Request`].
///
/// ```
/// let target = layerslayer::RequestTarget::Manifest("latest".to_owned());
/// assert_eq!(target.to_string(), "manifest latest");
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RequestTarget {
    /// The root of the registry API, to find out how to authenticate.
    Api,
    /// A layer or a configuration.
    Blob(Digest),
    /// A manifest or image index, by tag or digest.
    Manifest(String),
    /// A token.
    Token,
}

/// A [`Progress`] that ignores all events.
///
/// ```no_run
/// let silent = std::sync::Arc::new(layerslayer::Silent);
/// let client = layerslayer::Client::builder().progress(silent).build()?;
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &Event) {}
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
