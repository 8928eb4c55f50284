//! Requests in progress.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    event::{Request, RequestMethod, RequestTarget},
    reporter::Reporter,
};

/// A request in progress; reports its end when dropped.
pub(crate) struct Ongoing {
    reporter: Arc<Reporter>,
    id: u64,
    request: Request,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Ongoing {
    /// Reports the start of a request; `server` is `None` for a local read.
    pub(crate) fn start(
        reporter: Arc<Reporter>,
        (method, target): (RequestMethod, RequestTarget),
        server: Option<String>,
        range: Option<Range<u64>>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let request = Request { method, target, server, range, status: None, bytes: 0 };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        reporter.request_started(id, &request);
        Self {
            #[cfg(feature = "tracing")]
            span: reporter.request_span(id, &request),
            reporter,
            id,
            request,
        }
    }

    /// The head of a response has arrived.
    pub(crate) fn answered(&mut self, status: u16) {
        self.request.status = Some(status);
        self.reporter.request_advanced(self.id, &self.request.target, 0);
    }

    /// More bytes of the body have arrived.
    pub(crate) fn advanced(&mut self, bytes: u64) {
        self.request.bytes = self.request.bytes.saturating_add(bytes);
        self.reporter.request_advanced(self.id, &self.request.target, bytes);
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        #[cfg(feature = "tracing")]
        super::trace::finish_request(&self.span, &self.request);
        self.reporter.request_finished(self.id, &self.request);
    }
}
