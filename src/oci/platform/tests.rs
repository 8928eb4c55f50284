//! The cases of containerd (`platforms_test.go`, `compare_test.go`), rewritten.

use super::*;

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// The same platform as a preference instead of a requirement.
fn preferred(text: &str) -> Platform {
    Platform { required: false, ..platform(text) }
}

#[test]
fn a_platform_is_normalised() {
    for (text, expected) in [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/V8.0", "linux/arm64"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm64/9.0", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm/8", "linux/arm/v8"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/i386/v2", "linux/386"),
        ("linux/ppc64le", "linux/ppc64le"),
        ("macOS/arm64", "darwin/arm64"),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ("windows()/amd64", "windows/amd64"),
        ("plan10/quantum/q1", "plan10/quantum/q1"),
    ] {
        assert_eq!(platform(text).to_string(), expected, "{text}");
        assert_eq!(platform(expected), platform(text), "{text}");
    }
}

#[test]
fn an_architecture_alone_implies_linux() {
    for (text, expected) in [
        ("arm64", "linux/arm64"),
        ("Aarch64", "linux/arm64"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("i386", "linux/386"),
        ("s390x", "linux/s390x"),
        ("riscv64", "linux/riscv64"),
    ] {
        assert_eq!(platform(text).to_string(), expected, "{text}");
    }
}

#[test]
fn an_operating_system_alone_implies_this_machines_architecture() {
    let host = Platform::host();
    assert_eq!(platform("linux"), host);
    assert_eq!(platform("macos").os(), "darwin");
    assert_eq!(platform("windows(10.0.20348)").os_version(), Some("10.0.20348"));
    assert_eq!(platform("windows").architecture(), host.architecture());
}

#[test]
fn only_a_requested_platform_is_required() {
    assert!(platform("linux").is_required());
    assert!(platform("arm64").is_required());
    assert!(platform("linux/arm64/v8").is_required());
    assert!(!Platform::host().is_required());
    assert!(!Platform::default().is_required());
    assert_eq!(platform("linux/arm64"), preferred("linux/arm64"));
}

#[test]
fn malformed_platforms_are_refused_with_the_position() {
    use PlatformErrorKind as Kind;

    for (text, kind, at) in [
        ("", Kind::Empty, 0),
        ("/arm64", Kind::Empty, 0),
        ("linux/", Kind::Empty, 6),
        ("linux//v8", Kind::Empty, 6),
        ("linux/arm64/", Kind::Empty, 12),
        ("()/amd64", Kind::Empty, 0),
        ("linux/arm64/v8/x", Kind::Parts, 15),
        ("linux/*", Kind::Character { found: '*' }, 6),
        ("linux/arm 64", Kind::Character { found: ' ' }, 9),
        ("linux/\u{1b}[2J", Kind::Character { found: '\u{1b}' }, 6),
        ("windows(10.0/amd64", Kind::Parenthesis, 12),
        ("windows(10+win32k)/amd64", Kind::Character { found: '+' }, 10),
        ("amd46", Kind::Unknown, 0),
        ("amd64(1.0)", Kind::Unknown, 0),
    ] {
        let error = text.parse::<Platform>().unwrap_err();
        assert_eq!((error.kind(), error.at()), (&kind, at), "{text:?}");
    }
}

#[test]
fn messages_escape_quoted_characters() {
    let error = "linux/\u{1b}[2J".parse::<Platform>().unwrap_err();
    assert_eq!(error.to_string(), "'\\u{1b}' is not allowed in a platform like linux/arm64/v8 (character 7)");
}

#[test]
fn newer_machines_run_older_variants_but_not_the_reverse() {
    for (wanted, taken, refused) in [
        ("linux/amd64", "linux/amd64 linux/amd64/v1", "linux/amd64/v2 linux/arm64 windows/amd64 windows/arm"),
        ("linux/amd64/v2", "linux/amd64 linux/amd64/v1 linux/amd64/v2", "linux/amd64/v3 linux/amd64/v4"),
        ("linux/386", "linux/386", "linux/amd64 linux/arm64"),
        (
            "linux/arm/v8",
            "linux/arm linux/arm/v5 linux/arm/v6 linux/arm/v7 linux/arm/v8",
            "linux/arm/v4 linux/arm64",
        ),
        ("linux/arm", "linux/arm linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm/v4 linux/arm/v8"),
        ("linux/arm/v6", "linux/arm/v5 linux/arm/v6 linux/armel", "linux/arm linux/arm/v7 linux/arm/v4"),
        ("linux/arm/v4", "linux/arm/v4", "linux/arm linux/arm/v5"),
        (
            "linux/arm64",
            "linux/arm64 linux/arm64/v8 linux/aarch64",
            "linux/arm64/v8.1 linux/arm64/v9 linux/amd64",
        ),
        ("linux/arm64/v8.1", "linux/arm64 linux/arm64/v8.1", "linux/arm64/v8.2 linux/arm64/v9"),
        (
            "linux/arm64/v9",
            "linux/arm64 linux/arm64/v8.1 linux/arm64/v8.5 linux/arm64/v9 linux/arm64/v9.0",
            "linux/arm64/v8.6 linux/arm64/v9.1",
        ),
        (
            "linux/arm64/v9.6",
            "linux/arm64/v8.9 linux/arm64/v9.6 linux/arm64/v9",
            "linux/arm64/v8.10 linux/arm64/v9.7",
        ),
        ("linux/riscv64", "linux/riscv64", "linux/riscv64/rva23 linux/riscv"),
        ("linux/ppc64le/power9", "linux/ppc64le/power9", "linux/ppc64le linux/ppc64le/power8"),
    ] {
        for other in taken.split(' ') {
            assert!(platform(wanted).matches(&platform(other)), "{wanted} accepts {other}");
            assert!(preferred(wanted).matches(&platform(other)), "{wanted} accepts {other}");
        }
        for other in refused.split(' ') {
            assert!(!platform(wanted).matches(&platform(other)), "{wanted} refuses {other}");
            assert!(!preferred(wanted).matches(&platform(other)), "{wanted} refuses {other}");
        }
    }
}

#[test]
fn only_a_preference_accepts_another_architecture_that_the_machine_runs() {
    for (wanted, other) in [
        ("linux/amd64", "linux/386"),
        ("linux/amd64/v3", "linux/386"),
        ("linux/arm64", "linux/arm/v8"),
        ("linux/arm64", "linux/arm"),
        ("linux/arm64/v9.6", "linux/arm/v5"),
    ] {
        assert!(preferred(wanted).matches(&platform(other)), "{wanted} {other}");
        assert!(!platform(wanted).matches(&platform(other)), "{wanted} {other}");
        assert!(!preferred(other).matches(&platform(wanted)), "{other} {wanted}");
    }
    assert!(!preferred("linux/arm64").matches(&platform("linux/arm/v4")));
}

#[test]
fn a_windows_version_accepts_its_builds() {
    let wanted = platform("windows(10.0.17763)/amd64");
    assert!(wanted.matches(&platform("windows(10.0.17763)/amd64")));
    assert!(wanted.matches(&platform("windows(10.0.17763.1234)/amd64")));
    assert!(!wanted.matches(&platform("windows(10.0.177630)/amd64")));
    assert!(!wanted.matches(&platform("windows/amd64")));
    assert!(platform("windows/amd64").matches(&wanted));
}

#[test]
fn the_best_candidate_is_selected_and_the_first_among_equals() {
    for (wanted, candidates, expected) in [
        (preferred("linux/arm64"), "linux/amd64 linux/arm/v7 linux/arm64", Some(2)),
        (preferred("linux/arm64"), "linux/arm/v5 linux/arm/v7 linux/arm/v6", Some(1)),
        (preferred("linux/amd64"), "linux/386 linux/amd64", Some(1)),
        (preferred("linux/amd64"), "windows/amd64 linux/386", Some(1)),
        (platform("linux/amd64"), "windows/amd64 linux/386", None),
        (platform("linux/arm/v7"), "linux/arm/v5 linux/arm/v6 linux/arm/v8", Some(1)),
        (platform("linux/arm/v7"), "linux/arm/v6 linux/arm linux/arm/v7", Some(1)),
        (platform("linux/arm64/v9.1"), "linux/arm64 linux/arm64/v9 linux/arm64/v8.6", Some(1)),
        (platform("linux/arm64/v9.1"), "linux/arm64 linux/arm64/v8.6 linux/arm64/v8.7", Some(1)),
        (platform("linux/amd64/v3"), "linux/amd64/v4 linux/amd64 linux/amd64/v2", Some(2)),
        (platform("linux/amd64"), "unknown/unknown", None),
    ] {
        let candidates: Vec<Platform> = candidates.split(' ').map(platform).collect();
        let selected = wanted.select(candidates.iter().zip(0..));
        assert_eq!(selected, expected, "{wanted} of {candidates:?}");
    }
}

#[test]
fn a_document_may_state_no_platform_or_an_invalid_one() {
    let stated = |os, architecture| Platform::stated(os, architecture, "", "");
    assert_eq!(stated("", ""), Ok(None));
    assert_eq!(stated("linux", ""), Ok(None));
    assert_eq!(stated("", "x86_64").unwrap().unwrap().to_string(), "linux/amd64");
    assert!(stated("linux", "amd\n64").is_err());
    assert!(Platform::stated("windows", "amd64", "", "10.0\u{1b}[2J").is_err());
    assert!(stated("unknown", "unknown").unwrap().unwrap().is_unknown());
    assert!(!stated("linux", "unknown").unwrap().unwrap().is_unknown());
}
