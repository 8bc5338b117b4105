//! A registry that dies in the middle of a layer, is silent, or answers with a refusal; and a pull that hangs while the fix
//! comes. A real Docker pulls from a real registry, through a link.

use std::time::Duration;

use evenkeel_tests::faults::{Fault, FaultServer};
use evenkeel_tests::link::{Cut, How, Link, Way, Weather};
use evenkeel_tests::tally::{Ended, Scale, Tally};
use evenkeel_tests::{Daemon, Registry};

use super::until;
use crate::fleet::{GATE, World};

/// Docker tries a layer five times by itself, and waits up to 25 s in between.
const PULLED_WITHIN: Duration = Duration::from_secs(170);

/// A device with a service that runs, and the next one's image behind a link.
struct Scene {
    world: World,
    registry: Registry,
    link: Link,
    old: String,
    new: String,
}

impl Scene {
    fn new(id: &str) -> Self {
        let world = World::with_docker(id);
        world
            .apps(&["one"])
            .app("one", world.sleeper("web", "") + GATE);
        let registry = Registry::start();
        let port = registry.host().rsplit(':').next().unwrap().parse().unwrap();
        let link = Link::to(port);
        // Half a megabyte that no other image has, so that there is a layer to die in.
        let noise: String = (0..500_000).map(|_| fastrand::alphanumeric()).collect();
        let image = world
            .engine()
            .busybox_image(&format!("{id}-new"), &[("etc/noise", &noise)]);
        let pushed = registry.push(world.engine(), &image, "acme/app");
        if world.engine().image(&image).is_some() {
            world.engine().remove_image(&image);
        }
        let new = pushed.replace(&registry.host(), &format!("127.0.0.1:{}", link.port()));
        world.release_and_sync("old");
        let old = world.container_id("web");
        Self {
            world,
            registry,
            link,
            old,
            new,
        }
    }

    fn release_new(&self) -> String {
        let text = self
            .world
            .sleeper("web", "")
            .replace(&self.world.image, &self.new);
        self.world.app("one", text + GATE);
        self.world.repo.release("new")
    }

    /// While it lasts: what ran goes on running, and the cause is named.
    fn endures(&self, words: &[&str]) -> Result<(), String> {
        let named = until(PULLED_WITHIN, || {
            let status = self.world.device.status_json();
            let reconciling = status["conditions"]
                .as_array()?
                .iter()
                .find(|one| one["type"] == "Reconciling")?
                .clone();
            let message = reconciling["message"].as_str()?.to_lowercase();
            (reconciling["reason"] == "registry" && words.iter().any(|word| message.contains(word)))
                .then_some(())
        });
        if named.is_none() {
            let status = self.world.device.status_json();
            return Err(format!("nothing of {words:?}: {status:#}"));
        }
        self.is_as_it_was()
    }

    fn is_as_it_was(&self) -> Result<(), String> {
        let web = self.world.container("web");
        if web["Id"] == self.old.as_str() && web["State"]["Running"] == true {
            Ok(())
        } else {
            Err(format!("what ran does not run any more: {web:#}"))
        }
    }

    fn comes_to(&self, commit: &str, within: Duration) -> Result<Ended, String> {
        until(within, || {
            (self.world.device.status_json()["revision"]["last_good"] == commit).then_some(())
        })
        .ok_or_else(|| format!("not at {commit}: {:#}", self.world.device.status_json()))?;
        let running = self.world.container("web")["State"]["Running"] == true;
        if running {
            Ok(Ended::New)
        } else {
            Err("it does not run".to_owned())
        }
    }
}

fn stop(daemon: Daemon, ended: Result<Ended, String>) -> Result<Ended, String> {
    let log = daemon.log();
    daemon.stop();
    ended.map_err(|why| {
        format!(
            "{why}\n{}",
            log.get(log.len().saturating_sub(2000)..).unwrap_or(&log)
        )
    })
}

/// Cut after so many bytes of what the registry sends, for a while.
fn dies_after(bytes: u64, how: How) -> Result<Ended, String> {
    let scene = Scene::new(&format!("reg-cut-{bytes}"));
    scene.link.cut(bytes, Way::Down, how);
    let daemon = scene.world.device.spawn_daemon();
    let commit = scene.release_new();
    let ended = until(PULLED_WITHIN, || {
        (scene.link.passed().1 >= bytes).then_some(())
    })
    .ok_or_else(|| "the cut was never reached".to_owned())
    .and_then(|()| {
        std::thread::sleep(Duration::from_secs(2));
        scene.is_as_it_was()?;
        scene.link.mend();
        scene.link.hang_up();
        scene.comes_to(&commit, PULLED_WITHIN)
    });
    stop(
        daemon,
        ended.map_err(|why| format!("{how:?} after {bytes}: {why}")),
    )
}

