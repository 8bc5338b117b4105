//! Compose files as their authors wrote them: what we make of each beside what Compose makes of it, and some of it on an
//! engine.

mod corpus;
mod running;

use std::path::PathBuf;

/// Compose itself, which `packaging/prerequisites.sh compose` puts there.
fn compose() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let program = cache.join("evenkeel/compose/docker-compose");
    assert!(
        program.exists(),
        "{} is missing: packaging/prerequisites.sh compose installs it",
        program.display()
    );
    program
}
