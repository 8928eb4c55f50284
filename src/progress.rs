//! Events that the engine reports while it works: transfers, requests and warnings.

pub use event::{Event, EventImage, EventLayer, Progress, Request, RequestMethod, RequestTarget, Silent};
pub(crate) use ongoing::Ongoing;
pub(crate) use reporter::Reporter;

mod event;
mod ongoing;
mod reporter;
#[cfg(feature = "tracing")]
mod trace;

#[cfg(test)]
mod tests;
