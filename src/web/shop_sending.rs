//! Sending of one shop: the state of its worker, the operator's pause, and the quarantine.

use super::links::sku_path;
use super::overview::Cell;
use super::page_context::{Moment, PageContext};
use super::shop_health::{HealthLevel, ShopCondition};
use super::texts::{self, Text};
use super::visible::{cut, visible};
use crate::migrator::{Mode, OPERATOR_PAUSE_REASON, QuarantinedSku, WorkerState, WorkerStatus};

/// Most rows of the quarantine.
const MAX_QUARANTINE_ROWS: usize = 100;

/// Most characters of a reason in a table. The page of the SKU has the whole reason.
const MAX_REASON_CHARS: usize = 160;

/// State of the sending.
pub(super) struct SendingPanel {
    pub(super) state: Cell,
    /// Time of the next try; an empty text without a pause.
    pub(super) next_try: Cell,
    /// Reason of a pause by the Market's responses, in English.
    pub(super) reason: String,
    pub(super) is_paused: bool,
    pub(super) can_be_paused: bool,
    /// Sentence before the button: the effect of pausing or resuming.
    pub(super) effect: Cell,
}

impl SendingPanel {
    pub(super) fn collect(
        worker: Option<&WorkerStatus>,
        can_be_paused: bool,
        mode: Mode,
        context: PageContext,
    ) -> Self {
        let language = context.language;
        let Some(worker) = worker else {
            // The Market is not called: by the setting, or because the store is foreign.
            let condition = match mode {
                Mode::Off => ShopCondition::Off,
                Mode::DryRun | Mode::On => ShopCondition::NotSending,
            };
            let text = texts::condition(condition, language);
            let mut state = Cell::new("sending-state".to_owned(), text);
            state.severity = Some(condition.severity());
            return Self {
                state,
                next_try: Cell::new("next-try".to_owned(), String::new()),
                reason: String::new(),
                is_paused: false,
                can_be_paused: false,
                effect: Cell::new("effect".to_owned(), String::new()),
            };
        };
        let waiting = worker.unacknowledged_skus() as u64;
        let (text, severity) = match (worker.paused_since, worker.state) {
            (Some(since), _) if mode == Mode::On => (
                texts::paused_since(&context.full(since), language),
                HealthLevel::Attention,
            ),
            (_, WorkerState::Sending) => {
                (texts::sending_now(waiting, language), HealthLevel::Waiting)
            }
            (_, WorkerState::Waiting) => (
                context.text(Text::WorkerWaiting).to_owned(),
                HealthLevel::Waiting,
            ),
            (_, WorkerState::Paused) => (
                context.text(Text::WorkerPaused).to_owned(),
                HealthLevel::Trouble,
            ),
            (_, WorkerState::DryRun) => (
                context.text(Text::WorkerDryRun).to_owned(),
                HealthLevel::Attention,
            ),
            (_, WorkerState::Idle) => {
                (context.text(Text::WorkerIdle).to_owned(), HealthLevel::Good)
            }
        };
        let mut state = Cell::new("sending-state".to_owned(), text);
        state.severity = Some(severity);
        let next_try = worker.next_try.map(|at| context.future(at));
        let next_text = |moment: Moment| texts::next_try(&moment.text, &moment.title, language);
        let reason = worker.reason.as_deref().unwrap_or_default();
        let is_paused = worker.paused_since.is_some();
        let effect = if is_paused {
            texts::effect_of_resuming(waiting, language)
        } else {
            texts::effect_of_pausing(waiting, language)
        };
        Self {
            state,
            next_try: Cell::new(
                "next-try".to_owned(),
                next_try.map_or(String::new(), next_text),
            ),
            reason: match reason {
                OPERATOR_PAUSE_REASON => String::new(),
                reason => visible(reason),
            },
            is_paused,
            can_be_paused: can_be_paused || is_paused,
            effect: Cell::new("effect".to_owned(), effect),
        }
    }

    pub(super) fn cells(&self) -> [&Cell; 3] {
        [&self.state, &self.next_try, &self.effect]
    }

    pub(super) fn structure(&self) -> String {
        format!("{} {} {}", self.is_paused, self.can_be_paused, self.reason)
    }
}

/// SKU in the table of the quarantine.
pub(super) struct QuarantineRow {
    pub(super) sku: String,
    pub(super) link: String,
    pub(super) count: String,
    pub(super) reason: String,
    /// Whole reason, if it is cut.
    pub(super) reason_title: String,
    pub(super) since: Moment,
    pub(super) attempts: String,
    pub(super) next: Moment,
}

/// SKUs that the Market rejects.
pub(super) struct QuarantinePanel {
    pub(super) count: Cell,
    pub(super) rows: Vec<QuarantineRow>,
    /// Sentence about the rows that are not shown; empty if all are.
    pub(super) rest: String,
}

impl QuarantinePanel {
    pub(super) fn collect(worker: Option<&WorkerStatus>, shop: &str, context: PageContext) -> Self {
        let all = worker.map_or(&[] as &[QuarantinedSku], |worker| &worker.quarantined);
        let row = |entry: &QuarantinedSku| {
            let reason = visible(&entry.reason);
            let short = cut(&reason, MAX_REASON_CHARS);
            QuarantineRow {
                sku: visible(&entry.sku),
                link: sku_path(shop, &entry.sku),
                count: context.number(entry.count.into()),
                reason_title: if short == reason {
                    String::new()
                } else {
                    reason
                },
                reason: short,
                since: context.past(Some(entry.since)),
                attempts: context.number(entry.attempts.into()),
                next: context.future(entry.retry_at),
            }
        };
        let rest = all.len().saturating_sub(MAX_QUARANTINE_ROWS) as u64;
        let mut count = Cell::new("quarantined".to_owned(), context.number(all.len() as u64));
        count.severity = Some(HealthLevel::Attention).filter(|_| !all.is_empty());
        Self {
            count,
            rows: all.iter().take(MAX_QUARANTINE_ROWS).map(row).collect(),
            rest: if rest > 0 {
                texts::more_rows(rest, context.language)
            } else {
                String::new()
            },
        }
    }

    /// The number of rows is not part of the structure: with many rejections a second, the page
    /// would be loaded again every second.
    pub(super) fn structure(&self) -> String {
        self.rows.is_empty().to_string()
    }
}
