//! The service manager.

/// Why the service manager did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {unit}: {why}")]
pub struct UnitsError {
    /// `restart`, `reload` or `ask about`.
    pub verb: &'static str,
    /// The unit.
    pub unit: String,
    /// What systemctl said, or that there is none.
    pub why: String,
}

/// systemd, through `systemctl`.
pub trait Units {
    /// Restarts a unit.
    ///
    /// # Errors
    /// See [`UnitsError`].
    async fn restart(&self, unit: &str) -> Result<(), UnitsError>;
    /// Reloads a unit.
    ///
    /// # Errors
    /// See [`UnitsError`].
    async fn reload(&self, unit: &str) -> Result<(), UnitsError>;
    /// Whether a unit is active.
    ///
    /// # Errors
    /// See [`UnitsError`].
    async fn is_active(&self, unit: &str) -> Result<bool, UnitsError>;
}
