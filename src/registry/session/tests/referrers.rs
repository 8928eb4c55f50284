//! The list of a manifest's referrers, over several pages.

use super::*;

/// The path of the list of referrers.
fn list(subject: &Digest) -> String {
    format!("/v2/{NAME}/referrers/{subject}")
}

fn page(number: usize, link: Option<&str>) -> Reply {
    let page = Reply::ok(format!("page {number}"));
    match link {
        Some(link) => page.header("link", link),
        None => page,
    }
}

/// The number of a page, from the query in the link of the previous one.
fn number(request: &Request) -> usize {
    request.query().rsplit_once('=').map_or(0, |(_, number)| number.parse().unwrap_or(0))
}

async fn pages(server: &ScriptedRegistry, subject: &Digest) -> Vec<String> {
    let pages = session(server).referrers(subject).await.unwrap();
    pages.iter().map(|page| str::from_utf8(page).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page() {
    let subject = Digest::sha256(b"subject");
    let path = list(&subject);
    // Links relative to the registry and to the list, and absolute; with other links, and a comma in the URL.
    let server = ScriptedRegistry::start(move |request| match number(request) {
        0 => page(0, Some(&format!("<{path}?n=1&last=1>; rel=\"next\""))),
        1 => page(1, Some("<https://docs.example/>; rel=help, <?a,b&last=2>; title=\"x\"; REL=next")),
        2 => {
            let host = request.header("host").unwrap();
            page(2, Some(&format!("<http://{host}{path}?last=3>;rel=\"last next\", </>; rel=\"prev\"")))
        }
        number => page(number, Some("</>; rel=\"prev\"")),
    });
    assert_eq!(pages(&server, &subject).await, ["page 0", "page 1", "page 2", "page 3"]);
}

#[tokio::test]
async fn a_list_continues_only_in_the_same_repository() {
    let subject = Digest::sha256(b"subject");
    let other = ScriptedRegistry::start(|_| Reply::ok("elsewhere"));
    for target in [
        format!("{}{}?last=1", other.url(), list(&subject)),
        format!("//{}{}?last=1", other.host(), list(&subject)),
        format!("https://x@{{}}{}?last=1", list(&subject)),
        format!("/v2/library/other/referrers/{subject}?last=1"),
        format!("/v2/{NAME}/manifests/{subject}?last=1"),
        format!("{}/../../../other?last=1", list(&subject)),
        format!("{}?{}", list(&subject), "x".repeat(limits::URL_BYTES)),
        "ftp://localhost/".to_owned(),
        "http://[".to_owned(),
    ] {
        let server = ScriptedRegistry::start(move |request| {
            let target = target.replace("{}", request.header("host").unwrap());
            page(number(request), Some(&format!("<{target}>; rel=\"next\"")))
        });
        assert_eq!(pages(&server, &subject).await, ["page 0"]);
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn an_endless_list_is_capped() {
    let subject = Digest::sha256(b"subject");
    // A page that repeats.
    let server = ScriptedRegistry::start(|request| {
        page(number(request), Some(&format!("<?last={}>; rel=next", 3 - number(request).max(1))))
    });
    assert_eq!(pages(&server, &subject).await, ["page 0", "page 2", "page 1"]);
    // Always another page.
    let server = ScriptedRegistry::start(|request| {
        page(number(request), Some(&format!("<?last={}>; rel=next", number(request) + 1)))
    });
    assert_eq!(pages(&server, &subject).await.len(), limits::REFERRERS_PAGES);
    assert_eq!(server.requests().len(), limits::REFERRERS_PAGES);
    // Too much in total.
    let server = ScriptedRegistry::start(|request| {
        let link = format!("<?last={}>; rel=next", number(request) + 1);
        Reply::ok(vec![b'x'; limits::MANIFEST_BYTES as usize / 2 - 1]).header("link", &link)
    });
    assert_eq!(pages(&server, &subject).await.len(), 2);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn pages_before_a_missing_one_count() {
    let subject = Digest::sha256(b"subject");
    let server = ScriptedRegistry::start(|request| match number(request) {
        0 => page(0, Some("<?last=1>; rel=next")),
        _ => Reply::status(404),
    });
    assert_eq!(pages(&server, &subject).await, ["page 0"]);
    assert_eq!(server.requests().len(), 2);
}
