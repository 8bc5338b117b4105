//! Hooks, jobs, apps that require apps, updates that start first, and a revision that leaves nothing.

use super::*;
use crate::port::memory::Behaviour;

const BEFORE: char = 'b';
const AFTER: char = 'c';
const FAILED: char = 'd';
const BACK: char = 'f';
const JOB: char = '9';

/// One app with a web server, a job that it waits for, and a hook at each moment; and one that requires it.
fn documents(web: char, job: &str) -> Vec<(&'static str, String)> {
    let hook = |name: &str, digit: char| format!("[services.{name}]\nimage = '{}'\n", image(digit));
    let app = format!(
        "[services.web]\nimage = '{}'\nrestart = 'always'\nhealthcheck = {{ test = ['CMD', 'true'] }}\n\
         depends_on = {{ prepare = {{ condition = 'service_completed_successfully' }} }}\n\
         deploy = {{ update_config = {{ order = 'start-first' }} }}\n\
         [services.prepare]\nimage = '{}'\nenvironment = {{ JOB = '{job}' }}\n\
         {}{}{}{}\
         [hooks]\nbefore_update = 'before'\nafter_update = 'after'\non_failure = 'failed'\nbefore_rollback = 'back'\n\
         deadline = '20s'\n\
         [gate]\nsoak = '2s'\ndeadline = '30s'\n",
        image(web),
        image(JOB),
        hook("before", BEFORE),
        hook("after", AFTER),
        hook("failed", FAILED),
        hook("back", BACK),
    );
    let user = format!(
        "requires = ['web']\n[services.a]\nimage = '{}'\nrestart = 'always'\n[gate]\nsoak = '2s'\n",
        image('a')
    );
    vec![
        ("fleet.toml", "format = 1\nname = 'acme'\n".to_owned()),
        (
            "groups/all.toml",
            "match = 'all'\napps = ['a-user', 'web']\n".to_owned(),
        ),
        ("apps/web/app.toml", app),
        ("apps/a-user/app.toml", user),
    ]
}

/// A device at the first release, where every hook and the job end well.
async fn rig() -> Rig {
    let rig = Rig::new();
    for digit in [BEFORE, AFTER, FAILED, BACK, JOB] {
        rig.world.engine.behave(&image(digit), Behaviour::Exits(0));
    }
    rig.world.source.push(&documents('1', "one"), "one");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig
}

/// The containers that were made since, by name, in order.
fn made(rig: &Rig, since: usize) -> Vec<String> {
    let log = rig.world.faults.log();
    log[since..]
        .iter()
        .filter_map(|what| what.strip_prefix("make "))
        .filter(|what| what.ends_with("-1") || what.ends_with(".next"))
        .map(str::to_owned)
        .collect()
}

fn now(rig: &Rig) -> usize {
    rig.world.faults.log().len()
}

