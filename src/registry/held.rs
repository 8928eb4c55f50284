//! A token in a session's memory, for the bench that measures what having one costs.

use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;

use super::authorization::{Authority, Grant, Next, Plan, Rung};

/// A token that was fetched and is good for a while.
///
/// ```
/// assert!(layerslayer::internals::HeldToken::new().is_good());
/// ```
pub struct HeldToken(Authority);

impl HeldToken {
    /// One of the length that registries issue.
    ///
    /// ```
    /// let token = layerslayer::internals::HeldToken::new();
    /// # let _ = token;
    /// ```
    #[must_use]
    pub fn new() -> Self {
        let authority = Authority::new(None);
        let header = HeaderValue::from_str(&format!("Bearer {}", "x".repeat(1500)));
        if let Ok(header) = header {
            let lifetime = Some((Instant::now(), Duration::from_secs(86_400)));
            let _ = authority.fetched(&Plan::first(), Ok((Rung::Bearer, Grant { header, lifetime })));
        }
        Self(authority)
    }

    /// Asks for it as each request does; whether it is there.
    ///
    /// ```
    /// assert!(layerslayer::internals::HeldToken::new().is_good());
    /// ```
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.0.next(Instant::now()), Next::Use(Some(_)))
    }
}

impl Default for HeldToken {
    fn default() -> Self {
        Self::new()
    }
}
