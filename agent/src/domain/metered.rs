//! What was spent on a metered link, and what is told of it.

use serde::{Deserialize, Serialize};

/// What was spent in the present day or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Period {
    /// Which: days, or months, since 1970.
    pub number: i64,
    /// Bytes.
    pub bytes: u64,
}

/// What was spent of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// This day.
    pub day: Period,
    /// This month.
    pub month: Period,
}

/// Whether the link is metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// It is: budgets count.
    Metered,
    /// It is not.
    Unmetered,
    /// Nobody says: it counts as not metered.
    #[default]
    Unknown,
}

/// One budget in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// `day` or `month`.
    pub per: String,
    /// Bytes that may be spent.
    pub allowed: u64,
    /// Bytes that were.
    pub spent: u64,
    /// Bytes that are left.
    pub left: u64,
}

/// One kind in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// What a start goes on from.
    pub counted: Spent,
    /// Its budgets.
    pub budgets: Vec<Budget>,
}

/// The metered link in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MeteredReport {
    /// Whether it is one now.
    pub link: Link,
    /// Git and the agent's own binaries.
    pub git: Account,
    /// Pulls of images.
    pub images: Account,
}

/// Into how many steps the smallest budget is divided: what was spent is written down where a step is passed, so an unclean
/// end forgets less than one.
const STEPS: u64 = 16;

impl MeteredReport {
    /// What is worth a write of its own.
    #[must_use]
    pub fn in_steps(&self) -> Self {
        Self {
            link: self.link,
            git: self.git.in_steps(),
            images: self.images.in_steps(),
        }
    }
}

impl Account {
    fn in_steps(&self) -> Self {
        let smallest = self.budgets.iter().map(|budget| budget.allowed).min();
        let step = (smallest.unwrap_or(u64::MAX) / STEPS).max(1);
        let period = |period: Period| Period {
            number: 0,
            bytes: period.bytes / step,
        };
        Self {
            counted: Spent {
                day: period(self.counted.day),
                month: period(self.counted.month),
            },
            budgets: Vec::new(),
        }
    }
}
