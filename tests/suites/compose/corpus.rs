//! Every file of tests/corpus/compose: it loads, it plans, and its services, networks and volumes are what Compose's own
//! `config` prints.
//!
//! Both sides go through [`normal`], which takes away what is only another way to write the same; each rule says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel::domain::history::Inventory;
use evenkeel::domain::observed::{EngineView, ObservedState, Seen};
use evenkeel::domain::tree::{Document, Tree};
use evenkeel::plan::{self, Mode};
use evenkeel::resolve;
use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::run;
use serde_json::{Map, Value, json};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/compose")
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything below a folder, as it lies in a commit.
fn below(folder: &Path, prefix: &str, into: &mut BTreeMap<String, Document>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            below(&entry.path(), &path, into);
        } else {
            into.insert(path, Document::File(std::fs::read(entry.path()).unwrap()));
        }
    }
}

/// What a device with this one app should be, and what would be done on a device with nothing.
fn ours(name: &str) -> (Value, plan::Plan) {
    let mut documents = BTreeMap::from([
        (
            "fleet.toml".to_owned(),
            Document::File(b"format = 1\nname = \"corpus\"\nallow_tags = true\n".to_vec()),
        ),
        (
            "groups/all.toml".to_owned(),
            Document::File(format!("match = \"all\"\napps = [\"{name}\"]\n").into_bytes()),
        ),
    ]);
    below(
        &corpus().join(name),
        &format!("apps/{name}"),
        &mut documents,
    );
    let tree = Tree { documents };
    let device = "gw-1".parse().unwrap();
    let selection = resolve::apps_of(&device, &BTreeMap::new(), &tree)
        .unwrap_or_else(|problems| panic!("{name}: {problems}"));
    let resolved =
        resolve::resolve(&selection, &tree).unwrap_or_else(|problems| panic!("{name}: {problems}"));
    let observed = ObservedState {
        files: resolved
            .state
            .files()
            .map(|(_, path, _)| (path.clone(), Seen::Absent))
            .collect(),
        engine: Seen::Present(engine_with(&resolved.state)),
    };
    let plan = plan::plan(
        &resolved.state,
        &observed,
        &Inventory::default(),
        Mode::Advance,
    );
    (
        resolve::render::json(&resolved, None)["apps"][0].clone(),
        plan,
    )
}

/// An engine that has what a file calls external, and nothing else.
fn engine_with(state: &evenkeel::domain::desired::DesiredState) -> EngineView {
    let mut view = EngineView::default();
    let theirs = evenkeel::domain::observed::Owned {
        app: None,
        config: None,
        in_use: false,
    };
    for (app, desired) in &state.apps {
        use evenkeel_schema::service::print;
        for (key, network) in desired.networks.iter().filter(|(_, one)| one.external) {
            let name = print::network_name(app, key, network);
            view.networks.insert(name, theirs.clone());
        }
        for (key, volume) in desired.volumes.iter().filter(|(_, one)| one.external) {
            let name = print::volume_name(app, key, volume);
            view.volumes.insert(name, theirs.clone());
        }
    }
    view
}

fn theirs(name: &str) -> Value {
    let said = run(
        Command::new(super::compose())
            .args(["-p", name, "config", "--format", "json"])
            .current_dir(corpus().join(name))
            .env_clear()
            .env("HOME", "/nonexistent"),
        PATIENCE,
    )
    .expect_code(0);
    // What is printed is meant to be read again, so that a dollar sign stands there twice.
    serde_json::from_str(&said.stdout.replace("$$", "$")).unwrap()
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().unwrap()
}

/// What is only another way to write the same is written one way.
fn normal(mut model: Value) -> Value {
    for service in object(&mut model["services"]).values_mut() {
        normal_service(service);
    }
    for section in ["networks", "volumes"] {
        for (_, one) in model[section].as_object_mut().into_iter().flatten() {
            // Compose prints an empty one where we do not, and the other way round.
            if one["ipam"] == json!({}) {
                object(one).remove("ipam");
            }
            // What an external one is made with is not ours to say.
            if one["external"] == true {
                object(one).retain(|key, _| key == "name" || key == "external");
            }
        }
    }
    model
}

