//! Formatting of times for the Date field (RFC 5322 §3.3).

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECONDS: u64 = 86_400;

/// Converts days since 1970 to year, month (from 1) and day; counts years from 1 March 0000, which puts the leap day last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day_of_month)
}

fn time_of_day(seconds: u64) -> (u64, u64, u64) {
    (seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Formats milliseconds since 1970 as `Fri, 15 Jan 2027 08:00:00 +0000`.
#[must_use]
pub fn format_rfc5322(millis: u64) -> String {
    let (days, seconds) = (millis / 1000 / DAY_SECONDS, millis / 1000 % DAY_SECONDS);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = time_of_day(seconds);
    let name = |list: &[&'static str], index: u64| list.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or("");
    let (weekday, month) = (name(&DAYS, days % 7), name(&MONTHS, month - 1));
    format!("{weekday}, {day} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Formats milliseconds since 1970 as fourteen digits, `YYYYMMDDhhmmss`.
pub(crate) fn format_digits(millis: u64) -> String {
    let (year, month, day) = civil_date(millis / 1000 / DAY_SECONDS);
    let (hour, minute, second) = time_of_day(millis / 1000 % DAY_SECONDS);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_known_days() {
        for (seconds, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
        ] {
            assert_eq!(format_rfc5322(seconds * 1000 + 999), text);
        }
        assert_eq!(format_digits(951_782_399_000), "20000228235959");
    }
}
