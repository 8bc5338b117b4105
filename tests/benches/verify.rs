//! One verification of a commit, in process and by `git verify-commit` of the same commit in the same run:
//!
//!     cargo bench -p evenkeel-tests --features bench --bench verify
//!
//! Criterion gives the wall time of both; the table at the end the processor time of both, children included, and the
//! ratio. Under a feature, so that nobody builds criterion who only runs the tests.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench reports by printing, and by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criterion::Criterion;
use evenkeel::adapter::git_local::LocalRepository;
use evenkeel::domain::commit::RawCommit;
use evenkeel::domain::revision::Timestamp;
use evenkeel::trust::allowed_signers::AllowedSigners;
use evenkeel::trust::policy::{TrustPolicy, Verdict};
use evenkeel_tests::{FleetRepo, Signer};

struct Subject {
    name: &'static str,
    repository: FleetRepo,
    commit: String,
    raw: RawCommit,
    signers: PathBuf,
    policy: TrustPolicy,
}

impl Subject {
    fn new(name: &'static str, kind: &[&str], form: Form) -> Self {
        let repository = FleetRepo::new();
        let signer = Signer::of_type("alice@example.com", kind);
        let mut line = signer.allowed_line("namespaces=\"git\"");
        if form == Form::Certificate {
            let authority = Signer::new("*");
            let done = Command::new("ssh-keygen")
                .args(["-q", "-I", "alice", "-n", "alice@example.com", "-s"])
                .arg(authority.private_key())
                .arg(signer.public_key())
                .status()
                .unwrap();
            assert!(done.success());
            let certificate = signer.private_key().with_file_name("key-cert.pub");
            std::fs::copy(certificate, signer.public_key()).unwrap();
            line = authority.allowed_line("cert-authority,namespaces=\"git\"");
        }
        let commit = repository.commit_signed_by(&signer, "subject");
        let raw = LocalRepository::open(&repository.work())
            .unwrap()
            .commit(&commit, None)
            .unwrap();
        let signers = repository.served().join(name);
        std::fs::write(&signers, &line).unwrap();
        let set = AllowedSigners::parse(name, line.as_bytes(), &jiff::tz::TimeZone::UTC).unwrap();
        let subject = Self {
            name,
            repository,
            commit,
            raw,
            signers,
            policy: TrustPolicy::of(set),
        };
        subject.here();
        subject.there();
        subject
    }

    fn here(&self) {
        let verdict = self.policy.judge(&self.raw, Timestamp(0));
        assert!(matches!(verdict, Verdict::Trusted(_)), "{verdict:?}");
    }

    fn there(&self) {
        let file = format!("gpg.ssh.allowedSignersFile={}", self.signers.display());
        let done = Command::new("git")
            .current_dir(self.repository.work())
            .args(["-c", &file, "verify-commit", &self.commit])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Certificate,
}

/// Seconds of processor time that this process and its ended children have taken.
fn processor_time() -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(Path::new("/proc/self/stat")).unwrap();
    let ticks: u32 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u32>().unwrap())
        .sum();
    f64::from(ticks) / TICKS_A_SECOND
}

fn milliseconds(rounds: u32, work: impl Fn()) -> f64 {
    let before = processor_time();
    for _ in 0..rounds {
        work();
    }
    (processor_time() - before) * 1000.0 / f64::from(rounds)
}

fn main() {
    let subjects = [
        Subject::new("ed25519", &["-t", "ed25519"], Form::Plain),
        Subject::new("ed25519-certificate", &["-t", "ed25519"], Form::Certificate),
        Subject::new("ecdsa-p256", &["-t", "ecdsa", "-b", "256"], Form::Plain),
        Subject::new("rsa-3072", &["-t", "rsa", "-b", "3072"], Form::Plain),
    ];
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    for subject in &subjects {
        let mut group = criterion.benchmark_group(subject.name);
        group.bench_function("evenkeel", |bench| bench.iter(|| subject.here()));
        group.bench_function("git verify-commit", |bench| bench.iter(|| subject.there()));
        group.finish();
    }
    criterion.final_summary();

    println!("processor time of one verification   evenkeel   git verify-commit   ratio");
    for subject in &subjects {
        let here = milliseconds(1000, || subject.here());
        let there = milliseconds(50, || subject.there());
        println!(
            "{:<34} {here:>8.2} ms {there:>16.1} ms {:>7.0}",
            subject.name,
            there / here
        );
    }
}
