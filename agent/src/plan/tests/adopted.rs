//! Containers that were here before, and are ours because a person said so: no label tells of them, the inventory alone.

use super::*;
use crate::domain::history::{Adopted, Inventory, Undeclared};
use crate::domain::observed::ObservedImage;

const MODES: [Mode; 2] = [Mode::Advance, Mode::Keep];

/// A device on which somebody runs a container that is just as `desired` declares its one service, and which has adopted it.
fn adopted(desired: &DesiredState) -> (Device, String) {
    let mut device = empty();
    device.converge(desired, Mode::Keep);
    let web = id("mqtt", "web");
    let container = &mut device.view().containers.get_mut(&web).unwrap()[0];
    container.config = None;
    let engine_id = container.engine_id.clone();
    device.inventory = Inventory::default();
    device.inventory.adopted.insert(
        engine_id.clone(),
        Adopted {
            service: web,
            config: None,
        },
    );
    (device, engine_id)
}

/// It was found to be as declared at a good revision.
fn settle(device: &mut Device, engine_id: &str, desired: &DesiredState) {
    let web = id("mqtt", "web");
    let config = container::spec(desired, &web).unwrap().config;
    let one = device.inventory.adopted.get_mut(engine_id).unwrap();
    one.config = Some(config.clone());
    device.view().containers.get_mut(&web).unwrap()[0].config = Some(config);
    device.inventory.services.insert(web);
}

fn declared() -> DesiredState {
    services(vec![("web", service(Restart::Always))])
}

fn changed() -> DesiredState {
    let mut web = service(Restart::Always);
    let another = format!("example.com/x@sha256:{}", "b".repeat(64));
    web.image = another.parse().unwrap();
    services(vec![("web", web)])
}

#[test]
fn an_adopted_container_that_is_as_declared_is_left_alone() {
    for mode in MODES {
        let (mut device, engine_id) = adopted(&declared());
        assert_eq!(device.plan(&declared(), mode), Plan::default(), "{mode:?}");
        settle(&mut device, &engine_id, &declared());
        assert_eq!(device.plan(&declared(), mode), Plan::default(), "{mode:?}");
    }
}

#[test]
fn one_that_is_not_as_declared_waits_until_it_was_once_and_is_then_like_any_other() {
    for mode in MODES {
        let (mut device, engine_id) = adopted(&declared());
        for words in ["image is not on the device", "image "] {
            let plan = device.plan(&changed(), mode);
            assert!(plan.steps.is_empty(), "{mode:?}: {:?}", text(&plan));
            let told = text(&plan);
            assert!(
                told.len() == 1 && told[0].contains("not as declared") && told[0].contains(words),
                "{told:?}"
            );
            let image = ObservedImage {
                id: "another".to_owned(),
                ..ObservedImage::default()
            };
            let name = changed().apps[&"mqtt".parse().unwrap()].services[&"web".parse().unwrap()]
                .image
                .to_string();
            device.view().images.insert(name, image);
        }

        settle(&mut device, &engine_id, &declared());
        let plan = device.converge(&changed(), mode);
        let told = text(&plan);
        assert!(
            told.len() == 1 && told[0].starts_with("recreate service/mqtt/web"),
            "{told:?}"
        );
    }
}

#[test]
fn one_that_somebody_stopped_is_started_and_not_made_anew() {
    let (mut device, _) = adopted(&declared());
    let web = id("mqtt", "web");
    device.view().containers.get_mut(&web).unwrap()[0].state = RunState::Exited(0);
    let told = text(&device.plan(&declared(), Mode::Keep));
    assert!(
        told.len() == 1 && told[0].starts_with("start service/mqtt/web"),
        "{told:?}"
    );
}

#[test]
fn beside_a_container_of_ours_one_that_was_not_yet_as_declared_is_no_second_one_to_remove() {
    let (mut device, engine_id) = adopted(&declared());
    let web = id("mqtt", "web");
    let mut ours = device.view().containers[&web][0].clone();
    ours.engine_id = "ours".to_owned();
    ours.name = "mqtt-web-other".to_owned();
    ours.config = Some(container::spec(&declared(), &web).unwrap().config);
    device.view().containers.get_mut(&web).unwrap().push(ours);
    for desired in [declared(), changed()] {
        for mode in MODES {
            let plan = device.plan(&desired, mode);
            let touches_it = plan.steps.iter().any(|step| {
                matches!(&step.action, Action::RemoveContainer { engine_id: one } | Action::RecreateContainer { old: one, .. } if *one == engine_id)
            });
            assert!(!touches_it, "{:?}", text(&plan));
        }
    }
}

#[test]
fn one_that_is_declared_no_more_goes_once_it_was_as_declared_and_stays_on_the_way_back() {
    let (mut device, engine_id) = adopted(&declared());
    let nothing = state(Vec::new());
    let counts = |device: &Device, desired: &DesiredState, undeclared| {
        let ours = device.inventory.adopted_for(desired, undeclared);
        ours.contains_key(&engine_id)
    };
    for undeclared in [Undeclared::Goes, Undeclared::Stays] {
        assert!(counts(&device, &declared(), undeclared));
        assert!(
            !counts(&device, &nothing, undeclared),
            "not yet as declared"
        );
    }
    settle(&mut device, &engine_id, &declared());
    assert!(counts(&device, &nothing, Undeclared::Goes));
    assert!(!counts(&device, &nothing, Undeclared::Stays));
    let told = text(&device.plan(&nothing, Mode::Advance));
    assert!(
        told.iter()
            .any(|line| line.starts_with("remove service/mqtt/web")),
        "{told:?}"
    );
}

#[test]
fn a_device_that_has_forgotten_its_adoptions_takes_its_containers_for_strangers_and_touches_none() {
    let (mut device, engine_id) = adopted(&declared());
    settle(&mut device, &engine_id, &declared());
    // What the loop sees then: a name that is taken, and no container of ours.
    device.inventory = Inventory::default();
    let name = device.view().containers[&id("mqtt", "web")][0].name.clone();
    device.view().containers.clear();
    device.view().foreign_container_names.push(name.clone());
    for mode in MODES {
        let plan = device.plan(&declared(), mode);
        assert!(plan.steps.is_empty(), "{:?}", text(&plan));
        let why = plan.blocked[0].to_string();
        let take = format!("evenkeel adopt --take {name}=mqtt/web");
        assert!(why.contains(&take), "{why}");
    }
}
