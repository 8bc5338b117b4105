//! SIGKILL at random moments, again and again, while new revisions arrive all the time.
//!
//! A real git server over HTTPS or SSH, a real engine, the real binary. After every few kills the branch stands still, the
//! device may come to rest, and an onlooker compares what is there with what the commit it names declares.

mod branch;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use evenkeel_tests::tally::{Ended, Scale, Tally, only_seed};
use evenkeel_tests::{Daemon, FleetRepo, GitHttp, GitSsh, proc};
use serde_json::{Value, json};

use branch::{Branch, Declared, FILES, Services};

use crate::fleet::World;

/// A kill comes this long after a start, at most: two updates and a half.
const LONGEST_LIFE_MS: u64 = 2500;
/// Every so many kills the device may come to rest.
const KILLS_A_LOOK: u64 = 4;
/// How long a device may take to come to rest: a soak, a refusal and the way back, on a busy machine.
const REST: Duration = Duration::from_secs(240);
/// A device that is being killed.
struct Rig {
    world: World,
    branch: Arc<Branch>,
    services: Services,
    pusher: Option<std::thread::JoinHandle<FleetRepo>>,
    strangers: Vec<(String, Value)>,
    /// The highest place that the floor has had.
    floor: usize,
    rng: fastrand::Rng,
    app: String,
    kills: u64,
    /// Kills that came between the first step of an update and its end.
    amid: u64,
}

