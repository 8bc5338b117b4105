#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use evenkeel_schema::service::Mount;

use super::*;
use crate::domain::tree::Document;

const DIGEST: &str = "registry.example.com/mosquitto@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

pub(super) fn tree(documents: &[(&str, &str)]) -> Tree {
    Tree {
        documents: documents
            .iter()
            .map(|(path, text)| {
                let text = text.replace("IMAGE", DIGEST);
                ((*path).to_owned(), Document::File(text.into_bytes()))
            })
            .collect(),
    }
}

fn device() -> DeviceId {
    "gw-1".parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn both(tree: &Tree, own: &[(&str, &str)]) -> Result<Resolved, Vec<String>> {
    let lines = |out: Diagnostics| out.sorted().iter().map(ToString::to_string).collect();
    let selection = apps_of(&device(), &labels(own), tree).map_err(lines)?;
    resolve(&selection, tree).map_err(lines)
}

const FLEET_TOML: (&str, &str) = (
    "fleet.toml",
    "format = 1\nname = 'acme'\n[values]\ntz = 'Europe/Vienna'\nmqtt.port = 1883\nlist = [1, 2]\n",
);
const ALL: (&str, &str) = ("groups/all.toml", "match = 'all'\napps = ['mqtt']\n");

/// One app of this text, run by every device.
fn app(text: &str) -> Tree {
    tree(&[FLEET_TOML, ALL, ("apps/mqtt/app.toml", text)])
}

fn problems(tree: &Tree) -> Vec<String> {
    both(tree, &[]).unwrap_err()
}

fn one_problem(tree: &Tree) -> String {
    let problems = problems(tree);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].clone()
}

#[test]
fn the_whole_of_an_app_comes_out_as_declared() {
    let tree = tree(&[
        FLEET_TOML,
        (
            "groups/plant-a.toml",
            "apps = ['mqtt']\n[match]\nsite = 'plant-a'\nrole = ['gateway', 'kiosk']\n[values]\nmqtt.port = 1884\n",
        ),
        (
            "groups/plant-b.toml",
            "match = { site = 'plant-b' }\napps = ['nope']\n",
        ),
        (
            "devices/gw-1.toml",
            "labels = { site = 'plant-a' }\n[values]\ntz = 'UTC'\nlist = [3]\n",
        ),
        (
            "apps/mqtt/mosquitto.conf",
            "listener {{ values.mqtt.port }}\nname {{ device.id }}\n",
        ),
        (
            "apps/mqtt/app.toml",
            r#"
[[files]]
path = "/etc/mosquitto/mosquitto.conf"
source = "mosquitto.conf"
template = true
mode = "0640"
on_change = ["restart:service:broker"]
[services.broker]
image = "IMAGE"
ports = ["{{ values.mqtt.port }}:1883"]
volumes = ["/etc/mosquitto:/mosquitto/config:ro", "data:/mosquitto/data"]
environment = { TZ = "{{ values.tz }}" }
[volumes.data]
[[checks]]
tcp = "127.0.0.1:{{ values.mqtt.port }}"
[gate]
soak = "30s"
"#,
        ),
    ]);
    let resolved = both(&tree, &[("site", "plant-b"), ("role", "kiosk")]).unwrap();
    let app = &resolved.state.apps[&"mqtt".parse().unwrap()];
    let file = &app.files[&"/etc/mosquitto/mosquitto.conf".parse().unwrap()];
    assert_eq!(
        resolved.contents[&file.content],
        b"listener 1884\nname gw-1\n"
    );
    assert_eq!(file.mode, 0o640);
    let broker = &app.services[&"broker".parse().unwrap()];
    assert_eq!(broker.ports[0].published, Some(1884));
    assert_eq!(broker.environment["TZ"], "UTC");
    assert!(matches!(broker.volumes[1], Mount::Volume { .. }));
    assert_eq!(app.gate.soak, std::time::Duration::from_secs(30));
    assert_eq!(resolved.state.fleet, "acme");
    let shown = render::json(&resolved, None);
    assert_eq!(
        shown["apps"][0]["files"][0]["content"],
        "listener 1884\nname gw-1\n"
    );
    assert_eq!(shown["apps"][0]["services"]["broker"]["image"], DIGEST);
    assert_eq!(
        shown["apps"][0]["networks"]["default"]["name"],
        "mqtt_default"
    );
}

