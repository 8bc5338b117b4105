//! An engine that breaks in the middle of an update: calls that are cut, refused, answered with rubbish or not at all, a
//! dockerd that is stopped or killed, a container that is lost or cannot be killed.

use std::time::{Duration, Instant};

use evenkeel_tests::tally::{Ended, Scale, Tally, only_seed};
use evenkeel_tests::{Call, CallFault, Dockerd, EngineProxy, wait_at_most, wait_for};

use crate::fleet::World;

/// What an engine says of a container whose process does not go away.
const CANNOT_KILL: &str =
    "cannot kill container: tried to kill container, but did not receive an exit event";

/// A device of one file and one service, both with the number of the revision, behind somebody who breaks calls.
struct Rig {
    world: World,
    proxy: EngineProxy,
    soak: &'static str,
    number: u64,
}

impl Rig {
    fn new(mut world: World, soak: &'static str) -> Self {
        let proxy = EngineProxy::start(world.engine().socket());
        world.device.settings.engine = proxy.url();
        let mut rig = Self {
            world,
            proxy,
            soak,
            number: 0,
        };
        rig.release();
        rig.world.device.sync().expect_code(0);
        rig
    }

    fn release(&mut self) -> String {
        self.number += 1;
        let number = self.number;
        let service = self.world.sleeper(
            "web",
            &format!("stop_signal = \"SIGKILL\"\nrestart = \"unless-stopped\"\nenvironment = {{ A = \"{number}\" }}\n"),
        );
        let text = format!(
            "{service}[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{number}\\n\"\n\
             [gate]\ndeadline = \"20s\"\nsoak = \"{}\"\n",
            self.soak
        );
        self.world.apps(&["one"]).app("one", text);
        self.world.repo.release(&format!("Number {number}"))
    }

    /// Whether all of it is at this number, with one container, which runs.
    fn is_at(&self, number: u64) -> Result<(), String> {
        let file = self.world.device.read("/etc/one.conf");
        if file != Some(format!("{number}\n")) {
            return Err(format!("the file is at {file:?} and not at {number}"));
        }
        let engine = self.world.engine();
        let all = engine.containers(&self.world.device.settings.id);
        let [one] = all.as_slice() else {
            return Err(format!("{} containers: {all:?}", all.len()));
        };
        let found = engine.inspect(one["Id"].as_str().unwrap_or_default());
        let name = format!("/{}-web-1", self.world.app_name("one"));
        let environment = found["Config"]["Env"].to_string();
        let is_right = found["Name"] == name.as_str()
            && found["State"]["Running"] == true
            && environment.contains(&format!("\"A={number}\""));
        if is_right {
            return Ok(());
        }
        Err(format!(
            "{} {} with {environment}, and not {name} at {number}",
            found["Name"], found["State"]["Status"]
        ))
    }

    /// One update with one broken call, and the pass after it.
    fn broken_at(&mut self, nth: usize, fault: CallFault) -> Result<Option<Ended>, String> {
        let before = self.number;
        self.release();
        self.proxy.arm(nth, fault);
        let first = self.world.device.sync();
        let calls = self.proxy.calls();
        if self.proxy.mend() == 0 {
            self.world.device.sync().expect_code(0);
            return Ok(None);
        }
        let call = calls
            .get(nth - 1)
            .map(|call| format!("{} {}", call.method, call.path));
        let context = |what: String| {
            format!(
                "{fault:?} at call {nth} ({}): {what}\n{}",
                call.clone().unwrap_or_default(),
                first.text()
            )
        };
        // The pass itself ends whole: at the new one, or back at the old one with a word why.
        match first.code {
            Some(0) => self.is_at(self.number).map_err(context)?,
            Some(1) => self
                .is_at(before)
                .or_else(|_| self.is_at(self.number))
                .map_err(context)?,
            code => return Err(context(format!("it ended with {code:?}"))),
        }
        let second = self.world.device.sync();
        if second.code != Some(0) {
            return Err(context(format!("the pass after it: {}", second.text())));
        }
        self.is_at(self.number).map_err(context)?;
        let plan = self.world.device.plan_json();
        if plan["steps"].as_array().map(Vec::len) != Some(0) {
            return Err(context(format!("there is still something to do: {plan:#}")));
        }
        Ok(Some(Ended::New))
    }
}

