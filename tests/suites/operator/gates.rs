//! Gates on promotion: by reports that real keys signed, and by a real Prometheus.

use evenkeel_tests::ports::Port;
use evenkeel_tests::process::Server;
use evenkeel_tests::{Device, wait_for};

use super::promote::Rings;
use super::*;

/// A ring of devices with keys, and a folder of their reports.
struct Ring {
    rings: Rings,
    reports: PathBuf,
}

const GATE: &str =
    "\n[rings.canary]\nmatch = { site = \"a\" }\n\n[promote.stable]\nsoak = \"1h\"\n";

fn seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn written(time: u64) -> String {
    let said = run(
        Command::new("date").args(["-u", "-d", &format!("@{time}"), "+%Y-%m-%dT%H:%M:%SZ"]),
        PATIENCE,
    );
    said.expect_code(0).stdout.trim().to_owned()
}

impl Ring {
    /// gw-1 and gw-2 are of canary; the gate is on stable already.
    fn new(more: &str) -> Self {
        Self::with(&format!("{GATE}{more}"))
    }

    fn with(gate: &str) -> Self {
        let rings = Rings::new();
        let (desk, repo) = (&rings.desk, &rings.repo);
        let fleet = std::fs::read_to_string(repo.join("fleet.toml")).unwrap();
        for id in ["gw-1", "gw-2"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", id, "-f"])
                .arg(desk.path(id))
                .output()
                .unwrap();
            assert!(made.status.success());
            let public = std::fs::read_to_string(desk.path(&format!("{id}.pub"))).unwrap();
            std::fs::write(
                repo.join(format!("devices/{id}.toml")),
                format!("public_key = {:?}\n[labels]\nsite = \"a\"\n", public.trim()),
            )
            .unwrap();
        }
        std::fs::write(repo.join("fleet.toml"), format!("{fleet}{gate}")).unwrap();
        desk.git(repo, &["commit", "-q", "-a", "-m", "A gate"]);
        desk.git(repo, &["push", "-q", "origin", "canary"]);
        let reports = desk.path("reports");
        std::fs::create_dir(&reports).unwrap();
        // The gate comes with its own first promotion, which it judges as well.
        rings
            .promote(&["--override", "The first gate"])
            .expect_code(0);
        desk.commit(repo, "apps/hello/hello.txt", &["What is gated"]);
        desk.git(repo, &["push", "-q", "origin", "canary"]);
        Self { rings, reports }
    }

    /// A report of a device that runs canary's tip and was healthy for so long, made so many seconds ago.
    fn says(&self, id: &str, healthy_for: u64, ago: u64, sequence: u64) {
        self.tells(id, "True", healthy_for, ago, sequence);
    }

