//! Date and time in header fields (RFC 5322 §3.3).

use jiff::ZonedDateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use waxwing_types::Timestamp;

/// Converts to UTC; a time beyond the year 9999 becomes the Unix epoch.
fn in_utc(at: Timestamp) -> ZonedDateTime {
    let seconds = i64::try_from(at.as_secs()).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned_datetime(TimeZone::UTC)
}

/// Formats a date as `Thu, 1 Jan 1970 00:00:00 +0000`, always in UTC.
#[must_use]
pub fn rfc5322_date(at: Timestamp) -> String {
    rfc2822::to_string(&in_utc(at)).unwrap_or_default()
}

/// Formats a date as `19700101000000`, for the start of a Message-ID.
pub(crate) fn compact_date(at: Timestamp) -> String {
    in_utc(at).strftime("%Y%m%d%H%M%S").to_string()
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
