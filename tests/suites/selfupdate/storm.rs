//! Updates of the agent under SIGKILL at any moment: of the agent, of the starter, of whatever runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use evenkeel_tests::tally::{Ended, Scale, Tally, only_seed};

use super::scene_whole::Fleet;

/// Until a device that nobody kills any more has settled.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

/// A small generator: the same seed gives the same case.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % most
    }
}

/// How far the update to this version is.
fn moment(fleet: &Fleet, version: &str) -> &'static str {
    let of_it = |name: String| name.starts_with(&format!("{version}-")).then_some(name);
    if fleet.link("current").and_then(of_it).is_some() {
        return "proven";
    }
    if fleet.link("next").and_then(of_it).is_some() {
        return "on trial";
    }
    let names = std::fs::read_dir(fleet.dir()).into_iter().flatten();
    let names = names.flatten().map(|one| one.file_name());
    let mine: Vec<String> = names
        .filter_map(|name| of_it(name.into_string().unwrap_or_default()))
        .collect();
    match mine.as_slice() {
        [] => "before its download",
        [one] if one.ends_with(".part") => "in its download",
        [one] if one.ends_with(".new") => "tried out",
        _ => "staged",
    }
}

/// What is not whole and not named: an update leaves none of it.
fn left_over(fleet: &Fleet) -> Option<String> {
    let names = std::fs::read_dir(fleet.dir()).into_iter().flatten();
    names
        .flatten()
        .filter_map(|one| one.file_name().into_string().ok())
        .find(|name| {
            [".part", ".new", ".tmp"]
                .iter()
                .any(|end| name.ends_with(end))
        })
}

/// One update, with so many kills at moments of chance in it. It ends at the new agent, or, where the kills have used up its
/// starts, at the old one, which says so.
fn one(
    fleet: &Fleet,
    version: &str,
    before: &str,
    seed: u64,
    kills: &mut BTreeMap<&'static str, u32>,
) -> Result<Ended, String> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let supervised = fleet.supervise();
    let tenths = usize::try_from(1 + chance.below(20)).expect("a small number");
    fleet.release_slowly(version, tenths);
    for _ in 0..1 + chance.below(4) {
        std::thread::sleep(Duration::from_millis(chance.below(1500)));
        *kills.entry(moment(fleet, version)).or_default() += 1;
        supervised.signal_all("KILL");
    }
    let until = Instant::now() + SETTLES_WITHIN;
    loop {
        let (runs, declared, why) = fleet.told();
        let next = fleet.link("next");
        if declared == version && next.is_none() && left_over(fleet).is_none() {
            let current = fleet.link("current").unwrap_or_default();
            let at = current.rsplit_once('-').map_or("0.1.0", |(at, _)| at);
            if runs == version && why.is_empty() && at == version {
                return Ok(Ended::New);
            }
            let is_refused = why.contains("ended in each of its starts");
            if is_refused && runs == before && (at == before || before == "0.1.0") {
                return Ok(Ended::LastGood);
            }
        }
        if Instant::now() > until {
            return Err(format!(
                "seed {seed}: it runs {runs}, {declared} is declared: {why}; next {next:?}, left over {:?}; {}",
                left_over(fleet),
                supervised.log()
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn torture_an_update_that_is_killed_at_any_moment_ends_at_the_new_agent_or_at_the_old_one() {
    let mut tally = Tally::new("SIGKILL in an update of the agent");
    let fleet = Fleet::new("upgrade-storm");
    fleet.world.repo.release("First");
    fleet.world.device.sync().expect_code(0);
    let seeds = match only_seed() {
        Some(seed) => seed..seed + 1,
        None => 1..Scale::asked().of(6, 200) + 1,
    };
    let mut at = "0.1.0".to_owned();
    let mut kills = BTreeMap::new();
    for seed in seeds {
        let version = format!("1.{seed}.0");
        let ended = one(&fleet, &version, &at, seed, &mut kills);
        if ended == Ok(Ended::New) {
            at = version;
        }
        tally.count(ended);
    }
    // Whatever was left on the way is gone.
    let left = std::fs::read_dir(fleet.dir()).unwrap().flatten().count();
    assert!(
        left <= 6,
        "current, previous, refused, and a generation each: {left}"
    );
    let sum: u32 = kills.values().sum();
    println!("{sum} kills: {kills:?}");
    tally.close();
}
