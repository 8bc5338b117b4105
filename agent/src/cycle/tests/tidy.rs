//! Images that no kept revision needs any more.

use super::*;
use crate::domain::history::KEPT;
use crate::port::journal::Paused;
use crate::port::memory::Behaviour;

fn release(digit: char) -> Release {
    Release {
        image: digit,
        ..ONE
    }
}

impl Rig {
    fn has(&self, digits: &str) -> Vec<char> {
        let engine = &self.world.engine;
        digits
            .chars()
            .filter(|digit| engine.has_image(&image(*digit)))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_goes_with_the_last_revision_that_needs_it_and_what_was_loaded_by_hand_stays() {
    let rig = Rig::new();
    // Of a person's, and declared later.
    rig.world.engine.load_image(&image('2'));
    for digit in '1'..='6' {
        rig.push(&release(digit), "next");
        rig.settle().await;
        rig.assert_at(&release(digit)).await;
    }
    assert_eq!(KEPT, 3, "as this test counts");
    assert_eq!(rig.has("123456a"), ['2', '4', '5', '6', 'a']);
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_pulled_for_a_refused_revision_goes_and_what_waits_for_its_turn_stays() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    assert_eq!(rig.has("12"), ['1']);

    // All but one of its images arrive.
    let next = Release {
        extra: Extra::With,
        ..THREE
    };
    rig.world.engine.hanging.borrow_mut().insert(image('e'));
    rig.push(&next, "three");
    rig.killed_after(600).await;
    let arrived = rig.has("3");
    assert_eq!(arrived, ['3']);
    rig.world.journal.set_paused(Paused::Yes).unwrap();
    rig.settle_as(Urgency::Boot).await;
    rig.settle().await;
    assert_eq!(rig.has("13"), ['1', '3']);
}

#[tokio::test(start_paused = true)]
async fn it_goes_offline_and_while_the_agent_is_paused_and_later_where_a_container_uses_it() {
    let mut rig = Rig::at_one().await;
    for digit in '2'..='4' {
        rig.push(&release(digit), "next");
        rig.settle().await;
    }
    assert_eq!(rig.has("1234"), ['2', '3', '4']);
    // As from a pull that a person's rollback overtook.
    rig.world.engine.pulled_before(&image('9'));
    rig.world.journal.set_paused(Paused::Yes).unwrap();
    rig.world.source.online.set(false);
    rig.start_again();
    rig.live(2).await;
    assert_eq!(rig.has("2349"), ['2', '3', '4']);
}
