use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::domain::desired::Resolved;
use crate::domain::tree::Tree;
use crate::resolve::{apps_of, render, resolve};

const FLEET: &str =
    "format = 1\nname = 'a'\nallow_tags = true\n[values]\nmqtt.port = 1883\ntoken = 'pa$$'\n";

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut documents = vec![
        ("fleet.toml".to_owned(), FLEET),
        (
            "groups/all.toml".to_owned(),
            "match = 'all'\napps = ['app']\n",
        ),
    ];
    documents.extend(files.iter().map(|(path, text)| {
        let path = if path.starts_with("groups/") {
            (*path).to_owned()
        } else {
            format!("apps/app/{path}")
        };
        (path, *text)
    }));
    crate::resolve::tests::tree(
        &documents
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect::<Vec<_>>(),
    )
}

fn resolved(files: &[(&str, &str)]) -> Result<Resolved, Vec<String>> {
    let tree = tree(files);
    let lines = |out: evenkeel_schema::diagnostic::Diagnostics| -> Vec<String> {
        out.sorted().iter().map(ToString::to_string).collect()
    };
    let selection = apps_of(&"gw-1".parse().unwrap(), &BTreeMap::new(), &tree).map_err(lines)?;
    resolve(&selection, &tree).map_err(lines)
}

/// The services as they are shown.
fn services(files: &[(&str, &str)]) -> Json {
    let resolved = resolved(files).unwrap();
    render::json(&resolved, None)["apps"][0]["services"].clone()
}

fn problem(files: &[(&str, &str)]) -> String {
    let problems = resolved(files).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].clone()
}

#[test]
fn variables_come_from_files_under_values_and_own_ones_win() {
    let shown = services(&[
        (
            "compose.yaml",
            "services:\n  a:\n    image: x:1\n    env_file: [one.env, {path: sub/two.env, format: raw}, {path: no.env, required: false}]\n    \
             label_file: labels.env\n    labels: {l: own}\n    environment:\n      - OWN=1\n      - MQTT_PORT\n      - B=own\n",
        ),
        ("one.env", "A=1\nB=2\nC=${MQTT_PORT}\nD=${FROM_DOT_ENV}\n"),
        ("sub/two.env", "A=$raw\nE='q'\n"),
        ("labels.env", "l=file\nm=file\n"),
        (".env", "FROM_DOT_ENV=dot\nMQTT_PORT=9\n"),
    ]);
    assert_eq!(
        shown["a"]["environment"],
        json!({"OWN": "1", "MQTT_PORT": "1883", "A": "$raw", "B": "own", "C": "1883", "D": "dot", "E": "'q'"})
    );
    assert_eq!(shown["a"]["labels"], json!({"l": "own", "m": "file"}));
}

#[test]
fn app_toml_reads_the_same_files() {
    let shown = services(&[
        (
            "app.toml",
            "[services.a]\nextends = { file = 'base.yaml', service = 'base' }\nenv_file = 'one.env'\ncommand = ['b']\n\
             [services.b]\nextends = 'a'\nports = ['81:80']\n",
        ),
        (
            "base.yaml",
            "services:\n  base:\n    image: ${NAME:-x}:1\n    command: [a]\n    environment: {A: base, Z: base}\n    cap_add: [A]\n",
        ),
        ("one.env", "A=file\n"),
    ]);
    // What a service extends is its own, and its own variables win over a file's.
    assert_eq!(shown["a"]["environment"], json!({"A": "base", "Z": "base"}));
    assert_eq!(shown["a"]["command"], json!(["b"]));
    assert_eq!(shown["b"]["image"], "x:1");
    assert_eq!(shown["b"]["ports"][0]["published"], "81");
    assert_eq!(shown["b"]["cap_add"], json!(["A"]));
}