#[tokio::test(start_paused = true)]
async fn a_job_comes_first_and_runs_once_and_what_requires_the_app_comes_last() {
    let mut rig = rig().await;
    assert_eq!(
        made(&rig, 0),
        ["web-prepare-1", "web-web-1", "a-user-a-1", "web-after-1"],
        "nothing stood here to be updated"
    );
    rig.settle().await;
    rig.assert_still().await;
    let before = now(&rig);
    rig.world.engine.remove_by_hand("web-prepare-1");
    rig.settle().await;
    rig.world.lose_power();
    rig.start_again();
    rig.live(2).await;
    assert_eq!(
        made(&rig, before),
        Vec::<String>::new(),
        "the job was run again"
    );

    rig.world.source.push(&documents('1', "two"), "two");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    assert_eq!(
        made(&rig, before),
        ["web-before-1", "web-prepare-1", "web-after-1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_job_fails_its_revision_and_the_one_before_is_run_again() {
    let rig = rig().await;
    let before = now(&rig);
    rig.world.engine.behave(&image(JOB), Behaviour::Exits(3));
    rig.world.source.push(&documents('2', "two"), "two");
    let outcome = rig.agent.cycle(Urgency::Scheduled).await.outcome;
    assert!(
        matches!(&outcome, Outcome::Unhealthy { why, .. } if why.contains("prepare")),
        "{outcome:?}"
    );
    assert!(!made(&rig, before).contains(&"web-web-1.next".to_owned()));
    rig.world.engine.behave(&image(JOB), Behaviour::Exits(0));
    rig.settle().await;
    let all = made(&rig, before);
    let jobs = all.iter().filter(|name| name.starts_with("web-prepare-1"));
    assert_eq!(jobs.count(), 2, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_starts_first_never_leaves_the_service_without_a_container() {
    let rig = rig().await;
    let old = rig.world.engine.id_of("web-web-1");
    let before = now(&rig);
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    rig.world.source.push(&documents('2', "one"), "two");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Unhealthy { .. }), "{outcome:?}");
    assert_eq!(
        rig.world.engine.id_of("web-web-1"),
        old,
        "the old one was replaced"
    );
    let log = rig.world.faults.log();
    assert!(
        !log[before..].contains(&format!("stop {old}")),
        "{:?}",
        &log[before..]
    );

    let before = now(&rig);
    rig.world.source.push(&documents('3', "one"), "three");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    let log = rig.world.faults.log();
    let place = |what: &str| log[before..].iter().position(|one| one.starts_with(what));
    let next = rig.world.engine.id_of("web-web-1");
    assert!(
        place(&format!("start {next}")) < place(&format!("stop {old}")),
        "{:?}",
        &log[before..]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_hook_before_puts_the_change_off_and_nothing_is_changed() {
    let rig = rig().await;
    let web = rig.world.engine.id_of("web-web-1");
    rig.world.engine.behave(&image(BEFORE), Behaviour::Exits(5));
    rig.world.source.push(&documents('2', "two"), "two");
    let outcome = rig.agent.cycle(Urgency::Scheduled).await.outcome;
    assert!(
        matches!(&outcome, Outcome::Deferred { reason, message } if reason == "hook" && message.contains("ended with 5")),
        "{outcome:?}"
    );
    let before = now(&rig);
    rig.settle().await;
    assert_eq!(rig.world.engine.id_of("web-web-1"), web);
    assert_eq!(made(&rig, before), Vec::<String>::new());
    // Later it is tried again.
    rig.world.engine.behave(&image(BEFORE), Behaviour::Exits(0));
    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_failing_hook_after_takes_the_change_back_by_way_of_the_other_hooks() {
    let rig = rig().await;
    let before = now(&rig);
    rig.world.engine.behave(&image(AFTER), Behaviour::Exits(7));
    // What restores fails, too: the device goes back all the same.
    rig.world.engine.behave(&image(BACK), Behaviour::Exits(1));
    rig.world.source.push(&documents('2', "one"), "two");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Unhealthy { why, .. } if why.contains("after_update of the app web (service after) ended with 7")),
        "{outcome:?}"
    );
    let all = made(&rig, before);
    assert_eq!(
        all,
        [
            "web-before-1",
            "web-web-1.next",
            "web-after-1",
            "web-failed-1",
            "web-back-1",
            "web-web-1.next"
        ]
    );
    let history = rig.world.journal.history().unwrap();
    assert!(
        history[0]
            .steps
            .iter()
            .any(|step| step.contains("goes back all the same")),
        "{history:?}"
    );
    // Healing is no way back.
    let before = now(&rig);
    rig.world.engine.remove_by_hand("web-web-1");
    rig.settle().await;
    assert_eq!(made(&rig, before), ["web-web-1"]);
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_a_hook_runs_it_again() {
    let mut rig = rig().await;
    rig.world.engine.behave(&image(BEFORE), Behaviour::Well);
    rig.world.source.push(&documents('2', "one"), "two");
    rig.killed_after(5).await;
    let before = now(&rig);
    rig.world.engine.behave(&image(BEFORE), Behaviour::Exits(0));
    rig.start_again();
    rig.live(2).await;
    assert_eq!(rig.world.journal.ledger().refused, []);
    assert!(made(&rig, before).contains(&"web-before-1".to_owned()));
    rig.assert_still().await;
    let view = rig
        .world
        .engine
        .observe(&rig.agent.settings.device, &[], &BTreeMap::new())
        .await
        .unwrap();
    let there: Vec<String> = view.containers.keys().map(ToString::to_string).collect();
    assert_eq!(there, ["a-user/a", "web/prepare", "web/web"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_does_not_end_is_ended_at_its_deadline() {
    let rig = rig().await;
    rig.world.engine.behave(&image(BEFORE), Behaviour::Well);
    rig.world.source.push(&documents('2', "one"), "two");
    let outcome = rig.agent.cycle(Urgency::Scheduled).await.outcome;
    assert!(
        matches!(&outcome, Outcome::Deferred { message, .. } if message.contains("did not end within 20s")),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_leaves_nothing_is_refused_unless_its_commit_says_that_it_is_meant() {
    let rig = rig().await;
    let mut nothing = documents('1', "one");
    nothing[1].1 = "match = 'all'\napps = []\n".to_owned();
    rig.world.source.push(&nothing, "nothing");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Rejected { reason, message } if reason == "empty" && message.contains("Allow-Empty: true")),
        "{outcome:?}"
    );
    assert!(!rig.world.engine.id_of("web-web-1").is_empty());
    rig.settle().await;
    rig.assert_still().await;
    let before = now(&rig);
    rig.world
        .source
        .push(&nothing, "nothing, and meant\n\nAllow-Empty: true");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    let log = rig.world.faults.log();
    let removed: Vec<_> = log[before..]
        .iter()
        .filter(|what| what.starts_with("remove made-"))
        .collect();
    // What requires goes first, and the job last.
    assert_eq!(removed, ["remove made-3", "remove made-2", "remove made-1"]);
    // Nothing after nothing needs no word.
    rig.world.source.push(&nothing, "nothing again");
    assert!(matches!(rig.settle().await, Outcome::Converged));
}
