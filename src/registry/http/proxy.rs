//! Which proxy a request goes through, by the environment, as Go's programs read it (golang.org/x/net `http/httpproxy`): `HTTP_PROXY`,
//! `HTTPS_PROXY` and `NO_PROXY`, in upper or lower case. `ALL_PROXY` is used if the variable for the scheme is not set, as in curl.

use std::{fmt, net::IpAddr};

use super::Url;

/// An address that no request can go through (RFC 6761), instead of a variable that cannot be used.
const INVALID: &str = "http://proxy-variable.invalid";

/// The proxies of an environment.
#[derive(Clone)]
pub(crate) struct Proxies {
    http: Proxy,
    https: Proxy,
    exceptions: Vec<Exception>,
}

/// A proxy, none, or why its variable is invalid. An invalid one is an error only for requests that would use it.
type Proxy = Result<Option<Url>, String>;

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Exception {
    /// `*`
    All,
    /// An address, with an optional port.
    Address(IpAddr, Option<String>),
    /// The hosts below a domain, such as `.example.com`, and the domain itself if `is_host`.
    Domain { suffix: String, is_host: bool, port: Option<String> },
    /// A network in CIDR notation.
    Network(IpAddr, u32),
}

impl fmt::Debug for Proxies {
    /// Without the addresses, which may have passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("exceptions", &self.exceptions).finish_non_exhaustive()
    }
}

impl Default for Proxies {
    fn default() -> Self {
        Self { http: Ok(None), https: Ok(None), exceptions: Vec::new() }
    }
}

impl Proxies {
    /// The proxies of this process.
    pub(crate) fn from_environment() -> Self {
        Self::new(&|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn new(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            names.into_iter().find_map(|name| {
                let value = variable(&name).filter(|value| !value.is_empty())?;
                Some((name, value))
            })
        };
        let proxy = |name: &str| {
            let found = set(name).or_else(|| set("ALL_PROXY"));
            found.map(|(name, value)| parse(&name, &value)).transpose()
        };
        // A web server that runs programs through CGI sets HTTP_PROXY to the header `Proxy` of a request.
        let is_cgi = variable("REQUEST_METHOD").is_some_and(|value| !value.is_empty());
        let http = if is_cgi { Ok(None) } else { proxy("HTTP_PROXY") };
        let exceptions = set("NO_PROXY").map(|(_, value)| exceptions(&value)).unwrap_or_default();
        Self { http, https: proxy("HTTPS_PROXY"), exceptions }
    }

    /// One proxy for everything.
    #[cfg(test)]
    pub(crate) fn all(url: &str) -> Self {
        let proxy: Proxy = Ok(Url::parse(url).ok());
        Self { http: proxy.clone(), https: proxy, exceptions: Vec::new() }
    }

    /// The proxy for requests to `url`. Requests to this machine use none.
    ///
    /// # Errors
    ///
    /// If its variable is not the URL of a proxy that is supported. The message does not repeat a password in it.
    pub(crate) fn of(&self, url: &Url) -> Result<Option<&Url>, &str> {
        let host = url.host_str().unwrap_or_default();
        let name = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let port = url.port_or_known_default().unwrap_or_default().to_string();
        let address: Option<IpAddr> = name.parse().ok();
        let is_excepted = || self.exceptions.iter().any(|exception| exception.matches(&name, address, &port));
        if super::is_loopback(host) || is_excepted() {
            return Ok(None);
        }
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().map(Option::as_ref).map_err(String::as_str)
    }

    /// The address of the proxy, for a client that cannot report an invalid variable: it then connects to nothing.
    pub(super) fn address(&self, url: &Url) -> Option<String> {
        match self.of(url) {
            Ok(proxy) => proxy.map(ToString::to_string),
            Err(_) => Some(INVALID.to_owned()),
        }
    }
}

fn parse(name: &str, value: &str) -> Result<Url, String> {
    let value = value.trim();
    let is_proxy = |url: &Url| url.host_str().is_some_and(|host| !host.is_empty());
    // `proxy.example:3128` parses as a URL with the scheme `proxy.example`.
    let url = match Url::parse(value) {
        Ok(url) if is_proxy(&url) => Ok(url),
        _ if value.contains("://") => Err(()),
        _ => Url::parse(&format!("http://{value}"))
            .map_err(|_| ())
            .and_then(|url| if is_proxy(&url) { Ok(url) } else { Err(()) }),
    };
    let url =
        url.map_err(|()| format!("{name} is not the URL of a proxy, such as http://proxy.example:3128"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => {
            Err(format!("{name} names a {scheme}:// proxy, which is not supported; use an http:// proxy"))
        }
    }
}

fn exceptions(value: &str) -> Vec<Exception> {
    let mut exceptions = Vec::new();
    for entry in
        value.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty())
    {
        if entry == "*" {
            return vec![Exception::All];
        }
        exceptions.extend(exception(&entry));
    }
    exceptions
}

fn exception(entry: &str) -> Option<Exception> {
    if let Some((address, bits)) = entry.split_once('/')
        && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>())
        && bits <= if address.is_ipv4() { 32 } else { 128 }
    {
        return Some(Exception::Network(address, bits));
    }
    let (host, port) = match split_port(entry) {
        Some(("", _)) => return None,
        Some((host, port)) => (host, Some(port.to_owned())),
        None => (entry, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(Exception::Address(address, port));
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let is_host = !host.starts_with('.');
    let suffix = if is_host { format!(".{host}") } else { host.to_owned() };
    Some(Exception::Domain { suffix, is_host, port })
}

/// Host and port, as Go's `net.SplitHostPort`: one colon, unless the host is in brackets.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    (is_bracketed || !host.contains([':', '[', ']'])).then_some((host, port))
}

impl Exception {
    fn matches(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let fits = |wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == port)
        };
        match self {
            Self::All => true,
            Self::Address(wanted, wanted_port) => {
                address.is_some_and(|address| address.to_canonical() == wanted.to_canonical())
                    && fits(wanted_port)
            }
            Self::Domain { suffix, is_host, port } => {
                let is_same = *is_host && suffix.strip_prefix('.') == Some(host);
                (host.ends_with(suffix.as_str()) || is_same) && fits(port)
            }
            Self::Network(network, bits) => address.is_some_and(|address| is_in(address, *network, *bits)),
        }
    }
}

