//! Files of `[source]` that may be credentials of the service: `credential:NAME`.
//!
//! Owns the form and the name. Where credentials lie is the service manager's word (`$CREDENTIALS_DIRECTORY`), which is
//! not known here: who runs the agent says it.

use std::path::{Path, PathBuf};

use super::SourceSection;

/// How a credential is told from a path. A file of such a name is written `./credential:...`.
const PREFIX: &str = "credential:";
/// A credential is a file of its name.
const LONGEST: usize = 255;

/// The name of a credential, by systemd's rule: a file's name of printable ASCII without `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialName(String);

/// That is no credential's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotACredentialName;

impl std::fmt::Display for NotACredentialName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a credential's name is up to {LONGEST} letters, digits and signs of ASCII, without `/` and `:`"
        )
    }
}

impl std::error::Error for NotACredentialName {}

impl std::str::FromStr for CredentialName {
    type Err = NotACredentialName;

    fn from_str(text: &str) -> Result<Self, NotACredentialName> {
        let plain = (1..=LONGEST).contains(&text.len())
            && !matches!(text, "." | "..")
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
        if plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotACredentialName)
        }
    }
}

impl std::fmt::Display for CredentialName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAt {
    /// At a path.
    Path(PathBuf),
    /// Among the credentials of the service.
    Credential(CredentialName),
}

impl FileAt {
    /// As it is written.
    ///
    /// # Errors
    /// Where what follows `credential:` is no credential's name.
    pub fn parse(text: &str) -> Result<Self, NotACredentialName> {
        match text.strip_prefix(PREFIX) {
            Some(name) => Ok(Self::Credential(name.parse()?)),
            None => Ok(Self::Path(PathBuf::from(text))),
        }
    }

    /// Its path, with the credentials in this directory.
    #[must_use]
    pub fn path(&self, credentials: &Path) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Credential(name) => credentials.join(&name.0),
        }
    }
}

impl SourceSection<FileAt> {
    /// The same, with each file by its path; credentials lie in this directory.
    #[must_use]
    pub fn at_paths(&self, credentials: &Path) -> SourceSection {
        let path = |file: &Option<FileAt>| file.as_ref().map(|file| file.path(credentials));
        SourceSection {
            urls: self.urls.clone(),
            branch: self.branch.clone(),
            interval: self.interval,
            confirm: self.confirm,
            token_file: path(&self.token_file),
            tokens: self
                .tokens
                .iter()
                .map(|(url, file)| (url.clone(), file.path(credentials)))
                .collect(),
            ssh_key: path(&self.ssh_key),
            known_hosts: path(&self.known_hosts),
            client_cert: path(&self.client_cert),
            client_key: path(&self.client_key),
            ca_file: path(&self.ca_file),
        }
    }

    /// The names of the credentials among its files, each once.
    #[must_use]
    pub fn credentials(&self) -> Vec<&CredentialName> {
        let mut names: Vec<&CredentialName> = [
            &self.token_file,
            &self.ssh_key,
            &self.known_hosts,
            &self.client_cert,
            &self.client_key,
            &self.ca_file,
        ]
        .into_iter()
        .flatten()
        .chain(self.tokens.values())
        .filter_map(|file| match file {
            FileAt::Path(_) => None,
            FileAt::Credential(name) => Some(name),
        })
        .collect();
        names.sort();
        names.dedup();
        names
    }
}
