//! What stands in for the keyring in a build without OpenPGP: nobody can make one.

use super::Account;
use crate::domain::revision::Timestamp;
use crate::trust::commit::Commit;
use crate::trust::policy::NamedBytes;

/// A keyring: there is none in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {}

/// Why there is no keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// This build cannot read one.
    #[error(
        "trust.openpgp_keyring ({file}) is not supported by this small build of evenkeel: use the standard build (made \
         with the feature `openpgp`), or remove `openpgp_keyring`"
    )]
    NotInThisBuild {
        /// The file's name.
        file: String,
    },
}

/// A certificate of a keyring: there is none in this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The address it signs as.
    pub principal: Option<String>,
    /// The fingerprint of its primary key.
    pub fingerprint: String,
    /// Its keys that may sign: type, fingerprint, and when it expires.
    pub keys: Vec<(String, String, Option<Timestamp>)>,
    /// Why it does not count, where it does not.
    pub trouble: Option<String>,
}

impl Keyring {
    /// Always fails.
    ///
    /// # Errors
    /// [`KeyringError::NotInThisBuild`].
    pub fn parse(file: NamedBytes<'_>) -> Result<Self, KeyringError> {
        Err(KeyringError::NotInThisBuild {
            file: file.name.to_owned(),
        })
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        match *self {}
    }

    /// What is not used, and why.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        match *self {}
    }

    /// Whose keys are in it.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        match *self {}
    }

    pub(super) fn never(&self, _: &Commit, _: Timestamp) -> Account {
        match *self {}
    }
}
