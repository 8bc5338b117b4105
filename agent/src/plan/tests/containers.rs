use std::collections::BTreeMap;

use evenkeel_schema::service::{Condition, Dependency, Network, Volume};

use super::*;
use crate::domain::observed::Owned;

fn depends(service: &mut Service, on: &str, dependency: Dependency) {
    service.depends_on.insert(on.parse().unwrap(), dependency);
}

/// `web` depends on `broker`, which depends on `db`; the names' order is another one.
fn chain() -> DesiredState {
    let mut web = service(Restart::Always);
    depends(
        &mut web,
        "zbroker",
        Dependency {
            restart: true,
            ..Dependency::default()
        },
    );
    let mut broker = service(Restart::Always);
    depends(
        &mut broker,
        "zzdb",
        Dependency {
            restart: true,
            ..Dependency::default()
        },
    );
    services(vec![
        ("web", web),
        ("zbroker", broker),
        ("zzdb", service(Restart::Always)),
    ])
}

fn settled(desired: &DesiredState) -> Device {
    let mut device = empty();
    device.converge(desired, Mode::Keep);
    assert_eq!(device.plan(desired, Mode::Keep), Plan::default());
    device
}

fn only<'a>(
    device: &'a mut Device,
    service: &str,
) -> &'a mut crate::domain::observed::ObservedContainer {
    &mut device
        .view()
        .containers
        .get_mut(&id("mqtt", service))
        .unwrap()[0]
}

#[test]
fn containers_are_made_dependencies_first_with_their_network() {
    assert_eq!(
        text(&empty().converge(&chain(), Mode::Advance)),
        [
            "create network/mqtt_default   new",
            "create service/mqtt/zzdb   new",
            "create service/mqtt/zbroker   new",
            "create service/mqtt/web   new",
        ]
    );
}

#[test]
fn a_new_revision_runs_unarmed_until_it_is_good() {
    let desired = services(vec![("broker", service(Restart::Always))]);
    let mut device = empty();
    device.converge(&desired, Mode::Advance);
    assert_eq!(only(&mut device, "broker").restart, "no");
    assert_eq!(device.plan(&desired, Mode::Advance), Plan::default());
    let armed = device.converge(&desired, Mode::Keep);
    assert_eq!(
        text(&armed),
        ["arm service/mqtt/broker   restart policy no -> always"]
    );
    assert_eq!(device.plan(&desired, Mode::Keep), Plan::default());
}

#[test]
fn a_changed_service_is_made_again_alone_and_its_dependants_restart_where_they_ask_to() {
    let mut device = settled(&chain());
    let mut changed = chain();
    let app = changed.apps.values_mut().next().unwrap();
    app.services
        .get_mut(&id("mqtt", "zzdb").service)
        .unwrap()
        .environment
        .insert("A".to_owned(), "1".to_owned());
    let plan = device.converge(&changed, Mode::Advance);
    assert_eq!(
        text(&plan),
        [
            "recreate service/mqtt/zzdb   its declaration or a file that it mounts changed",
            "restart service/mqtt/zbroker   depends on zzdb, which begins anew",
            "restart service/mqtt/web   depends on zbroker, which begins anew",
        ]
    );
}

#[test]
fn what_a_person_did_to_a_container_is_put_right() {
    let desired = services(vec![("broker", service(Restart::Always))]);
    let heal = |change: &dyn Fn(&mut crate::domain::observed::ObservedContainer)| {
        let mut device = settled(&desired);
        change(only(&mut device, "broker"));
        let plan = device.converge(&desired, Mode::Keep);
        assert_eq!(device.plan(&desired, Mode::Keep), Plan::default());
        text(&plan).join("\n")
    };
    assert_eq!(
        heal(&|c| c.state = RunState::Exited(137)),
        "start service/mqtt/broker   exited (137)"
    );
    assert_eq!(
        heal(&|c| c.state = RunState::Exited(0)),
        "start service/mqtt/broker   exited (0)"
    );
    assert_eq!(
        heal(&|c| c.state = RunState::Created),
        "start service/mqtt/broker   made, and never started"
    );
    assert_eq!(
        heal(&|c| c.state = RunState::Paused),
        "restart service/mqtt/broker   paused by hand"
    );
    assert_eq!(
        heal(&|c| c.state = RunState::Dead),
        "recreate service/mqtt/broker   dead"
    );
    assert_eq!(
        heal(&|c| c.name = "mine".to_owned()),
        "recreate service/mqtt/broker   name mine -> mqtt-broker-1"
    );
    assert_eq!(
        heal(&|c| c.config = None),
        "recreate service/mqtt/broker   its declaration or a file that it mounts changed"
    );
    assert_eq!(
        heal(&|c| c.image_id = "sha256:other".to_owned())
            .split("   ")
            .next(),
        Some("recreate service/mqtt/broker")
    );
    assert_eq!(
        heal(&|c| c.restart = "no".to_owned()),
        "arm service/mqtt/broker   restart policy no -> always"
    );
}

