//! What a device does once its owner allows less than what is good here.

use super::*;
use crate::domain::history::Pin;
use crate::domain::revision::Timestamp;
use crate::plan::Action;
use crate::port::memory::Behaviour;

const SERVER: &str = "web-server-1";
const SIDE: &str = "web-side-1";

fn refused(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Rejected { reason, message } if reason == "guard" => message.clone(),
        other => panic!("{other:?}"),
    }
}

impl Rig {
    fn allow_images(&mut self, digits: &[char]) {
        let images = digits.iter().map(|digit| image(*digit)).collect();
        self.agent.settings.limits.guard.images = Some(images);
    }

    fn ids(&self) -> (String, String, u64) {
        let engine = &self.world.engine;
        (engine.id_of(SERVER), engine.id_of(SIDE), engine.starts())
    }

    async fn names(&self) -> Vec<String> {
        let none = std::collections::BTreeMap::new();
        let view = self
            .world
            .engine
            .observe(&self.agent.settings.device, &[], &none);
        let containers = view.await.unwrap().containers.into_values().flatten();
        containers.map(|one| one.name).collect()
    }

    fn drift(&self) -> Vec<String> {
        self.agent.session.report().drift
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tightened_guard_excludes_is_left_running_and_the_condition_says_so() {
    let mut rig = Rig::at_one().await;
    let before = rig.ids();
    rig.allow_images(&['a']);
    let message = refused(&rig.settle().await);
    assert!(
        message.contains("service/web/server") && message.contains("guard.images"),
        "{message}"
    );
    let report = rig.agent.session.report();
    let stalled = report
        .conditions
        .iter()
        .find(|one| one.kind == crate::domain::outcome::ConditionType::Stalled)
        .unwrap();
    assert_eq!(stalled.reason, "guard");
    assert!(
        stalled.message.contains("left as it is"),
        "{}",
        stalled.message
    );
    assert_eq!(rig.drift(), [""; 0]);
    rig.assert_at(&ONE).await;
    assert_eq!(rig.ids(), before);
    rig.assert_still().await;

    // It is healed again once the owner allows it, or a release fits.
    rig.allow_images(&['1', 'a']);
    assert_eq!(rig.settle().await, Outcome::Converged);
    rig.allow_images(&['2', 'a']);
    rig.push(&TWO, "two");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_excluded_is_never_made_again_and_the_rest_is_healed() {
    let mut rig = Rig::at_one().await;
    rig.allow_images(&['a']);
    rig.settle().await;
    rig.world.engine.remove_by_hand(SERVER);
    rig.world.engine.stop_by_hand(SIDE);
    rig.world.files.by_hand("/etc/steady.conf", "by hand");
    let message = refused(&rig.settle().await);
    assert!(
        message.contains("not done: create service/web/server"),
        "{message}"
    );
    assert_eq!(rig.names().await, [SIDE]);
    let told = rig.drift();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("service/web/server"), "{told:?}");
    assert_eq!(
        rig.world.files.text("/etc/steady.conf").as_deref(),
        Some("steady")
    );
    refused(&rig.settle().await);
    rig.assert_still().await;
    // Not after a boot either, nor with no network.
    rig.world.source.online.set(false);
    rig.world.lose_power();
    rig.start_again();
    refused(&rig.live(2).await);
    assert_eq!(rig.names().await, [SIDE]);
    rig.allow_images(&['1', 'a']);
    rig.settle().await;
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn an_excluded_container_that_was_changed_or_stopped_is_left_so() {
    let mut rig = Rig::at_one().await;
    rig.allow_images(&['a']);
    rig.world
        .engine
        .change_by_hand(SERVER, "environment", serde_json::json!({"A": "c"}));
    let before = rig.ids();
    refused(&rig.settle().await);
    assert_eq!(rig.ids(), before);
    rig.world.engine.stop_by_hand(SERVER);
    refused(&rig.settle().await);
    assert_eq!(rig.ids(), before);
    assert_eq!(rig.drift().len(), 1, "{:?}", rig.drift());
}

#[tokio::test(start_paused = true)]
async fn an_excluded_file_is_not_written_again_and_nothing_follows_from_it() {
    let mut rig = Rig::at_one().await;
    let before = rig.ids();
    rig.agent.settings.limits.guard.paths = Some(vec!["/etc/steady.conf".to_owned()]);
    rig.world.files.by_hand("/etc/web.conf", "by hand");
    rig.world.files.by_hand("/etc/steady.conf", "by hand");
    let message = refused(&rig.settle().await);
    assert!(message.contains("file/etc/web.conf"), "{message}");
    let text = |path: &str| rig.world.files.text(path);
    assert_eq!(text("/etc/web.conf").as_deref(), Some("by hand"));
    assert_eq!(text("/etc/steady.conf").as_deref(), Some("steady"));
    assert_eq!(rig.ids(), before);
    refused(&rig.settle().await);
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_changes_nothing_does_not_make_the_excluded_good_anew() {
    let mut rig = Rig::at_one().await;
    let one = rig.last_good();
    rig.allow_images(&['a']);
    rig.push(&ONE, "only words");
    refused(&rig.settle().await);
    assert_eq!(rig.last_good(), one);
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_back_by_hand_to_what_is_excluded() {
    let mut rig = Rig::at_one().await;
    let one = rig.last_good();
    rig.push(&TWO, "two");
    rig.settle().await;
    let before = rig.ids();
    rig.allow_images(&['2', 'a']);
    let pin = Pin {
        commit: one,
        at: Timestamp(0),
    };
    rig.world.journal.set_pin(Some(&pin)).unwrap();
    let message = refused(&rig.settle_as(Urgency::Asked).await);
    assert!(message.contains("not done"), "{message}");
    // Not half of it either: its file is allowed, and stays as it was.
    rig.assert_at(&TWO).await;
    assert_eq!(rig.ids(), before);
    rig.world.journal.set_pin(None).unwrap();
    assert_eq!(rig.settle().await, Outcome::Converged);
}

#[tokio::test(start_paused = true)]
async fn after_a_bad_release_the_excluded_part_of_last_good_does_not_come_back() {
    let mut rig = Rig::at_one().await;
    rig.allow_images(&['2', 'a']);
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    rig.push(&TWO, "two");
    assert!(matches!(rig.settle().await, Outcome::Unhealthy { .. }));
    rig.settle().await;
    let none = std::collections::BTreeMap::new();
    let view = rig
        .world
        .engine
        .observe(&rig.agent.settings.device, &[], &none);
    let running: Vec<_> = view
        .await
        .unwrap()
        .containers
        .into_values()
        .flatten()
        .collect();
    let server = running.iter().find(|one| one.name == SERVER).unwrap();
    let good = container::spec(
        &resolved(&ONE),
        &ServiceId {
            app: "web".parse().unwrap(),
            service: "server".parse().unwrap(),
        },
    );
    assert_ne!(server.config, Some(good.unwrap().config));
    // What is allowed of last-good is back.
    assert_eq!(
        rig.world.files.text("/etc/web.conf").as_deref(),
        Some("one")
    );
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_leads_to_a_protected_place_is_refused_before_anything_moves() {
    let rig = Rig::at_one().await;
    let link = |from: &str, to: &str| {
        let mut links = rig.world.files.links.borrow_mut();
        links.insert(from.parse().unwrap(), to.parse().unwrap());
    };
    let mut documents = TWO.documents();
    documents[2].1 = documents[2].1.replace("'data:/data'", "'/srv/data:/data'");
    link("/srv/data", "/etc/ssh");
    rig.world.source.push(&documents, "two");
    let message = refused(&rig.settle().await);
    assert!(
        message.contains("`/srv/data` is really `/etc/ssh`"),
        "{message}"
    );
    rig.assert_at(&ONE).await;
    link("/srv/data", "/mnt/data");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));

    // It led elsewhere when it was taken: nothing is made anew with it.
    let before = rig.ids();
    link("/srv/data", "/var/lib");
    rig.world
        .engine
        .change_by_hand(SERVER, "environment", serde_json::json!({"A": "c"}));
    refused(&rig.settle().await);
    assert_eq!(rig.ids(), before);
    link("/etc/web.conf", "/etc/shadow");
    rig.world.files.by_hand("/etc/web.conf", "by hand");
    let message = refused(&rig.settle().await);
    assert!(
        message.contains("`/etc/web.conf` is really `/etc/shadow`"),
        "{message}"
    );
    assert_eq!(
        rig.world.files.text("/etc/web.conf").as_deref(),
        Some("by hand")
    );
}

#[tokio::test(start_paused = true)]
async fn the_plan_shows_what_is_left_and_plans_the_rest() {
    let mut rig = Rig::at_one().await;
    rig.allow_images(&['a']);
    rig.world.engine.remove_by_hand(SERVER);
    rig.world.files.by_hand("/etc/steady.conf", "by hand");
    let preview = rig.agent.preview().await.unwrap();
    assert_eq!((preview.target, preview.code), ("keep", 3));
    assert!(preview.why.unwrap().contains("guard"));
    let [step] = preview.plan.steps.as_slice() else {
        panic!("{:?}", preview.plan.steps);
    };
    assert!(
        matches!(&step.action, Action::WriteFile { path, .. } if path.as_str() == "/etc/steady.conf")
    );
    let blocked = &preview.plan.blocked;
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    assert!(
        blocked[0].why.contains("create service/web/server"),
        "{blocked:?}"
    );
}
