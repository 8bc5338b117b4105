//! Each effect, broken once in every way; broken in every life; and the moments between effects.

use super::stories::STORIES;
use super::*;
use crate::tally::{Scale, Tally};

/// Breaks the `nth` effect in each of so many lives. `None`: there is no such effect.
async fn break_at(
    scene: &Scene,
    nth: u64,
    trouble: Trouble,
    lives: u32,
) -> Option<Result<Ended, String>> {
    let mut rig = scene.begin();
    let mut ends = 0;
    for life in 0..lives {
        let before = rig.world.faults.taken();
        rig.world.faults.arm(nth, trouble.fault());
        let ended = rig.live_through(trouble, 2).await;
        ends += u32::from(ended);
        let reached = ended || rig.world.faults.taken() >= before + nth;
        if life == 0 && !reached {
            return None;
        }
    }
    let judged = scene.judge(&rig, ends).await;
    Some(judged.map_err(|why| format!("{trouble:?} at effect {nth}, {lives} lives: {why}")))
}

async fn at_every_effect(class: &'static str, troubles: &[Trouble], lives: u32) {
    let mut tally = Tally::new(class);
    for story in STORIES {
        let scene = Scene::of(story).await;
        for trouble in troubles {
            for nth in 1..MOST {
                match break_at(&scene, nth, *trouble, lives).await {
                    Some(ended) => tally.count(ended),
                    None => break,
                }
            }
        }
    }
    tell_points(&format!(
        "{} crash points in {} stories, {lives} lives each",
        tally.cases(),
        STORIES.len()
    ));
    tally.close();
}

#[tokio::test(start_paused = true)]
async fn wherever_the_agent_is_killed_the_promise_holds() {
    at_every_effect("crash at an effect", &[Trouble::Killed], 1).await;
}

#[tokio::test(start_paused = true)]
async fn wherever_the_power_goes_the_promise_holds() {
    let troubles = [Trouble::Power, Trouble::PowerAndCache];
    at_every_effect("power cut at an effect", &troubles, 1).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_effect_fails_the_promise_holds() {
    at_every_effect("an effect fails", &[Trouble::Fails], 1).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_effect_fails_though_it_is_done_the_promise_holds() {
    at_every_effect("an effect fails though done", &[Trouble::Lies], 1).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_effect_ends_the_agent_in_every_life_the_tries_are_counted() {
    // One life more than there are tries: a release must not be tried in it.
    let quick: &[Trouble] = &[Trouble::Killed];
    let full = &[Trouble::Killed, Trouble::Power, Trouble::PowerAndCache];
    let troubles = Scale::asked().of(quick, full);
    at_every_effect("the same crash in four lives", troubles, TRIES + 1).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_look_at_engine_unit_or_check_fails_the_promise_holds() {
    let mut tally = Tally::new("a look at the device fails");
    // Every look of a soak is like the one before: every one of them on demand.
    let stride = Scale::asked().of(5, 1);
    for story in STORIES {
        let scene = Scene::of(story).await;
        for nth in (1..MOST).step_by(stride) {
            let mut rig = scene.begin();
            let before = rig.world.faults.looks();
            rig.world.faults.blind(nth);
            rig.live_through(Trouble::Fails, 2).await;
            if rig.world.faults.looks() < before + nth {
                break;
            }
            let judged = scene.judge(&rig, 0).await;
            tally.count(judged.map_err(|why| format!("look {nth}: {why}")));
        }
    }
    tally.close();
}

/// How the agent ends between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Power,
    Stop,
}

/// The agent ends so many tenths of a second after the story began. `None`: the device had settled before.
async fn end_after(scene: &Scene, tenths: u64, ending: Ending) -> Option<Result<Ended, String>> {
    let mut rig = scene.begin();
    let span = Duration::from_millis(100 * tenths);
    let settled = match ending {
        Ending::Power => {
            let settled = tokio::select! {
                _ = rig.live(1) => true,
                () = tokio::time::sleep(span) => false,
            };
            rig.world.lose_power_and(LOST);
            settled
        }
        Ending::Stop => {
            let interrupt = Rc::clone(&rig.agent.interrupt);
            let done = std::cell::Cell::new(false);
            let settle = async {
                rig.live(1).await;
                done.set(true);
            };
            let stop = async {
                tokio::time::sleep(span).await;
                let was_done = done.get();
                interrupt.raise(super::super::super::Interruption::Stop);
                was_done
            };
            tokio::join!(settle, stop).1
        }
    };
    if settled {
        return None;
    }
    rig.start_again();
    let judged = scene.judge(&rig, 1).await;
    Some(judged.map_err(|why| format!("{ending:?} after {span:?}: {why}")))
}

#[tokio::test(start_paused = true)]
async fn whenever_the_agent_ends_the_promise_holds() {
    let mut tally = Tally::new("power cut or stop at a moment");
    // Not a divisor of the pauses between two looks: other moments in each of them.
    let stride = Scale::asked().of(13, 3);
    for story in STORIES {
        let scene = Scene::of(story).await;
        for ending in [Ending::Power, Ending::Stop] {
            for step in 0..MOST {
                match end_after(&scene, step * stride, ending).await {
                    Some(ended) => tally.count(ended),
                    None => break,
                }
            }
        }
    }
    tally.close();
}
