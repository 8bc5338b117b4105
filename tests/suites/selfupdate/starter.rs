//! The starter, with real processes: what it starts in each state that an update, a crash or a power cut can leave.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use evenkeel_tests::tally::{Ended, Tally};
use evenkeel_tests::wait_for;

use super::scene::{Place, program, starter};

/// As many starts as an agent has before it must have proven itself.
const STRIKES: usize = 3;

#[test]
fn with_nothing_staged_the_package_s_own_binary_is_started_with_all_arguments() {
    let place = Place::new();
    let said = place.start().expect_code(0);
    let wanted = format!(
        "package package run --config {}\n",
        place.config_file().display()
    );
    assert_eq!(said.stdout, wanted);
    assert_eq!(said.stderr, "");
}

#[test]
fn the_proven_generation_is_started_and_where_it_is_damaged_the_one_before_it_and_then_the_package_s()
 {
    let place = Place::new();
    let (old, new) = (place.that_speaks("0.1.0"), place.that_speaks("0.2.0"));
    place.link("previous", &old);
    place.link("current", &new);
    let said = place.start().expect_code(0);
    assert_eq!(
        said.stdout,
        format!("{new} run --config {}\n", place.config_file().display())
    );
    assert_eq!(place.strikes(&new), 0, "only the unproven one is counted");
    let damage = |id: &str| {
        let file = place.agent().join(id).join("evenkeel");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push('#');
        program(&file, &text);
    };
    damage(&new);
    assert_eq!(place.begins(), old);
    damage(&old);
    assert_eq!(place.begins(), "package");
}

#[test]
fn an_unproven_generation_has_three_starts_and_then_the_old_one_is_back() {
    let place = Place::new();
    let (old, new) = (place.that_speaks("0.1.0"), place.that_speaks("0.2.0"));
    place.link("current", &old);
    place.link("next", &new);
    let begun: Vec<String> = (0..5).map(|_| place.begins()).collect();
    assert_eq!(begun.join(" "), [&*new, &new, &new, &old, &old].join(" "));
    assert_eq!(place.strikes(&new), STRIKES);
    // Proven by a rename, however many starts it took.
    std::fs::rename(place.agent().join("next"), place.agent().join("current")).unwrap();
    assert_eq!(place.begins(), new);
}

#[test]
fn one_that_hangs_is_killed_at_its_deadline_and_the_old_one_is_back_at_once() {
    let mut place = Place::new();
    place.deadline = 2;
    let old = place.that_speaks("0.1.0");
    // It takes no SIGTERM, and has a child that it does not care for.
    let new = place.generation(
        "0.2.0",
        "trap '' TERM\nsleep 600 &\nwhile :; do sleep 1; done",
    );
    place.link("current", &old);
    place.link("next", &new);
    let mut child = place
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait_for("its end", || child.try_wait().unwrap());
    assert_eq!(status.signal(), Some(9));
    assert!(place.agent().join(&new).join("late").exists());
    assert_eq!(place.begins(), old);
}

#[test]
fn one_that_proves_itself_in_time_is_left_alone() {
    let mut place = Place::new();
    place.deadline = 3;
    let new = place.generation(
        "0.2.0",
        "mv \"$EVENKEEL_GENERATIONS/next\" \"$EVENKEEL_GENERATIONS/current\"\nsleep 6\necho \"$EVENKEEL_GENERATION done\"",
    );
    place.link("next", &new);
    let begun = Instant::now();
    assert_eq!(place.start().expect_code(0).stdout, format!("{new} done\n"));
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert!(!place.agent().join(&new).join("late").exists());
}