#[test]
fn apps_add_up_and_can_be_taken_away() {
    let tree = tree(&[
        FLEET_TOML,
        ("groups/a.toml", "match = 'all'\napps = ['one', 'two']\n"),
        ("groups/b.toml", "match = { x = 1 }\napps = ['three']\n"),
        (
            "devices/gw-1.toml",
            "apps = ['four']\nwithout_apps = ['two']\n",
        ),
    ]);
    let names = |own: &[(&str, &str)]| -> Vec<String> {
        apps_of(&device(), &labels(own), &tree)
            .unwrap()
            .apps
            .keys()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(names(&[]), ["four", "one"]);
    assert_eq!(names(&[("x", "1")]), ["four", "one", "three"]);
}

#[test]
fn an_unknown_app_is_told_where_it_is_named() {
    let problem = one_problem(&tree(&[FLEET_TOML, ALL]));
    assert!(
        problem.starts_with("groups/all.toml:2:9: there is no app `mqtt`"),
        "{problem}"
    );
}

#[test]
fn a_missing_fleet_document_and_bad_groups_are_told() {
    assert!(problems(&tree(&[ALL]))[0].starts_with("fleet.toml: this file is missing"));
    let problems = problems(&tree(&[
        FLEET_TOML,
        ("groups/a b.toml", "match = 'all'\n"),
        ("groups/c/d.toml", "match = 'all'\n"),
        ("groups/e.toml", "match = 'some'\nappz = []\n"),
        ("devices/gw-1.toml", "lables = {}\n"),
    ]));
    assert_eq!(problems.len(), 5, "{problems:#?}");
}

#[test]
fn an_image_must_be_pinned_unless_the_fleet_allows_tags() {
    let text = "[services.a]\nimage = 'busybox:1.36'\n";
    let problem = one_problem(&app(text));
    assert!(
        problem.starts_with("apps/mqtt/app.toml:2:9: `busybox:1.36` is not pinned"),
        "{problem}"
    );
    let allowing = tree(&[
        ("fleet.toml", "format = 1\nname = 'a'\nallow_tags = true\n"),
        ALL,
        ("apps/mqtt/app.toml", text),
    ]);
    both(&allowing, &[]).unwrap();
}

#[test]
fn template_errors_are_told_in_the_document_they_stand_in() {
    let tree = tree(&[
        FLEET_TOML,
        ALL,
        (
            "apps/mqtt/app.toml",
            "[[files]]\npath = '/etc/a'\nsource = 'a'\ntemplate = true\n[services.a]\nimage = 'IMAGE'\nports = ['{{ values.prot }}:1']\nhostname = '{{ secrets.x }}'\n",
        ),
        ("apps/mqtt/a", "x\n y {{ values.nope }}\n"),
    ]);
    let problems = problems(&tree);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(
        problems[0].starts_with("apps/mqtt/a:2:7: `values.nope` is not defined"),
        "{problems:#?}"
    );
    assert!(
        problems[1].starts_with("apps/mqtt/app.toml:7:10: `values.prot` is not defined"),
        "{problems:#?}"
    );
    assert!(
        problems[2].contains("secrets are not supported"),
        "{problems:#?}"
    );
}

#[test]
fn a_value_cannot_change_the_structure() {
    let tree = tree(&[
        (
            "fleet.toml",
            "format = 1\nname = 'a'\n[values]\nx = \"a'\\nprivileged = true\\n[services.evil]\\n{{ 1 }} ${X}\"\n",
        ),
        ALL,
        (
            "apps/mqtt/app.toml",
            "[services.a]\nimage = 'IMAGE'\nhostname = 'a'\nenvironment = { X = '{{ values.x }}' }\n",
        ),
    ]);
    let resolved = both(&tree, &[]).unwrap();
    let app = &resolved.state.apps[&"mqtt".parse().unwrap()];
    assert_eq!(app.services.len(), 1);
    let service = &app.services[&"a".parse().unwrap()];
    assert!(!service.privileged);
    assert_eq!(
        service.environment["X"],
        "a'\nprivileged = true\n[services.evil]\n{{ 1 }} ${X}"
    );
}

#[test]
fn compose_is_filled_from_values_labels_and_the_device() {
    let tree = tree(&[
        FLEET_TOML,
        ALL,
        ("apps/mqtt/app.toml", "[gate]\nsoak = '5s'\n"),
        (
            "apps/mqtt/compose.yaml",
            "name: other\nservices:\n  broker:\n    image: IMAGE\n    ports: [\"${MQTT_PORT}:1883\"]\n    environment:\n      - ID=${DEVICE_ID}\n      - SITE=${LABEL_SITE_NAME:-none}\n      - PROJECT=$COMPOSE_PROJECT_NAME\n      - D=$$x\n",
        ),
    ]);
    let resolved = both(&tree, &[("site.name", "plant-a")]).unwrap();
    let app = &resolved.state.apps[&"mqtt".parse().unwrap()];
    let broker = &app.services[&"broker".parse().unwrap()];
    assert_eq!(broker.ports[0].published, Some(1883));
    let environment: Vec<(&str, &str)> = broker
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        environment,
        [
            ("D", "$x"),
            ("ID", "gw-1"),
            ("PROJECT", "mqtt"),
            ("SITE", "plant-a")
        ]
    );
}

