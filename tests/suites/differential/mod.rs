//! Thousands of (commit, allowed_signers, revocation) triples: our verdict beside that of the real `ssh-keygen` and `git`.
//!
//! Nothing may be accepted here that they refuse, and whatever is refused here alone is of a kind that [`kinds`] lists.
//! A run follows from its seed, but for the RSA keys; a case that fails is left in a directory that is named.
//!
//! `EVENKEEL_TRIPLES=100000` makes that many instead, and `EVENKEEL_SEED` (a number, or `random`) others:
//!
//!     EVENKEEL_TRIPLES=50000 EVENKEEL_SEED=random cargo test -p evenkeel-tests --test suites differential -- --nocapture

mod certificates;
mod commits;
mod files;
mod keys;
mod kinds;
mod oracle;
mod signatures;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel::domain::commit::{Descent, RawCommit};
use evenkeel::domain::revision::Timestamp;
use evenkeel::trust::allowed_signers::AllowedSignersError;
use evenkeel::trust::policy::{NamedBytes, PolicyError, TrustPolicy, Verdict};
use evenkeel_schema::agent_config::{self, TrustSection};
use fastrand::Rng;
use jiff::tz::TimeZone;

use commits::{Draft, Format};
use files::SignedBy;
use keys::Pool;
use oracle::Oracle;

/// How many triples a run of all tests makes.
const TRIPLES: usize = 2100;

const ZONES: [&str; 6] = [
    "UTC",
    "America/New_York",
    "Asia/Kolkata",
    "Europe/Berlin",
    "Pacific/Chatham",
    "Australia/Lord_Howe",
];

/// One question to both sides.
pub(crate) struct Case {
    number: usize,
    format: Format,
    id: String,
    bytes: Vec<u8>,
    signers: Vec<u8>,
    revoked: Option<(Vec<u8>, &'static str)>,
    zone: &'static str,
    /// The committer's time, where the case did not make it odd.
    time: i64,
    /// What the device knows to have passed.
    floor: i64,
    /// What is special about it.
    tags: Vec<&'static str>,
    /// Whether only git itself can tell what the object is.
    for_git: bool,
}

impl Case {
    /// How git names the time to ssh-keygen: in its own zone.
    fn verify_time(&self, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let local = jiff::Timestamp::from_second(self.time)
            .unwrap()
            .to_zoned(zone);
        format!("-Overify-time={}", local.strftime("%Y%m%d%H%M%S"))
    }

    fn save(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("commit"), &self.bytes).unwrap();
        std::fs::write(dir.join("allowed_signers"), &self.signers).unwrap();
        if let Some((bytes, _)) = &self.revoked {
            std::fs::write(dir.join("revoked"), bytes).unwrap();
        }
        let (armor, payload) = commits::split_as_git_does(&self.bytes, self.format);
        std::fs::write(dir.join("signature"), armor).unwrap();
        std::fs::write(dir.join("payload"), payload).unwrap();
    }
}

/// What we say.
#[derive(Debug)]
pub(crate) enum Ours {
    /// As signed by.
    Trusted(String),
    Refused(String, String),
    NoPolicy(String),
}

/// `[trust]` of a device that says nothing about it.
fn device() -> TrustSection {
    let text = b"[source]\nurl = 'https://git.example.com/fleet.git'\nbranch = 'main'\n";
    agent_config::parse("agent.toml", text).unwrap().trust
}

fn ours(case: &Case, signers: &[u8]) -> (Ours, Vec<usize>) {
    let zone = TimeZone::get(case.zone).unwrap();
    let named = |name, bytes| NamedBytes { name, bytes };
    let revoked = case
        .revoked
        .as_ref()
        .map(|(bytes, _)| named("revoked", bytes));
    let policy = TrustPolicy::load(
        &device(),
        "main",
        named("allowed_signers", signers),
        revoked,
        &zone,
    );
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => {
            let skipped = match &error {
                PolicyError::Signers(AllowedSignersError::Empty { skipped, .. }) => {
                    skipped.iter().map(|line| line.line).collect()
                }
                _ => Vec::new(),
            };
            return (Ours::NoPolicy(error.to_string()), skipped);
        }
    };
    let raw = RawCommit {
        id: case.id.parse().unwrap(),
        bytes: case.bytes.clone(),
        descent: Descent::NoFloor,
    };
    let skipped = policy
        .signers
        .skipped()
        .iter()
        .map(|line| line.line)
        .collect();
    let verdict = match policy.judge(&raw, Timestamp(case.floor)) {
        Verdict::Trusted(commit) => Ours::Trusted(commit.principal().to_owned()),
        Verdict::Refused(refused) => Ours::Refused(refused.reason.to_string(), refused.message),
        Verdict::Undecided(why) => panic!("undecided without a floor: {why}"),
    };
    (verdict, skipped)
}

