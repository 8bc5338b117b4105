//! What the loop needs of the outside, as traits. Adapters implement them; tests have in-memory twins.
//!
//! Everything runs on one thread (a current-thread runtime), so no future needs to be `Send`.

#![expect(
    async_fn_in_trait,
    reason = "one current-thread runtime: no future crosses threads, so no Send bound is wanted"
)]

pub mod clock;
pub mod engine;
pub mod files;
pub mod images;
pub mod journal;
// For tests, those that simulate a fleet from another crate among them. Built by no profile that is shipped.
#[cfg(any(test, debug_assertions))]
pub mod memory;
pub mod probes;
pub mod reporter;
pub mod source;
pub mod starts;
pub mod units;
pub mod upgrades;

/// Whether trying the same thing again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The world may change by itself: network, engine, a full disk.
    Later,
    /// A person must change something first.
    Never,
}

/// The whole outside, bundled.
pub trait World {
    /// Where revisions come from.
    type Source: source::Source;
    /// Where containers run.
    type Engine: engine::Engine;
    /// Where files live.
    type Files: files::Files;
    /// The service manager.
    type Units: units::Units;
    /// What is remembered.
    type Journal: journal::Journal;
    /// Who is told.
    type Reporter: reporter::Reporter;
    /// What time it is.
    type Clock: clock::Clock;
    /// Who runs checks.
    type Probes: probes::Probes;

    /// Where revisions come from.
    fn source(&self) -> &Self::Source;
    /// Where containers run.
    fn engine(&self) -> &Self::Engine;
    /// Where files live.
    fn files(&self) -> &Self::Files;
    /// The service manager.
    fn units(&self) -> &Self::Units;
    /// What is remembered.
    fn journal(&self) -> &Self::Journal;
    /// Who is told.
    fn reporter(&self) -> &Self::Reporter;
    /// What time it is.
    fn clock(&self) -> &Self::Clock;
    /// Who runs checks.
    fn probes(&self) -> &Self::Probes;

    /// Whether the device's link is metered, as far as something on it knows.
    async fn link(&self) -> crate::domain::metered::Link;

    /// The trust policy, read afresh: allowed_signers and the revocation list may change under a running agent.
    ///
    /// # Errors
    /// Why it cannot be read or has no usable key, with the next move. Then nothing is trusted.
    fn policy(&self) -> Result<crate::trust::policy::TrustPolicy, String>;
}
