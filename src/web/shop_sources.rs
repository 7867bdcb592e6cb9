//! Sources of one shop: state, last delivery and next poll.

use stock::ShopId;

use super::cell::{Cell, TitledText};
use super::page_context::PageContext;
use super::source_card::{is_unused, state_cell};
use super::texts::{self, Text};
use crate::ops::OpsState;
use crate::sources::{Config, SourceState, SourceStatus};

/// Most characters of a reason in the table.
const MAX_REASON_CHARS: usize = 160;

/// Source in the table.
pub(super) struct SourceRow {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// Address of the source on the screen of all sources.
    pub(super) link: String,
    pub(super) state: Cell,
    pub(super) last: TitledText,
    /// Counts of the last delivery; empty without one.
    pub(super) counts: String,
    pub(super) next: Cell,
    /// Reason of a failure or of a hold, in English.
    pub(super) reason: TitledText,
    pub(super) is_held: bool,
    /// Path of the form that polls the source; empty if it sends its data by itself.
    pub(super) read_path: String,
}

impl SourceRow {
    /// Returns the sources of a shop, without the one of imports until its first import.
    pub(super) fn collect_all(state: &OpsState, id: ShopId, context: PageContext) -> Vec<Self> {
        let Some(pipeline) = state.source_manager.pipeline(id) else {
            return Vec::new();
        };
        let configs = state.source_manager.configs(id).enumerate();
        let rows = configs.filter_map(|(index, config)| {
            let status = pipeline.status(index);
            (!is_unused(&config.kind, &status))
                .then(|| Self::new(pipeline.shop_name(), config, &status, context))
        });
        rows.collect()
    }

    fn new(shop: &str, config: &Config, status: &SourceStatus, context: PageContext) -> Self {
        let name = &config.policy.name;
        let sends_itself = config.kind.is_passive();
        let next = match status.next_poll_at {
            Some(at) => context.future(at).text,
            None if sends_itself => context.text(Text::SOURCE_SENDS_ITSELF).to_owned(),
            None => context.text(Text::SOURCE_POLLED_NOW).to_owned(),
        };
        let failure = status.last_failure.as_ref().map(|(_, text)| text.as_str());
        let held = status.held.last().map(|held| held.reason.as_str());
        let report = status.last_report.as_ref();
        Self {
            name: name.clone(),
            kind: config.kind.name(),
            link: format!("/sources#{shop}-{name}"),
            state: state_cell(format!("source-{name}-state"), status, context),
            last: context.past(status.last_report_at),
            counts: report.map_or_else(String::new, |report| {
                let changed = report.changes.new + report.changes.changed;
                texts::delivery_counts(report.rows, changed, context.language)
            }),
            next: Cell::new(format!("source-{name}-next"), next),
            reason: TitledText::cut(failure.or(held).unwrap_or_default(), MAX_REASON_CHARS),
            is_held: status.state() == SourceState::Held,
            read_path: if sends_itself {
                String::new()
            } else {
                format!("/shops/{shop}/sources/{name}/read")
            },
        }
    }

    pub(super) fn structure(&self) -> String {
        format!("{} {} {}", self.name, self.reason.text, self.last.title)
    }
}
