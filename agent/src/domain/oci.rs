//! Images as registries and folders hold them: blobs named by their digests, manifests and indexes (the OCI's image
//! specification, and Docker's Image Manifest V2, Schema 2, which says the same under other media types).
//!
//! Whoever reads a document here has compared its bytes with the digest that names it; what it names is compared in turn.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest manifest or index: what the distribution specification has registries take at least.
pub const LONGEST_DOCUMENT: u64 = 4 * 1024 * 1024;
/// The longest configuration of an image that is taken.
pub const LONGEST_CONFIG: u64 = 16 * 1024 * 1024;
/// Says that a folder is an image layout.
pub const LAYOUT: &str = "oci-layout";
/// What [`LAYOUT`] holds.
pub const LAYOUT_TEXT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
/// The images of a layout.
pub const INDEX: &str = "index.json";
/// Where a layout has its blobs.
pub const BLOBS: &str = "blobs/sha256";
/// The media type of an index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The media types that are asked for.
pub const DOCUMENT_TYPES: [&str; 4] = [
    INDEX_TYPE,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// What tells images of a layout apart, for people and tools.
pub const NAME: &str = "org.opencontainers.image.ref.name";
/// The most layers of an image, and the most images of an index: engines take some hundred.
const MOST: usize = 1000;

/// `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// As it is written: `sha256:...`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// Its blob's file in a layout.
    #[must_use]
    pub fn blob(&self) -> String {
        format!("{BLOBS}/{}", self.hex())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_digit) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(OciError::Digest(
                text.chars()
                    .take(100)
                    .collect::<String>()
                    .escape_debug()
                    .to_string(),
            )),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = OciError;

    fn try_from(text: String) -> Result<Self, OciError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// Why a document is not taken. `Display` says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OciError {
    /// A digest that is none, or of another function.
    #[error("`{0}` is no SHA-256 digest")]
    Digest(String),
    /// It does not parse.
    #[error("it is neither an image manifest nor an index: {0}")]
    Malformed(String),
    /// It has more of something than any engine takes.
    #[error("it names more than 1000 parts")]
    TooMany,
    /// A layer that only its maker gives.
    #[error("its layer {0} is one that only its maker's server gives")]
    Foreign(Digest),
    /// No image for this machine.
    #[error("it has no image for {wanted}, but for {has}")]
    Platform {
        /// What was looked for.
        wanted: String,
        /// What there is.
        has: String,
    },
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if !os.is_empty() && !architecture.is_empty() =>
            {
                Ok(Self {
                    os,
                    architecture,
                    variant,
                })
            }
            _ => Err("write it like linux/arm64 or linux/arm/v7".to_owned()),
        }
    }
}

impl Platform {
    /// How well an image for `other` suits this machine: the higher the better. `None`: it does not run.
    fn suits(&self, other: &Self) -> Option<u8> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let level = |variant: &Option<String>| {
            let digits = variant.as_deref().map(|text| text.trim_start_matches('v'));
            digits.and_then(|text| text.parse::<u8>().ok())
        };
        match (level(&self.variant), level(&other.variant)) {
            // Each ARM runs what those before it ran.
            (Some(have), Some(needs)) => (needs <= have).then_some(needs + 1),
            (None, Some(needs)) => Some(needs + 1),
            (_, None) => Some(0),
        }
    }
}

/// A blob by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// In an index: what the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// One image: a configuration and layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration. Its digest is what Docker and Podman call the image's id.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// One image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// What a digest of `name@sha256:...` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// One for each platform.
    Index(Index),
}

#[derive(Deserialize)]
struct Wire {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// See [`OciError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OciError> {
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| OciError::Malformed(error.to_string()))?;
        let many = |list: &[Descriptor]| list.len() > MOST;
        match wire {
            Wire {
                config: Some(config),
                layers: Some(layers),
                manifests: None,
            } => {
                if many(&layers) {
                    return Err(OciError::TooMany);
                }
                let foreign = layers.iter().find(|layer| {
                    layer.media_type.contains("foreign")
                        || layer.media_type.contains("nondistributable")
                });
                match foreign {
                    Some(layer) => Err(OciError::Foreign(layer.digest.clone())),
                    None => Ok(Self::Manifest(Manifest { config, layers })),
                }
            }
            Wire {
                config: None,
                layers: None,
                manifests: Some(manifests),
            } if !many(&manifests) => Ok(Self::Index(Index { manifests })),
            Wire {
                config: None,
                layers: None,
                manifests: Some(_),
            } => Err(OciError::TooMany),
            Wire { .. } => Err(OciError::Malformed(
                "it has not the fields of either".to_owned(),
            )),
        }
    }
}

/// An attestation or a signature that builders put beside the images: nothing that runs.
fn is_image(manifest: &Descriptor) -> bool {
    manifest
        .platform
        .as_ref()
        .is_none_or(|platform| platform.os != "unknown")
}

