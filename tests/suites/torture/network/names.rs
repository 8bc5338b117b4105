//! Names that do not resolve or resolve to somebody else, proxies on the way, and a network without IPv4.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::dns::{NameServer, Says};
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::proxy::{Manners, Proxy};
use evenkeel_tests::tally::{Ended, Tally};

use super::*;

/// One pass with a fault: the device stays, and says this.
fn stays(device: &Device, said: &Output, words: &str) -> Result<Ended, String> {
    is_at(device, "old\n")?;
    if said.code == Some(1) && said.text().contains(words) {
        return Ok(Ended::LastGood);
    }
    Err(format!(
        "{:?}, and nothing of {words:?}: {}",
        said.code,
        said.text()
    ))
}

/// One pass without any: the device comes to this.
fn comes(device: &Device, said: &Output, content: &str) -> Result<Ended, String> {
    is_at(device, content).map_err(|why| format!("{why}: {}", said.text()))?;
    match said.code {
        Some(0) => Ok(Ended::New),
        code => Err(format!("{code:?}: {}", said.text())),
    }
}

#[test]
fn a_name_server_that_lies_fails_or_is_silent_is_named() {
    let fleet = Fleet::new();
    let here = Ipv4Addr::LOCALHOST;
    let names = NameServer::start(Says::Address(here));
    let mut device = fleet.device("names", fleet.http.port());
    device.settings.url = format!("http://git.fleet.test:{}/fleet.git", fleet.http.port());
    let sync = |device: &Device| run(&mut names.only(&device.command(&["sync"])), PATIENCE);
    sync(&device).expect_code(0);
    assert!(names.asked() > 0);
    is_at(&device, "old\n").unwrap();
    fleet.release("new\n");

    let mut tally = Tally::new("a name server that lies, fails or is silent");
    // The portal of a hotel answers at the same port of another address.
    let elsewhere = names.address();
    for (says, words) in [
        (Says::NoSuchName, "does not resolve"),
        (Says::Failure, "no name server answers"),
        (Says::Nothing, "no name server answers"),
        // Nobody there listens.
        (Says::Address(elsewhere), "refused"),
    ] {
        names.set(says);
        let said = sync(&device);
        tally.count(stays(&device, &said, words).map_err(|why| format!("{says:?}: {why}")));
    }
    // Somebody else listens there: over TLS that is seen, and without it the signature is what counts.
    let portal = Link::between(
        SocketAddr::from((elsewhere, fleet.http.port())),
        SocketAddr::from((here, FaultServer::start(Fault::Html).port())),
    );
    let server = FaultServer::start(Fault::Html);
    portal.lead_to(server.port());
    let said = sync(&device);
    tally.count(stays(&device, &said, "captive portal"));
    drop(portal);
    names.set(Says::Address(here));
    let said = sync(&device);
    tally.count(comes(&device, &said, "new\n"));
    tally.close();
}

