//! Whether the hour allows that weights rise, and when it will. Pure: time comes in.
//!
//! A window begins at a time of day where its zone is, and then lasts as long as it says by any clock: where clocks are
//! changed it neither shrinks nor grows. A time of day that is skipped by that is taken as much later as is skipped, one
//! that comes twice is the first. So 24 h every day leave an hour out once a year, unless the zone is UTC.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time as TimeOfDay, Weekday},
    tz::TimeZone,
};
use std::time::Duration;
use stomaton_crds::v1alpha1::{AdvanceWindow, Day, Freeze, Windows};

/// No window lasts longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Why nothing may rise now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why, in words.
    pub why: String,
    /// When to look again, later than now; none: no window will ever open.
    pub until: Option<Timestamp>,
}

/// A window has a time zone that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {0}")]
pub struct UnknownZone(pub String);

/// Why nothing may rise now; none if it may.
pub fn closed(windows: &Windows, now: Timestamp) -> Result<Option<Closed>, UnknownZone> {
    // All zones are looked up whatever the hour: what is wrong is to be heard of before it matters.
    let hours = windows.advance.iter().map(Hours::of).collect::<Result<Vec<_>, _>>()?;
    if let Some(closed) = frozen(&windows.freezes, now) {
        return Ok(Some(closed));
    }
    if hours.is_empty() || hours.iter().any(|hours| hours.are_open(now)) {
        return Ok(None);
    }
    let until = hours.iter().filter_map(|hours| hours.next(now)).min();
    let why = until.map_or_else(
        || "a window for advances, and none will open".to_owned(),
        |at| format!("the next window for advances, at {at:.0}"),
    );
    Ok(Some(Closed { why, until }))
}

/// The freeze that ends last of those there are now.
fn frozen(freezes: &[Freeze], now: Timestamp) -> Option<Closed> {
    let present = freezes.iter().filter(|freeze| freeze.from.0 <= now && now < freeze.to.0);
    let Freeze { to, reason, .. } = present.max_by_key(|freeze| freeze.to.0)?;
    let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(Closed { why: format!("a freeze until {:.0}{reason}", to.0), until: Some(to.0) })
}

/// A window with its zone.
struct Hours<'a> {
    window: &'a AdvanceWindow,
    zone: TimeZone,
}

impl<'a> Hours<'a> {
    fn of(window: &'a AdvanceWindow) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(&window.time_zone).map_err(|_| UnknownZone(window.time_zone.clone()))?;
        Ok(Self { window, zone })
    }

    fn are_open(&self, now: Timestamp) -> bool {
        let lasts = Duration::from(self.window.lasts).min(LONGEST);
        let open = |from: Timestamp| from <= now && from.checked_add(lasts).is_ok_and(|to| now < to);
        self.beginnings(now).any(open)
    }

    /// When it begins the next time.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.beginnings(now).filter(|from| *from > now).min()
    }

    /// When it begins on the days around `now`: those whose window may last until now, and a whole week to come. A clock
    /// that is set forward by a day, as at the date line, is why it is two days more.
    fn beginnings(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let today = self.zone.to_datetime(now).date();
        let time = time_of_day(&self.window.from);
        let days = (-2..=9).map(move |days| today.saturating_add(SignedDuration::from_hours(24 * days)));
        let at = move |day: Date| self.zone.to_timestamp(day.to_datetime(time?)).ok();
        days.filter(move |day| self.is_on(*day)).filter_map(at)
    }

    fn is_on(&self, date: Date) -> bool {
        let days = &self.window.days;
        days.is_empty() || days.iter().any(|day| weekday(*day) == date.weekday())
    }
}

