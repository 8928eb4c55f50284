//! The parser: `[host[:port]/]repository[:tag][@digest]`.

use std::net::Ipv6Addr;

use super::{DOCKER_HUB, OFFICIAL, Part, Reference, ReferenceError, ReferenceErrorKind as Kind};
use crate::oci::digest::{Digest, DigestError};

/// Names that mean Docker Hub.
const DOCKER_HUB_ALIASES: [&str; 3] = [DOCKER_HUB, "index.docker.io", super::DOCKER_HUB_API];
const DEFAULT_TAG: &str = "latest";
/// Longest repository name, `library/` included, in bytes.
const REPOSITORY_BYTES: usize = 255;
/// Longest tag, in bytes (distribution specification, "Pulling manifests").
const TAG_BYTES: usize = 128;

/// Parses and normalises a reference.
pub(super) fn reference(text: &str) -> Result<Reference, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::new(Kind::Missing(Part::Repository), 0));
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(ReferenceError::new(Kind::Scheme { suggestion: suggestion(rest) }, 0));
    }
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(ReferenceError::new(Kind::Identifier, 0));
    }
    let (rest, digest_text) = split(text, '@');
    let Name { registry, official, rest, at } = split_registry(rest)?;
    let (repository, tag_text) = split(rest, ':');
    check_repository(repository, at)?;
    let repository = if official { format!("{OFFICIAL}{repository}") } else { repository.to_owned() };
    if repository.len() > REPOSITORY_BYTES {
        let kind = Kind::TooLong { part: Part::Repository, limit: REPOSITORY_BYTES };
        return Err(ReferenceError::new(kind, at));
    }
    let tag = tag_text.map(|(tag, offset)| tag_of(tag, at.saturating_add(offset))).transpose()?;
    let digest = digest_text.map(|(digest, at)| digest_of(digest, at)).transpose()?;
    let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(Reference { registry, repository, tag, digest })
}

/// Parses the digest that begins `at` bytes into the text.
pub(super) fn digest_of(text: &str, at: usize) -> Result<Digest, ReferenceError> {
    text.parse().map_err(|error| match error {
        _ if text.is_empty() => ReferenceError::new(Kind::Missing(Part::Digest), at),
        DigestError::Character { at: offset } => {
            let found = text.get(offset..).and_then(|rest| rest.chars().next()).unwrap_or_default();
            ReferenceError::new(Kind::Character { found, part: Part::Digest }, at.saturating_add(offset))
        }
        other => ReferenceError::new(Kind::Digest(other), at),
    })
}

/// Splits at the first `separator` into the part before it, and the part after it with its offset.
fn split(text: &str, separator: char) -> (&str, Option<(&str, usize)>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some((after, before.len().saturating_add(separator.len_utf8())))),
        None => (text, None),
    }
}

struct Name<'a> {
    registry: String,
    /// Whether `library/` is added in front of the repository.
    official: bool,
    /// Repository and tag.
    rest: &'a str,
    /// Where `rest` begins.
    at: usize,
}

/// Docker's rule: the part before the first slash is a registry if it is `localhost` or contains a dot, a colon
/// or a capital letter.
fn split_registry(text: &str) -> Result<Name<'_>, ReferenceError> {
    let hub = |rest, at, official| Name { registry: DOCKER_HUB.to_owned(), official, rest, at };
    let Some((host, rest)) = text.split_once('/') else {
        if text.starts_with('[') {
            return Err(ReferenceError::new(Kind::Missing(Part::Repository), text.len()));
        }
        return Ok(hub(text, 0, true));
    };
    let at = host.len().saturating_add(1);
    if DOCKER_HUB_ALIASES.iter().any(|alias| host.eq_ignore_ascii_case(alias)) {
        return Ok(hub(rest, at, !rest.contains('/')));
    }
    if host == "localhost"
        || host.contains(['.', ':'])
        || host.contains(|char: char| char.is_ascii_uppercase())
    {
        check_registry(host)?;
        return Ok(Name { registry: host.to_owned(), official: false, rest, at });
    }
    Ok(hub(text, 0, false))
}

fn check_registry(host: &str) -> Result<(), ReferenceError> {
    let ipv6 = |at| Err(ReferenceError::new(Kind::Ipv6, at));
    if let Some(inner) = host.strip_prefix('[') {
        let Some((address, port)) = inner.split_once(']') else { return ipv6(0) };
        // The grammar has no embedded IPv4 (`::ffff:10.0.0.1`) and no zones.
        let plain = address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
        if !plain || address.parse::<Ipv6Addr>().is_err() {
            return ipv6(1);
        }
        let at = address.len().saturating_add(2);
        return match port.strip_prefix(':') {
            Some(port) => check_port(port, at.saturating_add(1)),
            None if port.is_empty() => Ok(()),
            None => ipv6(at),
        };
    }
    let (name, port) = split(host, ':');
    if port.is_some_and(|(port, _)| port.contains(':')) {
        return ipv6(0);
    }
    let mut at = 0_usize;
    for label in name.split('.') {
        check_label(label, at)?;
        at = at.saturating_add(label.len()).saturating_add(1);
    }
    port.map_or(Ok(()), |(port, at)| check_port(port, at))
}