#[test]
fn a_container_that_is_gone_is_made_again() {
    let desired = services(vec![("broker", service(Restart::Always))]);
    let mut device = settled(&desired);
    device.view().containers.clear();
    let plan = device.converge(&desired, Mode::Keep);
    assert_eq!(
        text(&plan),
        ["create service/mqtt/broker   its container is gone"]
    );
    assert_eq!(only(&mut device, "broker").restart, "always");
}

#[test]
fn a_job_that_ended_well_is_done_and_one_that_failed_is_not() {
    for (restart, awaited, code, is_done) in [
        (Restart::No, false, 0, true),
        (Restart::No, false, 1, false),
        (Restart::OnFailure(None), false, 0, true),
        (Restart::OnFailure(Some(3)), false, 1, false),
        (Restart::Always, false, 0, false),
        (Restart::Always, true, 0, true),
        (Restart::UnlessStopped, true, 1, false),
    ] {
        let mut other = service(Restart::Always);
        if awaited {
            depends(
                &mut other,
                "init",
                Dependency {
                    condition: Condition::Completed,
                    ..Dependency::default()
                },
            );
        }
        let desired = services(vec![("init", service(restart)), ("other", other)]);
        let mut device = settled(&desired);
        only(&mut device, "init").state = RunState::Exited(code);
        let plan = device.plan(&desired, Mode::Keep);
        assert_eq!(
            plan == Plan::default(),
            is_done,
            "{restart:?} {awaited} {code}: {plan:?}"
        );
    }
}

#[test]
fn a_second_container_of_a_service_goes_and_the_right_one_stays() {
    let desired = services(vec![("broker", service(Restart::Always))]);
    let mut device = settled(&desired);
    let mut second = only(&mut device, "broker").clone();
    second.engine_id = "0".to_owned();
    second.name = "mqtt-broker-1-copy".to_owned();
    device
        .view()
        .containers
        .get_mut(&id("mqtt", "broker"))
        .unwrap()
        .insert(0, second);
    let plan = device.converge(&desired, Mode::Keep);
    assert_eq!(
        text(&plan),
        ["remove service/mqtt/broker   a second container of this service"]
    );
    assert_eq!(only(&mut device, "broker").name, "mqtt-broker-1");
}

#[test]
fn a_name_that_a_foreign_container_has_is_never_taken() {
    let desired = services(vec![("broker", service(Restart::Always))]);
    let mut device = empty();
    device
        .view()
        .foreign_container_names
        .push("mqtt-broker-1".to_owned());
    for mode in [Mode::Advance, Mode::Keep] {
        let plan = device.plan(&desired, mode);
        assert_eq!(plan.blocked.len(), 1);
        assert!(
            plan.blocked[0].why.contains("docker rm -f mqtt-broker-1"),
            "{:?}",
            plan.blocked
        );
        assert!(
            plan.steps
                .iter()
                .all(|step| matches!(step.action, Action::CreateNetwork { .. }))
        );
    }
}

#[test]
fn what_is_no_longer_declared_goes_and_volumes_stay() {
    let mut with_data = service(Restart::Always);
    with_data.volumes.push(Mount::Volume {
        source: Some("data".parse().unwrap()),
        target: "/data".to_owned(),
        read_only: false,
        volume: Default::default(),
    });
    let mut desired = services(vec![("broker", with_data)]);
    let app = desired.apps.values_mut().next().unwrap();
    app.volumes
        .insert("data".parse().unwrap(), Volume::default());
    let mut device = settled(&desired);
    let plan = device.converge(&state(vec![]), Mode::Advance);
    assert_eq!(
        text(&plan),
        [
            "remove service/mqtt/broker   no longer declared",
            "remove network/mqtt_default   no longer declared"
        ]
    );
    assert!(device.view().volumes.contains_key("mqtt_data"));
}

#[test]
fn an_image_removed_by_hand_under_a_running_container_changes_nothing() {
    let desired = services(vec![("broker", service(Restart::Always))]);
    let mut device = settled(&desired);
    device.view().images.clear();
    assert_eq!(device.plan(&desired, Mode::Keep), Plan::default());
    only(&mut device, "broker").config = Some("old".to_owned());
    assert_eq!(
        text(&device.plan(&desired, Mode::Advance)),
        [
            "recreate service/mqtt/broker   declaration changed; image aaaaaaaaaa… is not on the device yet"
        ]
    );
}

