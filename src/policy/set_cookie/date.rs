//! Cookie dates (RFC 6265 §5.1.1): found by their parts, in any order and with any delimiters.
//!
//! A parser of our own because backends write every format there ever was, and the strict
//! `HTTP-date` of RFC 9110 would miss a clearing date such as `Thu, 01-Jan-1970 00:00:01 GMT`.

use crate::policy::time::UnixSeconds;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The time that a cookie date names; `None` if a browser would ignore it.
pub(super) fn parse(text: &str) -> Option<UnixSeconds> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = time_of_day(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = leading_number(token, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = leading_number(token, 2, 4)
        {
            year = Some(found);
        }
    }
    let year = match year? {
        short @ 70..=99 => short + 1900,
        short @ 0..=69 => short + 2000,
        full => full,
    };
    let (time, day, month) = (time?, day?, month?);
    if year < 1601 || day < 1 || day > days_in(month, year) {
        return None;
    }
    // Before 1970 is before every now.
    let days = days_since_1970(year, month, day);
    Some(UnixSeconds(days.map_or(0, |days| days * 86_400 + time)))
}

fn is_delimiter(c: char) -> bool {
    matches!(c, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~')
}

/// `hh:mm:ss` in seconds, followed by anything that is no digit.
fn time_of_day(token: &str) -> Option<u64> {
    let mut fields = token.splitn(3, ':');
    let hour = fields.next().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let minute = fields.next().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let hour = leading_number(hour, 1, 2).filter(|hour| *hour < 24)?;
    let minute = leading_number(minute, 1, 2).filter(|minute| *minute < 60)?;
    let second = leading_number(fields.next()?, 1, 2).filter(|second| *second < 60)?;
    Some(hour * 3600 + minute * 60 + second)
}

/// The number that `token` begins with, if it has `least` to `most` digits.
fn leading_number(token: &str, least: usize, most: usize) -> Option<u64> {
    let end = token.find(|c: char| !c.is_ascii_digit()).unwrap_or(token.len());
    let digits = token.get(..end)?;
    if (least..=most).contains(&digits.len()) { digits.parse().ok() } else { None }
}

/// 1 to 12.
fn month_of(token: &str) -> Option<u64> {
    let start = token.get(..3)?;
    let index = MONTHS.iter().position(|month| start.eq_ignore_ascii_case(month))?;
    u64::try_from(index + 1).ok()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(month: u64, year: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `None` before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    // Leap days up to the end of year `y`.
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    let years = year.checked_sub(1970)?;
    let in_year: u64 = (1..month).map(|month| days_in(month, year)).sum();
    Some(years * 365 + leaps(year - 1) - leaps(1969) + in_year + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_names_the_same_second() {
        for text in [
            "Tue, 14 Nov 2023 22:13:20 GMT",
            "Tue, 14-Nov-2023 22:13:20 GMT",
            "Tuesday, 14-Nov-23 22:13:20 GMT",
            "Tue Nov 14 22:13:20 2023",
            "2023 november 14 22:13:20",
            "14th Nov 2023 22:13:20Z",
        ] {
            assert_eq!(parse(text), Some(UnixSeconds(1_700_000_000)), "{text}");
        }
    }

    #[test]
    fn calendar_holds_at_its_corners() {
        for (text, seconds) in [
            ("1 Jan 1970 0:0:0", 0),
            ("31 Dec 1969 23:59:59", 0),
            ("29 Feb 2000 0:0:0", 951_782_400),
            ("1 Mar 2000 0:0:0", 951_868_800),
            ("31 Dec 69 23:59:59", 3_155_759_999),
            ("1 Mar 2100 0:0:0", 4_107_542_400),
            ("31 Dec 9999 23:59:59", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Some(UnixSeconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_ignored() {
        for text in [
            "",
            "0",
            "-1",
            "never",
            "Tue, 14 Nov 2023",
            "Nov 2023 22:13:20",
            "14 2023 22:13:20",
            "14 Nov 22:13:20",
            "32 Jan 2023 0:0:0",
            "29 Feb 2023 0:0:0",
            "0 Jan 2023 0:0:0",
            "1 Jan 1600 0:0:0",
            "1 Jan 2023 24:0:0",
            "1 Jan 2023 0:60:0",
            "1 Jan 2023 0:0:60",
            "1 Jan 12345 0:0:0",
            "1 Jän 2023 0:0:0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
