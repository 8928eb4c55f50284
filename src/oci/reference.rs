//! Image references with docker's normalisation: `nginx` is `docker.io/library/nginx:latest`.
//!
//! The grammar is that of `distribution/reference`, but stricter about names that no registry can have: ports
//! above 65535, underscores in host names, invalid addresses.

mod error;
mod parse;
mod transport;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

pub use error::{Part, ReferenceError, ReferenceErrorKind};
pub use transport::{ArchiveImage, ImageReference, LayoutImage};

use crate::oci::digest::Digest;

/// The registry of references that name none.
const DOCKER_HUB: &str = "docker.io";
/// The host where Docker Hub serves the registry protocol.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// The namespace of Docker Hub's official images.
const OFFICIAL: &str = "library/";

/// The name of an image in a registry: registry, repository, and a tag, a digest or both.
///
/// `nginx` and `docker.io/library/nginx:latest` are equal. If both tag and digest are given, both are stored and
/// shown, and the digest decides what is fetched.
///
/// ```
/// use layerslayer::Reference;
///
/// let reference: Reference = "nginx:alpine".parse()?;
/// assert_eq!(reference.registry(), "docker.io");
/// assert_eq!(reference.repository(), "library/nginx");
/// assert_eq!(reference.tag(), Some("alpine"));
/// assert_eq!(reference.to_string(), "docker.io/library/nginx:alpine");
/// assert_eq!(reference.familiar(), "nginx:alpine");
/// # Ok::<(), layerslayer::ReferenceError>(())
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host of the registry with its port, as written; `docker.io` for all names of Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Host and port that serve the registry's API: `registry-1.docker.io` for `docker.io`, otherwise
    /// [`Self::registry`].
    #[must_use]
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry }
    }

    /// Repository within the registry, as `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither a tag nor a digest was given. `None` only if there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which decides what is fetched.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The short form that people type: `nginx:alpine` for `docker.io/library/nginx:alpine`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let repository = &self.repository;
        let name = match repository.strip_prefix(OFFICIAL) {
            _ if self.registry != DOCKER_HUB => format!("{}/{repository}", self.registry),
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => repository.clone(),
        };
        format!("{name}{}", self.suffix())
    }

    /// Whether the registry is on this machine: `localhost`, `127.0.0.0/8` or `[::1]`, with any port.
    ///
    /// Only these literal names count. No name is looked up.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        if let Some(rest) = self.registry.strip_prefix('[') {
            let address = rest.split_once(']').and_then(|(address, _)| address.parse::<Ipv6Addr>().ok());
            return address.is_some_and(|address| address.to_canonical().is_loopback());
        }
        let host = self.registry.split_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
    }

    /// The same reference with this digest, which replaces an existing one.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// `:tag@digest`, without absent parts.
    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        tag.chain(self.digest.iter().map(|digest| format!("@{digest}"))).collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse::reference(text)
    }
}
