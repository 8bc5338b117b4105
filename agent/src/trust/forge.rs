//! Keys that are not one person's: those with which a forge signs merges and edits in its web interface.
//!
//! Who may press the merge button there, or breaks into the forge, signs with them; a device that trusts such a key
//! trusts all of them. Owns how such keys and principals are told. Warns; whether to trust one is the owner's decision.

use super::allowed_signers::SignerLine;
use super::pattern;

/// The primary keys with which GitHub signs what is made in its web interface (`https://github.com/web-flow.gpg`).
const GITHUB_WEB_FLOW: [&str; 2] = [
    "968479A1AFF927E37D1A566BB5690EEEBB952194",
    "5DE3E0509C47EA3CF04A42D34AEE18F83AFDEB23",
];

/// Addresses under which a forge itself commits, or that it gives to everybody. The names before `@` are those that
/// GitLab, Gitea and Forgejo have by default; where their host is somebody's own, only that name can tell.
const ADDRESSES: [(&str, &str); 9] = [
    (
        "noreply@github.com",
        "GitHub signs with it whatever is merged or edited on its pages",
    ),
    (
        "web-flow@*",
        "GitHub signs with it whatever is merged or edited on its pages",
    ),
    (
        "web-flow",
        "GitHub signs with it whatever is merged or edited on its pages",
    ),
    (
        "*@users.noreply.github.com",
        "anybody with an account at GitHub has such an address",
    ),
    (
        "*@users.noreply.gitlab.com",
        "anybody with an account at GitLab has such an address",
    ),
    (
        "noreply@*",
        "forges sign with such an address whatever is merged or edited on their pages",
    ),
    (
        "no-reply@*",
        "forges sign with such an address whatever is merged or edited on their pages",
    ),
    (
        "*@noreply.*",
        "anybody with an account at that forge has such an address",
    ),
    (
        "*@users.noreply.*",
        "anybody with an account at that forge has such an address",
    ),
];

/// Names of forges' own accounts.
const ACCOUNTS: [&str; 6] = [
    "gitlab",
    "gitea",
    "forgejo",
    "gitea-actions",
    "forgejo-actions",
    "github-actions",
];

/// What is said after why.
const TRAP: &str = "whoever may press the merge button there, or breaks into it, can then sign for your devices; trust \
                    people's own keys instead";

/// Why a principal, or a pattern of principals, is not one person.
#[must_use]
pub fn principal(name: &str) -> Option<String> {
    if name.starts_with('!') {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    if lower.chars().all(|c| matches!(c, '*' | '?' | '@')) {
        return Some(format!(
            "`{name}` is everybody: a key may sign as anyone, and trust.branches cannot tell people apart"
        ));
    }
    let why = ADDRESSES
        .iter()
        .find(|(address, _)| pattern::matches(&lower, address))
        .map(|(_, why)| *why)
        .or_else(|| {
            let account = lower.split('@').next().unwrap_or(&lower);
            ACCOUNTS
                .contains(&account.trim_end_matches("[bot]"))
                .then_some("it is a forge's own account")
        })?;
    Some(format!("`{name}` is not one person: {why}; {TRAP}"))
}

/// Why an OpenPGP key is not one person's: its fingerprint in upper-case digits, and the address it signs as.
#[must_use]
pub fn openpgp_key(fingerprint: &str, address: Option<&str>) -> Option<String> {
    if GITHUB_WEB_FLOW.contains(&fingerprint) {
        return Some(format!(
            "this is the key with which GitHub signs whatever is merged or edited on its pages, for everyone; {TRAP}"
        ));
    }
    principal(address?)
}

/// What to say about a line of allowed_signers, of a device or in the tree: one sentence for each such principal.
#[must_use]
pub fn signer_line(line: &SignerLine) -> Vec<String> {
    line.principals
        .iter()
        .filter_map(|name| principal(name))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    #[test]
    fn forges_addresses_and_everybodys_patterns_are_told_from_people() {
        for name in [
            "noreply@github.com",
            "NoReply@GitHub.com",
            "web-flow",
            "web-flow@github.com",
            "*@users.noreply.github.com",
            "1234+alice@users.noreply.github.com",
            "noreply@gitlab.acme.example",
            "*@noreply.git.acme.example",
            "gitea@fake.local",
            "forgejo-actions",
            "github-actions[bot]@users.noreply.github.com",
            "*",
            "**",
            "*@*",
            "?*",
        ] {
            assert!(principal(name).is_some(), "{name}");
        }
        for name in [
            "alice@acme.example",
            "*@acme.example",
            "release@github.com",
            "webflow@acme.example",
            "!noreply@github.com",
            "reply@github.com",
            "gitlab-lead@acme.example",
        ] {
            assert_eq!(principal(name), None, "{name}");
        }
    }

    #[test]
    fn githubs_own_keys_are_known_by_their_fingerprints() {
        for fingerprint in GITHUB_WEB_FLOW {
            assert!(openpgp_key(fingerprint, None).unwrap().contains("GitHub"));
        }
        let other = "0123456789ABCDEF0123456789ABCDEF01234567";
        assert_eq!(openpgp_key(other, None), None);
        assert_eq!(openpgp_key(other, Some("alice@acme.example")), None);
        assert!(openpgp_key(other, Some("noreply@git.acme.example")).is_some());
    }
}
