//! The gate before a branch: what must be so of the ring that a revision comes from.
//!
//! The gate that counts is the stricter, demand by demand, of what the branch says now and of what would come to it, so that
//! nothing loosens its own gate: that takes a promotion under the old one first, or an override, which the commit records.
//! The server and its queries are the branch's own; the promoted tree's count only before a branch without any and without a
//! gate yet. The ring is who either of them means, of the devices of either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::fleet::Fleet;
use evenkeel_schema::promotion::{self, Gate};
use serde_json::{Value, json};

use super::candidate::Candidate;
use super::{Args, code, refused, usage};
use crate::adapter::prometheus::{AskError, Prometheus};
use crate::cli::device::now;
use crate::cli::git::{Git, Stop, parse, say};
use crate::cli::report::verify;
use crate::domain::device_report::DeviceReport;
use crate::domain::revision::CommitId;
use crate::domain::tree::Tree;
use crate::gate::ring::{self, Member, Revision, Standing, Verdict};
use crate::resolve::{read_devices, read_fleet};

/// The trailer with a gate's numbers.
const GATE: &str = "Gate";
/// The trailer with the reason why they did not count.
const OVERRIDE: &str = "Gate-Override";
/// How many reports that do not count are told of.
const TOLD: usize = 5;
/// A device that was heard of within this time is of its ring, by Prometheus' word.
const REMEMBERED: &str = "7d";

/// The standard queries. `$soak` is never 0: Prometheus knows no empty range. One that is shorter than the time between two
/// samples may hold none, so what is so now is asked as well.
const QUERIES: [(&str, &str); 4] = [
    (
        "ring",
        "last_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\"}[$remembered])",
    ),
    (
        "seen",
        "last_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\"}[$silent])",
    ),
    (
        "healthy",
        "last_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",commit=~\"$commits\",state=\"healthy\"}[$silent]) \
         and on (device) \
         last_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",commit=~\"$commits\",state=\"healthy\"}[$silent] offset $soak) \
         unless on (device) \
         count_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",state!=\"healthy\"}[$soak]) \
         unless on (device) \
         count_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",commit!~\"$commits\"}[$soak]) \
         unless on (device) \
         evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",state!=\"healthy\"} \
         unless on (device) \
         evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",commit!~\"$commits\"}",
    ),
    (
        "failed",
        "last_over_time(evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",commit=~\"$commits\",state=~\"refused|unhealthy\"}[$silent]) \
         unless on (device) \
         evenkeel_revision_info{fleet=\"$fleet\",branch=\"$branch\",commit=~\"$commits\",state!~\"refused|unhealthy\"}",
    ),
];

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) args: &'a Args,
    pub(super) git: &'a Git,
    pub(super) from: &'a str,
    pub(super) tip: &'a CommitId,
    pub(super) candidate: &'a Candidate,
    /// What the branch says now.
    pub(super) before: Option<&'a Tree>,
    pub(super) after: &'a Tree,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Judged {
    /// `None` where nothing could be asked, or what was asked did not answer, and somebody decided all the same.
    verdict: Result<Verdict, String>,
    source: String,
    override_reason: Option<String>,
}

/// Judges the gate; `None` where there is none.
pub(super) fn judged(question: &Question<'_>) -> Result<Option<Judged>, Stop> {
    let args = question.args;
    let reason = match &args.override_gate {
        Some(text) => Some(reason(text)?),
        None => None,
    };
    let after = fleet(question.after).map_err(refused)?;
    let before = match question.before.map(fleet) {
        None => None,
        Some(Ok(fleet)) => Some(fleet),
        Some(Err(why)) => {
            let why = format!(
                "what {} says now cannot be read, its gate neither: {why}",
                args.to
            );
            return match reason {
                Some(_) => Ok(Some(Judged {
                    verdict: Err(why),
                    source: String::new(),
                    override_reason: reason,
                })),
                None => Err(refused(format!("{why}\nhint: --override REASON"))),
            };
        }
    };
    let gate_of = |fleet: &Fleet| fleet.promotion.gates.get(&args.to).copied();
    let standing = before.as_ref().and_then(gate_of);
    let gate = match (standing, gate_of(&after)) {
        (Some(now), Some(next)) => now.and(next),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => {
            if reason.is_some() {
                say("note: there is no gate to override");
            }
            return Ok(None);
        }
    };
    let asking = Asking {
        question,
        gate,
        revision: revision(question)?,
        declared: declared(question, before.as_ref(), &after)?,
        fleet: &after.name,
    };
    let server = before
        .as_ref()
        .and_then(|fleet| fleet.promotion.prometheus.clone())
        // What a gate stands before does not say who judges it.
        .or_else(|| match standing {
            Some(_) => None,
            None => after.promotion.prometheus.clone(),
        })
        .unwrap_or_default();
    let (source, members) = match &args.reports {
        Some(dir) => (
            format!("reports in {}", dir.display()),
            asking.by_reports(dir),
        ),
        None => match args.prometheus.as_ref().or(server.url.as_ref()) {
            Some(url) => ("Prometheus".to_owned(), asking.by_prometheus(url, &server)),
            None => (
                "nothing".to_owned(),
                Err(usage(format!(
                    "[promote.{}] wants to know how the devices of {} are, and nothing says whom to ask\nhint: --reports DIR, \
                     --prometheus URL, or [prometheus] in the fleet.toml of {0} (where that has a gate, what is promoted does not say \
                     who judges it)",
                    args.to, question.from
                ))),
            ),
        },
    };
    let verdict = match members {
        Ok(members) => Ok(ring::judge(question.from, gate, members)),
        Err(stop) if reason.is_some() => Err(format!("{:#}", stop.error)),
        Err(stop) => return Err(stop),
    };
    let judged = Judged {
        verdict,
        source,
        override_reason: reason,
    };
    judged.tell();
    Ok(Some(judged))
}

