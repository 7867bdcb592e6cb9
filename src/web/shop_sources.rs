//! Sources of one shop: state, last delivery and next poll.

use stock::ShopId;

use super::overview::Cell;
use super::page_context::{Moment, PageContext};
use super::source_card::{is_unused, source_severity};
use super::texts::{self, Text};
use super::visible::{cut, visible};
use crate::ops::OpsState;
use crate::sources::SourceState;

/// Most characters of a reason in the table.
const MAX_REASON_CHARS: usize = 160;

/// Source in the table.
pub(super) struct SourceRow {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// Address of the source on the screen of all sources.
    pub(super) link: String,
    pub(super) state: Cell,
    pub(super) last: Moment,
    /// Counts of the last delivery; empty without one.
    pub(super) counts: String,
    pub(super) next: Cell,
    /// Reason of a failure or of a hold, in English.
    pub(super) reason: String,
    pub(super) reason_title: String,
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
        let shop = pipeline.shop_name();
        let mut rows = Vec::new();
        for (index, config) in state.source_manager.configs(id).enumerate() {
            let status = pipeline.status(index);
            let source_state = status.state();
            if is_unused(&config.kind, &status) {
                continue;
            }
            let rows_so_far = status.reading_since.map(|_| status.rows_read);
            let name = &config.policy.name;
            let next_poll = status.next_poll_at;
            let sends_itself = config.kind.is_passive();
            let next = match next_poll {
                Some(at) => context.future(at).text,
                None if sends_itself => context.text(Text::SourceSendsItself).to_owned(),
                None => context.text(Text::SourcePolledNow).to_owned(),
            };
            let mut state_cell = Cell::new(
                format!("source-{name}-state"),
                texts::source_state(source_state, rows_so_far, context.language),
            );
            state_cell.severity = Some(source_severity(source_state));
            let failure = status.last_failure.as_ref().map(|(_, text)| text.as_str());
            let held = status.held.last().map(|held| held.reason.as_str());
            let reason = visible(failure.or(held).unwrap_or_default());
            let short = cut(&reason, MAX_REASON_CHARS);
            let changes = status.last_report.as_ref().map(|report| report.changes);
            rows.push(Self {
                name: name.clone(),
                kind: config.kind.name(),
                link: format!("/sources#{shop}-{name}"),
                state: state_cell,
                last: context.past(status.last_report_at),
                counts: status.last_report.as_ref().zip(changes).map_or(
                    String::new(),
                    |(report, changes)| {
                        let changed = changes.new + changes.changed;
                        texts::delivery_counts(report.rows, changed, context.language)
                    },
                ),
                next: Cell::new(format!("source-{name}-next"), next),
                reason_title: if short == reason {
                    String::new()
                } else {
                    reason
                },
                reason: short,
                is_held: source_state == SourceState::Held,
                read_path: if sends_itself {
                    String::new()
                } else {
                    format!("/shops/{shop}/sources/{name}/read")
                },
            });
        }
        rows
    }

    pub(super) fn structure(&self) -> String {
        format!("{} {} {}", self.name, self.reason, self.last.title)
    }
}
