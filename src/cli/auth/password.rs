//! A password on standard input.

use std::io::Read;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::cli::exit::Failure;

/// Longest password, in bytes; tokens of cloud registries have some thousand.
const PASSWORD_BYTES: usize = 64 << 10;

/// Reads a password up to the end of `input`; the newline that `echo` adds is not part of it.
pub(crate) fn read(input: impl Read) -> Result<SecretString, Failure> {
    // Room for all of it from the start, and for the look whether there is more: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_BYTES + 64));
    if let Err(error) = input.take(PASSWORD_BYTES as u64 + 1).read_to_string(&mut text) {
        return Err(Failure::usage(format!("reading the password from stdin: {error}")));
    }
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let password = SecretString::from(line.unwrap_or(&text));
    match password.expose_secret().len() {
        0 => Err(Failure::usage("--password-stdin: stdin is empty")),
        PASSWORD_BYTES.. => Err(Failure::usage("--password-stdin: stdin is too long for a password")),
        _ => Ok(password),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_password() {
        for (input, expected) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n")] {
            assert_eq!(read(input.as_bytes()).unwrap().expose_secret(), expected);
        }
    }

    #[test]
    fn an_empty_or_endless_password_is_refused() {
        assert!(read(&b"\n"[..]).is_err());
        assert!(read(io::repeat(b'a')).is_err());
        assert!(read(&b"\xff"[..]).is_err());
    }
}
