//! Signatures and commit objects made by hand, with the real `ssh-keygen`.

use std::path::Path;
use std::process::Command;

use evenkeel_tests::process::run_with_input;
use evenkeel_tests::{PATIENCE, Signer};

/// Somebody who approves a tree.
pub(crate) struct Approver<'a> {
    signer: &'a Signer,
    pub(super) fleet: &'a str,
    pub(super) branch: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> Approver<'a> {
    /// For this fleet and the branch `main`.
    pub(crate) fn by(signer: &'a Signer) -> Self {
        Self {
            signer,
            fleet: "test",
            branch: "main",
            namespace: "evenkeel-approval",
        }
    }

    /// The trailer that carries the approval of a tree, to follow this commit.
    pub(crate) fn trailer(&self, tree: &str, base: &str) -> String {
        let statement = format!(
            "evenkeel-approval v1\nfleet {}\nbranch {}\ntree {tree}\nbase {base}\n",
            self.fleet, self.branch
        );
        let armor = sshsig(
            statement.as_bytes(),
            &self.signer.private_key(),
            self.namespace,
        );
        let digits: String = armor
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        format!("Fleet-Approval: test {digits}")
    }
}

/// A detached SSH signature over these bytes, by the real `ssh-keygen`.
pub(super) fn sshsig(bytes: &[u8], key: &Path, namespace: &str) -> String {
    run_with_input(
        Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(key),
        bytes,
        PATIENCE,
    )
    .expect_code(0)
    .stdout
}

/// An unsigned commit object with a signature header as git would write it: the last one.
pub(super) fn with_signature(raw: &str, armor: &str) -> String {
    let (head, message) = raw.split_once("\n\n").unwrap();
    format!("{head}\n{}\n{message}", header("gpgsig", armor))
}

/// A folded header, with its newline.
pub(super) fn header(name: &str, value: &str) -> String {
    format!("{name} {}\n", value.trim_end().replace('\n', "\n "))
}

/// An unsigned commit object, signed as git would sign it.
pub(super) fn signed(raw: &str, by: &Signer) -> String {
    with_signature(raw, &sshsig(raw.as_bytes(), &by.private_key(), "git"))
}

/// A signed commit object taken apart: without its signature header, and that header.
pub(super) fn apart(raw: &str) -> (String, String) {
    const END: &str = "-----END SSH SIGNATURE-----\n";
    let from = raw.find("gpgsig ").expect("a signed commit");
    let to = raw.find(END).expect("a signed commit") + END.len();
    (
        format!("{}{}", &raw[..from], &raw[to..]),
        raw[from..to].to_owned(),
    )
}
