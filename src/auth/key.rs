//! Registry names as keys of stored credentials.

use std::{fmt, str::FromStr};

use super::error::CredentialError;

/// Docker's key for Docker Hub's credential, under any of the hub's names.
pub(crate) const HUB_URL: &str = "https://index.docker.io/v1/";

/// Our key for Docker Hub.
pub(crate) const HUB: &str = "docker.io";

/// Every host name of Docker Hub.
pub(crate) const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Longest key, in bytes: a host name of up to 253 bytes, plus a path.
const KEY_BYTES: usize = 1024;

/// The registry that a credential is for: a host in lower case, an optional port, rarely a path. All names of Docker Hub become
/// `docker.io`; a scheme, a final slash and the API's `/v1` and `/v2` are removed.
///
/// ```
/// use layerslayer::RegistryKey;
///
/// let key: RegistryKey = "https://index.docker.io/v1/".parse()?;
/// assert_eq!(key.as_str(), "docker.io");
/// assert_eq!("Registry.Example:5000".parse::<RegistryKey>()?.as_str(), "registry.example:5000");
/// # Ok::<(), layerslayer::CredentialError>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegistryKey(String);

impl RegistryKey {
    /// The key as text.
    ///
    /// ```
    /// let key: layerslayer::RegistryKey = "https://GHCR.io/v2/".parse()?;
    /// assert_eq!(key.as_str(), "ghcr.io");
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, without a path.
    ///
    /// ```
    /// let key: layerslayer::RegistryKey = "quay.io/team".parse()?;
    /// assert_eq!(key.host(), "quay.io");
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(host, _)| host)
    }

    /// The registry without a path, and the path.
    pub(crate) fn parts(&self) -> (Self, Option<&str>) {
        match self.0.split_once('/') {
            Some((host, path)) => (Self(host.to_owned()), Some(path)),
            None => (self.clone(), None),
        }
    }

    /// Whether a credential with this key applies to an image of `registry`: the same registry, or a path above the image.
    pub(crate) fn covers(&self, registry: &Self, repository: Option<&str>) -> bool {
        if self == registry {
            return true;
        }
        let below = self.0.strip_prefix(registry.as_str()).and_then(|path| path.strip_prefix('/'));
        below.zip(repository).is_some_and(|(path, repository)| {
            repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The key that docker uses in its files and with credential helpers: a URL for Docker Hub, else the key itself.
    ///
    /// ```
    /// let key: layerslayer::RegistryKey = "docker.io".parse()?;
    /// assert_eq!(key.docker_key(), "https://index.docker.io/v1/");
    /// # Ok::<(), layerslayer::CredentialError>(())
    /// ```
    #[must_use]
    pub fn docker_key(&self) -> String {
        if self.0 == HUB { HUB_URL.to_owned() } else { self.0.clone() }
    }
}

impl FromStr for RegistryKey {
    type Err = CredentialError;

    /// Parses a host, a host with a port, or a URL as docker writes it. The error does not repeat a user name or password.
    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let malformed = |problem: &str| {
            // In `https://user:password@host` everything before the `@` may be secret.
            let shown = match text.rsplit_once('@') {
                Some((_, host)) => format!("…@{host}"),
                None => text.to_owned(),
            };
            let shown: String = shown.chars().take(KEY_BYTES).collect();
            Err(CredentialError::usage(format!("{shown:?} is not a registry: {problem}")))
        };
        if text.len() > KEY_BYTES {
            return malformed("it is too long");
        }
        let bare = without_scheme(text);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        if !is_host(host) {
            return malformed("expected a host name with an optional port, such as registry.example:5000");
        }
        let path = path.trim_end_matches('/');
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)) {
            return malformed("its path contains invalid characters");
        }
        let host = host.to_ascii_lowercase();
        let host = if HUB_HOSTS.contains(&host.as_str()) { HUB.to_owned() } else { host };
        match path {
            "" | "v1" | "v2" => Ok(Self(host)),
            path => Ok(Self(format!("{host}/{path}"))),
        }
    }
}

impl fmt::Display for RegistryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegistryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A key of docker's or podman's file without `https://` or `http://`.
pub(crate) fn without_scheme(key: &str) -> &str {
    key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key)
}

/// Whether both name the same host. All names of Docker Hub do.
pub(crate) fn same_host(one: &str, other: &str) -> bool {
    let is_hub = |host: &str| HUB_HOSTS.iter().any(|hub| hub.eq_ignore_ascii_case(host));
    one.eq_ignore_ascii_case(other) || (is_hub(one) && is_hub(other))
}

/// A name or a bracketed address, with an optional port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let is_name = match name.strip_prefix('[') {
        Some(address) => {
            address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
                && !name.starts_with(['.', '-'])
        }
    };
    is_port && is_name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        text.parse::<RegistryKey>().unwrap().to_string()
    }

    #[test]
    fn every_name_of_docker_hub_is_the_same_key() {
        for name in HUB_HOSTS {
            assert_eq!(key(name), "docker.io");
        }
        assert_eq!(key(HUB_URL), "docker.io");
        assert_eq!(key("https://Index.Docker.io/v1"), "docker.io");
        assert_eq!("docker.io".parse::<RegistryKey>().unwrap().docker_key(), HUB_URL);
        assert_eq!(key("https://index.docker.io/v1/access-token"), "docker.io/v1/access-token");
    }

    #[test]
    fn scheme_api_version_and_final_slash_are_removed() {
        for text in ["host:5000", "https://host:5000", "http://HOST:5000/v2/", "host:5000/v1/", "host:5000/"]
        {
            assert_eq!(key(text), "host:5000");
        }
        assert_eq!(key("[::1]:5000"), "[::1]:5000");
        assert_eq!(key("quay.io/me"), "quay.io/me");
        assert_eq!("quay.io/me".parse::<RegistryKey>().unwrap().host(), "quay.io");
    }

    #[test]
    fn a_key_with_a_path_covers_the_repositories_below_it() {
        let covers = |key: &str, registry: &str, repository: Option<&str>| {
            key.parse::<RegistryKey>().unwrap().covers(&registry.parse().unwrap(), repository)
        };
        assert!(covers("a.b", "a.b", None) && covers("a.b", "a.b", Some("x/y")));
        assert!(covers("a.b/x", "a.b", Some("x/y")) && covers("a.b/x/y", "a.b", Some("x/y")));
        assert!(!covers("a.b/x", "a.b", Some("xy")) && !covers("a.b/x", "a.b", None));
        assert!(!covers("a.b", "a.b:5000", Some("x")) && !covers("a", "a.b", Some("x")));
    }

    #[test]
    fn an_invalid_host_is_refused() {
        let wrong =
            ["", "/", "a b", "host:", "host:0", "host:65536", "host:+1", "[::1", "[x]", "me@host", "-o"];
        for text in wrong.into_iter().chain(["https://", "host/a?b", "host/\n", ".host", "ho\u{a}st"]) {
            assert!(text.parse::<RegistryKey>().is_err(), "{text:?}");
        }
        assert!("a".repeat(2000).parse::<RegistryKey>().unwrap_err().to_string().len() < 1200);
    }

    #[test]
    fn an_error_does_not_repeat_a_password() {
        for text in ["https://me:hush@host", "me:hush@host", "https://me:hu@sh@host:5000/v2/", "hush@"] {
            let error = text.parse::<RegistryKey>().unwrap_err().to_string();
            assert!(!error.contains("hush") && !error.contains("me:") && !error.contains("sh@"), "{error}");
        }
    }
}
