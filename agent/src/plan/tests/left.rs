//! Plans that leave some resources as they are.

use super::*;
use evenkeel_schema::service::{Network, VolumeOptions};

fn settled(desired: &DesiredState) -> Device {
    let mut device = empty();
    device.converge(desired, Mode::Advance);
    device.converge(desired, Mode::Keep);
    device
}

fn leaving(device: &mut Device, desired: &DesiredState, left: &[ResourceId]) -> Vec<String> {
    device.look(desired);
    let left = Left::of(desired, left);
    let (observed, inventory) = (&device.observed, &device.inventory);
    text(&plan_leaving(
        desired,
        observed,
        inventory,
        Mode::Keep,
        &left,
    ))
}

fn resource(service: &str) -> ResourceId {
    ResourceId::Service(id("mqtt", service))
}

fn changed(desired: &DesiredState, service: &str) -> DesiredState {
    let mut desired = desired.clone();
    let app = desired.apps.values_mut().next().unwrap();
    let service = app.services.get_mut(&id("mqtt", service).service).unwrap();
    service.environment.insert("A".to_owned(), "1".to_owned());
    desired
}

#[test]
fn a_left_container_is_neither_changed_nor_does_anything_follow_from_it() {
    let mut dependant = service(Restart::Always);
    dependant.depends_on.insert(
        "broker".parse().unwrap(),
        evenkeel_schema::service::Dependency {
            restart: true,
            ..Default::default()
        },
    );
    let desired = services(vec![
        ("broker", service(Restart::Always)),
        ("web", dependant),
    ]);
    let mut device = settled(&desired);
    let other = changed(&desired, "broker");
    assert_eq!(leaving(&mut device, &other, &[resource("broker")]), [""; 0]);
    assert_eq!(leaving(&mut device, &other, &[resource("web")]).len(), 1);
    let both = changed(&other, "web");
    let steps = leaving(&mut device, &both, &[resource("broker")]);
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(
        steps[0].starts_with("recreate service/mqtt/web"),
        "{steps:?}"
    );
    // Nor is it made where it is not there.
    let steps = leaving(&mut empty(), &desired, &[resource("broker")]);
    assert_eq!(
        steps,
        [
            "create network/mqtt_default   new",
            "create service/mqtt/web   new"
        ]
    );
}

#[test]
fn a_network_that_a_left_container_joins_is_not_made_again() {
    let mut desired = services(vec![
        ("broker", service(Restart::Always)),
        ("web", service(Restart::Always)),
    ]);
    let mut device = settled(&desired);
    let app = desired.apps.values_mut().next().unwrap();
    let internal = Network {
        internal: true,
        ..Network::default()
    };
    app.networks.insert("default".parse().unwrap(), internal);
    assert_eq!(
        leaving(&mut device, &desired, &[resource("broker")]),
        [""; 0]
    );
    assert_eq!(leaving(&mut device, &desired, &[]).len(), 6);
    // Nor removed, where it is the network that is left.
    let network = ResourceId::Network("mqtt_default".to_owned());
    let other = changed(&desired, "web");
    assert_eq!(leaving(&mut device, &other, &[network]), [""; 0]);
}

#[test]
fn a_container_on_a_left_volume_is_left_and_others_are_not() {
    let mut mounting = service(Restart::Always);
    mounting.volumes.push(Mount::Volume {
        source: Some("data".parse().unwrap()),
        target: "/data".to_owned(),
        read_only: false,
        volume: VolumeOptions::default(),
    });
    let desired = services(vec![
        ("broker", mounting),
        ("web", service(Restart::Always)),
    ]);
    let volume = ResourceId::Volume("mqtt_data".to_owned());
    let steps = leaving(&mut empty(), &desired, &[volume]);
    assert_eq!(
        steps,
        [
            "create network/mqtt_default   new",
            "create service/mqtt/web   new"
        ]
    );
}

#[test]
fn a_left_file_is_not_written_and_a_left_unit_is_not_restarted() {
    let mut first = file("one");
    first.on_change = vec![OnChange::RestartUnit("chrony.service".to_owned())];
    let mut second = file("two");
    second.on_change = vec![OnChange::ReloadUnit("nginx.service".to_owned())];
    let desired = files(vec![("/etc/a", first), ("/etc/b", second)]);
    let at = |text: &str| ResourceId::File(path(text));
    let unit = |name: &str| ResourceId::Unit(name.to_owned());
    let steps = leaving(&mut empty(), &desired, &[at("/etc/a")]);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(
        steps.iter().all(|step| !step.contains("chrony")),
        "{steps:?}"
    );
    let steps = leaving(
        &mut empty(),
        &desired,
        &[unit("chrony.service"), unit("nginx.service")],
    );
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(
        steps.iter().all(|step| step.contains("file/etc")),
        "{steps:?}"
    );
}
