#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Service, decode_compose, decode_networks, decode_services, known_keys, print, units};
use crate::diagnostic::{Diagnostics, Position};
use crate::node::{Entry, Node, Value};

fn node(json: &Json) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(node).collect()),
        Json::Object(entries) => Value::Table(
            entries
                .iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    key_at: Position { line: 1, column: 1 },
                    value: node(value),
                })
                .collect(),
        ),
    };
    Node {
        file: "compose.yaml".into(),
        at: Position { line: 1, column: 1 },
        value,
    }
}

fn image() -> String {
    format!("registry.example.com/app@sha256:{}", "a".repeat(64))
}

fn with_image(mut service: Json) -> Json {
    service["image"] = json!(image());
    service
}

fn problems(service: Json) -> Vec<String> {
    let mut out = Diagnostics::new();
    decode_services(&node(&json!({"app": with_image(service)})), &mut out);
    out.sorted().iter().map(ToString::to_string).collect()
}

fn decoded(service: Json) -> Service {
    let mut out = Diagnostics::new();
    let services = decode_services(&node(&json!({"app": with_image(service)})), &mut out);
    assert!(out.is_empty(), "{out}");
    services.into_values().next().unwrap()
}

fn printed(service: Json) -> Json {
    print::compose_json(&decoded(service))
}

#[test]
fn the_shortest_service_prints_as_compose_prints_it() {
    assert_eq!(
        printed(json!({})),
        json!({"image": image(), "command": null, "entrypoint": null, "networks": {"default": null}})
    );
}

#[test]
fn short_forms_print_in_their_long_form() {
    let printed = printed(json!({
        "command": "sh -c 'echo \"a b\"' x\\ y",
        "entrypoint": ["/init"],
        "environment": ["A=1", "B=x=y", "EMPTY="],
        "ports": ["127.0.0.1:8080:80", "53:53/udp", "9000-9001:8000-8001", "[::1]:1:2", 7000],
        "volumes": ["/etc/x/:/x:ro,Z", "data:/data", "/anonymous"],
        "devices": ["/dev/ttyUSB0:/dev/modem:wr"],
        "depends_on": ["db"],
        "labels": ["a=b", "bare"],
        "healthcheck": {"test": "true", "interval": "1m30s", "timeout": "500ms", "retries": 2},
        "mem_limit": "64m", "cpus": "0.5", "shm_size": "1g", "stop_grace_period": "90s",
        "ulimits": {"nofile": 1024, "nproc": {"soft": 1, "hard": 2}},
        "extra_hosts": ["h:192.0.2.1", "six=::1"],
        "tmpfs": "/run", "restart": "on-failure:3",
    }));
    assert_eq!(
        printed,
        json!({
            "image": image(),
            "command": ["sh", "-c", "echo \"a b\"", "x y"],
            "entrypoint": ["/init"],
            "environment": {"A": "1", "B": "x=y", "EMPTY": ""},
            "ports": [
                {"mode": "ingress", "host_ip": "127.0.0.1", "target": 80, "published": "8080", "protocol": "tcp"},
                {"mode": "ingress", "target": 53, "published": "53", "protocol": "udp"},
                {"mode": "ingress", "target": 8000, "published": "9000", "protocol": "tcp"},
                {"mode": "ingress", "target": 8001, "published": "9001", "protocol": "tcp"},
                {"mode": "ingress", "host_ip": "::1", "target": 2, "published": "1", "protocol": "tcp"},
                {"mode": "ingress", "target": 7000, "protocol": "tcp"},
            ],
            "volumes": [
                {"type": "bind", "source": "/etc/x", "target": "/x", "read_only": true,
                 "bind": {"create_host_path": true, "selinux": "Z"}},
                {"type": "volume", "source": "data", "target": "/data", "volume": {}},
                {"type": "volume", "target": "/anonymous", "volume": {}},
            ],
            "devices": [{"source": "/dev/ttyUSB0", "target": "/dev/modem", "permissions": "rw"}],
            "depends_on": {"db": {"condition": "service_started", "required": true}},
            "labels": {"a": "b", "bare": ""},
            "healthcheck": {"test": ["CMD-SHELL", "true"], "interval": "1m30s", "timeout": "500ms", "retries": 2},
            "mem_limit": "67108864", "cpus": 0.5, "shm_size": "1073741824", "stop_grace_period": "1m30s",
            "ulimits": {"nofile": 1024, "nproc": {"soft": 1, "hard": 2}},
            "extra_hosts": ["h=192.0.2.1", "six=::1"],
            "networks": {"default": null},
            "tmpfs": ["/run"], "restart": "on-failure:3",
        })
    );
}