fn reason(text: &str) -> Result<String, Stop> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(usage(
            "--override: give a reason, on one line: the commit records it",
        ));
    }
    Ok(text.to_owned())
}

fn fleet(tree: &Tree) -> Result<Fleet, String> {
    let mut out = Diagnostics::new();
    let fleet = read_fleet(tree, &mut out);
    match (fleet, out.is_empty()) {
        (Some(fleet), true) => Ok(fleet),
        (Some(_) | None, _) => Err(out.to_string()),
    }
}

/// The revision, and every commit of its branch that shows the same.
fn revision(question: &Question<'_>) -> Result<Revision, Stop> {
    let tree = &question.candidate.tree;
    let lines = question.git.ask(&[
        "log",
        "--no-show-signature",
        "--format=%H %T",
        question.tip.as_str(),
    ])?;
    let mut commits = BTreeSet::new();
    for line in lines.lines() {
        if let Some((commit, shown)) = line.split_once(' ')
            && shown == tree
        {
            commits.insert(parse(commit, commit)?);
        }
    }
    Ok(Revision {
        branch: question.from.to_owned(),
        tree: tree
            .parse()
            .map_err(|error| Stop::from(anyhow::Error::new(error)))?,
        commits,
    })
}

/// The devices with a document in either tree that `[rings]` of either means.
fn declared(
    question: &Question<'_>,
    before: Option<&Fleet>,
    after: &Fleet,
) -> Result<BTreeSet<String>, Stop> {
    let selectors: Vec<_> = before
        .into_iter()
        .chain([after])
        .filter_map(|fleet| fleet.promotion.rings.get(question.from))
        .collect();
    if selectors.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut out = Diagnostics::new();
    let devices = read_devices(question.after, &mut out);
    out.into_result(())
        .map_err(|problems| refused(problems.to_string()))?;
    // Who loses its document or its labels now is still of the ring. One that cannot be read there does not hold its own repair.
    let present = question
        .before
        .map(|tree| read_devices(tree, &mut Diagnostics::new()))
        .unwrap_or_default();
    Ok(present
        .iter()
        .chain(&devices)
        .filter(|(_, device)| selectors.iter().any(|one| one.matches(&device.labels)))
        .map(|(id, _)| id.to_string())
        .collect())
}

struct Asking<'a> {
    question: &'a Question<'a>,
    gate: Gate,
    revision: Revision,
    declared: BTreeSet<String>,
    fleet: &'a str,
}