/// What a triple is mostly about, so that one oddity does not hide another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    Commit,
    Tampered,
    Signature,
    Armor,
    Certificate,
    Signers,
    Revocation,
    Everything,
}

const THEMES: [Theme; 12] = [
    Theme::Commit,
    Theme::Tampered,
    Theme::Signature,
    Theme::Signature,
    Theme::Armor,
    Theme::Certificate,
    Theme::Certificate,
    Theme::Signers,
    Theme::Signers,
    Theme::Signers,
    Theme::Revocation,
    Theme::Everything,
];

fn generate(number: usize, seed: u64, pool: &Pool) -> Case {
    let mut rng = Rng::with_seed(
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(number as u64),
    );
    let rng = &mut rng;
    let theme = THEMES[rng.usize(0..THEMES.len())];
    // Mostly where it is the theme, now and then where everything may be odd.
    let odd = |wanted: Theme, rng: &mut Rng| {
        (theme == wanted && rng.u32(0..8) != 0)
            || (theme == Theme::Everything && rng.u32(0..5) == 0)
    };
    let mut tags = Vec::new();
    let format = if rng.u32(0..6) == 0 {
        Format::Sha256
    } else {
        Format::Sha1
    };
    let zone_name = ZONES[rng.usize(0..ZONES.len())];
    let zone = TimeZone::get(zone_name).unwrap();
    // Midsummer or midwinter, away from the hours that a change of clocks has twice or not at all.
    let year = rng.i64(2015..2026);
    let day = if rng.bool() { 15 } else { 190 };
    let time = (year - 1970) * 31_556_952 + day * 86_400 + rng.i64(-900_000..900_000);

    let mut draft = Draft::honest(format, time, rng);
    let mut for_git = rng.u32(0..12) == 0;
    if odd(Theme::Commit, rng) {
        tags.push(draft.make_odd(rng));
        for_git = true;
    }
    let payload = draft.bytes();

    let pair = if rng.u32(0..40) == 0 {
        &pool.odd[rng.usize(0..pool.odd.len())]
    } else {
        &pool.signers[rng.usize(0..pool.signers.len())]
    };
    let revocation = odd(Theme::Revocation, rng);
    let certified = (odd(Theme::Certificate, rng) || (revocation && rng.bool())).then(|| {
        let (blob, authority, tag) = certificates::issue(pair, pool, time, rng);
        tags.push(tag);
        (authority, blob)
    });
    let spoilt = odd(Theme::Signature, rng);
    let namespace = if spoilt && rng.u32(0..20) == 0 {
        tags.push("signed for files");
        "file"
    } else {
        "git"
    };
    let hash = if rng.u32(0..6) == 0 {
        "sha256"
    } else {
        "sha512"
    };
    let flags = [1, 5, 1, 5, 0, 4, 1][rng.usize(0..7)];
    let by_tool = !pair.is_security_key() && rng.u32(0..12) == 0;
    let mut signature = if by_tool {
        pair.sign_by_tool(&payload, namespace, hash)
    } else {
        pair.sign(&payload, namespace, hash, flags)
    };
    if let Some((_, blob)) = &certified {
        signature.key.clone_from(blob);
    }
    let weak = spoilt && pair.kind == "ssh-ed25519" && rng.u32(0..6) == 0;
    if weak {
        (signature.key, signature.value) = signatures::small_order();
        tags.push("key of small order");
    } else if spoilt {
        tags.push(signatures::spoil(&mut signature, pool, rng));
    }
    let blob = signature.blob();
    let armor = if odd(Theme::Armor, rng) {
        let (armor, tag) = signatures::respell(&blob, rng);
        tags.push(tag);
        armor
    } else {
        wire::armor(&blob).into_bytes()
    };

    let mut bytes = if rng.u32(0..100) == 0 {
        tags.push("unsigned");
        payload.clone()
    } else {
        draft.signed(&payload, &armor)
    };
    if odd(Theme::Tampered, rng) {
        let other = pool.signers[0].sign(&payload, "git", "sha512", 1);
        let other = wire::armor(&other.blob());
        tags.push(commits::tamper(&mut bytes, format, other.as_bytes(), rng));
        for_git = true;
    }

    let by = SignedBy {
        pair,
        certified: certified
            .as_ref()
            .map(|(authority, blob)| (*authority, blob.as_slice())),
    };
    let variety = if odd(Theme::Signers, rng) {
        files::Variety::Wild
    } else if theme == Theme::Certificate {
        files::Variety::Some
    } else {
        files::Variety::Plain
    };
    let mut signers = files::allowed_signers(&by, pool, time, &zone, variety, rng);
    if weak {
        let line = format!(
            "weak@example.com ssh-ed25519 {}\n",
            evenkeel::domain::text::base64(&signature.key)
        );
        signers = [line.into_bytes(), signers].concat();
    }
    let revoked = revocation.then(|| files::revoked(&by, pool, rng));
    let floor = if rng.u32(0..8) == 0 {
        time + rng.i64(0..60_000_000)
    } else {
        0
    };
    if let Some((_, tag)) = &revoked {
        tags.push(tag);
    }
    Case {
        number,
        format,
        id: format.id(&bytes),
        bytes,
        signers,
        revoked,
        zone: zone_name,
        time,
        floor,
        tags,
        for_git,
    }
}