#[test]
fn what_is_printed_decodes_to_the_same_service() {
    let service = decoded(json!({
        "command": ["a", "b c"], "environment": {"N": 1, "B": true},
        "ports": ["127.0.0.1:8080:80", {"target": 53, "protocol": "udp", "mode": "host"}],
        "volumes": ["/a:/b:ro", "c:/d", {"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1m", "mode": 511}},
                    {"type": "bind", "source": "/e", "target": "/f", "bind": {"create_host_path": false}}],
        "networks": {"default": {"aliases": ["x"], "ipv4_address": "10.0.0.7"}, "other": null},
        "deploy": {"resources": {"limits": {"memory": "64M", "cpus": 0.25, "pids": 10}},
                   "update_config": {"order": "stop-first"}, "replicas": 1},
        "healthcheck": {"disable": true},
        "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
        "depends_on": {"z": {"condition": "service_healthy", "restart": true}},
        "sysctls": {"net.core.somaxconn": 1024}, "init": true, "read_only": "true",
    }));
    let json = print::compose_json(&service);
    assert_eq!(
        serde_json::from_value::<Service>(json.clone()).unwrap(),
        service
    );
    let mut out = Diagnostics::new();
    let again = decode_services(&node(&json!({"app": json})), &mut out);
    assert!(out.is_empty(), "{out}");
    assert_eq!(again.into_values().next().unwrap(), service);
    assert_eq!(service.memory(), Some(64 << 20));
    assert_eq!(service.cpu(), Some(250_000_000));
    assert_eq!(service.pids(), Some(10));
}

