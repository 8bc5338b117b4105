//! What the demo prints: numbered steps, what was done, and what was then seen. A step is only as good as its checks.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// The demo's page.
#[derive(Debug)]
pub(super) struct Page {
    style: Style,
    step: usize,
    failed: usize,
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
struct Style {
    good: &'static str,
    bad: &'static str,
    bold: &'static str,
    green: &'static str,
    red: &'static str,
    plain: &'static str,
}

impl Style {
    fn of_this_terminal() -> Self {
        let utf8 = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .is_some_and(|value| {
                let value = value.to_ascii_lowercase();
                value.contains("utf-8") || value.contains("utf8")
            });
        let (good, bad) = if utf8 { ("✓", "✗") } else { ("ok", "NO") };
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (bold, green, red, plain) = if colour {
            ("\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m")
        } else {
            ("", "", "", "")
        };
        Self {
            good,
            bad,
            bold,
            green,
            red,
            plain,
        }
    }
}

/// Says what went wrong, on standard error.
pub(super) fn complain(message: &str) {
    // Standard error closed: nobody to tell.
    let _ = writeln!(std::io::stderr(), "evenkeel demo: {message}");
}

impl Page {
    pub(super) fn new() -> Self {
        Self {
            style: Style::of_this_terminal(),
            step: 0,
            failed: 0,
        }
    }

    /// One line. A closed pipe must not keep the demo from cleaning up after itself, so errors are not ours to act on.
    pub(super) fn line(&self, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// Begins a step.
    pub(super) fn step(&mut self, headline: &str) {
        self.step += 1;
        let Style { bold, plain, .. } = self.style;
        self.line(format_args!("\n{bold}{}. {headline}{plain}", self.step));
    }

    /// What was done.
    pub(super) fn did(&self, what: impl Display) {
        self.line(format_args!("   did   {what}"));
    }

    /// What was seen, and whether it is as it should be.
    pub(super) fn seen(&mut self, good: Good, what: impl Display) {
        let style = self.style;
        let (colour, mark) = match good {
            Good::Yes => (style.green, style.good),
            Good::No => {
                self.failed += 1;
                (style.red, style.bad)
            }
        };
        self.line(format_args!(
            "   seen  {colour}{mark}{} {what}",
            style.plain
        ));
    }

    /// Checks that two things are equal.
    pub(super) fn same<T: PartialEq + Display>(&mut self, what: &str, seen: T, wanted: T) {
        if seen == wanted {
            self.seen(Good::Yes, format_args!("{what}: {seen}"));
        } else {
            self.seen(
                Good::No,
                format_args!("{what}: {seen} (it should be: {wanted})"),
            );
        }
    }

    /// How many checks failed so far.
    pub(super) const fn failed(&self) -> usize {
        self.failed
    }

    /// How many steps were begun.
    pub(super) const fn steps(&self) -> usize {
        self.step
    }
}

/// Whether what was seen is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Good {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl From<bool> for Good {
    fn from(good: bool) -> Self {
        if good { Self::Yes } else { Self::No }
    }
}
