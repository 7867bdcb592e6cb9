//! Last read-back of one shop: its progress, the classes of all SKUs, and examples.

use super::cell::Cell;
use super::links::sku_path;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::texts::{self, Text, class_meaning, class_name};
use super::visible::{cut, visible};
use crate::migrator::readback::{MatchClass, ReadbackExample, ReadbackProgress, ReadbackReport};

/// Most characters of a reason.
const MAX_REASON_CHARS: usize = 300;

/// Class in the table.
pub(super) struct ClassRow {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) count: Cell,
}

/// SKU that is not equal.
pub(super) struct ExampleRow {
    pub(super) sku: String,
    pub(super) link: String,
    pub(super) class: &'static str,
    pub(super) severity: &'static str,
    pub(super) ours: String,
    pub(super) markets: String,
    pub(super) reserved: String,
}

/// Last read-back.
pub(super) struct ReadbackPanel {
    pub(super) state: Cell,
    /// End of the last complete pass, with its number of offers.
    pub(super) last: Cell,
    /// Reason of a failure, in English.
    pub(super) reason: String,
    pub(super) classes: Vec<ClassRow>,
    pub(super) examples: Vec<ExampleRow>,
    pub(super) is_possible: bool,
    ended: String,
}

impl ReadbackPanel {
    /// `report` is `None` if the Market is not called for the shop.
    pub(super) fn collect(
        report: Option<ReadbackReport>,
        shop: &str,
        context: PageContext,
    ) -> Self {
        let is_possible = report.is_some();
        let report = report.unwrap_or_default();
        let (state, severity) = match report.state {
            _ if !is_possible => (Text::READBACK_IMPOSSIBLE, HealthLevel::Attention),
            ReadbackProgress::Never => (Text::READBACK_NEVER, HealthLevel::Waiting),
            ReadbackProgress::Running => (Text::READBACK_RUNNING, HealthLevel::Waiting),
            ReadbackProgress::Done if report.unexplained_skus() > 0 => {
                (Text::READBACK_DIFFERS, HealthLevel::Attention)
            }
            ReadbackProgress::Done => (Text::READBACK_MATCHES, HealthLevel::Good),
            ReadbackProgress::Failed => (Text::READBACK_FAILED, HealthLevel::Trouble),
        };
        let last = report.ended.map_or_else(String::new, |at| {
            let moment = context.past(Some(at));
            texts::readback_ended(&moment.text, &moment.title, report.resent, context.language)
        });
        let class_row = |&class: &MatchClass| {
            let (id, severity) = (format!("class-{}", class.name()), class_severity(class));
            ClassRow {
                name: class_name(class, context.language),
                meaning: class_meaning(class, context.language),
                count: Cell::count(id, report.count(class), severity, context.language),
            }
        };
        let examples = report.examples.iter();
        let reason = visible(report.trouble.as_deref().unwrap_or_default());
        Self {
            state: Cell::new("readback-state", context.text(state)).with_severity(severity),
            last: Cell::new("readback-last", last),
            reason: cut(&reason, MAX_REASON_CHARS),
            classes: MatchClass::ALL.iter().map(class_row).collect(),
            examples: examples
                .map(|example| ExampleRow::new(example, shop, context))
                .collect(),
            is_possible,
            ended: report.ended.map_or_else(String::new, |at| at.to_string()),
        }
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        let counts = self.classes.iter().map(|class| &class.count);
        [&self.state, &self.last].into_iter().chain(counts)
    }

    pub(super) fn structure(&self) -> String {
        format!("{} {}", self.ended, self.reason)
    }
}

impl ExampleRow {
    fn new(example: &ReadbackExample, shop: &str, context: PageContext) -> Self {
        let number = |n: Option<u64>| n.map_or("–".to_owned(), |n| context.number(n));
        Self {
            sku: visible(&example.sku),
            link: sku_path(shop, &example.sku),
            class: class_name(example.class, context.language),
            severity: class_severity(example.class).name(),
            ours: number(example.ours.map(u64::from)),
            markets: number(example.markets),
            reserved: number(example.reserved),
        }
    }
}

/// Returns the severity of SKUs in a class.
pub(super) const fn class_severity(class: MatchClass) -> HealthLevel {
    match class {
        MatchClass::Equal | MatchClass::Explained | MatchClass::Archived | MatchClass::NotOurs => {
            HealthLevel::Good
        }
        MatchClass::Pending | MatchClass::Unsent => HealthLevel::Waiting,
        MatchClass::Rejected | MatchClass::Unknown => HealthLevel::Attention,
        MatchClass::Drifted => HealthLevel::Trouble,
    }
}
