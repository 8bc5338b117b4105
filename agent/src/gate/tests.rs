#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use evenkeel_schema::service::Condition;
use proptest::prelude::*;

fn state(restart: Restart, checks: usize) -> DesiredState {
    let mut service = Service::new(format!("sha256:{}", "a".repeat(64)).parse().unwrap());
    service.restart = restart;
    let check = evenkeel_schema::app::Check {
        probe: evenkeel_schema::app::Probe::Tcp("127.0.0.1:1".to_owned()),
        timeout: Duration::from_secs(1),
        expect: Default::default(),
    };
    let app = DesiredApp {
        services: BTreeMap::from([("broker".parse().unwrap(), service)]),
        checks: vec![check; checks],
        gate: evenkeel_schema::app::Gate {
            deadline: Duration::from_secs(60),
            soak: Duration::from_secs(10),
        },
        ..DesiredApp::default()
    };
    DesiredState {
        device: "gw".parse().unwrap(),
        fleet: "acme".to_owned(),
        apps: BTreeMap::from([("mqtt".parse().unwrap(), app)]),
    }
}

fn id() -> ServiceId {
    ServiceId {
        app: "mqtt".parse().unwrap(),
        service: "broker".parse().unwrap(),
    }
}

fn nothing_before() -> Baseline {
    Baseline::default()
}

fn was(ailment: Ailment) -> Baseline {
    Baseline {
        services: vec![(id(), ailment)],
        ..Baseline::default()
    }
}

fn seen(state: RunState, health: Health, started: &str) -> Sample {
    let service = ServiceSample {
        state,
        health,
        said: None,
        started_at: started.to_owned(),
        oom_killed: false,
    };
    Sample {
        services: BTreeMap::from([(id(), Seen::Present(service))]),
        checks: BTreeMap::new(),
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_service_that_runs_through_its_soak_is_healthy_and_not_before() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    let running = seen(RunState::Running, Health::None, "1");
    assert!(matches!(
        gate.sample(seconds(1), &running),
        Judgement::Wait { .. }
    ));
    assert!(matches!(
        gate.sample(seconds(10), &running),
        Judgement::Wait { .. }
    ));
    assert!(matches!(
        gate.sample(seconds(11), &running),
        Judgement::Healthy(_)
    ));
}

#[test]
fn a_break_begins_the_soak_again() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    gate.sample(seconds(1), &seen(RunState::Running, Health::Healthy, "1"));
    gate.sample(seconds(9), &seen(RunState::Running, Health::Unhealthy, "1"));
    gate.sample(seconds(10), &seen(RunState::Running, Health::Healthy, "1"));
    let sample = seen(RunState::Running, Health::Healthy, "1");
    assert!(matches!(
        gate.sample(seconds(19), &sample),
        Judgement::Wait { .. }
    ));
    assert!(matches!(
        gate.sample(seconds(20), &sample),
        Judgement::Healthy(_)
    ));
}

#[test]
fn what_is_not_healthy_at_the_deadline_is_named() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    let sample = seen(RunState::Running, Health::Unhealthy, "1");
    assert!(matches!(
        gate.sample(seconds(59), &sample),
        Judgement::Wait { .. }
    ));
    let Judgement::Unhealthy(why) = gate.sample(seconds(60), &sample) else {
        panic!("the deadline is over");
    };
    assert!(
        why.contains("mqtt/broker") && why.contains("unhealthy"),
        "{why}"
    );
}

#[test]
fn a_job_that_fails_is_unhealthy_at_once_and_one_that_succeeds_is_well() {
    let mut gate = Gate::new(&state(Restart::No, 0), &nothing_before());
    let failed = seen(RunState::Exited(3), Health::None, "1");
    assert!(matches!(
        gate.sample(seconds(1), &failed),
        Judgement::Unhealthy(_)
    ));
    let mut gate = Gate::new(&state(Restart::No, 0), &nothing_before());
    let done = seen(RunState::Exited(0), Health::None, "1");
    gate.sample(seconds(1), &done);
    assert!(matches!(
        gate.sample(seconds(11), &done),
        Judgement::Healthy(_)
    ));
}

#[test]
fn a_service_that_ends_is_revived_and_one_that_keeps_ending_is_unhealthy() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    for start in 1..=3_u64 {
        let sample = seen(RunState::Exited(1), Health::None, &start.to_string());
        let Judgement::Revive(services) = gate.sample(seconds(start), &sample) else {
            panic!("it is to be started again");
        };
        assert_eq!(services, [id()]);
        // The same end seen twice counts once.
        gate.sample(seconds(start), &sample);
    }
    let sample = seen(RunState::Exited(1), Health::None, "4");
    let Judgement::Unhealthy(why) = gate.sample(seconds(4), &sample) else {
        panic!("it keeps ending");
    };
    assert!(why.contains("keeps ending"), "{why}");
}