#[test]
fn a_file_reads_below_its_own_folder_and_never_outside_the_apps() {
    let shown = services(&[
        (
            "compose.yaml",
            "include: [sub/more.yaml]\nservices:\n  a:\n    image: x:1\n    depends_on: [b]\n",
        ),
        (
            "sub/more.yaml",
            "services:\n  b:\n    image: x:${TAG}\n    env_file: b.env\n    extends: {file: ../common/c.yaml, service: c}\n",
        ),
        ("sub/b.env", "B=1\n"),
        ("sub/.env", "TAG=7\n"),
        ("common/c.yaml", "services:\n  c:\n    init: true\n"),
    ]);
    assert_eq!(shown["b"]["image"], "x:7");
    assert_eq!(shown["b"]["init"], true);
    assert_eq!(shown["b"]["environment"], json!({"B": "1"}));
    for named in ["../other/x.yaml", "/etc/x.yaml", "sub/../../other/x.yaml"] {
        let text = format!("include: ['{named}']\nservices: {{a: {{image: 'x:1'}}}}\n");
        let told = problem(&[("compose.yaml", &text)]);
        assert!(told.contains("is not in the app's folder"), "{told}");
    }
    let told = problem(&[(
        "compose.yaml",
        "include: [compsoe.yaml]\nservices: {a: {image: 'x:1'}}\n",
    )]);
    assert!(
        told.contains("there is no file `apps/app/compsoe.yaml`"),
        "{told}"
    );
}

#[test]
fn what_goes_in_circles_or_differs_is_an_error() {
    let me = "include: [compose.yaml]\nservices: {a: {image: 'x:1'}}\n";
    assert!(problem(&[("compose.yaml", me)]).contains("by itself"));
    let loops = "services:\n  a: {image: 'x:1', extends: b}\n  b: {image: 'x:1', extends: a}\n";
    let problems = resolved(&[("compose.yaml", loops)]).unwrap_err();
    assert!(
        problems.iter().all(|line| line.contains("extends itself")),
        "{problems:?}"
    );
    let other = "services:\n  a: {image: 'x:2'}\n";
    let told = problem(&[
        (
            "compose.yaml",
            "include: [o.yaml]\nservices: {a: {image: 'x:1'}}\n",
        ),
        ("o.yaml", other),
    ]);
    assert!(told.contains("apps/app/compose.yaml:2 too"), "{told}");
    let told = problem(&[(
        "compose.yaml",
        "services: {a: {image: 'x:1', extends: z}}\n",
    )]);
    assert!(told.contains("`z`"), "{told}");
}

#[test]
fn profiles_are_those_that_the_values_name() {
    let compose = "services:\n  a: {image: 'x:1'}\n  b: {image: 'x:1', profiles: [debug]}\n  c: {image: 'x:1', profiles: [more, debug]}\n";
    let names = |value: &str| -> Vec<String> {
        let group = format!("match = 'all'\n[values]\n{value}\n");
        let shown = services(&[("compose.yaml", compose), ("groups/z.toml", &group)]);
        shown.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(""), ["a"]);
    assert_eq!(names("compose_profiles = 'debug'"), ["a", "b", "c"]);
    assert_eq!(names("compose_profiles = 'x, more'"), ["a", "c"]);
    assert_eq!(names("compose_profiles = ['more']"), ["a", "c"]);
    assert_eq!(names("compose_profiles = '*'"), ["a", "b", "c"]);
    let needs =
        "services:\n  a: {image: 'x:1', depends_on: [b]}\n  b: {image: 'x:1', profiles: [debug]}\n";
    let told = problem(&[("compose.yaml", needs)]);
    assert!(
        told.contains("profile debug") && told.contains("compose_profiles"),
        "{told}"
    );
    let may = "services:\n  a: {image: 'x:1', depends_on: {b: {condition: service_started, required: false}}}\n  b: {image: 'x:1', profiles: [debug]}\n";
    assert!(services(&[("compose.yaml", may)])["a"]["depends_on"].is_null());
}

