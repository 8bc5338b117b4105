//! An image store that lost bytes: files of an image's layer that are empty, zeroed or gone, as a power cut leaves them where
//! the engine had not synced them. A real engine's real store is damaged, below the engine and unknown to it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evenkeel_tests::tally::{Ended, Scale, Tally};
use evenkeel_tests::{CallFault, Daemon, Engine, EngineProxy, Registry};

use super::network::until;
use crate::fleet::World;

const GATE: &str = "\n[gate]\ndeadline = \"10s\"\nsoak = \"1s\"\n";
/// A pull, a look into an image, another pull, and a minute of back-off where something was put off.
const IN_TIME: Duration = Duration::from_secs(150);

/// What is done to the files of a layer.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// The program that the container runs is empty.
    Emptied,
    /// It is as long as it was, and zeros.
    Zeroed,
    /// Half of it is there.
    Halved,
    /// It is gone.
    Gone,
    /// A file that no program needs at its start is zeros.
    Silent,
    /// The whole layer is gone.
    Layer,
}

impl Damage {
    fn to(self, layer: &Path) {
        let program = layer.join("bin/busybox");
        let noise = layer.join("etc/noise");
        let zeros = |path: &Path| {
            let length = std::fs::metadata(path).unwrap().len();
            let file = std::fs::File::create(path).unwrap();
            file.set_len(length).unwrap();
        };
        match self {
            Self::Emptied => drop(std::fs::File::create(program).unwrap()),
            Self::Zeroed => zeros(&program),
            Self::Halved => {
                let file = std::fs::OpenOptions::new().write(true).open(program);
                let file = file.unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(length / 2).unwrap();
            }
            Self::Gone => std::fs::remove_file(program).unwrap(),
            Self::Silent => zeros(&noise),
            Self::Layer => std::fs::remove_dir_all(layer).unwrap(),
        }
    }
}

/// A device with a service that runs, and the next one's image in a registry.
struct Scene {
    world: World,
    registry: Registry,
    proxy: EngineProxy,
    old: String,
    new: String,
}

impl Scene {
    fn new(mut world: World) -> Self {
        let proxy = EngineProxy::start(world.engine().socket());
        world.device.settings.engine = proxy.url();
        world
            .apps(&["one"])
            .app("one", world.sleeper("web", "") + GATE);
        let registry = Registry::start();
        // A layer that no other image has.
        let noise: String = (0..300_000).map(|_| fastrand::alphanumeric()).collect();
        let id = world.device.settings.id.clone();
        let image = world
            .engine()
            .busybox_image(&format!("{id}-new"), &[("etc/noise", &noise)]);
        let new = registry.push(world.engine(), &image, "acme/app");
        if world.engine().image(&image).is_some() {
            world.engine().remove_image(&image);
        }
        world.release_and_sync("old");
        let old = world.container_id("web");
        Self {
            world,
            registry,
            proxy,
            old,
            new,
        }
    }

    fn engine(&self) -> &Engine {
        self.world.engine()
    }

    fn release_new(&self) -> String {
        let text = self
            .world
            .sleeper("web", "restart = \"no\"\n")
            .replace(&self.world.image, &self.new);
        self.world.app("one", text + GATE);
        self.world.repo.release("new")
    }

    /// The directory of the image's one layer.
    fn layer(&self) -> PathBuf {
        let image = self.engine().image(&self.new).expect("the new image");
        let layer = image["GraphDriver"]["Data"]["UpperDir"].as_str();
        PathBuf::from(layer.unwrap_or_else(|| panic!("no layer is told of: {image:#}")))
    }

    /// The new revision's image is pulled, and the agent ends before it knows that all of it is on disk.
    fn pulled_and_not_synced(&self) {
        let pulled = AtomicBool::new(false);
        self.proxy.arm_always(CallFault::Hang, move |call| {
            if call.method == "POST" && call.path.starts_with("/images/create") {
                pulled.store(true, Ordering::Relaxed);
                return false;
            }
            pulled.load(Ordering::Relaxed) && call.path.starts_with("/images/")
        });
        let daemon = self.world.device.spawn_daemon();
        evenkeel_tests::wait_for("the image to be pulled", || {
            let calls = self.proxy.calls();
            let at = calls
                .iter()
                .position(|call| call.path.starts_with("/images/create"))?;
            (calls.len() > at + 1 && self.engine().image(&self.new).is_some()).then_some(())
        });
        daemon.kill();
        self.proxy.mend();
    }

    /// The old container runs as it did.
    fn is_as_it_was(&self) -> Result<(), String> {
        let web = self.world.container("web");
        if web["Id"] == self.old.as_str() && web["State"]["Running"] == true {
            Ok(())
        } else {
            Err(format!("what ran does not run any more: {web:#}"))
        }
    }

    /// A container of the new image runs, whole, and the revision is good.
    fn is_at(&self, commit: &str) -> Option<()> {
        let status = self.world.device.status_json();
        let id = &self.world.device.settings.id;
        let web = self.engine().find(id, "web")?;
        (status["revision"]["last_good"] == commit
            && web["Config"]["Image"].as_str()? == self.new
            && web["State"]["Running"] == true)
            .then_some(())
    }

