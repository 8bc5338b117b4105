//! A device that lives through thousands of passes with churn, and what the agent costs all the while: the search for a
//! slow leak of memory, descriptors, threads or disk.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::proc::{Sample, listing, sample};
use crate::{Device, Engine, FleetRepo, GitHttp, wait_at_most};

/// How many looks there are over the whole run, however long it is.
const LOOKS: u64 = 12;
/// Files that the device is given.
const FILES: u64 = 20;

/// What the agent costs after so many passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Passes until now.
    pub passes: u64,
    /// The process.
    pub process: Sample,
    /// Bytes in the state directory.
    pub state_bytes: u64,
    /// Files in the state directory.
    pub state_files: u64,
    /// Files below the device's root.
    pub root_files: u64,
}

/// A figure of a look that is compared between the second quarter of a run and its last one.
struct Kind {
    name: &'static str,
    of: fn(&Look) -> u64,
    slack: Slack,
}

const fn kind(name: &'static str, of: fn(&Look) -> u64, percent: u64, more: u64) -> Kind {
    let slack = Slack { percent, more };
    Kind { name, of, slack }
}

/// What is compared; resident memory may differ by so many per cent.
const fn kinds(memory: u64) -> [Kind; 6] {
    [
        kind(
            "resident memory",
            |look| look.process.rss,
            memory,
            1_000_000,
        ),
        kind("threads", |look| look.process.threads, 0, 0),
        kind(
            "open descriptors",
            |look| look.process.descriptors.len() as u64,
            0,
            0,
        ),
        kind(
            "bytes in the state directory",
            |look| look.state_bytes,
            50,
            200_000,
        ),
        kind(
            "files in the state directory",
            |look| look.state_files,
            50,
            50,
        ),
        kind("files below the root", |look| look.root_files, 0, 2),
    ]
}

/// By how much a figure may differ between two quarters of a run without being called growth: an allocator's and a
/// store's own breathing.
#[derive(Debug, Clone, Copy)]
struct Slack {
    percent: u64,
    more: u64,
}

/// What grew between the second quarter of the run and the last one, in words; empty where all is flat. `memory` is by how
/// many per cent resident memory may differ: over a few hundred passes the allocator and the store still settle.
pub fn grown(looks: &[Look], memory: u64) -> Vec<String> {
    let quarter = looks.len() / 4;
    let (early, late) = (
        &looks[quarter..2 * quarter],
        &looks[looks.len() - quarter..],
    );
    let highest = |looks: &[Look], of: fn(&Look) -> u64| looks.iter().map(of).max().unwrap_or(0);
    kinds(memory)
        .iter()
        .filter_map(|kind| {
            let (before, after) = (highest(early, kind.of), highest(late, kind.of));
            let most = before + before * kind.slack.percent / 100 + kind.slack.more;
            (after > most).then(|| {
                format!(
                    "{}: {before} in the second quarter, {after} in the last",
                    kind.name
                )
            })
        })
        .collect()
}

/// Takes a device through so many passes, and looks at the agent every now and then; `tell` hears each look at once.
///
/// # Panics
/// Where a pass ends otherwise than it should.
pub fn soak(passes: u64, engine: Option<&Engine>, mut tell: impl FnMut(&Look)) -> Vec<Look> {
    let mut life = Life::begin(engine);
    let mut looks = Vec::new();
    let every = (passes / LOOKS).max(1);
    for pass in 1..=passes {
        life.pass(pass);
        if pass % every == 0 {
            let look = life.look(pass);
            tell(&look);
            looks.push(look);
        }
    }
    life.end();
    looks
}

struct Life<'e> {
    repo: FleetRepo,
    server: GitHttp,
    device: Device,
    daemon: Option<crate::Daemon>,
    engine: Option<&'e Engine>,
    image: Option<String>,
    _cleanup: Option<crate::Cleanup>,
    good: String,
}

impl<'e> Life<'e> {
    fn begin(engine: Option<&'e Engine>) -> Self {
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"soaked\"\n")
            .write("groups/all.toml", "match = \"all\"\napps = [\"soaked\"]\n");
        let server = GitHttp::http(repo.served());
        let mut device = Device::new("soaked", &server.url(), &repo.allowed_signers());
        // Each pass is asked for: polls of its own would be passes more.
        "1h".clone_into(&mut device.settings.interval);
        let image = engine.map(|engine| engine.busybox_image("soaked", &[]));
        if let Some(engine) = engine {
            device = device.with_engine(engine);
        }
        let mut life = Self {
            repo,
            server,
            device,
            daemon: None,
            engine,
            image,
            _cleanup: engine.map(|engine| engine.cleanup("soaked")),
            good: String::new(),
        };
        life.release(0);
        let daemon = life.device.spawn_daemon();
        wait_at_most(Duration::from_secs(120), "the first revision", || {
            let status = life.device.evenkeel(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
            (status["revision"]["last_good"] == life.good.as_str()).then_some(())
        });
        life.daemon = Some(daemon);
        life
    }

