//! Removing secrets from texts that a peer has sent, in whatever form it repeats them.
//!
//! ```text
//! text ─▶ views: as it is, percent-decoded, JSON-unescaped, HTML-unescaped, any two of these; white space removed
//! secret ─▶ needles: as it is, base64 at each of three alignments in both alphabets, hex
//! ```
//! A needle, or any eight bytes of one in a row, are removed from the text wherever a view has them, in any case.

use std::{collections::HashSet, ops::Range};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// What stands for a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// So many bytes of a secret in a row are removed even without the rest.
const GRAM: usize = 8;

/// A text that contains a secret shorter than this is removed completely: the gaps would reveal the secret.
const SHORTEST: usize = 4;

/// A byte of a view, and the bytes of the text that it stands for.
type Unit = (u8, Range<usize>);

/// The secrets that must not appear in messages.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    secrets: Vec<SecretString>,
}

impl Redactor {
    pub(crate) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.expose_secret().trim().is_empty());
        Self { secrets: secrets.collect() }
    }

    /// The text with every form of a secret replaced.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.secrets.is_empty() {
            return text.to_owned();
        }
        let needles: Vec<Needle> =
            self.secrets.iter().flat_map(|secret| Needle::forms(secret.expose_secret())).collect();
        let grams: HashSet<&[u8]> = needles
            .iter()
            .filter(|needle| needle.0.len() >= GRAM)
            .flat_map(|needle| needle.0.windows(GRAM))
            .collect();
        let mut hidden = vec![false; text.len()];
        for view in views(text) {
            let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(view.iter().map(|(byte, _)| *byte).collect());
            // With the ignored characters in between.
            let mut hide = |found: Range<usize>| {
                let units = view.get(found).unwrap_or_default();
                if let (Some((_, first)), Some((_, last))) = (units.first(), units.last()) {
                    hidden.get_mut(first.start..last.end).unwrap_or_default().fill(true);
                }
            };
            for (at, window) in bytes.windows(GRAM).enumerate() {
                if grams.contains(window) {
                    hide(at..at + GRAM);
                }
            }
            for needle in needles.iter().filter(|needle| needle.0.len() < GRAM) {
                for at in positions(&bytes, &needle.0) {
                    if needle.0.len() < SHORTEST {
                        return REDACTED.to_owned();
                    }
                    hide(at..at + needle.0.len());
                }
            }
        }
        replaced(text, &hidden)
    }
}

/// A form of a secret, in lower case and without white space.
struct Needle(Zeroizing<Vec<u8>>);

impl Needle {
    fn forms(secret: &str) -> Vec<Self> {
        let bytes = secret.as_bytes();
        let mut forms = vec![normalized(secret)];
        // As part of a longer encoded text: after so many bytes of it the first so many characters depend on those bytes.
        for (before, skipped) in [(0, 0), (1, 2), (2, 3)] {
            let padded: Zeroizing<Vec<u8>> =
                Zeroizing::new(std::iter::repeat_n(&0, before).chain(bytes).copied().collect());
            let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(padded.as_slice()));
            let range = skipped..padded.len() * 8 / 6;
            let inner = encoded.get(range).unwrap_or_default();
            // A short piece of base64 is anything.
            if inner.len() >= SHORTEST {
                forms.push(normalized(inner));
                forms.push(normalized(&inner.replace('+', "-").replace('/', "_")));
            }
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        forms.push(normalized(&hex));
        forms.into_iter().filter(|form| !form.is_empty()).map(Self).collect()
    }
}

fn normalized(text: &str) -> Zeroizing<Vec<u8>> {
    let kept: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|letter| !is_ignored(*letter)).collect());
    Zeroizing::new(kept.to_ascii_lowercase().into_bytes())
}