    fn tells(&self, id: &str, healthy: &str, for_seconds: u64, ago: u64, sequence: u64) {
        let tip = self.rings.there("canary");
        let time = seconds() - ago;
        let since = written(time - for_seconds);
        let report = serde_json::json!({
            "format": 1, "device": id, "fleet": self.fleet(), "branch": "canary",
            "revision": {
                "tip": tip, "applied": tip, "last_good": tip,
                "tree": self.rings.there("canary^{tree}"), "since": since,
            },
            "phase": "Idle",
            "conditions": [{
                "type": "Healthy", "status": healthy, "reason": "X", "message": "web is not well", "since": since,
            }],
            "apps": [], "agent": "0.1.0", "time": written(time), "sequence": sequence, "previous": null,
        });
        let line = self.rings.desk.path("line");
        std::fs::write(&line, format!("{report}\n")).unwrap();
        let _ = std::fs::remove_file(line.with_extension("sig"));
        let signed = run(
            Command::new("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", "evenkeel-report", "-f"])
                .arg(self.rings.desk.path(id))
                .arg(&line),
            PATIENCE,
        );
        signed.expect_code(0);
        let armor = std::fs::read_to_string(self.rings.desk.path("line.sig")).unwrap();
        std::fs::write(
            self.reports.join(format!("{id}.report")),
            format!("{report}\n{armor}"),
        )
        .unwrap();
    }

    fn fleet(&self) -> String {
        let text = std::fs::read_to_string(self.rings.repo.join("fleet.toml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("name")).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    }

    fn promote(&self, more: &[&str]) -> Output {
        let reports = arg(&self.reports);
        self.rings
            .promote(&[&["--reports", &reports], more].concat())
    }
}

#[test]
fn a_ring_that_is_not_well_for_long_enough_holds_a_promotion_and_one_that_is_lets_it_go() {
    let ring = Ring::new("");
    let stable = ring.rings.there("stable");
    // Nobody said anything, nobody is asked, nobody is there.
    let said = ring.rings.promote(&[]).expect_code(2);
    assert!(said.stderr.contains("--reports DIR"), "{}", said.text());
    let said = ring.promote(&[]).expect_code(3);
    assert!(
        said.stderr.contains("2 are silent, and 0 may be"),
        "{}",
        said.text()
    );
    assert!(said.stderr.contains("gw-1 (no report)"), "{}", said.text());

    ring.says("gw-1", 7200, 60, 1);
    ring.says("gw-2", 1800, 60, 1);
    let said = ring.promote(&["--dry-run", "--json"]).expect_code(3);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let gate = &answer["gate"];
    assert_eq!(gate["met"], false, "{gate:#}");
    assert_eq!(gate["healthy"], 1);
    assert_eq!(gate["devices"]["gw-2"]["standing"], "soaking");
    assert_eq!(gate["wanted"]["soak"], "1h");
    assert_eq!(answer["commit"], Value::Null);
    // Silent, failed, signed by another.
    ring.says("gw-2", 7200, 3 * 3600, 2);
    let said = ring.promote(&[]).expect_code(3);
    assert!(
        said.stderr.contains("gw-2 (no word for 3h)"),
        "{}",
        said.text()
    );
    ring.tells("gw-2", "False", 7200, 60, 3);
    let said = ring.promote(&[]).expect_code(3);
    assert!(
        said.stderr.contains("failed: gw-2 (web is not well)"),
        "{}",
        said.text()
    );
    ring.says("gw-2", 7200, 60, 4);
    let good = std::fs::read_to_string(ring.reports.join("gw-2.report")).unwrap();
    let other = std::fs::read_to_string(ring.reports.join("gw-1.report")).unwrap();
    let armor = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    std::fs::write(
        ring.reports.join("gw-2.report"),
        good.replace(&armor(&good), &armor(&other)),
    )
    .unwrap();
    let said = ring.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("wrong-key"), "{}", said.text());
    assert_eq!(ring.rings.there("stable"), stable);

    // Met: the numbers stand in the commit.
    std::fs::write(ring.reports.join("gw-2.report"), good).unwrap();
    ring.promote(&[]).expect_code(0);
    let message = ring.rings.desk.message(&ring.rings.bare, "stable");
    assert!(
        message
            .contains("\nGate: met: 2 of 2 devices of canary healthy for 1h, 0 failed, 0 silent"),
        "{message}"
    );
    assert!(!message.contains("Gate-Override"), "{message}");
    // Going back is held by nothing.
    ring.rings.revert("--revert", &[]).expect_code(0);
    assert_eq!(
        ring.rings.there("stable^{tree}"),
        ring.rings.there(&format!("{stable}^{{tree}}"))
    );
}

#[test]
fn a_candidate_does_not_loosen_its_own_gate_and_an_override_is_written_down() {
    let ring = Ring::new("");
    let (desk, repo) = (&ring.rings.desk, &ring.rings.repo);
    let fleet = std::fs::read_to_string(repo.join("fleet.toml")).unwrap();
    let without = fleet.split("\n[rings").next().unwrap();
    std::fs::write(repo.join("fleet.toml"), without).unwrap();
    desk.git(repo, &["commit", "-q", "-a", "-m", "No gate"]);
    desk.git(repo, &["push", "-q", "origin", "canary"]);
    ring.says("gw-1", 7200, 60, 1);
    let said = ring.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("gw-2 (no report)"), "{}", said.text());
    // Nor does a stricter one wait until it has arrived.
    let stricter = fleet.replace("soak = \"1h\"", "soak = \"4h\"");
    std::fs::write(repo.join("fleet.toml"), stricter).unwrap();
    desk.git(repo, &["commit", "-q", "-a", "-m", "A stricter gate"]);
    desk.git(repo, &["push", "-q", "origin", "canary"]);
    for id in ["gw-1", "gw-2"] {
        ring.says(id, 7200, 60, 5);
    }
    let said = ring.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("(for 2h of 4h)"), "{}", said.text());
    // It does not say who judges it, nor take anybody out of the ring: by another label, or without a document.
    let commits = |what: &str| {
        desk.git(repo, &["commit", "-q", "-a", "-m", what]);
        desk.git(repo, &["push", "-q", "origin", "canary"]);
    };
    let whom = format!("{fleet}\n[prometheus]\nurl = \"http://127.0.0.1:1\"\n");
    std::fs::write(repo.join("fleet.toml"), whom).unwrap();
    commits("A server of its own");
    let said = ring.rings.promote(&[]).expect_code(2);
    assert!(said.stderr.contains("whom to ask"), "{}", said.text());
    let device = repo.join("devices/gw-2.toml");
    let document = std::fs::read_to_string(&device).unwrap();
    std::fs::remove_file(ring.reports.join("gw-2.report")).unwrap();
    std::fs::write(&device, document.replace("\"a\"", "\"b\"")).unwrap();
    commits("Of another ring");
    let said = ring.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("gw-2 (no report)"), "{}", said.text());
    std::fs::remove_file(&device).unwrap();
    commits("Not there");
    let said = ring.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("gw-2 (no report)"), "{}", said.text());
    std::fs::write(&device, document).unwrap();
    std::fs::write(
        repo.join("fleet.toml"),
        fleet.replace("soak = \"1h\"", "soak = \"4h\""),
    )
    .unwrap();
    desk.git(repo, &["add", "-A"]);
    commits("As before");

    ring.promote(&["--override", " "]).expect_code(2);
    ring.promote(&["--override", "one\nGate: met"])
        .expect_code(2);
    ring.promote(&["--override", "The dam breaks today"])
        .expect_code(0);
    let message = desk.message(&ring.rings.bare, "stable");
    assert!(
        message.contains("\nGate: not met: 0 of 2 devices of canary healthy for 4h")
            && message.contains("\nGate-Override: The dam breaks today\n"),
        "{message}"
    );
}

