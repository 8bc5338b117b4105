//! The engine's adapter against real Docker and Podman: one contract, both engines.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel::adapter::engine::BollardEngine;
use evenkeel::domain::container::ContainerSpec;
use evenkeel::domain::desired::{DesiredApp, DesiredState};
use evenkeel::domain::observed::{EngineView, Health, ObservedContainer, RunState};
use evenkeel::domain::resource::ServiceId;
use evenkeel::plan::container::{differences, restart_policy, spec};
use evenkeel::port::Retry;
use evenkeel::port::engine::{Engine as _, EngineError};
use evenkeel_schema::name::DeviceId;
use evenkeel_schema::service::{Network, Service, Volume};
use evenkeel_tests::engine::Engine;
use evenkeel_tests::ports::Port;
use serde_json::{Value, json};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

struct Bench {
    adapter: BollardEngine,
    device: DeviceId,
    desired: DesiredState,
    root: tempfile::TempDir,
    image: String,
    _cleanup: evenkeel_tests::engine::Cleanup,
}

impl Bench {
    fn new(engine: &Engine, name: &str) -> Self {
        let device: DeviceId = name.parse().unwrap();
        let root = tempfile::tempdir().unwrap();
        Self {
            adapter: BollardEngine::connect(&engine.url(), &device, root.path()),
            desired: DesiredState {
                device: device.clone(),
                fleet: "test".to_owned(),
                apps: BTreeMap::from([(name.parse().unwrap(), DesiredApp::default())]),
            },
            device,
            root,
            image: engine.busybox_image("engine contract", &[]),
            _cleanup: engine.cleanup(name),
        }
    }

    fn app(&mut self) -> &mut DesiredApp {
        self.desired.apps.values_mut().next().unwrap()
    }

    /// Declares a service in Compose's long form, and gives its spec.
    fn declare(&mut self, name: &str, mut service: Value) -> ContainerSpec {
        service["image"] = json!(self.image);
        if service.get("networks").is_none() && service.get("network_mode").is_none() {
            service["networks"] = json!({"default": null});
        }
        let service: Service = serde_json::from_value(service).unwrap();
        self.app().services.insert(name.parse().unwrap(), service);
        let app = self.desired.apps.keys().next().unwrap().clone();
        let id = ServiceId {
            app,
            service: name.parse().unwrap(),
        };
        spec(&self.desired, &id).unwrap()
    }

    async fn resources(&self, spec: &ContainerSpec) {
        for (name, _) in &spec.networks {
            let view = self.look().await;
            if !view.networks.contains_key(name) {
                self.adapter
                    .create_network(
                        name,
                        &self.device,
                        &spec.id.app,
                        "default",
                        &Network::default(),
                        "c",
                    )
                    .await
                    .unwrap();
            }
        }
        for (key, name) in &spec.volumes {
            self.adapter
                .create_volume(
                    name,
                    &self.device,
                    &spec.id.app,
                    key,
                    &Volume::default(),
                    "c",
                )
                .await
                .unwrap();
        }
    }

    async fn look(&self) -> EngineView {
        self.adapter
            .observe(
                &self.device,
                &[self.image.parse().unwrap()],
                &BTreeMap::new(),
            )
            .await
            .unwrap()
    }

    async fn one(&self, spec: &ContainerSpec) -> (EngineView, ObservedContainer) {
        let view = self.look().await;
        let found = view.containers[&spec.id].clone();
        assert_eq!(found.len(), 1);
        (view, found.into_iter().next().unwrap())
    }

    #[track_caller]
    fn same(&self, spec: &ContainerSpec, view: &EngineView, found: &ObservedContainer) {
        let wrong = differences(spec, &view.images[&self.image], found);
        assert!(
            wrong.is_empty(),
            "{} in state {:?}: {wrong:#?}\nfacts: {:#?}",
            spec.name,
            found.state,
            found.facts
        );
    }
}

fn sleeper() -> Value {
    json!({"command": ["sleep", "600"], "stop_grace_period": "1s"})
}

