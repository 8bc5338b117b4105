//! Each fuzz target over its whole corpus, and then for a moment beyond it: the corpus' entries, changed in the same way
//! every time. Long runs are `cargo fuzz`'s (README).
//!
//! `EVENKEEL_FUZZ_SECONDS=60` goes on for longer, `EVENKEEL_SEED` (a number, or `random`) changes them in other ways.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// How long each target goes on beyond its corpus.
const MOMENT: Duration = Duration::from_millis(1500);

/// The largest input: what is larger is slow, and shows no more.
const LARGEST: usize = 16 * 1024;

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Changes an input in a few places.
fn change(bytes: &mut Vec<u8>, corpus: &[(String, Vec<u8>)], rng: &mut Rng) {
    for _ in 0..rng.u32(1..5) {
        let at = rng.usize(0..=bytes.len());
        let end = (at + [1, 2, 4, 16, 64][rng.usize(0..5)]).min(bytes.len());
        match rng.u32(0..10) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.u32(0..8),
            2 if at < bytes.len() => bytes[at] = rng.u8(..),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = rng.usize(0..=bytes.len());
                bytes.splice(to..to, part);
            }
            5 => {
                let other = &corpus[rng.usize(0..corpus.len())].1;
                let from = rng.usize(0..=other.len());
                let part = &other[from..(from + rng.usize(0..200)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            6 => {
                let other = &corpus[rng.usize(0..corpus.len())].1;
                let from = rng.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            // Lengths and counts.
            7 if at + 4 <= bytes.len() => {
                let number = [0, 1, 2, 0x7fff_ffff, u32::MAX, rng.u32(0..64)][rng.usize(0..6)];
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            8 => {
                let word: &[u8] = [
                    &b"\n"[..],
                    b"\n\n",
                    b"\r\n",
                    b" ",
                    b"\t",
                    b"\"",
                    b"'",
                    b"!",
                    b"*",
                    b"#",
                    b"=",
                    b",",
                    b":",
                    b"\0",
                    b"\xff",
                    b"\xc3\xa9",
                    b"[[",
                    b"]]",
                    b"{",
                    b"}",
                    b"&a ",
                    b"*a",
                    b"<<: ",
                    b"- ",
                    b"9999999999",
                    b"-1",
                    b"1e400",
                    b"nan",
                    b"\xef\xbb\xbf",
                    b"\xe2\x80\xa8",
                    b"../",
                    b"99991231235959Z",
                ][rng.usize(0..32)];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => bytes.truncate(end),
        }
    }
    bytes.truncate(LARGEST);
}

#[expect(clippy::print_stdout, reason = "what a failed run is repeated with")]
fn fuzz(name: &str) {
    let (_, body) = bodies::TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .unwrap();
    let run = |bytes: &[u8], what: &str| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
            let path = std::env::temp_dir().join(format!("evenkeel-fuzz-{name}"));
            std::fs::write(&path, bytes).unwrap();
            println!("{what}; the input is {}", path.display());
            std::panic::resume_unwind(panic);
        }
    };
    let corpus = corpus(name);
    assert!(corpus.len() >= 8, "{name}: {} entries", corpus.len());
    for (file, bytes) in &corpus {
        run(bytes, file);
    }
    let number = |variable: &str| std::env::var(variable).ok();
    let seed = match number("EVENKEEL_SEED").as_deref() {
        Some("random") => fastrand::u64(..),
        Some(text) => text.parse().unwrap(),
        None => 3,
    };
    let limit = number("EVENKEEL_FUZZ_SECONDS")
        .map_or(MOMENT, |text| Duration::from_secs(text.parse().unwrap()));
    let mut rng = Rng::with_seed(seed);
    let start = Instant::now();
    let mut inputs = 0;
    while start.elapsed() < limit {
        let mut bytes = corpus[rng.usize(0..corpus.len())].1.clone();
        change(&mut bytes, &corpus, &mut rng);
        inputs += 1;
        run(&bytes, &format!("input {inputs} with EVENKEEL_SEED={seed}"));
    }
    println!(
        "{name}: {} of the corpus, and {inputs} more with EVENKEEL_SEED={seed}",
        corpus.len()
    );
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test] fn $target() { fuzz(stringify!($target)); })*

        #[test]
        fn every_target_is_run_here_and_by_cargo_fuzz() {
            let here = [$(stringify!($target)),*];
            let names: Vec<&str> = bodies::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(here.as_slice(), names);
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
            for name in names {
                assert!(root.join(format!("targets/{name}.rs")).exists(), "{name}");
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            }
        }
    };
}

targets! {
    sshsig allowed_signers krl certificate commit trailers trust_set openpgp_keyring openpgp_signature fleet group device app agent
    compose
}
