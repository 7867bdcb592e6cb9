//! Choice of the next batch: source, key, size, dates and body.

use market_api::partner::wire::{MarketAddress, UpdateBody};
use stock::{Level, Sku};

use super::rejection_search::BatchOrigin;
use super::turns::{BatchSource, WaitingSources};
use super::update_batch::{BatchItem, UpdateBatch};
use super::{Now, Planner, PlannerDeps};
use crate::migrator::ledger::is_due;
use crate::migrator::queue::{WaitingSince, clamp_to_window};

/// Largest request body, in bytes. Below the Market's limit of 512 KB for either meaning of KB.
const MAX_BODY_BYTES: usize = 500_000;

/// SKUs for the next batch, and the group from which they were taken.
struct Candidates {
    skus: Vec<(Sku, WaitingSince)>,
    origin: Option<BatchOrigin>,
    // Number of SKUs for which the rate limiter has reserved capacity.
    reserved: usize,
}

impl Planner {
    /// Returns the next batch and its body, if a request may be sent now.
    ///
    /// The caller must pass its outcome to [`Planner::on_response`] in every case.
    pub fn next_batch(&mut self, now: Now) -> Option<(UpdateBatch, Vec<u8>)> {
        if self.paused_since.is_some() {
            return None;
        }
        self.batch_size.restore(now.monotonic);
        if self.in_flight.requests() >= self.policy.allowed_parallel(now.monotonic) {
            return None;
        }
        if self.next_source().1 > 0 && !self.has_usable_key(now) {
            return None;
        }
        loop {
            let Some(candidates) = self.take_candidates(now) else {
                if self.resolve_pending_rejections(now) {
                    continue;
                }
                return None;
            };
            if let Some(batch) = self.build_batch(candidates, now) {
                return Some(batch);
            }
        }
    }

    /// Selects a key that is not blocked. Returns false, and pauses, if all keys are blocked
    /// because a worker found them rejected.
    fn has_usable_key(&mut self, now: Now) -> bool {
        let target_keys = &self.target.keys;
        let current = self.policy.key_index();
        let order = (current..target_keys.len()).chain(0..current);
        let waits: Vec<_> = order
            .map(|key_index| {
                (
                    key_index,
                    self.deps
                        .rejected_keys
                        .blocked_until(&target_keys[key_index], now.monotonic),
                )
            })
            .collect();
        if let Some((key_index, _)) = waits.iter().find(|(_, wait)| wait.is_none()) {
            self.policy.use_key(*key_index);
            return true;
        }
        if let Some(until) = waits.iter().filter_map(|(_, wait)| *wait).min() {
            let reason = "the Market rejects the Api-Key";
            self.policy.wait_for_key(until, reason);
            self.raise_paused_alarm(reason);
        }
        waits.is_empty()
    }

    fn take_candidates(&mut self, now: Now) -> Option<Candidates> {
        let (source, wanted) = self.next_source();
        // Reserved at once, because another worker with the same limiter may do the same.
        if wanted == 0 || !self.deps.limiter.try_begin_request(wanted, now.monotonic) {
            return None;
        }
        self.turns.on_taken(source);
        let skus = match source {
            BatchSource::Group(index) => {
                let (skus, origin) = self.rejection_search.take_group(index, wanted)?;
                return Some(Candidates {
                    skus,
                    origin: Some(origin),
                    reserved: wanted,
                });
            }
            _ if self.rejection_search.is_systemic() => self.queue.take_newest(wanted),
            BatchSource::Zeros => self.queue.take_zeros(wanted),
            BatchSource::Queue if self.sends_zeros_apart() => self.queue.take_others(wanted),
            BatchSource::Queue => self.queue.take(wanted),
        };
        self.busy.extend(skus.iter().map(|(sku, _)| sku.clone()));
        Some(Candidates {
            skus,
            origin: None,
            reserved: wanted,
        })
    }

    /// Returns true if zeros are sent in batches of their own. Where requests are limited, a
    /// rejected SKU in the same batch would delay them by many requests.
    fn sends_zeros_apart(&self) -> bool {
        matches!(self.target.address, MarketAddress::Business { .. })
    }

