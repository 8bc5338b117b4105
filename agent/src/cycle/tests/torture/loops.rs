//! A release after which the machine ends before its soak does, each time: it is counted at boot, and undone after its
//! tries.

use super::stories::STORIES;
use super::*;
use crate::tally::{Scale, Tally};

/// More lives than any release may take.
const LIVES: u32 = 2 * TRIES;

impl Rig {
    /// Lives until a try has begun, and so long after that; then the agent ends. Returns whether there was a try.
    async fn ends_in_soak(&mut self, after: Duration, trouble: Trouble) -> bool {
        let journal = &self.world.journal;
        let cut = async {
            journal.try_began().await;
            tokio::time::sleep(after).await;
        };
        let ended = tokio::select! {
            biased;
            _ = self.live(3) => false,
            () = cut => true,
        };
        if ended {
            self.ends(trouble);
        }
        ended
    }
}

/// Ends the machine in every soak, at the moment that `moment` names for each life.
async fn loop_of(scene: &Scene, rig: &mut Rig, moments: [u64; 2]) -> Result<Ended, String> {
    let mut ends = 0;
    for life in 0..LIVES {
        let tenths = moments[usize::try_from(life % 2).unwrap()];
        let span = Duration::from_millis(100 * tenths);
        if !rig.ends_in_soak(span, Trouble::Power).await {
            break;
        }
        ends += 1;
    }
    if ends != TRIES {
        return Err(format!("{}: it ended {ends} times", scene.story.name));
    }
    let ended = scene.judge(rig, ends).await?;
    let refused = rig.world.journal.ledger().refused;
    let tip = rig.world.source.tip();
    if refused.first().map(|refusal| &refusal.commit) != tip.as_ref() {
        return Err("it is not refused".to_owned());
    }
    let report = rig.agent.session.report();
    let says = report
        .conditions
        .iter()
        .find(|one| one.kind == ConditionType::Stalled)
        .map(|one| {
            (
                one.status,
                one.reason.as_str(),
                one.message.contains("uncleanly"),
            )
        });
    if says != Some((ConditionStatus::True, "Refused", true)) {
        return Err(format!("it says {says:?}"));
    }
    Ok(ended)
}

/// What changes something that is watched.
fn updates() -> impl Iterator<Item = &'static Story> {
    STORIES
        .iter()
        .filter(|story| story.name.starts_with("update of"))
}

#[tokio::test(start_paused = true)]
async fn a_release_that_ends_the_machine_in_every_soak_is_undone_after_its_tries() {
    let mut tally = Tally::new("the machine ends in every soak");
    let stride = Scale::asked().of(17, 1);
    for story in updates() {
        let scene = Scene::of(story).await;
        // A soak is 10 s: the last moment is just before its end.
        for first in (0..100).step_by(stride) {
            let second = (first * 7 + 3) % 100;
            let mut rig = scene.begin();
            let ended = loop_of(&scene, &mut rig, [first, second]).await;
            tally.count(ended.map_err(|why| format!("after {first} and {second} tenths: {why}")));
        }
    }
    tally.close();
}

#[tokio::test(start_paused = true)]
async fn a_try_that_the_journal_forgets_is_seen() {
    let mut tally = Tally::new("the machine ends in every soak");
    for story in updates() {
        let scene = Scene::of(story).await;
        let mut rig = scene.begin();
        rig.world.journal.forgets_tries.set(true);
        tally.count(loop_of(&scene, &mut rig, [20, 70]).await);
    }
    tally.close_planted("a forgotten try");
}
