//! The log: to stderr, where journald or a person reads it. `EVENKEEL_LOG` sets the filter (default `info`).

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::try_from_env("EVENKEEL_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,evenkeel=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    let _ = match format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text if std::io::stderr().is_terminal() => builder.try_init(),
        // journald has its own clock.
        Format::Text => builder.with_ansi(false).without_time().try_init(),
    };
}
