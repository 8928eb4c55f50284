//! Which token servers a registry may name.

use std::net::IpAddr;

use super::*;
use crate::registry::{
    http::address::AddressClass,
    scripted::{AUTHORITY, Certificate, OnPlain},
};

fn given() -> Option<Credential> {
    Some(Credential::basic("me", "hush"))
}

/// A registry that names `realm`, and requires `Bearer good`.
fn naming(realm: String) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| match request.authorization() {
        Some("Bearer good") => Reply::blob(request, b"content"),
        _ => Reply::challenge(&format!("Bearer realm=\"{realm}\"")),
    }
}

fn issuing(_: &Request) -> Reply {
    Reply::token("good")
}

#[tokio::test]
async fn a_token_server_on_another_host_is_used() {
    let tokens = ScriptedRegistry::start(issuing);
    let server = ScriptedRegistry::start(naming(format!("{}/token?account=x", tokens.url())));
    read(&session_with(builder(), &server, given()), b"content", 0..7).await.unwrap();
    assert!(tokens.requests()[0].target.starts_with("/token?account=x&scope="));
}

#[tokio::test]
async fn a_token_server_address_with_a_user_name_is_refused() {
    let tokens = ScriptedRegistry::start(issuing);
    let server = ScriptedRegistry::start(naming(format!("http://you:secret@{}/token", tokens.host())));
    let error = read(&session_with(builder(), &server, given()), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized() && !error.to_string().contains("secret"), "{error}");
    assert!(tokens.requests().is_empty());
}

#[tokio::test]
async fn an_https_registry_may_not_name_a_plain_token_server() {
    let tokens = ScriptedRegistry::start(issuing);
    let script = naming(format!("{}/token", tokens.url()));
    let server = ScriptedRegistry::start_tls("127.0.0.1", Certificate::Signed, OnPlain::Alert, script);
    let session = session_with(builder().ca_files(vec![AUTHORITY.into()]), &server, given());
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized() && error.to_string().contains("not https"), "{error}");
    assert!(tokens.requests().is_empty());
}

#[tokio::test]
async fn a_token_server_that_redirects_is_not_followed() {
    let elsewhere = ScriptedRegistry::start(issuing);
    for status in [301, 302, 303, 307, 308] {
        let target = format!("{}/steal", elsewhere.url());
        let tokens = ScriptedRegistry::start(move |_| Reply::redirect(status, &target));
        let server = ScriptedRegistry::start(naming(format!("{}/token", tokens.url())));
        let error = read(&session_with(builder(), &server, given()), b"content", 0..7).await.unwrap_err();
        assert!(error.is_unauthorized() && error.to_string().contains("redirect"), "{error}");
    }
    assert!(elsewhere.requests().is_empty());
}

/// Loopback addresses play the parts of others: 127.0.0.1 is public, 127.0.1.x private, 127.0.2.x loopback, 127.0.3.x
/// link-local.
fn play(address: IpAddr) -> AddressClass {
    let IpAddr::V4(address) = address else { return AddressClass::LinkLocal };
    match address.octets() {
        [127, 0, 0, 1] => AddressClass::Public,
        [127, 0, 1, _] => AddressClass::Private,
        [127, 0, 2, _] => AddressClass::Loopback,
        _ => AddressClass::LinkLocal,
    }
}

#[tokio::test]
async fn a_token_server_may_not_be_more_private_than_the_registry() {
    let places = ["127.0.0.1", "127.0.1.1", "127.0.2.1", "127.0.3.1"];
    for (rank, registry) in places.iter().enumerate() {
        for (other_rank, place) in places.iter().enumerate() {
            let tokens = ScriptedRegistry::start_at(place, issuing);
            // The same by name and as a literal. The token server does not speak TLS, so that it is only connected to.
            for name in ["realm.test", place] {
                let script = naming(format!("https://{name}:{}/token", tokens.port()));
                let server = ScriptedRegistry::start_at(registry, script);
                let names = [("registry.test", *registry), ("realm.test", *place)];
                let http = builder().plain_http(true).network(play, &names).build().unwrap();
                let host = format!("registry.test:{}", server.port());
                let session = Session::new(http, repository(&host, NAME), given());
                let before = tokens.connections();
                let shown = read(&session, b"content", 0..7).await.unwrap_err().to_string();
                let is_allowed = other_rank <= rank;
                assert_eq!(tokens.connections() > before, is_allowed, "{registry} {name} {place}");
                assert_eq!(shown.contains("more private than allowed"), !is_allowed, "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn a_plain_token_server_on_another_host_is_refused_without_sending_anything() {
    let tokens = ScriptedRegistry::start_at("127.0.1.1", issuing);
    let server = ScriptedRegistry::start(naming(format!("http://realm.test:{}/token", tokens.port())));
    let names = [("registry.test", "127.0.0.1"), ("realm.test", "127.0.1.1")];
    let http = builder().plain_http(true).network(AddressClass::of, &names).build().unwrap();
    let host = format!("registry.test:{}", server.port());
    let error =
        read(&Session::new(http, repository(&host, NAME), given()), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized() && error.to_string().contains("plain HTTP on another host"), "{error}");
    assert_eq!(tokens.connections(), 0);
}

#[tokio::test]
async fn literal_addresses_are_checked_behind_a_proxy() {
    // The proxy is asked for whole addresses, and answers for all hosts itself.
    let answer = |realm: &'static str| {
        ScriptedRegistry::start(move |request| match request.authorization() {
            _ if request.target.contains("/token") => Reply::token("good"),
            Some("Bearer good") => Reply::blob(request, b"content"),
            _ => Reply::challenge(&format!("Bearer realm=\"{realm}\"")),
        })
    };
    for (realm, is_refused) in [
        ("https://realm.test/token", false),
        ("https://8.8.8.8/token", false),
        ("https://10.0.0.1/token", true),
        ("https://169.254.169.254/token", true),
        ("https://[::ffff:10.0.0.1]/token", true),
        ("https://2130706433/token", true),
    ] {
        let proxy = answer(realm);
        let http = builder().plain_http(true).proxy(&proxy.url()).build().unwrap();
        let session = Session::new(http, repository("registry.test", NAME), None);
        // This proxy opens no tunnels.
        let shown = read(&session, b"content", 0..7).await.unwrap_err().to_string();
        assert_eq!(shown.contains("more private than allowed"), is_refused, "{realm}: {shown}");
        assert!(proxy.requests()[0].target.starts_with("http://registry.test/v2/"));
    }
    let proxy = answer("http://registry.test/token");
    let http = builder().plain_http(true).proxy(&proxy.url()).build().unwrap();
    read(&Session::new(http, repository("registry.test", NAME), None), b"content", 0..7).await.unwrap();
}

#[tokio::test]
async fn a_dead_proxy_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://me:hush@{closed}");
    let http = builder().plain_http(true).proxy(&proxy).build().unwrap();
    let error = read(&Session::new(http, repository("registry.test", NAME), None), b"content", 0..7)
        .await
        .unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains(&format!("through the proxy http://{closed}")) && !shown.contains("hush"),
        "{shown}"
    );
}
