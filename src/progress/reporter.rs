//! Adds the image and the layer to events on their way to a [`Progress`].

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::event::{Event, EventImage, EventLayer, Progress, Request, RequestTarget, Silent};
use crate::oci::digest::Digest;

/// Reports the events of one image, or of one layer of it.
#[derive(Clone)]
pub(crate) struct Reporter {
    progress: Arc<dyn Progress>,
    image: Option<Arc<ImageContext>>,
    layer: Option<EventLayer>,
    /// Warnings are held back until they are confirmed.
    held: Option<Arc<HeldWarnings>>,
}

/// What is known about the image so far.
struct ImageContext {
    /// The image while its digest is unknown.
    unresolved: Arc<EventImage>,
    resolved: OnceLock<(Arc<EventImage>, Vec<Digest>)>,
}

/// Warnings that wait for confirmation; `None` once they are confirmed.
struct HeldWarnings(Mutex<Option<Vec<Event>>>);

impl HeldWarnings {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter {
    /// Reports events outside of any image.
    pub(crate) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, image: None, layer: None, held: None }
    }

    /// Reports nothing.
    pub(crate) fn silent() -> Self {
        Self::new(Arc::new(Silent))
    }

    /// Reports events of the image with this reference.
    pub(crate) fn for_image(&self, reference: &impl ToString) -> Self {
        let unresolved = Arc::new(EventImage { reference: reference.to_string(), digest: None });
        let image = Some(Arc::new(ImageContext { unresolved, resolved: OnceLock::new() }));
        Self { image, ..self.clone() }
    }

    /// The digest of the image manifest and the digests of its layers are known.
    pub(crate) fn resolved(&self, digest: &Digest, layers: impl IntoIterator<Item = Digest>) {
        let Some(image) = &self.image else { return };
        image.resolved.get_or_init(|| {
            let resolved =
                EventImage { digest: Some(digest.clone()), ..EventImage::clone(&image.unresolved) };
            (Arc::new(resolved), layers.into_iter().collect())
        });
    }

    /// Reports events of one layer.
    pub(crate) fn for_layer(&self, index: usize, digest: &Digest) -> Self {
        Self { layer: Some(EventLayer { index, digest: digest.clone() }), ..self.clone() }
    }

    /// Reports the same, but holds back warnings until [`Reporter::confirm`].
    pub(crate) fn holding_warnings(&self) -> Self {
        Self { held: Some(Arc::new(HeldWarnings(Mutex::new(Some(Vec::new()))))), ..self.clone() }
    }

    /// Reports the warnings that were held back, and from now on reports warnings at once.
    pub(crate) fn confirm(&self) {
        let held = self.held.as_ref().and_then(|held| held.lock().take());
        held.into_iter().flatten().for_each(|event| self.emit(&event));
    }

    /// Something that the user should know and that is not an error.
    pub(crate) fn warning(&self, message: &str) {
        let event =
            Event::Warning { image: self.image(), layer: self.layer.clone(), message: message.to_owned() };
        if let Some(held) = &self.held
            && let Some(waiting) = held.lock().as_mut()
        {
            waiting.push(event);
            return;
        }
        self.emit(&event);
    }

    /// Reading the blob of the layer starts.
    pub(crate) fn layer_started(&self, total: u64) {
        if let Some(layer) = self.layer.clone() {
            self.emit(&Event::LayerStarted { image: self.image(), layer, total });
        }
    }

    /// More bytes of the blob of the layer have arrived.
    pub(crate) fn layer_advanced(&self, bytes: u64) {
        if let Some(layer) = self.layer.clone() {
            self.emit(&Event::LayerAdvanced { image: self.image(), layer, bytes });
        }
    }

    /// The layer is no longer being read.
    pub(crate) fn layer_finished(&self) {
        if let Some(layer) = self.layer.clone() {
            self.emit(&Event::LayerFinished { image: self.image(), layer });
        }
    }

    pub(super) fn request_started(&self, id: u64, request: &Request) {
        let (image, layer, request) = (self.image(), self.layer_of(&request.target), request.clone());
        self.emit(&Event::RequestStarted { image, layer, id, request });
    }

    pub(super) fn request_advanced(&self, id: u64, target: &RequestTarget, bytes: u64) {
        let (image, layer) = (self.image(), self.layer_of(target));
        self.emit(&Event::RequestAdvanced { image, layer, id, bytes });
    }

    pub(super) fn request_finished(&self, id: u64, request: &Request) {
        let (image, layer, request) = (self.image(), self.layer_of(&request.target), request.clone());
        self.emit(&Event::RequestFinished { image, layer, id, request });
    }

    /// Opens the span of a request.
    #[cfg(feature = "tracing")]
    pub(super) fn request_span(&self, id: u64, request: &Request) -> tracing::Span {
        let layer = self.layer_of(&request.target);
        super::trace::request_span(self.image().as_deref(), layer.as_ref(), id, request)
    }

    fn image(&self) -> Option<Arc<EventImage>> {
        let image = self.image.as_ref()?;
        let resolved = image.resolved.get().map(|(resolved, _)| resolved);
        Some(Arc::clone(resolved.unwrap_or(&image.unresolved)))
    }

    /// The layer that a request is for. A blob that an image contains twice counts as the lower layer.
    fn layer_of(&self, target: &RequestTarget) -> Option<EventLayer> {
        let RequestTarget::Blob(digest) = target else { return None };
        if let Some(layer) = self.layer.as_ref().filter(|layer| layer.digest == *digest) {
            return Some(layer.clone());
        }
        let (_, layers) = self.image.as_ref()?.resolved.get()?;
        let index = layers.iter().position(|layer| layer == digest)?;
        Some(EventLayer { index, digest: digest.clone() })
    }

    fn emit(&self, event: &Event) {
        #[cfg(feature = "tracing")]
        super::trace::emit(event);
        self.progress.event(event);
    }
}
