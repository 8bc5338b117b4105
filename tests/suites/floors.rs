//! The house's floors: arrows point down only, and what decides names nothing that acts.
//!
//! Reads the sources as text: each path that starts with `crate::`, and each name of a package or of a part of std that
//! a floor must not know. Comments and test modules are left out; what is in `foo/tests.rs` is a test module.

use std::path::{Path, PathBuf};

/// The agent's rooms by floor. A room may name rooms on lower floors, rooms that are listed for it in [`NEIGHBOURS`],
/// and itself.
const FLOORS: &[(&str, u8)] = &[
    ("domain", 1),
    ("trust", 2),
    ("select", 2),
    ("resolve", 2),
    ("plan", 2),
    ("gate", 2),
    ("schedule", 2),
    ("port", 3),
    ("adapter", 4),
    ("cycle", 5),
    ("apply", 5),
    ("daemon", 5),
    ("demo", 6),
    ("cli", 6),
    ("telemetry", 6),
    ("main", 6),
];

/// Neighbours on its own floor that a room may know: selecting and resolving take trust's proof, the loop is one thing
/// in three rooms, and so is the command line.
const NEIGHBOURS: &[(&str, &[&str])] = &[
    ("select", &["trust"]),
    ("resolve", &["trust"]),
    ("cycle", &["apply", "daemon"]),
    ("apply", &["cycle", "daemon"]),
    ("daemon", &["cycle", "apply"]),
    ("demo", &["cli", "telemetry"]),
    ("cli", &["demo", "telemetry", "main"]),
    ("main", &["cli", "demo", "telemetry"]),
];

/// What the deciding rooms (floors 0 to 2) must not name: I/O, clocks, the environment.
const NOT_IN_DECIDERS: &[&str] = &[
    "tokio",
    "gix",
    "bollard",
    "sled",
    "reqwest",
    "rustix",
    "std::fs",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os::unix",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

/// What the loop must not name either: it sees ports.
const NOT_IN_THE_LOOP: &[&str] = &["gix", "bollard", "sled", "reqwest"];

fn floor_of(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

/// One broken rule: the line's number and what is wrong with it.
type Finding = (usize, String);

/// What is wrong in this source of `room`.
fn findings(room: &str, source: &str) -> Vec<Finding> {
    let floor =
        floor_of(room).unwrap_or_else(|| panic!("{room}: a room without a floor; add it here"));
    let mut found = Vec::new();
    let mut statement = String::new();
    for (number, line) in without_tests(source) {
        let line = strip_comment(line);
        let line = line.as_str();
        // A `use` over several lines is judged as one, where it ends.
        if !statement.is_empty()
            || line.trim_start().starts_with("use ")
            || line.trim_start().starts_with("pub use ")
            || line.trim_start().starts_with("pub(crate) use ")
        {
            statement.push_str(line.trim());
            statement.push(' ');
            if !line.contains(';') {
                continue;
            }
        } else {
            statement.push_str(line);
        }
        let text = expand(&std::mem::take(&mut statement));
        for named in rooms_named(&text) {
            let Some(other) = floor_of(&named) else {
                continue;
            };
            let neighbours = NEIGHBOURS
                .iter()
                .any(|(from, to)| *from == room && to.contains(&named.as_str()));
            if named != room && other >= floor && !neighbours {
                found.push((
                    number,
                    format!("{room} (floor {floor}) names {named} (floor {other})"),
                ));
            }
            if named == "adapter" && floor == 5 {
                found.push((
                    number,
                    format!("{room} names an adapter; it should see a port"),
                ));
            }
        }
        let banned = match floor {
            0..=2 => NOT_IN_DECIDERS,
            3 | 5 => NOT_IN_THE_LOOP,
            _ => &[],
        };
        for name in banned.iter().filter(|name| names(&text, name)) {
            found.push((number, format!("{room} (floor {floor}) names {name}")));
        }
    }
    found
}

/// The lines before the first test module, numbered from 1. House rule: tests come last in a file.
fn without_tests(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
}

/// The line without its comment and without what its string literals hold.
fn strip_comment(line: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' => {
                quoted = !quoted;
                out.push(c);
            }
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => out.push(c),
        }
    }
    out
}

/// `use crate::{a::B, c};` also as `crate::a::B crate::c`, and `use std::{fs, io}` as `std::fs std::io`: one level of
/// braces is opened, which is as deep as a room's or a package's name lies.
fn expand(text: &str) -> String {
    let mut out = text.to_owned();
    for root in ["crate::", "std::", "std::time::"] {
        let Some(start) = text.find(&format!("{root}{{")) else {
            continue;
        };
        let inside = &text[start + root.len() + 1..];
        let mut depth = 0;
        let mut item = String::new();
        for c in inside.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    out.push_str(&format!(" {root}{}", item.trim()));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        out.push_str(&format!(" {root}{}", item.trim()));
    }
    out
}