#[test]
fn compose_problems_are_told_at_their_place() {
    let with = |fleet: &'static str, compose: &'static str| {
        tree(&[
            ("fleet.toml", fleet),
            ALL,
            ("apps/mqtt/compose.yaml", compose),
        ])
    };
    let fleet = "format = 1\nname = 'a'\n[values]\nlist = [1]\n";
    let problem = one_problem(&with(
        fleet,
        "services:\n  a:\n    image: IMAGE\n    hostname: ${NOPE}\n",
    ));
    assert!(
        problem.starts_with("apps/mqtt/compose.yaml:4:15: `${NOPE}` is not set"),
        "{problem}"
    );
    let problem = one_problem(&with(
        fleet,
        "services:\n  a:\n    image: IMAGE\n    hostname: ${LIST}\n",
    ));
    assert!(problem.contains("a list"), "{problem}");
    let clash = "format = 1\nname = 'a'\n[values]\nmqtt_port = 1\nmqtt.port = 2\n";
    let problem = one_problem(&with(clash, "services:\n  a:\n    image: IMAGE\n"));
    assert!(problem.starts_with("fleet.toml:5:13: "), "{problem}");
    assert!(problem.contains("`${MQTT_PORT}`"), "{problem}");
    let clash = "format = 1\nname = 'a'\n[values]\ndevice.id = 1\n";
    assert!(one_problem(&with(clash, "services:\n  a:\n    image: IMAGE\n")).contains("DEVICE_ID"));
}

#[test]
fn services_are_declared_in_one_place() {
    let problem = one_problem(&tree(&[
        FLEET_TOML,
        ALL,
        ("apps/mqtt/app.toml", "[services.a]\nimage = 'IMAGE'\n"),
        (
            "apps/mqtt/compose.yaml",
            "services:\n  b:\n    image: IMAGE\n",
        ),
    ]));
    assert!(problem.starts_with("apps/mqtt/app.toml:1:"), "{problem}");
    assert!(problem.contains("compose.yaml"), "{problem}");
}

