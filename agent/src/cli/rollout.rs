//! `evenkeel rollout DIR`: who comes when in the rollouts that a fleet repository declares, before anybody signs them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::duration;
use evenkeel_schema::name::{DeviceId, GroupName};
use evenkeel_schema::rollout::{Pace, Rollout, Turns};
use serde_json::{Value, json};

use super::fleet_dir;
use crate::domain::revision::Timestamp;
use crate::resolve::fleet_wide::FleetWide;
use crate::schedule::curve::{begun, curve, turns_of};
use crate::schedule::rollout::end;

/// The most made-up devices: more draw the same curve.
const MOST: u32 = 1_000_000;

/// Who comes when in the rollouts of a fleet repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository's top folder.
    dir: PathBuf,
    /// Only the devices of this group.
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// So many made-up devices instead of those with a document.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    devices: Option<u32>,
    /// The turn of this device alone.
    #[arg(long, value_name = "ID", conflicts_with_all = ["devices", "group"])]
    device: Option<DeviceId>,
    /// How far they are at this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Devices that one and the same rollout concerns.
pub(super) struct Staged {
    pub(super) rollout: Rollout,
    pub(super) devices: Vec<DeviceId>,
}

/// Runs it; the exit code: 0 shown, 2 not a fleet repository or no such group, 3 problems found.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let tree = match fleet_dir::read(&args.dir) {
        Ok(tree) => tree,
        Err(error) => return super::fail(super::code::USAGE, &format!("{error:#}")),
    };
    let found = FleetWide::read(&tree).map(|fleet| staged(args, &fleet));
    let (staged, at_once) = match found {
        Ok(Ok(found)) => found,
        Ok(Err(why)) => return super::fail(super::code::USAGE, &why),
        Err(problems) => return refused(&problems),
    };
    let answer = json!({
        "at": args.at,
        "at_once": at_once.len(),
        "rollouts": staged.iter().map(|one| told(one, args.at)).collect::<Vec<Value>>(),
    });
    let text = if args.json {
        format!("{answer:#}\n")
    } else {
        for_people(&staged, &at_once, args.at)
    };
    super::answer(&text);
    super::code::DONE
}

fn refused(problems: &Diagnostics) -> u8 {
    let _ = writeln!(std::io::stderr().lock(), "{problems}");
    super::code::REFUSED
}

/// The devices by the rollout that concerns them, and those that none does.
fn staged(args: &Args, fleet: &FleetWide<'_>) -> Result<(Vec<Staged>, Vec<DeviceId>), String> {
    if let Some(group) = &args.group
        && !fleet.has_group(group)
    {
        return Err(format!("there is no groups/{group}.toml"));
    }
    let devices: Vec<DeviceId> = match (&args.device, args.devices) {
        (Some(device), _) => vec![device.clone()],
        (None, Some(count)) => made_up(count),
        (None, None) => {
            let is_asked = |id: &&DeviceId| {
                let group = args.group.as_ref();
                group.is_none_or(|group| fleet.is_in(id, group))
            };
            fleet.declared().filter(is_asked).cloned().collect()
        }
    };
    if devices.is_empty() {
        return Err(
            "there is no such device in devices/\nhint: --devices 1000 counts with so many made-up ones"
                .to_owned(),
        );
    }
    // Only made-up devices are in a group because they are said to be.
    let said = args.devices.and(args.group.as_ref());
    Ok(by_rollout(fleet, devices, said))
}

/// These devices by the rollout that concerns them, and those that none does. `said`: a group that they are in, whatever their
/// documents say.
pub(super) fn by_rollout(
    fleet: &FleetWide<'_>,
    devices: impl IntoIterator<Item = DeviceId>,
    said: Option<&GroupName>,
) -> (Vec<Staged>, Vec<DeviceId>) {
    let mut staged: BTreeMap<String, Staged> = BTreeMap::new();
    let mut at_once = Vec::new();
    for id in devices {
        match fleet.rollout(&id, said) {
            None => at_once.push(id),
            Some(rollout) => staged
                .entry(format!("{rollout:?}"))
                .or_insert_with(|| Staged {
                    rollout,
                    devices: Vec::new(),
                })
                .devices
                .push(id),
        }
    }
    (staged.into_values().collect(), at_once)
}