/// Everything that a service may say and both engines can do here.
fn rich() -> Value {
    // Fresh ones each time: the tests of both engines publish at once.
    let (tcp, udp) = (Port::free(), Port::free());
    let numbers = (tcp.number().to_string(), udp.number().to_string());
    // Claimed for as long as the test's own process lives.
    std::mem::forget((tcp, udp));
    let (tcp, udp) = numbers;
    json!({
        "command": ["-c", "sleep 600"],
        "entrypoint": ["sh"],
        "environment": {"TZ": "Europe/Vienna", "EMPTY": "", "EQUALS": "a=b=c"},
        "ports": [
            {"mode": "ingress", "target": 80, "published": tcp, "host_ip": "127.0.0.1", "protocol": "tcp"},
            {"mode": "ingress", "target": 53, "published": udp, "protocol": "udp"},
        ],
        "volumes": [
            {"type": "bind", "source": "/srv/conf", "target": "/conf", "read_only": true, "bind": {"create_host_path": true}},
            {"type": "volume", "source": "data", "target": "/data", "volume": {}},
            {"type": "volume", "target": "/scratch", "volume": {}},
        ],
        "devices": [{"source": "/dev/null", "target": "/dev/modem", "permissions": "rw"}],
        "user": "1000:1000",
        "working_dir": "/tmp",
        "labels": {"org.example.role": "test"},
        "restart": "on-failure:3",
        "healthcheck": {"test": ["CMD", "true"], "interval": "7s", "timeout": "3s", "retries": 4, "start_period": "2s"},
        "mem_limit": "67108864",
        "cpus": 0.5,
        "pids_limit": 64,
        "read_only": true,
        "tmpfs": ["/run:size=1m", "/tmp"],
        "cap_add": ["NET_ADMIN", "CHOWN"],
        "cap_drop": ["MKNOD", "SETFCAP"],
        "hostname": "rich",
        "extra_hosts": ["db=192.0.2.7"],
        "shm_size": "33554432",
        "stop_signal": "SIGUSR1",
        "stop_grace_period": "2s",
        "ulimits": {"nofile": 512, "nproc": 4096},
        "init": false,
        "networks": {"default": {"aliases": ["other-name"]}},
        "logging": {"driver": "json-file"},
    })
}

fn a_container_is_as_declared(engine: &Engine, name: &str) {
    let mut bench = Bench::new(engine, name);
    let specs = [
        bench.declare("rich", rich()),
        bench.declare("plain", sleeper()),
        bench.declare("host", json!({"command": ["sleep", "600"], "network_mode": "host"})),
        bench.declare("alone", json!({"command": ["sleep", "600"], "network_mode": "none"})),
        bench.declare("nothing", json!({"command": ["sleep", "600"], "cap_drop": ["ALL"], "cap_add": ["NET_BIND_SERVICE"]})),
    ];
    // Not every machine that runs tests may give all capabilities: these are made, and not started.
    let powerful = [
        bench.declare(
            "privileged",
            json!({"command": ["sleep", "600"], "privileged": true}),
        ),
        bench.declare(
            "everything",
            json!({"command": ["sleep", "600"], "cap_add": ["ALL"], "pid": "host", "ipc": "host"}),
        ),
    ];
    run(async {
        for spec in &powerful {
            bench.resources(spec).await;
            let id = bench
                .adapter
                .create(spec)
                .await
                .unwrap_or_else(|error| panic!("{}: {error:?}", spec.name));
            let (view, made) = bench.one(spec).await;
            bench.same(spec, &view, &made);
            bench.adapter.remove(&id).await.unwrap();
        }
        for spec in &specs {
            bench.resources(spec).await;
            let id = bench
                .adapter
                .create(spec)
                .await
                .unwrap_or_else(|error| panic!("{}: {error:?}", spec.name));
            let (view, made) = bench.one(spec).await;
            assert_eq!(made.state, RunState::Created, "{}", spec.name);
            assert_eq!(made.config.as_ref(), Some(&spec.config));
            assert_eq!(made.name, spec.name);
            bench.same(spec, &view, &made);
            bench
                .adapter
                .start(&id)
                .await
                .unwrap_or_else(|error| panic!("{}: {error:?}", spec.name));
            bench.adapter.start(&id).await.unwrap();
            let (view, runs) = bench.one(spec).await;
            assert_eq!(runs.state, RunState::Running, "{}", spec.name);
            bench.same(spec, &view, &runs);
            bench
                .adapter
                .stop(&id, Duration::from_secs(1))
                .await
                .unwrap();
            bench
                .adapter
                .stop(&id, Duration::from_secs(1))
                .await
                .unwrap();
            let (view, ended) = bench.one(spec).await;
            assert!(
                matches!(ended.state, RunState::Exited(_)),
                "{:?}",
                ended.state
            );
            bench.same(spec, &view, &ended);
            bench.adapter.remove(&id).await.unwrap();
            bench.adapter.remove(&id).await.unwrap();
        }
        assert!(bench.root.path().join("srv/conf").is_dir());
        let view = bench.look().await;
        assert!(view.containers.is_empty());
        let volumes: Vec<_> = view
            .volumes
            .iter()
            .filter(|(_, owned)| owned.app.as_deref() == Some(name))
            .collect();
        assert_eq!(volumes.len(), 1, "{volumes:?}");
        let network = format!("{name}_default");
        assert_eq!(view.networks[&network].app.as_deref(), Some(name));
        bench.adapter.remove_network(&network).await.unwrap();
        bench.adapter.remove_network(&network).await.unwrap();
    });
}