#[test]
fn every_mistake_is_told_and_says_what_would_be_right() {
    for (service, wanted) in [
        (json!({"enviroment": {}}), "did you mean `environment`"),
        (json!({"build": "."}), "build in CI"),
        (json!({"profiles": "x"}), "must be a list"),
        (json!({"configs": [{"target": "/x"}]}), "need a `source`"),
        (
            json!({"configs": [{"source": "c", "mode": "0999"}]}),
            "not a mode",
        ),
        (
            json!({"secrets": ["s", {"source": "t", "target": "s"}]}),
            "two mounts at `/run/secrets/s`",
        ),
        (
            json!({"configs": [{"source": "c", "target": "/x"}], "volumes": ["/a:/x"]}),
            "two mounts at `/x`",
        ),
        (
            json!({"scale": 2, "ports": ["80:80"]}),
            "which only one of them could take",
        ),
        (
            json!({"deploy": {"replicas": 3}, "container_name": "one"}),
            "`container_name`",
        ),
        (
            json!({"scale": 2, "deploy": {"replicas": 3}}),
            "different things",
        ),
        (json!({"scale": -1}), "out of range"),
        (
            json!({"restart": "always", "deploy": {"restart_policy": {"condition": "none"}}}),
            "different things",
        ),
        (
            json!({"deploy": {"resources": {"reservations": {"cpus": "0.5"}}}}),
            "`cpu_shares`",
        ),
        (json!({"gpus": "some"}), "write `all`"),
        (
            json!({"gpus": [{"count": 1, "device_ids": ["0"]}]}),
            "not both",
        ),
        (json!({"gpus": [{"capabilities": ["tpu"]}]}), "`devices`"),
        (json!({"cpuset": "a"}), "not a set of CPUs"),
        (json!({"mem_swappiness": 101}), "from 0 to 100"),
        (
            json!({"network_mode": "service:x", "ports": ["80:80"]}),
            "on the service whose network",
        ),
        (json!({"deploy": {"placement": {}}}), "not supported"),
        (
            json!({"deploy": {"update_config": {"order": "newest-first"}}}),
            "stop-first, start-first, recreate",
        ),
        (
            json!({"ports": ["8080:80"], "deploy": {"update_config": {"order": "start-first"}}}),
            "publishes port 8080 of the host",
        ),
        (
            json!({"container_name": "web", "deploy": {"update_config": {"order": "start-first"}}}),
            "the fixed name `web`",
        ),
        (
            json!({"network_mode": "host", "deploy": {"update_config": {"order": "start-first"}}}),
            "the host's network",
        ),
        (
            json!({"networks": {"default": {"ipv4_address": "10.0.0.7"}},
                   "deploy": {"update_config": {"order": "start-first"}}}),
            "the fixed address 10.0.0.7",
        ),
        (json!({"volumes": ["./x:/y"]}), "[[files]]"),
        (json!({"volumes": ["~/x:/y"]}), "relative"),
        (
            json!({"volumes": ["/x:y"]}),
            "not an absolute path in the container",
        ),
        (json!({"volumes": ["/:/host"]}), "whole device"),
        (json!({"volumes": ["/a/../b:/x"]}), ".."),
        (
            json!({"volumes": ["/a:/x", "/b:/x/"]}),
            "two mounts at `/x`",
        ),
        (
            json!({"volumes": [{"type": "bind", "target": "/x"}]}),
            "needs a `source`",
        ),
        (
            json!({"volumes": [{"type": "npipe", "target": "/x"}]}),
            "bind, volume, tmpfs",
        ),
        (json!({"ports": ["80:http"]}), "not a port mapping"),
        (json!({"ports": ["70000:80"]}), "not a port mapping"),
        (json!({"ports": ["8000-9000:80"]}), "one host port"),
        (json!({"ports": ["80:80/icmp"]}), "tcp, udp or sctp"),
        (json!({"ports": ["80:80", "80:81"]}), "published twice"),
        (json!({"ports": "80:80"}), "must be a list"),
        (json!({"environment": ["HOME"]}), "has no value"),
        (json!({"environment": {"A=B": "c"}}), "not a name"),
        (json!({"labels": {"dev.evenkeel.app": "x"}}), "reserved"),
        (
            json!({"labels": ["com.docker.compose.project=x"]}),
            "reserved",
        ),
        (json!({"network_mode": "service:a b"}), "not"),
        (json!({"pid": "container:-"}), "not a name"),
        (json!({"network_mode": "host", "networks": ["a"]}), "both"),
        (
            json!({"network_mode": "host", "ports": ["1:1"]}),
            "leave `ports` out",
        ),
        (json!({"mem_limit": "64q"}), "not a size"),
        (json!({"mem_limit": "1m"}), "at least 6m"),
        (
            json!({"mem_limit": "64m", "deploy": {"resources": {"limits": {"memory": "32m"}}}}),
            "different things",
        ),
        (json!({"restart": "sometimes"}), "not a restart policy"),
        (json!({"healthcheck": {"test": ["true"]}}), "CMD-SHELL"),
        (json!({"healthcheck": {"interval": 5}}), "not a duration"),
        (json!({"stop_grace_period": "-1s"}), "not a duration"),
        (json!({"command": "echo 'x"}), "not closed"),
        (json!({"privileged": "maybe"}), "true or false"),
        (json!({"extra_hosts": ["x"]}), "no address"),
        (json!({"hostname": "a b"}), "not a host name"),
        (json!({"container_name": "-x"}), "not a name"),
        (
            json!({"depends_on": {"a": {"condition": "service_happy"}}}),
            "service_healthy",
        ),
    ] {
        let found = problems(service.clone());
        assert!(
            found.iter().any(|problem| problem.contains(wanted)),
            "{service}: wanted {wanted:?}, found {found:#?}"
        );
    }
}

