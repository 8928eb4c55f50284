//! Tests that go through the public interface, real servers and independent tools.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod real_auth;
mod real_canary;
mod real_cost;
mod real_debian;
mod real_faults;
mod real_images;
mod real_session;
mod real_tls;
mod support;
mod support_works;