    /// Returns the source of the next batch, and its number of SKUs.
    pub(super) fn next_source(&self) -> (BatchSource, usize) {
        let search = &self.rejection_search;
        let zeros = if self.sends_zeros_apart() {
            self.queue.zero_count()
        } else {
            0
        };
        let others = self.queue.len() - zeros;
        let group = search.next_group();
        let source = self.turns.next(WaitingSources {
            zeros,
            others,
            group: group.map(|(index, _)| index),
            has_pending_rejections: search.has_pending_rejections(),
            is_systemic: search.is_systemic(),
        });
        let max_queued = self.batch_size.max_queued();
        let skus = match source {
            BatchSource::Zeros => zeros.min(max_queued),
            BatchSource::Queue => others.min(max_queued),
            BatchSource::Group(_) => group.map_or(0, |(_, skus)| skus),
        };
        let max_skus = if search.wants_probe() {
            1
        } else {
            self.batch_size.max().min(self.deps.limiter.max_skus())
        };
        (source, skus.min(max_skus))
    }

    /// Builds a batch and its body from the current levels of the candidates that are still due.
    fn build_batch(&mut self, candidates: Candidates, now: Now) -> Option<(UpdateBatch, Vec<u8>)> {
        let Candidates {
            skus,
            mut origin,
            reserved,
        } = candidates;
        let PlannerDeps { book, ledger, .. } = &self.deps;
        let shop = self.target.shop;
        let mut body = UpdateBody::new(MAX_BODY_BYTES, &self.target.address);
        let mut items = Vec::with_capacity(skus.len());
        let mut candidates = skus.into_iter();
        let mut remaining = Vec::new();
        for (sku, since) in candidates.by_ref() {
            let entry = book.get(shop, sku.as_str());
            let due_entry =
                entry.filter(|entry| is_due(entry.level(), ledger.get(shop, entry.id())));
            let Some(entry) = due_entry else {
                self.busy.remove(&sku);
                continue;
            };
            let level = entry.level();
            let clamped = clamp_to_window(level.updated_at, now.wall - self.clock_skew.estimate());
            // The Market may ignore an update with an older date than it has.
            let last_sent = ledger.sent_date(shop, entry.id()).or_else(|| {
                ledger
                    .sent_date_before_restart(shop, entry.id())
                    .filter(|_| self.trusts_earlier_dates)
            });
            let updated_at = last_sent.map_or(clamped, |last_sent| clamped.max(last_sent));
            if !body.push(
                &sku,
                Level {
                    updated_at,
                    ..level
                },
            ) {
                remaining.push((sku, since));
                break;
            }
            let (date, is_date_raised) = (updated_at, updated_at > clamped);
            items.push(BatchItem {
                sku,
                id: entry.id(),
                level,
                since,
                date,
                is_date_raised,
            });
        }
        remaining.extend(candidates);
        let bytes = body.finish();
        if let Some(origin) = origin.as_mut().filter(|_| !remaining.is_empty()) {
            // Only part of the half is sent, so its acceptance would not prove that the other half
            // is at fault.
            origin.pair = None;
        }
        self.return_to_queue(remaining, origin, now);
        self.deps.limiter.refund(reserved, items.len());
        if items.is_empty() {
            return None;
        }
        self.in_flight.begin_batch(items.len());
        let key_index = self.policy.key_index();
        self.requests_sent += 1;
        self.deps
            .rejected_keys
            .on_request(&self.target.keys[key_index], now.monotonic);
        Some((
            UpdateBatch {
                items,
                origin,
                number: self.requests_sent,
                key_index,
                sent_at: now.monotonic,
            },
            bytes,
        ))
    }

    pub(super) fn return_to_queue(
        &mut self,
        skus: Vec<(Sku, WaitingSince)>,
        origin: Option<BatchOrigin>,
        now: Now,
    ) {
        match origin {
            _ if skus.is_empty() => {}
            Some(origin) => self.rejection_search.return_group(skus, origin),
            None => skus
                .iter()
                .for_each(|(sku, since)| self.requeue(sku, *since, now)),
        }
    }
}
