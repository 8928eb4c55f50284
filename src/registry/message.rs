//! What the heads and bodies of responses say: pure functions over headers and text.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    auth::redact::Redactor,
    registry::http::{HeaderMap, StatusCode, header},
};

/// Longest text of a server that is repeated in a message, in characters.
const MESSAGE_CHARACTERS: usize = 200;

/// A parsed `Content-Range` (RFC 9110, section 14.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ContentRange {
    /// The bytes that follow; none in the response to an unsatisfiable range.
    pub(super) range: Option<Range<u64>>,
    /// Length of the whole, if it is known.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// Reads the header of that name; `None` if it is missing, repeated or malformed.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Self::parse(value.to_str().ok()?)
    }

    fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let (unit, value) = value.split_once([' ', '='])?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = value.trim().split_once('/')?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        if range == "*" {
            return Some(Self { range: None, total });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last || total.is_some_and(|total| last >= total) {
            return None;
        }
        Some(Self { range: Some(first..last.checked_add(1)?), total })
    }
}

/// A number of digits only: `str::parse` would accept a sign too.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// How long the server asks to wait: `Retry-After` in seconds, or as a date by the server's own clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that overflows is beyond every cap.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = date(headers).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default())
}

/// The date of the response by the server's clock.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

/// Whether the same request may succeed later: distribution's and go-containerregistry's lists.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// The message in an error's body as one short line, without control characters, secrets, or more of a URL than its server. This is the
/// one place where a peer's text enters a message.
pub(super) fn server_message(body: &[u8], redactor: &Redactor) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => json_message(&value)?,
        Err(_) => {
            let text = std::str::from_utf8(body).ok()?.trim();
            if text.is_empty() || text.starts_with('<') {
                return None;
            }
            text.to_owned()
        }
    };
    one_line(&text, redactor)
}

/// As [`server_message`], for a token server: only the fields of a JSON error. Its other responses contain tokens.
pub(super) fn token_server_message(body: &[u8], redactor: &Redactor) -> Option<String> {
    one_line(&json_message(&serde_json::from_slice(body).ok()?)?, redactor)
}

fn one_line(text: &str, redactor: &Redactor) -> Option<String> {
    // Before it is cut: a part of a secret would remain.
    let text = redactor.redact(text);
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    let words = words.filter(|word| !word.is_empty()).map(without_path);
    let line = words.collect::<Vec<_>>().join(" ");
    let shown: String = line.chars().take(MESSAGE_CHARACTERS).collect();
    if shown.is_empty() { None } else { Some(shown) }
}

/// A URL in a text up to its server: a presigned one may have its signature in the path, too.
fn without_path(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let server = server.rsplit_once('@').map_or(server, |(_, host)| host);
    format!("{scheme}://{server}")
}

/// The OAuth 2 error code in a body (RFC 6749, section 5.2).
pub(super) fn oauth_error(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(body).ok()?.get("error")?.as_str().map(str::to_owned)
}

/// The errors of the distribution specification, of OAuth 2, and of others that response with a message.
fn json_message(value: &Value) -> Option<String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(first) = value.get("errors").and_then(|errors| errors.get(0)) {
        return match (text(first, "code"), text(first, "message")) {
            (Some(code), Some(message)) if !message.is_empty() => Some(format!("{code}: {message}")),
            (Some(only), _) | (None, Some(only)) => Some(only),
            (None, None) => None,
        };
    }
    ["error_description", "error", "message", "details"].iter().find_map(|key| text(value, key))
}

/// A status for a message: `404 Not Found`.
pub(super) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_content_range_must_be_consistent() {
        let range = |value: &str| ContentRange::parse(value);
        let some = |range, total| Some(ContentRange { range, total });
        assert_eq!(range("bytes 0-9/10"), some(Some(0..10), Some(10)));
        assert_eq!(range("Bytes 5-5/*"), some(Some(5..6), None));
        assert_eq!(range("bytes */10"), some(None, Some(10)));
        for wrong in
            ["", "bytes", "bytes 0-9", "bytes 9-0/10", "bytes 0-10/10", "items 0-9/10", "bytes +0-9/10"]
        {
            assert_eq!(range(wrong), None, "{wrong}");
        }
        assert_eq!(range(&format!("bytes 0-{0}/{0}", u64::MAX)), None);
        assert_eq!(range(&format!("bytes 0-{}/*", u64::MAX)), None);
        let twice = headers(&[("content-range", "bytes 0-9/10"), ("content-range", "bytes 1-9/10")]);
        assert_eq!(ContentRange::of(&twice), None);
    }

    #[test]
    fn a_wait_is_in_seconds_or_until_a_date_by_the_servers_clock() {
        let wait = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs));
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "99999999999999999999999")]), Some(Duration::from_secs(u64::MAX)));
        let date = ("date", "Fri, 01 Jan 1999 00:00:00 GMT");
        assert_eq!(
            wait(&[date, ("retry-after", "Fri, 01 Jan 1999 00:00:09 GMT")]),
            Some(Duration::from_secs(9))
        );
        assert_eq!(wait(&[date, ("retry-after", "Thu, 01 Jan 1998 00:00:09 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn of_a_token_servers_body_only_the_error_is_shown() {
        let message = |body: &str| token_server_message(body.as_bytes(), &Redactor::default());
        assert_eq!(message(r#"{"error":"denied","token":"abc"}"#).as_deref(), Some("denied"));
        for body in ["abc", r#"{"token":"abc"}"#, r#""abc""#, r#"{"errors":["abc"]}"#] {
            assert_eq!(message(body), None, "{body}");
        }
    }

    #[test]
    fn a_server_message_is_one_clean_line() {
        let message =
            |body: &str| server_message(body.as_bytes(), &Redactor::new([String::from("hush").into()]));
        let denied = r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\n access"}]}"#;
        assert_eq!(message(denied).as_deref(), Some("DENIED: no [31m access"));
        assert_eq!(message(r#"{"details":"wrong password"}"#).as_deref(), Some("wrong password"));
        assert_eq!(message("see https://s3/x?sig=1 now").as_deref(), Some("see https://s3 now"));
        assert_eq!(message("<html>"), None);
        assert_eq!(message(r#"{"message":"bad token hush!"}"#).as_deref(), Some("bad token [redacted]!"));
        assert_eq!(message("at https://me:pw@s3:1/hash/signature;").as_deref(), Some("at https://s3:1"));
        assert_eq!(message(&"x".repeat(1_000)).unwrap().len(), MESSAGE_CHARACTERS);
    }
}
