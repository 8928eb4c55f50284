//! Times of entries, always in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use layerslayer::Timestamp;

/// Converts a system time.
pub(crate) fn of(time: SystemTime) -> Timestamp {
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        // Before 1970 fractions are dropped.
        Err(before) => (i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds), 0),
    };
    Timestamp { seconds, nanoseconds }
}

/// Formats a time as RFC 3339 with nanoseconds; `None` for years outside 0 to 9999.
pub(crate) fn rfc3339(time: Timestamp) -> Option<String> {
    let text = format!("{:.9}", point(time)?);
    // A year before 0 starts with a sign.
    text.starts_with(|first: char| first.is_ascii_digit()).then_some(text)
}

/// Formats a time to the minute like `tar -tv`, or as seconds since 1970 if the year does not have four digits.
pub(crate) fn minute(time: Timestamp) -> String {
    match point(time).and_then(|point| jiff::fmt::strtime::format("%Y-%m-%d %H:%M", point).ok()) {
        Some(text) if !text.starts_with('-') => text,
        _ => format!("@{}", time.seconds),
    }
}

fn point(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    #[test]
    fn times_are_utc_with_nine_digits() {
        let cases = [
            (at(0, 0), "1970-01-01T00:00:00.000000000Z"),
            (at(1_704_067_200, 5), "2024-01-01T00:00:00.000000005Z"),
            (at(-1, 750_000_000), "1969-12-31T23:59:59.750000000Z"),
            (at(-62_167_219_200, 0), "0000-01-01T00:00:00.000000000Z"),
        ];
        for (time, text) in cases {
            assert_eq!(rfc3339(time).as_deref(), Some(text));
        }
        for seconds in [i64::MIN, i64::MAX, 253_402_300_800, -62_167_219_201] {
            assert_eq!(rfc3339(at(seconds, 0)), None, "{seconds}");
        }
    }

    #[test]
    fn listings_show_minutes_or_seconds_outside_the_calendar() {
        assert_eq!(minute(at(1_704_067_259, 999_999_999)), "2024-01-01 00:00");
        assert_eq!(minute(at(-60, 0)), "1969-12-31 23:59");
        assert_eq!(minute(at(i64::MAX, 0)), format!("@{}", i64::MAX));
        assert_eq!(minute(at(-62_167_219_201, 0)), "@-62167219201");
    }
}
