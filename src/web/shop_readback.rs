//! Last read-back of one shop: its progress, the classes of all SKUs, and examples.

use super::links::sku_path;
use super::overview::Cell;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::texts::{self, Text, match_class_text};
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
            _ if !is_possible => (Text::ReadbackImpossible, HealthLevel::Attention),
            ReadbackProgress::Never => (Text::ReadbackNever, HealthLevel::Waiting),
            ReadbackProgress::Running => (Text::ReadbackRunning, HealthLevel::Waiting),
            ReadbackProgress::Done if report.unexplained_skus() > 0 => {
                (Text::ReadbackDiffers, HealthLevel::Attention)
            }
            ReadbackProgress::Done => (Text::ReadbackMatches, HealthLevel::Good),
            ReadbackProgress::Failed => (Text::ReadbackFailed, HealthLevel::Trouble),
        };
        let mut state = Cell::new("readback-state".to_owned(), context.text(state).to_owned());
        state.severity = Some(severity);
        let last = report.ended.map_or(String::new(), |at| {
            let moment = context.past(Some(at));
            texts::readback_ended(&moment.text, &moment.title, report.resent, context.language)
        });
        let class_row = |class: MatchClass| {
            let count = report.count(class);
            let class_text = match_class_text(class, context.language);
            let id = format!("class-{}", class.name());
            let mut cell = Cell::new(id, context.number(count));
            cell.severity = Some(class_severity(class)).filter(|_| count > 0);
            ClassRow {
                name: class_text.name,
                meaning: class_text.meaning,
                count: cell,
            }
        };
        let examples = report.examples.iter();
        Self {
            state,
            last: Cell::new("readback-last".to_owned(), last),
            reason: report.trouble.as_deref().map_or(String::new(), |reason| {
                cut(&visible(reason), MAX_REASON_CHARS)
            }),
            classes: MatchClass::ALL.iter().copied().map(class_row).collect(),
            examples: examples
                .map(|example| ExampleRow::new(example, shop, context))
                .collect(),
            is_possible,
            ended: report.ended.map_or(String::new(), |at| at.to_string()),
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
            class: match_class_text(example.class, context.language).name,
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
