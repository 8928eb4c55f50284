//! A password on standard input.

use std::io::Read;

use zeroize::Zeroizing;

use crate::cli::exit::Failure;

/// Longest password, in bytes. Tokens of cloud registries have a few thousand.
const PASSWORD_BYTES: usize = 64 << 10;

/// Reads a password up to the end of `input`, without the newline that `echo` adds.
pub(crate) fn read(input: impl Read) -> Result<Zeroizing<String>, Failure> {
    // Room for all of it, and for the read that finds the end: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_BYTES + 64));
    if let Err(error) = input.take(PASSWORD_BYTES as u64 + 1).read_to_string(&mut text) {
        return Err(Failure::usage(format!("reading the password from stdin: {error}")));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.len() {
        0 => Err(Failure::usage("--password-stdin: stdin is empty")),
        PASSWORD_BYTES.. => Err(Failure::usage("--password-stdin: stdin is too long for a password")),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_password() {
        for (input, expected) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n")] {
            assert_eq!(read(input.as_bytes()).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn an_empty_or_endless_password_is_refused() {
        assert!(read(&b"\n"[..]).is_err());
        assert!(read(io::repeat(b'a')).is_err());
        assert!(read(&b"\xff"[..]).is_err());
    }
}