#[test]
fn a_device_that_follows_canary_is_what_a_gate_believes() {
    let rings = Rings::new();
    let (desk, repo) = (&rings.desk, &rings.repo);
    let signers = repo.join("allowed_signers");
    let url = format!("file://{}", arg(&rings.bare));
    let mut device = Device::new("gw-1", &url, &signers);
    device.settings.branch = "canary".to_owned();
    device.settings.interval = "1s".to_owned();
    let reports = desk.path("reports");
    std::fs::create_dir(&reports).unwrap();
    device.settings.more = format!("[report]\ndir = {reports:?}\n");
    device.sync().expect_code(0);
    let document = device.evenkeel(&["enroll"]).expect_code(0).stdout;
    std::fs::write(repo.join("devices/gw-1.toml"), document).unwrap();
    let fleet = std::fs::read_to_string(repo.join("fleet.toml")).unwrap();
    std::fs::write(
        repo.join("fleet.toml"),
        format!("{fleet}\n[promote.stable]\nsoak = \"1s\"\n"),
    )
    .unwrap();
    desk.git(repo, &["commit", "-q", "-a", "-m", "It may report"]);
    desk.git(repo, &["push", "-q", "origin", "canary"]);
    // Before it has taken it, and after.
    let ask = || rings.promote(&["--reports", &arg(&reports)]);
    ask().expect_code(3);
    device.sync().expect_code(0);
    wait_for("the gate to be met", || {
        (ask().code == Some(0)).then_some(())
    });
    assert_eq!(rings.there("stable^{tree}"), rings.there("canary^{tree}"));
}

/// A Prometheus with a day's history of the ring.
struct History {
    _server: Server,
    _port: Port,
    url: String,
}

impl History {
    /// Each device with its samples' state, from so many seconds ago until so many seconds ago.
    fn of(ring: &Ring, samples: &[(&str, &str, u64, u64)]) -> Self {
        let desk = &ring.rings.desk;
        let (commit, fleet, now) = (ring.rings.there("canary"), ring.fleet(), seconds());
        let mut text = "# TYPE evenkeel_revision info\n".to_owned();
        for (device, state, from, until) in samples {
            let mut at = now - from;
            while at <= now - until {
                text.push_str(&format!(
                    "evenkeel_revision_info{{device=\"{device}\",fleet=\"{fleet}\",branch=\"canary\",commit=\"{commit}\",\
                     state=\"{state}\"}} 1 {at}\n"
                ));
                at += 60;
            }
        }
        text.push_str("# EOF\n");
        let (file, data) = (desk.path("history"), desk.path("prometheus"));
        std::fs::write(&file, text).unwrap();
        let made = run(
            Command::new("promtool")
                .args(["tsdb", "create-blocks-from", "openmetrics"])
                .args([&file, &data]),
            PATIENCE,
        );
        made.expect_code(0);
        std::fs::write(desk.path("prometheus.yml"), "global: {}\n").unwrap();
        let port = Port::free();
        let server = Server::start(
            Command::new("prometheus")
                .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
                .arg(format!(
                    "--config.file={}",
                    arg(&desk.path("prometheus.yml"))
                ))
                .arg(format!("--storage.tsdb.path={}", arg(&data))),
            &desk.path("prometheus.log"),
        );
        let url = format!("http://127.0.0.1:{}", port.number());
        wait_for("Prometheus to be ready", || {
            let said = run(
                Command::new("curl").args(["-fs", &format!("{url}/-/ready")]),
                PATIENCE,
            );
            (said.code == Some(0)).then_some(())
        });
        Self {
            _server: server,
            _port: port,
            url,
        }
    }
}

