//! systemd, through `systemctl`: one child process a request, ended at a deadline.
//!
//! Refuses unit names that `systemctl` could read as an option or a pattern. Limits: no D-Bus, so nothing is watched.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::port::units::{Units, UnitsError};

/// systemd's own default for starting and stopping a unit; what takes longer is stuck.
const DEADLINE: Duration = Duration::from_secs(90);
/// How much of systemctl's complaint goes into an error.
const LONGEST_COMPLAINT: usize = 400;
/// `systemctl is-active`: not active (systemctl(1), "Exit status": LSB's 3).
const NOT_ACTIVE: i32 = 3;
/// `systemctl is-active`: no such unit.
const NO_SUCH_UNIT: i32 = 4;

/// systemd as this device has it.
#[derive(Debug, Clone)]
pub struct Systemctl {
    program: String,
    deadline: Duration,
}

impl Systemctl {
    /// The `systemctl` in the path.
    #[must_use]
    pub fn new() -> Self {
        Self {
            program: "systemctl".to_owned(),
            deadline: DEADLINE,
        }
    }

    async fn run(
        &self,
        verb: &'static str,
        argument: &str,
        unit: &str,
    ) -> Result<Output, UnitsError> {
        let fail = |why: String| UnitsError {
            verb,
            unit: unit.to_owned(),
            why,
        };
        let odd = |c: char| {
            !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '\\'))
        };
        if unit.is_empty() || unit.starts_with('-') || unit.contains(odd) {
            return Err(fail("that is not a unit's name".to_owned()));
        }
        // sd_booted(3): the directory is there exactly where systemd is the init system.
        if self.program == "systemctl" && !Path::new("/run/systemd/system").is_dir() {
            return Err(fail("this device does not run systemd".to_owned()));
        }
        let child = Command::new(&self.program)
            .args(["--no-ask-password", "--no-pager", argument, "--", unit])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(self.deadline, child).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(fail("there is no systemctl on this device".to_owned()))
            }
            Ok(Err(error)) => Err(fail(format!("systemctl cannot be run: {error}"))),
            Err(_) => Err(fail(format!(
                "systemctl did not end within {} s",
                self.deadline.as_secs()
            ))),
        }
    }

    async fn act(&self, verb: &'static str, unit: &str) -> Result<(), UnitsError> {
        let output = self.run(verb, verb, unit).await?;
        if output.status.success() {
            return Ok(());
        }
        Err(UnitsError {
            verb,
            unit: unit.to_owned(),
            why: complaint(&output),
        })
    }
}

impl Default for Systemctl {
    fn default() -> Self {
        Self::new()
    }
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    if text.is_empty() {
        return format!("systemctl ended with {}", output.status);
    }
    let short: String = text.chars().take(LONGEST_COMPLAINT).collect();
    short.replace('\n', "; ")
}

impl Units for Systemctl {
    async fn restart(&self, unit: &str) -> Result<(), UnitsError> {
        self.act("restart", unit).await
    }

    async fn reload(&self, unit: &str) -> Result<(), UnitsError> {
        self.act("reload", unit).await
    }

    async fn is_active(&self, unit: &str) -> Result<bool, UnitsError> {
        let output = self.run("ask about", "is-active", unit).await?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(NOT_ACTIVE | NO_SUCH_UNIT) => Ok(false),
            Some(_) | None => Err(UnitsError {
                verb: "ask about",
                unit: unit.to_owned(),
                why: complaint(&output),
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    fn program(dir: &Path, script: &str) -> Systemctl {
        let path = dir.join("systemctl");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&path)
            .unwrap();
        write!(file, "#!/bin/sh\n{script}\n").unwrap();
        drop(file);
        Systemctl {
            program: path.display().to_string(),
            deadline: Duration::from_millis(1500),
        }
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_unit_is_restarted_and_a_complaint_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let units = program(dir.path(), &format!("echo \"$@\" >> {}", log.display()));
        block(units.restart("chrony.service")).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(
            text,
            "--no-ask-password --no-pager restart -- chrony.service\n"
        );

        let units = program(
            dir.path(),
            "echo 'Unit nope.service not found.' >&2; exit 5",
        );
        let error = block(units.reload("nope.service")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot reload nope.service: Unit nope.service not found."
        );
    }

    #[test]
    fn active_is_told_from_not_active_and_from_not_known() {
        let dir = tempfile::tempdir().unwrap();
        assert!(block(program(dir.path(), "echo active").is_active("a.service")).unwrap());
        assert!(!block(program(dir.path(), "exit 3").is_active("a.service")).unwrap());
        assert!(!block(program(dir.path(), "exit 4").is_active("a.service")).unwrap());
        let units = program(dir.path(), "echo 'Failed to connect to bus' >&2; exit 1");
        assert!(block(units.is_active("a.service")).is_err());
    }

    #[test]
    fn a_systemctl_that_hangs_is_ended_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let units = program(dir.path(), "exec sleep 60");
        let begun = std::time::Instant::now();
        let error = block(units.restart("slow.service")).unwrap_err();
        assert!(error.why.contains("did not end"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_name_that_is_an_option_or_a_pattern_never_reaches_systemctl() {
        let dir = tempfile::tempdir().unwrap();
        let units = program(dir.path(), "exit 0");
        for name in ["", "--root=/x", "a b", "*.service", "a;b"] {
            assert!(block(units.restart(name)).is_err(), "{name}");
        }
    }
}
