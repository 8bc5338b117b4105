//! Paths: on the device, and inside the repository.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a path we accept. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError(String);

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PathError {}

/// PATH_MAX of Linux, which counts the final NUL.
const LONGEST_PATH: usize = 4095;
/// NAME_MAX of Linux, less the room that a staging name beside the file needs.
const LONGEST_COMPONENT: usize = 255 - 32;

fn check_components(text: &str, components: &str) -> Result<(), PathError> {
    if text.len() > LONGEST_PATH {
        return Err(PathError(format!(
            "a path of {} bytes is longer than Linux allows ({LONGEST_PATH})",
            text.len()
        )));
    }
    for component in components.split('/') {
        if component == ".." || component == "." || component.is_empty() {
            return Err(PathError(format!(
                "`{}` is not a plain path: write it without `.`, `..`, `//` or a final `/`",
                text.escape_debug()
            )));
        }
        if component.len() > LONGEST_COMPONENT {
            return Err(PathError(format!(
                "`{}` has a name longer than {LONGEST_COMPONENT} bytes",
                text.escape_debug()
            )));
        }
        if component.chars().any(char::is_control) {
            return Err(PathError(format!(
                "`{}` has a control character in it",
                text.escape_debug()
            )));
        }
    }
    Ok(())
}

/// An absolute, normal path on the device: begins with `/`, and has no `.`, `..`, empty or overlong component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsPath(String);

impl AbsPath {
    /// The path as text, with its leading `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `/`, without the leading `/`.
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// Whether this path is `other` or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0 == other.0
            || self
                .0
                .strip_prefix(&other.0)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for AbsPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let Some(below) = text.strip_prefix('/') else {
            return Err(PathError(format!(
                "`{}` is not an absolute path: it must begin with `/`",
                text.escape_debug()
            )));
        };
        if below.is_empty() {
            return Err(PathError(
                "`/` is the whole device: name a file below it".to_owned(),
            ));
        }
        check_components(text, below)?;
        Ok(Self(text.to_owned()))
    }
}

/// A path inside the repository: relative, normal, below the repository's top.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoPath(String);

impl RepoPath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepoPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() || text.starts_with('/') {
            return Err(PathError(format!(
                "`{}` is not a path inside the repository: write it relative, without a leading `/`",
                text.escape_debug()
            )));
        }
        check_components(text, text)?;
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text_conversions {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = PathError;

            fn try_from(text: String) -> Result<Self, PathError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(path: $type) -> Self {
                path.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_conversions!(AbsPath);
text_conversions!(RepoPath);