/// White space, control characters and invisible characters, any of which a peer could put between the letters of a secret.
fn is_ignored(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// A way in which a text may be encoded.
#[derive(Clone, Copy)]
enum Encoding {
    /// `application/x-www-form-urlencoded`: percent-encoding with `+` for a space.
    Form,
    Html,
    Json,
    Percent,
}

const ENCODINGS: [Encoding; 4] = [Encoding::Form, Encoding::Html, Encoding::Json, Encoding::Percent];

fn views(text: &str) -> Vec<Vec<Unit>> {
    let plain: Vec<Unit> = text.bytes().enumerate().map(|(at, byte)| (byte, at..at + 1)).collect();
    let once: Vec<Vec<Unit>> = ENCODINGS.iter().map(|encoding| decoded(&plain, *encoding)).collect();
    let twice = once.iter().flat_map(|view| ENCODINGS.iter().map(|encoding| decoded(view, *encoding)));
    let twice: Vec<Vec<Unit>> = twice.collect();
    [plain].into_iter().chain(once).chain(twice).map(|view| compact(&view)).collect()
}

/// A view in lower case, without ignored characters.
fn compact(view: &[Unit]) -> Vec<Unit> {
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(view.iter().map(|(byte, _)| *byte).collect());
    let mut units = Vec::with_capacity(view.len());
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let end = at + letter.len_utf8();
            if !is_ignored(letter) {
                units.extend(view.get(at..end).unwrap_or_default().iter().cloned());
            }
            at = end;
        }
        let end = at + chunk.invalid().len();
        units.extend(view.get(at..end).unwrap_or_default().iter().cloned());
        at = end;
    }
    units.iter_mut().for_each(|(byte, _)| byte.make_ascii_lowercase());
    units
}

fn decoded(view: &[Unit], encoding: Encoding) -> Vec<Unit> {
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(view.iter().map(|(byte, _)| *byte).collect());
    let mut units = Vec::with_capacity(view.len());
    let mut at = 0;
    while let (Some(rest), Some((byte, range))) = (bytes.get(at..), view.get(at)) {
        let (letters, length) = match (encoding, byte) {
            (Encoding::Form, b'+') => (Some(" ".to_owned().into_bytes()), 1),
            (Encoding::Form | Encoding::Percent, b'%') => (hex(rest.get(1..3)).map(|byte| vec![byte]), 3),
            (Encoding::Json, b'\\') => json_escape(rest),
            (Encoding::Html, b'&') => html_entity(rest),
            _ => (None, 1),
        };
        match letters {
            Some(letters) => {
                let end = view.get(at + length - 1).map_or(range.end, |(_, last)| last.end);
                units.extend(letters.into_iter().map(|letter| (letter, range.start..end)));
                at += length;
            }
            None => {
                units.push((*byte, range.clone()));
                at += 1;
            }
        }
    }
    units
}

fn hex(digits: Option<&[u8]>) -> Option<u8> {
    let digits = std::str::from_utf8(digits?).ok().filter(|digits| !digits.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}

/// The character of an escape in JSON, and the length of the escape.
fn json_escape(rest: &[u8]) -> (Option<Vec<u8>>, usize) {
    let Some(kind) = rest.get(1) else { return (None, 1) };
    if *kind != b'u' {
        let letter = match kind {
            b'b' | b'f' | b'n' | b'r' | b't' => b' ',
            letter => *letter,
        };
        return (Some(vec![letter]), 2);
    }
    let (high, low) = (hex(rest.get(2..4)), hex(rest.get(4..6)));
    let code = high.zip(low).map(|(high, low)| u32::from(high) << 8 | u32::from(low));
    // Of a surrogate pair, which only letters outside of the basic plane have, neither half is decoded.
    (code.and_then(char::from_u32).map(|letter| letter.to_string().into_bytes()), 6)
}

/// The character of a character reference in HTML, and the length of the reference.
fn html_entity(rest: &[u8]) -> (Option<Vec<u8>>, usize) {
    let Some(length) = rest.iter().take(12).position(|byte| *byte == b';') else { return (None, 1) };
    let name = rest.get(1..length).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    let letter = match name {
        "amp" => Some('&'),
        "apos" => Some('\''),
        "gt" => Some('>'),
        "lt" => Some('<'),
        "quot" => Some('"'),
        name => {
            let number = name.strip_prefix('#').unwrap_or_default();
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32)
        }
    };
    (letter.map(|letter| letter.to_string().into_bytes()), length + 1)
}

fn positions(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle)
        .map(|(at, _)| at)
        .collect()
}

/// The text with each run of hidden bytes replaced. Base64 that touches one is hidden with it: its edges encode parts of the secret.
fn replaced(text: &str, hidden: &[bool]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut is_in_secret = false;
    for (at, letter) in text.char_indices() {
        let is_hidden = hidden.get(at..at + letter.len_utf8()).is_some_and(|bytes| bytes.contains(&true));
        if is_hidden && !is_in_secret {
            let edge = result.trim_end_matches(is_base64).len();
            result.truncate(edge);
            result.push_str(REDACTED);
        }
        match (is_hidden, is_in_secret && is_base64(letter)) {
            (true, _) => is_in_secret = true,
            (false, true) => {}
            (false, false) => {
                is_in_secret = false;
                result.push(letter);
            }
        }
    }
    result
}