/// The first word after each `crate::`.
fn rooms_named(text: &str) -> Vec<String> {
    text.match_indices("crate::")
        .map(|(at, root)| {
            text[at + root.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

/// Whether `name` stands in `text` as a path of its own: `gix::x` and `use gix;`, but not `my_gix` and not `gixel`.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + name.len()..];
        let starts =
            before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '"' || c == '.'));
        let is_path =
            name.contains("::") || after.starts_with("::") || text.trim_start().starts_with("use ");
        starts && is_path && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// Every source of a crate: the room it belongs to and its path. Test modules in files of their own are left out.
fn sources(root: &Path) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            if stem == "tests" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let first = path
                    .strip_prefix(root)
                    .unwrap()
                    .components()
                    .next()
                    .unwrap();
                let room = Path::new(first.as_os_str()).with_extension("");
                all.push((room.to_string_lossy().into_owned(), path));
            }
        }
    }
    all.sort();
    all
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn no_arrow_points_up_and_deciders_name_nothing_that_acts() {
    let root = workspace().join("agent/src");
    let mut wrong = Vec::new();
    let mut read = 0;
    for (room, path) in sources(&root) {
        // The crate's root names every room, and owns nothing.
        if room == "lib" {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        read += 1;
        for (line, what) in findings(&room, &source) {
            wrong.push(format!("{}:{line}: {what}", path.display()));
        }
    }
    assert!(
        read > 10,
        "only {read} sources found under {}",
        root.display()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schema_does_no_io_and_knows_no_agent() {
    let mut wrong = Vec::new();
    for (_, path) in sources(&workspace().join("schema/src")) {
        let source = std::fs::read_to_string(&path).unwrap();
        for (number, line) in without_tests(&source) {
            let text = expand(&strip_comment(line));
            for name in NOT_IN_DECIDERS.iter().chain(&["evenkeel"]) {
                if names(&text, name) {
                    wrong.push(format!("{}:{number}: names {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What lies under adapter/ and is no port's adapter, but the ground that some stand on: durable writes, and the state
/// directory with its key and lock; files that come in parts; reading git's objects, which the device's store and a person's repository share; and logins at
/// registries.
const GROUND: &[&str] = &[
    "durable",
    "room",
    "part",
    "twin",
    "state_dir",
    "git_objects",
    "registry_auth",
];

#[test]
fn no_adapter_names_another_adapter() {
    let root = workspace().join("agent/src/adapter");
    let mut wrong = Vec::new();
    for (own, path) in sources(&root) {
        if own == "mod" {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for (number, line) in without_tests(&source) {
            let text = strip_comment(line);
            for (at, found) in text.match_indices("crate::adapter::") {
                let named: String = text[at + found.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if named != own && !GROUND.contains(&named.as_str()) {
                    wrong.push(format!("{}:{number}: {}", path.display(), text.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_planted_bad_line_is_caught() {
    for (room, bad) in [
        ("domain", "use crate::plan::Plan;"),
        (
            "domain",
            "use crate::{domain::commit::RawCommit, port::Clock};",
        ),
        ("plan", "use std::fs;"),
        ("plan", "use std::{collections::BTreeMap, fs::File};"),
        ("plan", "use std::time::{Duration, SystemTime};"),
        ("gate", "    let now = std::time::Instant::now();"),
        ("trust", "use tokio::sync::mpsc;"),
        (
            "select",
            "use crate::trust::VerifiedCommit; use crate::cycle::Outcome;",
        ),
        ("trust", "fn f() { gix::open(\".\"); }"),
        ("resolve", "use std::env;"),
        (
            "plan",
            "use crate::{\n    domain::Desired,\n    cycle::run,\n};",
        ),
        ("port", "use crate::adapter::git::Git;"),
        ("cycle", "use crate::adapter::git::Git;"),
        ("daemon", "use bollard::Docker;"),
        ("adapter", "use crate::daemon::run;"),
        ("cycle", "use crate::cli::Output;"),
    ] {
        assert!(
            !findings(room, bad).is_empty(),
            "{room}: {bad} was not caught"
        );
    }
}

#[test]
fn honest_lines_are_let_through() {
    for (room, good) in [
        ("plan", "use crate::domain::desired::DesiredState;"),
        ("plan", "// tokio::spawn would not do here: std::fs neither"),
        ("plan", "use std::time::Duration;"),
        ("plan", "let what = \"the sled::store\";"),
        (
            "plan",
            "fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }",
        ),
        ("adapter", "use crate::port::Engine; use bollard::Docker;"),
        ("cycle", "use crate::apply::prepare;"),
        ("main", "use crate::adapter::git::Git;"),
    ] {
        assert_eq!(
            findings(room, good),
            Vec::<Finding>::new(),
            "{room}: {good}"
        );
    }
}