/// Whether an address is in a network. Of IPv4 and IPv6 neither contains the other.
fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Proxies::new(&|name| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    fn proxy(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = proxies(variables);
        proxies.of(&Url::parse(url).unwrap()).unwrap().map(ToString::to_string)
    }

    fn is_proxied(no_proxy: &str, host: &str) -> bool {
        proxy(&[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", no_proxy)], &format!("http://{host}/")).is_some()
    }

    /// golang.org/x/net `http/httpproxy/proxy_test.go`, `UseProxyTests`.
    #[test]
    fn go_s_table_of_exceptions() {
        let no_proxy = "foobar.com, .barbaz.net, *.quux.dev, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, \
                        2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64";
        for (host, expected) in [
            ("localhost", false),
            ("127.0.0.1", false),
            ("127.0.0.2", false),
            ("[::1]", false),
            ("[::2]", true),
            ("192.168.1.1", false),
            ("192.168.1.2", true),
            ("192.168.1.3", false),
            ("192.168.1.4", true),
            ("10.0.0.0", false),
            ("10.0.0.2", false),
            ("10.0.0.3", false),
            ("10.0.0.4", true),
            ("[2001:db8::52:0:1]", false),
            ("[2001:db8::52:0:2]", true),
            ("[2001:db8::52:0:3]", false),
            ("[2002:db8:a::123]", false),
            ("[fe80::424b:c8be:1643:a1b6]", true),
            ("barbaz.net", true),
            ("www.barbaz.net", false),
            ("foobar.com", false),
            ("www.foobar.com", false),
            ("foofoobar.com", true),
            ("baz.com", true),
            ("localhost.net", true),
            ("local.localhost", false),
            ("barbarbaz.net", true),
            ("quux.dev", true),
            ("www.quux.dev", false),
        ] {
            assert_eq!(is_proxied(no_proxy, host), expected, "{host}");
        }
    }

    /// golang.org/x/net `http/httpproxy/proxy_test.go`, `TestAllNoProxy` and `TestInvalidNoProxy`.
    #[test]
    fn a_star_excepts_everything_and_a_port_alone_nothing() {
        for host in ["192.168.1.1", "192.168.1.2:81", "[2001:db8::52:0:1]", "192.168.1.3:8080", "foo.com"] {
            assert!(!is_proxied("x.y,*", host), "{host}");
            assert!(is_proxied(":1", host), "{host}");
        }
    }

    #[test]
    fn ports_in_exceptions_are_compared() {
        for (no_proxy, host, expected) in [
            ("a.b:5000", "a.b:5000", false),
            ("a.b:5000", "a.b", true),
            ("a.b:80", "a.b", false),
            (".b:5000", "a.b:5000", false),
            (".b:5000", "a.b:5001", true),
            ("*.b:5000", "x.a.b:5000", false),
            ("10.1.2.3:5000", "10.1.2.3:5000", false),
            ("A.B", "a.b", false),
            ("a.b", "A.B.", false),
        ] {
            assert_eq!(is_proxied(no_proxy, host), expected, "{no_proxy} {host}");
        }
    }

    /// golang.org/x/net `http/httpproxy/proxy_test.go`, `proxyForURLTests`.
    #[test]
    fn go_s_table_of_variables() {
        for (variables, url, expected) in [
            (&[("HTTP_PROXY", "127.0.0.1:8080")][..], "http://a.b", Some("http://127.0.0.1:8080/")),
            (
                &[("HTTP_PROXY", "cache.corp.example.com:1234")],
                "http://a.b",
                Some("http://cache.corp.example.com:1234/"),
            ),
            (
                &[("HTTP_PROXY", "cache.corp.example.com")],
                "http://a.b",
                Some("http://cache.corp.example.com/"),
            ),
            (
                &[("HTTP_PROXY", "https://cache.corp.example.com")],
                "http://a.b",
                Some("https://cache.corp.example.com/"),
            ),
            (&[("HTTP_PROXY", "http://127.0.0.1:8080")], "https://a.b", None),
            (&[("HTTP_PROXY", "http.p"), ("HTTPS_PROXY", "https.p")], "https://a.b", Some("http://https.p/")),
            (&[("HTTP_PROXY", "http.p"), ("REQUEST_METHOD", "GET")], "http://a.b", None),
            (
                &[("HTTPS_PROXY", "https.p"), ("REQUEST_METHOD", "GET")],
                "https://a.b",
                Some("http://https.p/"),
            ),
            (&[("http_proxy", "lower")], "http://a.b", Some("http://lower/")),
            (&[("HTTP_PROXY", ""), ("http_proxy", "lower")], "http://a.b", Some("http://lower/")),
            (&[("ALL_PROXY", "http://all")], "https://a.b", Some("http://all/")),
            (&[("ALL_PROXY", "http://all"), ("HTTPS_PROXY", "one")], "https://a.b", Some("http://one/")),
            (&[("HTTPS_PROXY", "http://user:pw@p:1")], "https://a.b", Some("http://user:pw@p:1/")),
            (&[], "https://a.b", None),
        ] {
            assert_eq!(proxy(variables, url).as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_malformed_or_unsupported_proxy_is_an_error_that_names_the_variable_and_no_password() {
        for (value, problem) in [
            ("http://", "is not the URL of a proxy"),
            ("http://a b:hush", "is not the URL of a proxy"),
            ("http://me:hush@host:99999", "is not the URL of a proxy"),
            ("me:hush@", "is not the URL of a proxy"),
            ("://hush", "is not the URL of a proxy"),
            ("socks5://me:hush@host:1080", "names a socks5:// proxy, which is not supported"),
            ("socks4://host", "names a socks4:// proxy"),
            ("ftp://host", "names a ftp:// proxy"),
        ] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
                let proxies = proxies(&[(name, value), ("NO_PROXY", "c.d")]);
                let error = proxies.of(&Url::parse("https://a.b/").unwrap()).unwrap_err();
                assert!(error.starts_with(name) && error.contains(problem), "{value}: {error}");
                assert!(!error.contains("hush"), "{error}");
                // A request that does not use it is unaffected.
                for url in ["https://c.d/", "https://localhost:5000/"] {
                    assert_eq!(proxies.of(&Url::parse(url).unwrap()), Ok(None));
                }
            }
        }
    }

    #[test]
    fn a_client_that_cannot_report_an_invalid_variable_does_not_connect_directly() {
        let proxies = proxies(&[("HTTPS_PROXY", "socks5://host")]);
        assert_eq!(proxies.address(&Url::parse("https://a.b/").unwrap()).as_deref(), Some(INVALID));
        assert_eq!(proxies.address(&Url::parse("http://a.b/").unwrap()), None);
    }
}