#[test]
fn a_start_that_cannot_be_counted_is_one_of_the_old_agent() {
    let place = Place::new();
    let (old, new) = (place.that_speaks("0.1.0"), place.that_speaks("0.2.0"));
    place.link("current", &old);
    place.link("next", &new);
    let tools = place.state().join("tools");
    std::fs::create_dir(&tools).unwrap();
    // A disk that takes no sync.
    program(&tools.join("sync"), "#!/bin/sh\nexit 1\n");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    for _ in 0..5 {
        let said = evenkeel_tests::process::run(
            place.command().env("PATH", &path),
            Duration::from_secs(60),
        );
        assert!(said.stdout.starts_with(&old), "{}", said.text());
    }
}

#[test]
fn the_state_directory_is_found_however_agent_toml_names_it() {
    let place = Place::new();
    let new = place.that_speaks("0.2.0");
    place.link("current", &new);
    let state = place.state();
    let state = state.display();
    for (text, found) in [
        (format!("state_dir = \"{state}\"\n"), true),
        (
            format!("# a word\n\n  state_dir='{state}'   # where it lies\nroot = \"/\"\n"),
            true,
        ),
        // In a section it is another key, and in a comment it is none.
        (
            format!("[source]\nurl = \"x\"\nstate_dir = \"{state}\"\n"),
            false,
        ),
        (format!("#state_dir = \"{state}\"\n"), false),
    ] {
        place.config(&text);
        let wanted = if found { new.as_str() } else { "package" };
        assert_eq!(place.begins(), wanted, "{text}");
    }
    // `--config=PATH` is the same as `--config PATH`.
    place.config(&format!("state_dir = \"{state}\"\n"));
    let said = evenkeel_tests::process::run(
        std::process::Command::new("sh")
            .arg(starter())
            .arg("run")
            .arg(format!("--config={}", place.config_file().display())),
        Duration::from_secs(60),
    );
    assert!(said.stdout.starts_with(&new), "{}", said.text());
}

#[test]
fn a_link_that_leads_elsewhere_starts_nothing_from_there() {
    let place = Place::new();
    let good = place.that_speaks("0.2.0");
    let digits = good.rsplit('-').next().unwrap();
    std::fs::create_dir_all(place.state().join(format!("x-{digits}"))).unwrap();
    std::fs::copy(
        place.agent().join(&good).join("evenkeel"),
        place.state().join(format!("x-{digits}/evenkeel")),
    )
    .unwrap();
    for to in [
        format!("../x-{digits}"),
        place.agent().join(&good).display().to_string(),
        "..".to_owned(),
        String::from("gone-0123456789ab"),
        format!("{good} "),
        good.replace(digits, "0123456789ab"),
    ] {
        for link in ["next", "current", "previous"] {
            place.link(link, &to);
            assert_eq!(place.begins(), "package", "{link} -> {to}");
            std::fs::remove_file(place.agent().join(link)).unwrap();
        }
    }
}

/// What may be in a generation's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Whole,
    /// A directory without its binary, or with half of it: what a power cut leaves.
    Empty,
    Torn,
    NotExecutable,
}

/// Every state that power cuts can leave, and more: each of the three links is there or not, and leads to each kind of
/// thing, with each number of strikes. What is started is whole, and the newest that may be.
#[test]
fn whatever_a_power_cut_leaves_something_whole_is_started() {
    let mut tally = Tally::new("update of the agent, what a power cut leaves");
    let kinds = [
        Left::Nothing,
        Left::Whole,
        Left::Empty,
        Left::Torn,
        Left::NotExecutable,
    ];
    let behind = [Left::Nothing, Left::Whole, Left::Torn];
    for next in kinds {
        for current in behind {
            for previous in behind {
                for strikes in [0, 1, STRIKES] {
                    if next == Left::Nothing && strikes > 0 {
                        continue;
                    }
                    tally.count(one_state(next, current, previous, strikes));
                }
            }
        }
    }
    tally.close();
}

