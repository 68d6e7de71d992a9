//! Date and time in header fields (RFC 5322 §3.3).

use waxwing_types::Timestamp;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Seconds per day.
const DAY_SECONDS: u64 = 86_400;

/// Date of the Gregorian calendar and time of day, in UTC.
struct CivilTime {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// Converts days to a date, counting years from 1 March 0000 (the leap day is then the last day of the year).
fn civil_time(at: Timestamp) -> CivilTime {
    let seconds = at.as_secs();
    let days = seconds / DAY_SECONDS;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    CivilTime {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        weekday: days % 7,
        hour: seconds % DAY_SECONDS / 3600,
        minute: seconds % 3600 / 60,
        second: seconds % 60,
    }
}

/// Formats a date as `Thu, 1 Jan 1970 00:00:00 +0000`, always in UTC.
#[must_use]
pub fn rfc5322_date(at: Timestamp) -> String {
    let CivilTime { year, month, day, weekday, hour, minute, second } = civil_time(at);
    let weekday = DAYS.get(weekday as usize).copied().unwrap_or("Thu");
    let month = (month as usize).checked_sub(1).and_then(|m| MONTHS.get(m)).copied().unwrap_or("Jan");
    format!("{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Formats a date as `19700101000000`, for the start of a Message-ID.
pub(crate) fn compact_date(at: Timestamp) -> String {
    let CivilTime { year, month, day, hour, minute, second, .. } = civil_time(at);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_dates() {
        for (seconds, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 +0000"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 +0000"),
            (1_709_251_200, "Fri, 1 Mar 2024 00:00:00 +0000"),
            (1_795_500_679, "Tue, 24 Nov 2026 06:11:19 +0000"),
            (4_102_444_800, "Fri, 1 Jan 2100 00:00:00 +0000"),
        ] {
            assert_eq!(rfc5322_date(Timestamp::from_millis(seconds * 1000)), text);
        }
        assert_eq!(compact_date(Timestamp::from_millis(951_827_696_000)), "20000229123456");
    }
}