    fn comes_to(&self, commit: &str) -> Result<Ended, String> {
        until(IN_TIME, || self.is_at(commit))
            .ok_or_else(|| format!("not at {commit}: {:#}", self.world.device.status_json()))?;
        let web = self.world.container_id("web");
        let (code, said) = self.engine().exec(&web, &["/bin/cat", "/etc/noise"]);
        if code != 0 || said.trim().len() != 300_000 || said.contains('\0') {
            return Err(format!(
                "the image is damaged still: {code}, {} bytes",
                said.len()
            ));
        }
        Ok(Ended::New)
    }

    /// The image was replaced before the old container was stopped.
    fn replaced_first(&self) -> Result<(), String> {
        let calls = self.proxy.calls();
        let last = |what: &dyn Fn(&evenkeel_tests::Call) -> bool| calls.iter().rposition(what);
        let removed = last(&|call| call.method == "DELETE" && call.path.starts_with("/images/"));
        let pulled = last(&|call| call.path.starts_with("/images/create"));
        let stopped = calls
            .iter()
            .position(|call| call.path.contains(&self.old) && call.path.contains("/stop"));
        match (removed, pulled, stopped) {
            (Some(removed), Some(pulled), Some(stopped))
                if removed < pulled && pulled < stopped =>
            {
                Ok(())
            }
            order => Err(format!("removed, pulled, stopped: {order:?} in {calls:#?}")),
        }
    }

    fn waits_for_an_image(&self, words: &[&str]) -> Result<(), String> {
        let said = until(IN_TIME, || {
            let status = self.world.device.status_json();
            let reconciling = status["conditions"]
                .as_array()?
                .iter()
                .find(|one| one["type"] == "Reconciling")?
                .clone();
            let message = reconciling["message"].as_str()?;
            words
                .iter()
                .all(|word| message.contains(word))
                .then_some(())
        });
        said.ok_or_else(|| {
            format!(
                "nothing of {words:?}: {:#}",
                self.world.device.status_json()
            )
        })
    }
}

fn ending(daemon: Daemon, ended: Result<Ended, String>) -> Result<Ended, String> {
    let log = daemon.log();
    daemon.stop();
    ended.map_err(|why| {
        let from = log.len().saturating_sub(3000);
        format!("{why}\n{}", log.get(from..).unwrap_or(&log))
    })
}

/// Damaged between its pull and the switch.
fn torn(world: World, damage: Damage) -> Result<Ended, String> {
    let scene = Scene::new(world);
    let commit = scene.release_new();
    scene.pulled_and_not_synced();
    damage.to(&scene.layer());
    scene.proxy.arm(usize::MAX, CallFault::Hang);
    let daemon = scene.world.device.spawn_daemon();
    let ended = scene
        .comes_to(&commit)
        .and_then(|ended| scene.replaced_first().map(|()| ended));
    ending(daemon, ended.map_err(|why| format!("{damage:?}: {why}")))
}

/// The same, where the agent believes that the image is whole: as if it did not look.
fn torn_and_not_looked_into(world: World) -> Result<Ended, String> {
    let scene = Scene::new(world);
    let commit = scene.release_new();
    scene.pulled_and_not_synced();
    Damage::Emptied.to(&scene.layer());
    let body = format!("evenkeel-images 1\n{}\n", scene.new);
    let summed = evenkeel_tests::process::run_with_input(
        &mut std::process::Command::new("sha256sum"),
        body.as_bytes(),
        evenkeel_tests::PATIENCE,
    );
    let sum = summed.stdout.split(' ').next().unwrap_or_default();
    let file = scene.world.device.state_dir().join("images");
    std::fs::write(file, format!("{body}{sum}\n")).unwrap();
    let daemon = scene.world.device.spawn_daemon();
    let decided = until(IN_TIME, || {
        let status = scene.world.device.status_json();
        (status["phase"] == "RolledBack" || status["revision"]["last_good"] == commit.as_str())
            .then_some(())
    });
    let ended = match decided {
        Some(()) if scene.is_at(&commit).is_some() => Ok(Ended::New),
        Some(()) => Err("a good revision was refused for a damaged image".to_owned()),
        None => Err("nothing was decided".to_owned()),
    };
    ending(daemon, ended)
}

/// Damaged with a registry that is away: what runs runs on, and it is said. Then the registry is back.
fn torn_offline(world: World) -> Result<[Ended; 2], String> {
    let mut scene = Scene::new(world);
    let commit = scene.release_new();
    scene.pulled_and_not_synced();
    Damage::Emptied.to(&scene.layer());
    scene.registry.stop();
    let daemon = scene.world.device.spawn_daemon();
    let ended = scene
        .waits_for_an_image(&["damaged", "cannot be fetched anew"])
        .and_then(|()| scene.is_as_it_was())
        .and_then(|()| {
            scene.registry.resume();
            scene.world.device.sync().expect_code(0);
            scene.comes_to(&commit)
        });
    ending(daemon, ended).map(|ended| [Ended::LastGood, ended])
}

