//! What is wrong with a document, and where.
//!
//! Owns the one shape in which every problem of a repository or of agent.toml is told: file, line, column, what is
//! wrong and what would be right. A reader collects all of them before it gives up, so that a person mends a
//! repository in one round.

use std::fmt;

/// A place in a document. Lines and columns count from 1; columns count characters, as editors show them.
/// Line 0 means "the document as a whole" (a file that is missing, for example).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Line, from 1; 0 for the whole document.
    pub line: u32,
    /// Column in characters, from 1; 0 for the whole document.
    pub column: u32,
}

/// One problem, with its place and, where there is one, the next move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The document, as a path inside the repository (`apps/mqtt/app.toml`) or on the device.
    pub file: String,
    /// Where in the document.
    pub at: Position,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.line == 0 {
            write!(f, "{}: {}", self.file, self.message)?;
        } else {
            write!(
                f,
                "{}:{}:{}: {}",
                self.file, self.at.line, self.at.column, self.message
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, " (help: {help})")?;
        }
        Ok(())
    }
}

/// Every problem found so far. Collect into one of these, then ask [`Diagnostics::into_result`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Nothing wrong yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds a problem at a place.
    pub fn error(&mut self, file: &str, at: Position, message: impl Into<String>) {
        self.push(Diagnostic {
            file: file.to_owned(),
            at,
            message: message.into(),
            help: None,
        });
    }

    /// Adds a problem at a place, with what would be right.
    pub fn error_with_help(
        &mut self,
        file: &str,
        at: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Diagnostic {
            file: file.to_owned(),
            at,
            message: message.into(),
            help: Some(help.into()),
        });
    }

    /// Takes over all problems of another collection.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many problems there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems in the order of file, line and column, each once.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Diagnostic> {
        self.0.sort();
        self.0.dedup();
        self.0
    }

    /// `value` if nothing is wrong, else every problem.
    ///
    /// # Errors
    /// The problems themselves.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.clone().sorted().iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
