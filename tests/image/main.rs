//! The disk image for ARM, on an emulated board, from its first boot on: what `tests/image.sh` runs.
//!
//! Two boards with no network card at all have to get to the revision that came with the image, and to be two. Then a cable is put
//! into one and a commit released; then the power is cut in the middle of the next one, and what the disk had not flushed is
//! lost in part, at random.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a script in Rust: it says how far it is, writes scratch files, waits, and reports by panicking"
)]

mod board;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use board::{Board, Cable};
use evenkeel_tests::beside;
use evenkeel_tests::options::Options;
use evenkeel_tests::process::run;
use evenkeel_tests::{FleetRepo, GitHttp, PATIENCE};

/// For a boot and all that follows it: an emulated processor takes minutes, and on a busy machine many.
const LIMIT: Duration = Duration::from_secs(2400);
/// Making the image: bootstrapping Debian under qemu-user at the first time.
const BUILD: Duration = Duration::from_secs(7200);
/// Bytes of the image's root file system.
const ROOT: u64 = 2 << 30;
/// An answer of a program on the board.
const ANSWER: Duration = Duration::from_secs(120);
/// The power goes at most so long after the board was told of the revision: some are cut before anything has happened, some
/// while a container is being replaced.
const LONGEST_LIFE: f64 = 40.0;

fn main() {
    let options = Options::of_script("tests/image.sh");
    let began = Instant::now();
    let mut story = Story::new(
        &options.path("--binary"),
        &options.path("--deb"),
        &options.path("--base"),
    );
    story.tell(options.number("--seed"), options.number("--cuts"));
    println!("all of it in {} s", began.elapsed().as_secs());
}

/// How well a board is whose containers run and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    /// It may still watch its revision.
    Healthy,
    /// It has called it good, and has nothing to do; the remote may be out of reach.
    Good,
    /// And it knows that there is nothing newer.
    Ready,
}

/// What a board calls itself.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    machine: String,
    name: String,
    key: String,
    host_key: String,
}

/// The fleet, and the image of its devices.
struct Story {
    repo: FleetRepo,
    server: GitHttp,
    /// The app's image.
    app: String,
    image: PathBuf,
    /// Commits and what the app says at them, in order.
    released: Vec<(String, String)>,
    work: tempfile::TempDir,
}

impl Story {
    fn new(binary: &Path, deb: &Path, base: &Path) -> Self {
        let work = evenkeel_tests::short_tempdir("image");
        let repo = FleetRepo::new();
        let server = GitHttp::http(repo.served());
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");

        // The agent itself is an app that answers with what its configuration says.
        let mut named = std::ffi::OsString::from("aarch64-unknown-linux-musl=");
        named.push(binary);
        let archive = made(
            Command::new(packaging.join("oci.sh"))
                .env("EVENKEEL_OUT", work.path())
                .arg("--fast")
                .arg(named),
        );
        let manifest = run(
            Command::new("tar")
                .arg("-xOf")
                .arg(&archive)
                .arg("manifest.json"),
            PATIENCE,
        )
        .expect_code(0);
        let manifest: serde_json::Value = serde_json::from_str(&manifest.stdout).unwrap();
        let config = manifest[0]["Config"].as_str().unwrap();
        let mut story = Self {
            repo,
            server,
            app: format!("sha256:{}", config.rsplit_once('/').unwrap().1),
            image: work.path().join("disk.img"),
            released: Vec::new(),
            work,
        };
        story
            .repo
            .write("fleet.toml", "format = 1\nname = \"test\"\n")
            .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
        story.release();

        let etc = story.work.path().join("etc");
        let files = story.work.path().join("files");
        std::fs::create_dir(&etc).unwrap();
        std::fs::copy(story.repo.allowed_signers(), etc.join("allowed_signers")).unwrap();
        let config = format!(
            "[source]\nurl = \"http://10.0.2.2:{}/fleet.git\"\nbranch = \"main\"\ninterval = \"5s\"\n\n\
             [trust]\nallowed_signers = \"/etc/evenkeel/allowed_signers\"\n",
            story.server.port()
        );
        std::fs::write(etc.join("agent.toml"), config).unwrap();
        beside::outfit(&files);
        let began = Instant::now();
        made(
            Command::new(packaging.join("image/build.sh"))
                .env("EVENKEEL_OUT", story.work.path())
                .args([
                    "--kernel",
                    "linux-image-cloud-arm64",
                    "--include",
                    "openssh-server",
                ])
                .args(["--name", "board", "--size", &ROOT.to_string()])
                // The emulated clock is late on a busy machine, and what is slow is no failure.
                .args([
                    "--append",
                    "loglevel=4 systemd.default_timeout_start_sec=900",
                ])
                .arg("--deb")
                .arg(deb)
                .arg("--base")
                .arg(base)
                .arg("--etc")
                .arg(&etc)
                .arg("--files")
                .arg(&files)
                .arg("--image")
                .arg(&archive)
                .arg("--first")
                .arg(story.repo.bare())
                .arg("--output")
                .arg(&story.image),
        );
        println!("the image: made in {} s", began.elapsed().as_secs());
        story
    }