#[test]
fn a_container_is_as_declared_on_docker() {
    a_container_is_as_declared(&Engine::docker(), "contract-docker");
}

#[test]
fn a_container_is_as_declared_on_podman() {
    a_container_is_as_declared(&Engine::podman(), "contract-podman");
}

fn a_change_by_hand_is_seen(engine: &Engine, name: &str) {
    let mut bench = Bench::new(engine, name);
    let declared = bench.declare("web", rich());
    run(async {
        bench.resources(&declared).await;
        // The same labels, another setting: each must be told, and nothing else.
        for (key, change) in [
            (
                "environment.TZ",
                json!({"environment": {"TZ": "secret-value", "EMPTY": "", "EQUALS": "a=b=c"}}),
            ),
            (
                "environment.MORE",
                json!({"environment": {"TZ": "Europe/Vienna", "EMPTY": "", "EQUALS": "a=b=c", "MORE": "x"}}),
            ),
            ("command", json!({"command": ["-c", "sleep 601"]})),
            ("mem_limit", json!({"mem_limit": "134217728"})),
            ("cpus", json!({"cpus": 0.25})),
            ("user", json!({"user": "0"})),
            ("ports", json!({"ports": []})),
            ("read_only", json!({"read_only": false})),
            ("privileged", json!({"privileged": true})),
            ("cap_add", json!({"cap_add": ["NET_ADMIN", "SYS_ADMIN"]})),
            ("hostname", json!({"hostname": "poor"})),
            (
                "volumes./conf",
                json!({"volumes": [
                    {"type": "bind", "source": "/srv/other", "target": "/conf", "read_only": true, "bind": {"create_host_path": true}},
                    {"type": "volume", "source": "data", "target": "/data", "volume": {}},
                    {"type": "volume", "target": "/scratch", "volume": {}},
                ]}),
            ),
            (
                "healthcheck",
                json!({"healthcheck": {"test": ["CMD", "false"], "interval": "7s"}}),
            ),
            (
                "network_mode",
                json!({"network_mode": "none", "networks": {}, "ports": []}),
            ),
        ] {
            let mut other = serde_json::to_value(&declared.service).unwrap();
            for (field, value) in change.as_object().unwrap() {
                other[field] = value.clone();
            }
            let mut by_hand = declared.clone();
            by_hand.service = serde_json::from_value(other).unwrap();
            if by_hand.service.network_mode.is_some() {
                by_hand.networks.clear();
            }
            let id = bench
                .adapter
                .create(&by_hand)
                .await
                .unwrap_or_else(|error| panic!("{key}: {error:?}"));
            let (view, found) = bench.one(&declared).await;
            assert_eq!(found.config.as_ref(), Some(&declared.config));
            let told = differences(&declared, &view.images[&bench.image], &found);
            let wanted = if key == "network_mode" {
                "networks"
            } else {
                key
            };
            assert!(
                told.iter().any(|difference| difference.key == wanted),
                "{key}: {told:#?}\n{:#?}",
                found.facts
            );
            assert!(!format!("{told:?}").contains("secret-value"), "{told:?}");
            bench.adapter.remove(&id).await.unwrap();
        }
    });
}