#[test]
fn a_source_stays_in_its_folder_and_is_a_file() {
    let mut tree = app(
        "[[files]]\npath = '/a'\nsource = '../other/x'\n[[files]]\npath = '/b'\nsource = 'conf'\n[[files]]\npath = '/c'\nsource = 'link'\n[[files]]\npath = '/d'\nsource = 'dir/x'\n[[files]]\npath = '/e'\nsource = 'cnf.txt'\n[[files]]\npath = '/f'\nsource = '/etc/passwd'\n",
    );
    for (path, document) in [
        ("apps/mqtt/conf/x", Document::File(Vec::new())),
        ("apps/mqtt/conf.txt", Document::File(Vec::new())),
        (
            "apps/mqtt/link",
            Document::Symlink("/etc/shadow".to_owned()),
        ),
        ("apps/mqtt/dir", Document::Symlink("/etc".to_owned())),
    ] {
        tree.documents.insert(path.to_owned(), document);
    }
    let problems = problems(&tree);
    let expected = [
        ("3:10", "plain path"),
        ("6:10", "is a folder"),
        ("9:10", "symbolic link is not followed"),
        ("12:10", "symbolic link is not followed"),
        ("15:10", "did you mean `conf.txt`?"),
        ("18:10", "relative"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (at, part)) in problems.iter().zip(expected) {
        assert!(
            problem.starts_with(&format!("apps/mqtt/app.toml:{at}: ")),
            "{problem}"
        );
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn a_linked_document_is_an_error() {
    for path in [
        "fleet.toml",
        "groups",
        "groups/all.toml",
        "apps/mqtt/app.toml",
        "apps/mqtt",
        "apps",
    ] {
        let mut tree = app("");
        tree.documents
            .retain(|known, _| known != path && !known.starts_with(&format!("{path}/")));
        tree.documents
            .insert(path.to_owned(), Document::Symlink("x".to_owned()));
        let problems = problems(&tree);
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("symbolic link is not followed")),
            "{path}: {problems:?}"
        );
    }
}

#[test]
fn one_path_one_port_and_one_name_have_one_owner() {
    let tree = tree(&[
        ("fleet.toml", "format = 1\nname = 'a'\n"),
        (
            "groups/all.toml",
            "match = 'all'\napps = ['a', 'a-b', 'c']\n",
        ),
        (
            "apps/a/app.toml",
            "[[files]]\npath = '/etc/x'\ncontent = ''\n[services.b-c]\nimage = 'IMAGE'\nports = ['80:80', '127.0.0.1:90:90', '53:53/udp']\n",
        ),
        (
            "apps/a-b/app.toml",
            "[[files]]\npath = '/etc/x'\ncontent = ''\n[services.c]\nimage = 'IMAGE'\nports = ['127.0.0.1:80:1', '127.0.0.2:90:90', '53:53/tcp']\n",
        ),
        (
            "apps/c/app.toml",
            "[[files]]\npath = '/etc/x/y'\ncontent = ''\n[[files]]\npath = '/etc/xy'\ncontent = ''\n",
        ),
    ]);
    let problems = problems(&tree);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(
        problems[0].contains("`/etc/x` belongs to the app `a` already (apps/a/app.toml:2:8)"),
        "{problems:#?}"
    );
    assert!(
        problems[1].contains("both be the container `a-b-c-1`"),
        "{problems:#?}"
    );
    assert!(problems[2].contains("port 80/tcp"), "{problems:#?}");
    assert!(
        problems[3].starts_with("apps/c/app.toml:2:8: `/etc/x/y` of the app `c` is below `/etc/x`"),
        "{problems:#?}"
    );
}

#[test]
fn what_is_named_must_be_declared() {
    let problems = problems(&app(
        "[[files]]\npath = '/a'\ncontent = ''\non_change = ['restart:service:nope']\n[services.a]\nimage = 'IMAGE'\ndepends_on = ['b']\nvolumes = ['data:/x']\nnetworks = ['lan']\n[services.c]\nimage = 'IMAGE'\ndepends_on = ['d']\n[services.d]\nimage = 'IMAGE'\ndepends_on = ['c']\n",
    ));
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.starts_with("apps/mqtt/app.toml:")),
        "{problems:#?}"
    );
}

