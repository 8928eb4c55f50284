//! Redirects: what is sent along, what is remembered, what is refused.

use super::*;
use crate::registry::{
    http::{address::AddressClass, clock::ManualClock, policy::AddressPolicy},
    scripted::{AUTHORITY, Certificate, OnPlain},
};

/// A registry with tokens that redirects every blob.
fn sending_to(
    status: u16,
    location: impl Fn(&Request) -> String + Send + Sync + 'static,
) -> ScriptedRegistry {
    let tokens = Tokens::default();
    ScriptedRegistry::start(move |request| {
        tokens.answer(request, |request| Reply::redirect(status, &location(request)))
    })
}

fn storage(blob: &[u8]) -> ScriptedRegistry {
    let blob = blob.to_vec();
    ScriptedRegistry::start(move |request| Reply::blob(request, &blob))
}

#[tokio::test]
async fn another_origin_gets_the_range_but_no_token() {
    for status in [301, 302, 303, 307, 308] {
        let storage = storage(b"content");
        let link = format!("{}/blob?signature=hush", storage.url());
        let server = sending_to(status, move |_| link.clone());
        assert_eq!(read(&session(&server), b"content", 2..5).await.unwrap(), b"nte");
        let [request] = &storage.requests()[..] else { panic!("one request to the storage") };
        assert_eq!(request.target, "/blob?signature=hush");
        assert_eq!(request.range(), Some((2, 5)));
        assert_eq!(request.authorization(), None);
        assert_eq!(request.header("referer"), None);
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert!(request.header("user-agent").unwrap().starts_with("layerslayer/"));
    }
}

#[tokio::test]
async fn the_same_origin_keeps_the_token_except_for_other_repositories() {
    for (location, keeps) in [("/storage/x", true), ("/v2/library/other/blobs/x", false)] {
        let tokens = Tokens::default();
        let server = ScriptedRegistry::start(move |request| {
            if request.path() == location {
                return Reply::blob(request, b"content");
            }
            tokens.answer(request, |_| Reply::redirect(307, location))
        });
        read(&session(&server), b"content", 0..7).await.unwrap();
        let [request] = &server.requests_to(location)[..] else { panic!("one request to {location}") };
        assert_eq!(request.authorization().is_some(), keeps);
    }
}

#[tokio::test]
async fn a_token_dropped_by_a_redirect_is_not_restored() {
    let back = Arc::new(Mutex::new(String::new()));
    let home = Arc::clone(&back);
    let detour = ScriptedRegistry::start(move |_| Reply::redirect(302, &lock(&home)));
    let away = format!("{}/away", detour.url());
    let tokens = Tokens::default();
    let server = ScriptedRegistry::start(move |request| match request.path() {
        "/home" => Reply::blob(request, b"content"),
        _ => tokens.answer(request, |_| Reply::redirect(302, &away)),
    });
    *lock(&back) = format!("{}/home", server.url());
    read(&session(&server), b"content", 0..7).await.unwrap();
    assert_eq!(server.requests_to("/home")[0].authorization(), None);
}

#[tokio::test]
async fn a_link_is_reused_for_a_minute() {
    let storage = storage(b"content");
    let link = format!("{}/blob", storage.url());
    let server = sending_to(307, move |_| link.clone());
    let clock = ManualClock::new();
    let session = session_with(builder().clock(&clock), &server, None);
    for _ in 0..3 {
        read(&session, b"content", 1..6).await.unwrap();
    }
    // One without, one with the token.
    assert_eq!(server.requests_to("/v2/").len(), 2);
    assert_eq!(storage.requests().len(), 3);
    clock.advance(Duration::from_secs(61));
    read(&session, b"content", 1..6).await.unwrap();
    assert_eq!(server.requests_to("/v2/").len(), 3);
}

/// A registry that numbers its links, and a storage that refuses those below `good`.
fn expiring(status: u16, good: Arc<AtomicUsize>) -> (ScriptedRegistry, Arc<ScriptedRegistry>) {
    let storage = Arc::new(ScriptedRegistry::start(move |request| {
        let number: usize = request.target.rsplit('=').next().unwrap().parse().unwrap();
        match number >= good.load(Ordering::SeqCst) {
            true => Reply::blob(request, b"content"),
            false => {
                Reply::status(status).header("www-authenticate", "Bearer realm=\"http://x/\"").body("hush=1")
            }
        }
    }));
    let (url, issued) = (storage.url(), AtomicUsize::new(0));
    let server = sending_to(307, move |_| format!("{url}/blob?n={}", issued.fetch_add(1, Ordering::SeqCst)));
    (server, storage)
}

