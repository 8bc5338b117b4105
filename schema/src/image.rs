//! Image references, pinned by content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An image: `name@sha256:...` (pullable), an image id `sha256:...` (loaded by hand), or, where the fleet allows tags,
/// `name:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef(String);

impl ImageRef {
    /// The reference as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names its content: `name@sha256:...`, or an image id.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.is_id() || self.digest().is_some()
    }

    /// Whether it is an image id (`sha256:...`): an image loaded by hand, which no registry can give.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.0.starts_with("sha256:")
    }

    /// `sha256:...` of `name@sha256:...`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, digest)| digest)
    }

    /// Registry and repository, without tag and digest; the whole id where it is one.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.is_id() {
            return &self.0;
        }
        let name = self
            .0
            .split_once('@')
            .map_or(self.0.as_str(), |(name, _)| name);
        split_tag(name).0
    }

    /// The tag, where one was written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        if self.is_id() {
            return None;
        }
        let name = self
            .0
            .split_once('@')
            .map_or(self.0.as_str(), |(name, _)| name);
        split_tag(name).1
    }
}

/// A colon after the last slash begins a tag; one before it, a registry's port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
        Some(_) | None => (name, None),
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A component of a repository's path, by the distribution specification's grammar.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| alphanumeric(*byte))
        && bytes.last().is_some_and(|byte| alphanumeric(*byte))
        && bytes
            .iter()
            .all(|byte| alphanumeric(*byte) || matches!(byte, b'.' | b'_' | b'-'))
        && !text.contains("..")
        && !text.contains("___")
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return rest.is_empty()
                || rest
                    .strip_prefix(':')
                    .is_some_and(|port| port.parse::<u16>().is_ok());
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok())
        && !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// Why a text is not an image reference. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageError(String);

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImageError {}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(200).collect();
            Err(ImageError(format!(
                "`{}` is not an image: {why}; write `name@sha256:<64 hexadecimal digits>`, or the id `sha256:...` of an image that is on the device",
                shown.escape_debug()
            )))
        };
        if text.starts_with("sha256:") {
            return if is_digest(text) {
                Ok(Self(text.to_owned()))
            } else {
                wrong("an id has 64 lower-case hexadecimal digits")
            };
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return wrong("a digest is `sha256:` and 64 lower-case hexadecimal digits");
        }
        let (repository, tag) = split_tag(name);
        let good_tag = tag.is_none_or(|tag| {
            tag.len() <= 128
                && !tag.starts_with(['.', '-'])
                && !tag.is_empty()
                && tag
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        });
        if !good_tag {
            return wrong("a tag has letters, digits, `.`, `_` and `-`, at most 128");
        }
        // The first part is a registry where it cannot be a part of a path: as Docker tells them apart.
        let path = match repository.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => {
                if !is_registry(first) {
                    return wrong("its registry is not a host name");
                }
                rest
            }
            Some(_) | None => repository,
        };
        if repository.len() > 255 || !path.split('/').all(is_component) {
            return wrong("its name has lower-case letters, digits, `.`, `_`, `-` and `/`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.0
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    #[test]
    fn pinned_images_ids_and_tags_are_told_apart() {
        let hex = "a".repeat(64);
        for (text, pinned, id, name) in [
            (
                format!("registry.example.com:5000/a/b@sha256:{hex}"),
                true,
                false,
                "registry.example.com:5000/a/b",
            ),
            (
                format!("127.0.0.1:5000/a:1.2@sha256:{hex}"),
                true,
                false,
                "127.0.0.1:5000/a",
            ),
            (
                format!("[::1]:5000/a:1.2@sha256:{hex}"),
                true,
                false,
                "[::1]:5000/a",
            ),
            (
                format!("localhost/a@sha256:{hex}"),
                true,
                false,
                "localhost/a",
            ),
            ("busybox".to_owned(), false, false, "busybox"),
            (
                "library/busybox:1.36".to_owned(),
                false,
                false,
                "library/busybox",
            ),
        ] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!(
                (image.is_pinned(), image.is_id(), image.name()),
                (pinned, id, name),
                "{text}"
            );
        }
        let id: ImageRef = format!("sha256:{hex}").parse().unwrap();
        assert!(id.is_id() && id.is_pinned());
    }

    #[test]
    fn what_is_not_an_image_is_refused() {
        let hex = "a".repeat(64);
        for text in [
            String::new(),
            "sha256:abc".to_owned(),
            format!("sha256:{}", "A".repeat(64)),
            format!("@sha256:{hex}"),
            "a@sha256:12".to_owned(),
            format!("a@md5:{hex}"),
            "Upper/case".to_owned(),
            "a b".to_owned(),
            "a:".to_owned(),
            "a//b".to_owned(),
            "-a".to_owned(),
            "reg.example.com:x/a".to_owned(),
            "a@sha256:x@sha256:y".to_owned(),
            "https://example.com/a".to_owned(),
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}
