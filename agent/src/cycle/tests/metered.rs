//! A metered link: what waits for its budget, what does not, and how often the remote is asked.

use evenkeel_schema::agent_config::{Allowance, MeteredSection, MeteredWhen, Per};

use super::*;
use crate::cycle::Haste;
use crate::domain::hold::HeldBy;
use crate::domain::metered::Link;

const KB: u64 = 1024;

fn metered(when: MeteredWhen, git: Option<u64>, images: Option<u64>) -> Settings {
    let a_day = |bytes: u64| Allowance {
        bytes,
        per: Per::Day,
    };
    Settings {
        metered: MeteredSection {
            when,
            git: git.map(a_day).into_iter().collect(),
            images: images.map(a_day).into_iter().collect(),
            rate: None,
        },
        ..settings()
    }
}

impl Rig {
    /// A device at release [`ONE`] whose images weigh so much.
    async fn with_images_of(settings: Settings, bytes: u64) -> Self {
        let rig = Self::with(settings);
        rig.world.engine.pulls_in(16, Duration::from_secs(1));
        rig.push(&ONE, "one");
        rig.settle().await;
        rig.assert_at(&ONE).await;
        rig.world.engine.weight.set(bytes / 16);
        rig
    }

    fn left(&self, of: &str) -> u64 {
        let metered = self.agent.session.report().metered.unwrap();
        let account = if of == "git" {
            metered.git
        } else {
            metered.images
        };
        account.budgets[0].left
    }
}

fn held(outcome: &Outcome) -> &crate::domain::hold::Hold {
    match outcome {
        Outcome::Held(hold) if hold.by == HeldBy::Metered => hold,
        other => panic!("{other:?}"),
    }
}

/// Another file, and no new image.
const SMALL: Release = Release {
    file: "small",
    ..ONE
};

#[tokio::test(start_paused = true)]
async fn what_needs_an_image_waits_for_the_budget_and_what_needs_none_goes_on() {
    let settings = metered(MeteredWhen::Always, None, Some(300 * KB));
    let rig = Rig::with_images_of(settings, 400 * KB).await;
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert_eq!(outcome.exit_code(), 0);
    let message = &held(&outcome).message;
    assert!(
        message.contains("never fits") && message.contains("400 kB"),
        "{message}"
    );
    assert!(rig.left("images") > 200 * KB, "it was given up early");
    let pulls = rig.world.engine.pulls.get();
    rig.settle().await;
    rig.assert_still().await;
    assert_eq!(
        rig.world.engine.pulls.get(),
        pulls,
        "its size is remembered"
    );
    rig.push(&SMALL, "small");
    rig.settle().await;
    rig.assert_at(&SMALL).await;
    // A person who has no time for it decides otherwise.
    rig.push(&TWO, "two");
    held(&rig.settle().await);
    rig.agent.session.haste.set(Haste::Now);
    rig.settle_as(Urgency::Asked).await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.left("images"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_is_there_again_the_next_day_also_after_a_restart() {
    let settings = metered(MeteredWhen::Always, None, Some(500 * KB));
    let mut rig = Rig::with_images_of(settings, 300 * KB).await;
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    let left = rig.left("images");
    assert!((100 * KB..200 * KB).contains(&left), "{left}");
    rig.push(&THREE, "three");
    let outcome = rig.settle().await;
    let until = held(&outcome).until;
    assert!(
        until.is_some_and(|until| until.0 % 86_400 == 0),
        "{until:?}"
    );
    rig.start_again();
    let outcome = rig.settle().await;
    held(&outcome);
    assert!(rig.left("images") < left);
    // What is good is healed all the same, and counted.
    rig.world.engine.forget_image(&image('2'));
    rig.world.engine.remove_by_hand("web-server-1");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.left("images"), 0);
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn where_nobody_ever_vouches_for_the_clock_a_budget_comes_back_all_the_same() {
    let settings = metered(MeteredWhen::Always, None, Some(500 * KB));
    let rig = Rig::with_images_of(settings, 300 * KB).await;
    rig.world.clock.awaits_time.set(true);
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    rig.push(&THREE, "three");
    held(&rig.settle().await);
    tokio::time::sleep(Duration::from_secs(11 * 3600)).await;
    held(&rig.settle().await);
    tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn polls_are_spread_over_the_budget_and_healing_is_not() {
    let settings = metered(MeteredWhen::Always, Some(1024 * KB), None);
    let rig = Rig::with(settings);
    rig.world.source.poll_bytes.set(4 * KB);
    rig.push(&ONE, "one");
    rig.settle().await;
    let asked = || rig.world.source.asked.borrow()[&0];
    let before = asked();
    for _ in 0..24 * 60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.settle().await;
    }
    let polls = asked() - before;
    assert!((30..300).contains(&polls), "{polls}");
    assert!(rig.left("git") > 0);
    rig.settle_as(Urgency::Asked).await;
    let before = asked();
    rig.world.engine.stop_by_hand("web-server-1");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    assert_eq!(asked(), before, "no poll was due");
    // A person who asks does not wait.
    rig.push(&TWO, "two");
    rig.settle_as(Urgency::Asked).await;
    rig.assert_at(&TWO).await;
    assert!(asked() > before);
}

#[tokio::test(start_paused = true)]
async fn polls_alone_write_what_was_spent_in_few_steps() {
    let settings = metered(MeteredWhen::Always, Some(1024 * KB), None);
    let rig = Rig::with(settings);
    rig.world.source.poll_bytes.set(KB);
    rig.push(&ONE, "one");
    rig.settle().await;
    rig.settle().await;
    let before = rig.world.faults.taken();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.settle().await;
    }
    let writes = rig.world.faults.taken() - before;
    assert!(writes <= 16, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_nobody_knows_is_not_metered_and_one_that_is_counts() {
    for (link, waits) in [
        (Link::Unknown, false),
        (Link::Unmetered, false),
        (Link::Metered, true),
    ] {
        let settings = metered(MeteredWhen::Auto, None, Some(100 * KB));
        let rig = Rig::with_images_of(settings, 800 * KB).await;
        rig.world.link.set(link);
        tokio::time::sleep(Duration::from_secs(600)).await;
        rig.push(&TWO, "two");
        let outcome = rig.settle().await;
        if waits {
            held(&outcome);
            rig.assert_at(&ONE).await;
        } else {
            rig.assert_at(&TWO).await;
            assert_eq!(rig.left("images"), 100 * KB);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_without_anything_good_does_not_wait_for_a_budget() {
    let rig = Rig::with(metered(MeteredWhen::Always, Some(1), Some(1)));
    rig.world.engine.weight.set(KB);
    rig.push(&ONE, "one");
    rig.settle().await;
    rig.assert_at(&ONE).await;
}
