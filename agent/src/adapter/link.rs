//! Whether the device's link is metered, as NetworkManager sees it.
//!
//! NetworkManager alone knows: by what a person set (`connection.metered`), by a phone's DHCP option, or by its own guess for
//! modems. systemd-networkd has no such property. Asked through `busctl`, which comes with systemd, or `nmcli`; nothing is kept
//! open. Who does not answer within the deadline says nothing.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::domain::metered::Link;

/// It answers from memory: what takes longer is stuck.
const DEADLINE: Duration = Duration::from_secs(5);

const BUSCTL: [&str; 7] = [
    "busctl",
    "--system",
    "get-property",
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "Metered",
];
const NMCLI: [&str; 6] = [
    "nmcli",
    "--terse",
    "--get-values",
    "GENERAL.METERED",
    "device",
    "show",
];

/// What NetworkManager says now.
pub async fn metered() -> Link {
    if let Some(answer) = answer(&BUSCTL).await {
        return by_number(&answer);
    }
    match answer(&NMCLI).await {
        Some(answer) => by_words(&answer),
        None => Link::Unknown,
    }
}

async fn answer(words: &[&str]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, child).await.ok()?.ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `u 1`: NMMetered of libnm, 0 unknown, 1 yes, 2 no, 3 guessed yes, 4 guessed no.
fn by_number(text: &str) -> Link {
    match text.split_whitespace().last() {
        Some("1" | "3") => Link::Metered,
        Some("2" | "4") => Link::Unmetered,
        Some(_) | None => Link::Unknown,
    }
}

/// A line a device: `yes`, `no`, `yes (guessed)`, `no (guessed)`, `unknown`. Which of them the traffic takes is not told, so
/// one that is metered is enough.
fn by_words(text: &str) -> Link {
    let says = |word: &str| text.lines().any(|line| line.trim().starts_with(word));
    if says("yes") {
        Link::Metered
    } else if says("no") {
        Link::Unmetered
    } else {
        Link::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_network_manager_says_is_read_and_what_it_guesses_counts() {
        for (text, link) in [
            ("u 1\n", Link::Metered),
            ("u 3\n", Link::Metered),
            ("u 2\n", Link::Unmetered),
            ("u 4\n", Link::Unmetered),
            ("u 0\n", Link::Unknown),
            ("", Link::Unknown),
        ] {
            assert_eq!(by_number(text), link, "{text}");
        }
        for (text, link) in [
            ("yes (guessed)\n\nno (guessed)\n", Link::Metered),
            ("no\nunknown\n", Link::Unmetered),
            ("unknown\n", Link::Unknown),
            ("", Link::Unknown),
        ] {
            assert_eq!(by_words(text), link, "{text}");
        }
    }
}
