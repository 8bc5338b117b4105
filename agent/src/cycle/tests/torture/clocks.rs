//! A wall clock that is wrong, and one that steps while something is done: nothing but what is shown depends on it.

use super::stories::STORIES;
use super::*;
use crate::port::memory::Behaviour;
use crate::tally::{Scale, Tally};

const YEAR: i64 = 365 * 24 * 3600;

/// What is wrong with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It begins at 1970, and nobody sets it.
    Zero,
    /// It begins at 1970, and is set right after so many seconds.
    ZeroThenRight(u64),
    /// It steps by so many seconds, so many tenths after the story began.
    Steps(i64, u64),
    /// The same, and back again two seconds later.
    StepsThereAndBack(i64, u64),
    /// It steps by a year every second, back and forth.
    Swings,
}

/// Does it to the clock, for ever.
async fn wrong(world: &MemoryWorld, wrong: Wrong) -> std::convert::Infallible {
    let clock = &world.clock;
    let tenths = |tenths| tokio::time::sleep(Duration::from_millis(100 * tenths));
    match wrong {
        Wrong::Zero => {
            clock.begin_at_zero();
        }
        Wrong::ZeroThenRight(seconds) => {
            let right = clock.begin_at_zero();
            tenths(10 * seconds).await;
            clock.step(right);
            clock.set_synchronised(true);
        }
        Wrong::Steps(by, after) => {
            tenths(after).await;
            clock.step(by);
        }
        Wrong::StepsThereAndBack(by, after) => {
            tenths(after).await;
            clock.step(by);
            tenths(20).await;
            clock.step(-by);
        }
        Wrong::Swings => loop {
            for by in [YEAR, -YEAR, -YEAR, YEAR] {
                tenths(10).await;
                clock.step(by);
            }
        },
    }
    std::future::pending().await
}

async fn with_clock(scene: &Scene, what: Wrong) -> Result<Ended, String> {
    let rig = scene.begin();
    // Only a clock that nobody vouches for is wrong: what one may do that lies about it is the fleet's to watch.
    rig.world.clock.set_synchronised(false);
    let world = Rc::clone(&rig.world);
    tokio::select! {
        biased;
        never = wrong(&world, what) => match never {},
        judged = scene.judge(&rig, 0) => judged.map_err(|why| format!("{what:?}: {why}")),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_clock_shows_and_whenever_it_steps_the_promise_holds() {
    let mut tally = Tally::new("wrong clock");
    let stride = Scale::asked().of(40, 3);
    for story in STORIES {
        let scene = Scene::of(story).await;
        let mut all = vec![Wrong::Zero, Wrong::ZeroThenRight(5), Wrong::Swings];
        for after in (0..120).step_by(stride) {
            for by in [10 * YEAR, -10 * YEAR, 3600, -3600] {
                all.push(Wrong::Steps(by, after));
                all.push(Wrong::StepsThereAndBack(by, after));
            }
        }
        for what in all {
            tally.count(with_clock(&scene, what).await);
        }
    }
    tally.close();
}

/// A device whose change was put off just now, for a minute, by a network that it took away.
async fn put_off() -> Rig {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::CutsNetwork);
    rig.push(&TWO, "two");
    rig.settle().await;
    assert!(rig.world.journal.ledger().deferred.is_some());
    rig.world.engine.behave(&image('2'), Behaviour::Well);
    rig
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_put_off_waits_its_time_and_no_more_whatever_the_clock_does() {
    for years in [30, -30, 1, -1, 0] {
        for start in ["goes on", "starts again"] {
            let mut rig = put_off().await;
            rig.world.clock.set_synchronised(false);
            rig.world.clock.step(years * YEAR);
            if start == "starts again" {
                rig.start_again();
            }
            rig.settle().await;
            if years <= 0 || start == "goes on" {
                rig.assert_at(&ONE).await;
            }
            tokio::time::sleep(Duration::from_secs(70)).await;
            let outcome = rig.settle().await;
            assert!(
                matches!(outcome, Outcome::Applied { .. } | Outcome::Converged),
                "{years} years, and it {start}: {outcome:?}"
            );
            rig.assert_at(&TWO).await;
        }
    }
}