#[test]
fn a_changed_network_is_made_again_between_its_containers() {
    let mut desired = chain();
    let mut device = settled(&desired);
    let app = desired.apps.values_mut().next().unwrap();
    app.networks.insert(
        "default".parse().unwrap(),
        Network {
            internal: true,
            ..Network::default()
        },
    );
    let plan = device.converge(&desired, Mode::Advance);
    assert_eq!(
        text(&plan),
        [
            "remove service/mqtt/web   its network mqtt_default is made again",
            "remove service/mqtt/zbroker   its network mqtt_default is made again",
            "remove service/mqtt/zzdb   its network mqtt_default is made again",
            "remove network/mqtt_default   its declaration changed",
            "create network/mqtt_default   its declaration changed",
            "create service/mqtt/zzdb   its network mqtt_default is made again",
            "create service/mqtt/zbroker   its network mqtt_default is made again",
            "create service/mqtt/web   its network mqtt_default is made again",
        ]
    );
    assert_eq!(device.plan(&desired, Mode::Advance), Plan::default());
}

#[test]
fn what_is_not_ours_is_used_only_where_it_is_declared_external() {
    let foreign = Owned {
        app: None,
        config: None,
        in_use: false,
    };
    let mut desired = services(vec![("broker", service(Restart::Always))]);
    let mut device = empty();
    device
        .view()
        .networks
        .insert("mqtt_default".to_owned(), foreign);
    let plan = device.plan(&desired, Mode::Advance);
    assert_eq!(
        plan.blocked[0].resource,
        ResourceId::Network("mqtt_default".to_owned())
    );
    let external = Network {
        external: true,
        name: Some("mqtt_default".to_owned()),
        ..Network::default()
    };
    desired
        .apps
        .values_mut()
        .next()
        .unwrap()
        .networks
        .insert("default".parse().unwrap(), external);
    assert_eq!(
        text(&device.converge(&desired, Mode::Advance)),
        ["create service/mqtt/broker   new"]
    );
    // Nor is it removed when nobody uses it any more.
    device.converge(&state(vec![]), Mode::Advance);
    assert!(device.view().networks.contains_key("mqtt_default"));
    let without = empty().plan(&desired, Mode::Advance);
    assert!(
        without.blocked[0]
            .why
            .contains("docker network create mqtt_default"),
        "{:?}",
        without.blocked
    );
}

#[test]
fn a_changed_volume_is_never_made_again() {
    let mut with_data = service(Restart::Always);
    with_data.volumes.push(Mount::Volume {
        source: Some("data".parse().unwrap()),
        target: "/data".to_owned(),
        read_only: false,
        volume: Default::default(),
    });
    let mut desired = services(vec![("broker", with_data)]);
    let mut device = settled(&desired);
    let changed = Volume {
        driver_opts: BTreeMap::from([("type".to_owned(), "nfs".to_owned())]),
        ..Volume::default()
    };
    desired
        .apps
        .values_mut()
        .next()
        .unwrap()
        .volumes
        .insert("data".parse().unwrap(), changed);
    let plan = device.plan(&desired, Mode::Advance);
    assert_eq!(
        plan.blocked[0].resource,
        ResourceId::Volume("mqtt_data".to_owned())
    );
}

#[test]
fn an_engine_that_does_not_answer_blocks_services_and_not_files() {
    let mut desired = services(vec![("broker", service(Restart::Always))]);
    desired
        .apps
        .values_mut()
        .next()
        .unwrap()
        .files
        .insert(path("/etc/a"), file("a"));
    let mut device = empty();
    device.observed.engine = Seen::Unknown("no answer within 10 s".to_owned());
    assert_eq!(
        text(&device.plan(&desired, Mode::Keep)),
        [
            "blocked service/mqtt/broker   the container engine could not be asked: no answer within 10 s",
            "write file/etc/a   new",
        ]
    );
    device.observed.engine = Seen::Absent;
    assert_eq!(device.plan(&desired, Mode::Keep).blocked.len(), 1);
}

/// A file that `broker` mounts as `source`, with this `on_change`; settled at `one`.
fn mounted(source: &str, on_change: Vec<OnChange>) -> (DesiredState, Device) {
    let mut broker = service(Restart::Always);
    broker.volumes.push(bind(source));
    let mut desired = services(vec![
        ("broker", broker),
        ("other", service(Restart::Always)),
    ]);
    let app = desired.apps.values_mut().next().unwrap();
    app.files.insert(
        path("/etc/mosquitto/mosquitto.conf"),
        DesiredFile {
            on_change,
            ..file("one")
        },
    );
    let device = settled(&desired);
    (desired, device)
}