fn refuses(status: u16, words: &[&str]) -> Result<Ended, String> {
    let mut scene = Scene::new(&format!("reg-{status}"));
    let server = FaultServer::start(Fault::Status(status));
    scene.link.lead_to(server.port());
    let daemon = scene.world.device.spawn_daemon();
    let commit = scene.release_new();
    let ended = scene.endures(words).and_then(|()| {
        let port = scene
            .registry
            .host()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        // As it comes back after a failure: another process on the same disk.
        scene.registry.stop();
        scene.registry.resume();
        scene.link.lead_to(port);
        scene.link.hang_up();
        scene.comes_to(&commit, PULLED_WITHIN)
    });
    stop(
        daemon,
        ended.map_err(|why| format!("status {status}: {why}")),
    )
}

/// Whether a fix is taken although the pull before it hangs. `within`: before the agent gives the pull up by itself.
fn fix_comes(id: &str, with: Fix) -> Result<Ended, String> {
    let scene = Scene::new(id);
    scene.link.set(Weather {
        cut: Some(Cut {
            after: 100_000,
            way: Way::Down,
            how: How::Silence,
        }),
        ..Weather::default()
    });
    let daemon = scene.world.device.spawn_daemon();
    scene.release_new();
    let reached = until(PULLED_WITHIN, || {
        (scene.link.passed().1 >= 100_000).then_some(())
    });
    let ended = reached
        .ok_or_else(|| "the cut was never reached".to_owned())
        .and_then(|()| {
            scene.is_as_it_was()?;
            match with {
                Fix::Comes => {
                    let text = scene
                        .world
                        .sleeper("web", "environment = { FIX = \"1\" }\n");
                    scene.world.app("one", text + GATE);
                    let fix = scene.world.repo.release("fix");
                    scene.comes_to(&fix, Duration::from_secs(45))?;
                    Ok(Ended::New)
                }
                // Nobody mends it: the harness has to see a device that is not at anything new.
                Fix::Forgotten => {
                    let tip = scene.world.repo.head();
                    scene.comes_to(&tip, Duration::from_secs(10))
                }
            }
        });
    stop(daemon, ended.map_err(|why| format!("{id}: {why}")))
}

#[derive(Debug, Clone, Copy)]
enum Fix {
    Comes,
    Forgotten,
}

type Job = Box<dyn FnOnce() -> Result<Ended, String> + Send>;

fn together(jobs: Vec<Job>) -> Vec<Result<Ended, String>> {
    let threads: Vec<_> = jobs.into_iter().map(std::thread::spawn).collect();
    threads
        .into_iter()
        .map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("it panicked: see above".to_owned()))
        })
        .collect()
}

#[test]
fn a_registry_that_dies_in_a_layer_or_refuses_is_outlived() {
    let places: &[u64] = Scale::asked().of(
        &[150, 600_000],
        &[
            1, 150, 600, 1500, 3000, 20_000, 100_000, 300_000, 600_000, 900_000,
        ],
    );
    let mut tally = Tally::new("a registry that dies in a layer, or refuses");
    for part in places.chunks(3) {
        let jobs = part
            .iter()
            .enumerate()
            .map(|(index, bytes)| {
                let bytes = *bytes;
                let how = if index % 2 == 0 {
                    How::Reset
                } else {
                    How::Close
                };
                Box::new(move || dies_after(bytes, how)) as Job
            })
            .collect();
        for ended in together(jobs) {
            tally.count(ended);
        }
    }
    let refusals: Vec<Job> = vec![
        Box::new(|| refuses(503, &["503"])),
        Box::new(|| refuses(429, &["429", "toomanyrequests", "too many"])),
        Box::new(|| refuses(401, &["401", "unauthorized", "denied"])),
    ];
    for ended in together(refusals) {
        tally.count(ended);
    }
    tally.close();
}

#[test]
fn a_pull_that_hangs_never_blocks_the_fix_that_comes_after_it() {
    let mut tally = Tally::new("a pull that hangs, and a fix");
    let mut planted = Tally::new("a pull that hangs, and a fix");
    let jobs: Vec<Job> = vec![
        Box::new(|| fix_comes("reg-fix", Fix::Comes)),
        Box::new(|| fix_comes("reg-forgotten", Fix::Forgotten)),
    ];
    let mut ended = together(jobs).into_iter();
    tally.count(ended.next().unwrap());
    planted.count(ended.next().unwrap());
    planted.close_planted("no fix at all");
    tally.close();
}
