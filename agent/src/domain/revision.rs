//! Identities: of commits, of trees, of content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a full object id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits")]
pub struct NotAnId(String);

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! object_id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The id in lower-case hexadecimal.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first ten digits, for people.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..10]
            }
        }

        impl FromStr for $type {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                if (text.len() == 40 || text.len() == 64) && is_hex(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NotAnId(text.chars().take(80).collect()))
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NotAnId;

            fn try_from(text: String) -> Result<Self, NotAnId> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

object_id!(
    /// A git commit.
    CommitId
);
object_id!(
    /// A git tree.
    TreeId
);

/// SHA-256 of some content: of a file, or of a whole desired state in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentId(String);

impl ContentId {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(bytes);
        let mut text = String::with_capacity(64);
        for byte in digest {
            use fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The id in lower-case hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl TryFrom<String> for ContentId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        if text.len() == 64 && is_hex(&text) {
            Ok(Self(text))
        } else {
            Err(NotAnId(text.chars().take(80).collect()))
        }
    }
}

impl From<ContentId> for String {
    fn from(id: ContentId) -> Self {
        id.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Seconds since 1970-01-01T00:00:00Z, as the wall clock (or a commit) tells it. Never used for durations. Written as
/// RFC 3339 in UTC; read from that, or from a number of seconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(into = "String", try_from = "WrittenTime")]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the second; `@` and the seconds where no calendar reaches.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time as RFC 3339 writes it (`2026-03-01T12:00:00Z`)")]
pub struct NotATime(String);

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let not_a_time = || NotATime(text.chars().take(80).collect());
        match text.strip_prefix('@') {
            Some(seconds) => seconds.parse().map(Self).map_err(|_| not_a_time()),
            None => text
                .parse::<jiff::Timestamp>()
                .map(|time| Self(time.as_second()))
                .map_err(|_| not_a_time()),
        }
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenTime {
    Seconds(i64),
    Text(String),
}

impl TryFrom<WrittenTime> for Timestamp {
    type Error = NotATime;

    fn try_from(written: WrittenTime) -> Result<Self, NotATime> {
        match written {
            WrittenTime::Seconds(seconds) => Ok(Self(seconds)),
            WrittenTime::Text(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Timestamp;

    proptest! {
        #[test]
        fn every_time_reads_back_from_its_text(seconds: i64) {
            let time = Timestamp(seconds);
            let written = serde_json::to_string(&time).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let read: Timestamp =
                serde_json::from_str(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(read, time);
        }
    }

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        assert_eq!(serde_json::json!(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(
            "2026-03-01T12:00:00+01:00".parse(),
            Ok(Timestamp(1_772_362_800))
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
