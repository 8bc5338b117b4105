//! Cuts the power of a booted machine, again and again, in the middle of updates: what `tests/powercut.sh` runs.
//!
//! Debian with systemd, Docker and the agent boots in QEMU; the git server is here. Signed commits come all the time, a bad
//! one now and then, and at a random moment QEMU is killed. What its disk had not flushed is lost in part, at random. Then it
//! boots with no git server in reach: it has to come up at a revision that is no older than the last one it was seen to call
//! good, with that revision's files, and its container answering. Then the server is back, and it has to get to the tip.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a script in Rust: it says how far it is, writes scratch files, waits, and reports by panicking"
)]

mod guest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_tests::block_log::Flush;
use evenkeel_tests::process::run;
use evenkeel_tests::tally::{Ended, Tally, is_planted};
use evenkeel_tests::{FleetRepo, GitHttp, PATIENCE};
use guest::{Guest, Outfit};
use sha2::{Digest as _, Sha256};

/// For a boot and all that follows it: an emulated processor takes a minute, and on a busy machine many.
const LIMIT: Duration = Duration::from_secs(1200);
/// The power goes at most so long after the machine was found well: some updates on an emulated processor.
const LONGEST_LIFE: f64 = 45.0;
/// The class in the table of `tests/torture.sh`.
const CLASS: &str = "power cut, a booted machine with Docker";

fn main() {
    let mut cuts = 5;
    let mut seed = 1;
    let mut made = PathBuf::new();
    let mut deb = PathBuf::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--cuts" => cuts = value.parse().expect("--cuts takes a number"),
            "--seed" => seed = value.parse().expect("--seed takes a number"),
            "--guest" => made = PathBuf::from(value),
            "--deb" => deb = PathBuf::from(value),
            _ => panic!("there is no option {argument}: tests/powercut.sh calls this"),
        }
    }
    let mut story = Story::new(&made, &deb, seed);
    let mut tally = Tally::new(CLASS);
    let began = Instant::now();
    story.first_boot();
    println!("up, and at its first revision, after {} s", seconds(began));
    for number in 1..=cuts {
        let began = Instant::now();
        let (lived, entries, certain) = story.live_and_be_cut();
        let ended = story.boot();
        let shown = match &ended {
            Ok(ended) => format!("{ended:?}"),
            Err(why) => format!("PROMISE BROKEN: {why}"),
        };
        println!(
            "cut {number} of {cuts}: {lived:.1} s into updates, {entries} entries in the disk's log, {} after the last flush: {shown} ({} s)",
            entries - certain,
            seconds(began)
        );
        let broken = ended.is_err();
        tally.count(ended.map_err(|why| format!("--seed {seed}, cut {number}: {why}")));
        if broken {
            // What comes after would be judged against a state that nobody knows.
            break;
        }
    }
    tally.close();
}

fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs()
}

/// A revision as it was released.
#[derive(Debug, Clone)]
struct Revision {
    number: usize,
    /// Digests of its files by their paths.
    files: BTreeMap<String, String>,
}

/// What the onlooker told.
#[derive(Debug)]
struct Look {
    applied: Option<String>,
    last_good: Option<String>,
    phase: String,
    files: BTreeMap<String, String>,
    left: Vec<String>,
    text: String,
}

struct Story {
    guest: Guest,
    repo: FleetRepo,
    server: GitHttp,
    image: String,
    chance: fastrand::Rng,
    /// By their commits.
    released: BTreeMap<String, Revision>,
    newest: usize,
    tip: String,
    /// The newest revision that the device was seen to call good.
    acknowledged: String,
    _work: tempfile::TempDir,
}