/// What came of a run.
#[derive(Default)]
struct Tally {
    both_accept: usize,
    both_refuse: usize,
    by_git: usize,
    stricter: BTreeMap<kinds::Stricter, usize>,
    laxer: BTreeMap<kinds::Laxer, usize>,
    tags: BTreeMap<&'static str, [usize; 2]>,
    failures: Vec<String>,
}

fn compare(case: &Case, oracle: &Oracle, tally: &mut Tally) {
    let ask = |signers: &[u8]| {
        if case.for_git {
            oracle.git(case, signers)
        } else {
            oracle.ssh_keygen(case, signers)
        }
    };
    let (ours, skipped) = ours(case, &case.signers);
    let (theirs, said) = ask(&case.signers);
    tally.by_git += usize::from(case.for_git);
    for tag in &case.tags {
        tally.tags.entry(tag).or_default()[usize::from(theirs)] += 1;
    }
    let without_skipped: Vec<u8> = case
        .signers
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(index, _)| !skipped.contains(&(index + 1)))
        .flat_map(|(_, line)| line)
        .copied()
        .collect();
    let accepted_without_skipped = || !skipped.is_empty() && ask(&without_skipped).0;
    let in_utc = || oracle.in_utc(case, &files::in_utc(&case.signers, case.zone));
    let failure = match (&ours, theirs) {
        (Ours::Trusted(_), true) => {
            tally.both_accept += 1;
            return;
        }
        (Ours::Refused(..) | Ours::NoPolicy(_), false) => {
            tally.both_refuse += 1;
            return;
        }
        (Ours::Trusted(_), false) if accepted_without_skipped() => {
            *tally
                .laxer
                .entry(kinds::Laxer::MalformedLineBefore)
                .or_default() += 1;
            return;
        }
        (Ours::Trusted(_), false) if in_utc().0 => {
            *tally.laxer.entry(kinds::Laxer::SummerTime).or_default() += 1;
            return;
        }
        (Ours::Refused(reason, _), true) if reason.starts_with("key-") && !in_utc().0 => {
            *tally
                .stricter
                .entry(kinds::Stricter::SummerTime)
                .or_default() += 1;
            return;
        }
        (Ours::Trusted(principal), false)
            if oracle.verifies_as(case, &without_skipped, principal) =>
        {
            *tally.laxer.entry(kinds::Laxer::AnotherLine).or_default() += 1;
            return;
        }
        (Ours::Trusted(_), false) => "ACCEPTED HERE, refused by them",
        (Ours::Refused(..) | Ours::NoPolicy(_), true) => {
            let rests = if skipped.is_empty() || accepted_without_skipped() {
                kinds::RestsOn::ReadLines
            } else {
                kinds::RestsOn::SkippedLines
            };
            match kinds::stricter(case, &ours, rests) {
                Some(kind) => {
                    *tally.stricter.entry(kind).or_default() += 1;
                    return;
                }
                None => "refused here, accepted by them, of no listed kind",
            }
        }
    };
    let dir = std::env::temp_dir().join(format!("evenkeel-triple-{}", case.number));
    case.save(&dir);
    tally.failures.push(format!(
        "triple {} ({:?}, {}, {}): {failure}\n  here: {ours:?}\n  there: {}\n  in {}",
        case.number,
        case.tags,
        case.zone,
        if case.for_git { "git" } else { "ssh-keygen" },
        said.trim().replace('\n', "\n         "),
        dir.display(),
    ));
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    if text == "random" {
        return Some(fastrand::u64(..));
    }
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}

