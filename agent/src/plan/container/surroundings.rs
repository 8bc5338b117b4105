//! What surrounds the process: capabilities, health check, namespaces, hosts, devices.

use std::collections::BTreeSet;

use evenkeel_schema::service::Service;
use serde_json::{Value, json};

use super::compare::{Compared, listed};
use crate::domain::observed::ObservedImage;

/// Capabilities that engines give without being asked (the union of Docker's and Podman's): asking for one of them
/// may leave no trace.
const GIVEN: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn plain_capabilities(names: &BTreeSet<String>) -> BTreeSet<String> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
        })
        .collect()
}

pub(super) fn security(compared: &mut Compared<'_>, service: &Service) {
    compared.same("privileged", &json!(service.privileged));
    compared.same("read_only", &json!(service.read_only));
    if service.privileged {
        // Everything is given: the lists say nothing more.
        return;
    }
    let added = plain_capabilities(&service.cap_add);
    let dropped = plain_capabilities(&service.cap_drop);
    let given = |name: &String| GIVEN.contains(&name.as_str());
    if let Some(actual) = compared.set("cap_add") {
        // An engine may list `ALL` one by one, and leave out what it gives anyway or what is dropped too.
        let all = added.contains("ALL");
        let excess = !all && actual.iter().any(|name| !added.contains(name));
        let listed_singly = all && !actual.is_empty();
        let lacking = added.iter().any(|name| {
            let excused = given(name) || dropped.contains(name) || listed_singly;
            !actual.contains(name) && !excused
        });
        if excess || lacking {
            compared.differ("cap_add", listed(&actual), listed(&added));
        }
    }
    if let Some(actual) = compared.set("cap_drop") {
        let all = dropped.contains("ALL");
        let excess = !all && actual.iter().any(|name| !dropped.contains(name));
        let lacking = dropped.iter().any(|name| {
            // What an engine does not give anyway needs no dropping.
            !actual.contains(name) && given(name) && !added.contains(name)
        }) || (all && actual.is_empty());
        if excess || lacking {
            compared.differ("cap_drop", listed(&actual), listed(&dropped));
        }
    }
}

pub(super) fn healthcheck(compared: &mut Compared<'_>, service: &Service, image: &ObservedImage) {
    let Some(actual) = compared.facts.get("healthcheck") else {
        return;
    };
    let words: Vec<&str> = actual["test"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let has_test = words.first().is_some_and(|kind| *kind != "NONE");
    let Some(declared) = &service.healthcheck else {
        if has_test && !image.has_healthcheck {
            compared.differ("healthcheck", "set", "none");
        } else if !has_test && image.has_healthcheck {
            compared.differ("healthcheck", "none", "the image's");
        }
        return;
    };
    if declared.is_disabled() {
        if has_test {
            compared.differ("healthcheck", "set", "none");
        }
        return;
    }
    let mut changed = declared.test.as_ref().is_some_and(|test| {
        !at_blanks(test.iter().map(String::as_str)).eq(at_blanks(words.iter().copied()))
    });
    for (key, span) in [
        ("interval", declared.interval),
        ("timeout", declared.timeout),
        ("start_period", declared.start_period),
    ] {
        // Nothing and 0 both mean the default, which engines may write out.
        if let Some(span) = span.filter(|span| !span.is_zero()) {
            changed |= actual[key].as_u64().map(u128::from) != Some(span.as_nanos());
        }
    }
    if let Some(retries) = declared.retries.filter(|retries| *retries > 0) {
        changed |= actual["retries"].as_u64() != Some(u64::from(retries));
    }
    if changed {
        compared.differ("healthcheck", "other", "changed");
    }
}

/// A test's words split at their blanks, as Podman's Docker API keeps them. What that hides (`a b` or `a`, `b`), the hash
/// of the declaration shows.
fn at_blanks<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    words.flat_map(str::split_whitespace)
}

pub(super) fn surroundings(compared: &mut Compared<'_>, service: &Service) {
    for (key, declared) in [("pid", &service.pid), ("ipc", &service.ipc)] {
        let Some(actual) = compared.text(key).map(str::to_owned) else {
            continue;
        };
        let host = actual == "host";
        let wants_host = declared.as_deref() == Some("host");
        // Podman says "shareable" of the host's ipc namespace too: only what was not asked for can be told.
        let told = key == "pid" || !wants_host;
        if told && host != wants_host {
            compared.differ(key, actual, declared.as_deref().unwrap_or("private"));
        }
    }
    if let Some(init) = service.init {
        compared.same("init", &json!(init));
    }
    if let Some(actual) = compared.set("extra_hosts") {
        let expected: BTreeSet<String> = service
            .extra_hosts
            .iter()
            .flat_map(|(name, addresses)| {
                addresses
                    .iter()
                    .map(move |address| format!("{name}:{address}"))
            })
            .collect();
        if actual != expected {
            compared.differ("extra_hosts", listed(&actual), listed(&expected));
        }
    }
    if let Some(actual) = compared.set("devices") {
        let expected: BTreeSet<String> = service
            .devices
            .iter()
            .map(|device| format!("{}:{}", device.source, device.target))
            .collect();
        if actual != expected && !service.privileged {
            compared.differ("devices", listed(&actual), listed(&expected));
        }
    }
    if !service.dns.is_empty() {
        compared.same("dns", &json!(service.dns));
    }
    if let Some(driver) = service.logging.as_ref().and_then(|log| log.driver.as_ref())
        && let Some(actual) = compared.text("logging").map(str::to_owned)
    {
        // Podman's name for the same format.
        let plain = |name: &str| {
            if name == "k8s-file" {
                "json-file".to_owned()
            } else {
                name.to_owned()
            }
        };
        if plain(&actual) != plain(driver) {
            compared.differ("logging", actual, driver.clone());
        }
    }
}
