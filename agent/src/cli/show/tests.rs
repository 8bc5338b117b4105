#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use evenkeel_schema::app::OnRemove;

use super::*;
use crate::domain::desired::{Contents, DesiredFile};
use crate::domain::history::{Deployment, DeploymentResult};
use crate::domain::observed::{FileKind, ObservedFile, ObservedState, Seen};
use crate::domain::outcome::{
    AppStatus, Condition, ConditionStatus, ConditionType, Phase, Poll, Report, Revisions,
    ServiceStatus,
};
use crate::domain::resource::ResourceId;
use crate::domain::revision::{CommitId, ContentId, Timestamp};
use crate::plan::{Action, Blocked, Plan, Step};

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

const NOW: Timestamp = Timestamp(1_772_366_400);

fn report() -> Report {
    let condition = |kind, status, reason: &str, message: &str| Condition {
        kind,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: Timestamp(NOW.0 - 200),
    };
    Report {
        held: None,
        device: "gw-0042".to_owned(),
        branch: "stable".to_owned(),
        fleet: None,
        revision: Revisions {
            tip: Some(commit('b')),
            verified: Some(commit('a')),
            applied: Some(commit('a')),
            last_good: Some(commit('a')),
            floor: Some(commit('a')),
            tree: None,
            since: None,
        },
        phase: Phase::Idle,
        conditions: vec![
            condition(ConditionType::Ready, ConditionStatus::True, "Converged", ""),
            condition(
                ConditionType::Verified,
                ConditionStatus::False,
                "unsigned",
                "the tip bbbbbbbbbb is not signed",
            ),
        ],
        apps: vec![AppStatus {
            name: "mqtt".to_owned(),
            state: "Healthy".to_owned(),
            services: vec![ServiceStatus {
                name: "broker".to_owned(),
                container: Some("mqtt-broker-1".to_owned()),
                state: "running".to_owned(),
                health: "healthy".to_owned(),
                image: format!("example.com/mosquitto@sha256:{}", "c".repeat(64)),
            }],
        }],
        drift: vec!["write file/etc/motd   edited by hand".to_owned()],
        poll: Poll {
            last: Some(Timestamp(NOW.0 - 12)),
            next: Some(Timestamp(NOW.0 + 48)),
            error: None,
            ..Poll::default()
        },
        warnings: Vec::new(),
        metered: None,
        agent: None,
    }
}

#[test]
fn status_says_where_the_device_is_and_what_a_person_should_know() {
    assert_eq!(
        status::human(&report(), NOW, Style::Plain),
        "\
gw-0042  at aaaaaaaaaa (stable)  Idle
tip bbbbbbbbbb
! the tip bbbbbbbbbb is not signed

Conditions
  Ready        True     Converged           3m ago
  Verified     False    unsigned            3m ago
    the tip bbbbbbbbbb is not signed

Apps
  mqtt                  Healthy
    broker              running, healthy      example.com/mosquitto@cccccccccc…

Drift
  write file/etc/motd   edited by hand

Last poll 12s ago, next in 48s"
    );
}

#[test]
fn status_tells_what_a_person_should_see_to_in_time() {
    let mut report = report();
    report.warnings = vec!["the key of a (f:1) counts until 2026-03-31T00:00:00Z".to_owned()];
    let text = status::human(&report, NOW, Style::Plain);
    assert!(
        text.contains("\n! the key of a (f:1) counts until"),
        "{text}"
    );
    assert_eq!(status::json(&report)["warnings"][0], report.warnings[0]);
}

#[test]
fn status_of_a_device_that_has_done_nothing_yet_is_whole_too() {
    assert_eq!(
        status::human(&Report::default(), NOW, Style::Plain),
        "  nothing applied yet  Idle\n\nLast poll never, next not planned"
    );
}