fn normal_service(service: &mut Value) {
    let of_kind = |secret: &Value| {
        let source = secret["source"].as_str().unwrap_or_default();
        match secret["target"].as_str() {
            None => format!("/run/secrets/{source}"),
            Some(name) if !name.contains('/') => format!("/run/secrets/{name}"),
            Some(path) => path.to_owned(),
        }
    };
    for secret in service["secrets"].as_array_mut().into_iter().flatten() {
        // Compose fills the place in for some, and we for others.
        secret["target"] = json!(of_kind(secret));
    }
    for config in service["configs"].as_array_mut().into_iter().flatten() {
        if config["target"].is_null() {
            config["target"] = json!(format!("/{}", config["source"].as_str().unwrap()));
        }
    }
    for mount in service["volumes"].as_array_mut().into_iter().flatten() {
        // Compose prints it of the short form alone, and leaves it out where it is false.
        if let Some(bind) = mount.get_mut("bind").and_then(Value::as_object_mut) {
            bind.remove("create_host_path");
        }
        for options in ["bind", "volume", "tmpfs"] {
            if mount.get(options) == Some(&json!({})) {
                object(mount).remove(options);
            }
        }
    }
    // Sets, in whatever order.
    for key in ["cap_add", "cap_drop", "expose", "extra_hosts"] {
        if let Some(items) = service[key].as_array_mut() {
            items.sort_by_key(Value::to_string);
            items.dedup();
        }
    }
    for network in service["networks"].as_object_mut().into_iter().flatten() {
        if let Some(aliases) = network.1["aliases"].as_array_mut() {
            aliases.sort_by_key(Value::to_string);
        }
        // Joined with nothing else said.
        if *network.1 == json!({}) {
            *network.1 = Value::Null;
        }
    }
    // Two keys for one thing.
    if let Some(deploy) = service["deploy"].as_object_mut() {
        let replicas = deploy.remove("replicas");
        deploy.remove("mode");
        deploy.retain(|_, value| *value != json!({}));
        let restart = deploy.remove("restart_policy");
        let is_empty = deploy.is_empty();
        if let Some(replicas) = replicas {
            service["scale"] = replicas;
        }
        if let Some(restart) = restart {
            service["restart"] = match (
                restart["condition"].as_str(),
                restart["max_attempts"].as_u64(),
            ) {
                (Some("on-failure"), Some(times)) => json!(format!("on-failure:{times}")),
                (Some("on-failure"), None) => json!("on-failure"),
                (Some("none"), _) => json!("no"),
                (_, _) => json!("unless-stopped"),
            };
        }
        if is_empty {
            object(service).remove("deploy");
        }
    }
    // What is the default is as good as not said.
    let defaults = [("scale", json!(1)), ("restart", json!("no"))];
    for (key, default) in defaults {
        if service[key] == default {
            object(service).remove(key);
        }
    }
    object(service).retain(|_, value| !value.is_null());
}

/// The differences between two models, one a line.
fn differences(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let (left, right) = (left.get(key), right.get(key));
                let null = Value::Null;
                differences(
                    &format!("{at}.{key}"),
                    left.unwrap_or(&null),
                    right.unwrap_or(&null),
                    found,
                );
            }
        }
        (left, right) if left == right => {}
        (left, right) => found.push(format!("{at}: ours {left}, Compose's {right}")),
    }
}

#[test]
fn what_we_make_of_a_compose_file_is_what_compose_makes_of_it() {
    let names = names();
    assert!(names.len() >= 40, "{} files", names.len());
    let mut found = Vec::new();
    let mut services = 0;
    for name in &names {
        let (app, _) = ours(name);
        let theirs = normal(theirs(name));
        let mut mine = normal(json!({
            "services": app["services"],
            "networks": app["networks"],
            "volumes": app["volumes"],
        }));
        services += app["services"].as_object().map_or(0, Map::len);
        for section in ["networks", "volumes"] {
            // Compose leaves out what no service uses; we neither make nor print less than is used.
            let used: Vec<String> = theirs[section]
                .as_object()
                .map(|all| all.keys().cloned().collect())
                .unwrap_or_default();
            object(&mut mine[section]).retain(|key, _| used.contains(key));
        }
        for section in ["services", "networks", "volumes"] {
            let empty = json!({});
            let right = theirs
                .get(section)
                .filter(|all| !all.is_null())
                .unwrap_or(&empty);
            differences(
                &format!("{name}: {section}"),
                &mine[section],
                right,
                &mut found,
            );
        }
    }
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.join("\n")
    );
    println!(
        "{} files, {services} services: all as Compose has them",
        names.len()
    );
}

#[test]
fn every_compose_file_plans_each_of_its_containers_once_and_nothing_is_in_the_way() {
    for name in names() {
        let (app, plan) = ours(&name);
        assert!(plan.blocked.is_empty(), "{name}: {:?}", plan.blocked);
        let made = plan
            .steps
            .iter()
            .filter(|step| matches!(step.action, plan::Action::CreateContainer { .. }))
            .count() as u64;
        let wanted: u64 = app["services"]
            .as_object()
            .unwrap()
            .values()
            .map(|service| service["scale"].as_u64().unwrap_or(1))
            .sum();
        assert_eq!(made, wanted, "{name}");
        let written = plan
            .steps
            .iter()
            .filter(|step| matches!(step.action, plan::Action::WriteFile { .. }))
            .count();
        assert_eq!(written, app["files"].as_array().unwrap().len(), "{name}");
    }
}
