//! Gates against what was before: what was broken already does not roll a change back, and is told.

use super::*;
use crate::domain::history::DeploymentResult;
use crate::port::memory::Behaviour;
use crate::port::probes::{Need, Script};

const CHECK: &str = "[[checks]]\ntcp = '127.0.0.1:1883'\n";

fn with_checks(release: &Release, checks: &str) -> Vec<(&'static str, String)> {
    let mut documents = release.documents();
    for (path, text) in &mut documents {
        if *path == "apps/web/app.toml" {
            text.push_str(checks);
        }
    }
    documents
}

impl Rig {
    async fn at_one_with(checks: &str) -> Self {
        let rig = Self::new();
        rig.push_with(&ONE, checks, "one");
        let outcome = rig.settle().await;
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        rig
    }

    fn push_with(&self, release: &Release, checks: &str, message: &str) -> CommitId {
        let documents = with_checks(release, checks);
        self.world.source.push(&documents, message)
    }

    fn fails(&self, what: &str) {
        let failing = &self.world.probes.failing;
        failing.borrow_mut().insert(what.to_owned());
    }

    /// How the newest deployment ended, and why.
    fn newest(&self) -> (DeploymentResult, String) {
        let history = self.world.journal.history().unwrap();
        let newest = history.first().unwrap();
        (newest.result, newest.why.clone())
    }

    fn has_script(&self, need: Need) -> String {
        let path = "/etc/greenboot/check/some.sh".to_owned();
        let script = Script {
            path: path.clone(),
            need,
        };
        self.world.probes.scripts.borrow_mut().push(script);
        path
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_failed_before_a_change_does_not_roll_it_back_and_is_told() {
    let rig = Rig::at_one_with(CHECK).await;
    rig.fails("1883");
    rig.push_with(&TWO, CHECK, "two");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&TWO).await;
    let history = rig.world.journal.history().unwrap();
    let told = history.iter().any(|one| {
        one.result == DeploymentResult::Good && one.why.contains("check 1 of web failed")
    });
    assert!(told, "{history:?}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_new_or_breaks_with_the_change_rolls_it_back() {
    // New: that something else failed before says nothing of it.
    let rig = Rig::at_one_with("").await;
    rig.fails("1883");
    rig.push_with(&TWO, CHECK, "two");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    // Broken by the change.
    let rig = Rig::at_one_with(CHECK).await;
    rig.push_with(&TWO, CHECK, "two");
    let outcome = rig.settle_while(3, async { rig.fails("1883") }).await;
    assert!(matches!(outcome, Outcome::Unhealthy { .. }), "{outcome:?}");
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_before_a_change_is_remembered_over_a_power_cut_in_its_soak() {
    // Old damage stays old.
    let mut rig = Rig::at_one_with(CHECK).await;
    rig.fails("1883");
    rig.push_with(&TWO, CHECK, "two");
    rig.killed_after(5).await;
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&TWO).await;
    // Its own damage does not become old.
    let mut rig = Rig::at_one_with(CHECK).await;
    rig.push_with(&TWO, CHECK, "two");
    rig.killed_after(5).await;
    rig.fails("1883");
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_unhealthy_before_may_be_so_after() {
    let rig = Rig::at_one().await;
    for digit in ['1', '2'] {
        rig.world.engine.behave(&image(digit), Behaviour::Unhealthy);
    }
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    // One that ends is worse than that.
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('1'), Behaviour::Unhealthy);
    rig.world.engine.behave(&image('2'), Behaviour::Exits(3));
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(!matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    assert_eq!(rig.newest().0, DeploymentResult::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn the_owners_own_scripts_judge_a_change_too() {
    let rig = Rig::at_one().await;
    let script = rig.has_script(Need::Required);
    rig.push(&TWO, "two");
    let outcome = rig.settle_while(3, async { rig.fails(&script) }).await;
    let Outcome::Unhealthy { why, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.contains(&script), "{why}");
    rig.assert_at(&ONE).await;

    // It failed before.
    rig.push(&THREE, "three");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&THREE).await;

    // Nobody has to pass it.
    let rig = Rig::at_one().await;
    let script = rig.has_script(Need::Wanted);
    rig.push(&TWO, "two");
    rig.settle_while(3, async { rig.fails(&script) }).await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn files_and_commands_in_services_are_asked() {
    let check = "[[checks]]\nfile = '/run/web.ready'\nmax_age = '1m'\ncontains = 'well'\n\
                 [[checks]]\ncommand = ['true']\nservice = 'server'\n";
    let rig = Rig::at_one().await;
    rig.push_with(&TWO, check, "two");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Unhealthy { why, .. } if why.contains("/run/web.ready: is not there")),
        "{outcome:?}"
    );
    rig.world.files.by_hand("/run/web.ready", "all is well");
    rig.push_with(&THREE, check, "three");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    let command = "[[checks]]\ncommand = ['false']\nservice = 'side'\n";
    rig.push_with(&TWO, command, "again");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Unhealthy { why, .. } if why.contains("in service side: ended with 1")),
        "{outcome:?}"
    );
}