/// `09:00`; none if it is not of that form, which the schema does not let pass: such a window never opens.
fn time_of_day(from: &str) -> Option<TimeOfDay> {
    let (hour, minute) = from.split_once(':')?;
    TimeOfDay::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    /// 2026-03-01.
    const BEGIN: i64 = 1_772_323_200;
    const WORKDAYS: [Day; 5] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(days: &[Day], from: &str, hours: u64, zone: &str) -> AdvanceWindow {
        AdvanceWindow {
            days: days.to_vec(),
            from: from.into(),
            lasts: Duration::from_secs(hours * 3600).into(),
            time_zone: zone.into(),
        }
    }

    fn only(window: AdvanceWindow) -> Windows {
        Windows { advance: vec![window], freezes: Vec::new() }
    }

    fn is_open(windows: &Windows, now: &str) -> bool {
        closed(windows, at(now)).unwrap().is_none()
    }

    /// When to look again; panics if it is open.
    fn until(windows: &Windows, now: &str) -> Timestamp {
        closed(windows, at(now)).unwrap().unwrap().until.unwrap()
    }

    #[test]
    fn without_windows_it_is_always_open() {
        assert!(is_open(&Windows::default(), "2026-12-25T03:00:00Z"));
    }

    #[test]
    fn a_window_is_open_from_its_beginning_to_before_its_end() {
        let office = only(window(&WORKDAYS, "09:00", 8, "UTC"));
        // A Friday.
        for (now, open) in [("08:59:59", false), ("09:00:00", true), ("16:59:59", true), ("17:00:00", false)]
        {
            assert_eq!(is_open(&office, &format!("2026-12-04T{now}Z")), open, "{now}");
        }
        assert!(!is_open(&office, "2026-12-05T12:00:00Z"), "a Saturday");
        let evening = closed(&office, at("2026-12-04T17:00:00Z")).unwrap().unwrap();
        assert_eq!(evening.why, "the next window for advances, at 2026-12-07T09:00:00Z");
        assert_eq!(evening.until, Some(at("2026-12-07T09:00:00Z")));
    }

    #[test]
    fn a_window_of_friday_evening_lasts_into_saturday_and_no_other_night() {
        let night = only(window(&[Day::Fri], "22:00", 8, "UTC"));
        assert!(is_open(&night, "2026-12-04T22:00:00Z"));
        assert!(is_open(&night, "2026-12-05T05:59:59Z"));
        for other in
            ["2026-12-05T06:00:00Z", "2026-12-05T23:00:00Z", "2026-12-06T03:00:00Z", "2026-12-04T03:00:00Z"]
        {
            assert!(!is_open(&night, other), "{other}");
        }
        assert_eq!(until(&night, "2026-12-05T06:00:00Z"), at("2026-12-11T22:00:00Z"));
    }

    #[test]
    fn whole_days_follow_each_other() {
        let always = only(window(&[], "00:00", 24, "Europe/London"));
        for now in
            ["2026-12-04T00:00:00Z", "2026-12-04T23:59:59Z", "2026-03-29T00:30:00Z", "2026-03-29T12:00:00Z"]
        {
            assert!(is_open(&always, now), "{now}");
        }
        assert!(!is_open(&always, "2026-10-25T23:30:00Z"), "the last hour of a day that has 25");
    }

    #[test]
    fn hours_follow_the_clocks_of_the_place() {
        let office = only(window(&WORKDAYS, "09:00", 8, "Europe/London"));
        assert!(!is_open(&office, "2026-03-27T08:30:00Z"), "winter");
        assert!(is_open(&office, "2026-03-30T08:30:00Z"), "summer");
        assert_eq!(until(&office, "2026-03-27T17:00:00Z"), at("2026-03-30T08:00:00Z"));
        assert_eq!(until(&office, "2026-10-23T16:00:00Z"), at("2026-10-26T09:00:00Z"));
    }

    #[test]
    fn a_time_that_is_skipped_is_later_and_one_that_comes_twice_is_the_first() {
        let early = only(window(&[Day::Sun], "01:30", 1, "Europe/London"));
        assert_eq!(until(&early, "2026-03-29T01:15:00Z"), at("2026-03-29T01:30:00Z"), "02:30 in London");
        assert!(is_open(&early, "2026-03-29T02:29:59Z"));
        assert_eq!(
            until(&early, "2026-10-25T00:15:00Z"),
            at("2026-10-25T00:30:00Z"),
            "01:30 in London, in summer"
        );
        assert!(!is_open(&early, "2026-10-25T01:30:00Z"), "01:30 in London again");
    }

    #[test]
    fn a_freeze_beats_a_window() {
        let freeze = |from: &str, to: &str, reason: Option<&str>| Freeze {
            from: Time(at(from)),
            to: Time(at(to)),
            reason: reason.map(ToOwned::to_owned),
        };
        let mut windows = only(window(&[], "09:00", 8, "UTC"));
        windows.freezes = vec![
            freeze("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z", Some("christmas")),
            freeze("2026-12-01T10:00:00Z", "2026-12-01T11:00:00Z", None),
        ];
        let why = |now: &str| closed(&windows, at(now)).unwrap().map(|closed| closed.why);
        let christmas = Some("a freeze until 2026-12-02T00:00:00Z: christmas".to_owned());
        assert_eq!(why("2026-12-01T10:30:00Z"), christmas, "the one that ends last");
        assert_eq!(why("2026-12-01T20:00:00Z"), christmas);
        assert_eq!(
            why("2026-12-02T00:00:00Z").unwrap(),
            "the next window for advances, at 2026-12-02T09:00:00Z"
        );
        assert_eq!(why("2026-12-02T09:00:00Z"), None);
        windows.freezes.remove(0);
        let short = closed(&windows, at("2026-12-01T10:30:00Z")).unwrap().unwrap();
        assert_eq!(short.why, "a freeze until 2026-12-01T11:00:00Z");
        assert_eq!(short.until, Some(at("2026-12-01T11:00:00Z")));
    }

    #[test]
    fn a_zone_that_there_is_not_is_an_error_even_while_another_window_is_open() {
        let mut windows = only(window(&[], "00:00", 24, "UTC"));
        windows.advance.push(window(&[], "09:00", 8, "Mars/Olympus"));
        let error = closed(&windows, at("2026-12-01T10:00:00Z")).unwrap_err();
        assert_eq!(error.to_string(), "there is no time zone Mars/Olympus");
    }

    #[test]
    fn a_window_without_a_readable_beginning_never_opens() {
        let broken = only(window(&[], "nine", 8, "UTC"));
        assert_eq!(closed(&broken, at("2026-12-01T10:00:00Z")).unwrap().unwrap().until, None);
    }

    fn any_window() -> impl Strategy<Value = AdvanceWindow> {
        let days = prop::collection::vec(prop::sample::select(WORKDAYS.to_vec()), 0..3);
        let zones = vec!["UTC", "Europe/London", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"];
        (days, 0u8..24, 0u8..60, 1u64..=1440, prop::sample::select(zones)).prop_map(
            |(days, hour, minute, lasts, zone)| AdvanceWindow {
                from: format!("{hour:02}:{minute:02}"),
                lasts: Duration::from_secs(lasts * 60).into(),
                ..window(&days, "", 0, zone)
            },
        )
    }

    fn any_freeze() -> impl Strategy<Value = Freeze> {
        (0i64..2000, 1i64..500).prop_map(|(from, lasts)| {
            let hour = |hour: i64| Time(Timestamp::from_second(BEGIN + hour * 3600).unwrap());
            Freeze { from: hour(from), to: hour(from + lasts), reason: None }
        })
    }

    proptest! {
        /// It stays closed until then, and then is open, or closed for a reason that has an end of its own.
        #[test]
        fn it_is_closed_until_it_says(
            advance in prop::collection::vec(any_window(), 0..4),
            freezes in prop::collection::vec(any_freeze(), 0..4),
            minute in 0i64..400 * 1440,
            between in 0.0f64..1.0,
        ) {
            let windows = Windows { advance, freezes };
            let now = Timestamp::from_second(BEGIN + minute * 60).unwrap();
            if let Some(Closed { until, .. }) = closed(&windows, now).unwrap() {
                let until = until.unwrap();
                prop_assert!(until > now);
                let wait = until.duration_since(now).as_secs();
                let meanwhile = now.checked_add(SignedDuration::from_secs((wait as f64 * between) as i64)).unwrap();
                prop_assert!(closed(&windows, meanwhile).unwrap().is_some(), "open at {meanwhile}");
                if let Some(next) = closed(&windows, until).unwrap() {
                    prop_assert!(next.until.unwrap() > until);
                }
            }
        }
    }
}