impl Rig {
    fn new(
        mut world: World,
        url: String,
        source: Vec<String>,
        services: Services,
        seed: u64,
    ) -> Self {
        world.device.settings.url = url;
        world.device.settings.source = source;
        let app = world.app_name("one");
        world.apps(&["one"]);
        let strangers = match services {
            Services::None => Vec::new(),
            Services::Two => strangers(&world),
        };
        let branch = Arc::new(Branch {
            commits: Mutex::default(),
            gate: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let first = Declared {
            files: FILES.iter().map(|path| (*path, "0\n".to_owned())).collect(),
            services: match services {
                Services::None => BTreeMap::new(),
                Services::Two => BTreeMap::from([("side", 0), ("web", 0)]),
            },
            sound: true,
        };
        branch.push(&world.repo, &app, &world.image, first);
        Self {
            world,
            branch,
            services,
            pusher: None,
            strangers,
            floor: 0,
            rng: fastrand::Rng::with_seed(seed),
            app,
            kills: 0,
            amid: 0,
        }
    }

    /// Pushes from now on, until [`Rig::finish`].
    fn begin_pushing(&mut self) {
        let repo = std::mem::take(&mut self.world.repo);
        let (branch, services) = (Arc::clone(&self.branch), self.services);
        let (app, image) = (self.app.clone(), self.world.image.clone());
        let mut rng = fastrand::Rng::with_seed(self.rng.u64(..));
        self.pusher = Some(std::thread::spawn(move || {
            let mut number = 0;
            while !branch.stop.load(Ordering::Relaxed) {
                let open = branch.gate.lock().unwrap();
                number += 1;
                let next = Declared::after(&branch.tip().1, number, services, &mut rng);
                branch.push(&repo, &app, &image, next);
                drop(open);
                std::thread::sleep(Duration::from_millis(rng.u64(100..1500)));
            }
            repo
        }));
    }

    fn kill_once(&mut self, daemon: Daemon) {
        // Some as early as the start itself.
        let most = if self.rng.u32(..5) == 0 {
            200
        } else {
            LONGEST_LIFE_MS
        };
        std::thread::sleep(Duration::from_millis(self.rng.u64(..most)));
        let log = daemon.log();
        daemon.kill();
        self.kills += 1;
        let began = log.rfind("taking a step");
        let ended = log.rfind("outcome=");
        self.amid += u64::from(began.is_some() && began > ended);
    }

    /// Lets the device come to rest, and compares it with what it says it is.
    fn look(&mut self, daemon: &Daemon) -> Result<Ended, String> {
        let (tip, _) = self.branch.tip();
        let end = Instant::now() + REST;
        let mut status = Value::Null;
        let at = loop {
            let said = self.world.device.evenkeel(&["status", "--json"]);
            if said.code == Some(0) {
                status = serde_json::from_str(&said.stdout).map_err(|error| error.to_string())?;
                if let Some(at) = rests(&status, &tip) {
                    break at;
                }
            }
            if Instant::now() > end {
                return Err(format!(
                    "after kill {} it does not come to rest at {tip}: {status:#}\nits threads: {:#?}\n{}",
                    self.kills,
                    threads_of(daemon.pid()),
                    daemon
                        .log()
                        .lines()
                        .rev()
                        .take(20)
                        .collect::<Vec<_>>()
                        .join("\n")
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let context = |what: String| format!("after kill {}: {what}: {status:#}", self.kills);
        let declared = self
            .branch
            .declared(&at)
            .ok_or_else(|| context(format!("{at} was never pushed")))?;
        let floor = status["revision"]["floor"].as_str().unwrap_or_default();
        let floor = self
            .branch
            .place(floor)
            .ok_or_else(|| context("there is no floor".to_owned()))?;
        if floor < self.floor {
            return Err(context(format!(
                "the floor went back from {} to {floor}",
                self.floor
            )));
        }
        self.floor = floor;
        self.compare(&declared, daemon).map_err(context)?;
        Ok(if at == tip {
            Ended::New
        } else {
            Ended::LastGood
        })
    }

    /// What is there, beside what is declared.
    fn compare(&self, declared: &Declared, daemon: &Daemon) -> Result<(), String> {
        let mut there = BTreeMap::new();
        for (path, _) in proc::listing(&self.world.device.root()) {
            if !Path::new(&path).is_dir() {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let name = path
                    .trim_start_matches(&*self.world.device.root().to_string_lossy())
                    .to_owned();
                there.insert(name, text);
            }
        }
        let wanted: BTreeMap<String, String> = declared
            .files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), text.clone()))
            .collect();
        if there != wanted {
            return Err(format!("files: {there:?}, and declared are {wanted:?}"));
        }
        left_behind(&self.world.device.state_dir())?;
        let children = children_of(daemon.pid());
        if !children.is_empty() {
            return Err(format!("children of the daemon: {children:?}"));
        }
        match self.services {
            Services::None => Ok(()),
            Services::Two => self.compare_containers(declared),
        }
    }

    fn compare_containers(&self, declared: &Declared) -> Result<(), String> {
        let engine = self.world.engine();
        let mut there = BTreeMap::new();
        for container in engine.containers(&self.world.device.settings.id) {
            let found = engine.inspect(container["Id"].as_str().unwrap_or_default());
            let name = found["Name"].as_str().unwrap_or_default().to_owned();
            let value = found["Config"]["Env"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .find_map(|line| line.strip_prefix("A="))
                .unwrap_or_default()
                .to_owned();
            there.insert(
                name,
                (
                    value,
                    found["State"]["Running"] == true,
                    found["HostConfig"]["RestartPolicy"]["Name"].to_string(),
                ),
            );
        }
        let wanted: BTreeMap<_, _> = declared
            .services
            .iter()
            .map(|(name, value)| {
                let armed = "\"unless-stopped\"".to_owned();
                (
                    format!("/{}-{name}-1", self.app),
                    (value.to_string(), true, armed),
                )
            })
            .collect();
        if there != wanted {
            return Err(format!(
                "containers: {there:?}, and declared are {wanted:?}"
            ));
        }
        for (id, before) in &self.strangers {
            if !engine.exists(id) {
                return Err(format!("the stranger {id} is gone"));
            }
            let now = identity(&engine.inspect(id));
            if now != *before {
                return Err(format!("the stranger {id} was {before}, and is {now}"));
            }
        }
        Ok(())
    }

    /// Stops pushing; the branch is left as it is.
    fn finish(&mut self) {
        self.branch.stop.store(true, Ordering::Relaxed);
        if let Some(pusher) = self.pusher.take() {
            self.world.repo = pusher.join().unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.branch.stop.store(true, Ordering::Relaxed);
        if let Services::Two = self.services {
            for (id, _) in &self.strangers {
                self.world
                    .engine()
                    .call("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
            }
            let id = &self.world.device.settings.id;
            self.world
                .engine()
                .call("DELETE", &format!("/networks/{id}-strange"), None);
        }
    }
}

/// Where a device has come to rest: at the tip, or at last-good with a word why.
fn rests(status: &Value, tip: &str) -> Option<String> {
    let revision = &status["revision"];
    let at = revision["applied"].as_str()?;
    let settled = matches!(status["phase"].as_str(), Some("Idle" | "RolledBack"));
    if !settled || revision["tip"] != tip || revision["last_good"] != at {
        return None;
    }
    let says = |kind: &str| {
        let all = status["conditions"].as_array()?;
        let one = all.iter().find(|one| one["type"] == kind)?;
        Some((
            one["status"].as_str()?.to_owned(),
            one["reason"].as_str()?.to_owned(),
        ))
    };
    let (ready, reason) = says("Ready")?;
    let stands = if at == tip {
        ready == "True"
    } else {
        ready == "False" && reason == "Refused"
    };
    stands.then(|| at.to_owned())
}

/// What no file of a state directory is called once a pass is over.
fn left_behind(state: &Path) -> Result<(), String> {
    for (path, _) in proc::listing(state) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_junk = name.ends_with(".lock")
            || name.ends_with(".tmp")
            || name.starts_with("tmp_")
            || name.starts_with(".tmp")
            || name.ends_with(".evenkeel");
        if is_junk {
            return Err(format!("{path} was left behind"));
        }
    }
    Ok(())
}

fn children_of(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `123 (name) S 45 ...`: the name may hold blanks and brackets.
        let Some((head, tail)) = stat.rsplit_once(')') else {
            continue;
        };
        let parent = tail
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse::<u32>().ok());
        if parent == Some(pid) {
            found.push(format!(
                "{head}) {}",
                tail.split_whitespace().next().unwrap_or_default()
            ));
        }
    }
    found
}

/// What each thread of a process is at, as far as the kernel tells: state, place in the kernel, system call.
fn threads_of(pid: u32) -> Vec<String> {
    let all = std::fs::read_dir(format!("/proc/{pid}/task"));
    all.into_iter()
        .flatten()
        .flatten()
        .map(|task| {
            let read =
                |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let stat = read("stat");
            let (name, state) = stat.rsplit_once(')').unwrap_or_default();
            let state = state.get(1..2).unwrap_or_default();
            format!(
                "{name}) {state} {} {}",
                read("wchan"),
                read("syscall").trim()
            )
        })
        .collect()
}

/// What must not change about a stranger's container.
fn identity(found: &Value) -> Value {
    json!({
        "id": found["Id"], "name": found["Name"], "image": found["Image"], "running": found["State"]["Running"],
        "started": found["State"]["StartedAt"], "restarts": found["RestartCount"],
    })
}

/// Containers and a network of other people, one of another device of this fleet.
fn strangers(world: &World) -> Vec<(String, Value)> {
    let (engine, id) = (world.engine(), &world.device.settings.id);
    let network = json!({ "Name": format!("{id}-strange") });
    engine.call("POST", "/networks/create", Some(&network));
    [json!({}), json!({ "dev.evenkeel.device": "another-device", "dev.evenkeel.app": "one", "dev.evenkeel.service": "web" })]
        .into_iter()
        .enumerate()
        .map(|(number, labels)| {
            let container = engine.create_stranger(
                &format!("{id}-stranger-{number}"),
                &json!({
                    "Image": world.image, "Cmd": ["/bin/sleep", "86400"], "Labels": labels,
                    "HostConfig": { "NetworkMode": format!("{id}-strange") },
                }),
            );
            let seen = identity(&engine.inspect(&container));
            (container, seen)
        })
        .collect()
}

/// Kills so often, and looks every few kills.
fn kills(rig: &mut Rig, number: u64, tally: &mut Tally) {
    let mut daemon = rig.world.device.spawn_daemon();
    // Before anything has been good there is nothing to go back to.
    assert_eq!(rig.look(&daemon), Ok(Ended::New));
    rig.begin_pushing();
    while rig.kills < number {
        let before = rig.kills;
        for _ in 0..KILLS_A_LOOK.min(number - before) {
            rig.kill_once(daemon);
            daemon = rig.world.device.spawn_daemon();
        }
        let branch = Arc::clone(&rig.branch);
        let still: MutexGuard<'_, ()> = branch.gate.lock().unwrap();
        let ended = rig.look(&daemon);
        drop(still);
        for _ in before..rig.kills {
            tally.count(ended.clone());
        }
        if ended.is_err() {
            break;
        }
    }
    rig.finish();
    daemon.kill();
    eprintln!(
        "{} kills, {} of them in the middle of an update; {} revisions",
        rig.kills,
        rig.amid,
        rig.branch.commits.lock().unwrap().len()
    );
}

fn seed() -> u64 {
    let seed = only_seed().unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    seed
}

#[test]
fn a_killed_agent_loses_nothing_and_leaves_nothing_behind() {
    let world = World::with_docker("sigkill");
    let server = GitHttp::https(world.repo.served());
    let source = vec![format!("ca_file = {:?}", server.ca_file())];
    let url = server.url();
    let mut rig = Rig::new(world, url, source, Services::Two, seed());
    let mut tally = Tally::new("SIGKILL, files and containers over HTTPS");
    kills(&mut rig, Scale::asked().of(20, 500), &mut tally);
    tally.close();
}

#[test]
fn an_agent_killed_over_ssh_leaves_no_process_behind() {
    let world = World::of_files("sigkill-ssh");
    let server = GitSsh::start(&world.repo.bare());
    let source = vec![
        format!("ssh_key = {:?}", server.user_key()),
        format!("known_hosts = {:?}", server.known_hosts()),
    ];
    let (url, key) = (server.url(), server.user_key().display().to_string());
    let mut rig = Rig::new(world, url, source, Services::None, seed());
    let mut tally = Tally::new("SIGKILL, files over SSH");
    kills(&mut rig, Scale::asked().of(8, 200), &mut tally);
    // What a killed agent had started notices that it is alone.
    evenkeel_tests::wait_for("the last ssh of a killed agent to end", || {
        let left = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&key)
            });
        (!left).then_some(())
    });
    tally.close();
}