#[tokio::test]
async fn an_expired_link_is_requested_once_more() {
    for status in [400, 401, 403, 404, 410] {
        let good = Arc::new(AtomicUsize::new(0));
        let (server, storage) = expiring(status, Arc::clone(&good));
        let session = session(&server);
        read(&session, b"content", 0..7).await.unwrap();
        good.store(1, Ordering::SeqCst);
        assert_eq!(read(&session, b"content", 2..5).await.unwrap(), b"nte");
        assert_eq!(storage.requests_to("/blob?n=0").len(), 2);
        assert_eq!(storage.requests_to("/blob?n=1").len(), 1);
        // The challenge of a storage is ignored.
        assert!(storage.requests().iter().all(|request| request.authorization().is_none()));
        assert_eq!(server.requests_to("/token").len(), 1);
    }
}

#[tokio::test]
async fn a_refused_fresh_link_is_requested_once_more() {
    let (server, storage) = expiring(403, Arc::new(AtomicUsize::new(1)));
    read(&session(&server), b"content", 0..7).await.unwrap();
    assert_eq!(storage.requests().len(), 2);
}

#[tokio::test]
async fn the_error_of_a_link_refused_twice_has_no_query() {
    for (status, is_unknown) in [(401, false), (403, false), (404, true), (410, true)] {
        let (server, storage) = expiring(status, Arc::new(AtomicUsize::new(9)));
        let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
        assert_eq!((error.is_blob_unknown(), error.is_unavailable()), (is_unknown, !is_unknown), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(&storage.url()) && !shown.contains("/blob,"), "{shown}");
        assert!(!shown.contains("n=") && !shown.contains("hush"), "{shown}");
        assert_eq!(storage.requests().len(), 2);
        assert_eq!(server.requests_to("/token").len(), 1);
    }
}

#[tokio::test]
async fn a_refused_replacement_of_a_remembered_link_is_final() {
    let good = Arc::new(AtomicUsize::new(0));
    let (server, storage) = expiring(403, Arc::clone(&good));
    let session = session(&server);
    read(&session, b"content", 0..7).await.unwrap();
    let asked = server.requests().len();
    good.store(9, Ordering::SeqCst);
    assert!(read(&session, b"content", 0..7).await.unwrap_err().is_unavailable());
    assert_eq!(server.requests().len() - asked, 1);
    assert_eq!(storage.requests().len(), 3);
}

#[tokio::test]
async fn a_link_that_fails_transiently_is_requested_again() {
    let failures = AtomicUsize::new(2);
    let storage = ScriptedRegistry::start(move |request| {
        match failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Reply::status(503),
            Err(_) => Reply::blob(request, b"content"),
        }
    });
    let link = format!("{}/blob", storage.url());
    let server = sending_to(307, move |_| link.clone());
    read(&session(&server), b"content", 0..7).await.unwrap();
    assert_eq!(storage.requests().len(), 3);
}

#[tokio::test]
async fn five_redirects_are_followed_and_six_are_not() {
    for (length, is_followed) in [(5, true), (6, false)] {
        let server = ScriptedRegistry::start(move |request| {
            let at: usize = request.path().strip_prefix("/hop/").map_or(0, |at| at.parse().unwrap());
            if at == length {
                Reply::blob(request, b"content")
            } else {
                Reply::redirect(302, &format!("/hop/{}", at + 1))
            }
        });
        let result = read(&session(&server), b"content", 0..7).await;
        assert_eq!(result.is_ok(), is_followed);
        assert_eq!(server.requests().len(), 6);
    }
}

#[tokio::test]
async fn https_never_redirects_to_http() {
    let storage = storage(b"content");
    let link = format!("{}/blob?signature=hush", storage.url());
    let server = ScriptedRegistry::start_tls("127.0.0.1", Certificate::Signed, OnPlain::Alert, move |_| {
        Reply::redirect(307, &link)
    });
    let session = session_with(builder().ca_files(vec![AUTHORITY.into()]), &server, None);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("from https to http://127.0.0.1:") && !shown.contains("hush"), "{shown}");
    assert!(storage.requests().is_empty());
}

#[tokio::test]
async fn a_manifest_may_be_redirected() {
    let storage = storage(b"{}");
    let link = format!("{}/manifest", storage.url());
    let server = sending_to(307, move |_| link.clone());
    let manifest = session(&server).manifest("latest", None).await.unwrap();
    assert_eq!(&manifest.bytes[..], b"{}");
    assert!(storage.requests()[0].header("accept").unwrap().contains("image.index"));
}

