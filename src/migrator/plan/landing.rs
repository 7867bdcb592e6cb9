//! What the answer to a batch changes.

use std::collections::HashSet;

use tokio::time::Instant;
use tracing::{info, warn};

use super::isolate::{SUSPECTS_UNTIL_SYSTEMIC, Suspect};
use super::{Batch, Keep, Landed, Now, Plan, SHRUNK_FOR, most_skus};
use crate::history;
use crate::history::What;
use crate::migrator::quarantine::Proof;
use crate::migrator::verdict::{Verdict, are_about_dates, named, words};
use crate::partner::wire::ApiError;
use crate::stock::Sku;
use crate::telemetry::AlarmKind;

/// Fewest SKUs of the backlog in one request, however many such requests are rejected.
const FEWEST_FRESH_SKUS: usize = 50;

impl Plan {
    /// A request ended. Returns what has to be made durable.
    ///
    /// If the Market accepted it, the ledger has it already.
    pub fn land(&mut self, landed: Landed, now: Now) -> Vec<Keep> {
        let Landed {
            batch,
            verdict,
            rate,
            skew,
            trace,
            is_answered,
            at,
        } = landed;
        self.is_unanswered |= !is_answered;
        skew.into_iter()
            .for_each(|range| self.skew.note(range, at.wall));
        self.note_dates(&batch, &verdict);
        self.remember(&batch, &verdict, trace.as_deref(), at);
        let at = at.mono;
        self.in_flight -= 1;
        self.in_flight_skus -= batch.items.len();
        self.around.purse.end(batch.items.len(), &rate, at);
        if is_answered && !matches!(verdict, Verdict::Deny { .. }) {
            self.around.keys.accept(&self.target.keys[batch.key]);
        }
        self.around
            .metrics
            .note(&self.target.name, &verdict, batch.items.len());
        self.report.requests += 1;
        if verdict != Verdict::Accept {
            self.log_trouble(&batch, &verdict, trace.as_deref());
        }
        match verdict {
            Verdict::Shrink if batch.items.len() == 1 => {
                // Smaller it cannot be: whoever says so does not mean the batch.
                self.standing
                    .failed(at, "a single SKU is too large", &mut self.dice);
                self.return_batch(batch, now);
            }
            Verdict::Accept => self.accepted(batch, now),
            Verdict::Refuse { errors } => self.refused(batch, &errors, at, now),
            Verdict::Shrink => {
                self.standing.heard();
                self.max_skus = (batch.items.len() / 2).max(1);
                self.grow_at = Some(at + SHRUNK_FOR);
                let is_zeros = batch.is_zeros();
                self.isolation.split_large(batch.into_skus(), is_zeros);
            }
            Verdict::Thin => {
                self.standing.thinned(at, &mut self.dice);
                self.return_batch(batch, now);
            }
            Verdict::Limit { wait } => {
                self.standing.limited(at, wait);
                let held = self.standing.held_until();
                let until =
                    held.map(|until| now.wall + (until.saturating_duration_since(now.mono)));
                self.keep.extend(until.map(Keep::LimitedUntil));
                self.return_batch(batch, now);
            }
            Verdict::Retry { reason } => {
                self.standing.failed(at, &reason, &mut self.dice);
                self.return_batch(batch, now);
            }
            Verdict::Deny {
                reason,
                is_unknown_key,
            } => {
                if is_unknown_key {
                    self.around.keys.refuse(&self.target.keys[batch.key], at);
                }
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

    /// Keeps the dates that the Market has, or may have.
    fn note_dates(&self, batch: &Batch, verdict: &Verdict) {
        match verdict {
            Verdict::Accept | Verdict::Retry { .. } => {
                let dates = batch.items.iter().map(|item| (item.id, item.date));
                self.around.ledger.note_dates(self.target.shop, dates);
            }
            Verdict::Close { .. }
            | Verdict::Deny { .. }
            | Verdict::Limit { .. }
            | Verdict::Refuse { .. }
            | Verdict::Shrink
            | Verdict::Thin => {}
        }
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

    fn accepted(&mut self, batch: Batch, now: Now) {
        self.report.acknowledged += batch.items.len() as u64;
        self.report.last_acknowledged = Some(now.wall);
        if self.standing.accepted() {
            info!(shop = self.target.name, "the Market takes stock again");
        }
        for alarm in [
            AlarmKind::BatchRefused,
            AlarmKind::CampaignPaused,
            AlarmKind::NothingAcknowledged,
        ] {
            self.around.alarms.clear(alarm, &self.target.name);
        }
        let skus: Vec<Sku> = batch.items.iter().map(|item| item.sku.clone()).collect();
        let proven = self.isolation.accepted(batch.number, batch.part, &skus);
        self.condemn(proven, Proof::Proven, now);
        if batch.part.is_none() && skus.len() * 2 >= self.fresh_skus {
            self.fresh_skus = (self.fresh_skus * 2).min(most_skus(&self.target.address));
        }
        for item in batch.items {
            self.release(&item.sku, now);
            // Changed while it was under way? Then it goes again.
            self.come_back(&item.sku, now.micros(), now);
        }
        // Set aside without a proof: whether they are at fault can be learned now.
        for sku in self.quarantine.try_unproven(now.wall) {
            if !self.away.contains(&sku) {
                let row = self.quarantine.get(&sku).map(|row| row.level.count);
                row.into_iter()
                    .for_each(|count| self.isolation.note_confirmed(&sku, count));
                self.enlist(&sku, now.micros(), now);
            }
        }
    }

    /// Something in the batch is wrong. What the Market names is set apart; if it names
    /// nothing, halves will tell.
    fn refused(&mut self, batch: Batch, errors: &[ApiError], at: Instant, now: Now) {
        self.standing.heard();
        if are_about_dates(errors) && self.redate(&batch, now) {
            return self.return_batch(batch, now);
        }
        self.isolation.rejected(batch.part);
        let named: HashSet<Sku> = named(errors, batch.items.iter().map(|item| &item.sku))
            .into_iter()
            .collect();
        if let [item] = batch.items.as_slice() {
            let (sku, level) = (item.sku.clone(), item.level);
            let is_proven = self.quarantine.is_proven(&sku, level)
                || self.isolation.is_proven(&sku, level.count);
            let is_named = named.contains(&sku);
            let is_aside = self.quarantine.has_count(&sku, level);
            let (reason, after) = (words(errors), self.sent + 1);
            let suspect = Suspect {
                sku,
                level,
                reason,
                after,
                is_named,
                is_aside,
            };
            if is_proven {
                return self.condemn(vec![suspect], Proof::Proven, now);
            }
            return self.suspect(suspect, at, now);
        }
        if self.isolation.is_systemic() {
            let reason = words(errors);
            self.return_batch(batch, now);
            return self.reject_all(&reason, at, now);
        }
        if named.is_empty() {
            if batch.part.is_none() {
                // Fewer SKUs at a time, until a request with as many is accepted.
                self.fresh_skus = (batch.items.len() / 4).max(FEWEST_FRESH_SKUS);
            }
            return self.split(batch);
        }
        let is_zeros = batch.is_zeros();
        for item in batch.items.iter().filter(|item| named.contains(&item.sku)) {
            self.isolation
                .note_evidence(&item.sku, item.level.count, self.sent + 1);
        }
        let (apart, others) = batch
            .into_skus()
            .into_iter()
            .partition(|(sku, _)| named.contains(sku));
        self.isolation.set_apart(apart, others, is_zeros);
    }

    /// Whether a batch whose dates were rejected would go out with others now.
    fn redate(&mut self, batch: &Batch, now: Now) -> bool {
        // What was sent before our clock was found wrong says nothing of the Market's.
        self.trusts_earlier_dates = false;
        let raised = || batch.items.iter().filter(|item| item.is_raised);
        let is_raised = raised().next().is_some();
        self.around
            .ledger
            .forget_dates(self.target.shop, raised().map(|item| item.id));
        self.skew.confirm(now.wall) || is_raised
    }

    fn split(&mut self, batch: Batch) {
        let is_zeros = batch.is_zeros();
        self.isolation.split(batch.into_skus(), is_zeros);
    }

    /// One SKU was refused by itself. Is it the SKU, or is everything refused?
    fn suspect(&mut self, suspect: Suspect, at: Instant, now: Now) {
        let is_aside = suspect.is_aside;
        let reason = suspect.reason.clone();
        let suspects = self.isolation.suspect(suspect) + self.quarantine.unproven();
        self.evidence_sought = false;
        let is_systemic = self.isolation.is_systemic() || suspects >= SUSPECTS_UNTIL_SYSTEMIC;
        if is_systemic && !is_aside {
            self.reject_all(&reason, at, now);
        }
    }

    /// The Market refuses batch after batch: nothing is set aside, and everything waits.
    fn reject_all(&mut self, reason: &str, at: Instant, now: Now) {
        self.fresh_skus = most_skus(&self.target.address);
        let unproven = self.quarantine.acquit();
        for sku in &unproven {
            self.release(sku, now);
        }
        for sku in self.isolation.give_up().into_iter().chain(unproven) {
            self.come_back(&sku, now.micros(), now);
        }
        self.standing.batches_refused(at, reason);
        let text = format!(
            "the Market refuses every batch of {}, not single SKUs: {reason}",
            self.target.name
        );
        self.around
            .alarms
            .raise(AlarmKind::BatchRefused, &self.target.name, text);
    }

    /// Nothing else is left to be sent, so nothing else can show whether the Market rejects
    /// everything. Returns whether there is something to send now.
    pub(super) fn settle_suspects(&mut self, now: Now) -> bool {
        if self.in_flight > 0 || !self.isolation.is_empty() || !self.backlog.is_empty() {
            return false;
        }
        if self.isolation.is_systemic() {
            self.isolation.probe_suspect();
            return !self.isolation.is_empty();
        }
        let (named, others) = self
            .isolation
            .settle()
            .into_iter()
            .partition(|s| s.is_named);
        self.condemn(named, Proof::Proven, now);
        self.condemn(others, Proof::Unproven, now);
        false
    }

    fn condemn(&mut self, suspects: Vec<Suspect>, proof: Proof, now: Now) {
        if suspects.is_empty() {
            return;
        }
        for Suspect {
            sku, level, reason, ..
        } in suspects
        {
            self.isolation.forget(&sku);
            let row = self
                .quarantine
                .add(&sku, level, reason, (now.wall, proof))
                .clone();
            warn!(
                shop = self.target.name,
                sku = sku.as_str(),
                "the Market refuses this SKU, it is set aside: {}",
                row.reason
            );
            self.note_event(&sku, What::SetAside, now);
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
        let part = batch.part;
        self.put_back(batch.into_skus(), part, now);
    }
}