fn made_up(count: u32) -> Vec<DeviceId> {
    (1..=count)
        .filter_map(|number| format!("device-{number:07}").parse().ok())
        .collect()
}

fn told(staged: &Staged, at: Option<Timestamp>) -> Value {
    let count = staged.devices.len();
    let turns = staged.rollout.turns.as_ref();
    let sorted = turns.map(|turns| turns_of(turns, &staged.devices));
    let curve = turns.zip(sorted.as_ref()).map(|(turns, sorted)| {
        let points = curve(turns, sorted).into_iter().map(|point| {
            json!({
                "at": point.at,
                "wave": point.wave.map(|(number, _)| number),
                "share": point.wave.map(|(_, share)| f64::from(share.millionths()) / 10_000.0),
                "begun": point.begun,
                "percent": percent(point.begun, count),
            })
        });
        points.collect::<Vec<Value>>()
    });
    json!({
        "id": turns.map(|turns| &turns.id),
        "halted": staged.rollout.halt.is_some(),
        "start": turns.map(|turns| Timestamp(turns.start)),
        "end": turns.map(end),
        "devices": count,
        "curve": curve,
        "begun": at.zip(sorted).map(|(at, sorted)| begun(&sorted, at)),
    })
}

fn percent(part: usize, of: usize) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most a million devices, and shown to a tenth"
    )]
    let share = part as f64 * 1000.0 / of.max(1) as f64;
    share.round() / 10.0
}

fn for_people(staged: &[Staged], at_once: &[DeviceId], at: Option<Timestamp>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for one in staged {
        let count = one.devices.len();
        if let Some(place) = &one.rollout.halt {
            let _ = writeln!(
                text,
                "halted ({place}): of {count} {}, those that have not begun do not begin",
                noun(count)
            );
        }
        let Some(turns) = &one.rollout.turns else {
            continue;
        };
        let _ = writeln!(
            text,
            "rollout {}: {count} {}, {}",
            turns.id,
            noun(count),
            pace(turns)
        );
        let sorted = turns_of(turns, &one.devices);
        if let ([device], [turn]) = (one.devices.as_slice(), sorted.as_slice()) {
            let _ = writeln!(text, "  the turn of {device} comes at {turn}");
            continue;
        }
        let mut before = 0;
        for point in curve(turns, &sorted) {
            let wave = match point.wave {
                Some((number, share)) => format!("  wave {number} ({share})"),
                None => String::new(),
            };
            let _ = writeln!(
                text,
                "  {}  {:>7} more  {:>7} in all  {:>5.1} %{wave}",
                point.at,
                point.begun - before,
                point.begun,
                percent(point.begun, count),
            );
            before = point.begun;
        }
        if let Some(at) = at {
            let begun = begun(&sorted, at);
            let _ = writeln!(
                text,
                "  at {at}: {begun} of {count}, {:.1} %",
                percent(begun, count)
            );
        }
        let _ = writeln!(text, "  a device with no clock: after {}", end(turns));
    }
    if !at_once.is_empty() {
        let count = at_once.len();
        let _ = writeln!(
            text,
            "{count} {} at once: no [rollout] concerns {}",
            noun(count),
            if count == 1 { "it" } else { "them" }
        );
    }
    text
}

pub(super) fn noun(count: usize) -> &'static str {
    if count == 1 { "device" } else { "devices" }
}

pub(super) fn pace(turns: &Turns) -> String {
    match &turns.pace {
        Pace::Ramp(length) => format!("evenly over {}", duration::text(*length)),
        Pace::Waves { shares, .. } if shares.len() == 1 => "in one wave".to_owned(),
        Pace::Waves { shares, pause } => {
            format!(
                "in {} waves, {} apart",
                shares.len(),
                duration::text(*pause)
            )
        }
    }
}
