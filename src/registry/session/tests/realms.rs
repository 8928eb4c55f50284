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
            // The same by name and as a literal.
            for name in ["realm.test", place] {
                let script = naming(format!("http://{name}:{}/token", tokens.port()));
                let server = ScriptedRegistry::start_at(registry, script);
                let names = [("registry.test", *registry), ("realm.test", *place)];
                let http = builder().plain_http(true).network(play, &names).build().unwrap();
                let host = format!("registry.test:{}", server.port());
                let session = Session::new(http, repository(&host, NAME), given());
                let before = tokens.requests().len();
                let result = read(&session, b"content", 0..7).await;
                let is_allowed = other_rank <= rank;
                assert_eq!(result.is_ok(), is_allowed, "{registry} {name} {place}");
                assert_eq!(tokens.requests().len() - before, usize::from(is_allowed));
                if let Err(error) = result {
                    assert!(error.is_unauthorized() && error.to_string().contains("more private"), "{error}");
                }
            }
        }
    }
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
    for (realm, is_allowed) in [
        ("http://realm.test/token", true),
        ("http://8.8.8.8/token", true),
        ("http://10.0.0.1/token", false),
        ("http://169.254.169.254/token", false),
        ("http://[::ffff:10.0.0.1]/token", false),
        ("http://2130706433/token", false),
    ] {
        let proxy = answer(realm);
        let http = builder().plain_http(true).proxy(&proxy.url()).build().unwrap();
        let session = Session::new(http, repository("registry.test", NAME), None);
        assert_eq!(read(&session, b"content", 0..7).await.is_ok(), is_allowed, "{realm}");
        assert!(proxy.requests()[0].target.starts_with("http://registry.test/v2/"));
    }
}