fn change(desired: &mut DesiredState) {
    let app = desired.apps.values_mut().next().unwrap();
    app.files.values_mut().next().unwrap().content = content("two");
}

fn edit(device: &mut Device) {
    let edited = Seen::Present(regular(&content("edited")));
    device
        .observed
        .files
        .insert(path("/etc/mosquitto/mosquitto.conf"), edited);
}

const WRITES: &str = "write file/etc/mosquitto/mosquitto.conf";

fn without_reasons(plan: &Plan) -> Vec<String> {
    text(plan)
        .iter()
        .map(|line| line.split("   ").next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_changed_file_in_a_mounted_directory_makes_its_container_begin_anew() {
    let (mut desired, mut device) = mounted("/etc/mosquitto", Vec::new());
    change(&mut desired);
    assert_eq!(
        without_reasons(&device.converge(&desired, Mode::Advance)),
        [WRITES, "recreate service/mqtt/broker"]
    );
    edit(&mut device);
    assert_eq!(
        text(&device.converge(&desired, Mode::Keep)),
        [
            "write file/etc/mosquitto/mosquitto.conf   edited by hand".to_owned(),
            "restart service/mqtt/broker   file/etc/mosquitto/mosquitto.conf changed, which it mounts".to_owned(),
            "arm service/mqtt/broker   restart policy no -> always".to_owned(),
        ]
    );
}

#[test]
fn on_change_replaces_what_the_mount_of_a_directory_implies() {
    let signal = OnChange::SignalService {
        signal: "HUP".to_owned(),
        service: "broker".parse().unwrap(),
    };
    let (mut desired, mut device) = mounted("/etc/mosquitto", vec![signal]);
    change(&mut desired);
    assert_eq!(
        without_reasons(&device.converge(&desired, Mode::Advance)),
        [WRITES, "signal service/mqtt/broker"]
    );
    edit(&mut device);
    assert_eq!(
        without_reasons(&device.converge(&desired, Mode::Keep)),
        [WRITES, "signal service/mqtt/broker"]
    );
}

#[test]
fn a_file_mounted_by_itself_always_makes_its_container_again() {
    let restart = OnChange::RestartService("broker".parse().unwrap());
    let (mut desired, mut device) = mounted("/etc/mosquitto/mosquitto.conf", vec![restart]);
    change(&mut desired);
    assert_eq!(
        without_reasons(&device.converge(&desired, Mode::Advance)),
        [WRITES, "recreate service/mqtt/broker"]
    );
    device.converge(&desired, Mode::Keep);
    edit(&mut device);
    assert_eq!(
        text(&device.converge(&desired, Mode::Keep))[1],
        "recreate service/mqtt/broker   file/etc/mosquitto/mosquitto.conf changed, which it mounts by itself"
    );
}

#[test]
fn on_change_acts_once_on_each_and_only_where_content_changed() {
    let restart = || OnChange::RestartService("broker".parse().unwrap());
    let hup = |service: &str| OnChange::SignalService {
        signal: "HUP".to_owned(),
        service: service.parse().unwrap(),
    };
    let unit = |name: &str| OnChange::RestartUnit(name.to_owned());
    let reload = |name: &str| OnChange::ReloadUnit(name.to_owned());
    let mut desired = services(vec![
        ("broker", service(Restart::Always)),
        ("other", service(Restart::Always)),
    ]);
    let app = desired.apps.values_mut().next().unwrap();
    let changes = vec![
        restart(),
        hup("broker"),
        hup("other"),
        unit("a.service"),
        reload("a.service"),
        reload("b.service"),
    ];
    app.files.insert(
        path("/etc/a"),
        DesiredFile {
            on_change: changes.clone(),
            ..file("one")
        },
    );
    app.files.insert(
        path("/etc/b"),
        DesiredFile {
            on_change: changes,
            ..file("one")
        },
    );
    let mut device = empty();
    // On the first pass the containers begin anyway; the units do not.
    device.converge(&desired, Mode::Advance);
    assert_eq!(device.touched, ["restart a.service", "reload b.service"]);
    device.touched.clear();
    for file in desired.apps.values_mut().next().unwrap().files.values_mut() {
        file.content = content("two");
    }
    device.converge(&desired, Mode::Advance);
    assert_eq!(
        device.touched,
        [
            "restart mqtt/broker",
            "HUP mqtt/other",
            "restart a.service",
            "reload b.service"
        ]
    );
    device.touched.clear();
    for file in desired.apps.values_mut().next().unwrap().files.values_mut() {
        file.mode = 0o600;
    }
    device.converge(&desired, Mode::Advance);
    assert_eq!(device.touched, Vec::<String>::new());
}