/// Damaged, and somebody else's, too: it is left alone, and it is said.
fn torn_and_not_ours_alone(world: World) -> Result<[Ended; 2], String> {
    let scene = Scene::new(world);
    let commit = scene.release_new();
    scene.pulled_and_not_synced();
    let (status, body) = scene.engine().call(
        "POST",
        &format!("/images/{}/tag?repo=localhost/strangers&tag=own", scene.new),
        None,
    );
    assert!(status == 201, "{status} {body}");
    Damage::Emptied.to(&scene.layer());
    let daemon = scene.world.device.spawn_daemon();
    let ended = scene
        .waits_for_an_image(&["damaged", "localhost/strangers:own"])
        .and_then(|()| scene.is_as_it_was())
        .and_then(|()| {
            let theirs = scene.engine().image("localhost/strangers:own");
            theirs
                .map(drop)
                .ok_or_else(|| "a stranger's image was removed".to_owned())
        })
        .and_then(|()| {
            // They take it away, and nobody else needs it.
            let gone = scene
                .engine()
                .call("DELETE", "/images/localhost/strangers:own", None);
            assert!(gone.0 == 200, "{gone:?}");
            scene.world.device.sync().expect_code(0);
            scene.comes_to(&commit)
        });
    ending(daemon, ended).map(|ended| [Ended::LastGood, ended])
}

/// Last-good's own container is gone, and its image is damaged, although it was whole once.
fn last_good_without_container(world: World, damage: Damage) -> Result<[Ended; 2], String> {
    let mut scene = Scene::new(world);
    let commit = scene.release_new();
    scene.world.device.sync().expect_code(0);
    scene.engine().remove(&scene.world.container_id("web"));
    damage.to(&scene.layer());
    scene.registry.stop();
    let said = scene.world.device.sync();
    if said.code != Some(1) || !said.text().contains("damaged") {
        return Err(format!(
            "{damage:?}, offline: {:?} {}",
            said.code,
            said.text()
        ));
    }
    scene.registry.resume();
    let said = scene.world.device.sync();
    if said.code != Some(0) {
        return Err(format!("{damage:?}: {:?} {}", said.code, said.text()));
    }
    let ended = scene.comes_to(&commit)?;
    Ok([Ended::LastGood, ended])
}

fn count_both(tally: &mut Tally, ended: Result<[Ended; 2], String>) {
    match ended {
        Ok(both) => both.into_iter().for_each(|one| tally.count(Ok(one))),
        Err(why) => tally.count(Err(why)),
    }
}

const QUICK: [Damage; 2] = [Damage::Emptied, Damage::Silent];
const ALL: [Damage; 6] = [
    Damage::Emptied,
    Damage::Zeroed,
    Damage::Halved,
    Damage::Gone,
    Damage::Silent,
    Damage::Layer,
];

fn damages() -> &'static [Damage] {
    match Scale::asked() {
        Scale::Quick => &QUICK,
        Scale::Full => &ALL,
    }
}

const CLASS: &str = "an image that lost bytes in a power cut";

#[test]
fn an_image_torn_before_the_switch_is_fetched_anew_on_docker() {
    let mut tally = Tally::new(CLASS);
    for (number, damage) in damages().iter().enumerate() {
        tally.count(torn(World::with_docker(&format!("torn-{number}")), *damage));
    }
    tally.close();
}

#[test]
fn an_image_torn_before_the_switch_is_fetched_anew_on_podman() {
    let mut tally = Tally::new(CLASS);
    for (number, damage) in damages().iter().enumerate() {
        tally.count(torn(World::with_podman(&format!("torn-{number}")), *damage));
    }
    tally.close();
}

#[test]
fn a_torn_image_that_cannot_be_replaced_leaves_what_runs_alone_and_is_named() {
    let mut tally = Tally::new(CLASS);
    count_both(&mut tally, torn_offline(World::with_docker("torn-offline")));
    count_both(
        &mut tally,
        torn_and_not_ours_alone(World::with_docker("torn-shared")),
    );
    tally.close();
}

fn good_ones(world: impl Fn(&str) -> World) {
    let mut tally = Tally::new(CLASS);
    let all: &[Damage] = Scale::asked().of(&[Damage::Gone], &[Damage::Gone, Damage::Layer]);
    for (number, damage) in all.iter().enumerate() {
        let world = world(&format!("torn-good-{number}"));
        count_both(&mut tally, last_good_without_container(world, *damage));
    }
    tally.close();
}

#[test]
fn a_good_revisions_damaged_image_is_fetched_anew_on_docker() {
    good_ones(World::with_docker);
}

#[test]
fn a_good_revisions_damaged_image_is_fetched_anew_on_podman() {
    good_ones(World::with_podman);
}

/// Without the look at what was not synced, the harness has to see a good revision refused.
#[test]
fn an_image_that_nobody_looks_into_is_seen() {
    let mut tally = Tally::new(CLASS);
    tally.count(torn_and_not_looked_into(World::with_docker("torn-planted")));
    tally.close_planted("no look at an image that was not synced");
}
