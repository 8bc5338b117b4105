//! Asking whether something works: the `[[checks]]` of an app.

use evenkeel_schema::app::Check;

/// Runs checks.
pub trait Probes {
    /// Runs one check within its timeout.
    ///
    /// # Errors
    /// Why it does not pass, in one sentence: `tcp 127.0.0.1:1883: connection refused`.
    async fn run(&self, check: &Check) -> Result<(), String>;
}
