//! A network that fails in every way that is known here, while a new revision waits behind it: the device stays at last-good
//! and healthy, says plainly what is wrong, and ends at the new revision by itself once that has ended.

mod jump;
mod names;
mod positions;
mod registry;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use evenkeel_tests::faults::{Fault, FaultServer, FlippingProxy};
use evenkeel_tests::link::{Door, How, Way, Weather};
use evenkeel_tests::tally::{Ended, Scale, Tally, only_seed};
use evenkeel_tests::{Daemon, Device, FleetRepo, GitHttp, Link};

use crate::fleet::QUICK;

/// What is declared.
const FILE: &str = "/etc/one.conf";
/// How long a device may take to say what is wrong: beyond the 30 s of silence after which a server counts as stalled.
const NAMED_WITHIN: Duration = Duration::from_secs(75);
/// How long it may take once the fault has ended: the back-off that it has come to, and a busy machine.
const MENDED_WITHIN: Duration = Duration::from_secs(90);

/// A fleet of one file, over HTTP and HTTPS.
struct Fleet {
    repo: FleetRepo,
    http: GitHttp,
    https: GitHttp,
}

impl Fleet {
    fn new() -> Self {
        let repo = FleetRepo::new();
        let fleet = Self {
            http: GitHttp::http(repo.served()),
            https: GitHttp::https(repo.served()),
            repo,
        };
        fleet.release("old\n");
        fleet
    }

    fn release(&self, content: &str) -> String {
        self.write(content);
        self.repo.release(content.trim())
    }

    fn write(&self, content: &str) {
        self.repo
            .write("fleet.toml", "format = 1\nname = \"test\"\n")
            .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n")
            .write(
                "apps/one/app.toml",
                format!("[[files]]\npath = {FILE:?}\ncontent = {content:?}\n{QUICK}"),
            );
    }

    /// A device whose remote is behind this port.
    fn device(&self, id: &str, port: u16) -> Device {
        let url = format!("http://127.0.0.1:{port}/fleet.git");
        Device::new(id, &url, &self.repo.allowed_signers())
    }
}

pub(super) fn until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The poll's error, as `status` shows it.
fn error_of(device: &Device) -> Option<String> {
    let status = device.status_json();
    status["poll"]["error"].as_str().map(str::to_owned)
}

/// The device is at this content, and nothing of it is missing.
fn is_at(device: &Device, content: &str) -> Result<(), String> {
    match device.read(FILE) {
        Some(found) if found == content => Ok(()),
        found => Err(format!("{FILE} holds {found:?}, not {content:?}")),
    }
}

/// A device in trouble.
struct Case {
    name: String,
    /// What the poll's error has to say.
    words: &'static str,
    /// What breaks once the device is at the old revision.
    broken: Broken,
    device: Device,
    daemon: Option<Daemon>,
    link: Option<Link>,
    port: u16,
    /// What the link leads to in fair weather.
    upstream: u16,
    /// Kept alive.
    _server: Option<FaultServer>,
    _other: Option<GitHttp>,
    _flipping: Option<FlippingProxy>,
}

/// What breaks.
enum Broken {
    /// Nobody listens.
    Refused,
    Weather(Weather),
    /// Another server answers.
    Leads(u16),
}

