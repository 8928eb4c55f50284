//! Numbers in tar headers: octal, base-256 and, in extended headers, decimal.

use crate::tar::entry::Timestamp;

const NANOSECOND_DIGITS: usize = 9;

/// A numeric header field: octal text, or base-256 if the first bit is set. Blank means 0.
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    match field.split_first() {
        Some((&first, rest)) if first & 0x80 != 0 => base_256(first, rest),
        _ => octal(field),
    }
}

/// Octal digits with any spaces and NULs around them. Anything after a NUL that follows the digits is ignored.
pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !is_padding(byte)) else { return Some(0) };
    let (_, text) = field.split_at_checked(start)?;
    let text = text.split(|&byte| byte == 0).next()?.trim_ascii_end();
    text.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian. The first byte's top bit marks the notation, the next bit is the sign.
fn base_256(first: u8, rest: &[u8]) -> Option<i64> {
    let sign: i64 = if first & 0x40 == 0 { 0 } else { -0x40 };
    rest.iter().try_fold(sign + i64::from(first & 0x3f), |value, &byte| {
        value.checked_mul(256)?.checked_add(i64::from(byte))
    })
}

/// A size or offset in decimal digits, at most `i64::MAX` as everywhere in these formats.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    u64::try_from(digits(text)?).ok()
}

/// A decimal number that may be negative.
pub(super) fn signed_decimal(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(magnitude) => digits(magnitude)?.checked_neg(),
        None => digits(text),
    }
}

/// Seconds since the epoch with an optional sign and fraction. Digits beyond nanoseconds are dropped.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (magnitude, is_negative) = match text.strip_prefix(b"-") {
        Some(magnitude) => (magnitude, true),
        None => (text, false),
    };
    let mut parts = magnitude.splitn(2, |&byte| byte == b'.');
    let seconds = digits(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(NANOSECOND_DIGITS);
    let nanoseconds = padded.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    match (is_negative, nanoseconds) {
        (false, _) => Some(Timestamp { seconds, nanoseconds }),
        (true, 0) => Some(Timestamp { seconds: -seconds, nanoseconds }),
        (true, _) => Some(Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds }),
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_may_be_padded_with_spaces_and_nuls_on_both_sides() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0 644\0", 0o644),
            (b"77777777", 0o7777_7777),
            (b"644\0junk", 0o644),
            (b"644 \0\0\0", 0o644),
            (b"        ", 0),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"", 0),
        ] {
            assert_eq!(numeric(field), Some(value), "{field:?}");
        }
    }

    #[test]
    fn text_that_is_not_octal_is_rejected() {
        for field in [&b"0000648\0"[..], b"64 4\0", b"-1\0", b"+1\0", b"0x1\0", b"1_0\0"] {
            assert_eq!(numeric(field), None, "{field:?}");
        }
    }

    #[test]
    fn base_256_numbers_have_a_sign_and_up_to_64_bits() {
        for (field, value) in [
            (&b"\x80\0\0\0\0\0\0\0\0\0\0\x01"[..], Some(1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff", Some(0x3fff_ffff_ffff_ffff)),
            (b"\xc0\0\0\0\0\0\0\0", Some(-0x4000_0000_0000_0000)),
        ] {
            assert_eq!(numeric(field), value, "{field:?}");
        }
    }

    #[test]
    fn decimal_has_digits_only_and_fits_63_bits() {
        assert_eq!(decimal(b"000000000000000000000999"), Some(999));
        assert_eq!(decimal(b"9223372036854775807"), Some(9_223_372_036_854_775_807));
        for text in [&b""[..], b"-1", b"+1", b" 1", b"1 ", b"9223372036854775808", b"1e3"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
        assert_eq!(signed_decimal(b"-2"), Some(-2));
        assert_eq!(signed_decimal(b"--2"), None);
        assert_eq!(signed_decimal(b"-"), None);
    }

    #[test]
    fn times_have_a_sign_and_a_fraction() {
        for (text, seconds, nanoseconds) in [
            (&b"1350244992.023960108"[..], 1_350_244_992, 23_960_108),
            (b"1350244992", 1_350_244_992, 0),
            (b"1350244992.", 1_350_244_992, 0),
            (b"1.0000000019", 1, 1),
            (b"1.3", 1, 300_000_000),
            (b"-1.3", -2, 700_000_000),
            (b"-0.5", -1, 500_000_000),
            (b"-0", 0, 0),
            (b"-7", -7, 0),
            (b"-9223372036854775807.9", i64::MIN, 100_000_000),
        ] {
            assert_eq!(time(text), Some(Timestamp { seconds, nanoseconds }), "{text:?}");
        }
        for text in
            [&b""[..], b".5", b"-.5", b"1.2.3", b"1.x", b"--1", b"1.-1", b" 1", b"9223372036854775808"]
        {
            assert_eq!(time(text), None, "{text:?}");
        }
    }
}
