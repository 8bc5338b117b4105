//! The part of an examination that is about an OpenPGP signature.

use super::{Failure, Inquiry, Role};
use crate::domain::revision::Timestamp;
use crate::trust::commit::Commit;
use crate::trust::policy::Signer;
use crate::trust::verdict::Reason;
use crate::trust::{openpgp, pattern};

impl Inquiry<'_> {
    /// There is an OpenPGP signature, by a key of the keyring that may sign this branch.
    pub(super) fn openpgp(
        &mut self,
        armor: &[u8],
        commit: &Commit,
        time_floor: Timestamp,
    ) -> Result<Signer, Failure> {
        let account = openpgp::judge(self.policy.openpgp.as_deref(), armor, commit, time_floor);
        for (name, input, found) in account.passed {
            self.passed(name, input, found);
        }
        if let Some(key) = &account.key {
            self.fingerprint = Some(key.fingerprint.clone());
            self.key_type.clone_from(&key.key_type);
        }
        self.principal.clone_from(&account.principal);
        if let Some(failed) = account.failed {
            return Err(self.failed(failed.check, failed.input, failed.reason, failed.message));
        }
        let (Some(key), Some(principal)) = (account.key, account.principal) else {
            return Err(self.failed(
                "signer",
                "the keyring",
                Reason::UnknownKey,
                "its key speaks for nobody",
            ));
        };
        self.openpgp_permitted(&principal)?;
        Ok(Signer {
            principal,
            fingerprint: key.fingerprint,
            key_type: key.key_type.unwrap_or_default(),
        })
    }

    /// The principal may sign this kind of commit: branch signers on the branch, those of heartbeats nothing else.
    fn openpgp_permitted(&mut self, principal: &str) -> Result<(), Failure> {
        let policy = self.policy;
        let among = |patterns: &[String]| {
            pattern::matches_list(principal, patterns.iter().map(String::as_str))
        };
        let (asked, purpose) = match (self.task.role, &policy.branch_signers) {
            (Role::Heartbeat | Role::SideHeartbeat, _) => {
                let purpose = "a heartbeat (trust.heartbeat)".to_owned();
                (Some(&policy.heartbeat), purpose)
            }
            (Role::Mainline | Role::Side, _) if among(&policy.heartbeat) => {
                let message = format!(
                    "its key, of {principal}, may only make heartbeats (trust.heartbeat): commits that change nothing, on \
                     top of one parent"
                );
                return Err(self.failed("permission", principal, Reason::UnknownKey, message));
            }
            (Role::Mainline, Some(signers)) => {
                let purpose = format!("branch `{}` (trust.branches)", policy.branch);
                (Some(signers), purpose)
            }
            (Role::Mainline, None) | (Role::Side, _) => (None, String::new()),
        };
        let Some(asked) = asked else {
            return Ok(());
        };
        let list = asked.join(", ");
        let input = format!("{principal} among {list}");
        if among(asked) {
            self.passed("permission", input, format!("may sign as {principal}"));
            Ok(())
        } else {
            let message = format!("{principal} may not sign {purpose}, which names {list}");
            Err(self.failed("permission", input, Reason::WrongBranch, message))
        }
    }
}