#[test]
fn a_check_that_fails_holds_the_verdict_and_decides_it_at_the_deadline() {
    let mut gate = Gate::new(&state(Restart::Always, 1), &nothing_before());
    let mut sample = seen(RunState::Running, Health::None, "1");
    let check = ("mqtt".parse().unwrap(), 0);
    sample
        .checks
        .insert(check, Probed::Failed("tcp 127.0.0.1:1: refused".to_owned()));
    assert!(matches!(
        gate.sample(seconds(30), &sample),
        Judgement::Wait { .. }
    ));
    let Judgement::Unhealthy(why) = gate.sample(seconds(61), &sample) else {
        panic!("the deadline is over");
    };
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn an_engine_that_cannot_be_asked_decides_nothing_against_the_revision() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    let sample = Sample {
        services: BTreeMap::from([(id(), Seen::Unknown("no answer".to_owned()))]),
        checks: BTreeMap::new(),
    };
    assert!(matches!(
        gate.sample(seconds(60), &sample),
        Judgement::Undecided(_)
    ));
}

proptest! {
    #[test]
    fn healthy_never_comes_before_the_soak(wells in prop::collection::vec(any::<bool>(), 1..80)) {
        let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
        let mut well_for = 0u32;
        for (second, well) in wells.into_iter().enumerate() {
            let health = if well { Health::Healthy } else { Health::Unhealthy };
            well_for = if well { well_for + 1 } else { 0 };
            match gate.sample(seconds(second as u64), &seen(RunState::Running, health, "1")) {
                Judgement::Healthy(_) => {
                    prop_assert!(well_for > 10);
                    return Ok(());
                }
                Judgement::Unhealthy(_) => {
                    prop_assert!(!well && second >= 60);
                    return Ok(());
                }
                Judgement::Wait { .. } => prop_assert!(well_for <= 10),
                Judgement::Revive(_) | Judgement::Undecided(_) => prop_assert!(false),
            }
        }
    }
}

#[test]
fn a_restart_between_two_samples_begins_the_soak_again() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    for (at, start) in [(0, "1"), (9, "1"), (11, "2"), (12, "2")] {
        let judgement = gate.sample(seconds(at), &seen(RunState::Running, Health::None, start));
        assert!(
            matches!(judgement, Judgement::Wait { .. }),
            "{at}: {judgement:?}"
        );
    }
    let last = gate.sample(seconds(22), &seen(RunState::Running, Health::None, "2"));
    assert!(matches!(last, Judgement::Healthy(_)), "{last:?}");
}

#[test]
fn a_service_whose_end_another_awaits_may_end_whatever_its_policy() {
    let mut desired = state(Restart::Always, 0);
    let app = desired.apps.values_mut().next().unwrap();
    let mut other = app.services[&id().service].clone();
    let dependency = evenkeel_schema::service::Dependency {
        condition: Condition::Completed,
        ..Default::default()
    };
    other.depends_on.insert(id().service, dependency);
    app.services.insert("web".parse().unwrap(), other);
    let mut sample = seen(RunState::Exited(0), Health::None, "1");
    let web = ServiceId {
        app: id().app,
        service: "web".parse().unwrap(),
    };
    let running = seen(RunState::Running, Health::None, "1")
        .services
        .remove(&id())
        .unwrap();
    sample.services.insert(web, running);
    let mut gate = Gate::new(&desired, &nothing_before());
    gate.sample(seconds(0), &sample);
    assert!(matches!(
        gate.sample(seconds(10), &sample),
        Judgement::Healthy(_)
    ));
}

#[test]
fn what_was_unhealthy_before_need_not_do_better_than_run() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &was(Ailment::Unhealthy));
    let sample = seen(RunState::Running, Health::Unhealthy, "1");
    gate.sample(seconds(0), &sample);
    assert!(matches!(
        gate.sample(seconds(10), &sample),
        Judgement::Healthy(_)
    ));
    // It ran before: that it ends is worse.
    let mut gate = Gate::new(&state(Restart::No, 0), &was(Ailment::Unhealthy));
    let ended = seen(RunState::Exited(1), Health::None, "1");
    assert!(matches!(
        gate.sample(seconds(0), &ended),
        Judgement::Unhealthy(_)
    ));
}

