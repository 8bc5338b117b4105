//! What holds for any two revisions and anything a person did in between.

use std::collections::BTreeMap;

use evenkeel_schema::app::{Hook, Moment};
use evenkeel_schema::service::{
    Condition, Dependency, Deploy, Network, UpdateConfig, UpdateOrder, VolumeExtension,
    VolumeOnRemove,
};
use proptest::prelude::*;

use super::*;
use crate::domain::observed::Owned;

const APPS: [&str; 2] = ["alpha", "beta"];
const SERVICES: [&str; 3] = ["zero", "one", "two"];
const PATHS: [&str; 3] = ["/etc/x/a", "/etc/x/b", "/srv/c"];

fn any_file() -> impl Strategy<Value = DesiredFile> {
    let change = prop_oneof![
        Just(Vec::new()),
        Just(vec![OnChange::RestartService("one".parse().unwrap())]),
        Just(vec![OnChange::SignalService {
            signal: "HUP".to_owned(),
            service: "two".parse().unwrap()
        }]),
        Just(vec![OnChange::ReloadUnit("x.service".to_owned())]),
    ];
    let on_remove = prop_oneof![
        Just(OnRemove::Delete),
        Just(OnRemove::Restore),
        Just(OnRemove::Keep)
    ];
    let mode = prop_oneof![Just(0o644), Just(0o600)];
    (0_u8..3, mode, change, on_remove).prop_map(|(text, mode, on_change, on_remove)| DesiredFile {
        mode,
        on_change,
        on_remove,
        ..file(&text.to_string())
    })
}

fn any_service(place: usize) -> impl Strategy<Value = Service> {
    let restart = prop_oneof![
        Just(Restart::No),
        Just(Restart::Always),
        Just(Restart::OnFailure(Some(2)))
    ];
    let mount = prop_oneof![
        2 => Just(Vec::new()),
        1 => Just(vec![bind("/etc/x")]),
        1 => Just(vec![bind("/etc/x/a")]),
        1 => Just(vec![Mount::Volume {
            source: Some("data".parse().unwrap()),
            target: "/data".to_owned(),
            read_only: false,
            volume: Default::default(),
        }]),
    ];
    let depends = proptest::collection::vec(any::<Option<bool>>(), place);
    let update = prop_oneof![
        2 => Just(UpdateOrder::StopFirst),
        1 => Just(UpdateOrder::StartFirst),
        1 => Just(UpdateOrder::Recreate)
    ];
    (restart, mount, 0_u8..3, depends, any::<bool>(), update).prop_map(
        move |(restart, volumes, env, depends, back, order)| {
            let mut service = service(restart);
            if order != UpdateOrder::StopFirst {
                service.deploy = Some(Deploy {
                    update_config: Some(UpdateConfig { order }),
                    ..Deploy::default()
                });
            }
            service.volumes = volumes;
            service.environment = BTreeMap::from([("N".to_owned(), env.to_string())]);
            for (other, restart) in depends.into_iter().enumerate() {
                if let Some(restart) = restart {
                    let dependency = Dependency {
                        restart,
                        condition: if restart {
                            Condition::Started
                        } else {
                            Condition::Completed
                        },
                        ..Dependency::default()
                    };
                    service
                        .depends_on
                        .insert(SERVICES[other].parse().unwrap(), dependency);
                }
            }
            if back {
                service.networks = BTreeMap::from([("back".parse().unwrap(), Default::default())]);
            }
            service
        },
    )
}