/// The harness has to see whatever it says it looks for: each of these is put there by hand, beside a device at rest.
#[test]
fn what_a_killed_agent_could_leave_behind_is_seen() {
    let world = World::with_docker("sigkill-planted");
    let url = world.repo.file_url();
    let rig = Rig::new(world, url, Vec::new(), Services::Two, 1);
    let daemon = rig.world.device.spawn_daemon();
    let (_, declared) = rig.branch.tip();
    evenkeel_tests::wait_for("the device to be at rest", || {
        rig.compare(&declared, &daemon).ok()
    });
    // Nobody puts anything right from here on, and the process is still there to be looked at.
    daemon.signal("STOP");
    let engine = rig.world.engine();
    let (root, state) = (rig.world.device.root(), rig.world.device.state_dir());
    let mut tally = Tally::new("SIGKILL, files and containers over HTTPS");
    let mut see = || {
        let seen = rig.compare(&declared, &daemon);
        tally.count(seen.map(|()| Ended::New));
    };
    for left in [
        root.join("etc/.one.conf.0123456789abcdef.evenkeel"),
        state.join("git/refs/heads/main.lock"),
        state.join("git/objects/pack/tmp_pack_x"),
        state.join(".floor.tmp"),
    ] {
        std::fs::create_dir_all(left.parent().unwrap()).unwrap();
        std::fs::write(&left, "half").unwrap();
        see();
        std::fs::remove_file(&left).unwrap();
    }
    let web = rig.world.container("web");
    let second = engine.create_stranger(
        "sigkill-planted-second",
        &json!({ "Image": rig.world.image, "Cmd": ["/bin/sleep", "86400"], "Labels": web["Config"]["Labels"] }),
    );
    see();
    engine.remove(&second);
    std::fs::write(root.join("etc/one.conf"), "torn").unwrap();
    see();
    std::fs::write(root.join("etc/one.conf"), "0\n").unwrap();
    engine.stop(web["Id"].as_str().unwrap());
    see();
    let (_, body) = engine.call(
        "POST",
        &format!("/containers/{}/start", web["Id"].as_str().unwrap()),
        None,
    );
    assert_eq!(body, "");
    rig.compare(&declared, &daemon).unwrap();
    engine.stop(&rig.strangers[0].0);
    see();
    let seen = tally.wrong().len();
    assert_eq!(tally.cases(), seen as u64, "not all of it was seen");
    tally.close_planted("something left behind, lost or touched");
    daemon.kill();
}

