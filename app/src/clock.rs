//! The clock on the wall: the moment, and how far local time is ahead of UTC at any.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{Local, Offset, TimeZone};
use mambascope_lessons::practice::schedule::Zone;

/// The moment, in seconds since 1970; 0 for a clock that is set before that.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Local time: the days of the practice end at the learner's midnight, each with the offset that held then.
pub(crate) const ZONE: Zone = Zone::Of(utc_offset);

/// Seconds that local time is ahead of UTC at a moment.
fn utc_offset(at: i64) -> i64 {
    offset_in(&Local, at)
}

/// The same for any zone; 0 for a moment that no calendar has.
fn offset_in(zone: &impl TimeZone, at: i64) -> i64 {
    let there = zone.timestamp_opt(at, 0).single();
    there.map_or(0, |there| i64::from(there.offset().fix().local_minus_utc()))
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};
    use mambascope_lessons::practice::schedule::day;

    use super::*;

    #[test]
    fn a_day_ends_at_the_midnight_of_its_zone() {
        // 19:05 UTC.
        let now = 1_795_633_500;
        let hours = |hours: i32| FixedOffset::east_opt(3_600 * hours);
        let of = |zone: FixedOffset| offset_in(&zone, now);
        assert_eq!(hours(9).map(of), Some(32_400));
        assert_eq!(hours(-8).map(of), Some(-28_800));
        assert_eq!(offset_in(&Utc, now), 0);
        let today = day(now, Zone::UTC);
        assert_eq!(
            hours(9).map(|zone| day(now, Zone::Fixed(of(zone)))),
            Some(today + 1)
        );
        assert_eq!(
            hours(4).map(|zone| day(now, Zone::Fixed(of(zone)))),
            Some(today)
        );
    }

    #[test]
    fn a_moment_beyond_the_calendar_is_as_in_utc() {
        assert_eq!(utc_offset(i64::MAX), 0);
        assert_eq!(ZONE.local(i64::MAX), i64::MAX);
    }

    #[test]
    fn each_moment_has_its_own_offset() {
        // Every week of three years: wherever this runs, the zone says what chrono's does.
        for week in 0..156 {
            let at = 1_735_689_600 + week * 7 * 86_400;
            let there = Local.timestamp_opt(at, 0).single();
            let local = there.map(|there| there.naive_local().and_utc().timestamp());
            assert_eq!(local, Some(ZONE.local(at)));
        }
    }
}
