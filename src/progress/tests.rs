use std::sync::{Mutex, PoisonError};

use super::*;
use crate::oci::digest::Digest;

#[derive(Default)]
struct Log(Mutex<Vec<Event>>);

impl Log {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Progress for Log {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

fn reporter() -> (std::sync::Arc<Log>, Reporter) {
    let log = std::sync::Arc::new(Log::default());
    (std::sync::Arc::clone(&log), Reporter::new(log))
}

fn digest(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

/// Reference, digest and layer of each event.
fn subjects(events: &[Event]) -> Vec<(Option<&str>, Option<&Digest>, Option<usize>)> {
    let subject = |event: &'_ Event| event.layer().map(|layer| layer.index);
    let image = |event| Event::image(event).map(|image| image.reference.as_str());
    events
        .iter()
        .map(|event| (image(event), event.image().and_then(|image| image.digest.as_ref()), subject(event)))
        .collect()
}

#[test]
fn every_event_of_an_image_names_it() {
    let (log, reporter) = reporter();
    let one = std::sync::Arc::new(reporter.for_image(&"one"));
    let two = reporter.for_image(&"two");
    let (manifest, layer) = (digest("manifest"), digest("layer"));
    one.warning("early");
    one.resolved(&manifest, [digest("base"), layer.clone()]);
    let blob = (RequestMethod::Get, RequestTarget::Blob(layer.clone()));
    let mut request = Ongoing::start(std::sync::Arc::clone(&one), blob, None, None);
    request.advanced(5);
    drop(request);
    two.warning("other");
    let scoped = one.for_layer(1, &layer);
    scoped.layer_started(10);
    scoped.layer_advanced(5);
    scoped.layer_finished();
    scoped.warning("late");
    let events = log.take();
    let resolved = (Some("one"), Some(&manifest), Some(1));
    assert_eq!(
        subjects(&events),
        [
            (Some("one"), None, None),
            resolved,
            resolved,
            resolved,
            (Some("two"), None, None),
            resolved,
            resolved,
            resolved,
            resolved,
        ]
    );
}

#[test]
fn a_request_has_one_number_from_start_to_finish() {
    let (log, reporter) = reporter();
    let reporter = std::sync::Arc::new(reporter);
    let start = |server: &str| {
        let target = (RequestMethod::Get, RequestTarget::Api);
        Ongoing::start(std::sync::Arc::clone(&reporter), target, Some(server.to_owned()), Some(0..7))
    };
    let (mut first, second) = (start("a"), start("b"));
    first.answered(206);
    first.advanced(7);
    drop(first);
    drop(second);
    let ids: Vec<u64> = log
        .take()
        .iter()
        .map(|event| match event {
            Event::RequestAdvanced { id, .. } | Event::RequestStarted { id, .. } => *id,
            Event::RequestFinished { id, request, .. } => {
                let is_first = request.server.as_deref() == Some("a");
                assert_eq!(
                    (request.status, request.bytes),
                    if is_first { (Some(206), 7) } else { (None, 0) }
                );
                *id
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let (one, two) = (ids[0], ids[1]);
    assert_ne!(one, two);
    assert_eq!(ids, [one, two, one, one, one, two]);
}

#[test]
fn held_warnings_are_reported_only_when_confirmed() {
    let (log, reporter) = reporter();
    let held = reporter.holding_warnings();
    held.warning("first");
    held.for_layer(0, &digest("layer")).layer_started(1);
    assert_eq!(log.take().len(), 1);
    held.confirm();
    held.warning("second");
    let messages = log.take();
    let messages: Vec<&str> = messages
        .iter()
        .map(|event| match event {
            Event::Warning { message, .. } => message.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(messages, ["first", "second"]);
}

#[cfg(feature = "tracing")]
mod traced {
    use std::{
        fmt,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering},
        },
    };

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    use super::*;

    /// A line for each span, record and event.
    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>, AtomicU64);

    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!(" {field}={value:?}"));
        }
    }

    impl Lines {
        fn push(&self, first: &str, record: impl FnOnce(&mut Fields)) {
            let mut fields = Fields(first.to_owned());
            record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            self.push(span.metadata().name(), |fields| span.record(fields));
            Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
        }

        fn record(&self, _: &Id, values: &Record<'_>) {
            self.push("record", |fields| values.record(fields));
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            self.push(event.metadata().level().as_str(), |fields| event.record(fields));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn requests_are_spans_and_warnings_are_events() {
        let lines = Arc::new(Lines::default());
        tracing::subscriber::with_default(Arc::clone(&lines), || {
            let reporter = Arc::new(Reporter::silent().for_image(&"example"));
            let target = (RequestMethod::Get, RequestTarget::Token);
            let mut request =
                Ongoing::start(Arc::clone(&reporter), target, Some("https://a".to_owned()), None);
            request.answered(200);
            drop(request);
            reporter.for_layer(2, &digest("layer")).layer_started(9);
            reporter.warning("odd");
        });
        let lines = std::mem::take(&mut *lines.0.lock().unwrap());
        let [span, status, bytes, layer, warning] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(span.starts_with("request image=\"example\" "), "{span}");
        assert!(span.contains(" resource=\"token\" server=\"https://a\""), "{span}");
        assert_eq!((status.as_str(), bytes.as_str()), ("record status=200", "record bytes=0"));
        assert!(layer.starts_with("DEBUG ") && layer.contains("layer started"), "{layer}");
        assert!(layer.contains(" image=\"example\" layer=2 total=9"), "{layer}");
        assert!(warning.starts_with("WARN ") && warning.contains("odd"), "{warning}");
    }
}
