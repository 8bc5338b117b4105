#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use super::super::{Allowance, MeteredWhen, Per};
use super::*;
use crate::agent_config::{NowPolicy, WindowSection};

fn problems(text: &str) -> Vec<String> {
    parse("agent.toml", text.as_bytes())
        .unwrap_err()
        .sorted()
        .iter()
        .map(ToString::to_string)
        .collect()
}

const LEAST: &str = "[source]\nurl = 'https://git.example.com/fleet.git'\nbranch = 'stable'\n";

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = parse("agent.toml", LEAST.as_bytes()).unwrap();
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/evenkeel"));
    assert_eq!(config.root, PathBuf::from("/"));
    assert_eq!(config.source.interval, Duration::from_secs(60));
    assert_eq!(
        config.trust.allowed_signers,
        PathBuf::from("/etc/evenkeel/allowed_signers")
    );
    assert_eq!(config.engine.socket, "auto");
    assert_eq!(config.engine.restart, EngineRestart::Auto);
    assert_eq!(config.guard, GuardSection::default());
}

#[test]
fn everything_supported_can_be_said() {
    let config = parse("agent.toml", br#"
state_dir = "/tmp/state"
root = "/mnt"
[device]
id = "gw-0042"
labels = { site = "plant-a", slot = 3 }
[source]
url = ["https://a.example.com/f.git", "ssh://git@b.example.com/f.git", "git@c.example.com:f.git", "file:///srv/f.git"]
branch = "rings/stable"
interval = "30s"
token_file = "/etc/t"
ssh_key = "/etc/k"
known_hosts = "/etc/h"
client_cert = "/etc/c"
client_key = "/etc/ck"
ca_file = "/etc/ca"
[trust]
allowed_signers = "signers"
openpgp_keyring = "/etc/keyring.asc"
verify = "every-commit"
on_unsigned = "advance-before"
stale = "hold"
bind_branch = true
approvals = 2
floor = "seen"
pin = "0123456789012345678901234567890123456789"
fleet = "acme"
revoked = "/etc/r"
max_age = "14d"
[trust.branches.stable]
signers = ["release@acme.example"]
[trust.heartbeat]
signers = ["ci@acme.example"]
[trust.root]
signers = ["security@acme.example"]
threshold = 2
[guard]
paths = ["/srv"]
devices = ["/dev/ttyUSB*"]
units = ["chrony.service"]
images = ["registry.example.com/*"]
privileged = true
commands = true
[engine]
socket = "unix:///run/docker.sock"
restart = "never"
[metered]
when = "never"
"#).unwrap();
    assert_eq!(config.source.urls.len(), 4);
    assert_eq!(
        config.trust.openpgp_keyring,
        Some(PathBuf::from("/etc/keyring.asc"))
    );
    assert_eq!(config.device.labels["slot"], "3");
    assert_eq!(config.trust.max_age, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!(config.trust.floor, FloorPolicy::Seen);
    assert_eq!(config.trust.verify, Verify::EveryCommit);
    assert_eq!(config.trust.on_unsigned, OnUnsigned::AdvanceBefore);
    assert_eq!(config.trust.stale, StalePolicy::Hold);
    assert_eq!(config.trust.approvals, 2);
    assert_eq!(config.trust.heartbeat, ["ci@acme.example"]);
    assert_eq!(config.trust.root.unwrap().threshold, 2);
    assert!(config.guard.privileged && config.guard.commands);
    assert_eq!(config.engine.restart, EngineRestart::Never);
}

#[test]
fn budgets_of_a_metered_link_are_read() {
    let text = format!(
        "{LEAST}[metered]\ngit = ['5MB/day', '100MB/month']\nimages = '2GB/month'\nrate = '200kB/s'\n"
    );
    let metered = parse("agent.toml", text.as_bytes()).unwrap().metered;
    assert_eq!(metered.when, MeteredWhen::Auto);
    assert_eq!(metered.git.len(), 2);
    let month = Allowance {
        bytes: 2 << 30,
        per: Per::Month,
    };
    assert_eq!(metered.images, [month]);
    assert_eq!(metered.rate, Some(200 * 1024));
    let without = parse("agent.toml", LEAST.as_bytes()).unwrap().metered;
    assert_eq!(without.when, MeteredWhen::Never);
    for (text, at) in [
        ("[metered]\nwhen = 'sometimes'\n", "5:8"),
        ("[metered]\ngit = '5MB'\n", "5:7"),
        ("[metered]\ngit = ['5MB/day', '6MB/day']\n", "5:7"),
        ("[metered]\nimages = '0/day'\n", "5:10"),
        ("[metered]\nrate = '10/s'\n", "5:8"),
    ] {
        let problems = problems(&format!("{LEAST}{text}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&format!("agent.toml:{at}: ")),
            "{problems:?}"
        );
    }
}

#[test]
fn a_remote_may_have_a_token_of_its_own_and_none_stands_twice() {
    let with = |urls: &str| {
        let text = format!("[source]\nurl = {urls}\nbranch = 'main'\n");
        parse("agent.toml", text.as_bytes()).map(|config| config.source)
    };
    let source = with(
        "['https://a.example/f.git', {url = 'https://b.example/f.git', token_file = 'credential:b'}]",
    )
    .unwrap();
    assert_eq!(
        source.urls,
        ["https://a.example/f.git", "https://b.example/f.git"]
    );
    assert_eq!(source.credentials().len(), 1);
    let at = source.at_paths(std::path::Path::new("/run/c"));
    assert_eq!(
        at.tokens["https://b.example/f.git"],
        PathBuf::from("/run/c/b")
    );
    let tree = with("[{url = 'static+https://c.example/fleet/', token_file = '/t'}]").unwrap();
    assert!(tree.tokens.contains_key("static+https://c.example/fleet/"));
    for (urls, says) in [
        ("['/srv/a', '/srv/a']", "twice"),
        ("[{url = '/srv/a', token_file = '/t'}]", "https or http"),
        ("[{token_file = '/t'}]", "url"),
        ("[{url = '/srv/a', branch = 'x'}]", "branch"),
        ("[]", "no remote"),
    ] {
        let problems = with(urls).unwrap_err().to_string();
        assert!(problems.contains(says), "{urls}: {problems}");
    }
}

#[test]
fn a_file_of_the_source_may_be_a_credential_of_the_service() {
    let text = format!(
        "{LEAST}token_file = 'credential:git-token'\nssh_key = 'credential:ssh-key'\nknown_hosts = '/etc/h'\n\
         ca_file = './credential:x'\nclient_key = 'credential:git-token'\nclient_cert = '/etc/c'\n"
    );
    let source = parse("agent.toml", text.as_bytes()).unwrap().source;
    let names: Vec<String> = source
        .credentials()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["git-token", "ssh-key"]);
    let at = source.at_paths(std::path::Path::new("/run/credentials/x.service"));
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(at.token_file, path("/run/credentials/x.service/git-token"));
    assert_eq!(at.ssh_key, path("/run/credentials/x.service/ssh-key"));
    assert_eq!(at.known_hosts, path("/etc/h"));
    assert_eq!(at.ca_file, path("./credential:x"));

    for name in ["", "..", "a/b", "a b", "a:b", "\u{e9}", &"x".repeat(256)] {
        let found = problems(&format!("{LEAST}token_file = 'credential:{name}'\n"));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(found[0].contains("a credential's name"), "{found:?}");
    }
}

#[test]
fn what_this_version_cannot_do_is_an_error_and_never_ignored() {
    for (text, at) in [
        ("[report]\nhttp = 'x'\n", "5:1"),
        ("[report]\ndir = '/r'\notlp = 'x'\n", "6:1"),
    ] {
        let problems = problems(&format!("{LEAST}{text}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&format!("agent.toml:{at}: ")),
            "{problems:?}"
        );
        assert!(
            problems[0].contains("not supported by this version"),
            "{problems:?}"
        );
    }
}

#[test]
fn windows_are_read_and_their_mistakes_told() {
    let window = |text: &str| {
        let text = format!("{LEAST}[window]\n{text}");
        parse("agent.toml", text.as_bytes()).map(|config| config.window)
    };
    let read = window(
        "apply = ['Mon-Fri 01:00-05:00', 'Sat 00:00-24:00']\ndownload = '* 22:00-06:00'\n\
         timezone = 'Europe/Vienna'\ngrace = '10m'\nnow = 'allow'\n",
    )
    .unwrap();
    assert_eq!(read.apply.map(|spans| spans.len()), Some(2));
    assert_eq!(read.download.map(|spans| spans[0].to()), Some(30 * 60));
    assert_eq!(read.timezone.as_deref(), Some("Europe/Vienna"));
    assert_eq!(read.grace, Duration::from_secs(600));
    assert_eq!(read.now, NowPolicy::Allow);
    assert_eq!(window("").unwrap(), WindowSection::default());
    for (text, problem) in [
        ("apply = []\n", "agent.toml:5:9: an empty `apply`"),
        ("apply = ['x']\n", "agent.toml:5:10: `x` is not a window"),
        ("download = '* 25:00-26:00'\n", "agent.toml:5:12: "),
        ("grace = '1m'\n", "agent.toml:5:9: `grace` counts"),
        (
            "apply = '1:00-2:00'\ngrace = '2d'\n",
            "agent.toml:6:9: a grace",
        ),
        ("now = 'maybe'\n", "agent.toml:5:7: "),
        ("aply = '1:00-2:00'\n", "did you mean `apply`"),
    ] {
        let problems = problems(&format!("{LEAST}[window]\n{text}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(problem), "{problems:?}");
    }
}

#[test]
fn mistakes_are_told_all_at_once_with_their_places() {
    let problems = problems(
        "state_dri = 'x'\n[source]\nurl = 'gopher://x'\nbranch = 'a..b'\ninterval = '0s'\nclient_cert = 'x'\n[trust]\nflor = 'x'\npin = 'abc'\n[engine]\nsocket = 'tcp://x'\n[guard]\npaths = ['srv']\n[device]\nid = 'a/b'\n",
    );
    for start in [
        "agent.toml:1:1: unknown key `state_dri`",
        "agent.toml:3:7:",
        "agent.toml:4:10:",
        "agent.toml:5:12:",
        "agent.toml:6:15: `client_cert` needs `client_key`",
        "agent.toml:8:1: unknown key `flor`",
        "agent.toml:9:7:",
        "agent.toml:11:10:",
        "agent.toml:13:10:",
        "agent.toml:15:6:",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(start)),
            "{start}: {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 10, "{problems:#?}");
}

#[test]
fn a_password_in_an_ssh_url_is_refused_and_not_repeated() {
    let problems = problems("[source]\nurl = 'ssh://me:hunter2@example.com/x'\nbranch = 'a'\n");
    assert!(
        problems.iter().all(|problem| !problem.contains("hunter2")),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 1);
}

#[test]
fn trust_settings_that_make_no_sense_together_are_mistakes() {
    for (text, at) in [
        ("[trust]\napprovals = 0\n", "5:13"),
        ("[trust]\nstale = 'hold'\n", "5:9"),
        ("[trust]\non_unsigned = 'advance-before'\n", "5:15"),
        ("[trust.heartbeat]\nsigners = []\n", "5:11"),
        ("[trust.heartbeat]\n", "4:1"),
        ("[trust.root]\nsigners = ['x']\nthreshold = 0\n", "6:13"),
    ] {
        let problems = problems(&format!("{LEAST}{text}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&format!("agent.toml:{at}")),
            "{at}: {problems:?}"
        );
    }
}