#[test]
fn equal_meaning_gives_equal_states() {
    let one = app(
        "[gate]\nsoak = '60s'\n[services.b]\nimage = 'IMAGE'\nenvironment = ['A=1', 'B=2']\n[services.a]\nimage = 'IMAGE'\n[[files]]\npath = '/b'\ncontent = 'x'\nmode = '644'\n[[files]]\npath = '/a'\ncontent = ''\n",
    );
    let other = app(
        "[[files]]\npath = '/a'\nowner = 'root'\ncontent = \"\"\n[[files]]\npath = '/b'\nmode = '0644'\ncontent = \"x\"\n[services.a]\nimage = 'IMAGE'\n[services.b]\nimage = 'IMAGE'\nenvironment = { B = 2, A = 1 }\n[gate]\nsoak = '1m'\n",
    );
    let (one, other) = (both(&one, &[]).unwrap(), both(&other, &[]).unwrap());
    assert_eq!(one, other);
    assert_eq!(one.state.content_id(), other.state.content_id());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn a_value_of_any_text_arrives_as_it_is_and_changes_nothing_else(text in "[ -~\n\"'{}%$\\[\\]=äöü]{0,60}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let fleet = format!("format = 1\nname = 'a'\n[values]\nx = {quoted}\n");
        let tree = tree(&[
            ("fleet.toml", &fleet),
            ALL,
            ("apps/mqtt/app.toml", "[[files]]\npath = '/a'\ncontent = '{{ values.x }}'\n[[files]]\npath = '/b'\nsource = 'b'\ntemplate = true\n[services.a]\nimage = 'IMAGE'\nenvironment = { X = '{{ values.x }}' }\n"),
            ("apps/mqtt/b", "<{{ values.x }}>"),
        ]);
        let resolved = both(&tree, &[]).unwrap();
        let app = &resolved.state.apps[&"mqtt".parse().unwrap()];
        proptest::prop_assert_eq!(app.services.len(), 1);
        proptest::prop_assert_eq!(&app.services[&"a".parse().unwrap()].environment["X"], &text);
        let a = &app.files[&"/a".parse().unwrap()];
        proptest::prop_assert_eq!(&resolved.contents[&a.content], text.as_bytes());
        let b = &app.files[&"/b".parse().unwrap()];
        let framed = format!("<{text}>");
        proptest::prop_assert_eq!(&resolved.contents[&b.content], framed.as_bytes());
    }
}

#[test]
fn lint_judges_what_no_device_reads() {
    let (judged, problems) = lint::lint(&tree(&[
        FLEET_TOML,
        (
            "groups/a.toml",
            "match = { site = ['x', 'y'] }\napps = ['mqtt', 'mqt']\n",
        ),
        ("devices/gw-1.toml", "without_apps = ['nope']\n"),
        ("devices/gw-2.toml", "oops = 1\n"),
        (
            "apps/mqtt/app.toml",
            "[[files]]\npath = '/a'\nsource = 'missing'\n",
        ),
        (
            "apps/unused/app.toml",
            "[gaet]\n[[files]]\npath = 'x'\ncontent = ''\n",
        ),
        (
            "apps/templated/app.toml",
            "flies = []\n[[files]]\npath = '{{ values.nope }}'\ncontent = ''\n",
        ),
    ]));
    assert_eq!((judged.devices, judged.groups, judged.apps), (2, 1, 3));
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for start in [
        "apps/mqtt/app.toml:3:10: there is no file",
        "apps/templated/app.toml:1:1: unknown key `flies`",
        "apps/unused/app.toml:1:2: unknown key `gaet`",
        "apps/unused/app.toml:3:8: `x` is not an absolute path",
        "devices/gw-1.toml:1:17: there is no app `nope`",
        "devices/gw-2.toml:1:1: unknown key `oops`",
        "groups/a.toml:2:17: there is no app `mqt` (help: did you mean `mqtt`?)",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{start}: {lines:#?}"
        );
    }
    assert_eq!(lines.len(), 7, "{lines:#?}");
}

#[test]
fn two_devices_with_one_machine_id_are_an_error() {
    let devices = |first: &str, second: &str| {
        let tree = tree(&[
            FLEET_TOML,
            ("devices/a.toml", first),
            ("devices/b.toml", second),
        ]);
        let (_, problems) = lint::lint(&tree);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let one = "machine_id = '3d1219c7c4c5404aaa1f6d2a48adfda4'\n";
    let other = "machine_id = '3d1219c7c4c5404aaa1f6d2a48adfda5'\n";
    assert_eq!(devices(one, other), [""; 0]);
    assert_eq!(devices(one, ""), [""; 0]);
    let problems = devices(one, one);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("devices/b.toml:1:14") && problems[0].contains("devices/a.toml:1:14"),
        "{}",
        problems[0]
    );
}