    /// Releases the next revision: what the app says becomes another word.
    fn release(&mut self) {
        let says = format!("revision {}", self.released.len() + 1);
        let app = format!(
            "[[files]]\npath = \"/srv/one/one.conf\"\ncontent = \"greeting = {says}\\n\"\n\
             [services.web]\nimage = {:?}\ncommand = [\"demo-app\", \"serve\", \"--listen\", \"0.0.0.0:8080\", \"--config\", \
             \"/content/one.conf\"]\nports = [\"8080:8080\"]\nvolumes = [\"/srv/one:/content:ro\"]\nrestart = \"always\"\n\
             stop_grace_period = \"5s\"\n\n\
             [[checks]]\nhttp = \"http://127.0.0.1:8080/\"\ntimeout = \"30s\"\n\n[gate]\ndeadline = \"15m\"\nsoak = \"2s\"\n",
            self.app
        );
        self.repo.write("apps/one/app.toml", app);
        let commit = self.repo.release(&says);
        self.released.push((commit, says));
    }

    fn tell(&mut self, seed: u64, cuts: u64) {
        let mut chance = fastrand::Rng::with_seed(seed);
        self.server.stop();
        let [mut one, mut two] = ["one", "two"].map(|name| {
            let mut board = Board::new(&self.image, &self.work.path().join(name));
            board.start(Cable::None);
            board
        });
        let began = Instant::now();
        for (board, when) in [(&mut one, "the first boot"), (&mut two, "another board's")] {
            self.wait(board, when, |stands, rest| {
                stands == 0 && rest >= Rest::Good
            });
        }
        println!(
            "two boards, no network: both at the revision that came with the image, healthy and good, after {} s",
            began.elapsed().as_secs()
        );
        let (first, second) = (identity(&mut one), identity(&mut two));
        println!("they are {} and {}", first.name, second.name);
        for (one, other) in [
            (&first.machine, &second.machine),
            (&first.name, &second.name),
            (&first.key, &second.key),
            (&first.host_key, &second.host_key),
        ] {
            assert_ne!(one, other, "two boards of one image share it");
        }
        drop(two);
        let size = one.ask("df --output=size --block-size=1 / | tail -n 1", ANSWER);
        let size: u64 = size.unwrap().trim().parse().unwrap();
        assert!(
            size > ROOT + board::ROOM / 2,
            "the root has not grown: {size}"
        );

        self.server.resume();
        self.release();
        lose_power(&mut one, chance.u64(..));
        let began = Instant::now();
        one.start(Cable::In);
        self.arrive(&mut one, "after a cut, with a network");
        assert_eq!(identity(&mut one), first, "a boot makes nobody else of it");
        println!(
            "power cut, and a cable put in: Ready at the second revision after {} s",
            began.elapsed().as_secs()
        );
        self.release();
        let began = Instant::now();
        self.arrive(&mut one, "a commit while it runs");
        let (_, says) = self.released.last().unwrap();
        assert_eq!(one.page().as_deref().map(str::trim), Some(says.as_str()));
        println!(
            "a commit while it runs: Ready at it after {} s",
            began.elapsed().as_secs()
        );

        for cut in 1..=cuts {
            let good = self.released.len() - 1;
            self.release();
            let life = Duration::from_secs_f64(chance.f64() * LONGEST_LIFE);
            std::thread::sleep(life);
            let (entries, uncertain) = lose_power(&mut one, chance.u64(..));
            self.server.stop();
            let began = Instant::now();
            one.start(Cable::In);
            let stands = self.come_up(&mut one, good);
            let up = began.elapsed().as_secs();
            self.server.resume();
            // It would ask by itself, later each time that nobody answered.
            let _ = one.ask("systemctl reload evenkeel", ANSWER);
            self.arrive(&mut one, "after a cut, with the git server back");
            println!(
                "power cut {cut}: {:.1} s after a commit, {entries} entries in the disk's log, {uncertain} after the last flush; \
                 up {up} s later at {stands} with no git server in reach, and then at the tip",
                life.as_secs_f64()
            );
        }
    }

