//! What the answer to a batch changes.

use std::collections::HashSet;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Batch, Group, Keep, Landed, Now, Plan, SHRUNK_FOR, SUSPECTS_UNTIL_SYSTEMIC, Suspect};
use crate::history;
use crate::history::What;
use crate::migrator::verdict::{Verdict, named, words};
use crate::partner::wire::ApiError;
use crate::stock::Sku;
use crate::telemetry::AlarmKind;

impl Plan {
    /// A request ended. Returns what has to be made durable.
    ///
    /// If the Market accepted it, the ledger has it already.
    pub fn land(&mut self, landed: Landed, now: Now) -> Vec<Keep> {
        let Landed { batch, verdict, rate, date, trace, at } = landed;
        self.note_clock(date, at.wall);
        self.remember(&batch, &verdict, trace.as_deref(), at);
        let at = at.mono;
        self.in_flight -= 1;
        self.in_flight_skus -= batch.items.len();
        self.around.purse.end(batch.items.len(), &rate, at);
        self.around.metrics.note(&self.target.name, &verdict, batch.items.len());
        self.report.requests += 1;
        if verdict != Verdict::Accept {
            self.log_trouble(&batch, &verdict, trace.as_deref());
        }
        match verdict {
            Verdict::Shrink if batch.items.len() == 1 => {
                // Smaller it cannot be: whoever says so does not mean the batch.
                self.standing.failed(at, "a single SKU is too large", &mut self.dice);
                self.return_batch(batch, now);
            }
            Verdict::Accept => self.accepted(batch, at, now),
            Verdict::Refuse { errors } => self.refused(batch, &errors, at, now),
            Verdict::Shrink => {
                self.standing.heard();
                self.max_skus = (batch.items.len() / 2).max(1);
                self.grow_at = Some(at + SHRUNK_FOR);
                self.halve(batch, at);
            }
            Verdict::Thin => {
                self.standing.thinned(at, &mut self.dice);
                self.return_batch(batch, now);
            }
            Verdict::Limit { wait } => {
                self.standing.limited(at, wait);
                self.return_batch(batch, now);
            }
            Verdict::Retry { reason } => {
                self.standing.failed(at, &reason, &mut self.dice);
                self.return_batch(batch, now);
            }
            Verdict::Deny { reason } => {
                if !self.standing.denied(at, batch.key, &reason) {
                    self.alarm_pause(&reason);
                }
                self.return_batch(batch, now);
            }
            Verdict::Close { reason } => {
                self.standing.closed(at, &reason);
                self.alarm_pause(&reason);
                self.return_batch(batch, now);
            }
        }
        std::mem::take(&mut self.keep)
    }

    fn remember(&self, batch: &Batch, verdict: &Verdict, trace: Option<&str>, at: Now) {
        let ended = history::Batch {
            number: 0,
            at: at.wall,
            took: at.mono - batch.began,
            skus: batch.items.len(),
            verdict: verdict.name(),
            words: verdict.to_string(),
            trace: trace.map(ToOwned::to_owned),
        };
        let items = batch.items.iter().map(|item| (item.id, item.level));
        self.around.history.answered(self.target.shop, ended, items);
    }

    fn accepted(&mut self, batch: Batch, at: Instant, now: Now) {
        self.accepted_at = Some(at);
        self.report.acknowledged += batch.items.len() as u64;
        self.report.last_acknowledged = Some(now.wall);
        if self.standing.accepted() {
            info!(shop = self.target.name, "the Market takes stock again");
        }
        for alarm in
            [AlarmKind::BatchRefused, AlarmKind::CampaignPaused, AlarmKind::NothingAcknowledged]
        {
            self.around.alarms.clear(alarm, &self.target.name);
        }
        self.unproven.clear();
        // A batch went through: those refused by themselves are to blame themselves.
        self.condemn_suspects(now);
        for item in batch.items {
            self.release(&item.sku, now);
            // Changed while it was under way? Then it goes again.
            self.come_back(&item.sku, now.micros(), now);
        }
    }

