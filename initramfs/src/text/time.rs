//! The date of an HTTP answer (RFC 9110), which sets the clock of a machine whose battery is empty.

use std::time::UNIX_EPOCH;

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`; none for anything else.
pub(crate) fn seconds(date: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(date).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_what_date_says_of_them() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Fri, 20 Nov 2026 16:00:00 GMT", 1_795_190_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:+9:37 GMT",
            "a b c d e GMT",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
