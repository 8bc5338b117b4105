//! Each pair of effects: the first life ends at one, the second at another.

use super::stories::{Length, STORIES};
use super::*;
use crate::tally::{Scale, Tally};

/// The first life broken at `first`, the second at `second`. `None`: there is no such pair.
async fn break_at(
    scene: &Scene,
    first: (u64, Trouble),
    second: (u64, Trouble),
) -> Option<Result<Ended, String>> {
    let mut rig = scene.begin();
    let mut ends = 0;
    for (nth, trouble) in [first, second] {
        let before = rig.world.faults.taken();
        rig.world.faults.arm(nth, trouble.fault());
        let ended = rig.live_through(trouble, 2).await;
        if !ended && rig.world.faults.taken() < before + nth {
            return None;
        }
        ends += u32::from(ended);
    }
    let judged = scene.judge(&rig, ends).await;
    Some(judged.map_err(|why| format!("{first:?} and then {second:?}: {why}")))
}

/// All pairs of a story; `firsts` says with which effects a pair begins.
async fn pairs_of(scene: &Scene, troubles: (Trouble, Trouble), tally: &mut Tally) {
    for first in 1..MOST {
        for second in 1..MOST {
            let pair = break_at(scene, (first, troubles.0), (second, troubles.1));
            match pair.await {
                Some(ended) => tally.count(ended),
                None if second == 1 => return,
                None => break,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_two_effects_end_the_agent_one_after_the_other_the_promise_holds() {
    use Trouble::{Fails, Killed, Lies, Power, PowerAndCache};
    let mut tally = Tally::new("crash at each pair of effects");
    let ends = [Killed, Power, PowerAndCache];
    let mut combinations: Vec<(Trouble, Trouble)> = ends
        .iter()
        .flat_map(|first| ends.map(|second| (*first, second)))
        .collect();
    combinations.extend([
        (Fails, Killed),
        (Lies, Killed),
        (Killed, Fails),
        (Killed, Lies),
    ]);
    combinations.extend([(Fails, Fails), (Lies, Lies)]);
    let scale = Scale::asked();
    let quick = [(Killed, PowerAndCache)];
    for story in STORIES {
        if scale == Scale::Quick && story.length == Length::Long {
            continue;
        }
        let scene = Scene::of(story).await;
        for troubles in scale.of(&quick[..], &combinations[..]) {
            pairs_of(&scene, *troubles, &mut tally).await;
        }
    }
    tell_points(&format!("{} pairs of crash points", tally.cases()));
    tally.close();
}
