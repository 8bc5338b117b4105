#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const START: i64 = 1_795_000_000;
const HOUR: u64 = 3600;

/// `[rollout]` as fleet.toml has it.
fn read(section: &str) -> Turns {
    let text = format!(
        "format = 1\nname = 'a'\n[rollout]\nid = 'one'\nstart = '{}'\n{section}",
        Timestamp(START)
    );
    let mut out = evenkeel_schema::diagnostic::Diagnostics::new();
    let fleet = evenkeel_schema::fleet::parse("fleet.toml", text.as_bytes(), "0.1.0", &mut out);
    assert!(out.is_empty(), "{section}: {:?}", out.sorted());
    fleet.unwrap().unwrap().rollout.unwrap().turns.unwrap()
}

fn device(number: u32) -> DeviceId {
    format!("gw-{number:05}").parse().unwrap()
}

fn known(seconds: i64) -> Now {
    Now::Known(Timestamp(START + seconds))
}

/// How many of these devices may begin at that time.
fn begun(turns: &Turns, devices: u32, seconds: i64) -> u32 {
    let now = known(seconds);
    let open = |number: &u32| holds(turns, &device(*number), &now).is_none();
    u32::try_from((0..devices).filter(open).count()).unwrap()
}

/// Six standard deviations of a fair draw: beyond that the draw is not fair.
fn is_near(found: u32, share: f64, of: u32) -> bool {
    let all = f64::from(of);
    let wide = 6.0 * (share * (1.0 - share) * all).sqrt();
    (f64::from(found) - share * all).abs() <= wide
}

#[test]
fn waves_hold_their_shares_of_ten_thousand_devices() {
    let turns = read("waves = [5, 25, 100]\npause = '1h'\n");
    assert_eq!(begun(&turns, 10_000, -1), 0);
    for (seconds, share) in [(0, 0.05), (3599, 0.05), (3600, 0.25), (7199, 0.25)] {
        let found = begun(&turns, 10_000, seconds);
        assert!(is_near(found, share, 10_000), "{seconds}: {found}");
    }
    assert_eq!(begun(&turns, 10_000, 7200), 10_000);
}

#[test]
fn a_ramp_goes_evenly_from_its_start_to_its_end() {
    let turns = read("duration = '10h'\n");
    assert_eq!(begun(&turns, 10_000, -1), 0);
    for tenth in 1..10_i32 {
        let found = begun(&turns, 10_000, i64::from(tenth) * 3600);
        assert!(
            is_near(found, f64::from(tenth) / 10.0, 10_000),
            "{tenth}: {found}"
        );
    }
    assert_eq!(begun(&turns, 10_000, 36_000), 10_000);
}

#[test]
fn another_id_draws_anew_and_the_same_id_does_not() {
    let all: Vec<DeviceId> = (0..10_000).map(device).collect();
    let first = |id: &str| -> Vec<bool> {
        let tenth = |device| {
            turn(
                &Turns {
                    id: id.to_owned(),
                    ..read("duration = '10h'\n")
                },
                Slot::of(id, device),
            )
        };
        all.iter()
            .map(|one| tenth(one).at < Timestamp(START + 3600))
            .collect()
    };
    assert_eq!(first("one"), first("one"));
    let (one, two) = (first("one"), first("two"));
    let both = one.iter().zip(&two).filter(|(a, b)| **a && **b).count();
    // Of a tenth another tenth: the draws have nothing to do with each other.
    assert!(
        is_near(u32::try_from(both).unwrap(), 0.01, 10_000),
        "{both}"
    );
}

/// What other versions and other programs have to find, too: a slot that moves would move a fleet in the middle of a rollout.
#[test]
fn a_slot_is_the_head_of_a_sha256() {
    let bytes = b"evenkeel rollout slot v1\0one\0gw-00001";
    let digest = crate::domain::revision::ContentId::of(bytes);
    let head = u64::from_str_radix(&digest.as_str()[..16], 16).unwrap();
    assert_eq!(Slot::of("one", &device(1)), Slot(head));
}

#[test]
fn the_turn_is_told_with_its_wave_and_its_time() {
    let turns = read("waves = [100]\n");
    let hold = holds(&turns, &device(1), &known(-60)).unwrap();
    assert_eq!(
        (hold.by, hold.until),
        (HeldBy::Wave, Some(Timestamp(START)))
    );
    assert!(
        hold.message.contains(&format!(
            "`one` comes at {}, with wave 1 of 1 (up to 100 %)",
            Timestamp(START)
        )),
        "{}",
        hold.message
    );
}

#[test]
fn a_device_with_no_clock_comes_after_every_other_one_and_it_does_come() {
    for (section, last) in [
        ("waves = [5, 25, 100]\npause = '1h'\n", 3 * HOUR),
        ("duration = '6h'\n", 6 * HOUR),
    ] {
        let turns = read(section);
        let last = i64::try_from(last).unwrap();
        let at = |seconds| Now::AtLeast(Timestamp(START + seconds), "no clock".to_owned());
        for number in 0..200 {
            assert_eq!(holds(&turns, &device(number), &at(last)), None, "{section}");
            let hold = holds(&turns, &device(number), &at(last - 1)).unwrap();
            assert_eq!(hold.until, None);
            assert!(holds(&turns, &device(number), &known(last - 1)).is_none());
        }
    }
}

fn any_pace() -> impl Strategy<Value = Pace> {
    let pause = (1_u64..1_000_000).prop_map(Duration::from_secs);
    let waves =
        (proptest::collection::btree_set(1_u32..100, 0..6), pause).prop_map(|(shares, pause)| {
            let mut text: Vec<String> = shares.iter().map(ToString::to_string).collect();
            text.push("100".to_owned());
            let section = format!(
                "waves = [{}]\npause = '{}s'\n",
                text.join(", "),
                pause.as_secs()
            );
            read(&section).pace
        });
    let ramp = (0_u64..10_000_000).prop_map(|seconds| Pace::Ramp(Duration::from_secs(seconds)));
    prop_oneof![waves, ramp]
}

proptest! {
    #[test]
    fn who_may_begin_may_begin_ever_after(pace in any_pace(), slot: u64, earlier in 0_i64..20_000_000, more in 0_i64..20_000_000) {
        let turns = Turns { id: "x".to_owned(), start: START, pace };
        let at = turn(&turns, Slot(slot)).at;
        let (one, two) = (Timestamp(START + earlier), Timestamp(START + earlier + more));
        prop_assert!(one < at || two >= at);
        prop_assert!(Timestamp(START) <= at && at <= end(&turns));
    }

    #[test]
    fn a_lower_slot_never_comes_later(pace in any_pace(), one: u64, other: u64) {
        let turns = Turns { id: "x".to_owned(), start: START, pace };
        let (low, high) = (one.min(other), one.max(other));
        prop_assert!(turn(&turns, Slot(low)).at <= turn(&turns, Slot(high)).at);
    }

    #[test]
    fn no_time_makes_it_panic(start: i64, seconds in 0_u64..400_000_000, slot: u64) {
        let duration = Duration::from_secs(seconds);
        let ramp = Turns { id: "x".to_owned(), start, pace: Pace::Ramp(duration) };
        let waves = Turns {
            pace: Pace::Waves { shares: vec![Share::ALL], pause: duration },
            ..ramp.clone()
        };
        for turns in [ramp, waves] {
            prop_assert!(turn(&turns, Slot(slot)).at <= end(&turns));
        }
    }
}
