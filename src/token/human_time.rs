//! Times for people, for `evergate token`.
//!
//! The calendar is written out: the date crates in the tree are other crates' business, and one of
//! our own for twenty lines is not worth its weight.

use crate::policy::time::UnixSeconds;

const DAY_S: u64 = 86_400;

/// `2027-01-15T08:00:00Z` (RFC 3339 §5.6).
pub fn iso(time: UnixSeconds) -> String {
    let (days, second) = (time.0 / DAY_S, time.0 % DAY_S);
    // Days are counted from 0000-03-01, so that the leap day is the last of its year; 400 years are
    // 146,097 days (Howard Hinnant's civil-calendar algorithm).
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `in 4 min 10 s`, `3 d 2 h ago`, `now`: the two largest units.
pub fn relative(time: UnixSeconds, now: UnixSeconds) -> String {
    if time == now {
        "now".to_owned()
    } else if time > now {
        format!("in {}", span(time.since(now)))
    } else {
        format!("{} ago", span(now.since(time)))
    }
}

fn span(seconds: u64) -> String {
    let parts = [
        (seconds / DAY_S, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let parts = parts.iter().skip_while(|(count, _)| *count == 0).take(2);
    let shown =
        parts.filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}"));
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso(UnixSeconds(seconds)), shown);
        }
    }

    #[test]
    fn distances_show_their_two_largest_units() {
        let now = UnixSeconds(1_000_000);
        for (time, shown) in [
            (1_000_000, "now"),
            (1_000_001, "in 1 s"),
            (1_000_250, "in 4 min 10 s"),
            (1_003_600, "in 1 h"),
            (999_940, "1 min ago"),
            (733_600, "3 d 2 h ago"),
        ] {
            assert_eq!(relative(UnixSeconds(time), now), shown);
        }
    }
}