fn one_state(next: Left, current: Left, previous: Left, strikes: usize) -> Result<Ended, String> {
    let place = Place::new();
    let lay = |link: &str, version: &str, left: Left| {
        let id = place.that_speaks(version);
        let file = place.agent().join(&id).join("evenkeel");
        match left {
            Left::Nothing => std::fs::remove_dir_all(place.agent().join(&id)).unwrap(),
            Left::Whole => {}
            Left::Empty => std::fs::remove_file(&file).unwrap(),
            Left::Torn => {
                let text = std::fs::read_to_string(&file).unwrap();
                program(&file, &text[..text.len() / 2]);
            }
            Left::NotExecutable => {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        if left != Left::Nothing {
            place.link(link, &id);
        }
        id
    };
    let ids = [
        lay("next", "0.3.0", next),
        lay("current", "0.2.0", current),
        lay("previous", "0.1.0", previous),
    ];
    if next != Left::Nothing {
        for n in 1..=strikes {
            std::fs::write(place.agent().join(&ids[0]).join(format!("strike-{n}")), "").unwrap();
        }
    }
    // What an update leaves on its way there.
    std::os::unix::fs::symlink(&ids[0], place.agent().join(".next.tmp")).unwrap();
    std::fs::write(place.agent().join("0.3.0-000000000000.part"), "half").unwrap();
    let is_next = next == Left::Whole && strikes < STRIKES;
    let (wanted, ended) = if is_next {
        (ids[0].as_str(), Ended::New)
    } else if current == Left::Whole {
        (ids[1].as_str(), Ended::LastGood)
    } else if previous == Left::Whole {
        (ids[2].as_str(), Ended::LastGood)
    } else {
        ("package", Ended::LastGood)
    };
    let began = place.begins();
    let counted = place.strikes(&ids[0]);
    if began != wanted {
        return Err(format!(
            "next {next:?}, current {current:?}, previous {previous:?}, {strikes} strikes: {began}, and it should be {wanted}"
        ));
    }
    if is_next && counted != strikes + 1 {
        return Err(format!("{strikes} strikes became {counted}"));
    }
    Ok(ended)
}

/// A loop that starts a bad agent until the old one is back, at most so often.
fn comes_back(place: &Place, old: &str) -> Result<Ended, String> {
    let begun: Vec<String> = (0..6)
        .map(|_| place.start().stdout)
        .map(|said| said.split_whitespace().next().unwrap_or("-").to_owned())
        .collect();
    match begun.last() {
        Some(last) if last == old => Ok(Ended::LastGood),
        _ => Err(format!("these began: {begun:?}")),
    }
}

fn bad_ones(place: &Place) -> Vec<String> {
    [
        "exit 1",
        "exit 0",
        "kill -SEGV $$",
        "kill -KILL $$",
        "rm -f \"$EVENKEEL_GENERATIONS/current.tmp\"; exit 3",
    ]
    .iter()
    .map(|does| place.generation("0.2.0", does))
    .collect()
}

#[test]
fn an_agent_that_ends_at_once_in_whatever_way_gives_way_to_the_old_one() {
    let mut tally = Tally::new("update to an agent that ends at once");
    let place = Place::new();
    let old = place.that_speaks("0.1.0");
    place.link("current", &old);
    for bad in bad_ones(&place) {
        place.link("next", &bad);
        tally.count(comes_back(&place, &old));
    }
    tally.close();
}

#[test]
fn a_strike_that_is_never_counted_is_seen() {
    let mut tally = Tally::new("update to an agent that ends at once");
    let text = std::fs::read_to_string(starter()).unwrap();
    let planted = text.replace("(: >\"$dir/$id/strike-$strike\")", ":");
    assert_ne!(
        planted, text,
        "the starter counts strikes in another way now"
    );
    let place = Place::new().with_starter(&planted);
    let old = place.that_speaks("0.1.0");
    place.link("current", &old);
    for bad in bad_ones(&place) {
        place.link("next", &bad);
        tally.count(comes_back(&place, &old));
    }
    tally.close_planted("a strike that is never counted");
}