fn check_label(label: &str, at: usize) -> Result<(), ReferenceError> {
    let wrong = label.char_indices().find(|(_, char)| !char.is_ascii_alphanumeric() && *char != '-');
    if let Some((offset, found)) = wrong {
        let kind = Kind::Character { found, part: Part::Registry };
        return Err(ReferenceError::new(kind, at.saturating_add(offset)));
    }
    if label.is_empty() || label.starts_with('-') {
        return Err(ReferenceError::new(Kind::Separator(Part::Registry), at));
    }
    if label.ends_with('-') {
        let last = at.saturating_add(label.len()).saturating_sub(1);
        return Err(ReferenceError::new(Kind::Separator(Part::Registry), last));
    }
    Ok(())
}

fn check_port(port: &str, at: usize) -> Result<(), ReferenceError> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        _ => Err(ReferenceError::new(Kind::Port, at)),
    }
}

fn check_repository(repository: &str, at: usize) -> Result<(), ReferenceError> {
    let mut at = at;
    for component in repository.split('/') {
        check_component(component, at)?;
        at = at.saturating_add(component.len()).saturating_add(1);
    }
    Ok(())
}

/// Letters and digits, with one dot, one or two underscores, or any number of dashes between them.
fn check_component(component: &str, start: usize) -> Result<(), ReferenceError> {
    let alphanumeric = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    if component.is_empty() {
        return Err(ReferenceError::new(Kind::Missing(Part::Repository), start));
    }
    let mut rest = component;
    loop {
        let word_at = start.saturating_add(component.len()).saturating_sub(rest.len());
        let after_word = rest.trim_start_matches(alphanumeric);
        if after_word.len() == rest.len() {
            return Err(unexpected(rest.chars().next(), word_at));
        }
        if after_word.is_empty() {
            return Ok(());
        }
        let at = start.saturating_add(component.len()).saturating_sub(after_word.len());
        let after_separator = after_word.trim_start_matches(['.', '_', '-']);
        let separator = after_word.strip_suffix(after_separator).unwrap_or_default();
        if separator.is_empty() {
            return Err(unexpected(after_word.chars().next(), at));
        }
        let good = matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
        if !good || after_separator.is_empty() {
            return Err(ReferenceError::new(Kind::Separator(Part::Repository), at));
        }
        rest = after_separator;
    }
}

fn unexpected(found: Option<char>, at: usize) -> ReferenceError {
    let kind = match found {
        None => Kind::Missing(Part::Repository),
        Some('.' | '_' | '-') => Kind::Separator(Part::Repository),
        Some(found) if found.is_uppercase() => Kind::Uppercase { found },
        Some(found) => Kind::Character { found, part: Part::Repository },
    };
    ReferenceError::new(kind, at)
}

fn tag_of(tag: &str, at: usize) -> Result<String, ReferenceError> {
    if tag.is_empty() {
        return Err(ReferenceError::new(Kind::Missing(Part::Tag), at));
    }
    let allowed = |offset: usize, char: char| {
        char.is_ascii_alphanumeric() || char == '_' || (offset > 0 && matches!(char, '.' | '-'))
    };
    if let Some((offset, found)) = tag.char_indices().find(|(offset, char)| !allowed(*offset, *char)) {
        let kind = Kind::Character { found, part: Part::Tag };
        return Err(ReferenceError::new(kind, at.saturating_add(offset)));
    }
    if tag.len() > TAG_BYTES {
        let kind = Kind::TooLong { part: Part::Tag, limit: TAG_BYTES };
        return Err(ReferenceError::new(kind, at.saturating_add(TAG_BYTES)));
    }
    Ok(tag.to_owned())
}

/// The reference that a pasted URL probably means; `None` rather than one that could contain a password.
fn suggestion(rest: &str) -> Option<String> {
    let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let rest = match rest.strip_prefix("hub.docker.com/") {
        Some(page) => {
            let mut parts = page.split('/');
            match (parts.next()?, parts.next()?, parts.next()) {
                ("_", name, _) => name.to_owned(),
                ("r", namespace, Some(name)) => format!("{namespace}/{name}"),
                _ => return None,
            }
        }
        None => rest.to_owned(),
    };
    let known = rest.parse::<Reference>().is_ok();
    known.then_some(rest)
}