    /// Waits until the board is Ready at the newest revision, and its container says so.
    fn arrive(&self, board: &mut Board, when: &str) {
        let newest = self.released.len() - 1;
        self.wait(board, when, |stands, rest| {
            stands == newest && rest == Rest::Ready
        });
    }

    /// Waits until it stands whole at a revision that is no older than this one, and tells what its container says. It need not
    /// be Ready: a revision that was not good yet waits for the remote, so that it cannot take the network away.
    fn come_up(&self, board: &mut Board, least: usize) -> String {
        let stands = self.wait(board, "it came up without the git server", |stands, _| {
            stands >= least
        });
        self.released[stands].1.clone()
    }

    fn wait(
        &self,
        board: &mut Board,
        when: &str,
        is_enough: impl Fn(usize, Rest) -> bool,
    ) -> usize {
        let end = Instant::now() + LIMIT;
        let mut last = "nobody answered".to_owned();
        while Instant::now() < end {
            assert!(
                board.runs(),
                "{when}: the board ended:\n{}",
                board.console()
            );
            match self.stands(board) {
                Ok((stands, rest)) if is_enough(stands, rest) => return stands,
                Ok((stands, rest)) => {
                    last = format!("it stands at {}: {rest:?}", self.released[stands].1)
                }
                Err(why) => last = why,
            }
            std::thread::sleep(Duration::from_secs(2));
        }
        panic!("{when}: {last}\n{}", board.console());
    }

    /// Which revision the board is whole at, its container answering with it, and how much at rest it is.
    fn stands(&self, board: &mut Board) -> Result<(usize, Rest), String> {
        let text = board
            .ask("evenkeel status --json", ANSWER)
            .ok_or("nobody answers")?;
        let status: serde_json::Value =
            serde_json::from_str(&text).map_err(|why| format!("{why}: {text}"))?;
        let is = |kind: &str| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let mut this = conditions.filter(|one| one["type"] == kind);
            this.any(|one| one["status"] == "True")
        };
        let applied = status["revision"]["applied"].as_str();
        if !is("Healthy") || status["phase"] == "Applying" || applied.is_none() {
            return Err(format!("it is not well: {text}"));
        }
        let stands = self
            .released
            .iter()
            .position(|(commit, _)| Some(commit.as_str()) == applied)
            .ok_or_else(|| format!("it stands at a commit that nobody released: {text}"))?;
        let is_good = status["phase"] == "Idle"
            && !is("Drifted")
            && status["revision"]["last_good"].as_str() == applied;
        let rest = match (is_good, is("Ready")) {
            (true, true) => Rest::Ready,
            (true, false) => Rest::Good,
            (false, _) => Rest::Healthy,
        };
        // From inside, where there may be no cable.
        let says = board
            .ask(
                "cat /srv/one/one.conf; docker ps --no-trunc --format '{{.Image}} {{.State}}'; \
                 evenkeel demo-app probe http://127.0.0.1:8080/",
                ANSWER,
            )
            .ok_or("its container does not answer")?;
        let expected = format!(
            "greeting = {}\n{} running\n",
            self.released[stands].1, self.app
        );
        if says != expected {
            return Err(format!("there is {says:?}, and not {expected:?}"));
        }
        Ok((stands, rest))
    }
}

/// Cuts its power; how many entries its disk's log has, and how many came after the last flush.
fn lose_power(board: &mut Board, seed: u64) -> (usize, usize) {
    let (entries, certain) = board.cut(seed);
    (entries, entries - certain)
}

fn identity(board: &mut Board) -> Identity {
    let mut ask = |command: &str| {
        board
            .ask(command, ANSWER)
            .unwrap_or_else(|| panic!("the board does not answer `{command}`"))
    };
    let enrolled = ask("evenkeel enroll --json");
    let enrolled: serde_json::Value =
        serde_json::from_str(&enrolled).unwrap_or_else(|why| panic!("{why}: {enrolled}"));
    let text = |key: &str| enrolled[key].as_str().unwrap_or_default().to_owned();
    let identity = Identity {
        machine: text("machine_id"),
        name: ask("hostname").trim().to_owned(),
        key: text("fingerprint"),
        host_key: ask("cat /etc/ssh/ssh_host_ed25519_key.pub")
            .trim()
            .to_owned(),
    };
    assert_eq!(
        text("device"),
        identity.name,
        "it is called by its host name"
    );
    assert_eq!(ask("cat /etc/machine-id").trim(), identity.machine);
    identity
}

/// Runs a script that has to work; the path it prints.
#[track_caller]
fn made(command: &mut Command) -> PathBuf {
    let said = run(command, BUILD).expect_code(0);
    PathBuf::from(said.stdout.lines().last().unwrap_or_default())
}