#[test]
fn a_change_by_hand_is_seen_on_docker() {
    a_change_by_hand_is_seen(&Engine::docker(), "hand-docker");
}

#[test]
fn a_change_by_hand_is_seen_on_podman() {
    a_change_by_hand_is_seen(&Engine::podman(), "hand-podman");
}

fn health_is_told(engine: &Engine, name: &str, slow: &str) {
    let mut bench = Bench::new(engine, name);
    let check = |test: &str| json!({"command": ["sleep", "600"], "healthcheck": {"test": ["CMD-SHELL", test], "interval": "500ms", "timeout": "1s", "retries": 2}});
    let cases = [
        (bench.declare("good", check("true")), Health::Healthy, None),
        (
            bench.declare("bad", check("echo 'no link'; exit 3")),
            Health::Unhealthy,
            Some("ended with 3: no link"),
        ),
        (
            bench.declare("slow", check("sleep 30")),
            Health::Unhealthy,
            Some(slow),
        ),
        (bench.declare("none", sleeper()), Health::None, None),
    ];
    run(async {
        for (spec, wanted, words) in &cases {
            bench.resources(spec).await;
            let id = bench.adapter.create(spec).await.unwrap();
            bench.adapter.start(&id).await.unwrap();
            let (_, found) = bench.one(spec).await;
            let begun = Instant::now();
            loop {
                let health = bench.adapter.health(&found, &spec.service).await.unwrap();
                // On a busy machine a test may take longer than it may, once.
                if health.health == *wanted && health.said.as_deref() == *words {
                    break;
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "{}: {health:?}",
                    spec.name
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            assert_eq!(bench.one(spec).await.1.health, *wanted);
            bench.adapter.remove(&id).await.unwrap();
        }
    });
}

#[test]
fn health_is_told_on_docker() {
    health_is_told(
        &Engine::docker(),
        "health-docker",
        "did not end: Health check exceeded timeout (1s)",
    );
}

#[test]
fn health_is_told_on_podman() {
    health_is_told(&Engine::podman(), "health-podman", "did not end within 1s");
}

fn a_policy_ends_up_as_declared(engine: &Engine, name: &str) {
    let mut bench = Bench::new(engine, name);
    let mut service = sleeper();
    service["restart"] = json!("on-failure:5");
    let spec = bench.declare("web", service);
    run(async {
        bench.resources(&spec).await;
        let id = bench.adapter.create(&spec).await.unwrap();
        bench.adapter.start(&id).await.unwrap();
        bench
            .adapter
            .set_restart(&id, &restart_policy(&spec.service))
            .await
            .unwrap();
        let (view, found) = bench.one(&spec).await;
        assert_eq!(found.restart, "on-failure:5");
        bench.same(&spec, &view, &found);
        bench.adapter.signal(&id, "HUP").await.unwrap();
        bench
            .adapter
            .restart(&id, Duration::from_secs(1))
            .await
            .unwrap();
        assert_eq!(bench.one(&spec).await.1.state, RunState::Running);
    });
}

#[test]
fn a_policy_ends_up_as_declared_on_docker() {
    a_policy_ends_up_as_declared(&Engine::docker(), "policy-docker");
}

#[test]
fn a_policy_ends_up_as_declared_on_podman() {
    a_policy_ends_up_as_declared(&Engine::podman(), "policy-podman");
}

fn what_cannot_be_had_says_so(engine: &Engine, name: &str) {
    let mut bench = Bench::new(engine, name);
    let mut missing = sleeper();
    missing["volumes"] = json!([{"type": "bind", "source": "/nowhere", "target": "/x", "bind": {"create_host_path": false}}]);
    let missing = bench.declare("missing", missing);
    let taken = bench.declare("taken", sleeper());
    run(async {
        let absent = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        match bench.adapter.pull(&absent, &mut |_| {}).await {
            Err(EngineError::Image {
                retry: Retry::Never,
                cause,
                ..
            }) => assert!(cause.to_string().contains("load"), "{cause}"),
            other => panic!("{other:?}"),
        }
        // Nobody listens there: the registry may come back.
        let unreachable = format!("127.0.0.1:1/app@sha256:{}", "1".repeat(64))
            .parse()
            .unwrap();
        match bench.adapter.pull(&unreachable, &mut |_| {}).await {
            Err(EngineError::Image {
                retry: Retry::Later,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
        bench
            .adapter
            .pull(&bench.image.parse().unwrap(), &mut |_| {})
            .await
            .unwrap();
        bench.resources(&missing).await;
        assert!(matches!(
            bench.adapter.create(&missing).await,
            Err(EngineError::Refused { .. })
        ));
        let id = bench.adapter.create(&taken).await.unwrap();
        assert!(matches!(
            bench.adapter.create(&taken).await,
            Err(EngineError::Refused { .. })
        ));
        bench.adapter.remove(&id).await.unwrap();
        assert!(matches!(
            bench
                .adapter
                .create(&ContainerSpec {
                    networks: vec![
                        (format!("{name}_default"), vec![]),
                        ("host".to_owned(), vec![])
                    ],
                    ..taken.clone()
                })
                .await,
            Err(EngineError::Refused { .. } | EngineError::Failed { .. })
        ));
        assert!(
            bench.look().await.containers.is_empty(),
            "a half-made container stays"
        );
        assert!(matches!(
            bench.adapter.remove_network("podman").await,
            Ok(()) | Err(EngineError::Refused { .. })
        ));
    });
}

#[test]
fn what_cannot_be_had_says_so_on_docker() {
    what_cannot_be_had_says_so(&Engine::docker(), "absent-docker");
}

#[test]
fn what_cannot_be_had_says_so_on_podman() {
    what_cannot_be_had_says_so(&Engine::podman(), "absent-podman");
}

#[test]
fn an_image_is_pulled_by_its_digest_on_docker() {
    let engine = Engine::docker();
    let bench = Bench::new(&engine, "pull-docker");
    let registry = evenkeel_tests::registry::Registry::start();
    let reference = registry.push(
        &engine,
        &engine.busybox_image("to pull", &[("big", &"x".repeat(1 << 20))]),
        "team/app",
    );
    let image = reference.parse().unwrap();
    run(async {
        let mut told = 0;
        bench
            .adapter
            .pull(&image, &mut |_| told += 1)
            .await
            .unwrap();
        assert!(told > 0, "no progress was told");
        let view = bench
            .adapter
            .observe(
                &bench.device,
                std::slice::from_ref(&image),
                &BTreeMap::new(),
            )
            .await
            .unwrap();
        assert!(view.images[image.as_str()].id.starts_with("sha256:"));
        let (name, _) = reference.split_once('@').unwrap();
        let unknown = format!("{name}@sha256:{}", "0".repeat(64)).parse().unwrap();
        match bench.adapter.pull(&unknown, &mut |_| {}).await {
            Err(EngineError::Image {
                retry: Retry::Never,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_engine_that_is_down_is_told_at_once() {
    let device: DeviceId = "down".parse().unwrap();
    let adapter =
        BollardEngine::connect("unix:///nonexistent/docker.sock", &device, Path::new("/"));
    let begun = Instant::now();
    match run(adapter.observe(&device, &[], &BTreeMap::new())) {
        Err(EngineError::Down { socket, .. }) => assert_eq!(socket, "/nonexistent/docker.sock"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}
