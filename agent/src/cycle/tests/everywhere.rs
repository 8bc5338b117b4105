//! The promise at every point: whatever effect the world breaks at, a device ends at the new good release or at the
//! last good one, whole and healthy, with nothing else changed and nothing left over.

use super::*;
use crate::domain::history::{Pin, TRIES};
use crate::domain::revision::Timestamp;
use crate::port::memory::{Behaviour, Fault};
use crate::trust::fixture;

/// More polls than any single trouble may take to be over.
const POLLS: u32 = 6;
/// More effects than any story has.
const MOST: u64 = 400;

/// Something that happens to a device, and where it may end.
struct Story {
    name: &'static str,
    /// The device before.
    before: fn(&Rig),
    /// What happens, once the device has settled.
    then: fn(&Rig),
    /// Where it has to end.
    end: Release,
    /// Where it may end, too, after three unclean ends: what was good before.
    or: Release,
}

const WITH: Release = Release {
    extra: Extra::With,
    ..ONE
};

const STORIES: &[Story] = &[
    Story {
        name: "first converge",
        before: |_| {},
        then: |rig| {
            rig.push(&ONE, "one");
        },
        end: ONE,
        or: ONE,
    },
    Story {
        name: "update",
        before: |rig| {
            rig.push(&ONE, "one");
        },
        then: |rig| {
            rig.push(&TWO, "two");
        },
        end: TWO,
        or: ONE,
    },
    Story {
        name: "refused, and the way back",
        before: |rig| {
            rig.push(&ONE, "one");
        },
        then: |rig| {
            rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
            rig.push(&TWO, "two");
        },
        end: ONE,
        or: ONE,
    },
    Story {
        name: "an app more, over a person's file",
        before: |rig| {
            rig.world.files.by_hand("/etc/taken.conf", "a person's");
            rig.push(&ONE, "one");
        },
        then: |rig| {
            rig.push(&WITH, "with");
        },
        end: WITH,
        or: ONE,
    },
    Story {
        name: "prune",
        before: |rig| {
            rig.world.files.by_hand("/etc/taken.conf", "a person's");
            rig.push(&WITH, "with");
        },
        then: |rig| {
            rig.push(&ONE, "without");
        },
        end: ONE,
        or: WITH,
    },
    Story {
        name: "heal",
        before: |rig| {
            rig.push(&ONE, "one");
        },
        then: |rig| {
            rig.world.files.by_hand("/etc/web.conf", "by hand");
            rig.world.files.by_hand("/etc/steady.conf", "by hand");
            rig.world.engine.remove_by_hand("web-side-1");
        },
        end: ONE,
        or: ONE,
    },
    Story {
        name: "trust rotation",
        before: |rig| {
            *rig.world.policy.borrow_mut() = fixture::policy_with_all();
            rig.push(&ONE, "one");
        },
        then: |rig| {
            // Root hands over from one signer to the next, who then moves the device on.
            let mut documents = ONE.documents();
            documents.extend(fixture::set());
            let handed_over = rig.world.source.push(&documents, "hand over");
            let mut documents = TWO.documents();
            documents.extend(fixture::set());
            rig.world
                .source
                .push_on(Some(&handed_over), &documents, "two", fixture::Hand::Next);
        },
        end: TWO,
        or: ONE,
    },
    Story {
        name: "rollback",
        before: |rig| {
            rig.push(&ONE, "one");
        },
        then: |rig| {
            let pin = Pin {
                commit: rig.world.journal.ledger().good[1].commit().clone(),
                at: Timestamp(0),
            };
            rig.world.journal.set_pin(Some(&pin)).unwrap();
        },
        end: ONE,
        or: ONE,
    },
];

/// How the agent ends, or what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The process ends; what runs goes on.
    Killed,
    /// The power goes.
    Power,
    /// One effect fails.
    Fails,
    /// One effect is done, and says that it failed.
    Lies,
}

impl Trouble {
    const ALL: [Self; 4] = [Self::Killed, Self::Power, Self::Fails, Self::Lies];

    fn fault(self) -> Fault {
        match self {
            Self::Killed | Self::Power => Fault::Crash,
            Self::Fails => Fault::Fail,
            Self::Lies => Fault::Lie,
        }
    }
}

async fn begun(story: &Story) -> Rig {
    let rig = Rig::new();
    (story.before)(&rig);
    rig.settle().await;
    if story.name == "rollback" {
        rig.push(&TWO, "two");
        rig.settle().await;
    }
    rig.settle().await;
    (story.then)(&rig);
    rig
}

/// Lives through `polls` polls, starting again where the agent ends. Returns whether it ended.
async fn live_through(rig: &mut Rig, trouble: Trouble, polls: u32) -> bool {
    let faults = Rc::clone(&rig.world.faults);
    let ended = tokio::select! {
        biased;
        () = faults.died() => true,
        _ = rig.live(polls) => faults.is_dead(),
    };
    if ended {
        if trouble == Trouble::Power {
            rig.world.lose_power();
        }
        rig.start_again();
    }
    ended
}