#[test]
fn what_kept_ending_before_may_go_on_so_and_is_started_again() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &was(Ailment::KeepsEnding));
    let sample = |second: u64| seen(RunState::Exited(1), Health::None, &second.to_string());
    for second in 0..10 {
        let judgement = gate.sample(seconds(second), &sample(second));
        assert!(matches!(judgement, Judgement::Revive(_)), "{judgement:?}");
    }
    let judgement = gate.sample(seconds(10), &sample(10));
    assert!(matches!(judgement, Judgement::Healthy(_)), "{judgement:?}");
}

#[test]
fn a_service_that_the_engine_starts_again_and_again_is_a_crash_loop() {
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    let judgements: Vec<_> = (0..6)
        .map(|start| {
            let sample = seen(RunState::Running, Health::None, &start.to_string());
            gate.sample(seconds(start), &sample)
        })
        .collect();
    assert!(
        judgements[..4]
            .iter()
            .all(|one| matches!(one, Judgement::Wait { .. })),
        "{judgements:?}"
    );
    assert!(
        matches!(&judgements[4], Judgement::Unhealthy(why) if why.contains("keeps ending: 4 times")),
        "{judgements:?}"
    );
}

#[test]
fn something_killed_for_memory_in_a_service_that_runs_on_fails_it_unless_it_was_so_before() {
    let mut killed = seen(RunState::Running, Health::Healthy, "1");
    for service in killed.services.values_mut() {
        if let Seen::Present(service) = service {
            service.oom_killed = true;
        }
    }
    let mut gate = Gate::new(&state(Restart::Always, 0), &nothing_before());
    let Judgement::Unhealthy(why) = gate.sample(seconds(60), &killed) else {
        panic!("it was killed for memory");
    };
    assert!(why.contains("memory"), "{why}");
    let mut gate = Gate::new(&state(Restart::Always, 0), &was(Ailment::Memory));
    gate.sample(seconds(0), &killed);
    assert!(matches!(
        gate.sample(seconds(10), &killed),
        Judgement::Healthy(_)
    ));
}

#[test]
fn a_check_that_failed_before_does_not_hold_the_verdict_and_another_one_does() {
    let app: AppName = "mqtt".parse().unwrap();
    let before = Baseline {
        checks: BTreeSet::from([(app.clone(), 0)]),
        ..Baseline::default()
    };
    let mut sample = seen(RunState::Running, Health::None, "1");
    sample
        .checks
        .insert((app.clone(), 0), Probed::Failed("no".to_owned()));
    sample.checks.insert((app.clone(), 1), Probed::Passed);
    let mut gate = Gate::new(&state(Restart::Always, 2), &before);
    gate.sample(seconds(0), &sample);
    assert!(matches!(
        gate.sample(seconds(10), &sample),
        Judgement::Healthy(_)
    ));
    sample
        .checks
        .insert((app, 1), Probed::Failed("no".to_owned()));
    let mut gate = Gate::new(&state(Restart::Always, 2), &before);
    assert!(matches!(
        gate.sample(seconds(60), &sample),
        Judgement::Unhealthy(_)
    ));
}

#[test]
fn only_what_surely_was_broken_excuses_a_service_that_is_made_anew() {
    let declared = Service::new(format!("sha256:{}", "a".repeat(64)).parse().unwrap());
    let was = |state: RunState, health, keeps_ending: bool, touched| {
        let container = ObservedContainer {
            engine_id: "c".to_owned(),
            name: "web".to_owned(),
            config: None,
            image_id: String::new(),
            state,
            restart: "always".to_owned(),
            restarts: 0,
            oom_killed: false,
            started_at: "1".to_owned(),
            health,
            facts: BTreeMap::new(),
        };
        let restless = keeps_ending.then(|| "c".to_owned()).into_iter().collect();
        ailment(&declared, &container, &restless, touched)
    };
    use Touched::{No, Yes};
    let (runs, ended) = (RunState::Running, RunState::Exited(137));
    for (state, health, keeps_ending, touched, expected) in [
        (&runs, Health::Healthy, false, No, None),
        (&runs, Health::Healthy, false, Yes, None),
        (
            &runs,
            Health::Unhealthy,
            false,
            No,
            Some(Ailment::Untouched),
        ),
        (
            &runs,
            Health::Unhealthy,
            false,
            Yes,
            Some(Ailment::Unhealthy),
        ),
        (&ended, Health::None, false, No, Some(Ailment::Untouched)),
        (&ended, Health::None, false, Yes, None),
        (&runs, Health::None, true, No, Some(Ailment::Untouched)),
        (&ended, Health::None, true, Yes, Some(Ailment::KeepsEnding)),
    ] {
        let found = was(state.clone(), health, keeps_ending, touched);
        assert_eq!(
            found, expected,
            "{state:?} {health:?} {keeps_ending} {touched:?}"
        );
    }
}
