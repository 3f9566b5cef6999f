//! Milliseconds since 1970 as people write them: ISO 8601, UTC.

/// `2026-11-21T05:45:50.123Z`.
pub(crate) fn iso(wall_ms: u64) -> String {
    let (days, ms) = (wall_ms / 86_400_000, wall_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March
/// here, so that the odd day is the last of one.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097; // 400 years
    let from_0000_03_01 = days + 719_468;
    let (era, day) = (from_0000_03_01 / DAYS_OF_ERA, from_0000_03_01 % DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 = March; five months have 153 days
    let day = day - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    let month = if january_or_february { month - 9 } else { month + 3 };
    (era * 400 + year + u64::from(january_or_february), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        // Checked with `date -u -d @N`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_795_931_111, "2026-11-29T05:45:11"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (253_402_300_799, "9999-12-31T23:59:59"),
        ] {
            assert_eq!(iso(seconds * 1000 + 7), format!("{text}.007Z"), "{seconds}");
        }
    }

    #[test]
    fn the_greatest_number_has_a_date_too() {
        assert!(iso(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..200_000 {
            let next = civil(day);
            let follows = (next.0, next.1, next.2) == (last.0, last.1, last.2 + 1)
                || (next.2 == 1 && (next.0, next.1) == (last.0, last.1 + 1))
                || (next == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31));
            assert!(follows && next.2 <= 31 && (1..=12).contains(&next.1), "{last:?} then {next:?}");
            last = next;
        }
    }
}