impl Asking<'_> {
    fn by_reports(&self, dir: &Path) -> Result<BTreeMap<String, Member>, Stop> {
        let files = verify::files(&[dir.to_owned()]).map_err(|error| Stop {
            code: code::USAGE,
            error: error.context("--reports"),
        })?;
        let judged = verify::judge(self.question.after, files).map_err(refused)?;
        let mut reports: BTreeMap<String, DeviceReport> = BTreeMap::new();
        let mut refused = Vec::new();
        for one in judged {
            match one.verdict {
                Ok(report) => {
                    let report = report.report().clone();
                    reports.insert(report.device.clone(), report);
                }
                Err((reason, why)) => {
                    refused.push(format!("  {}: {reason}: {why}", one.file.display()));
                }
            }
        }
        if !refused.is_empty() {
            let more = refused.len().saturating_sub(TOLD);
            say(&format!(
                "note: {} of the reports do not count:\n{}{}",
                refused.len(),
                refused[..refused.len() - more].join("\n"),
                if more > 0 {
                    format!("\n  and {more} more")
                } else {
                    String::new()
                }
            ));
        }
        let now = now();
        let mut members: BTreeMap<String, Member> = self
            .declared
            .iter()
            .map(|id| (id.clone(), Member::new(Standing::Silent, "no report")))
            .collect();
        for (id, report) in reports {
            if report.branch == self.question.from || members.contains_key(&id) {
                let member = ring::by_report(&report, &self.revision, &self.gate, now);
                members.insert(id, member);
            }
        }
        Ok(members)
    }

    fn by_prometheus(
        &self,
        url: &str,
        server: &promotion::Prometheus,
    ) -> Result<BTreeMap<String, Member>, Stop> {
        let args = self.question.args;
        let server_at = Prometheus::at(
            url,
            args.prometheus_token.as_deref(),
            args.prometheus_ca.as_ref(),
        )
        .map_err(stop)?;
        let mut found = Vec::new();
        for (name, standard) in QUERIES {
            let query = server.queries.get(name).map_or(standard, String::as_str);
            found.push(server_at.devices(name, &self.filled(query)).map_err(stop)?);
        }
        let [ring, seen, healthy, failed] = &found[..] else {
            return Ok(BTreeMap::new());
        };
        let member = |id: &String| {
            if !seen.contains(id) {
                Member::new(Standing::Silent, "not seen")
            } else if failed.contains(id) {
                Member::new(Standing::Failed, "refused it, or is unhealthy at it")
            } else if healthy.contains(id) {
                Member::new(Standing::Healthy, "")
            } else {
                Member::new(Standing::Behind, "not healthy at it for that long")
            }
        };
        let all = ring.union(&self.declared);
        Ok(all.map(|id| (id.clone(), member(id))).collect())
    }

    fn filled(&self, query: &str) -> String {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let commits: Vec<&str> = self.revision.commits.iter().map(CommitId::as_str).collect();
        let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs().max(1));
        // The longer name first where one begins with the other.
        for_each(
            query,
            &[
                ("$remembered", REMEMBERED.to_owned()),
                ("$commits", commits.join("|")),
                ("$silent", seconds(self.gate.silent)),
                ("$branch", quoted(self.question.from)),
                ("$fleet", quoted(self.fleet)),
                ("$soak", seconds(self.gate.soak)),
            ],
        )
    }
}

/// Fills each name in, once: what is filled in is not looked at again.
fn for_each(query: &str, names: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut rest = query;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        match names.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                text.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                text.push('$');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

fn stop(error: AskError) -> Stop {
    let code = match &error {
        AskError::Setup(_) => code::USAGE,
        AskError::Silent { .. } | AskError::Answer { .. } => code::FAILED,
    };
    Stop {
        code,
        error: anyhow::Error::new(error)
            .context("the gate cannot be judged, and nothing has changed"),
    }
}

impl Judged {
    fn tell(&self) {
        match &self.verdict {
            Ok(verdict) => {
                let word = if verdict.is_met() { "met" } else { "not met" };
                say(&format!("gate {word}: {verdict} (by {})", self.source));
                say(verdict.others().trim_end());
            }
            Err(why) => say(&format!("gate not judged: {why}")),
        }
    }

    /// Why it holds the promotion.
    pub(super) fn holds(&self) -> Option<String> {
        match (&self.verdict, &self.override_reason) {
            (_, Some(_)) => None,
            (Ok(verdict), None) if verdict.is_met() => None,
            (Ok(verdict), None) => Some(format!(
                "the gate is not met, and nothing has changed: {}\n{}hint: --override REASON promotes all the same, and \
                 the commit says why",
                verdict.unmet.join("; "),
                verdict.others(),
            )),
            (Err(why), None) => Some(why.clone()),
        }
    }

    /// What the commit records.
    pub(super) fn trailers(&self) -> String {
        let numbers = match &self.verdict {
            Ok(verdict) if verdict.is_met() => format!("met: {verdict}"),
            Ok(verdict) => format!("not met: {verdict}"),
            Err(_) => "not judged".to_owned(),
        };
        let mut text = format!("{GATE}: {numbers}\n");
        if let Some(reason) = &self.override_reason {
            text.push_str(&format!("{OVERRIDE}: {reason}\n"));
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Ok(verdict) = &self.verdict else {
            return json!({ "met": null, "override": self.override_reason, "source": self.source });
        };
        let gate = &verdict.gate;
        let devices: BTreeMap<&String, Value> = verdict
            .members
            .iter()
            .map(|(id, member)| {
                (
                    id,
                    json!({ "standing": member.standing.word(), "why": member.why }),
                )
            })
            .collect();
        json!({
            "met": verdict.is_met(),
            "override": self.override_reason,
            "source": self.source,
            "ring": verdict.ring,
            "devices": devices,
            "healthy": verdict.count(Standing::Healthy),
            "failed": verdict.count(Standing::Failed),
            "silent": verdict.count(Standing::Silent),
            "unmet": verdict.unmet,
            "wanted": {
                "healthy": gate.healthy,
                "soak": ring::shown(gate.soak),
                "max_failed": gate.max_failed,
                "max_silent": gate.max_silent,
                "silent": ring::shown(gate.silent),
                "min_devices": gate.min_devices,
            },
        })
    }
}