/// A pass with these variables.
fn with(device: &Device, variables: &[(&str, &str)]) -> Output {
    let mut command = device.command(&["sync"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    run(command.envs(variables.iter().copied()), PATIENCE)
}

#[test]
fn proxies_are_used_as_git_and_curl_do_and_their_failures_are_named() {
    let fleet = Fleet::new();
    let mut device = fleet.device("proxies", fleet.https.port());
    device.settings.url = fleet.https.url();
    device.settings.source = vec![format!("ca_file = {:?}", fleet.https.ca_file())];
    let proxy = Proxy::start();
    let url = format!("http://{}", proxy.host());
    let mut tally = Tally::new("proxies: tunnels, logins, and one that dies");
    // Not there at all, and not needed.
    let dead = "http://127.0.0.1:1";
    let said = with(
        &device,
        &[("HTTPS_PROXY", dead), ("NO_PROXY", "localhost,127.0.0.1")],
    );
    tally.count(comes(&device, &said, "old\n"));
    assert_eq!(proxy.used(), 0);
    fleet.release("new\n");

    let said = with(&device, &[("HTTPS_PROXY", dead)]);
    tally.count(stays(&device, &said, "refused"));
    for (manners, words) in [
        (
            Manners {
                login: Some("Basic dXNlcjpzM2NyZXQ=".to_owned()),
                ..Manners::default()
            },
            "407",
        ),
        (
            Manners {
                refuses: Some(403),
                ..Manners::default()
            },
            "NO_PROXY",
        ),
    ] {
        proxy.set(manners);
        let said = with(&device, &[("HTTPS_PROXY", &url)]);
        tally.count(stays(&device, &said, words));
    }
    // It dies in the middle, at several places.
    for after in [10, 700, 1600, 2400] {
        proxy.set(Manners {
            dies_after: Some(after),
            ..Manners::default()
        });
        let said = with(&device, &[("https_proxy", &url)]);
        tally.count(
            stays(&device, &said, "127.0.0.1").or_else(|_| stays(&device, &said, "localhost")),
        );
    }
    // With the login that it wants; which nobody prints.
    proxy.set(Manners {
        login: Some("Basic dXNlcjpzM2NyZXQ=".to_owned()),
        ..Manners::default()
    });
    let login = format!("http://user:wr0ng-s3cret@{}", proxy.host());
    let said = with(&device, &[("HTTPS_PROXY", &login)]);
    tally.count(stays(&device, &said, "407"));
    assert!(!said.text().contains("wr0ng"), "{}", said.text());
    let used = proxy.used();
    let login = format!("http://user:s3cret@{}", proxy.host());
    let said = with(&device, &[("ALL_PROXY", &login)]);
    tally.count(comes(&device, &said, "new\n"));
    assert!(proxy.used() > used);
    assert!(!said.text().contains("s3cret"), "{}", said.text());

    // Plain HTTP, by a request for the whole URL.
    proxy.set(Manners::default());
    fleet.release("newer\n");
    let used = proxy.used();
    device.settings.url = fleet.http.url();
    device.settings.source.clear();
    let said = with(&device, &[("http_proxy", &url)]);
    tally.count(comes(&device, &said, "newer\n"));
    assert!(proxy.used() > used);
    tally.close();
}

#[test]
fn a_remote_is_reached_over_ipv6() {
    let fleet = Fleet::new();
    let link = Link::between(
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, fleet.http.port())),
    );
    let mut device = fleet.device("six", link.port());
    device.settings.url = format!("http://[::1]:{}/fleet.git", link.port());
    let mut tally = Tally::new("a remote over IPv6 alone");
    let said = device.sync();
    tally.count(comes(&device, &said, "old\n"));
    fleet.release("new\n");
    link.set(Weather {
        door: Door::Reset,
        ..Weather::default()
    });
    link.hang_up();
    let said = device.sync();
    tally.count(stays(&device, &said, "[::1]"));
    link.mend();
    let said = device.sync();
    tally.count(comes(&device, &said, "new\n"));

    // Over ssh, with a host key that is pinned for that address.
    let server = evenkeel_tests::GitSsh::start(&fleet.repo.bare());
    let direct = server.url();
    let (before, rest) = direct.rsplit_once(":").unwrap();
    let (port, path) = rest.split_once('/').unwrap();
    let link = Link::between(
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap())),
    );
    let pinned = std::fs::read_to_string(server.known_hosts()).unwrap();
    let known_hosts = device.scratch().join("known_hosts");
    let pinned = pinned.replace(
        &format!("[127.0.0.1]:{port}"),
        &format!("[::1]:{}", link.port()),
    );
    std::fs::write(&known_hosts, pinned).unwrap();
    let user = before
        .trim_start_matches("ssh://")
        .trim_end_matches("@127.0.0.1");
    device.settings.url = format!("ssh://{user}@[::1]:{}/{path}", link.port());
    device.settings.source = vec![
        format!("ssh_key = {:?}", server.user_key()),
        format!("known_hosts = {known_hosts:?}"),
    ];
    fleet.release("newer\n");
    let said = device.sync();
    tally.count(comes(&device, &said, "newer\n"));
    tally.close();
}

/// The outer half: a network namespace of its own, in which this test runs again.
#[test]
fn a_network_without_ipv4_is_enough() {
    let this = std::env::current_exe().unwrap();
    let mut inside = Command::new("unshare");
    inside.args([
        "--net",
        "sh",
        "-c",
        "ip link set lo up && exec \"$@\"",
        "sh",
    ]);
    inside.arg(this).args([
        "torture::network::names::in_a_network_of_its_own_without_ipv4",
        "--exact",
        "--ignored",
        "--nocapture",
    ]);
    let said = run(&mut inside, PATIENCE).expect_code(0);
    assert!(said.stdout.contains("1 passed"), "{}", said.text());
}

#[test]
#[ignore = "the inner half of `a_network_without_ipv4_is_enough`: it takes IPv4 away from the network that it runs in"]
fn in_a_network_of_its_own_without_ipv4() {
    let fleet = Fleet::new();
    let web = GitHttp::start(
        fleet.repo.served(),
        evenkeel_tests::HttpOptions {
            listen: Ipv6Addr::LOCALHOST.into(),
            ..evenkeel_tests::HttpOptions::default()
        },
    );
    let ip = |arguments: &[&str]| {
        run(Command::new("ip").args(arguments), PATIENCE).expect_code(0);
    };
    ip(&["-4", "addr", "flush", "dev", "lo"]);
    let mut device = fleet.device("six-only", web.port());
    device.settings.url = format!("https://[::1]:{}/fleet.git", web.port());
    device.settings.source = vec![format!("ca_file = {:?}", web.ca_file())];
    let mut tally = Tally::new("a remote over IPv6 alone");
    let said = device.sync();
    tally.count(comes(&device, &said, "old\n"));
    fleet.release("new\n");
    // The network goes away as a whole, and comes back.
    ip(&["link", "set", "lo", "down"]);
    let said = device.sync();
    tally.count(stays(&device, &said, "is this device's network up?"));
    ip(&["link", "set", "lo", "up"]);
    ip(&["-4", "addr", "flush", "dev", "lo"]);
    let said = device.sync();
    tally.count(comes(&device, &said, "new\n"));
    tally.close();
}
