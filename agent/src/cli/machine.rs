//! Which machine this is, and whether the state directory was made on it.

use std::path::Path;

use evenkeel_schema::device::MachineId;

use super::device::read;
use crate::adapter::identity;

/// The machine's own id. It is the machine's, so it lies under no `root`.
const MACHINE_ID: &str = "/etc/machine-id";

/// Why this disk is not the one that its identity was made on, where it is not.
pub(super) fn copied(state_dir: &Path) -> Option<String> {
    // One that cannot be read says nothing about whose it is.
    let identity = identity::read(state_dir).ok().flatten()?;
    identity.is_of_another(id().ok().as_ref()).then(|| {
        "the identity in the state directory was made on a machine with another /etc/machine-id: `evenkeel enroll` makes a \
         new one for this machine, `evenkeel enroll --keep` keeps it where this is the same device"
            .to_owned()
    })
}

/// The machine's own id.
pub(super) fn id() -> Result<MachineId, String> {
    id_in(Path::new(MACHINE_ID))
}

/// What machine-id(5) says this machine is.
fn id_in(file: &Path) -> Result<MachineId, String> {
    let shown = file.display();
    let bytes = read(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\n')
        .parse()
        .map_err(|error| format!("{shown}: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_that_is_missing_or_not_set_yet_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("machine-id");
        assert!(id_in(&file).unwrap_err().contains("cannot read"));
        for text in ["", "\n", "uninitialized\n", "3d1219c7\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(id_in(&file).unwrap_err().contains("machine id"), "{text}");
        }
        for end in ["", "\n"] {
            let id = "3d1219c7c4c5404aaa1f6d2a48adfda4";
            std::fs::write(&file, format!("{id}{end}")).unwrap();
            assert_eq!(id_in(&file).unwrap().to_string(), id);
        }
    }
}
