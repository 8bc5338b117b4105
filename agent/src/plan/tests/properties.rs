//! What holds for any two revisions and anything a person did in between.

use std::collections::BTreeMap;

use evenkeel_schema::service::{Dependency, Network};
use proptest::prelude::*;

use super::*;

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
    (restart, mount, 0_u8..3, depends, any::<bool>()).prop_map(
        move |(restart, volumes, env, depends, back)| {
            let mut service = service(restart);
            service.volumes = volumes;
            service.environment = BTreeMap::from([("N".to_owned(), env.to_string())]);
            for (other, restart) in depends.into_iter().enumerate() {
                if let Some(restart) = restart {
                    let dependency = Dependency {
                        restart,
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
    (services, files, any::<bool>()).prop_map(move |((zero, one, two), files, internal)| {
        let services = [zero, one, two];
        DesiredApp {
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
    )
        .prop_map(|(alpha, beta)| {
            let apps = APPS
                .into_iter()
                .zip([alpha, beta])
                .filter_map(|(name, app)| Some((name, app?)))
                .collect();
            state(apps)
        })
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
            let volumes: Vec<String> = device.view().volumes.keys().cloned().collect();
            let plan = device.converge(desired, mode);
            prop_assert_eq!(&plan.blocked, &[]);
            prop_assert_eq!(device.plan(desired, mode), Plan::default());
            for volume in volumes {
                prop_assert!(device.view().volumes.contains_key(&volume));
            }
            // Once it is good, nothing is left but to arm it.
            let armed = device.converge(desired, Mode::Keep);
            prop_assert!(armed.steps.iter().all(|step| matches!(step.action, Action::SetRestart { .. })), "{armed:?}");
            prop_assert_eq!(device.plan(desired, Mode::Keep), Plan::default());
            for deed in &deeds {
                commit_deed(&mut device, deed);
            }
        }
        let healed = device.converge(&second, Mode::Keep);
        prop_assert_eq!(&healed.blocked, &[]);
        prop_assert_eq!(device.plan(&second, Mode::Keep), Plan::default());
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
