#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use evenkeel_schema::agent_release::{Binary, Place};

use super::*;
use crate::domain::agent::NoGeneration;

fn release(version: &str, digit: char) -> Release {
    Release {
        version: version.parse().unwrap(),
        binary: Binary {
            place: Place::Path("x".to_owned()),
            sha256: digit.to_string().repeat(64).parse().unwrap(),
        },
    }
}

fn package(version: &str) -> Running {
    Running {
        version: version.to_owned(),
        generation: None,
    }
}

fn generation(of: &Release) -> Running {
    Running {
        version: of.version.to_string(),
        generation: Some(of.generation()),
    }
}

fn next(of: &Release, starts: NextStarts) -> Next {
    Next {
        generation: of.generation(),
        starts,
    }
}

/// A calm device with a starter, that runs the package's 0.1.0 while 0.2.0 is declared.
fn scene<'s>(running: &'s Running, declared: &'s Declared) -> Scene<'s> {
    Scene {
        managed: Managed::Repository,
        starter: Ok(()),
        running,
        next: None,
        refused: None,
        declared,
        staged: Staged::No,
        calm: Ok(()),
    }
}

fn why(step: &Step) -> String {
    match step {
        Step::Rest(why) => why.clone().unwrap_or_default(),
        Step::Fetch(_) | Step::Switch(_) | Step::HandBack => panic!("{step:?}"),
    }
}

#[test]
fn what_is_declared_is_fetched_then_started_and_then_nothing_is_done() {
    let (running, wanted) = (package("0.1.0"), release("0.2.0", 'a'));
    let declared = Declared::Release(wanted.clone());
    let mut scene = scene(&running, &declared);
    assert_eq!(decide(&scene), Step::Fetch(wanted.clone()));
    scene.staged = Staged::OnItsWay;
    assert!(why(&decide(&scene)).contains("downloaded"));
    scene.staged = Staged::Yes;
    assert_eq!(decide(&scene), Step::Switch(wanted.generation()));
    let running = generation(&wanted);
    assert_eq!(
        decide(&Scene {
            running: &running,
            ..scene
        }),
        Step::Rest(None)
    );
}

#[test]
fn the_package_s_own_binary_of_the_declared_version_is_what_is_declared() {
    let declared = Declared::Release(release("0.1.0", 'a'));
    let running = package("0.1.0");
    assert_eq!(decide(&scene(&running, &declared)), Step::Rest(None));
    // Another binary of the same version is another generation.
    let running = generation(&release("0.1.0", 'b'));
    assert!(matches!(
        decide(&scene(&running, &declared)),
        Step::Fetch(_)
    ));
}

#[test]
fn a_lower_version_is_taken_as_it_is_declared_and_nothing_declared_changes_nothing() {
    let running = generation(&release("0.3.0", 'c'));
    let lower = Declared::Release(release("0.2.0", 'a'));
    assert!(matches!(decide(&scene(&running, &lower)), Step::Fetch(_)));
    assert_eq!(
        decide(&scene(&running, &Declared::Nothing)),
        Step::Rest(None)
    );
    let unknown = Declared::Unknown("x".to_owned());
    assert_eq!(why(&decide(&scene(&running, &unknown))), "x");
}

#[test]
fn a_refused_one_is_not_tried_again_and_another_one_is() {
    let (running, wanted) = (package("0.1.0"), release("0.2.0", 'a'));
    let declared = Declared::Release(wanted.clone());
    let generation = wanted.generation();
    let mut scene = scene(&running, &declared);
    scene.refused = Some((&generation, "it ended"));
    for staged in [Staged::Yes, Staged::No, Staged::OnItsWay] {
        scene.staged = staged;
        assert!(why(&decide(&scene)).contains("it ended"));
    }
    let another = Declared::Release(release("0.2.0", 'b'));
    scene.staged = Staged::No;
    assert!(matches!(
        decide(&Scene {
            declared: &another,
            ..scene
        }),
        Step::Fetch(_)
    ));
}

#[test]
fn nothing_begins_while_the_device_is_not_calm_or_nobody_would_put_the_old_one_back() {
    let (running, declared) = (package("0.1.0"), Declared::Release(release("0.2.0", 'a')));
    for staged in [Staged::Yes, Staged::No] {
        let mut scene = scene(&running, &declared);
        scene.staged = staged;
        scene.calm = Err("it soaks");
        assert!(why(&decide(&scene)).contains("it soaks"));
        scene.calm = Ok(());
        scene.starter = Err("alone");
        assert_eq!(why(&decide(&scene)), "alone");
    }
}

#[test]
fn one_that_is_on_trial_does_nothing_but_prove_itself() {
    let (running, newer) = (release("0.2.0", 'a'), release("0.3.0", 'b'));
    let next = next(&running, NextStarts::Left);
    let (running, declared) = (generation(&running), Declared::Release(newer));
    let mut scene = scene(&running, &declared);
    scene.next = Some(&next);
    scene.staged = Staged::Yes;
    assert!(why(&decide(&scene)).contains("on trial"));
}

#[test]
fn with_the_package_manager_in_charge_a_generation_gives_way_and_none_is_fetched() {
    let wanted = release("0.2.0", 'a');
    let (running, declared) = (generation(&wanted), Declared::Release(wanted));
    let managed = Managed::Package;
    let calm = Scene {
        managed,
        ..scene(&running, &declared)
    };
    assert_eq!(decide(&calm), Step::HandBack);
    assert!(
        why(&decide(&Scene {
            calm: Err("it soaks"),
            ..calm
        }))
        .contains("it soaks")
    );
    let package = package("0.1.0");
    let step = decide(&Scene {
        running: &package,
        ..calm
    });
    assert!(why(&step).contains("package manager"));
}

#[test]
fn one_that_was_late_while_the_remote_was_away_is_not_blamed() {
    let release = release("0.2.0", 'a');
    let verdict =
        |starts, reached| matches!(judge(&next(&release, starts), reached), Verdict::Refuse(_));
    assert!(verdict(NextStarts::Spent, Reached::Yes) && verdict(NextStarts::Spent, Reached::No));
    assert!(verdict(NextStarts::Late, Reached::Yes) && !verdict(NextStarts::Late, Reached::No));
    assert!(
        !verdict(NextStarts::Left, Reached::Yes) && verdict(NextStarts::LeftAgain, Reached::Yes)
    );
}

#[test]
fn a_generation_s_name_is_read_back_as_it_is_written() {
    for version in ["0.2.0", "1", "0.3.0-rc.1+linux_x"] {
        let name = release(version, 'a').generation();
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert_eq!(name.version(), version);
    }
    for text in [
        "",
        "0.2.0",
        "-aaaaaaaaaaaa",
        "../0.2-aaaaaaaaaaaa",
        "0.2.0-AAAAAAAAAAAA",
        "0.2.0-aaa",
    ] {
        assert_eq!(text.parse::<Generation>(), Err(NoGeneration), "{text}");
    }
}
