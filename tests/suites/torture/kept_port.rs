//! A dockerd that loses its power while it starts a container, at each of its own writes: at one of them it comes back with the
//! container's port taken for nobody, and only a restart of it gives the port back. Seen first on a booted machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_tests::process::{Output, run};
use evenkeel_tests::tally::{Ended, Scale, Tally};
use evenkeel_tests::{Dockerd, PATIENCE, wait_for};

use crate::fleet::World;

/// More writes than a container's start takes.
const MOST: usize = 24;

/// The agent's own machine: one with systemd, of which `docker.service` is the dockerd of this test.
struct Machine {
    dockerd: Dockerd,
    world: World,
    /// There while `systemctl restart` waits for it.
    asked: PathBuf,
    restarts: u32,
}

impl Machine {
    fn new() -> Self {
        let dockerd = Dockerd::start();
        let mut world = World::with_engine("kept", dockerd.engine());
        let service = world.sleeper(
            "web",
            "stop_signal = \"SIGKILL\"\nrestart = \"unless-stopped\"\nports = [\"18080:80\"]\n",
        );
        world.apps(&["one"]).app(
            "one",
            format!("{service}[gate]\ndeadline = \"30s\"\nsoak = \"0s\"\n"),
        );
        world.repo.release("The first one");
        let asked = world.device.scratch().join("asked");
        let bin = world.device.scratch().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let systemctl = format!(
            "#!/bin/sh\ncase \"$*\" in\n*' restart -- docker.service') : >'{0}'; while [ -e '{0}' ]; do sleep 0.05; done ;;\n\
             *) exit 5 ;;\nesac\n",
            asked.display()
        );
        std::fs::write(bin.join("systemctl"), systemctl).unwrap();
        run(
            Command::new("chmod").arg("755").arg(bin.join("systemctl")),
            PATIENCE,
        )
        .expect_code(0);
        world.device.settings.engine = "unix:///run/docker.sock".to_owned();
        Self {
            dockerd,
            world,
            asked,
            restarts: 0,
        }
    }

    /// The agent's command, where /run has systemd's mark and Docker's socket in it.
    fn command(&self, arguments: &[&str]) -> Command {
        let agent = self.world.device.command(arguments);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(
                "mount -t tmpfs run /run && mkdir -p /run/systemd/system && ln -s \"$0\" /run/docker.sock && exec \"$@\"",
            )
            .arg(self.world.engine().socket())
            .arg(agent.get_program())
            .args(agent.get_args());
        for (name, value) in agent.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let bin = self.world.device.scratch().join("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.display()));
        command
    }

    /// One pass, with somebody who restarts dockerd when it is asked for.
    fn sync(&mut self) -> Output {
        let mut command = self.command(&["sync"]);
        std::thread::scope(|scope| {
            let pass = scope.spawn(move || run(&mut command, PATIENCE * 2));
            while !pass.is_finished() {
                if self.asked.exists() {
                    self.restarts += 1;
                    self.dockerd.stop();
                    self.dockerd.resume();
                    std::fs::remove_file(&self.asked).unwrap();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            pass.join().unwrap()
        })
    }

    /// The service's container, and whether it runs.
    fn web(&self) -> (String, bool) {
        let found = self
            .world
            .engine()
            .container(&self.world.device.settings.id, "web");
        (
            found["Id"].as_str().unwrap_or_default().to_owned(),
            found["State"]["Running"] == true,
        )
    }

    /// Has the agent start the container, and dockerd end once it has made its nth write of what it knows of networks. `false`
    /// where there is no such write.
    fn cut_at(&mut self, nth: usize) -> bool {
        let (container, runs) = self.web();
        assert!(runs);
        self.world.engine().stop(&container);
        let pid = self.dockerd.pid();
        let networks = self.dockerd.data_root().join("network/files/local-kv.db");
        let log = self.world.device.scratch().join("writes");
        let _ = std::fs::remove_file(&log);
        // Each write is followed by a pause: long enough to end dockerd in it.
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-e", "trace=fdatasync", "-P"])
            .arg(networks)
            .args(["-e", "inject=fdatasync:delay_exit=300000", "-o"])
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("strace to watch dockerd", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let tracer = status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"))?;
            (tracer.trim() != "0").then_some(())
        });
        let mut command = self.command(&["sync"]);
        let was_cut = std::thread::scope(|scope| {
            let pass = scope.spawn(move || run(&mut command, PATIENCE));
            loop {
                let written = std::fs::read_to_string(&log).unwrap_or_default();
                if written.matches("fdatasync(").count() >= nth {
                    self.dockerd.lose_power();
                    break true;
                }
                if pass.is_finished() {
                    break false;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        if !was_cut {
            strace.kill().unwrap();
        }
        strace.wait().unwrap();
        if was_cut {
            self.dockerd.resume();
        }
        was_cut
    }
}

#[test]
fn a_port_that_dockerd_keeps_for_nobody_after_a_power_cut_is_given_back_by_a_restart() {
    let mut machine = Machine::new();
    machine.sync().expect_code(0);
    let mut tally = Tally::new("dockerd cut off in a container's start");
    let mut kept = 0;
    let mut strangers = 0;
    // Where the port is kept, with the Docker that this was seen with; all of them on demand.
    let writes: Vec<usize> = Scale::asked().of((11..=14).collect(), (1..=MOST).collect());
    for nth in writes {
        if !machine.cut_at(nth) {
            break;
        }
        // Somebody else's container runs in the same engine: it is not ended for ours.
        let stranger = machine.world.engine().create_stranger(
            &format!("stranger-{nth}"),
            &serde_json::json!({ "Image": machine.world.image, "Cmd": ["/bin/sleep", "86400"] }),
        );
        let before = machine.restarts;
        let said = machine.sync();
        let kept_now = said.text().contains("keeps port 18080");
        if kept_now {
            strangers += 1;
            assert_eq!(machine.restarts, before, "{}", said.text());
            assert_ne!(said.code, Some(0));
            assert!(
                said.text().contains(&format!("stranger-{nth}")),
                "{}",
                said.text()
            );
            let runs = machine.world.engine().inspect(&stranger)["State"]["Running"] == true;
            assert!(runs, "{}", said.text());
        }
        machine.world.engine().remove(&stranger);
        let said = machine.sync();
        kept += u32::from(machine.restarts > before);
        let (_, runs) = machine.web();
        let is_well = said.code == Some(0) && runs;
        tally.count(if is_well {
            Ok(Ended::New)
        } else {
            Err(format!(
                "write {nth}: it ended with {:?}, and the container {}\n{}",
                said.code,
                if runs { "runs" } else { "stands" },
                said.text()
            ))
        });
        if !is_well {
            break;
        }
    }
    eprintln!(
        "{kept} of {} cuts left the port to nobody; {strangers} with a stranger beside it",
        tally.cases()
    );
    tally.close();
}
