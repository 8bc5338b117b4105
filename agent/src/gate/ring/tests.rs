use super::*;
use crate::domain::outcome::Report;

const NOW: Timestamp = Timestamp(1_800_000_000);

fn gate() -> Gate {
    Gate {
        healthy: 90,
        soak: Duration::from_secs(24 * 3600),
        max_failed: 1,
        max_silent: 1,
        silent: Duration::from_secs(2 * 3600),
        min_devices: 2,
    }
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn tree(digit: char) -> TreeId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn revision() -> Revision {
    Revision {
        branch: "canary".to_owned(),
        tree: tree('e'),
        commits: [commit('a'), commit('b')].into(),
    }
}

fn says(kind: ConditionType, status: ConditionStatus, hours: i64) -> Condition {
    Condition {
        kind,
        status,
        reason: "X".to_owned(),
        message: "because".to_owned(),
        since: Timestamp(NOW.0 - hours * 3600),
    }
}

/// A device that took the revision so many hours ago, and has been healthy ever since.
fn report(hours: i64) -> DeviceReport {
    let mut report = DeviceReport::of(&Report::default(), "1");
    report.branch = "canary".to_owned();
    report.time = NOW;
    report.revision.tip = Some(commit('b'));
    report.revision.applied = Some(commit('b'));
    report.revision.last_good = Some(commit('b'));
    report.revision.tree = Some(tree('e'));
    report.revision.since = Some(Timestamp(NOW.0 - hours * 3600));
    report.conditions = vec![says(ConditionType::Healthy, ConditionStatus::True, 1000)];
    report
}

fn standing(report: &DeviceReport) -> Standing {
    by_report(report, &revision(), &gate(), NOW).standing
}

#[test]
fn a_device_is_healthy_once_it_has_been_for_the_soak_by_both_its_times() {
    assert_eq!(standing(&report(24)), Standing::Healthy);
    assert_eq!(standing(&report(23)), Standing::Soaking);
    let mut other = report(100);
    other.conditions = vec![says(ConditionType::Healthy, ConditionStatus::True, 23)];
    assert_eq!(standing(&other), Standing::Soaking);
    other.conditions = vec![says(ConditionType::Healthy, ConditionStatus::Unknown, 100)];
    assert_eq!(standing(&other), Standing::Soaking);
    other.conditions = vec![says(ConditionType::Healthy, ConditionStatus::False, 100)];
    assert_eq!(standing(&other), Standing::Failed);
    other.conditions.clear();
    assert_eq!(standing(&other), Standing::Soaking);
}

#[test]
fn a_device_that_says_nothing_is_silent_and_one_that_is_elsewhere_is_behind() {
    let mut old = report(100);
    old.time = Timestamp(NOW.0 - 2 * 3600);
    assert_eq!(standing(&old), Standing::Healthy);
    old.time = Timestamp(NOW.0 - 2 * 3600 - 1);
    assert_eq!(standing(&old), Standing::Silent);
    old.time = Timestamp(NOW.0 + 3600);
    assert_eq!(standing(&old), Standing::Silent);
    let mut behind = report(100);
    behind.revision.tree = Some(tree('d'));
    assert_eq!(standing(&behind), Standing::Behind);
    // Gone back by hand: the tree is still the newest good one, and not what runs.
    let mut back = report(100);
    back.revision.applied = Some(commit('d'));
    assert_eq!(standing(&back), Standing::Behind);
    let mut elsewhere = report(100);
    elsewhere.branch = "stable".to_owned();
    assert_eq!(standing(&elsewhere), Standing::Behind);
}

#[test]
fn a_device_that_refused_the_revision_failed_and_one_that_refused_another_did_not() {
    let mut refused = report(100);
    refused.revision.tree = Some(tree('d'));
    refused.revision.applied = Some(commit('d'));
    refused.revision.last_good = Some(commit('d'));
    refused
        .conditions
        .push(says(ConditionType::Stalled, ConditionStatus::True, 1));
    assert_eq!(standing(&refused), Standing::Failed);
    refused.revision.tip = Some(commit('c'));
    assert_eq!(standing(&refused), Standing::Behind);
}

fn members(kinds: &[(Standing, usize)]) -> BTreeMap<String, Member> {
    let mut members = BTreeMap::new();
    for (standing, count) in kinds {
        for _ in 0..*count {
            members.insert(format!("d{}", members.len()), Member::new(*standing, "x"));
        }
    }
    members
}

#[test]
fn each_demand_of_a_gate_is_one_reason_to_hold() {
    use Standing::{Behind, Failed, Healthy, Silent, Soaking};
    let unmet = |kinds: &[(Standing, usize)]| judge("canary", gate(), members(kinds)).unmet;
    assert!(unmet(&[(Healthy, 18), (Failed, 1), (Silent, 1)]).is_empty());
    assert!(unmet(&[(Healthy, 9), (Behind, 1)]).is_empty());
    for (kinds, word) in [
        (vec![(Healthy, 17), (Soaking, 3)], "90 % are wanted"),
        (vec![(Healthy, 30), (Failed, 2)], "2 failed, and 1 may have"),
        (
            vec![(Healthy, 30), (Silent, 2)],
            "2 are silent, and 1 may be",
        ),
        (vec![(Healthy, 1)], "2 is the least"),
        (vec![], "2 is the least"),
    ] {
        let unmet = unmet(&kinds);
        assert!(unmet.len() == 1 && unmet[0].contains(word), "{unmet:?}");
    }
}

#[test]
fn who_holds_a_promotion_is_named_up_to_a_bound() {
    let verdict = judge(
        "canary",
        gate(),
        members(&[(Standing::Healthy, 1), (Standing::Silent, 12)]),
    );
    let text = verdict.others();
    assert!(
        text.starts_with("  silent: ") && text.contains("and 2 more"),
        "{text}"
    );
}
