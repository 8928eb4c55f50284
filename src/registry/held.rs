//! A token in a session's memory, for the benchmark of its lookup.

use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;

use super::authorization::{AuthMethod, Authority, Next, RefreshPlan, Token};

/// A token that was fetched and is valid for a while.
///
/// ```
/// assert!(layerslayer::internals::HeldToken::new().is_good());
/// ```
pub struct HeldToken(Authority);

impl HeldToken {
    /// A token of the usual length.
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
            let _ = authority
                .fetched(&RefreshPlan::first(), Ok((AuthMethod::Bearer, Token { header, lifetime })));
        }
        Self(authority)
    }

    /// Looks it up as each request does. Returns whether it is there.
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
