//! The unit files, judged by systemd itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::{Output, run};

/// The most that `systemd-analyze security` may find exposed, in tenths.
const MOST_EXPOSED: u32 = 45;

fn unit_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

fn unit(name: &str) -> String {
    std::fs::read_to_string(unit_dir().join(name)).unwrap()
}

/// The names of all units, in order.
fn units() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(unit_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".service") || name.ends_with(".timer"))
        .collect();
    names.sort();
    names
}

/// A root in which what the units name exists.
fn stage() -> tempfile::TempDir {
    let stage = tempfile::tempdir().unwrap();
    let to = stage.path().join("usr/lib/systemd/system");
    for dir in ["usr/bin", "bin"] {
        std::fs::create_dir_all(stage.path().join(dir)).unwrap();
    }
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy("/bin/kill", stage.path().join("bin/kill")).unwrap();
    // The targets that every unit depends on.
    for entry in std::fs::read_dir("/usr/lib/systemd/system").unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "target")
            && path.is_file()
        {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    for name in units() {
        let text = unit(&name);
        for program in text.lines().filter_map(program) {
            let path = stage.path().join(program.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy("/bin/true", path).unwrap();
        }
        std::fs::write(to.join(name), text).unwrap();
    }
    stage
}

/// The program of an `Exec...=` line.
fn program(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    let program = value
        .split_whitespace()
        .next()?
        .trim_start_matches(['-', '+', '!', ':', '@']);
    (key.starts_with("Exec") && program.starts_with('/')).then_some(program)
}

fn verify(stage: &Path, name: &str) -> Output {
    let mut root = std::ffi::OsString::from("--root=");
    root.push(stage);
    let mut command = Command::new("systemd-analyze");
    run(command.arg("verify").arg(root).arg(name), PATIENCE)
}

#[test]
fn the_units_are_clean_under_systemd_analyze_verify() {
    let stage = stage();
    assert!(units().len() >= 3, "{:?}", units());
    for name in units() {
        let said = verify(stage.path(), &name).expect_code(0);
        assert_eq!(said.text().trim(), "", "{name}: it has something to say");
    }
}

#[test]
fn systemd_analyze_would_have_noticed_a_misspelt_key() {
    let stage = stage();
    let good = unit("evenkeel.service");
    let bad = good.replace("WatchdogSec=", "WatchdgSec=");
    assert_ne!(bad, good, "the unit has a watchdog");
    let path = stage.path().join("usr/lib/systemd/system/evenkeel.service");
    std::fs::write(path, bad).unwrap();
    // Its exit code does not always tell, what it says does.
    let said = verify(stage.path(), "evenkeel.service").text();
    assert!(said.contains("WatchdgSec"), "{said}");
}

/// `systemd-analyze security` of this text, with this threshold.
fn security(text: &str, threshold: u32) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("judged.service");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={threshold}"))
        .arg(&file);
    run(&mut command, PATIENCE)
}

#[test]
fn the_services_expose_no_more_than_they_are_allowed_to() {
    for name in units().iter().filter(|name| name.ends_with(".service")) {
        // What it mounts has to be seen by the daemon, so it has no namespace of its own; the unit says so.
        let most = match name.as_str() {
            "evenkeel-stick@.service" => 55,
            _ => MOST_EXPOSED,
        };
        let said = security(&unit(name), most).expect_code(0);
        let last = said.stdout.trim().lines().last().unwrap_or_default();
        println!("{name}: {last}");
    }
    // It does judge: without its sandbox the same service is far above.
    let open: String = unit("evenkeel.service")
        .lines()
        .filter(|line| {
            !["Protect", "Restrict", "SystemCall", "Capability", "NoNew"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(security(&open, MOST_EXPOSED).code, Some(0));
}

#[test]
fn every_line_that_is_left_open_is_explained_in_the_unit() {
    let text = unit("evenkeel.service");
    let said = security(&text, 100).expect_code(0).stdout;
    let mut open = 0;
    for line in said
        .lines()
        .filter(|line| line.trim_start().starts_with('\u{2717}'))
    {
        let name = line.split_whitespace().nth(1).unwrap();
        // `RestrictAddressFamilies=~AF_UNIX`, `RootDirectory=/RootImage=`: the setting that it is about.
        let setting = name.split('=').next().unwrap();
        assert!(
            text.contains(&format!("{setting}=")),
            "{name} is open, and the unit says nothing about it"
        );
        open += 1;
    }
    assert!(open > 5, "{said}");
}

/// What binds a unit's processes: the lines of its sandbox, credentials and limits.
fn bounds(text: &str) -> Vec<&str> {
    let kept = |line: &&str| {
        let key = line.split('=').next().unwrap_or_default();
        [
            "NoNewPrivileges",
            "CapabilityBoundingSet",
            "AmbientCapabilities",
            "DevicePolicy",
            "KeyringMode",
            "LockPersonality",
            "UMask",
            "OOMScoreAdjust",
            "LoadCredential",
            "Environment",
            "EnvironmentFile",
        ]
        .contains(&key)
            || [
                "Protect",
                "Restrict",
                "SystemCall",
                "Limit",
                "LogRate",
                "StateDirectory",
            ]
            .iter()
            .any(|start| key.starts_with(start) && key != "Restart" && key != "RestartSec")
    };
    let mut lines: Vec<&str> = text.lines().filter(kept).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_pass_by_the_timer_is_bound_as_the_daemon_is() {
    let (daemon, once) = (unit("evenkeel.service"), unit("evenkeel-sync.service"));
    assert_eq!(bounds(&daemon), bounds(&once));
    assert!(bounds(&daemon).len() > 20, "{:?}", bounds(&daemon));
}
