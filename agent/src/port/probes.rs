//! Asking whether something works: the `[[checks]]` of an app.

use evenkeel_schema::app::Check;

/// Runs checks.
pub trait Probes {
    /// Runs one check within its timeout.
    ///
    /// # Errors
    /// Why it does not pass, in one sentence: `tcp 127.0.0.1:1883: connection refused`.
    async fn run(&self, check: &Check) -> Result<(), String>;

    /// The health scripts that the device's owner has put where greenboot looks for them, in the order of their names, those
    /// that must pass first.
    fn scripts(&self) -> Vec<Script>;

    /// Runs one of them, in bounded time.
    ///
    /// # Errors
    /// Why it does not pass, in one sentence.
    async fn run_script(&self, script: &Script) -> Result<(), String>;
}

/// A health script of the device's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where it is.
    pub path: String,
    /// What follows where it fails.
    pub need: Need,
}

/// What follows where a script fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The change goes back.
    Required,
    /// It is told.
    Wanted,
}
