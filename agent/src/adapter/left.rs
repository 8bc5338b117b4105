//! Whether the device was handed back: a file in the state directory that keeps every agent from changing anything.

use std::io;
use std::path::Path;

use super::twin::{self, Reading};

const MARK: &str = "left";
/// What refuses to change something then says.
pub const WHY: &str = "this device was handed back with `evenkeel leave`: nothing is changed here\nhint: `evenkeel leave --undo` \
     takes it up again";

/// Whether it was. A damaged mark is one: it was written for a reason, and a person can take it away.
#[must_use]
pub fn is_set(state_dir: &Path) -> bool {
    match twin::read(state_dir, MARK) {
        Ok(Reading::Absent) | Err(_) => false,
        Ok(Reading::Whole(_) | Reading::Half(..) | Reading::Plain(_) | Reading::Damaged) => true,
    }
}

/// Writes down that it is, and which of the service manager's units started it until now.
///
/// # Errors
/// The system's.
pub fn set(state_dir: &Path, units: &[&str]) -> io::Result<()> {
    if is_set(state_dir) {
        return Ok(());
    }
    twin::write(state_dir, MARK, &units.join(" "))
}

/// The units that started the agent before.
#[must_use]
pub fn units(state_dir: &Path) -> Vec<String> {
    match twin::read(state_dir, MARK) {
        Ok(Reading::Whole(text) | Reading::Half(text, _)) => {
            text.split_whitespace().map(str::to_owned).collect()
        }
        Ok(Reading::Absent | Reading::Plain(_) | Reading::Damaged) | Err(_) => Vec::new(),
    }
}

/// It is not, any more.
///
/// # Errors
/// The system's.
pub fn unset(state_dir: &Path) -> io::Result<()> {
    for name in [MARK.to_owned(), format!("{MARK}.copy")] {
        match std::fs::remove_file(state_dir.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    super::durable::sync_dir(state_dir)
}