fn cases(fleet: &Fleet, scale: Scale) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: &str, words: &'static str, broken: Broken, server: Option<FaultServer>| {
        let upstream = fleet.http.port();
        let link = Link::to(upstream);
        all.push(Case {
            device: fleet.device(&format!("net-{}", all.len()), link.port()),
            name: name.to_owned(),
            words,
            broken,
            daemon: None,
            port: link.port(),
            link: Some(link),
            upstream,
            _server: server,
            _other: None,
            _flipping: None,
        });
    };
    let door = |door| {
        Broken::Weather(Weather {
            door,
            ..Weather::default()
        })
    };
    let cut = |after, how| {
        Broken::Weather(Weather {
            cut: Some(evenkeel_tests::link::Cut {
                after,
                way: Way::Down,
                how,
            }),
            ..Weather::default()
        })
    };
    add("nobody listens", "refused", Broken::Refused, None);
    add("reset at the door", "reset", door(Door::Reset), None);
    add(
        "half-open",
        "sent nothing for 30 s",
        door(Door::Silent),
        None,
    );
    add("reset in an answer", "reset", cut(500, How::Reset), None);
    add(
        "closed in an answer",
        "middle of an answer",
        cut(500, How::Close),
        None,
    );
    add(
        "silent in an answer",
        "sent nothing for 30 s",
        cut(500, How::Silence),
        None,
    );
    let mut leads = |name: &str, words: &'static str, fault: Fault| {
        let server = FaultServer::start(fault);
        let broken = Broken::Leads(server.port());
        add(name, words, broken, Some(server));
    };
    leads("captive portal", "captive portal", Fault::Html);
    let login = "http://127.0.0.1:1/login?from=here".to_owned();
    leads(
        "captive portal elsewhere",
        "refused",
        Fault::Redirect(login),
    );
    leads("proxy wants a login", "407", Fault::Status(407));
    leads("busy", "429", Fault::Status(429));
    leads("unavailable", "503", Fault::Status(503));
    leads("no login", "401", Fault::Status(401));
    leads("no repository", "404", Fault::Status(404));
    leads(
        "no git server",
        "not git's",
        Fault::Says(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                .to_vec(),
        ),
    );
    leads(
        "no HTTP at all",
        "does not speak HTTP",
        Fault::Says(b"220 mail.example.com ESMTP\r\n".to_vec()),
    );
    for status in scale.of(&[][..], &[400, 403, 408, 500, 502, 504, 511]) {
        let words = "HTTP status";
        let words = if *status == 403 { "403" } else { words };
        leads(&format!("status {status}"), words, Fault::Status(*status));
    }

    // A pack with a bit flipped, always at another place.
    let flipping = FlippingProxy::start(fleet.http.port(), b"PACK");
    add(
        "a pack with a flipped bit",
        "not good git data",
        Broken::Leads(flipping.port()),
        None,
    );
    all.last_mut().unwrap()._flipping = Some(flipping);

    // Over TLS: another server's certificate, and one that speaks none.
    let other = GitHttp::https(fleet.repo.served());
    for (name, words, port) in [
        (
            "TLS by somebody else",
            "CA this device trusts",
            other.port(),
        ),
        ("no TLS", "does not speak TLS", fleet.http.port()),
    ] {
        let link = Link::to(fleet.https.port());
        let mut device = fleet.device(&format!("net-{}", all.len()), link.port());
        device.settings.url = format!("https://localhost:{}/fleet.git", link.port());
        device.settings.source = vec![format!("ca_file = {:?}", fleet.https.ca_file())];
        all.push(Case {
            name: name.to_owned(),
            words,
            broken: Broken::Leads(port),
            device,
            daemon: None,
            port: link.port(),
            link: Some(link),
            upstream: fleet.https.port(),
            _server: None,
            _other: None,
            _flipping: None,
        });
    }
    all.last_mut().unwrap()._other = Some(other);
    all
}

impl Case {
    fn begin(&mut self) {
        self.daemon = Some(self.device.spawn_daemon());
    }

    fn strike(&mut self) {
        match &self.broken {
            Broken::Refused => self.link = None,
            Broken::Weather(weather) => self.link.as_ref().unwrap().set(weather.clone()),
            Broken::Leads(port) => self.link.as_ref().unwrap().lead_to(*port),
        }
        // A kept connection would see nothing of what is at the door.
        let at_the_door = match &self.broken {
            Broken::Refused | Broken::Leads(_) => true,
            Broken::Weather(weather) => weather.door != Door::Open,
        };
        if let (true, Some(link)) = (at_the_door, &self.link) {
            link.hang_up();
        }
    }

    /// While it lasts: at last-good, healing, and the cause is named.
    fn endure(&self) -> Result<(), String> {
        let named = until(NAMED_WITHIN, || {
            error_of(&self.device).filter(|error| error.contains(self.words))
        });
        let Some(error) = named else {
            let error = error_of(&self.device);
            return Err(format!(
                "status says {error:?}, and nothing of {:?}",
                self.words
            ));
        };
        if !error.contains(&self.port.to_string()) {
            return Err(format!("the remote is not named: {error}"));
        }
        std::fs::remove_file(self.device.path(FILE)).map_err(|error| error.to_string())?;
        until(NAMED_WITHIN, || is_at(&self.device, "old\n").ok())
            .ok_or("what was removed by hand did not come back")
            .map_err(str::to_owned)
    }