fn any_app(name: usize) -> impl Strategy<Value = DesiredApp> {
    let services = (
        proptest::option::of(any_service(0)),
        proptest::option::of(any_service(1)),
        proptest::option::of(any_service(2)),
    );
    // No path is in two apps: the schema refuses that.
    let paths: Vec<&str> = PATHS
        .iter()
        .enumerate()
        .filter(|(place, _)| place % 2 == name)
        .map(|(_, at)| *at)
        .collect();
    let files = proptest::collection::vec(proptest::option::of(any_file()), paths.len());
    let more = (any::<bool>(), proptest::option::of(any::<bool>()), 0_u8..4);
    (services, files, more).prop_map(move |((zero, one, two), files, (internal, ends, hook))| {
        let services = [zero, one, two];
        // Nothing depends on the last one: it may be a hook.
        let hooks = match (&services[2], hook) {
            (Some(_), 0) => BTreeMap::from([(
                Moment::BeforeUpdate,
                Hook {
                    service: SERVICES[2].parse().unwrap(),
                    deadline: std::time::Duration::from_secs(1),
                },
            )]),
            (_, _) => BTreeMap::new(),
        };
        DesiredApp {
            hooks,
            volumes: BTreeMap::from([(
                "data".parse().unwrap(),
                Volume {
                    extension: VolumeExtension {
                        on_remove: match ends {
                            Some(true) => VolumeOnRemove::Delete,
                            Some(false) | None => VolumeOnRemove::Keep,
                        },
                    },
                    ..Volume::default()
                },
            )]),
            services: SERVICES
                .iter()
                .zip(services)
                .filter_map(|(name, service)| Some((name.parse().unwrap(), service?)))
                .collect(),
            files: paths
                .iter()
                .zip(files)
                .filter_map(|(at, file)| Some((path(at), file?)))
                .collect(),
            networks: BTreeMap::from([(
                "back".parse().unwrap(),
                Network {
                    internal,
                    ..Network::default()
                },
            )]),
            ..DesiredApp::default()
        }
    })
}

fn any_state() -> impl Strategy<Value = DesiredState> {
    (
        proptest::option::of(any_app(0)),
        proptest::option::of(any_app(1)),
        any::<Option<bool>>(),
    )
        .prop_map(|(mut alpha, mut beta, requires)| {
            if let (Some(alpha), Some(beta)) = (&mut alpha, &mut beta) {
                match requires {
                    Some(true) => alpha.requires.insert(APPS[1].parse().unwrap()),
                    Some(false) => beta.requires.insert(APPS[0].parse().unwrap()),
                    None => false,
                };
            }
            let apps = APPS
                .into_iter()
                .zip([alpha, beta])
                .filter_map(|(name, app)| Some((name, app?)))
                .collect();
            state(apps)
        })
}

fn foreign() -> Owned {
    Owned {
        app: None,
        config: None,
        in_use: false,
    }
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Advance), Just(Mode::Keep)]
}

/// What a person does behind our back.
#[derive(Debug, Clone)]
enum Deed {
    Edit(usize, String),
    Delete(usize),
    Link(usize),
    Chmod(usize),
    State(usize, RunState),
    Remove(usize),
    Copy(usize),
    Relabel(usize),
    Image(usize),
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let states = prop_oneof![
        Just(RunState::Created),
        Just(RunState::Paused),
        Just(RunState::Restarting),
        Just(RunState::Dead),
        (0_i64..2).prop_map(RunState::Exited),
    ];
    prop_oneof![
        (0..PATHS.len(), "[0-4]").prop_map(|(at, text)| Deed::Edit(at, text)),
        (0..PATHS.len()).prop_map(Deed::Delete),
        (0..PATHS.len()).prop_map(Deed::Link),
        (0..PATHS.len()).prop_map(Deed::Chmod),
        (0_usize..6, states).prop_map(|(which, state)| Deed::State(which, state)),
        (0_usize..6).prop_map(Deed::Remove),
        (0_usize..6).prop_map(Deed::Copy),
        (0_usize..6).prop_map(Deed::Relabel),
        (0_usize..6).prop_map(Deed::Image),
    ]
}

fn which(index: usize) -> ServiceId {
    id(APPS[index % 2], SERVICES[index / 2])
}

