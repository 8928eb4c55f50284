//! Redirects of a registry: their targets, and what may be sent there.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    limits,
    oci::digest::Digest,
    registry::http::{self, HeaderMap, StatusCode, Url, header},
};

/// Presigned links are valid for about five minutes; a new one is requested well before.
const LINK_LIFETIME: Duration = Duration::from_secs(60);

/// Most links at a time.
const MAX_LINKS: usize = 256;

/// Whether the response is a redirect.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether the target of a link refuses the link. Google Cloud Storage responds 400 ("ExpiredToken") to an expired one.
pub(super) fn is_link_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410)
}

/// The target of a redirect, or why it is not followed.
pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(header::LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let Some(location) = location else { return Err("a redirect without a location".into()) };
    if location.len() > limits::URL_BYTES {
        return Err(format!("a redirect to an address of more than {} bytes", limits::URL_BYTES));
    }
    let Ok(mut target) = from.join(location) else { return Err("a redirect to no valid address".into()) };
    match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(format!("a redirect from https to {}", shown(&target))),
        (_, scheme) => return Err(format!("a redirect to the scheme {scheme}")),
    }
    if !target.username().is_empty() || target.password().is_some() {
        return Err(format!("a redirect with a user name, to {}", shown(&target)));
    }
    target.set_fragment(None);
    Ok(target)
}

/// Whether a request to `target` may include the authorisation of the repository `name` at `origin`: only to the same origin, and not
/// to another repository there.
pub(super) fn keeps_authorization(origin: &Url, name: &str, target: &Url) -> bool {
    if !is_same_origin(origin, target) {
        return false;
    }
    let path = target.path();
    // In any spelling: escapes and doubled slashes could disguise another repository.
    if !unescaped(path).to_ascii_lowercase().contains("/v2/") {
        return true;
    }
    let below = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(name)?.strip_prefix('/'));
    // A path deeper than `blobs/DIGEST` may belong to another repository, whose name begins with this one's.
    let is_own = below.is_some_and(|below| match below.split_once('/') {
        Some(("blobs" | "manifests", content)) => !content.contains('/'),
        _ => false,
    });
    is_own && !path.contains('%')
}

/// A path with its percent-encoding decoded.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('%');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let escape = part.split_at_checked(2).and_then(|(digits, rest)| {
            let byte = u8::from_str_radix(digits, 16).ok()?;
            Some((byte, rest))
        });
        match escape {
            Some((byte, rest)) => {
                plain.push(byte);
                plain.extend_from_slice(rest.as_bytes());
            }
            None => plain.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Whether scheme, host and port are equal.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// A URL for messages: scheme, host and port. A signature may be in the query or in the path.
pub(super) fn shown(url: &Url) -> String {
    http::server(url)
}

/// Recent locations of blobs.
#[derive(Default)]
pub(super) struct Links(HashMap<Digest, (Url, Instant)>);

impl Links {
    pub(super) fn find(&self, digest: &Digest, now: Instant) -> Option<Url> {
        self.0.get(digest).filter(|(_, until)| now < *until).map(|(url, _)| url.clone())
    }

    pub(super) fn remember(&mut self, digest: &Digest, url: Url, now: Instant) {
        if self.0.len() >= MAX_LINKS {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() < MAX_LINKS {
            self.0.insert(digest.clone(), (url, now + LINK_LIFETIME));
        }
    }

    pub(super) fn forget(&mut self, digest: &Digest) {
        self.0.remove(digest);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::http::HeaderValue;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn redirected(from: &str, location: &str) -> Result<String, String> {
        let headers = [(header::LOCATION, HeaderValue::from_str(location).unwrap())].into_iter().collect();
        target(&url(from), &headers).map(String::from)
    }

    #[test]
    fn locations_may_be_relative_and_never_lead_from_https_to_http() {
        let from = "https://r.example/v2/a/blobs/x?y";
        assert_eq!(redirected(from, "/z?q=1#f").unwrap(), "https://r.example/z?q=1");
        assert_eq!(redirected(from, "//s.example/z").unwrap(), "https://s.example/z");
        assert_eq!(redirected("http://r.example/", "https://s.example/z").unwrap(), "https://s.example/z");
        assert_eq!(redirected("http://r.example/", "http://s.example/z").unwrap(), "http://s.example/z");
        let refused = redirected(from, "http://s.example/z?signature=hush").unwrap_err();
        assert!(refused.ends_with("http://s.example") && !refused.contains("hush"), "{refused}");
        for wrong in ["ftp://s.example/", "file:///etc/passwd", "https://me:hush@s.example/", "https://[/"] {
            let refused = redirected(from, wrong).unwrap_err();
            assert!(!refused.contains("hush"), "{refused}");
        }
        assert!(target(&url(from), &HeaderMap::new()).is_err());
        let long = |length: usize| redirected(from, &format!("/{}", "x".repeat(length - 1)));
        assert!(long(limits::URL_BYTES).is_ok() && long(limits::URL_BYTES + 1).is_err());
    }

    #[test]
    fn authorization_is_kept_only_for_its_origin_and_repository() {
        let origin = url("https://r.example/");
        let keeps = |target: &str| keeps_authorization(&origin, "a/b", &url(target));
        assert!(keeps("https://r.example/v2/a/b/blobs/sha256:0"));
        assert!(keeps("https://r.example/v2/a/b/manifests/latest?x=/y"));
        assert!(keeps("https://r.example:443/storage/x%3D%3d"));
        for other in [
            "https://r.example/v2/a/c/blobs/sha256:0",
            "https://r.example/v2/a/bc/blobs/sha256:0",
            "https://r.example/v2/a/b/c/blobs/sha256:0",
            "https://r.example/v2/a/b/blobs/blobs/sha256:0",
            "https://r.example/v2/a/b/manifests/c/blobs/sha256:0",
            "https://r.example/V2/other/blobs/sha256:0",
            "https://r.example/%76%32/other/blobs/sha256:0",
            "https://r.example/v2%2fother/blobs/sha256:0",
            "https://r.example/v2/a/b/%2e%2e%2fc/blobs/sha256:0",
            "https://r.example//v2/other/blobs/sha256:0",
            "https://r.example/x/v2/other/blobs/sha256:0",
            "https://r.example:8443/v2/a/b/blobs/sha256:0",
            "http://r.example/v2/a/b/blobs/sha256:0",
            "https://s.example/v2/a/b/blobs/sha256:0",
        ] {
            assert!(!keeps(other), "{other}");
        }
    }

    #[test]
    fn a_link_expires_after_a_minute() {
        let (mut links, now, digest) = (Links::default(), Instant::now(), Digest::sha256(b"x"));
        links.remember(&digest, url("https://s.example/"), now);
        assert!(links.find(&digest, now + Duration::from_secs(59)).is_some());
        assert!(links.find(&digest, now + LINK_LIFETIME).is_none());
        links.forget(&digest);
        assert!(links.find(&digest, now).is_none());
    }
}
