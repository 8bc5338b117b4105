//! `evenkeel plan`: what a pass would change; changes nothing.

use super::control::{Line, Request};
use super::{ConfigArgs, answer, here, show, sync};

/// What a pass would change, as a diff; changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> u8 {
    match here::ask_or_do_here(&args.config, &Request::Plan) {
        // A plan, refused tip or not; anything else is an error and is told as one.
        Ok(Line::Answer { code, json, .. })
            if !args.json && json.get("steps").is_some_and(serde_json::Value::is_array) =>
        {
            answer(&show::plan::human(&json, show::Style::of_stdout()));
            code
        }
        Ok(line) => sync::show(&line, args.json),
        Err(failure) => failure.tell(),
    }
}