impl Index {
    fn has(&self) -> String {
        let all: Vec<String> = self
            .manifests
            .iter()
            .filter(|one| is_image(one))
            .filter_map(|one| one.platform.as_ref().map(ToString::to_string))
            .collect();
        if all.is_empty() {
            "no platform at all".to_owned()
        } else {
            all.join(", ")
        }
    }

    /// The image that suits a machine best; of several alike the first, as engines choose.
    ///
    /// # Errors
    /// [`OciError::Platform`].
    pub fn for_machine(&self, machine: &Platform) -> Result<&Descriptor, OciError> {
        let mut best: Option<(u8, &Descriptor)> = None;
        for one in self.manifests.iter().filter(|one| is_image(one)) {
            let suits = match &one.platform {
                Some(platform) => machine.suits(platform),
                None => Some(0),
            };
            if let Some(suits) = suits
                && best.is_none_or(|(so_far, _)| suits > so_far)
            {
                best = Some((suits, one));
            }
        }
        best.map(|(_, one)| one).ok_or_else(|| OciError::Platform {
            wanted: machine.to_string(),
            has: self.has(),
        })
    }

    /// The images for these platforms; for all that it has where none is named.
    ///
    /// # Errors
    /// [`OciError::Platform`] where one of them is not there.
    pub fn for_platforms(&self, platforms: &[Platform]) -> Result<Vec<&Descriptor>, OciError> {
        if platforms.is_empty() {
            return Ok(self.manifests.iter().filter(|one| is_image(one)).collect());
        }
        let mut chosen: Vec<&Descriptor> = Vec::new();
        for platform in platforms {
            let one = self.for_machine(platform)?;
            if !chosen.contains(&one) {
                chosen.push(one);
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn index(platforms: &[&str]) -> Index {
        let manifests: Vec<serde_json::Value> = platforms
            .iter()
            .zip('0'..)
            .map(|(text, letter)| {
                let platform: Platform = text.parse().unwrap();
                serde_json::json!({
                    "mediaType": DOCUMENT_TYPES[1], "digest": digest(letter), "size": 7, "platform": platform,
                })
            })
            .collect();
        let text = serde_json::json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        match Document::parse(text.as_bytes()).unwrap() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("an index was read as a manifest"),
        }
    }

    #[test]
    fn each_machine_gets_the_image_that_suits_it_best() {
        let all = index(&[
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "unknown/unknown",
        ]);
        for (machine, at) in [
            ("linux/amd64", Some(0)),
            ("linux/arm/v6", Some(1)),
            ("linux/arm/v7", Some(2)),
            ("linux/arm", Some(2)),
            ("linux/arm64", Some(3)),
            ("linux/arm64/v8", Some(3)),
            ("linux/riscv64", None),
            ("unknown/unknown", None),
            ("windows/amd64", None),
        ] {
            let found = all.for_machine(&machine.parse().unwrap());
            let found = found.ok().map(|one| &one.digest);
            let expected = at.map(|at: usize| &all.manifests[at].digest);
            assert_eq!(found, expected, "{machine}");
        }
        assert_eq!(all.for_platforms(&[]).unwrap().len(), 4);
        let two = [
            "linux/arm/v7".parse().unwrap(),
            "linux/arm".parse().unwrap(),
        ];
        assert_eq!(all.for_platforms(&two).unwrap().len(), 1);
        let said = all
            .for_platforms(&["linux/s390x".parse().unwrap()])
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("linux/s390x") && said.contains("linux/arm/v7"),
            "{said}"
        );
    }

    #[test]
    fn what_is_neither_a_manifest_nor_an_index_is_refused() {
        let part = |letter| format!(r#"{{"digest":"{}","size":1}}"#, digest(letter));
        let whole = format!(r#"{{"config":{},"layers":[{}]}}"#, part('a'), part('b'));
        assert!(matches!(
            Document::parse(whole.as_bytes()).unwrap(),
            Document::Manifest(_)
        ));
        for wrong in [
            String::new(),
            "{}".to_owned(),
            "[]".to_owned(),
            format!(r#"{{"config":{}}}"#, part('a')),
            format!(r#"{{"config":{},"layers":[],"manifests":[]}}"#, part('a')),
            whole.replace("sha256", "sha512"),
            whole.replace(&"a".repeat(64), "../../etc/passwd"),
            whole.replace(&"a".repeat(64), &"A".repeat(64)),
            whole.replace(r#""size":1"#, r#""size":-1"#),
            format!(
                r#"{{"config":{},"layers":[{}]}}"#,
                part('a'),
                vec![part('b'); MOST + 1].join(",")
            ),
            whole.replace(
                r#""layers":[{"#,
                r#""layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","#,
            ),
        ] {
            assert!(Document::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