#[test]
fn nothing_is_trusted_that_git_or_ssh_keygen_refuses() {
    let seed = number_from("EVENKEEL_SEED").unwrap_or(3);
    let triples = number_from("EVENKEEL_TRIPLES").map_or(TRIPLES, |number| number as usize);
    let only = number_from("EVENKEEL_TRIPLE").map(|number| number as usize);
    println!("{triples} triples, EVENKEEL_SEED={seed} (EVENKEEL_TRIPLE=N asks about one of them)");
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let pool = Pool::new(&keys, &mut Rng::with_seed(seed));
    let numbers: Vec<usize> = (0..triples)
        .filter(|number| only.is_none_or(|only| only == *number))
        .collect();

    let cases = in_parallel(&numbers, |_, number| generate(*number, seed, &pool));
    for format in [Format::Sha1, Format::Sha256] {
        let stored: Vec<&Case> = cases
            .iter()
            .filter(|case| case.for_git && case.format == format)
            .collect();
        oracle::store(dir.path(), format, &stored);
    }
    let desks: Vec<PathBuf> = (0..WORKERS)
        .map(|number| dir.path().join(format!("desk{number}")))
        .collect();
    let tallies = in_parallel(&cases, |worker, case| {
        let oracle = Oracle::new(desks[worker].clone(), dir.path());
        let mut tally = Tally::default();
        compare(case, &oracle, &mut tally);
        tally
    });

    let mut sum = Tally::default();
    for tally in tallies {
        sum.both_accept += tally.both_accept;
        sum.both_refuse += tally.both_refuse;
        sum.by_git += tally.by_git;
        for (kind, count) in tally.stricter {
            *sum.stricter.entry(kind).or_default() += count;
        }
        for (kind, count) in tally.laxer {
            *sum.laxer.entry(kind).or_default() += count;
        }
        for (tag, counts) in tally.tags {
            let entry = sum.tags.entry(tag).or_default();
            entry[0] += counts[0];
            entry[1] += counts[1];
        }
        sum.failures.extend(tally.failures);
    }
    println!("what was special       refused  accepted by them");
    for (tag, [refused, accepted]) in &sum.tags {
        println!("  {tag:<50} {refused:>6} {accepted:>6}");
    }
    println!(
        "{} triples ({} of them by git itself): {} accepted by both, {} refused by both",
        cases.len(),
        sum.by_git,
        sum.both_accept,
        sum.both_refuse
    );
    println!("refused here alone: {:?}", sum.stricter);
    println!("accepted here alone: {:?}", sum.laxer);
    assert!(
        sum.failures.is_empty(),
        "{} failures with EVENKEEL_SEED={seed}:\n{}",
        sum.failures.len(),
        sum.failures.join("\n")
    );
    if only.is_none() {
        assert!(
            sum.both_accept * 5 > cases.len() && sum.both_refuse * 5 > cases.len(),
            "the triples are too much alike"
        );
    }
}

const WORKERS: usize = 4;

/// Maps over a slice with some threads; the order stays.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let mut found: Vec<(usize, R)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (next, work) = (&next, &work);
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(index) else {
                            return mine;
                        };
                        mine.push((index, work(worker, item)));
                    }
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    });
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn a_signature_made_in_process_is_the_one_that_ssh_keygen_makes() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::new(dir.path(), &mut Rng::with_seed(1));
    for pair in pool
        .signers
        .iter()
        .filter(|pair| pair.kind == "ssh-ed25519")
    {
        for hash in ["sha256", "sha512"] {
            let here = wire::armor(&pair.sign(b"content\n", "git", hash, 1).blob());
            let there = pair.armor_by_tool(b"content\n", "git", hash);
            assert_eq!(here.as_bytes(), there);
        }
    }
}
