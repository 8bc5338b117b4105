#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn spans(text: &str) -> Vec<Span> {
    text.split(';').map(|one| one.parse().unwrap()).collect()
}

fn windows(apply: &str, name: &str) -> Windows {
    Windows {
        apply: Some(spans(apply)),
        zone: zone(name),
        ..Windows::default()
    }
}

fn open(apply: &str, name: &str, time: &str) -> bool {
    windows(apply, name)
        .holds_change(&Now::Known(at(time)))
        .is_none()
}

/// When it opens next.
fn opens(apply: &str, name: &str, time: &str) -> String {
    let hold = windows(apply, name)
        .holds_change(&Now::Known(at(time)))
        .unwrap();
    hold.until.unwrap().to_string()
}

#[test]
fn a_window_is_open_on_its_days_and_in_its_hours() {
    const NIGHTS: &str = "Mon-Fri 01:00-05:00";
    // 2026-03-02 is a Monday; Vienna is an hour ahead.
    for (time, is) in [
        ("2026-03-01T23:59:59Z", false),
        ("2026-03-02T00:00:00Z", true),
        ("2026-03-02T03:59:59Z", true),
        ("2026-03-02T04:00:00Z", false),
        ("2026-03-06T02:00:00Z", true),
        ("2026-03-07T02:00:00Z", false),
    ] {
        assert_eq!(open(NIGHTS, "Europe/Vienna", time), is, "{time}");
    }
    let next = opens(NIGHTS, "Europe/Vienna", "2026-03-06T05:00:00Z");
    assert_eq!(next, "2026-03-09T00:00:00Z");
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_began() {
    const FRIDAYS: &str = "Fri 22:00-06:00";
    for (time, is) in [
        ("2026-03-06T22:00:00Z", true),
        ("2026-03-07T05:59:00Z", true),
        ("2026-03-07T06:00:00Z", false),
        ("2026-03-07T23:00:00Z", false),
        ("2026-03-06T05:00:00Z", false),
    ] {
        assert_eq!(open(FRIDAYS, "UTC", time), is, "{time}");
    }
    // From Sunday into Monday: the week goes round.
    assert!(open("Sun 23:00-01:00", "UTC", "2026-03-02T00:30:00Z"));
    assert_eq!(
        opens(FRIDAYS, "UTC", "2026-03-07T06:00:00Z"),
        "2026-03-13T22:00:00Z"
    );
}

#[test]
fn the_hour_that_the_clocks_leave_out_is_in_no_window() {
    // Vienna goes from 02:00 to 03:00 on 2026-03-29 (a Sunday), at 01:00Z; Sydney on 2026-10-04, at 16:00Z of the day before.
    const VIENNA: &str = "Europe/Vienna";
    // A window that reaches over it is an hour shorter.
    assert!(open("* 01:00-05:00", VIENNA, "2026-03-29T00:59:59Z"));
    assert!(open("* 01:00-05:00", VIENNA, "2026-03-29T01:00:00Z"));
    assert!(!open("* 01:00-05:00", VIENNA, "2026-03-29T03:00:00Z"));
    // One that begins within it opens when the clocks have changed.
    assert_eq!(
        opens("* 02:30-03:30", VIENNA, "2026-03-29T00:59:00Z"),
        "2026-03-29T01:00:00Z"
    );
    assert!(!open("* 02:30-03:30", VIENNA, "2026-03-29T01:30:00Z"));
    // One that lies within it does not open on that day.
    assert_eq!(
        opens("Sun 02:00-03:00", VIENNA, "2026-03-28T12:00:00Z"),
        "2026-04-05T00:00:00Z"
    );
    assert_eq!(
        opens(
            "Sun 02:15-02:45",
            "Australia/Sydney",
            "2026-10-02T00:00:00Z"
        ),
        "2026-10-10T15:15:00Z"
    );
}

#[test]
fn the_hour_that_comes_twice_is_in_its_windows_twice() {
    // Vienna goes from 03:00 back to 02:00 on 2026-10-25 at 01:00Z; Sydney on 2026-04-05 (from 03:00), at 16:00Z of the day before.
    const VIENNA: &str = "Europe/Vienna";
    const HALF: &str = "* 02:00-02:30";
    for (time, is) in [
        ("2026-10-25T00:00:00Z", true),
        ("2026-10-25T00:29:59Z", true),
        ("2026-10-25T00:30:00Z", false),
        ("2026-10-25T01:00:00Z", true),
        ("2026-10-25T01:30:00Z", false),
    ] {
        assert_eq!(open(HALF, VIENNA, time), is, "{time}");
    }
    assert_eq!(
        opens(HALF, VIENNA, "2026-10-25T00:45:00Z"),
        "2026-10-25T01:00:00Z"
    );
    assert_eq!(
        opens("* 02:15-02:45", "Australia/Sydney", "2026-04-04T15:50:00Z"),
        "2026-04-04T16:15:00Z"
    );
    // One over all of it is an hour longer.
    let window = windows("* 01:00-05:00", VIENNA);
    let end = window.lasts_until(&Now::Known(at("2026-10-24T23:00:00Z")));
    assert_eq!(end, Some(at("2026-10-25T04:00:00Z")));
}

#[test]
fn the_hold_says_which_window_and_when_it_opens_where_the_device_is() {
    let window = windows("Mon-Fri 01:00-05:00", "Europe/Vienna");
    let hold = window
        .holds_change(&Now::Known(at("2026-03-02T12:00:00Z")))
        .unwrap();
    assert_eq!(hold.by, HeldBy::Window);
    for word in [
        "window.apply",
        "Mon-Fri 01:00-05:00",
        "Europe/Vienna",
        "2026-03-03T01:00:00+01:00",
    ] {
        assert!(hold.message.contains(word), "{}", hold.message);
    }
}

#[test]
fn a_clock_that_is_not_right_opens_no_window() {
    let window = Windows {
        download: Some(spans("* 00:00-24:00")),
        ..windows("* 00:00-24:00", "UTC")
    };
    let now = Now::AtLeast(at("2026-03-02T12:00:00Z"), "no clock".to_owned());
    assert_eq!(window.holds_change(&now).unwrap().by, HeldBy::Window);
    assert_eq!(window.holds_download(&now).unwrap().by, HeldBy::Download);
    assert_eq!(Windows::default().holds_change(&now), None);
    // A window that is always open never closes.
    let now = Now::Known(at("2026-03-02T12:00:00Z"));
    assert_eq!(window.holds_change(&now), None);
    assert_eq!(window.lasts_until(&now), None);
}

#[test]
fn the_grace_counts_from_the_end() {
    let window = Windows {
        grace: Duration::from_secs(600),
        ..windows("* 01:00-05:00", "UTC")
    };
    let until = |time| window.lasts_until(&Now::Known(at(time)));
    assert_eq!(
        until("2026-03-02T04:59:00Z"),
        Some(at("2026-03-02T05:10:00Z"))
    );
    assert_eq!(until("2026-03-02T05:01:00Z"), None);
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Vienna",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
];

proptest! {
    /// Against the plainest way to say it: look at every quarter of an hour, which is where everything here begins and ends.
    #[test]
    fn the_next_opening_is_the_first_moment_that_is_open(
        zone_of in 0..ZONES.len(),
        // From 2011, in whose last days Apia left out a whole one, to 2040, beyond every table of transitions.
        quarter in 1_451_000_u32..2_454_000,
        days in 1_u8..128,
        from in 0_u16..96,
        length in 1_u16..96,
    ) {
        let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let days: Vec<&str> = (0..7).filter(|day| days & (1 << day) != 0).map(|day| names[day]).collect();
        let time = |quarter: u16| format!("{:02}:{:02}", quarter / 4 % 24, quarter % 4 * 15);
        let text = format!("{} {}-{}", days.join(","), time(from), time(from + length));
        let (spans, zone) = (spans(&text), zone(ZONES[zone_of]));
        let start = i64::from(quarter) * 900;
        let was = is_open(&spans, &zone, Timestamp(start));
        let wanted = if was { Is::Closed } else { Is::Open };
        let found = next(&spans, &zone, Timestamp(start), wanted);
        let plain = (1..=15 * 96)
            .map(|step| Timestamp(start + step * 900))
            .find(|moment| is_open(&spans, &zone, *moment) != was);
        prop_assert_eq!(found, plain, "{} in {} from {}", text, ZONES[zone_of], Timestamp(start));
    }
}
