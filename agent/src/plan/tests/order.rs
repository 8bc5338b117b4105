//! What comes before what, what runs once, and what stays.

use evenkeel_schema::app::{Hook, Moment};
use evenkeel_schema::service::{
    Deploy, UpdateConfig, UpdateOrder, VolumeExtension, VolumeOnRemove,
};

use super::*;

fn job() -> Service {
    service(Restart::No)
}

#[test]
fn a_job_that_ended_well_is_not_run_again_although_its_container_was_removed() {
    let desired = services(vec![("prepare", job())]);
    let mut device = empty();
    device.converge(&desired, Mode::Keep);
    assert_eq!(device.plan(&desired, Mode::Keep), Plan::default());
    let prepare = id("mqtt", "prepare");
    let config = container::spec(&desired, &prepare).unwrap().config;
    device.view().containers.clear();
    assert_eq!(device.plan(&desired, Mode::Keep).steps.len(), 1);
    device.inventory.done.insert(prepare.clone(), config);
    assert_eq!(device.plan(&desired, Mode::Keep), Plan::default());
    // Another spec is another job.
    let mut changed = job();
    changed.command = Some(vec!["other".to_owned()]);
    let changed = services(vec![("prepare", changed)]);
    assert_eq!(device.plan(&changed, Mode::Advance).steps.len(), 1);
}

#[test]
fn the_order_of_an_update_is_no_part_of_what_a_container_is() {
    let with = |order: Option<UpdateOrder>| {
        let mut service = service(Restart::Always);
        service.deploy = order.map(|order| Deploy {
            update_config: Some(UpdateConfig { order }),
            ..Deploy::default()
        });
        container::spec(&services(vec![("web", service)]), &id("mqtt", "web"))
            .unwrap()
            .config
    };
    assert_eq!(with(None), with(Some(UpdateOrder::StartFirst)));
    assert_eq!(with(None), with(Some(UpdateOrder::Recreate)));
}

#[test]
fn a_hook_has_no_container_and_what_a_crash_left_of_one_goes() {
    let mut desired = services(vec![("web", service(Restart::Always)), ("snapshot", job())]);
    let plain = container::spec(&desired, &id("mqtt", "snapshot")).unwrap();
    let mut device = empty();
    device.converge(&desired, Mode::Keep);
    let app = desired.apps.values_mut().next().unwrap();
    app.hooks.insert(
        Moment::BeforeUpdate,
        Hook {
            service: "snapshot".parse().unwrap(),
            deadline: std::time::Duration::from_secs(1),
        },
    );
    let hook = container::spec(&desired, &id("mqtt", "snapshot")).unwrap();
    assert_ne!(plain.config, hook.config, "what was a hook has not run yet");
    let plan = device.converge(&desired, Mode::Advance);
    assert_eq!(
        text(&plan),
        ["remove service/mqtt/snapshot   a hook that was cut short"]
    );
    assert_eq!(device.plan(&desired, Mode::Advance), Plan::default());
}

#[test]
fn a_volume_goes_only_where_it_was_declared_to_and_only_at_the_tip() {
    let with = |on_remove: VolumeOnRemove| {
        let mut web = service(Restart::Always);
        web.volumes = vec![Mount::Volume {
            source: Some("data".parse().unwrap()),
            target: "/data".to_owned(),
            read_only: false,
            volume: Default::default(),
        }];
        let mut desired = services(vec![("web", web)]);
        let app = desired.apps.values_mut().next().unwrap();
        app.volumes.insert(
            "data".parse().unwrap(),
            Volume {
                extension: VolumeExtension { on_remove },
                ..Volume::default()
            },
        );
        desired
    };
    let without = services(vec![("web", service(Restart::Always))]);
    for (on_remove, goes) in [(VolumeOnRemove::Keep, 0), (VolumeOnRemove::Delete, 1)] {
        let mut device = empty();
        device.converge(&with(on_remove), Mode::Keep);
        device.converge(&without, Mode::Advance);
        assert_eq!(device.view().volumes.len(), 1, "not before it is good");
        let stays = plan(&without, &device.observed, &device.inventory, Mode::Keep);
        assert!(
            stays
                .steps
                .iter()
                .all(|step| step.action != Action::RemoveVolume)
        );
        let plan = device.converge(&without, Mode::Keep);
        let gone = plan
            .steps
            .iter()
            .filter(|step| step.action == Action::RemoveVolume);
        assert_eq!(gone.count(), goes);
        assert_eq!(device.view().volumes.len(), 1 - goes);
    }
    // That it is to go is no other volume.
    let mut device = empty();
    device.converge(&with(VolumeOnRemove::Keep), Mode::Keep);
    assert_eq!(
        device.plan(&with(VolumeOnRemove::Delete), Mode::Keep),
        Plan::default()
    );
}