#[test]
fn a_real_prometheus_says_how_the_ring_is() {
    const DAY: u64 = 86_400;
    let ring = Ring::new("max_silent = 1\nhealthy = 50\n");
    let wanted = |history: &History, code: i32| -> Value {
        let said = ring
            .rings
            .promote(&["--dry-run", "--json", "--prometheus", &history.url])
            .expect_code(code);
        let answer: Value = serde_json::from_str(&said.stdout).unwrap();
        answer["gate"].clone()
    };
    let standing = |gate: &Value, id: &str| gate["devices"][id]["standing"].clone();
    // gw-3 has no document, and is of the ring all the same; gw-2 was not well half an hour ago.
    let history = History::of(
        &ring,
        &[
            ("gw-1", "healthy", 8000, 0),
            ("gw-2", "healthy", 8000, 2000),
            ("gw-2", "applied", 1940, 1760),
            ("gw-2", "healthy", 1700, 0),
            ("gw-3", "healthy", DAY, 4 * 3600),
        ],
    );
    let gate = wanted(&history, 3);
    assert_eq!(standing(&gate, "gw-1"), "healthy", "{gate:#}");
    assert_eq!(standing(&gate, "gw-2"), "behind");
    assert_eq!(standing(&gate, "gw-3"), "silent");
    assert_eq!((&gate["healthy"], &gate["silent"]), (&1.into(), &1.into()));
    drop(history);
    std::fs::remove_dir_all(ring.rings.desk.path("prometheus")).unwrap();
    let history = History::of(
        &ring,
        &[("gw-1", "healthy", 8000, 0), ("gw-2", "refused", 600, 0)],
    );
    let gate = wanted(&history, 3);
    assert_eq!(standing(&gate, "gw-2"), "failed", "{gate:#}");
    assert_eq!(gate["unmet"].as_array().unwrap().len(), 1, "{gate:#}");
    // A query of one's own, and one that is none.
    let own = |query: &str| {
        let (desk, repo) = (&ring.rings.desk, &ring.rings.repo);
        let fleet = std::fs::read_to_string(repo.join("fleet.toml")).unwrap();
        let fleet = fleet.split("\n[prometheus").next().unwrap();
        let text = format!(
            "{fleet}\n[prometheus]\nurl = {:?}\nqueries.failed = {query:?}\n\
             queries.healthy = 'evenkeel_revision_info{{device=\"gw-1\",fleet=\"$fleet\"}}'\n",
            history.url
        );
        std::fs::write(repo.join("fleet.toml"), text).unwrap();
        desk.git(repo, &["commit", "-q", "-a", "-m", "Another query"]);
        desk.git(repo, &["push", "-q", "origin", "canary"]);
        // Who judges a gate that stands comes to its branch first.
        let whom = ["--override", "Whom to ask"];
        ring.rings.promote(&whom).expect_code(0);
        desk.commit(repo, "apps/hello/hello.txt", &["What is judged"]);
        desk.git(repo, &["push", "-q", "origin", "canary"]);
        ring.rings.promote(&["--dry-run"])
    };
    own("evenkeel_revision_info{branch=\"$branch\",state=\"nothing\"}").expect_code(0);
    let said = own("rate(").expect_code(1);
    assert!(
        said.stderr.contains("the query `failed`"),
        "{}",
        said.text()
    );
    let said = own("vector(1)").expect_code(1);
    assert!(said.stderr.contains("label `device`"), "{}", said.text());
    // Gone: worth trying again, and nothing has moved.
    let (stable, url) = (ring.rings.there("stable"), history.url.clone());
    drop(history);
    let said = ring.rings.promote(&["--prometheus", &url]).expect_code(1);
    assert!(said.stderr.contains("does not answer"), "{}", said.text());
    assert_eq!(ring.rings.there("stable"), stable);
}

#[test]
fn a_soak_shorter_than_the_time_between_samples_forgives_nothing() {
    let ring = Ring::with("\n[promote.stable]\nsoak = \"1s\"\nhealthy = 1\n");
    let history = History::of(
        &ring,
        &[
            ("gw-1", "healthy", 8000, 0),
            ("gw-2", "healthy", 8000, 80),
            ("gw-2", "applied", 20, 20),
            // Heard of a while ago, and not well.
            ("gw-3", "refused", 3000, 1500),
        ],
    );
    let said = ring
        .rings
        .promote(&["--dry-run", "--json", "--prometheus", &history.url])
        .expect_code(3);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let standing = |id: &str| answer["gate"]["devices"][id]["standing"].clone();
    assert_eq!(standing("gw-1"), "healthy", "{answer:#}");
    assert_eq!(standing("gw-2"), "behind", "{answer:#}");
    assert_eq!(standing("gw-3"), "failed", "{answer:#}");
}
