//! A change after which the remote does not answer: undone, put off, and judged by what the remote does then.

use super::*;
use crate::domain::history::CutOff;
use crate::port::memory::Behaviour;

impl Rig {
    fn cut_off(&self) -> Option<CutOff> {
        self.world.journal.ledger().deferred?.cut_off
    }

    async fn polls(&self, count: u32) {
        for _ in 0..count {
            tokio::time::sleep(self.agent.settings.interval).await;
            self.settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_is_away_for_less_than_the_deadline_costs_a_change_nothing() {
    let rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    let source = &rig.world.source;
    let away = async {
        source.online.set(false);
        tokio::time::sleep(Duration::from_secs(40)).await;
        source.online.set(true);
    };
    let outcome = rig.settle_while(5, away).await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cuts_the_device_off_heals_itself_and_stays_put_off() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::CutsNetwork);
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.settle().await;
    assert_eq!(rig.cut_off(), Some(CutOff::ByChange));
    assert!(rig.world.journal.ledger().refused.is_empty());
    // Tried again, later each time, and never refused; a commit that mends it is taken at once.
    rig.polls(20).await;
    let ledger = rig.world.journal.ledger();
    assert!(ledger.refused.is_empty());
    assert!(ledger.deferred.unwrap().times > 2);
    rig.push(&THREE, "three");
    rig.polls(1).await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_git_server_that_died_clears_the_change_which_is_taken_once_it_is_back() {
    let mut rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    rig.settle_while(5, async { rig.world.source.online.set(false) })
        .await;
    rig.assert_at(&ONE).await;
    assert_eq!(rig.cut_off(), Some(CutOff::Unclear));
    rig.polls(3).await;
    assert_eq!(rig.cut_off(), Some(CutOff::NotByChange));
    // Remembered over a start; a day later there is no back-off left to wait for.
    rig.start_again();
    rig.live(20).await;
    rig.assert_at(&ONE).await;
    assert_eq!(rig.cut_off(), Some(CutOff::NotByChange));
    rig.world.source.online.set(true);
    rig.polls(1).await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.world.journal.ledger().deferred, None);
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_while_the_remote_is_waited_for_changes_nothing_of_that() {
    let mut rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::CutsNetwork);
    rig.push(&TWO, "two");
    rig.killed_after(30).await;
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&ONE).await;
    assert!(rig.world.journal.ledger().refused.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owner_may_do_without() {
    let mut settings = settings();
    settings.confirm = Duration::ZERO;
    let rig = Rig::with(settings);
    rig.push(&ONE, "one");
    rig.settle().await;
    rig.push(&TWO, "two");
    rig.settle_while(5, async { rig.world.source.online.set(false) })
        .await;
    rig.assert_at(&TWO).await;
}
