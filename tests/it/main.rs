//! Tests that go through the public interface, real servers and independent tools.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod real_auth;
mod support;
mod support_works;