#[test]
fn configs_and_secrets_are_files_with_their_own_mode_and_owner() {
    let files = [
        (
            "compose.yaml",
            "services:\n  a:\n    image: x:1\n    configs: [c, {source: t, target: /etc/t, mode: 0440, uid: '5'}]\n    secrets: [s, {source: e, target: e2}]\n\
             configs:\n  c: {file: ./conf/c.conf}\n  t: {content: 'port ${MQTT_PORT}'}\n\
             secrets:\n  s: {file: key}\n  e: {environment: TOKEN}\n",
        ),
        ("conf/c.conf", "hello\n"),
        ("key", "k"),
    ];
    let done = resolved(&files).unwrap();
    let shown = render::json(&done, None);
    let app = &shown["apps"][0];
    let found: Vec<(Json, Json, Json, Json)> = app["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            (
                file["path"].clone(),
                file["mode"].clone(),
                file["owner"].clone(),
                file["content"].clone(),
            )
        })
        .collect();
    let base = "/var/lib/evenkeel-files/app";
    assert_eq!(
        json!(found),
        json!([
            [format!("{base}/configs/a/c"), "0444", "root", "hello\n"],
            [format!("{base}/configs/a/t"), "0440", "5", "port 1883"],
            [format!("{base}/secrets/a/e"), "0444", "root", null],
            [format!("{base}/secrets/a/s"), "0444", "root", null],
        ])
    );
    assert_eq!(
        app["services"]["a"]["secrets"][1]["target"],
        "/run/secrets/e2"
    );
    let values: Vec<String> = done
        .contents
        .values()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect();
    assert!(values.contains(&"pa$$".to_owned()), "{values:?}");

    // Its content is part of what the container is.
    let id = crate::domain::resource::ServiceId {
        app: "app".parse().unwrap(),
        service: "a".parse().unwrap(),
    };
    let of = |done: &Resolved| crate::plan::container::spec(&done.state, &id).unwrap();
    let mut changed = files;
    changed[2].1 = "other";
    let (before, after) = (of(&done), of(&resolved(&changed).unwrap()));
    assert_ne!(before.config, after.config);
    assert_eq!(before.files, after.files);

    let other = "[[files]]\npath = '/var/lib/evenkeel-files/x'\ncontent = ''\n";
    assert!(problem(&[("app.toml", other)]).contains("where evenkeel puts"));
    let unknown = "services: {a: {image: 'x:1', secrets: [no]}}\n";
    assert!(problem(&[("compose.yaml", unknown)]).contains("not declared"));
}

#[test]
fn several_containers_are_several_services_and_none_is_none() {
    let compose = "services:\n  a: {image: 'x:1', scale: 3}\n  b: {image: 'x:1', depends_on: [a]}\n  c: {image: 'x:1', scale: 0}\n";
    let done = resolved(&[("compose.yaml", compose)]).unwrap();
    let app = done.state.apps.values().next().unwrap();
    let names: Vec<&str> = app.services.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["a", "a-2", "a-3", "b"]);
    let needed: Vec<&str> = app.services[&"b".parse().unwrap()]
        .depends_on
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(needed, ["a", "a-2", "a-3"]);
    let id = crate::domain::resource::ServiceId {
        app: "app".parse().unwrap(),
        service: "a-2".parse().unwrap(),
    };
    let spec = crate::plan::container::spec(&done.state, &id).unwrap();
    assert_eq!(spec.name, "app-a-2");
    assert_eq!(
        spec.networks,
        [(
            "app_default".to_owned(),
            vec!["a-2".to_owned(), "a".to_owned()]
        )]
    );
    let shown = services(&[("compose.yaml", compose)]);
    let shown: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(shown, ["a", "b"]);
    let needs = "services:\n  a: {image: 'x:1', scale: 0}\n  b: {image: 'x:1', depends_on: [a]}\n";
    assert!(problem(&[("compose.yaml", needs)]).contains("has no container"));
    let clash = "services:\n  a: {image: 'x:1', scale: 2}\n  a-2: {image: 'x:1'}\n";
    assert!(problem(&[("compose.yaml", clash)]).contains("`a-2`"));
    // How many there are is no part of what one is.
    let more = resolved(&[("compose.yaml", &compose.replace("scale: 3", "scale: 4"))]).unwrap();
    let of = |done: &Resolved| {
        crate::plan::container::spec(&done.state, &id)
            .unwrap()
            .config
    };
    assert_eq!(of(&done), of(&more));
}