#[test]
fn status_in_json_has_the_documented_shape_and_reads_back() {
    let json = status::json(&report());
    assert_eq!(
        json,
        serde_json::json!({
            "device": "gw-0042",
            "branch": "stable",
            "revision": {
                "tip": commit('b'),
                "verified": commit('a'),
                "applied": commit('a'),
                "last_good": commit('a'),
                "floor": commit('a'),
            },
            "phase": "Idle",
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Converged", "message": "", "since": "2026-03-01T11:56:40Z"},
                {
                    "type": "Verified",
                    "status": "False",
                    "reason": "unsigned",
                    "message": "the tip bbbbbbbbbb is not signed",
                    "since": "2026-03-01T11:56:40Z",
                },
            ],
            "apps": [{
                "name": "mqtt",
                "state": "Healthy",
                "services": [{
                    "name": "broker",
                    "container": "mqtt-broker-1",
                    "state": "running",
                    "health": "healthy",
                    "image": format!("example.com/mosquitto@sha256:{}", "c".repeat(64)),
                }],
            }],
            "drift": ["write file/etc/motd   edited by hand"],
            "poll": {"last": "2026-03-01T11:59:48Z", "next": "2026-03-01T12:00:48Z", "error": null},
        })
    );
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report());
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = status::human(&report(), NOW, Style::Colour);
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_ne!(coloured, plain);
    assert_eq!(plain, status::human(&report(), NOW, Style::Plain));
}

#[test]
fn history_shows_how_each_deployment_ended_and_why() {
    let deployment = Deployment {
        commit: commit('a'),
        content: None,
        started: Timestamp(NOW.0 - 40),
        ended: NOW,
        result: DeploymentResult::Refused,
        why: "app mqtt: service broker keeps exiting (1)".to_owned(),
        steps: vec!["create service/mqtt/broker   new".to_owned()],
    };
    let json = history::json(&[deployment]);
    assert_eq!(
        history::human(&json, Style::Plain),
        "\
2026-03-01T11:59:20Z  aaaaaaaaaa  refused      in 40s  app mqtt: service broker keeps exiting (1)
    create service/mqtt/broker   new"
    );
    assert_eq!(
        history::human(&history::json(&[]), Style::Plain),
        "no deployment yet"
    );
}

fn a_plan() -> (Plan, ObservedState, Contents) {
    let path: evenkeel_schema::path::AbsPath = "/etc/motd".parse().unwrap();
    let contents: Contents = [b"old\n".to_vec(), b"new\n".to_vec()]
        .into_iter()
        .map(|bytes| (ContentId::of(&bytes), bytes))
        .collect();
    let file = DesiredFile {
        content: ContentId::of(b"new\n"),
        size: 4,
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        on_change: Vec::new(),
        on_remove: OnRemove::Delete,
        secret: false,
    };
    let seen = ObservedFile {
        kind: FileKind::Regular,
        content: Some(ContentId::of(b"old\n")),
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        uid: 0,
        gid: 0,
    };
    let plan = Plan {
        steps: vec![Step {
            resource: ResourceId::File(path.clone()),
            action: Action::WriteFile {
                path: path.clone(),
                file,
                keep: None,
            },
            because: "content a -> b".to_owned(),
        }],
        blocked: vec![Blocked {
            resource: ResourceId::Network("x".to_owned()),
            why: "make it first".to_owned(),
        }],
    };
    let observed = ObservedState {
        files: BTreeMap::from([(path, Seen::Present(seen))]),
        engine: Seen::Absent,
    };
    (plan, observed, contents)
}

#[test]
fn plan_shows_each_step_with_its_reason_and_its_diff() {
    let (plan, observed, contents) = a_plan();
    let json = plan::json(
        Some(&commit('a')),
        "advance",
        None,
        &plan,
        &observed,
        &contents,
    );
    assert_eq!(json["steps"][0]["action"], "write");
    assert_eq!(json["steps"][0]["resource"], "file/etc/motd");
    assert_eq!(
        plan::human(&json, Style::Plain),
        "\
advance to aaaaaaaaaa: 1 step
  write file/etc/motd   content a -> b
      --- /etc/motd
      +++ /etc/motd
      @@ -1 +1 @@
      -old
      +new
blocked:
  network/x   make it first"
    );
}

#[test]
fn a_plan_with_nothing_in_it_says_so() {
    let (_, observed, contents) = a_plan();
    let json = plan::json(
        Some(&commit('a')),
        "keep",
        Some("paused"),
        &Plan::default(),
        &observed,
        &contents,
    );
    assert_eq!(
        plan::human(&json, Style::Plain),
        "stay at aaaaaaaaaa: nothing to do\npaused"
    );
}
