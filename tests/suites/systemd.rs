//! The unit file, judged by systemd itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::{Output, run};

fn unit_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/evenkeel.service")
}

/// `systemd-analyze verify` of this text as evenkeel.service, in a root where what it names exists.
fn verify(unit: &str) -> Output {
    let stage = tempfile::tempdir().unwrap();
    let units = stage.path().join("usr/lib/systemd/system");
    for dir in ["usr/bin", "bin"] {
        std::fs::create_dir_all(stage.path().join(dir)).unwrap();
    }
    std::fs::create_dir_all(&units).unwrap();
    std::fs::copy("/bin/true", stage.path().join("usr/bin/evenkeel")).unwrap();
    std::fs::copy("/bin/kill", stage.path().join("bin/kill")).unwrap();
    // The targets that every unit depends on.
    for entry in std::fs::read_dir("/usr/lib/systemd/system").unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "target")
            && path.is_file()
        {
            std::fs::copy(&path, units.join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::write(units.join("evenkeel.service"), unit).unwrap();
    let mut root = std::ffi::OsString::from("--root=");
    root.push(stage.path());
    run(
        Command::new("systemd-analyze")
            .arg("verify")
            .arg(root)
            .arg("evenkeel.service"),
        PATIENCE,
    )
}

#[test]
fn the_unit_is_clean_under_systemd_analyze_verify() {
    let unit = std::fs::read_to_string(unit_file()).unwrap();
    let said = verify(&unit).expect_code(0);
    assert_eq!(said.text().trim(), "", "it has something to say");
}

#[test]
fn systemd_analyze_would_have_noticed_a_misspelt_key() {
    let unit = std::fs::read_to_string(unit_file()).unwrap();
    let bad = unit.replace("WatchdogSec=", "WatchdgSec=");
    assert_ne!(bad, unit, "the unit has a watchdog");
    // Its exit code does not always tell, what it says does.
    let said = verify(&bad).text();
    assert!(said.contains("WatchdgSec"), "{said}");
}