const FAULTS: [CallFault; 4] = [
    CallFault::CutBefore,
    CallFault::CutAfter,
    CallFault::Status(500, "the engine has a bad day"),
    CallFault::Pretend,
];
const MORE_FAULTS: [CallFault; 6] = [
    CallFault::Status(503, "starting"),
    CallFault::Status(
        400,
        "client version 1.53 is too new. Maximum supported API version is 1.41",
    ),
    CallFault::Status(404, "page not found"),
    CallFault::NoHttp,
    CallFault::Garbage,
    CallFault::Slow(Duration::from_secs(2)),
];

#[test]
fn whichever_call_of_an_update_breaks_the_device_ends_whole() {
    let mut rig = Rig::new(World::with_docker("calls"), "500ms");
    let mut tally = Tally::new("one broken call to the engine");
    rig.release();
    rig.proxy.arm(usize::MAX, CallFault::Hang);
    rig.world.device.sync().expect_code(0);
    let calls = rig.proxy.calls();
    let changes: Vec<usize> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.is_change())
        .map(|(index, _)| index + 1)
        .collect();
    assert!(changes.len() >= 6, "{calls:?}");
    let mut cases = Vec::new();
    match Scale::asked() {
        Scale::Quick => {
            // Each change with two of the faults, in turn.
            for (index, nth) in changes.iter().enumerate() {
                cases.push((*nth, FAULTS[index % 4]));
                cases.push((*nth, FAULTS[(index + 1) % 4]));
            }
        }
        Scale::Full => {
            for nth in 1..=calls.len() {
                let is_change = changes.contains(&nth);
                cases.extend(
                    FAULTS
                        .into_iter()
                        .chain(MORE_FAULTS)
                        .filter(|fault| is_change || *fault != CallFault::Pretend)
                        .map(|fault| (nth, fault)),
                );
                if is_change {
                    cases.push((nth, CallFault::Hang));
                }
            }
        }
    }
    for (nth, fault) in cases {
        match rig.broken_at(nth, fault) {
            Ok(None) => {}
            Ok(Some(ended)) => tally.count(Ok(ended)),
            Err(why) => tally.count(Err(why)),
        }
    }
    tally.close();
}

/// A second container by hand, and one that stands still: the comparison has to see them.
#[test]
fn an_update_that_ends_in_two_containers_or_none_that_runs_is_seen() {
    let rig = Rig::new(World::with_docker("calls-planted"), "500ms");
    let mut tally = Tally::new("one broken call to the engine");
    let web = rig.world.container("web");
    let second = rig.world.engine().create_stranger(
        "calls-planted-second",
        &serde_json::json!({
            "Image": rig.world.image, "Cmd": ["/bin/sleep", "86400"], "Labels": web["Config"]["Labels"],
        }),
    );
    tally.count(rig.is_at(1).map(|()| Ended::New));
    rig.world.engine().remove(&second);
    rig.world.engine().stop(web["Id"].as_str().unwrap());
    tally.count(rig.is_at(1).map(|()| Ended::New));
    assert_eq!(tally.wrong().len(), 2, "not all of it was seen");
    tally.close_planted("a second container, and one that stands still");
}

fn stops(call: &Call) -> bool {
    call.path.contains("/stop")
        || call.path.contains("/kill")
        || (call.method == "DELETE" && call.path.starts_with("/containers"))
}

#[test]
fn a_container_that_cannot_be_killed_keeps_the_device_at_last_good_and_heats_nothing() {
    let mut rig = Rig::new(World::with_docker("unkillable"), "500ms");
    let mut tally = Tally::new("a container that cannot be killed");
    let old = rig.world.container_id("web");
    rig.proxy
        .arm_always(CallFault::Status(500, CANNOT_KILL), stops);
    rig.release();
    let daemon = rig.world.device.spawn_daemon();
    wait_for("the device to say that it cannot", || {
        let status = rig.world.device.status_json();
        status
            .to_string()
            .contains("cannot kill container")
            .then_some(())
    });
    wait_for("last-good's file", || {
        (rig.world.device.read("/etc/one.conf")? == "1\n").then_some(())
    });
    std::thread::sleep(Duration::from_secs(10));
    let tried = rig.proxy.calls().iter().filter(|call| stops(call)).count();
    let seen = rig.world.engine().inspect(&old);
    tally.count(if seen["State"]["Running"] != true {
        Err(format!("the old container does not run: {seen:#}"))
    } else if tried > 24 {
        Err(format!("{tried} tries in some 10 s"))
    } else {
        Ok(Ended::LastGood)
    });
    assert!(rig.proxy.mend() > 0);
    rig.world.device.sync().expect_code(0);
    tally.count(rig.is_at(2).map(|()| Ended::New));
    assert_eq!(daemon.stop(), Some(0));
    tally.close();
}