#[test]
fn a_daemon_that_follows_one_update_after_another_keeps_no_descriptor_and_no_thread() {
    let world = World::with_docker("sigkill-long");
    let server = GitHttp::https(world.repo.served());
    let source = vec![format!("ca_file = {:?}", server.ca_file())];
    let url = server.url();
    let mut rig = Rig::new(world, url, source, Services::Two, seed());
    let daemon = rig.world.device.spawn_daemon();
    // Before anything has been good there is nothing to go back to.
    assert_eq!(rig.look(&daemon), Ok(Ended::New));
    let mut tally = Tally::new("update after update in one process");
    let mut most = None;
    for number in 0..Scale::asked().of(6, 120) {
        let next = Declared::after(
            &rig.branch.tip().1,
            1000 + number,
            Services::Two,
            &mut rig.rng,
        );
        rig.branch
            .push(&rig.world.repo, &rig.app, &rig.world.image, next);
        let ended = rig.look(&daemon).and_then(|ended| {
            let now = proc::sample(daemon.pid());
            let (descriptors, threads) = (now.descriptors.len(), now.threads);
            // What a first update opens for good stays; a few are those of the moment (a poll, a look at the engine).
            let (most_descriptors, most_threads) =
                *most.get_or_insert((descriptors + 6, threads + 4));
            if descriptors > most_descriptors || threads > most_threads {
                return Err(format!(
                    "after update {number}: {descriptors} descriptors and {threads} threads: {:?}",
                    now.descriptors
                ));
            }
            Ok(ended)
        });
        tally.count(ended);
    }
    daemon.kill();
    tally.close();
}