impl Story {
    fn new(made: &Path, deb: &Path, seed: u64) -> Self {
        let work = evenkeel_tests::short_tempdir("guest");
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"test\"\n")
            .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
        let server = GitHttp::http(repo.served());
        let (archive, image) = busybox_archive(work.path());
        let config = format!(
            "[device]\nid = \"gateway\"\n\n[source]\nurl = \"http://10.0.2.2:{}/fleet.git\"\nbranch = \"main\"\ninterval = \"2s\"\n\n\
             [trust]\nallowed_signers = \"/etc/evenkeel/allowed_signers\"\n",
            server.port()
        );
        let outfit = Outfit {
            deb,
            config,
            allowed_signers: &repo.allowed_signers(),
            image: &archive,
        };
        Self {
            guest: Guest::new(made, work.path(), &outfit),
            repo,
            server,
            image,
            chance: fastrand::Rng::with_seed(seed),
            released: BTreeMap::new(),
            newest: 0,
            tip: String::new(),
            acknowledged: String::new(),
            _work: work,
        }
    }

    /// Releases the next revision: files that come and go, and a container that answers with the revision's number.
    fn release(&mut self, gate: &str) {
        self.newest += 1;
        let number = self.newest;
        let long = format!("{number} of many lines\n").repeat(20_000);
        let mut contents = BTreeMap::from([
            (
                "/etc/one/one.conf".to_owned(),
                format!("revision {number}\n"),
            ),
            ("/srv/one/long.txt".to_owned(), long.clone()),
        ]);
        for place in 0..number % 4 {
            let path = format!("/srv/one/{}/{place}.conf", number % 3);
            contents.insert(path, format!("{number} in {place}\n"));
        }
        let mut app = String::new();
        self.repo.write("apps/one/long.txt", &long);
        for (path, content) in &contents {
            let content = if content.len() > 1000 {
                "source = \"long.txt\"".to_owned()
            } else {
                format!("content = {content:?}")
            };
            app += &format!("[[files]]\npath = {path:?}\n{content}\n");
        }
        let run = "mkdir -p /www && echo $REVISION >/www/index.html && ln -sfn /one /www/one && exec httpd -f -p 8080 -h /www";
        app += &format!(
            "[services.web]\nimage = {:?}\ncommand = [\"/bin/sh\", \"-c\", {run:?}]\nports = [\"8080:8080\"]\n\
             environment = {{ REVISION = \"{number}\" }}\nvolumes = [\"/srv/one:/one:ro\"]\nrestart = \"always\"\n\
             stop_grace_period = \"1s\"\n{gate}",
            self.image
        );
        self.repo.write("apps/one/app.toml", app);
        self.tip = self.repo.release(&format!("Revision {number}"));
        let files = contents
            .into_iter()
            .map(|(path, content)| (path, format!("{:x}", Sha256::digest(content))))
            .collect();
        self.released
            .insert(self.tip.clone(), Revision { number, files });
    }

    fn first_boot(&mut self) {
        self.release(WELL);
        self.guest.start();
        if let Err(why) = self.arrive("the first boot") {
            panic!("{why}");
        }
    }

    /// Updates without a pause, until the power goes at a random moment.
    fn live_and_be_cut(&mut self) -> (f64, usize, usize) {
        let life = Duration::from_secs_f64(self.chance.f64() * LONGEST_LIFE);
        let began = Instant::now();
        self.release(WELL);
        self.guest.hurry();
        // The end comes in the middle of a look, too.
        while let Some(left) = life.checked_sub(began.elapsed()) {
            let Some(look) = self.look(left) else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            if let Some(good) = look.last_good
                && good != self.acknowledged
            {
                self.acknowledged = good;
                // One in four is bad: it has to be undone.
                let gate = if self.chance.u8(0..4) == 0 {
                    NEVER
                } else {
                    WELL
                };
                self.release(gate);
                self.guest.hurry();
            }
        }
        let lies = is_planted("ignore-fsync");
        let seed = self.chance.u64(..);
        let (entries, certain) = self.guest.cut(seed, |entries| {
            if lies {
                Flush::Ignored(entries / 2)
            } else {
                Flush::Honest
            }
        });
        (began.elapsed().as_secs_f64(), entries, certain)
    }

    /// The power is back, and the git server is not; then it is.
    fn boot(&mut self) -> Result<Ended, String> {
        self.server.stop();
        self.guest.start();
        let stands = self.come_up();
        self.server.resume();
        let stands = stands?;
        let ended = if stands == self.acknowledged {
            Ended::LastGood
        } else {
            Ended::New
        };
        self.acknowledged = stands;
        // Whatever the tip was, good or bad: an honest commit on top of it is taken.
        self.release(WELL);
        self.arrive("after the cut, with the git server back")?;
        Ok(ended)
    }

    /// Waits until the machine stands whole at a revision that it calls good, and tells which.
    fn come_up(&mut self) -> Result<String, String> {
        let least = self.released[&self.acknowledged].number;
        self.wait("it came up without the git server", |look, story| {
            let good = (look.last_good.clone()).ok_or("it calls nothing good")?;
            let number = story.released[&good].number;
            if number < least {
                return Err(format!(
                    "it calls revision {number} good, and had called {least} so before the cut"
                ));
            }
            story.whole(look, &good)?;
            Ok(good)
        })
    }

    /// Waits until the machine stands whole at the tip.
    fn arrive(&mut self, when: &str) -> Result<(), String> {
        self.guest.hurry();
        let tip = self.tip.clone();
        self.wait(when, |look, story| {
            if look.last_good.as_ref() != Some(&tip) {
                return Err(format!("it is not at the tip {tip}"));
            }
            story.whole(look, &tip)?;
            if look.left.is_empty() {
                Ok(())
            } else {
                Err(format!("left over: {:?}", look.left))
            }
        })?;
        self.acknowledged = self.tip.clone();
        Ok(())
    }

    /// Whether the device is at rest at this revision: its files, its container, and nothing else.
    fn whole(&self, look: &Look, commit: &String) -> Result<(), String> {
        if look.phase == "Applying"
            || look.phase == "Soaking"
            || look.applied.as_ref() != Some(commit)
        {
            return Err(format!("it is {} at {:?}", look.phase, look.applied));
        }
        let revision = &self.released[commit];
        if look.files != revision.files {
            return Err(format!(
                "it says that it is at revision {}, and its files are {:?}, not {:?}",
                revision.number, look.files, revision.files
            ));
        }
        let answer = self.guest.app("");
        if answer.as_deref().map(str::trim) != Some(revision.number.to_string().as_str()) {
            return Err(format!(
                "it says that it is at revision {}, and its container answers {answer:?}",
                revision.number
            ));
        }
        let mounted = self.guest.app("one/long.txt").unwrap_or_default();
        if revision.files["/srv/one/long.txt"] != format!("{:x}", Sha256::digest(mounted)) {
            return Err("the container sees another file than there is".to_owned());
        }
        Ok(())
    }

    /// Looks until `judge` has no objection; its last one where that takes too long.
    fn wait<T>(
        &mut self,
        when: &str,
        judge: impl Fn(&Look, &Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let end = Instant::now() + LIMIT;
        let mut last = "nobody answered".to_owned();
        while Instant::now() < end {
            if !self.guest.runs() {
                return Err(format!(
                    "{when}: the machine ended:\n{}",
                    self.guest.console()
                ));
            }
            if let Some(look) = self.look(PATIENCE) {
                match judge(&look, self) {
                    Ok(found) => return Ok(found),
                    Err(why) => last = format!("{why}\n{}", look.text),
                }
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Err(format!("{when}: {last}\n{}", self.guest.console()))
    }

    fn look(&self, within: Duration) -> Option<Look> {
        let text = self.guest.look(within)?;
        let part = |from: &str, to: &str| -> Vec<String> {
            let rest = text.split_once(from).map(|(_, rest)| rest);
            let part = rest.and_then(|rest| rest.split_once(to));
            let lines = part.map(|(part, _)| part).unwrap_or_default().lines();
            lines
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let status = text.split_once("== files")?.0;
        let status: serde_json::Value = serde_json::from_str(status).ok()?;
        let revision = |name: &str| status["revision"][name].as_str().map(str::to_owned);
        let files = part("== files", "== left");
        Some(Look {
            applied: revision("applied"),
            last_good: revision("last_good"),
            phase: status["phase"].as_str().unwrap_or_default().to_owned(),
            files: files
                .iter()
                .filter_map(|line| line.split_once("  "))
                .map(|(digest, path)| (path.to_owned(), digest.to_owned()))
                .collect(),
            left: part("== left", "== containers"),
            text,
        })
    }
}

/// An image of this machine's static busybox as `docker save` would write it, and its id.
fn busybox_archive(work: &Path) -> (PathBuf, String) {
    let root = work.join("image");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("www")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "mkdir", "echo", "ln", "httpd"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let pack = |from: &Path, to: &Path, what: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(from).arg("-cf").arg(to).args(what);
        run(&mut command, PATIENCE).expect_code(0);
    };
    let parts = work.join("parts");
    std::fs::create_dir(&parts).unwrap();
    pack(&root, &parts.join("layer.tar"), &["bin", "www"]);
    let layer = std::fs::read(parts.join("layer.tar")).unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{:x}", Sha256::digest(layer))] },
    })
    .to_string();
    let id = format!("{:x}", Sha256::digest(&config));
    let name = format!("{id}.json");
    std::fs::write(parts.join(&name), config).unwrap();
    let manifest = serde_json::json!([{ "Config": name, "RepoTags": [], "Layers": ["layer.tar"] }]);
    std::fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = work.join("image.tar");
    pack(&parts, &archive, &["manifest.json", &name, "layer.tar"]);
    (archive, format!("sha256:{id}"))
}

/// Well where its container answers.
const WELL: &str = "\n[[checks]]\nhttp = \"http://127.0.0.1:8080/\"\ntimeout = \"10s\"\n\n[gate]\ndeadline = \"120s\"\nsoak = \"1s\"\n";

/// Never well.
const NEVER: &str = "\n[[checks]]\ntcp = \"127.0.0.1:1\"\ntimeout = \"1s\"\n\n[gate]\ndeadline = \"5s\"\nsoak = \"0s\"\n";
