//! The feature `tracing`: a span for each request, an event for everything else.

use tracing::{Level, Span, field::Empty};

use super::event::{Event, EventImage, EventLayer, Request};

/// The target of all spans and events, for filters.
const TARGET: &str = "layerslayer";

/// The fields that name the image and the layer.
struct Subject<'a> {
    image: Option<&'a str>,
    digest: Option<String>,
    layer: Option<u64>,
}

impl<'a> Subject<'a> {
    fn new(image: Option<&'a EventImage>, layer: Option<&EventLayer>) -> Self {
        Self {
            image: image.map(|image| image.reference.as_str()),
            digest: image.and_then(|image| image.digest.as_ref()).map(ToString::to_string),
            layer: layer.map(|layer| layer.index as u64),
        }
    }
}

/// Emits an event. Requests are spans, see [`request_span`].
pub(super) fn emit(event: &Event) {
    let Subject { image, digest, layer } = Subject::new(event.image(), event.layer());
    match event {
        Event::LayerAdvanced { bytes, .. } => {
            tracing::event!(target: TARGET, Level::TRACE, image, digest, layer, bytes, "layer advanced");
        }
        Event::LayerFinished { .. } => {
            tracing::event!(target: TARGET, Level::DEBUG, image, digest, layer, "layer finished");
        }
        Event::LayerStarted { total, .. } => {
            tracing::event!(target: TARGET, Level::DEBUG, image, digest, layer, total, "layer started");
        }
        Event::Warning { message, .. } => {
            tracing::event!(target: TARGET, Level::WARN, image, digest, layer, "{message}");
        }
        Event::RequestAdvanced { .. } | Event::RequestFinished { .. } | Event::RequestStarted { .. } => {}
    }
}

/// Opens the span of a request.
pub(super) fn request_span(
    image: Option<&EventImage>,
    layer: Option<&EventLayer>,
    id: u64,
    request: &Request,
) -> Span {
    let Subject { image, digest, layer } = Subject::new(image, layer);
    let (method, resource) = (request.method.to_string(), request.target.to_string());
    let server = request.server.as_deref();
    let start = request.range.as_ref().map(|range| range.start);
    let end = request.range.as_ref().map(|range| range.end);
    tracing::span!(
        target: TARGET, Level::DEBUG, "request",
        image, digest, layer, id, method, resource, server, start, end, status = Empty, bytes = Empty,
    )
}

/// Records the result of a request before its span is closed.
pub(super) fn finish_request(span: &Span, request: &Request) {
    if let Some(status) = request.status {
        span.record("status", status);
    }
    span.record("bytes", request.bytes);
}