    fn mend(&mut self) {
        match &self.broken {
            Broken::Refused => self.link = Some(Link::again(self.port, self.upstream)),
            Broken::Weather(_) => self.link.as_ref().unwrap().mend(),
            Broken::Leads(_) => {
                let link = self.link.as_ref().unwrap();
                link.lead_to(self.upstream);
                link.hang_up();
            }
        }
    }

    fn recover(&self) -> Result<Ended, String> {
        until(MENDED_WITHIN, || is_at(&self.device, "new\n").ok()).ok_or_else(|| {
            format!(
                "it never came to the new revision: {:?}",
                error_of(&self.device)
            )
        })?;
        until(MENDED_WITHIN, || {
            error_of(&self.device).is_none().then_some(())
        })
        .ok_or("the poll's error stays")?;
        Ok(Ended::New)
    }

    fn describe(&self, why: &str) -> String {
        let mut text = format!("{}: {why}", self.name);
        if let Some(daemon) = &self.daemon {
            let log = daemon.log();
            let from = log.len().saturating_sub(3000);
            let _ = write!(text, "\n{}", log.get(from..).unwrap_or(&log));
        }
        text
    }
}

/// Runs something for each, all at the same time.
fn at_once<T: Send>(all: &mut [Case], what: impl Fn(&mut Case) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all
            .iter_mut()
            .map(|case| scope.spawn(|| what(case)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("it reports, and does not panic"))
            .collect()
    })
}

#[test]
fn each_way_in_which_a_remote_fails_is_named_and_ends_at_the_new_revision() {
    let fleet = Fleet::new();
    let mut all = cases(&fleet, Scale::asked());
    // One whose link is never mended: the harness has to see that it does not end at the new revision.
    let spare = Link::to(fleet.http.port());
    let forgotten = Case {
        device: fleet.device("net-forgotten", spare.port()),
        name: "a link that nobody mends".to_owned(),
        words: "reset",
        broken: Broken::Weather(Weather {
            door: Door::Reset,
            ..Weather::default()
        }),
        daemon: None,
        port: spare.port(),
        link: Some(spare),
        upstream: fleet.http.port(),
        _server: None,
        _other: None,
        _flipping: None,
    };
    all.push(forgotten);

    let begun = at_once(&mut all, |case| {
        case.begin();
        until(MENDED_WITHIN, || is_at(&case.device, "old\n").ok())
    });
    for (case, begun) in all.iter().zip(begun) {
        assert!(begun.is_some(), "{}", case.describe("it never began"));
    }
    at_once(&mut all, Case::strike);
    fleet.release("new\n");
    let struck = Instant::now();
    let endured = at_once(&mut all, |case| {
        let endured = case.endure();
        if case.name != "a link that nobody mends" {
            case.mend();
        }
        endured
    });
    let mut tally = Tally::new("a network that fails, named and outlived");
    let last = all.len() - 1;
    let recovered = at_once(&mut all[..last], |case| case.recover());
    for ((case, endured), recovered) in all.iter().zip(&endured).zip(recovered) {
        let ended = endured.clone().and(recovered);
        tally.count(ended.map_err(|why| case.describe(&why)));
    }
    let mut planted = Tally::new("a network that fails, named and outlived");
    let forgotten = &all[last];
    planted.count(match is_at(&forgotten.device, "new\n") {
        Ok(()) => Ok(Ended::New),
        Err(why) => Err(forgotten.describe(&why)),
    });
    backs_off(forgotten, struck);
    is_at(&forgotten.device, "old\n").unwrap();
    planted.close_planted("a link that is never mended");
    tally.close();
}

