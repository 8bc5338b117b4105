//! A resolved state as `evenkeel render --json` shows it.

use serde_json::{Value, json};

use evenkeel_schema::app::{Check, Expect, Probe};
use evenkeel_schema::duration;
use evenkeel_schema::service::print;

use crate::domain::desired::{DesiredFile, Resolved};
use crate::domain::text::base64;

/// The state in the shape of `render --json`: services in the Compose Specification's long form.
#[must_use]
pub fn json(resolved: &Resolved, revision: Option<&str>) -> Value {
    let apps: Vec<Value> = resolved
        .state
        .apps
        .iter()
        .map(|(name, app)| {
            let files: Vec<Value> = app
                .files
                .iter()
                .map(|(path, declared)| {
                    let mut shown = json!({
                        "path": path,
                        "mode": format!("{:04o}", declared.mode),
                        "owner": declared.owner,
                        "group": declared.group,
                    });
                    if let Value::Object(fields) = &mut shown {
                        let (key, value) = content(declared, resolved);
                        fields.insert(key.to_owned(), value);
                    }
                    shown
                })
                .collect();
            let services: serde_json::Map<String, Value> = app
                .services
                .iter()
                // Further containers of a service are no services of their own here.
                .filter(|(_, service)| service.replica.is_none())
                .map(|(key, service)| (key.to_string(), print::compose_json(service)))
                .collect();
            let mut declared = app.networks.clone();
            for key in app
                .services
                .values()
                .flat_map(|service| service.networks.keys())
            {
                // `default` need not be declared to be made.
                declared.entry(key.clone()).or_default();
            }
            let networks: serde_json::Map<String, Value> = declared
                .iter()
                .map(|(key, network)| (key.to_string(), print::network_json(name, key, network)))
                .collect();
            let volumes: serde_json::Map<String, Value> = app
                .volumes
                .iter()
                .map(|(key, volume)| (key.to_string(), print::volume_json(name, key, volume)))
                .collect();
            let checks: Vec<Value> = app.checks.iter().map(check).collect();
            let mut shown = json!({
                "name": name,
                "files": files,
                "services": services,
                "networks": networks,
                "volumes": volumes,
                "checks": checks,
                "gate": {
                    "deadline": duration::text(app.gate.deadline),
                    "soak": duration::text(app.gate.soak),
                },
            });
            if !app.requires.is_empty() {
                shown["requires"] = json!(app.requires);
            }
            if !app.hooks.is_empty() {
                let hooks = app.hooks.iter();
                let hooks: serde_json::Map<String, Value> = hooks
                    .map(|(moment, hook)| (moment.as_str().to_owned(), json!(hook.service)))
                    .collect();
                shown["hooks"] = Value::Object(hooks);
            }
            shown
        })
        .collect();
    json!({
        "device": resolved.state.device,
        "revision": revision,
        "apps": apps,
    })
}

fn content(file: &DesiredFile, resolved: &Resolved) -> (&'static str, Value) {
    if file.secret {
        return ("secret", json!(true));
    }
    let bytes = resolved
        .contents
        .get(&file.content)
        .map(Vec::as_slice)
        .unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => ("content", json!(text)),
        Err(_) => ("content_base64", json!(base64(bytes))),
    }
}

fn check(check: &Check) -> Value {
    let mut shown = match &check.probe {
        Probe::Tcp(address) => json!({"tcp": address}),
        Probe::Http(url) => json!({"http": url}),
        Probe::Command(words) => json!({"command": words}),
        Probe::Exec(service, words) => json!({"command": words, "service": service}),
        Probe::Unit(unit) => json!({"unit": unit}),
        Probe::File(path) => json!({"file": path}),
    };
    shown["timeout"] = json!(duration::text(check.timeout));
    let Expect {
        status,
        contains,
        max_age,
    } = &check.expect;
    if !status.is_empty() {
        let ranges = status.iter().map(|(first, last)| match first == last {
            true => json!(first),
            false => json!(format!("{first}-{last}")),
        });
        shown["status"] = ranges.collect();
    }
    if let Some(text) = contains {
        shown["contains"] = json!(text);
    }
    if let Some(age) = max_age {
        shown["max_age"] = json!(duration::text(*age));
    }
    shown
}