/// Breaks the `nth` effect (in each of so many lives), and holds the device to the promise. Returns whether there was
/// such an effect.
async fn break_at(story: &Story, nth: u64, trouble: Trouble, lives: u32) -> Result<bool, String> {
    let mut rig = begun(story).await;
    let before = rig.world.faults.taken();
    for life in 0..lives {
        rig.world.faults.arm(nth, trouble.fault());
        let ended = live_through(&mut rig, trouble, 2).await;
        let reached = ended || rig.world.faults.taken() >= before + nth;
        if life == 0 && !reached {
            return Ok(false);
        }
        rig.world.faults.mend();
    }
    rig.live(POLLS).await;
    let ends_there = rig.is_at(&story.end).await;
    // Three ends in a row refuse even a release that is well.
    let is_at_end = ends_there.is_ok();
    let settled = match ends_there {
        Err(_) if lives >= TRIES => rig.is_at(&story.or).await,
        Ok(()) | Err(_) => ends_there,
    };
    let tail = |why: String| {
        let log = rig.world.faults.log();
        let from = usize::try_from(before).unwrap_or_default();
        format!(
            "{}, {trouble:?} at {nth}: {why}\n{:#?}\n{:#?}",
            story.name,
            &log[from..],
            rig.agent.session.report().conditions
        )
    };
    settled.map_err(tail)?;
    if story.name == "prune"
        && is_at_end
        && rig.world.files.text("/etc/taken.conf").as_deref() != Some("a person's")
    {
        return Err(tail("a person's file did not come back".to_owned()));
    }
    let ledger = rig.world.journal.ledger();
    if story.name != "refused, and the way back" && lives < TRIES && !ledger.refused.is_empty() {
        return Err(tail(format!("refused: {:?}", ledger.refused)));
    }
    let too_many = format!("spend try {}", TRIES + 1);
    if story.name != "first converge"
        && rig
            .world
            .faults
            .log()
            .iter()
            .any(|what| what.starts_with(&too_many))
    {
        return Err(tail("more tries than there are".to_owned()));
    }
    let taken = rig.world.faults.taken();
    rig.settle().await;
    if rig.world.faults.taken() != taken {
        return Err(tail("it is not still".to_owned()));
    }
    Ok(true)
}

async fn everywhere(lives: u32, troubles: &[Trouble]) {
    let mut points = 0;
    let mut wrong = Vec::new();
    for story in STORIES {
        for trouble in troubles {
            for nth in 1..MOST {
                match break_at(story, nth, *trouble, lives).await {
                    Ok(true) => points += 1,
                    Ok(false) => break,
                    Err(why) => {
                        points += 1;
                        wrong.push(why);
                    }
                }
            }
        }
    }
    println_points(points, lives);
    let shown: Vec<String> = wrong
        .iter()
        .map(|why| why.lines().next().unwrap_or_default().to_owned())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {points} points:\n{}\n\nthe first one: {}",
        wrong.len(),
        shown.join("\n"),
        wrong[0]
    );
}

#[allow(
    clippy::print_stdout,
    reason = "how much was tried belongs to the test's story"
)]
fn println_points(points: u64, lives: u32) {
    println!("{points} points, broken in {lives} lives each");
}

#[tokio::test(start_paused = true)]
async fn whatever_effect_breaks_once_the_promise_holds() {
    everywhere(1, &Trouble::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_effect_ends_the_agent_three_times_the_promise_holds() {
    everywhere(3, &[Trouble::Killed, Trouble::Power]).await;
}

/// A moment at which the agent ends, in tenths of a second after the story began.
async fn end_after(story: &Story, tenths: u64, trouble: Ending) -> Result<bool, String> {
    let mut rig = begun(story).await;
    let span = Duration::from_millis(100 * tenths);
    let settled = match trouble {
        Ending::Power => {
            let settled = tokio::select! {
                _ = rig.settle() => true,
                () = tokio::time::sleep(span) => false,
            };
            rig.world.lose_power();
            settled
        }
        Ending::Stop => {
            let interrupt = Rc::clone(&rig.agent.interrupt);
            let done = std::cell::Cell::new(false);
            let settle = async {
                rig.settle().await;
                done.set(true);
            };
            let stop = async {
                tokio::time::sleep(span).await;
                let was_done = done.get();
                interrupt.raise(super::super::Interruption::Stop);
                was_done
            };
            tokio::join!(settle, stop).1
        }
    };
    rig.start_again();
    rig.live(POLLS).await;
    let told = |why| format!("{}, {trouble:?} after {span:?}: {why}", story.name);
    rig.is_at(&story.end).await.map_err(told)?;
    let taken = rig.world.faults.taken();
    rig.settle().await;
    if rig.world.faults.taken() != taken {
        return Err(told("it is not still".to_owned()));
    }
    Ok(!settled)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Power,
    Stop,
}

#[tokio::test(start_paused = true)]
async fn whenever_the_agent_ends_the_promise_holds() {
    let mut points = 0;
    let mut wrong = Vec::new();
    for story in STORIES {
        for trouble in [Ending::Power, Ending::Stop] {
            // Not a divisor of the pauses between two looks: other moments in each of them.
            for step in 0..MOST {
                points += 1;
                match end_after(story, step * 7, trouble).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(why) => wrong.push(why),
                }
            }
        }
    }
    println_points(points, 1);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
