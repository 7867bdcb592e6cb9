//! Sending of one shop: the state of its worker, the operator's pause, and the quarantine.

use super::cell::{Cell, TitledText};
use super::links::sku_path;
use super::page_context::PageContext;
use super::shop_health::{HealthLevel, ShopCondition};
use super::shop_row::state_text;
use super::texts::{self, Text};
use super::visible::visible;
use crate::migrator::{Mode, OPERATOR_PAUSE_REASON, QuarantinedSku, WorkerState, WorkerStatus};
use crate::ops::SendingReplica;

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
    /// `elsewhere` is the replica that sends, if it is not this process.
    pub(super) fn collect(
        worker: Option<&WorkerStatus>,
        elsewhere: Option<&SendingReplica>,
        (can_be_paused, mode): (bool, Mode),
        context: PageContext,
    ) -> Self {
        use HealthLevel::{Attention, Good, Trouble, Waiting};
        let language = context.language;
        let panel = |(text, severity): (String, HealthLevel)| Self {
            state: Cell::new("sending-state", text).with_severity(severity),
            next_try: Cell::new("next-try", ""),
            reason: String::new(),
            is_paused: false,
            can_be_paused: false,
            effect: Cell::new("effect", ""),
        };
        let Some(worker) = worker else {
            // The Market is not called: by the setting, or because the store is foreign.
            let condition = match mode {
                Mode::Off => ShopCondition::Off,
                Mode::DryRun | Mode::On => ShopCondition::NotSending,
            };
            return panel((texts::condition(condition, language), condition.severity()));
        };
        let waiting = worker.unacknowledged_skus() as u64;
        let fixed = |text: Text, severity| (context.text(text).to_owned(), severity);
        let state = match (worker.paused_since, worker.state) {
            (Some(since), _) if mode == Mode::On => {
                let through = worker.paused_through.as_deref();
                let text = texts::paused_since(&context.full(since), through, language);
                (text, Attention)
            }
            _ if elsewhere.is_some() => {
                let condition = ShopCondition::SentElsewhere;
                let text = state_text(condition, elsewhere, language);
                (text, condition.severity())
            }
            (_, WorkerState::Sending) => (texts::sending_now(waiting, language), Waiting),
            (_, WorkerState::Waiting) => fixed(Text::WORKER_WAITING, Waiting),
            (_, WorkerState::Paused) => fixed(Text::WORKER_PAUSED, Trouble),
            (_, WorkerState::DryRun) => fixed(Text::WORKER_DRY_RUN, Attention),
            (_, WorkerState::Idle) => fixed(Text::WORKER_IDLE, Good),
        };
        let next_try = worker.next_try.map_or_else(String::new, |at| {
            let moment = context.future(at);
            texts::next_try(&moment.text, &moment.title, language)
        });
        let reason = worker.reason.as_deref();
        let reason = reason
            .filter(|reason| *reason != OPERATOR_PAUSE_REASON)
            .filter(|_| elsewhere.is_none());
        let is_paused = worker.paused_since.is_some();
        let effect = if elsewhere.is_some() {
            texts::effect_elsewhere(is_paused, language).to_owned()
        } else if is_paused {
            texts::effect_of_resuming(waiting, language)
        } else {
            texts::effect_of_pausing(waiting, language)
        };
        Self {
            next_try: Cell::new("next-try", next_try),
            reason: visible(reason.unwrap_or_default()),
            is_paused,
            can_be_paused: can_be_paused || is_paused,
            effect: Cell::new("effect", effect),
            ..panel(state)
        }
    }

    pub(super) fn cells(&self) -> [&Cell; 3] {
        [&self.state, &self.next_try, &self.effect]
    }

    pub(super) fn structure(&self) -> String {
        format!("{} {} {}", self.is_paused, self.can_be_paused, self.reason)
    }
}

/// SKU that the Market rejects.
pub(super) struct QuarantineRow {
    pub(super) sku: String,
    pub(super) link: String,
    pub(super) count: String,
    pub(super) reason: TitledText,
    pub(super) since: TitledText,
    pub(super) attempts: String,
    pub(super) next: TitledText,
}

impl QuarantineRow {
    /// The reason is cut to so many characters.
    pub(super) fn new(
        entry: &QuarantinedSku,
        shop: &str,
        max_reason_chars: usize,
        context: PageContext,
    ) -> Self {
        Self {
            sku: visible(&entry.sku),
            link: sku_path(shop, &entry.sku),
            count: context.number(entry.count),
            reason: TitledText::cut(&entry.reason, max_reason_chars),
            since: context.past(Some(entry.since)),
            attempts: context.number(entry.attempts),
            next: context.future(entry.retry_at),
        }
    }
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
        let shown = all.iter().take(MAX_QUARANTINE_ROWS);
        let rest = (all.len() - shown.len()) as u64;
        let (id, count) = ("quarantined", all.len() as u64);
        Self {
            count: Cell::count(id, count, HealthLevel::Attention, context.language),
            rows: shown
                .map(|entry| QuarantineRow::new(entry, shop, MAX_REASON_CHARS, context))
                .collect(),
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