    /// Something in the batch is wrong. What the Market names is set apart; if it names
    /// nothing, halves will tell.
    fn refused(&mut self, batch: Batch, errors: &[ApiError], at: Instant, now: Now) {
        self.standing.heard();
        let refused_at = batch.refused_at.unwrap_or(at);
        if let [item] = batch.items.as_slice() {
            let suspect =
                Suspect { sku: item.sku.clone(), level: item.level, reason: words(errors) };
            self.suspect(suspect, refused_at, at, now);
            return;
        }
        let named: HashSet<Sku> =
            named(errors, batch.items.iter().map(|item| &item.sku)).into_iter().collect();
        if named.is_empty() {
            self.halve(batch, at);
            return;
        }
        let (apart, others): (Vec<_>, Vec<_>) = batch
            .items
            .into_iter()
            .map(|item| (item.sku, item.age))
            .partition(|(sku, _)| named.contains(sku));
        for skus in apart.into_iter().map(|one| vec![one]).rev() {
            self.groups.push_front(Group { skus, refused_at });
        }
        if !others.is_empty() {
            self.groups.push_front(Group { skus: others, refused_at });
        }
    }

    fn halve(&mut self, batch: Batch, at: Instant) {
        let refused_at = batch.refused_at.unwrap_or(at);
        let mut first: Vec<_> = batch.items.into_iter().map(|item| (item.sku, item.age)).collect();
        let second = first.split_off(first.len() / 2);
        for skus in [second, first] {
            if !skus.is_empty() {
                self.groups.push_front(Group { skus, refused_at });
            }
        }
    }

    /// One SKU was refused by itself. Is it the SKU, or is everything refused?
    fn suspect(&mut self, suspect: Suspect, refused_at: Instant, at: Instant, now: Now) {
        self.suspects.push(suspect);
        self.evidence_sought = false;
        if self.accepted_at.is_some_and(|accepted| accepted >= refused_at) {
            self.condemn_suspects(now);
        } else if self.suspects.len() + self.unproven.len() >= SUSPECTS_UNTIL_SYSTEMIC {
            self.acquit_suspects(at, now);
        }
    }

    /// Batch after batch is refused: nothing is set aside, everything waits, others go first.
    fn acquit_suspects(&mut self, at: Instant, now: Now) {
        let reason = self.suspects.last().map(|s| s.reason.clone()).unwrap_or_default();
        for sku in std::mem::take(&mut self.unproven) {
            self.release(&sku, now);
            self.come_back(&sku, now.micros(), now);
        }
        let suspects = std::mem::take(&mut self.suspects).into_iter().map(|s| s.sku);
        let groups = std::mem::take(&mut self.groups);
        let grouped = groups.into_iter().flat_map(|group| group.skus).map(|(sku, _)| sku);
        for sku in suspects.chain(grouped).collect::<Vec<_>>() {
            self.come_back(&sku, now.micros(), now);
        }
        self.standing.batches_refused(at, &reason);
        let text = format!(
            "the Market refuses every batch of {}, not single SKUs: {reason}",
            self.target.name
        );
        self.around.alarms.raise(AlarmKind::BatchRefused, &self.target.name, text);
    }

    /// If nobody is left to be sent, nobody is left to tell whether all are refused: then it
    /// is the suspects themselves.
    pub(super) fn settle_suspects(&mut self, now: Now) {
        if self.in_flight == 0 && self.groups.is_empty() && self.backlog.is_empty() {
            self.unproven.extend(self.suspects.iter().map(|suspect| suspect.sku.clone()));
            self.condemn_suspects(now);
        }
    }

    fn condemn_suspects(&mut self, now: Now) {
        if self.suspects.is_empty() {
            return;
        }
        for Suspect { sku, level, reason } in std::mem::take(&mut self.suspects) {
            warn!(
                shop = self.target.name,
                sku = sku.as_str(),
                "the Market refuses this SKU, it is set aside: {reason}"
            );
            self.note_event(&sku, What::SetAside, now);
            let row = self.quarantine.add(&sku, level, reason, now.wall).clone();
            self.keep.push(Keep::Quarantined(row));
            // Perhaps the shop has changed its count meanwhile.
            self.come_back(&sku, now.micros(), now);
        }
        self.note_quarantine();
    }

    /// What has to be made durable besides what [`Plan::land`] returned.
    pub fn take_keep(&mut self) -> Vec<Keep> {
        std::mem::take(&mut self.keep)
    }

    pub(super) fn return_batch(&mut self, batch: Batch, now: Now) {
        let skus = batch.items.into_iter().map(|item| (item.sku, item.age)).collect();
        self.put_back(skus, batch.refused_at, now);
    }
}
