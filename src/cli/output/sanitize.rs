//! Untrusted bytes as text that can neither control a terminal nor fake a line.

use std::fmt::Write as _;

/// Appends a name to `text`. Escapes backslashes and unprintable characters, so that different names stay different.
pub(crate) fn push_name(text: &mut String, name: &[u8]) {
    if let Ok(plain) = str::from_utf8(name)
        && name.iter().all(|&byte| byte != b'\\' && matches!(byte, b' '..=b'~'))
    {
        text.push_str(plain);
        return;
    }
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                _ => push(text, character),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
}

/// Escapes a name, see [`push_name`].
pub(crate) fn name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    push_name(&mut text, bytes);
    text
}

/// Escapes a message: one line, no control characters.
pub(crate) fn message(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    message.chars().for_each(|character| push(&mut text, character));
    text
}

/// A message as a line of stderr, escaped.
pub(crate) fn stderr_line(text: &str) -> String {
    format!("layerslayer: {}", message(text))
}

fn push(text: &mut String, character: char) {
    match character {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        // Writing to a String cannot fail.
        '\0'..='\x1f' | '\x7f' => {
            let _ = write!(text, "\\x{:02x}", u32::from(character));
        }
        _ if is_invisible(character) => {
            let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
        }
        _ => text.push(character),
    }
}

/// Control characters, line separators, bidirectional controls and zero-width characters.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_without_loss() {
        let cases: [(&[u8], &str); 10] = [
            (b"etc/passwd", "etc/passwd"),
            (b"with space", "with space"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\x1b[31m", "\\x1b[31m"),
            (b"\x7f", "\\x7f"),
            (b"a\\x2db", "a\\\\x2db"),
            (b"\xff\xfeok", "\\xff\\xfeok"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("a\u{202e}b\u{200b}".as_bytes(), "a\\u{202e}b\\u{200b}"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(name(bytes), expected);
        }
    }

    #[test]
    fn messages_keep_backslashes_and_escape_line_ends() {
        assert_eq!(message("a\\b\n\x1b]0;x\x07"), "a\\b\\n\\x1b]0;x\\x07");
    }

    #[test]
    fn no_byte_sequence_produces_a_control_character() {
        for first in 0..=255_u8 {
            for second in [b'a', 0x80, 0x9b, 0xa8, 0xbf] {
                let text = name(&[first, second]);
                assert!(!text.contains(char::is_control), "{first:x} {second:x}");
            }
        }
    }
}
