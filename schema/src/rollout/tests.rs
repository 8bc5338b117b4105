#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use super::*;

fn read(section: &str) -> (Option<Rollout>, Vec<String>) {
    let mut out = Diagnostics::new();
    let text = format!("format = 1\nname = 'a'\n[rollout]\n{section}");
    let fleet = crate::fleet::parse("fleet.toml", text.as_bytes(), "0.1.0", &mut out);
    let told = out.sorted().iter().map(ToString::to_string).collect();
    (fleet.unwrap().and_then(|fleet| fleet.rollout), told)
}

fn turns(section: &str) -> Turns {
    let (rollout, told) = read(section);
    assert_eq!(told, [""; 0], "{section}");
    rollout.unwrap().turns.unwrap()
}

#[test]
fn waves_and_their_pause_are_read() {
    let turns = turns(
        "id = 'one'\nstart = 2026-03-01T09:00:00+01:00\nwaves = [0.5, 25, 100]\npause = '1h'\n",
    );
    assert_eq!((turns.id.as_str(), turns.start), ("one", 1_772_352_000));
    let Pace::Waves { shares, pause } = turns.pace else {
        unreachable!("{turns:?}");
    };
    let shares: Vec<String> = shares.iter().map(ToString::to_string).collect();
    assert_eq!(shares, ["0.5 %", "25 %", "100 %"]);
    assert_eq!(pause, Duration::from_secs(3600));
}

#[test]
fn a_start_may_be_a_time_of_toml_or_text_and_counts_from_1970() {
    for (start, seconds) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29 12:30:15Z", 951_827_415),
        ("'2026-11-23T20:00:00-05:30'", 1_795_483_800),
        ("\"1969-12-31T23:59:59.5Z\"", -1),
        ("2400-03-01T00:00:00Z", 13_574_649_600),
    ] {
        let section = format!("id = 'a'\nstart = {start}\nduration = '6h'\n");
        assert_eq!(turns(&section).start, seconds, "{start}");
    }
}

#[test]
fn a_single_wave_needs_no_pause_and_a_ramp_may_be_of_no_length() {
    turns("id = 'a'\nstart = 2026-03-01T08:00:00Z\nwaves = [100]\n");
    turns("id = 'a'\nstart = 2026-03-01T08:00:00Z\nduration = '0s'\n");
}

#[test]
fn a_halt_stands_for_itself_and_over_what_a_later_document_says() {
    let (alone, told) = read("halt = true\n");
    assert_eq!(told, [""; 0]);
    let alone = alone.unwrap();
    assert_eq!(alone.halt.as_ref().unwrap().at.line, 4);
    assert!(alone.turns.is_none());
    let (later, _) =
        read("id = 'b'\nstart = 2026-03-01T08:00:00Z\nduration = '1h'\nhalt = false\n");
    let both = later.unwrap().over(Some(alone));
    assert!(both.halt.is_some());
    assert_eq!(both.turns.unwrap().id, "b");
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    let good = "id = 'a'\nstart = 2026-03-01T08:00:00Z\n";
    for (section, problem) in [
        ("", "fleet.toml:3:1: `[rollout]` needs `id`"),
        (
            "id = 'a'\nduration = '1h'\n",
            "fleet.toml:3:1: `[rollout]` needs `start`",
        ),
        (
            good,
            "fleet.toml:3:1: `[rollout]` needs `duration` or `waves`",
        ),
        (
            &format!("{good}duration = '1h'\nwaves = [100]\n"),
            "fleet.toml:7:9: a rollout has either `duration` or `waves`",
        ),
        (
            &format!("{good}duration = '1h'\npause = '1h'\n"),
            "fleet.toml:7:9: `pause` is the time between `waves`",
        ),
        (
            &format!("{good}waves = [5, 25, 20, 100]\npause = '1h'\n"),
            "fleet.toml:6:17: a wave of 20 % after one of 25 %",
        ),
        (
            &format!("{good}waves = [5, 5, 100]\npause = '1h'\n"),
            "fleet.toml:6:13: a wave of 5 % after one of 5 %",
        ),
        (
            &format!("{good}waves = [5, 25]\npause = '1h'\n"),
            "fleet.toml:6:13: the last wave is 25 %",
        ),
        (
            &format!("{good}waves = [0, 100]\npause = '1h'\n"),
            "fleet.toml:6:10: 0 is not a share",
        ),
        (
            &format!("{good}waves = [5, 101]\npause = '1h'\n"),
            "fleet.toml:6:13: 101 is not a share",
        ),
        (
            &format!("{good}waves = []\n"),
            "fleet.toml:6:9: there is no wave",
        ),
        (
            &format!("{good}waves = [5, 100]\n"),
            "fleet.toml:6:9: `waves` need a `pause`",
        ),
        (
            &format!("{good}waves = [5, 100]\npause = '0s'\n"),
            "fleet.toml:7:9: a pause of `0s` is none",
        ),
        (
            &format!("{good}waves = [5, 100]\npause = 'soon'\n"),
            "fleet.toml:7:9: `soon` is not a duration",
        ),
        (
            "id = 'a'\nstart = 2026-03-01T08:00:00\nduration = '1h'\n",
            "fleet.toml:5:9: `2026-03-01T08:00:00` does not say",
        ),
        (
            "id = 'a'\nstart = 'tomorrow'\nduration = '1h'\n",
            "fleet.toml:5:9: `tomorrow` is not a time",
        ),
        (
            "id = 'a'\nstart = 2026-03-01\nduration = '1h'\n",
            "fleet.toml:5:9: `2026-03-01` is not a whole point in time",
        ),
        (
            "id = ''\nstart = 2026-03-01T08:00:00Z\nduration = '1h'\n",
            "fleet.toml:4:6: ",
        ),
        ("halt = 'maybe'\n", "fleet.toml:4:8: "),
        ("halt = true\nwave = [100]\n", "did you mean `waves`"),
    ] {
        let (_, told) = read(section);
        assert!(
            told.iter().any(|one| one.contains(problem)),
            "{section}: {told:?}"
        );
    }
}
