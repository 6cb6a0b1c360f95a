//! The date of an HTTP answer (RFC 9110, IMF-fixdate), which sets the clock of a machine whose battery is empty.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`; none for anything else.
pub(crate) fn seconds(date: &str) -> Option<i64> {
    let words: Vec<&str> = date.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else {
        return None;
    };
    let number = |text: &str, least: i64, most: i64| {
        let digits = text.len() <= 4 && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse::<i64>()
            .ok()
            .filter(|number| digits && (least..=most).contains(number))
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (day, year) = (number(day, 1, 31)?, number(year, 1970, 9999)?);
    let clock: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = clock[..] else {
        return None;
    };
    let (hour, minute, second) = (
        number(hour, 0, 23)?,
        number(minute, 0, 59)?,
        number(second, 0, 60)?,
    );
    // Years are counted from March, so that a leap day is the last of its year.
    let month = i64::try_from(month).ok()? + 1;
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
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