#[test]
fn several_mistakes_are_told_in_one_round() {
    assert_eq!(
        problems(json!({"ports": ["x:y"], "restart": "z", "nope": 1, "volumes": ["a/b:/c"]})).len(),
        4
    );
}

#[test]
fn what_services_name_must_be_declared() {
    let mut out = Diagnostics::new();
    decode_compose(
        &node(&json!({"services": {
            "a": with_image(json!({"depends_on": ["b"], "volumes": ["data:/d"], "networks": ["back"]})),
            "b": with_image(json!({"depends_on": ["a"]})),
            "c": with_image(json!({"depends_on": ["nobody"]})),
        }, "x-anything": {}, "version": "3"})),
        &mut out,
    );
    let text = out.to_string();
    for wanted in [
        "volume `data`",
        "network `back`",
        "`a` depends on itself",
        "`nobody`",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn an_external_network_takes_no_settings() {
    let mut out = Diagnostics::new();
    let networks = decode_networks(
        &node(
            &json!({"a": {"external": true, "internal": true}, "b": {"external": true, "name": "lan"}, "c": null}),
        ),
        &mut out,
    );
    assert_eq!(out.len(), 1, "{out}");
    assert_eq!(networks.len(), 3);
}

#[test]
fn what_is_said_in_two_ways_is_one() {
    let of = |service: Json| decoded(service);
    let one = of(json!({"scale": 1, "deploy": {"replicas": 1, "mode": "replicated"}}));
    assert_eq!(one, of(json!({})));
    let two = of(json!({"deploy": {"replicas": 2}}));
    assert_eq!(two, of(json!({"scale": 2})));
    let restarts =
        of(json!({"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 3}}}));
    assert_eq!(restarts, of(json!({"restart": "on-failure:3"})));
    let gpu = of(
        json!({"deploy": {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}}}),
    );
    let wanted: Vec<_> = gpu
        .all_gpus()
        .map(|gpu| (gpu.wanted(), gpu.able()))
        .collect();
    assert_eq!(wanted, [(Some(-1), vec!["gpu".to_owned()])]);
}

#[test]
fn who_lives_in_anothers_namespace_depends_on_it() {
    let service = decoded(json!({"network_mode": "service:vpn", "pid": "service:vpn"}));
    let dependency = &service.depends_on[&"vpn".parse().unwrap()];
    assert!(dependency.restart && dependency.required);
    assert!(service.networks.is_empty());
    assert_eq!(print::compose_json(&service)["network_mode"], "service:vpn");
}

#[test]
fn every_supported_key_is_read() {
    for key in known_keys().iter().filter(|key| key.refused.is_none()) {
        // A table is wrong for some keys, and right for others: only "not supported" must never be the answer.
        for value in [json!({}), json!("1"), json!([])] {
            let found = problems(json!({ key.name: value }));
            assert!(
                !found
                    .iter()
                    .any(|problem| problem.contains("not supported by this version")),
                "{}: {found:?}",
                key.name
            );
        }
    }
}

proptest! {
    #[test]
    fn a_duration_reads_back_as_it_was_printed(nanos in 0..i64::MAX as u64) {
        let duration = std::time::Duration::from_nanos(nanos);
        prop_assert_eq!(units::duration(&units::print_duration(duration)), Ok(duration));
    }

    #[test]
    fn a_cpu_limit_survives_its_json(nano in 0..1_u64 << 50) {
        let mut service = Service::new(image().parse().unwrap());
        service.nano_cpus = Some(nano);
        let text = serde_json::to_string(&service).unwrap();
        prop_assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service);
    }

    #[test]
    fn no_text_makes_decoding_panic(text in "\\PC{0,40}", key in 0..known_keys().len()) {
        problems(json!({ known_keys()[key].name: text.clone() }));
        problems(json!({ known_keys()[key].name: [text] }));
    }
}