#[tokio::test]
async fn a_redirect_may_lead_to_a_more_private_address_only_if_its_host_is_allowed() {
    let play = |address: std::net::IpAddr| match address.to_string().as_str() {
        "127.0.0.1" => AddressClass::Public,
        "127.0.1.1" => AddressClass::Private,
        "127.0.2.1" => AddressClass::Loopback,
        _ => AddressClass::LinkLocal,
    };
    let places = ["127.0.0.1", "127.0.1.1", "127.0.2.1", "127.0.3.1"];
    for (own_rank, registry) in places.iter().enumerate() {
        for (rank, place) in places.iter().enumerate() {
            let storage = ScriptedRegistry::start_at(place, |request| Reply::blob(request, b"content"));
            for (name, is_host_allowed) in [("storage.test", false), (*place, false), ("storage.test", true)]
            {
                let link = format!("http://{name}:{}/blob", storage.port());
                let server = ScriptedRegistry::start_at(registry, move |_| Reply::redirect(307, &link));
                let names = [("registry.test", *registry), ("storage.test", *place)];
                let policy = match is_host_allowed {
                    true => AddressPolicy::new().allow_host("storage.test"),
                    false => AddressPolicy::new(),
                };
                let http = builder().plain_http(true).network(play, &names).address_policy(policy);
                let host = format!("registry.test:{}", server.port());
                let session = Session::new(http.build().unwrap(), repository(&host, NAME), None);
                let before = storage.requests().len();
                let result = read(&session, b"content", 0..7).await;
                let is_allowed = is_host_allowed || rank <= own_rank;
                assert_eq!(result.is_ok(), is_allowed, "{registry} {name} {place}");
                assert_eq!(storage.requests().len() - before, usize::from(is_allowed));
                if let Err(error) = result {
                    let shown = error.to_string();
                    assert!(
                        !error.is_unauthorized() && shown.contains("more private than allowed"),
                        "{shown}"
                    );
                    assert_eq!(error.to_hint(), Some(Hint::AllowHost));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_policy_for_services_keeps_private_registries_from_being_reached() {
    let play = |address: std::net::IpAddr| match address.to_string().as_str() {
        "127.0.0.1" => AddressClass::Public,
        _ => AddressClass::Private,
    };
    for (place, is_allowed) in [("127.0.0.1", true), ("127.0.1.1", false)] {
        let server = ScriptedRegistry::start_at(place, |request| Reply::blob(request, b"content"));
        let policy = AddressPolicy::new().public_only();
        for name in ["registry.test", place] {
            let http = builder().plain_http(true).network(play, &[("registry.test", place)]);
            let http = http.address_policy(policy.clone()).build().unwrap();
            let session = Session::new(http, repository(&format!("{name}:{}", server.port()), NAME), None);
            assert_eq!(read(&session, b"content", 0..7).await.is_ok(), is_allowed, "{name} {place}");
        }
        assert_eq!(server.requests().is_empty(), !is_allowed);
    }
}

#[tokio::test]
async fn a_link_that_expires_before_a_read_resumes_is_requested_again() {
    let blob = content(100_000);
    let served = blob.clone();
    // Each link is valid for one request, which breaks off.
    let used = Mutex::new(std::collections::BTreeSet::new());
    let storage = ScriptedRegistry::start(move |request| {
        let is_new = lock(&used).insert(request.target.clone());
        if is_new { Reply::blob(request, &served).cut_after(30_000) } else { Reply::status(403) }
    });
    let (url, issued) = (storage.url(), AtomicUsize::new(0));
    let server = sending_to(307, move |_| format!("{url}/blob?n={}", issued.fetch_add(1, Ordering::SeqCst)));
    assert_eq!(read(&session(&server), &blob, 0..100_000).await.unwrap(), blob);
    let ranges: Vec<_> =
        storage.requests().iter().map(|request| request.range().map(|(start, _)| start)).collect();
    let expected = [None, Some(30_000), Some(30_000), Some(60_000), Some(60_000), Some(90_000), Some(90_000)];
    assert_eq!(ranges, expected);
    assert_eq!(server.requests_to("/token").len(), 1);
}

#[tokio::test]
async fn a_redirect_with_a_user_name_is_not_followed() {
    let storage = storage(b"content");
    let link = format!("http://me:hush@{}/blob", storage.host());
    let server = sending_to(307, move |_| link.clone());
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.to_string().contains("user name") && !error.to_string().contains("hush"), "{error}");
    assert!(storage.requests().is_empty());
}
