#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use evenkeel_schema::app::{OnChange, OnRemove};
use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::service::{Network, Service};
use serde_json::json;

use super::{differences, spec};
use crate::domain::container::ContainerSpec;
use crate::domain::desired::{DesiredApp, DesiredFile, DesiredState};
use crate::domain::observed::{Health, ObservedContainer, ObservedImage, RunState};
use crate::domain::resource::ServiceId;
use crate::domain::revision::ContentId;

fn file(content: &str, on_change: Vec<OnChange>) -> DesiredFile {
    DesiredFile {
        content: ContentId::of(content.as_bytes()),
        size: 1,
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        on_change,
        on_remove: OnRemove::Delete,
        secret: false,
    }
}

fn service(json: serde_json::Value) -> Service {
    let mut json = json;
    json["image"] = json!(format!("sha256:{}", "a".repeat(64)));
    json["networks"] = json!({"default": null, "lan": null});
    serde_json::from_value(json).unwrap()
}

fn state(service: Service, files: Vec<(&str, DesiredFile)>) -> DesiredState {
    let app = DesiredApp {
        files: files
            .into_iter()
            .map(|(path, file)| (path.parse().unwrap(), file))
            .collect(),
        services: BTreeMap::from([("web".parse::<ServiceName>().unwrap(), service)]),
        networks: BTreeMap::from([(
            "lan".parse().unwrap(),
            Network {
                external: true,
                name: Some("factory".to_owned()),
                ..Network::default()
            },
        )]),
        ..DesiredApp::default()
    };
    DesiredState {
        device: "d".parse().unwrap(),
        fleet: "f".to_owned(),
        apps: BTreeMap::from([("app".parse::<AppName>().unwrap(), app)]),
    }
}

fn built(service: Service, files: Vec<(&str, DesiredFile)>) -> ContainerSpec {
    let id = ServiceId {
        app: "app".parse().unwrap(),
        service: "web".parse().unwrap(),
    };
    spec(&state(service, files), &id).unwrap()
}

fn mounting(source: &str) -> Service {
    service(json!({"volumes": [
        {"type": "bind", "source": source, "target": "/x", "bind": {"create_host_path": true}},
        {"type": "volume", "source": "data", "target": "/d", "volume": {}},
    ]}))
}

#[test]
fn names_are_those_that_compose_gives() {
    let spec = built(mounting("/etc/x"), vec![]);
    assert_eq!(spec.name, "app-web-1");
    let networks: Vec<&str> = spec
        .networks
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(networks, ["app_default", "factory"]);
    assert_eq!(spec.volumes["data"], "app_data");
}

#[test]
fn a_file_mounted_by_itself_always_makes_another_container() {
    let restart = || vec![OnChange::RestartService("web".parse().unwrap())];
    let one = built(
        mounting("/etc/x/c"),
        vec![("/etc/x/c", file("1", restart()))],
    );
    let other = built(
        mounting("/etc/x/c"),
        vec![("/etc/x/c", file("2", restart()))],
    );
    assert_ne!(one.config, other.config);
}

#[test]
fn a_file_in_a_mounted_folder_counts_unless_its_own_action_names_the_service() {
    let hup = || {
        vec![OnChange::SignalService {
            signal: "HUP".to_owned(),
            service: "web".parse().unwrap(),
        }]
    };
    let elsewhere = || vec![OnChange::RestartUnit("x.service".to_owned())];
    let config = |content: &str, on_change| {
        built(
            mounting("/etc/x"),
            vec![("/etc/x/c", file(content, on_change))],
        )
        .config
    };
    assert_ne!(config("1", vec![]), config("2", vec![]));
    assert_ne!(config("1", elsewhere()), config("2", elsewhere()));
    assert_eq!(config("1", hup()), config("2", hup()));
    let beside =
        |content: &str| built(mounting("/etc/x"), vec![("/etc/xy", file(content, vec![]))]).config;
    assert_eq!(beside("1"), beside("2"));
}

fn observed(facts: serde_json::Value) -> ObservedContainer {
    ObservedContainer {
        engine_id: "e".to_owned(),
        name: "app-web-1".to_owned(),
        config: None,
        image_id: "sha256:1".to_owned(),
        state: RunState::Running,
        restart: "no".to_owned(),
        restarts: 0,
        oom_killed: false,
        started_at: String::new(),
        health: Health::None,
        facts: facts
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

#[test]
fn what_the_image_brings_is_expected_and_what_the_engine_does_not_tell_is_not_compared() {
    let spec = built(service(json!({"environment": {"A": "1"}})), vec![]);
    let image = ObservedImage {
        id: "sha256:1".to_owned(),
        env: BTreeMap::from([("FROM_IMAGE".to_owned(), "x".to_owned())]),
        cmd: Some(vec!["serve".to_owned()]),
        entrypoint: Some(vec!["/init".to_owned()]),
        volumes: vec!["/var/lib/x".to_owned()],
        ..ObservedImage::default()
    };
    assert!(differences(&spec, &image, &observed(json!({}))).is_empty());
    let facts = json!({
        "command": ["/init", "serve"],
        "environment": {"A": "1", "FROM_IMAGE": "x", "PATH": "/bin", "container": "podman"},
        "volumes": {"/var/lib/x": {"type": "volume", "source": null, "read_only": false}},
        "networks": ["app_default", "factory"],
    });
    assert!(differences(&spec, &image, &observed(facts)).is_empty());
}

#[test]
fn a_health_test_that_podman_split_at_its_blanks_is_the_declared_one() {
    let spec = built(
        service(json!({"healthcheck": {"test": ["CMD", "/bin/sh", "-c", "[ $A = 1 ]"]}})),
        vec![],
    );
    let kept = |test: serde_json::Value| {
        let seen = observed(json!({ "healthcheck": { "test": test } }));
        differences(&spec, &ObservedImage::default(), &seen)
            .iter()
            .all(|difference| !format!("{difference:?}").contains("healthcheck"))
    };
    assert!(kept(json!(["CMD", "/bin/sh", "-c", "[ $A = 1 ]"])));
    assert!(kept(json!([
        "CMD", "/bin/sh", "-c", "[", "$A", "=", "1", "]"
    ])));
    assert!(!kept(json!([
        "CMD", "/bin/sh", "-c", "[", "$A", "=", "2", "]"
    ])));
}

#[test]
fn a_difference_never_shows_a_value_of_the_environment() {
    let spec = built(
        service(json!({"environment": {"PASSWORD": "hunter2"}})),
        vec![],
    );
    let found = differences(
        &spec,
        &ObservedImage::default(),
        &observed(json!({"environment": {"PASSWORD": "correct horse", "OTHER": "battery"}})),
    );
    let keys: Vec<&str> = found.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["environment.OTHER", "environment.PASSWORD"]);
    let text = format!("{found:?}");
    for secret in ["hunter2", "correct", "battery"] {
        assert!(!text.contains(secret), "{text}");
    }
}
