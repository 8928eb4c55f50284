//! The cases of `distribution/reference` (`reference_test.go`, `normalize_test.go`), rewritten, and cases that
//! other parsers get wrong.

use super::{ReferenceErrorKind as Kind, *};
use crate::oci::digest::DigestError;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> ReferenceError {
    match text.parse::<Reference>() {
        Ok(reference) => panic!("{text:?} was parsed as {reference}"),
        Err(error) => error,
    }
}

#[test]
fn a_name_is_split_into_registry_repository_and_tag() {
    for (text, registry, repository, tag) in [
        // Short names.
        ("nginx", "docker.io", "library/nginx", "latest"),
        ("nginx:alpine", "docker.io", "library/nginx", "alpine"),
        ("docker/migrator", "docker.io", "docker/migrator", "latest"),
        ("dmcgowan/myapp:1", "docker.io", "dmcgowan/myapp", "1"),
        ("a/b/c", "docker.io", "a/b/c", "latest"),
        ("test_com", "docker.io", "library/test_com", "latest"),
        ("test_com/foo", "docker.io", "test_com/foo", "latest"),
        ("nonlibrary/ubuntu", "docker.io", "nonlibrary/ubuntu", "latest"),
        ("other/library", "docker.io", "other/library", "latest"),
        ("ubuntu-12.04-base", "docker.io", "library/ubuntu-12.04-base", "latest"),
        // A number after a colon is a port before a slash, otherwise a tag.
        ("foo:5000", "docker.io", "library/foo", "5000"),
        ("foo:5000/x", "foo:5000", "x", "latest"),
        ("test.com:tag", "docker.io", "library/test.com", "tag"),
        ("test.com:5000", "docker.io", "library/test.com", "5000"),
        ("foo_bar.com:8080", "docker.io", "library/foo_bar.com", "8080"),
        ("foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com", "8080"),
        ("test:5000/repo", "test:5000", "repo", "latest"),
        ("test:5000/repo:tag", "test:5000", "repo", "tag"),
        ("test-com:8080/foo", "test-com:8080", "foo", "latest"),
        ("localhost:5000", "docker.io", "library/localhost", "5000"),
        ("lowercase:Uppercase", "docker.io", "library/lowercase", "Uppercase"),
        // Registries.
        ("localhost/x", "localhost", "x", "latest"),
        ("localhost", "docker.io", "library/localhost", "latest"),
        ("localhost/library/debian", "localhost", "library/debian", "latest"),
        ("myhost/x", "docker.io", "myhost/x", "latest"),
        ("Foo/bar", "Foo", "bar", "latest"),
        ("LOCALDOMAIN/fooo/bar", "LOCALDOMAIN", "fooo/bar", "latest"),
        ("Uppercase/lowercase:tag", "Uppercase", "lowercase", "tag"),
        ("test.com/repo:tag", "test.com", "repo", "tag"),
        ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux", "some-long-tag"),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io",
            "test.example.com/my-app",
            "test.example.com",
        ),
        ("xn--n3h.com:18080/foo:xn--n3h.com", "xn--n3h.com:18080", "foo", "xn--n3h.com"),
        // Addresses.
        ("192.168.1.1", "docker.io", "library/192.168.1.1", "latest"),
        ("192.168.1.1:5000", "docker.io", "library/192.168.1.1", "5000"),
        ("192.168.1.1/repo", "192.168.1.1", "repo", "latest"),
        ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050"),
        ("[::1]:5000/x", "[::1]:5000", "x", "latest"),
        ("[2001:db8::1]/repo", "[2001:db8::1]", "repo", "latest"),
        ("[2001:db8:1:2:3:4:5:6]/repo:tag", "[2001:db8:1:2:3:4:5:6]", "repo", "tag"),
        ("[2001:db8::]:5000/repo:tag", "[2001:db8::]:5000", "repo", "tag"),
        ("[FC00::1]:65535/docker/docker", "[FC00::1]:65535", "docker/docker", "latest"),
        // All names of Docker Hub.
        ("docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("docker.io/library/foo/bar", "docker.io", "library/foo/bar", "latest"),
        ("docker.io/mcgowan/myapp:1", "docker.io", "mcgowan/myapp", "1"),
        ("index.docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("index.docker.io/fooo/bar", "docker.io", "fooo/bar", "latest"),
        ("registry-1.docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("Docker.IO/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("docker.io:443/ubuntu", "docker.io:443", "ubuntu", "latest"),
        // Separators.
        ("a__b", "docker.io", "library/a__b", "latest"),
        ("a---b", "docker.io", "library/a---b", "latest"),
        ("e/a_b.c-d", "docker.io", "e/a_b.c-d", "latest"),
        ("dock__er/docker", "docker.io", "dock__er/docker", "latest"),
        ("d/docker", "docker.io", "d/docker", "latest"),
        // Tags.
        ("a:_", "docker.io", "library/a", "_"),
        ("a:1.-_x", "docker.io", "library/a", "1.-_x"),
    ] {
        let reference = reference(text);
        let found = (reference.registry(), reference.repository(), reference.tag(), reference.digest());
        assert_eq!(found, (registry, repository, Some(tag), None), "{text}");
    }
}

#[test]
fn a_reference_keeps_both_digest_and_tag() {
    for name in ["nginx", "test:5000/repo", "[2001:db8::1]:5000/repo", "xn--7o8h.com/myimage"] {
        for algorithm in ["sha256", "sha512"] {
            let digest =
                format!("{algorithm}:{}", if algorithm == "sha256" { HEX.into() } else { HEX.repeat(2) });
            let alone = reference(&format!("{name}@{digest}"));
            assert_eq!(alone.tag(), None);
            assert_eq!(alone.digest().unwrap().to_string(), digest);
            let both = reference(&format!("{name}:tag@{digest}"));
            assert_eq!(both.tag(), Some("tag"));
            assert_eq!(both.digest(), alone.digest());
            assert_ne!(both, alone);
            assert!(both.to_string().ends_with(&format!(":tag@{digest}")), "{both}");
        }
    }
}

#[test]
fn all_spellings_of_a_name_are_the_same_reference() {
    for (full, familiar, others) in [
        (
            "docker.io/library/ubuntu:latest",
            "ubuntu:latest",
            "ubuntu library/ubuntu docker.io/ubuntu index.docker.io/ubuntu",
        ),
        (
            "docker.io/library/busybox:1",
            "busybox:1",
            "busybox:1 library/busybox:1 registry-1.docker.io/busybox:1",
        ),
        ("docker.io/fooo/bar:latest", "fooo/bar:latest", "fooo/bar index.docker.io/fooo/bar"),
        ("docker.io/library/foo/bar:latest", "library/foo/bar:latest", "library/foo/bar"),
        ("localhost/fooo:latest", "localhost/fooo:latest", "localhost/fooo"),
        ("localhost/library/fooo:latest", "localhost/library/fooo:latest", "localhost/library/fooo"),
        (
            "127.0.0.1:8000/privatebase:latest",
            "127.0.0.1:8000/privatebase:latest",
            "127.0.0.1:8000/privatebase",
        ),
        ("FOO/bar:latest", "FOO/bar:latest", "FOO/bar"),
    ] {
        for text in others.split(' ').chain([full, familiar]) {
            let reference = reference(text);
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(format!("{reference:?}"), full, "{text}");
            assert_eq!(reference, self::reference(full), "{text}");
        }
    }
    let pinned = format!("busybox:latest@sha256:{HEX}");
    assert_eq!(reference(&pinned).familiar(), pinned);
    assert_eq!(reference(&pinned).to_string(), format!("docker.io/library/{pinned}"));
}

#[test]
fn docker_hub_serves_its_api_on_another_host() {
    for (text, host) in [
        ("nginx", "registry-1.docker.io"),
        ("index.docker.io/nginx", "registry-1.docker.io"),
        ("registry-1.docker.io/nginx", "registry-1.docker.io"),
        ("ghcr.io/nginx", "ghcr.io"),
        ("[::1]:5000/nginx", "[::1]:5000"),
    ] {
        assert_eq!(reference(text).api_host(), host, "{text}");
    }
}

#[test]
fn only_this_machine_is_loopback() {
    for (registry, expected) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("LOCALHOST:5000", true),
        ("127.0.0.1", true),
        ("127.1.2.3:5000", true),
        ("[::1]", true),
        ("[::1]:5000", true),
        ("[0:0:0:0:0:0:0:1]:5000", true),
        ("[::ffff:7f00:1]:5000", true),
        ("docker.io", false),
        ("localhost.example.com", false),
        ("127.0.0.1.example.com", false),
        ("127.0.0:5000", false),
        ("128.0.0.1", false),
        ("10.0.0.1:5000", false),
        ("192.168.1.1:5000", false),
        ("0.0.0.0:5000", false),
        ("[::]:5000", false),
        ("[::2]:5000", false),
        ("[fe80::1]:5000", false),
    ] {
        assert_eq!(reference(&format!("{registry}/x")).is_loopback(), expected, "{registry}");
    }
}

#[test]
fn malformed_references_are_refused_with_the_position() {
    use Part::{Digest as InDigest, Registry, Repository, Tag};

    let character = |found, part| Kind::Character { found, part };
    let short = DigestError::Length { expected: 64, found: 34 };
    let on_hub = |name: &str| format!("name@{name}");
    for (text, kind, at) in [
        ("", Kind::Missing(Repository), 0),
        // Repositories.
        (":justtag", Kind::Missing(Repository), 0),
        (&format!("@sha256:{HEX}"), Kind::Missing(Repository), 0),
        ("docker/", Kind::Missing(Repository), 7),
        ("docker///docker", Kind::Missing(Repository), 7),
        ("docker.io/docker///docker", Kind::Missing(Repository), 17),
        ("/docker", Kind::Missing(Repository), 0),
        ("example.com/", Kind::Missing(Repository), 12),
        ("Uppercase:tag", Kind::Uppercase { found: 'U' }, 0),
        ("docker/Docker", Kind::Uppercase { found: 'D' }, 7),
        ("docker.io/docker/Docker", Kind::Uppercase { found: 'D' }, 17),
        ("test:5000/Uppercase/lowercase:tag", Kind::Uppercase { found: 'U' }, 10),
        ("nGinx", Kind::Uppercase { found: 'G' }, 1),
        ("-docker", Kind::Separator(Repository), 0),
        ("-docker/docker", Kind::Separator(Repository), 0),
        ("docker-/docker", Kind::Separator(Repository), 6),
        ("-docker-/docker", Kind::Separator(Repository), 0),
        ("____/____", Kind::Separator(Repository), 0),
        ("_docker/_docker", Kind::Separator(Repository), 0),
        ("docker/_docker", Kind::Separator(Repository), 7),
        ("dock..er/docker", Kind::Separator(Registry), 5),
        ("docker/dock..er", Kind::Separator(Repository), 11),
        ("x/dock_.er", Kind::Separator(Repository), 6),
        ("x/dock-.er", Kind::Separator(Repository), 6),
        ("a___b", Kind::Separator(Repository), 1),
        ("a.-b", Kind::Separator(Repository), 1),
        ("a.", Kind::Separator(Repository), 1),
        ("aa/asdf$$^/aa", character('$', Repository), 7),
        (" nginx", character(' ', Repository), 0),
        ("nginx ", character(' ', Repository), 5),
        ("nginx\n", character('\n', Repository), 5),
        ("ngi\u{1b}[2Jnx", character('\u{1b}', Repository), 3),
        ("caf\u{e9}", character('\u{e9}', Repository), 3),
        ("a.\u{e9}", character('\u{e9}', Repository), 2),
        ("..", Kind::Separator(Repository), 0),
        ("ghcr.io/../x", Kind::Separator(Repository), 8),
        (HEX, Kind::Identifier, 0),
        (&format!("x/{}", "a".repeat(254)), Kind::TooLong { part: Repository, limit: 255 }, 0),
        // Registries.
        ("foo_bar.com/x", character('_', Registry), 3),
        ("-docker.io/docker/docker", Kind::Separator(Registry), 0),
        ("docker-.io/x", Kind::Separator(Registry), 6),
        ("a..b/x", Kind::Separator(Registry), 2),
        ("example.com./x", Kind::Separator(Registry), 12),
        ("ex\u{e4}mple.com/x", character('\u{e4}', Registry), 2),
        ("foo:/x", Kind::Port, 4),
        ("foo:port/x", Kind::Port, 4),
        ("foo:0/x", Kind::Port, 4),
        ("foo:+80/x", Kind::Port, 4),
        ("foo:65536/x", Kind::Port, 4),
        ("foo:99999/x", Kind::Port, 4),
        (":5000/x", Kind::Separator(Registry), 0),
        ("[2001:db8::1]", Kind::Missing(Repository), 13),
        ("[2001:db8::1]:5000", Kind::Missing(Repository), 18),
        ("[2001:db8::1]:tag", Kind::Missing(Repository), 17),
        ("fc00::1:5000/debian", Kind::Ipv6, 0),
        ("[fe80::1%eth0]:5000/debian", Kind::Ipv6, 1),
        ("[fe80::1%@invalidzone]:5000/repo", Kind::Missing(Repository), 9),
        ("[2001:db8:3:4::192.0.2.33]:5000/debian", Kind::Ipv6, 1),
        ("[1:2:3]/x", Kind::Ipv6, 1),
        ("[]:5000/x", Kind::Ipv6, 1),
        ("[::1/x", Kind::Ipv6, 0),
        ("[::1]5000/x", Kind::Ipv6, 5),
        ("[::1]:/x", Kind::Port, 6),
        ("[::1]:99999/x", Kind::Port, 6),
        // Tags.
        ("nginx:", Kind::Missing(Tag), 6),
        ("nginx:-foo", character('-', Tag), 6),
        ("nginx:.foo", character('.', Tag), 6),
        ("nginx:a:b", character(':', Tag), 7),
        ("nginx:a b", character(' ', Tag), 7),
        ("example.com/nginx:\u{e9}", character('\u{e9}', Tag), 18),
        (&format!("a:{}", "t".repeat(129)), Kind::TooLong { part: Tag, limit: 128 }, 130),
        // Digests.
        (&on_hub(""), Kind::Missing(InDigest), 5),
        (&on_hub("foo"), Kind::Digest(DigestError::NoColon), 5),
        (&on_hub(&format!("invaliddigest:{HEX}")), Kind::Digest(DigestError::Algorithm), 5),
        (&on_hub(&format!("sha256:{}", "f".repeat(34))), Kind::Digest(short), 5),
        (&on_hub(&format!("sha256:{}F", "0".repeat(63))), character('F', InDigest), 75),
        (
            &on_hub(&format!("sha256:{HEX}:tag")),
            Kind::Digest(DigestError::Length { expected: 64, found: 68 }),
            5,
        ),
    ] {
        let error = refused(text);
        assert_eq!((error.kind(), error.at()), (&kind, at), "{text:?}");
    }
}

#[test]
fn names_are_accepted_up_to_the_limit() {
    let longest = format!("a/{}a", "a/".repeat(126));
    assert_eq!(longest.len(), 255);
    assert_eq!(reference(&format!("{longest}:tag-puts-this-over-max")).repository(), longest);
    assert_eq!(reference(&format!("example.com/{}", "a".repeat(255))).repository().len(), 255);
    let too_long = refused(&format!("example.com/{}:tag", "a".repeat(256)));
    assert_eq!((too_long.kind(), too_long.at()), (&Kind::TooLong { part: Part::Repository, limit: 255 }, 12));
    // `library/` counts towards the limit.
    assert_eq!(reference(&"a".repeat(247)).repository().len(), 255);
    refused(&"a".repeat(248));
    assert_eq!(reference(&format!("a:{}", "t".repeat(128))).tag().map(str::len), Some(128));
}

#[test]
fn hexadecimal_names_are_identifiers_only_when_bare_and_complete() {
    refused(HEX);
    reference(&HEX[1..]);
    reference(&format!("docker.io/{HEX}"));
    reference(&format!("{HEX}:tag"));
    reference("thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev");
}

#[test]
fn a_pasted_url_gets_a_suggestion() {
    for (text, suggestion) in [
        ("https://ghcr.io/owner/image:1", Some("ghcr.io/owner/image:1")),
        ("http://localhost:5000/x", Some("localhost:5000/x")),
        ("https://hub.docker.com/_/nginx", Some("nginx")),
        ("https://hub.docker.com/_/nginx/tags?page=1", Some("nginx")),
        ("https://hub.docker.com/r/bitnami/redis/", Some("bitnami/redis")),
        ("https://hub.docker.com/search?q=x", None),
        ("https://quay.io/org/image?tab=tags", Some("quay.io/org/image")),
        ("https://user:secret@ghcr.io/x", None),
        ("https://", None),
    ] {
        let error = refused(text);
        assert_eq!(error.at(), 0, "{text}");
        assert_eq!(error.kind(), &Kind::Scheme { suggestion: suggestion.map(ToOwned::to_owned) }, "{text}");
        assert!(!error.to_string().contains("secret"), "{text}");
    }
}

#[test]
fn messages_name_the_problem_and_its_position() {
    for (text, message) in [
        ("docker/Docker", "a repository name is lower case, 'D' is not (character 8)"),
        ("nginx:a b", "' ' is not allowed in the tag (character 8)"),
        ("a\u{1b}", "'\\u{1b}' is not allowed in the repository name (character 2)"),
        ("a:", "the tag is missing (character 3)"),
        ("foo:99999/x", "the port is not a number from 1 to 65535 (character 5)"),
        (
            "https://ghcr.io/a/b",
            "a reference does not start with a scheme like https://: write ghcr.io/a/b (character 1)",
        ),
        (
            "https://a:b@c/d",
            "a reference does not start with a scheme like https://: write registry/repository:tag (character 1)",
        ),
    ] {
        assert_eq!(refused(text).to_string(), message);
    }
}

#[test]
fn pinning_a_reference_keeps_its_tag() {
    let digest = Digest::sha256(b"");
    let pinned = reference("nginx:alpine").with_digest(digest.clone());
    assert_eq!((pinned.tag(), pinned.digest()), (Some("alpine"), Some(&digest)));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_printed_reference_parses_to_the_same_reference(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}|\\PC{0,40}") {
            match text.parse::<Reference>() {
                Ok(reference) => {
                    prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                    prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
                }
                Err(error) => prop_assert!(text.is_char_boundary(error.at()) && error.at() <= text.len()),
            }
        }
    }
}
