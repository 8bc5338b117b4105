//! `devices/<id>.toml`: one device's labels, apps and values.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::agent_release::{self, AGENT};
use crate::diagnostic::Diagnostics;
use crate::document::{self, Place, Placed};
use crate::name::AppName;
use crate::node::Node;
use crate::service::keys::{Key, Shape, key};
use crate::{decode, toml_document};

/// The keys of a device's document.
pub const KEYS: &[Key] = &[
    key(
        "labels",
        Shape::Map(&Shape::Scalar),
        "Labels that groups match; they win over those of the device's own agent.toml",
    ),
    key(
        "apps",
        Shape::List(&Shape::Text),
        "Apps that this device runs beside its groups'",
    ),
    key(
        "without_apps",
        Shape::List(&Shape::Text),
        "Apps that this device does not run",
    ),
    key(
        "values",
        Shape::Map(&Shape::Any),
        "Values for this device; they win over all others",
    ),
    key(
        "public_key",
        Shape::Text,
        "The device's public key, as OpenSSH prints it",
    ),
    key(
        "machine_id",
        Shape::Pattern(MACHINE_ID),
        "The machine that this device must be: its /etc/machine-id",
    ),
    AGENT,
];

/// machine-id(5), as JSON Schema can say it.
const MACHINE_ID: &str = "^[0-9a-f]{32}$";

/// A machine's id as machine-id(5) has it: 32 lower-case hexadecimal digits, not all zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineId(String);

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no machine id. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineIdError(String);

impl fmt::Display for MachineIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a machine id: 32 lower-case hexadecimal digits, not all zero, as /etc/machine-id has them",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for MachineIdError {}

impl FromStr for MachineId {
    type Err = MachineIdError;

    fn from_str(text: &str) -> Result<Self, MachineIdError> {
        let digits = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 32 && digits && text.bytes().any(|byte| byte != b'0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(MachineIdError(text.chars().take(64).collect()))
        }
    }
}

/// A device's document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Device {
    /// Labels that win over the device's own.
    pub labels: BTreeMap<String, String>,
    /// Apps that are added.
    pub apps: Vec<Placed<AppName>>,
    /// Apps that are taken away.
    pub without_apps: Vec<Placed<AppName>>,
    /// Values for this device.
    pub values: Option<Node>,
    /// The device's public key.
    pub public_key: Option<String>,
    /// The machine that the device must be.
    pub machine_id: Option<Placed<MachineId>>,
}

/// Reads a device's document.
pub fn parse(file: &str, bytes: &[u8], out: &mut Diagnostics) -> Option<Device> {
    let node = toml_document::parse(file, bytes, out)?;
    document::check_keys(&node, KEYS, "a device's document", out);
    let labels = decode::field(&node, "labels")
        .map(|node| document::labels(node, out))
        .unwrap_or_default();
    let mut apps = |name| {
        decode::field(&node, name)
            .map(|node| document::names(node, out))
            .unwrap_or_default()
    };
    let (added, taken) = (apps("apps"), apps("without_apps"));
    decode::optional(&node, "agent", out, agent_release::strict);
    Some(Device {
        labels,
        apps: added,
        without_apps: taken,
        values: decode::optional(&node, "values", out, document::values),
        public_key: decode::optional(&node, "public_key", out, decode::filled_text),
        machine_id: decode::optional(&node, "machine_id", out, machine_id),
    })
}

/// The public key that a document declares, as far as this version can read it.
///
/// # Errors
/// The first thing that is wrong with it, or that it declares none.
pub fn public_key(file: &str, bytes: &[u8]) -> Result<String, String> {
    let mut out = Diagnostics::new();
    let key = toml_document::parse(file, bytes, &mut out)
        .map(|node| decode::optional(&node, "public_key", &mut out, decode::filled_text));
    match (key, out.sorted().first()) {
        (_, Some(problem)) => Err(problem.to_string()),
        (Some(Some(key)), None) => Ok(key),
        (Some(None) | None, None) => Err(format!(
            "{file} declares no `public_key`: `evenkeel enroll` on the device prints it"
        )),
    }
}

/// The labels and the machine of a whole document, as far as this version can read them.
///
/// # Errors
/// The first thing that is wrong with them.
pub fn lenient(whole: &Node) -> Result<Device, String> {
    let mut out = Diagnostics::new();
    let device = Device {
        labels: decode::field(whole, "labels")
            .map(|node| document::labels(node, &mut out))
            .unwrap_or_default(),
        machine_id: decode::optional(whole, "machine_id", &mut out, machine_id),
        ..Device::default()
    };
    match out.sorted().first() {
        None => Ok(device),
        Some(problem) => Err(problem.to_string()),
    }
}

fn machine_id(node: &Node, out: &mut Diagnostics) -> Option<Placed<MachineId>> {
    let text = decode::text(node, out)?;
    decode::report(node, text.parse(), out).map(|value| Placed {
        value,
        place: Place::of(node),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_32_lower_case_hexadecimal_digits_and_not_all_zero() {
        let good = "3d1219c7c4c5404aaa1f6d2a48adfda4";
        assert_eq!(good.parse::<MachineId>().unwrap().to_string(), good);
        for text in [
            "",
            "3D1219C7C4C5404AAA1F6D2A48ADFDA4",
            "3d1219c7c4c5404aaa1f6d2a48adfda",
            "3d1219c7c4c5404aaa1f6d2a48adfda45",
            "3d1219c7-c4c5-404a-aa1f-6d2a48adfda4",
            "3d1219c7c4c5404aaa1f6d2a48adfda4\n",
            "00000000000000000000000000000000",
            "uninitialized",
        ] {
            assert!(text.parse::<MachineId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_document_with_another_kind_of_machine_id_is_an_error_with_its_place() {
        for text in [
            "machine_id = 'x'\n",
            "machine_id = 7\n",
            "machine_id = ''\n",
        ] {
            let mut out = Diagnostics::new();
            parse("devices/a.toml", text.as_bytes(), &mut out);
            let problems = out.sorted();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].to_string().contains("devices/a.toml:1:14"),
                "{}",
                problems[0]
            );
        }
    }
}
