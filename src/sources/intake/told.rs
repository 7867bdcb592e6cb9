use chrono::{DateTime, Utc};

use crate::sources::formats::Ending;
use crate::sources::shape::Shape;
use crate::sources::stated::Held;
use crate::sources::{Fault, Listing, Scope};
use crate::stock::Instant;

/// What a delivery comes to, SKU by SKU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Tally {
    /// SKUs heard of for the first time.
    pub new: u64,
    /// SKUs whose stock changes.
    pub changed: u64,
    /// SKUs whose stock is as it was.
    pub unchanged: u64,
    /// SKUs of which something newer is known.
    pub outdated: u64,
    /// SKUs in stock that turn to zero; of those that change.
    pub zeroed: u64,
    /// SKUs in stock before.
    pub in_stock: u64,
}

/// What became of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is in the book.
    Taken,
    /// It would have been taken, if it had been meant.
    Looked,
    /// It waits for somebody's word.
    Held(String),
}

/// What is told of a delivery.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// What became of it.
    pub outcome: Outcome,
    /// As of when it was stated.
    pub at: Instant,
    /// Whether it was complete.
    pub scope: Scope,
    /// Rows that could be taken.
    pub rows: u64,
    /// Rows that break a rule. They are not applied.
    pub rejected: u64,
    /// Rows that can be read in two ways. They are not applied either.
    pub suspicious: u64,
    /// The first rows that are not applied, of both kinds.
    pub first_rejected: Vec<Fault>,
    /// What it comes to.
    pub tally: Tally,
    /// Why absent SKUs keep their stock although the settings say `absent = "zero"`.
    pub absence_untold: Option<String>,
    /// What the reader wants the operator to know.
    pub notices: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
}

/// How a source is doing.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The last delivery that came to its end.
    pub last: Option<Receipt>,
    /// When that was.
    pub last_at: Option<DateTime<Utc>>,
    /// What is held, the oldest first.
    pub held: Vec<Held>,
    /// The failure was that nobody answered.
    pub is_unreachable: bool,
    /// Why the last attempt failed, if it did.
    pub failure: Option<(DateTime<Utc>, String)>,
    /// Since when a delivery is on its way.
    pub reading_since: Option<DateTime<Utc>>,
    /// Rows that have come of it so far.
    pub read_rows: u64,
    /// A snapshot of it was taken once, in this life or an earlier one.
    pub is_filled: bool,
    /// What it has stated is not all in the book yet.
    pub owes: bool,
    /// Deliveries taken since the start.
    pub taken: u64,
    /// Deliveries held since the start.
    pub held_total: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Rows taken since the start.
    pub rows: u64,
    /// Rows rejected since the start.
    pub rejected: u64,
    /// Suspicious rows since the start.
    pub suspicious: u64,
}

/// What a reader knows of the completeness of what it read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completeness {
    /// Nothing: the settings decide.
    Unsaid,
    /// The format says so; the settings may know better.
    Said(Scope),
    /// It is so, whatever the settings say.
    Sure(Scope),
    /// One file of an exchange: a delta, whatever it says of itself.
    Exchanged {
        /// What it says.
        says: Option<Scope>,
        /// Its name has a number: it may be one of several that are one export.
        is_numbered: bool,
    },
}

impl Completeness {
    /// What holds, given what the settings say.
    pub(super) fn scope(self, set: Option<Scope>) -> Scope {
        match self {
            Self::Sure(scope) => scope,
            Self::Said(scope) => set.unwrap_or(scope),
            Self::Unsaid => set.unwrap_or(Scope::Delta),
            Self::Exchanged { .. } => Scope::Delta,
        }
    }

    /// Which variants are listed, given what the settings say.
    pub(in crate::sources) fn listing(self, set: Option<Scope>) -> Listing {
        let (says, is_numbered) = match self {
            Self::Sure(_) | Self::Said(_) | Self::Unsaid => (Some(self.scope(set)), false),
            Self::Exchanged { says, is_numbered } => (says, is_numbered),
        };
        match says {
            Some(Scope::Snapshot) if is_numbered => Listing::Part,
            Some(Scope::Snapshot) => Listing::Whole,
            Some(Scope::Delta) | None => Listing::Changes,
        }
    }
}

impl From<Option<Scope>> for Completeness {
    fn from(said: Option<Scope>) -> Self {
        said.map_or(Self::Unsaid, Self::Said)
    }
}

/// What a reader knows of what it read, besides its rows.
#[derive(Clone, Debug)]
pub struct ReadReport {
    /// Whether it is complete.
    pub completeness: Completeness,
    /// How its files were read.
    pub shapes: Vec<Shape>,
    /// What the operator should know of it.
    pub notices: Vec<String>,
}

impl ReadReport {
    /// A report of files, in the order in which they were read.
    #[must_use]
    pub fn of_files(completeness: Completeness, endings: Vec<Ending>) -> Self {
        let shapes = endings
            .iter()
            .map(|ending| Shape::from(&ending.shape))
            .collect();
        let notices = endings
            .into_iter()
            .flat_map(|ending| ending.notices)
            .collect();
        Self {
            completeness,
            shapes,
            notices,
        }
    }
}

impl<C: Into<Completeness>> From<C> for ReadReport {
    fn from(completeness: C) -> Self {
        Self {
            completeness: completeness.into(),
            shapes: Vec::new(),
            notices: Vec::new(),
        }
    }
}
