//! What an engine's error means: it is not there, it refuses what was declared, or it failed by itself.

use bollard::errors::Error as ApiError;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Down,
    Refused,
    Failed,
}

pub(super) fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Engines answer 500 to settings that can never work on this device too; these are their words for those.
const SETTINGS: [&str; 7] = [
    "already allocated",
    "already in use",
    "no such file or directory",
    "not found in $path",
    "invalid argument",
    "is not supported",
    "error gathering device information",
];

/// An engine's words for its own store: an image's layer that is gone or damaged is no setting of anybody's, although
/// some of the words above are in there.
const STORE: [&str; 4] = ["overlay", "layer", "graphdriver", "storage driver"];
/// Words for what only time mends: a container that is just being removed.
const PASSING: [&str; 2] = ["marked for removal", "already in progress"];
/// The engine behind the socket is another one than we negotiated with, newer or older.
const VERSION: [&str; 2] = ["client version", "is too "];

/// Whether an engine speaks of its own store.
pub(super) fn is_of_store(lower: &str) -> bool {
    STORE.iter().any(|words| lower.contains(words))
}

pub(super) fn judge(error: &ApiError) -> Judgement {
    match error {
        ApiError::DockerResponseServerError {
            status_code,
            message,
        } => {
            let lower = message.to_ascii_lowercase();
            let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
            if *status_code == 400 && VERSION.iter().all(|words| lower.contains(words)) {
                Judgement::Down
            } else if *status_code == 404 || says(&STORE) || says(&PASSING) {
                // What was there when the steps were planned is gone: that is nobody's setting either.
                Judgement::Failed
            } else if (400..500).contains(status_code) || says(&SETTINGS) {
                Judgement::Refused
            } else {
                Judgement::Failed
            }
        }
        ApiError::IOError { .. }
        | ApiError::HyperResponseError { .. }
        | ApiError::HyperLegacyError { .. }
        | ApiError::SocketNotFoundError(_)
        | ApiError::RequestTimeoutError => Judgement::Down,
        _ => Judgement::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_are_a_revisions_fault() {
        let means = |status_code, message: &str| {
            judge(&ApiError::DockerResponseServerError {
                status_code,
                message: message.to_owned(),
            })
        };
        for (code, message, meant) in [
            (400, "invalid reference format", Judgement::Refused),
            (
                409,
                "The container name \"/web\" is already in use",
                Judgement::Refused,
            ),
            (
                500,
                "Bind for 0.0.0.0:80 failed: port is already allocated",
                Judgement::Refused,
            ),
            (
                400,
                "client version 1.53 is too new. Maximum supported API version is 1.41",
                Judgement::Down,
            ),
            (
                400,
                "client version 1.24 is too old. Minimum supported API version is 1.44",
                Judgement::Down,
            ),
            (404, "No such container: f00", Judgement::Failed),
            (404, "No such image: f00", Judgement::Failed),
            (
                409,
                "container f00 is marked for removal and cannot be started",
                Judgement::Failed,
            ),
            (
                409,
                "removal of container f00 is already in progress",
                Judgement::Failed,
            ),
            (
                500,
                "error creating overlay mount to /x/merged: no such file or directory",
                Judgement::Failed,
            ),
            (500, "layer does not exist", Judgement::Failed),
            (500, "anything else", Judgement::Failed),
        ] {
            assert_eq!(means(code, message), meant, "{code} {message}");
        }
    }
}
