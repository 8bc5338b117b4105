//! What a simulation showed, for people.

use std::fmt;
use std::time::Duration;

/// One line.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done, or what a figure is of.
    pub what: String,
    /// What came of it.
    pub figures: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:WIDTH$}  {}", self.what, self.figures)
    }
}

/// Room for [`Row::what`].
const WIDTH: usize = 52;

/// All lines.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// In their order.
    pub rows: Vec<Row>,
    /// Who is told of each.
    pub(super) told: fn(&Row),
}

impl Table {
    /// Adds a line.
    pub(super) fn row(&mut self, what: impl Into<String>, figures: impl Into<String>) {
        let (what, figures) = (what.into(), figures.into());
        let row = Row { what, figures };
        (self.told)(&row);
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

/// How long things took, sorted.
#[derive(Debug, Clone)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    /// The time within which so many of a hundred were done.
    fn percentile(&self, of_hundred: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let place = (self.0.len() * of_hundred).div_ceil(100).saturating_sub(1);
        self.0.get(place.min(last)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |of_hundred| self.percentile(of_hundred).as_secs_f64();
        write!(
            f,
            "median {:.1} s, p99 {:.1} s, last {:.1} s",
            seconds(50),
            seconds(99),
            seconds(100)
        )
    }
}