fn commit_deed(device: &mut Device, deed: &Deed) {
    match deed {
        Deed::Edit(at, text) => {
            device
                .observed
                .files
                .insert(path(PATHS[*at]), Seen::Present(regular(&content(text))));
        }
        Deed::Delete(at) => {
            device.observed.files.insert(path(PATHS[*at]), Seen::Absent);
        }
        Deed::Link(at) => {
            let mut link = regular(&content(""));
            link.kind = FileKind::Symlink;
            link.content = None;
            device
                .observed
                .files
                .insert(path(PATHS[*at]), Seen::Present(link));
        }
        Deed::Chmod(at) => {
            if let Some(Seen::Present(file)) = device.observed.files.get_mut(&path(PATHS[*at])) {
                file.mode = 0o777;
            }
        }
        Deed::State(index, state) => {
            for container in device
                .view()
                .containers
                .get_mut(&which(*index))
                .into_iter()
                .flatten()
            {
                container.state = state.clone();
            }
        }
        Deed::Remove(index) => {
            device.view().containers.remove(&which(*index));
            device.forget_joined();
        }
        Deed::Copy(index) => {
            if let Some(containers) = device.view().containers.get_mut(&which(*index)) {
                let mut copy = containers[0].clone();
                copy.engine_id = format!("copy of {}", copy.engine_id);
                copy.name = format!("copy of {}", copy.name);
                // Another copy of the same one would have the same name.
                containers.retain(|container| container.name != copy.name);
                containers.insert(0, copy);
            }
        }
        Deed::Relabel(index) => {
            for container in device
                .view()
                .containers
                .get_mut(&which(*index))
                .into_iter()
                .flatten()
            {
                container.config = Some("relabelled".to_owned());
            }
        }
        Deed::Image(index) => {
            for container in device
                .view()
                .containers
                .get_mut(&which(*index))
                .into_iter()
                .flatten()
            {
                container.image_id = "sha256:another".to_owned();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The model panics where a plan removes or overwrites what is not ours without a copy, touches a volume, takes a
    /// taken name, or takes steps in an order that an engine refuses.
    #[test]
    fn after_a_plan_was_taken_the_plan_is_empty(
        first in any_state(),
        second in any_state(),
        modes in (any_mode(), any_mode()),
        found in proptest::collection::vec((0..PATHS.len(), "[0-4]"), 0..3),
        deeds in proptest::collection::vec(any_deed(), 0..6),
    ) {
        let persons = found.into_iter().map(|(at, text)| (path(PATHS[at]), regular(&content(&text)))).collect();
        let mut device = Device::new(persons);
        for (desired, mode) in [(&first, modes.0), (&second, modes.1)] {
            let may_go = device.inventory.volumes.clone();
            let volumes: Vec<String> = device.view().volumes.keys().filter(|name| !may_go.contains(*name)).cloned().collect();
            let plan = device.converge(desired, mode);
            prop_assert_eq!(&plan.blocked, &[]);
            prop_assert_eq!(device.plan(desired, mode), Plan::default());
            for volume in volumes {
                prop_assert!(device.view().volumes.contains_key(&volume));
            }
            // Once it is good, nothing is left but to arm it, and to let go what was declared to.
            let armed = device.converge(desired, Mode::Keep);
            prop_assert!(armed.steps.iter().all(|step| matches!(step.action, Action::SetRestart { .. } | Action::RemoveVolume)), "{armed:?}");
            prop_assert_eq!(device.plan(desired, Mode::Keep), Plan::default());
            for deed in &deeds {
                commit_deed(&mut device, deed);
            }
        }
        let healed = device.converge(&second, Mode::Keep);
        prop_assert_eq!(&healed.blocked, &[]);
        prop_assert_eq!(device.plan(&second, Mode::Keep), Plan::default());
    }

    /// A crash after any step, and the way taken up again, ends where it would have ended without; and so does turning back.
    #[test]
    fn interrupted_at_any_step_and_run_again_it_ends_the_same(
        first in any_state(),
        second in any_state(),
        mode in any_mode(),
        at in 0_usize..30,
    ) {
        let mut start = Device::new(BTreeMap::new());
        start.view().networks.insert("a-persons".to_owned(), foreign());
        start.view().volumes.insert("photos".to_owned(), foreign());
        start.view().foreign_container_names.push("theirs".to_owned());
        start.converge(&first, Mode::Keep);
        let ends = |mut device: Device, desired: &DesiredState| {
            device.converge(desired, mode);
            device.converge(desired, Mode::Keep);
            device
        };
        let straight = ends(start.clone(), &second).stands();
        let mut cut = start.clone();
        cut.cut_short(&second, mode, at);
        let back = cut.clone();
        let mut on = ends(cut, &second);
        prop_assert_eq!(on.stands(), straight);
        prop_assert_eq!(on.plan(&second, Mode::Keep), Plan::default());
        // Back to the first: its containers, networks and files, and no volume of it is gone.
        let mut back = ends(back, &first);
        prop_assert_eq!(back.plan(&first, Mode::Keep), Plan::default());
        for name in start.view().volumes.keys() {
            prop_assert!(back.view().volumes.contains_key(name), "{name} is gone");
        }
        for mut device in [on, back] {
            prop_assert_eq!(device.view().networks.get("a-persons"), Some(&foreign()));
            prop_assert_eq!(device.view().volumes.get("photos"), Some(&foreign()));
            prop_assert_eq!(&device.view().foreign_container_names, &["theirs".to_owned()]);
        }
    }

    #[test]
    fn what_goes_goes_in_the_reverse_of_the_order_in_which_it_came(first in any_state(), second in any_state()) {
        let mut device = Device::new(BTreeMap::new());
        let services = |plan: &Plan, verb: &str| -> Vec<String> {
            let is_service = |step: &&Step| matches!(step.resource, ResourceId::Service(_)) && step.action.verb() == verb;
            plan.steps.iter().filter(is_service).map(|step| step.resource.to_string()).collect()
        };
        let mut came = services(&device.converge(&first, Mode::Keep), "create");
        came.reverse();
        prop_assert_eq!(&services(&device.plan(&state(Vec::new()), Mode::Keep), "remove"), &came);
        // Of some of them, too.
        let plan = device.plan(&second, Mode::Advance);
        let declared = |name: &String| {
            order(&second).iter().any(|id| ResourceId::Service(id.clone()).to_string() == *name)
                || second.apps.iter().any(|(app, all)| all.hooks.values().any(|hook| {
                    ResourceId::Service(ServiceId { app: app.clone(), service: hook.service.clone() }).to_string() == *name
                }))
        };
        let went: Vec<String> = services(&plan, "remove").into_iter().filter(|name| !declared(name)).collect();
        came.retain(|name| !declared(name));
        prop_assert_eq!(went, came);
        // And no app begins before one that it requires.
        let begins = services(&Device::new(BTreeMap::new()).plan(&second, Mode::Advance), "create");
        for (app, declared) in &second.apps {
            for needed in &declared.requires {
                let first_of = |app: &str| begins.iter().position(|one| one.starts_with(&format!("service/{app}/")));
                let last_of = |app: &str| begins.iter().rposition(|one| one.starts_with(&format!("service/{app}/")));
                if let (Some(own), Some(needed)) = (first_of(app.as_str()), last_of(needed.as_str())) {
                    prop_assert!(needed < own, "{begins:?}");
                }
            }
        }
    }

    #[test]
    fn the_order_in_which_an_engine_lists_does_not_change_the_plan(
        first in any_state(),
        second in any_state(),
        mode in any_mode(),
        deeds in proptest::collection::vec(any_deed(), 0..6),
    ) {
        let mut device = Device::new(BTreeMap::new());
        device.converge(&first, mode);
        for deed in &deeds {
            commit_deed(&mut device, deed);
        }
        let plan = device.plan(&second, mode);
        for containers in device.view().containers.values_mut() {
            containers.reverse();
        }
        prop_assert_eq!(device.plan(&second, mode), plan);
    }

    /// What a promotion is told to change is what a device that stands at the first state then does.
    #[test]
    fn what_sets_two_states_apart_is_what_a_device_would_do(first in any_state(), second in any_state()) {
        let mut device = Device::new(BTreeMap::new());
        device.converge(&first, Mode::Keep);
        let told = |plan: &Plan| -> Vec<(String, String)> {
            plan.steps.iter().map(|step| (step.action.verb().to_owned(), step.resource.to_string())).collect()
        };
        let imagined = imagined::between(&first, &second);
        prop_assert_eq!(&imagined.blocked, &[]);
        prop_assert_eq!(told(&imagined), told(&device.plan(&second, Mode::Keep)));
        prop_assert_eq!(imagined::between(&second, &second), Plan::default());
    }
}