/// The pauses between the tries grow, up to the jitter.
fn backs_off(case: &Case, struck: Instant) {
    let tries: Vec<Instant> = case
        .link
        .as_ref()
        .unwrap()
        .arrivals()
        .into_iter()
        .filter(|at| *at > struck)
        .collect();
    // One try asks twice at most: what is closer together is one.
    let mut pauses: Vec<f64> = tries
        .windows(2)
        .map(|two| (two[1] - two[0]).as_secs_f64())
        .filter(|pause| *pause > 0.5)
        .collect();
    assert!(pauses.len() >= 3, "{pauses:?}");
    let last = pauses.pop().unwrap();
    assert!(last > 3.0 * 0.9, "it does not back off: {pauses:?} {last}");
    assert!(
        pauses.windows(2).all(|two| two[1] > two[0] * 0.8),
        "the pauses shrink: {pauses:?}"
    );
}

#[test]
fn a_slow_far_and_lossy_link_is_only_slow() {
    let fleet = Fleet::new();
    let seeds: Vec<u64> = match only_seed() {
        Some(seed) => vec![seed],
        None => (1..=Scale::asked().of(3, 40)).collect(),
    };
    let mut tally = Tally::new("a link that is slow, far and lossy");
    let mut devices = Vec::new();
    for seed in &seeds {
        let mut chance = fastrand::Rng::with_seed(*seed);
        let link = Link::to(fleet.http.port()).seeded(*seed);
        // The first is a satellite's: 2 s there and back, 20 kB/s.
        let weather = if *seed == 1 {
            Weather {
                latency: Duration::from_secs(1),
                rate: Some(20_000),
                ..Weather::default()
            }
        } else {
            Weather {
                latency: Duration::from_millis(chance.u64(0..800)),
                jitter: Duration::from_millis(chance.u64(0..600)),
                rate: Some(chance.u64(2_000..50_000)),
                loss: chance.u32(0..200),
                ..Weather::default()
            }
        };
        link.set(weather.clone());
        let device = fleet.device(&format!("slow-{seed}"), link.port());
        devices.push((device, link, weather));
    }
    for content in ["old\n", "new\n"] {
        if content == "new\n" {
            fleet.release(content);
        }
        let ended: Vec<Result<Ended, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = devices
                .iter()
                .map(|(device, _, weather)| {
                    scope.spawn(move || {
                        let said = device.sync();
                        let at = is_at(device, content);
                        match (said.code, at) {
                            (Some(0), Ok(())) => Ok(Ended::New),
                            (code, at) => {
                                Err(format!("{weather:?}: {code:?} {at:?} {}", said.text()))
                            }
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("it reports"))
                .collect()
        });
        for (seed, ended) in seeds.iter().zip(ended) {
            tally.count(ended.map_err(|why| format!("seed {seed}: {why}")));
        }
    }
    tally.close();
}

#[test]
fn a_login_never_follows_a_captive_portal() {
    let fleet = Fleet::new();
    let portal = FaultServer::start(Fault::Html);
    let link = Link::to(fleet.http.port());
    let mut device = fleet.device("net-portal", link.port());
    let token = device.scratch().join("token");
    std::fs::write(&token, "s3cret-token").unwrap();
    device.settings.source = vec![format!("token_file = {token:?}")];
    device.sync().expect_code(0);
    fleet.release("new\n");
    let mut tally = Tally::new("captive portals, and a login that stays here");
    for (host, path) in [
        ("127.0.0.1", "login"),
        ("localhost", "fleet.git/info/refs?service=git-upload-pack"),
    ] {
        let to = format!("http://{host}:{}/{path}", portal.port());
        let redirect = FaultServer::start(Fault::Redirect(to));
        link.lead_to(redirect.port());
        link.hang_up();
        let said = device.sync();
        tally.count(match said.code {
            Some(1) if said.text().contains("credentials") => Ok(Ended::LastGood),
            code => Err(format!("{host}: {code:?} {}", said.text())),
        });
        is_at(&device, "old\n").unwrap();
        assert_eq!(portal.heads(), Vec::<String>::new());
        assert!(!said.text().contains("s3cret"));
    }
    // The portal itself, in the server's place: it sees the request, as the server would have.
    link.lead_to(portal.port());
    link.hang_up();
    let said = device.sync().expect_code(1);
    assert!(said.text().contains("captive portal"), "{}", said.text());
    link.lead_to(fleet.http.port());
    link.hang_up();
    device.sync().expect_code(0);
    tally.count(is_at(&device, "new\n").map(|()| Ended::New));
    tally.close();
}