fn is_base64(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+/-_=".contains(letter)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

    use super::*;

    const SECRET: &str = "p\u{e4}ss/w+rd \"quoted\"\\canary>>?";

    fn redact(secret: &str, text: &str) -> String {
        Redactor::new([SecretString::from(secret)]).redact(text)
    }

    fn percent(text: &str, is_kept: impl Fn(u8) -> bool) -> String {
        let encode = |byte: u8| match is_kept(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        text.bytes().map(encode).collect()
    }

    /// Every form of the secret that a peer may send back.
    fn forms() -> Vec<String> {
        let pair = format!("alice:{SECRET}");
        let json = serde_json::to_string(SECRET).unwrap();
        let json = json.trim_matches('"').to_owned();
        let ascii: String = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02X}")).collect();
        let html = SECRET.replace('&', "&amp;").replace('"', "&quot;").replace('>', "&#62;");
        let form = percent(SECRET, |byte| byte.is_ascii_alphanumeric() || byte == b' ').replace(' ', "+");
        let all = percent(SECRET, |_| false);
        vec![
            SECRET.to_owned(),
            STANDARD.encode(SECRET),
            STANDARD_NO_PAD.encode(SECRET),
            URL_SAFE.encode(SECRET),
            URL_SAFE_NO_PAD.encode(SECRET),
            STANDARD.encode(&pair),
            URL_SAFE.encode(&pair),
            STANDARD.encode(format!("x{pair}y")),
            STANDARD.encode(format!("xy{pair}z")),
            percent(SECRET, |byte| byte.is_ascii_alphanumeric()),
            percent(&STANDARD.encode(&pair), |byte| byte.is_ascii_alphanumeric()),
            all.to_ascii_lowercase(),
            percent(&all, |byte| byte.is_ascii_alphanumeric()),
            form,
            json.clone(),
            serde_json::to_string(&json).unwrap().trim_matches('"').to_owned(),
            ascii,
            hex,
            html,
            SECRET.to_uppercase().replace('\u{c4}', "\u{e4}"),
        ]
    }

    #[test]
    fn every_form_of_a_secret_is_removed_and_the_rest_stays() {
        for form in forms() {
            let shown = redact(SECRET, &format!("token <{form}> denied"));
            assert!(shown.starts_with("token <[redacted]"), "{form}: {shown}");
            assert!(shown.ends_with("> denied"), "{form}: {shown}");
            assert!(shown.len() < 60 && !shown.contains("anary"), "{form}: {shown}");
        }
    }

    #[test]
    fn a_secret_that_is_split_by_white_space_or_invisible_characters_is_removed() {
        for form in forms() {
            for separator in ["\n", "\r\n ", "\u{0}", "\u{200b}"] {
                let (first, second) =
                    form.split_at(form.char_indices().nth(form.chars().count() / 2).unwrap().0);
                // Not within an escape, which would no longer be one.
                if first.ends_with(|letter: char| "%\\&#".contains(letter))
                    || form.contains("\\u")
                    || form.contains('%')
                {
                    continue;
                }
                let shown = redact(SECRET, &format!("{first}{separator}{second}"));
                assert_eq!(shown, REDACTED, "{form:?} by {separator:?}");
            }
        }
    }

    #[test]
    fn a_long_part_of_a_secret_is_removed() {
        let shown = redact("0123456789abcdefghij", "it begins with 0123456789, then ends with cdefghij.");
        assert_eq!(shown, "it begins with [redacted], then ends with [redacted].");
    }

    #[test]
    fn other_texts_are_unchanged() {
        for text in ["", "access denied", "p%C3%A4 & \\u00e4 &amp; 100%", "YWxpY2U6", "%", "\\", "&#x110000;"]
        {
            assert_eq!(redact(SECRET, text), text);
            assert_eq!(Redactor::default().redact(text), text);
            assert_eq!(redact("", text), text);
        }
    }

    #[test]
    fn a_text_with_a_very_short_secret_is_removed_completely() {
        assert_eq!(redact("ab", "a cab"), REDACTED);
        assert_eq!(redact("ab", "other"), "other");
    }
}
