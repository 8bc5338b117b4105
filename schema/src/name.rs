//! Names that a fleet repository gives to things.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $first:expr, $rest:expr, $rule:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let first: fn(char) -> bool = $first;
                let rest: fn(char) -> bool = $rest;
                let mut chars = text.chars();
                let good = chars.next().is_some_and(first) && chars.all(rest) && text.len() <= $max;
                if good {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError(format!(
                        "`{}` is not {}: {}, at most {} characters",
                        text.escape_debug(), $what, $rule, $max
                    )))
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An application: the name of its folder under `apps/`, and the Compose project name on the device. The rule is
    /// Compose's for project names.
    AppName, "an app's name",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_',
    "lower-case letters, digits, `-` and `_`, beginning with a letter or digit", 63
);
name!(
    /// A service, network or volume key of the Compose Specification.
    ServiceName, "a service's, network's or volume's name",
    |c| c.is_ascii_alphanumeric(),
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
    "letters, digits, `.`, `-` and `_`, beginning with a letter or digit", 63
);
name!(
    /// A device: the name of its document under `devices/`.
    DeviceId, "a device id",
    |c| c.is_ascii_alphanumeric(),
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
    "letters, digits, `.`, `-` and `_`, beginning with a letter or digit", 253
);
name!(
    /// A group: the name of its document under `groups/`.
    GroupName, "a group's name",
    |c| c.is_ascii_alphanumeric(),
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
    "letters, digits, `.`, `-` and `_`, beginning with a letter or digit", 128
);
name!(
    /// A value: one segment of a dotted name such as `mqtt.port`.
    ValueName, "a value's name",
    |c| c.is_ascii_lowercase(),
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
    "`[a-z][a-z0-9_]*`", 128
);
