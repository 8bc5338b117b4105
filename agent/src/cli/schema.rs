//! `evenkeel schema [fleet|group|device|app|compose|agent]`: JSON Schema for editors.

use evenkeel_schema::json_schema::{Document, json_schema};

/// JSON Schema for editors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which document; without it, all of them by name.
    #[arg(value_parser = ["fleet", "group", "device", "app", "compose", "agent"])]
    pub document: Option<String>,
}

/// Runs it; the exit code is 0.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let wanted = args.document.as_deref().and_then(|name| {
        Document::ALL
            .into_iter()
            .find(|document| document.name() == name)
    });
    let schema = match wanted {
        Some(document) => json_schema(document),
        None => Document::ALL
            .into_iter()
            .map(|document| (document.name().to_owned(), json_schema(document)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    };
    super::answer(&format!("{schema:#}"));
    super::code::DONE
}
