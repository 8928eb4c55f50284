//! `WWW-Authenticate` (RFC 9110, section 11.6.1): which schemes a registry would accept.
//!
//! Lenient, because registries are: unquoted values may contain characters that should be quoted, a comma between parameters may be
//! missing, and malformed text is skipped up to the next comma.

use crate::limits;

/// One challenge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Challenge {
    /// The scheme in lower case, for example `bearer`.
    scheme: String,
    /// Parameters in order, names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// All challenges of all headers, in order.
    pub(super) fn parse_all<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Vec<Self> {
        let mut challenges = Vec::new();
        for header in headers {
            parse(&String::from_utf8_lossy(header), &mut challenges);
        }
        challenges.truncate(limits::CHALLENGES);
        challenges
    }

    /// Whether the scheme is `name` (in lower case).
    pub(super) fn is(&self, name: &str) -> bool {
        self.scheme == name
    }

    /// The scheme in lower case.
    pub(super) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The first parameter of this name (in lower case).
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn parse(header: &str, challenges: &mut Vec<Challenge>) {
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() || challenges.len() > limits::CHALLENGES {
            return;
        }
        let (word, after) = take_while(rest, is_token);
        if word.is_empty() {
            rest = skip_to_comma(rest);
            continue;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = take_value(value.trim_start_matches([' ', '\t']));
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            // A parameter before any scheme.
            (Some(_), None) => rest = skip_to_comma(after),
            (None, _) => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = skip_token68(after);
            }
        }
    }
}

/// Skips token68 data after a scheme (`Negotiate oYG2MIGz…==`), which would look like a scheme or parameter.
fn skip_token68(text: &str) -> &str {
    let start = text.trim_start_matches([' ', '\t']);
    let (data, after) = take_while(start, |byte| is_token(byte) || byte == b'/');
    let padded = after.trim_start_matches('=');
    let ends = padded.trim_start_matches([' ', '\t']);
    let is_whole = ends.is_empty() || ends.starts_with(',');
    if !data.is_empty() && is_whole { padded } else { text }
}

/// A quoted string without its quotes and escapes, or everything up to a comma or a space.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = take_while(text, |byte| !matches!(byte, b' ' | b'\t' | b','));
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => value.extend(characters.next()),
            _ => value.push(character),
        }
    }
    (value, characters.as_str())
}

fn skip_to_comma(text: &str) -> &str {
    take_while(text, |byte| byte != b',').1
}

fn take_while(text: &str, wanted: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !wanted(byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(headers: &[&str]) -> Vec<Challenge> {
        Challenge::parse_all(headers.iter().map(|header| header.as_bytes()))
    }

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let parameters =
            parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Challenge { scheme: scheme.to_owned(), parameters }
    }

    #[test]
    fn several_headers_and_several_challenges_in_one_are_all_read() {
        let headers = ["Basic realm=\"a\", Bearer realm=\"https://t/\",service=\"s\"", "Digest realm=d"];
        let expected = [
            challenge("basic", &[("realm", "a")]),
            challenge("bearer", &[("realm", "https://t/"), ("service", "s")]),
            challenge("digest", &[("realm", "d")]),
        ];
        assert_eq!(all(&headers), expected);
    }

    #[test]
    fn commas_in_quotes_do_not_separate_and_escapes_are_resolved() {
        let header =
            r#"Bearer realm="r",scope="repository:x/y:pull,push repository:a/b:pull",note="a \"b\" \\ c""#;
        let expected = challenge(
            "bearer",
            &[
                ("realm", "r"),
                ("scope", "repository:x/y:pull,push repository:a/b:pull"),
                ("note", "a \"b\" \\ c"),
            ],
        );
        assert_eq!(all(&[header]), [expected]);
    }

    #[test]
    fn schemes_and_names_are_read_in_any_case_and_spacing() {
        let expected = [challenge("bearer", &[("realm", "r"), ("service", "S")])];
        assert_eq!(all(&["BEARER  Realm = \"r\" ,  SERVICE=S"]), expected);
        assert_eq!(all(&["bearer realm=r service=S"]), expected);
        assert_eq!(all(&[",, bEaReR realm=\"r\",,service=\"S\" ,"]), expected);
    }

    #[test]
    fn bare_values_may_be_urls() {
        let header = "Bearer realm=https://auth.example/token?x=1,service=registry.example:443";
        let expected = [("realm", "https://auth.example/token?x=1"), ("service", "registry.example:443")];
        assert_eq!(all(&[header]), [challenge("bearer", &expected)]);
    }

    #[test]
    fn schemes_with_other_data_do_not_hide_later_ones() {
        let expected = [challenge("negotiate", &[]), challenge("basic", &[("realm", "r")])];
        assert_eq!(all(&["Negotiate, Basic realm=r"]), expected);
        assert_eq!(all(&["Negotiate oYG2/MIG+z==, Basic realm=r"]), expected);
        assert_eq!(all(&["Negotiate", "Basic realm=r"]), expected);
    }

    #[test]
    fn malformed_text_is_skipped() {
        assert_eq!(all(&["", "=", "a=b", "\"", "@@@ , ;;"]), []);
        assert_eq!(
            all(&["@@ , Bearer realm=\"unterminated"]),
            [challenge("bearer", &[("realm", "unterminated")])]
        );
    }

    #[test]
    fn a_flood_of_challenges_is_capped() {
        assert_eq!(all(&[&"a,".repeat(10_000)]).len(), limits::CHALLENGES);
        let challenges = all(&[&"a x=1,".repeat(10_000)]);
        assert_eq!(
            challenges,
            vec![challenge("a", &[("x", "1")]); limits::CHALLENGES],
            "the last one is whole"
        );
    }

    proptest! {
        #[test]
        fn well_formed_headers_match_an_independent_parser(
            challenges in prop::collection::vec(
                ("[A-Za-z]{3,8}", prop::collection::vec(("[a-z]{1,6}", r#"[ -~]{0,12}"#), 1..4)), 1..4),
        ) {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let header = challenges.iter().map(|(scheme, parameters)| {
                let parameters: Vec<_> =
                    parameters.iter().map(|(key, value)| format!("{key}=\"{}\"", quote(value))).collect();
                format!("{scheme} {}", parameters.join(", "))
            }).collect::<Vec<_>>().join(", ");
            let expected: Vec<_> = http_auth::parse_challenges(&header).unwrap().iter().map(|oracle| Challenge {
                scheme: oracle.scheme.to_ascii_lowercase(),
                parameters: oracle.params.iter()
                    .map(|(key, value)| (key.to_ascii_lowercase(), value.to_unescaped())).collect(),
            }).collect();
            prop_assert_eq!(all(&[&header]), expected);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Challenge::parse_all([bytes.as_slice()]);
        }
    }
}
