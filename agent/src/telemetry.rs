//! The log: to stderr, where journald or a person reads it. `EVENKEEL_LOG` sets the filter by target and level
//! (`warn,evenkeel=debug`; default `warn,evenkeel=info`).

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// What is logged where nobody says otherwise.
const DEFAULT_FILTER: &str = "warn,evenkeel=info";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Installs the log once; a second call does nothing.
pub fn install(format: Format) {
    let asked = std::env::var("EVENKEEL_LOG").unwrap_or_default();
    let filter: Targets = asked
        .parse()
        .ok()
        .filter(|_| !asked.trim().is_empty())
        .or_else(|| DEFAULT_FILTER.parse().ok())
        .unwrap_or_default();
    let layer = fmt::layer().with_target(false).with_writer(std::io::stderr);
    let layer = match format {
        Format::Json => layer.json().flatten_event(true).boxed(),
        Format::Text if std::io::stderr().is_terminal() => layer.boxed(),
        // journald has its own clock.
        Format::Text => layer.with_ansi(false).without_time().boxed(),
    };
    // The second of two verbs in one process keeps the first one's log.
    let _ = registry().with(layer.with_filter(filter)).try_init();
}