    /// Another good revision: one file changed, sometimes the service, too.
    fn release(&mut self, pass: u64) {
        let mut app = String::new();
        for number in 0..FILES {
            let turn = if pass % FILES == number { pass } else { 0 };
            app.push_str(&format!(
                "[[files]]\npath = \"/etc/soaked/{number}.conf\"\ncontent = \"{number} {turn}\\n\"\n"
            ));
        }
        if let Some(image) = &self.image {
            app.push_str(&format!(
                "[services.one]\nimage = \"{image}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"0s\"\n\
                 environment = {{ TURN = \"{}\" }}\n",
                pass / 100
            ));
        }
        app.push_str("[gate]\ndeadline = \"30s\"\nsoak = \"0s\"\n");
        self.repo.write("apps/soaked/app.toml", app);
        self.good = self.repo.release(&format!("Pass {pass}"));
    }

    fn sync(&self, code: i32) {
        self.device.sync().expect_code(code);
    }

    /// One pass, and what happens before it.
    fn pass(&mut self, pass: u64) {
        match pass % 100 {
            33 => {
                // Back to the revision before, and on again.
                self.device.evenkeel(&["rollback"]).expect_code(0);
                self.device.evenkeel(&["resume"]).expect_code(0);
            }
            57 => {
                self.repo
                    .write("fleet.toml", "format = 1\nname = \"soaked\"\n# \n");
                self.repo.commit_unsigned("Without a signature");
                self.repo.push();
                self.sync(3);
                self.repo.reset_to(&self.good);
                self.repo.force_push();
                self.sync(0);
            }
            63 => {
                self.repo
                    .write("apps/soaked/app.toml", "[[files]]\npath = 3\n");
                self.repo.release("A mistake");
                self.sync(3);
                self.release(pass);
                self.sync(0);
            }
            76 => {
                if let Some(engine) = self.engine {
                    let one = engine.container("soaked", "one");
                    engine.remove(one["Id"].as_str().unwrap_or_default());
                }
                self.sync(0);
            }
            88 => {
                self.server.stop();
                self.sync(1);
                self.server.resume();
                self.sync(0);
            }
            turn if turn % 10 == 1 => {
                self.release(pass);
                self.sync(0);
            }
            turn if turn % 10 == 4 => {
                let file = self
                    .device
                    .path(&format!("/etc/soaked/{}.conf", pass % FILES));
                std::fs::write(&file, "by hand\n").expect("the device's file is there");
                self.sync(0);
                assert_ne!(
                    std::fs::read_to_string(&file).ok().as_deref(),
                    Some("by hand\n"),
                    "pass {pass} did not heal {}",
                    file.display()
                );
            }
            turn if turn % 25 == 12 => {
                for verb in ["status", "plan", "history"] {
                    self.device.evenkeel(&[verb, "--json"]).expect_code(0);
                }
            }
            _ => self.sync(0),
        }
    }

    fn look(&self, passes: u64) -> Look {
        let daemon = self.daemon.as_ref().expect("it runs until the end");
        let (state, root) = (
            listing(&self.device.state_dir()),
            listing(&self.device.root()),
        );
        Look {
            passes,
            process: settled(daemon.pid()),
            state_bytes: state.values().map(|(length, _)| length).sum(),
            state_files: state.len() as u64,
            root_files: root.len() as u64,
        }
    }

    fn end(&mut self) {
        let daemon = self.daemon.take().expect("it runs until the end");
        assert_eq!(daemon.stop(), Some(0), "the agent ends as it is asked to");
        assert!(
            Path::new(&self.device.state_dir()).exists(),
            "its state is there for the next start"
        );
    }
}

/// The process between two pieces of work: its connections are closed, and its short-lived threads have ended.
fn settled(pid: u32) -> Sample {
    let until = Instant::now() + Duration::from_secs(15);
    let mut least = sample(pid);
    let mut same = 0;
    while same < 3 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(400));
        let now = sample(pid);
        let less = now.threads < least.threads || now.descriptors.len() < least.descriptors.len();
        same = if less { 0 } else { same + 1 };
        least = now;
    }
    least
}