#[test]
fn an_engine_that_hangs_takes_neither_the_daemons_answers_nor_its_end() {
    let mut rig = Rig::new(World::with_docker("hangs"), "500ms");
    let mut tally = Tally::new("an engine that hangs");
    let daemon = rig.world.device.spawn_daemon();
    wait_for("the daemon to be at rest", || {
        (rig.world.device.status_json()["phase"] == "Idle").then_some(())
    });
    rig.proxy.arm_always(CallFault::Hang, |_| true);
    rig.release();
    let asked = Instant::now();
    rig.world.device.evenkeel(&["status"]).expect_code(0);
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    wait_at_most(
        Duration::from_secs(120),
        "the device to say that its engine does not answer",
        || {
            let status = rig.world.device.status_json();
            let conditions = status["conditions"].as_array()?;
            conditions
                .iter()
                .any(|one| one["type"] == "Healthy" && one["reason"] == "EngineDown")
                .then_some(())
        },
    );
    tally.count(rig.is_at(1).map(|()| Ended::LastGood));
    rig.proxy.mend();
    rig.world.device.sync().expect_code(0);
    tally.count(rig.is_at(2).map(|()| Ended::New));
    rig.proxy.arm_always(CallFault::Hang, |_| true);
    std::thread::sleep(Duration::from_secs(3));
    let asked = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "{:?}",
        asked.elapsed()
    );
    tally.close();
}

#[test]
fn a_container_that_is_lost_in_the_soak_is_not_the_revisions_fault() {
    let mut rig = Rig::new(World::with_docker("lost"), "15s");
    let mut tally = Tally::new("a container lost in the soak");
    rig.release();
    let daemon = rig.world.device.spawn_daemon();
    let id = wait_for("the new container to soak", || {
        let status = rig.world.device.status_json();
        let found = rig
            .world
            .engine()
            .find(&rig.world.device.settings.id, "web")?;
        let is_new =
            found["Config"]["Env"].to_string().contains("A=2") && found["State"]["Running"] == true;
        (status["phase"] == "Soaking" && is_new)
            .then(|| found["Id"].as_str().unwrap_or_default().to_owned())
    });
    rig.world.engine().remove(&id);
    wait_for("last-good to be back", || rig.is_at(1).ok());
    tally.count(Ok(Ended::LastGood));
    rig.world.device.sync().expect_code(0);
    tally.count(rig.is_at(2).map(|()| Ended::New));
    assert_eq!(daemon.stop(), Some(0));
    tally.close();
}

#[test]
fn a_dockerd_that_ends_in_the_middle_of_an_update_costs_no_revision() {
    let mut dockerd = Dockerd::start();
    let world = World::with_engine("dockerd", dockerd.engine());
    let mut rig = Rig::new(world, "1s");
    let seed = only_seed().unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tally = Tally::new("dockerd stopped or killed in an update");
    let daemon = rig.world.device.spawn_daemon();
    for case in 0..Scale::asked().of(4, 60) {
        let tip = rig.release();
        std::thread::sleep(Duration::from_millis(rng.u64(300..3500)));
        if rng.bool() {
            dockerd.stop();
        } else {
            dockerd.kill();
        }
        std::thread::sleep(Duration::from_millis(rng.u64(0..2000)));
        dockerd.resume();
        let end = Instant::now() + Duration::from_secs(90);
        let ended = loop {
            // Who asks does not wait for a deferral.
            let said = rig.world.device.sync();
            let status = rig.world.device.status_json();
            if status["revision"]["applied"] == tip.as_str() && said.code == Some(0) {
                break rig.is_at(rig.number).map(|()| Ended::New);
            }
            if said.code == Some(4) {
                break Err(format!("it was refused: {}", said.text()));
            }
            if Instant::now() > end {
                break Err(format!("{}\n{status:#}\n{}", said.text(), daemon.log()));
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        tally.count(ended.map_err(|why| format!("case {case} of seed {seed}: {why}")));
    }
    daemon.kill();
    tally.close();
}
