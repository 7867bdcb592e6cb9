//! Findings of a read-back pass: offers page by page, and at the end the SKUs that were on no page.
//!
//! Decides which SKUs are sent again, and collects counts, examples and the dry-run estimate.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use market_api::partner::readback_page::ReadbackOffer;
use market_api::partner::wire::{MarketAddress, SKUS_PER_MINUTE, UPDATES_PER_MINUTE};
use stock::{BookEntry, Count, Sku, SkuId};

use super::classify::Expected;
use super::observed::{Observed, PassId};
use super::{DryRunEstimate, MatchClass, ReadbackContext, ReadbackExample, ReadbackReport};
use crate::history::EventKind;
use crate::migrator::Mode;
use crate::migrator::planner::max_skus_per_request;
use crate::migrator::rescan::is_stated_since;
use crate::store::Acked;

/// Largest number of examples per class.
const MAX_EXAMPLES: usize = 20;

/// Largest number of SKUs that one pass marks to be sent again or queries by SKU.
const MAX_RESENT_SKUS: usize = 50_000;

/// Interval at which a SKU that the Market does not know is sent again.
const RESEND_INTERVAL: TimeDelta = TimeDelta::hours(24);

/// Findings of a pass so far.
pub(super) struct PassStats {
    pub(super) context: ReadbackContext,
    pub(super) pass: PassId,
    pub(super) not_ours: u64,
    dry_run: DryRunEstimate,
    examples: Vec<ReadbackExample>,
    examples_by_class: BTreeMap<MatchClass, usize>,
    // Lost SKUs that were not taken yet.
    lost: Vec<Sku>,
    lost_count: usize,
}

impl PassStats {
    pub(super) fn new(context: ReadbackContext, pass: PassId) -> Self {
        Self {
            context,
            pass,
            not_ours: 0,
            dry_run: DryRunEstimate::default(),
            examples: Vec::new(),
            examples_by_class: BTreeMap::new(),
            lost: Vec::new(),
            lost_count: 0,
        }
    }

    /// Classifies one offer and records the result. Returns false if the book has no such SKU.
    pub(super) fn record_offer(
        &mut self,
        offer: &ReadbackOffer,
        max_clock_skew: TimeDelta,
        now: DateTime<Utc>,
    ) -> bool {
        let (context, shop) = (&self.context, self.context.target.shop);
        let Some(entry) = context.data.book.get(shop, Sku::trim(&offer.sku)) else {
            if let Ok(sku) = Sku::parse(&offer.sku) {
                context.data.observations.record_unknown(shop, sku);
            }
            self.add_example(&offer.sku, MatchClass::NotOurs, None, Some(offer));
            return false;
        };
        let id = entry.id();
        let acked = context.data.ledger.get(shop, id);
        let expected = context.expected(entry, acked, max_clock_skew);
        let class = expected.classify(offer, now);
        context.data.observations.with(shop, |per_sku| {
            // If several warehouses share the stock, the worst class counts.
            let previous = per_sku.get(id).class_in(self.pass);
            if previous.is_none_or(|previous| previous < class) {
                per_sku.set(id, Observed::new(offer.available, now, self.pass, class));
            }
        });
        if class == MatchClass::Equal {
            return true;
        }
        let shown = i64::try_from(offer.available).ok();
        let shown = shown.and_then(|available| Count::try_from(available).ok());
        let count = shown.unwrap_or(entry.level().count);
        let kind = EventKind::Readback(class.number());
        context
            .data
            .history
            .record(shop, now, kind, std::iter::once((id, count)));
        let is_lost = class == MatchClass::Drifted && !expected.is_dry_run && {
            let is_stated_since = |at| is_stated_since(&context.data.activity, shop, id, at, now);
            acked.acked_at().is_some_and(is_stated_since) || expected.is_provably_lost(offer)
        };
        self.add_example(Sku::trim(&offer.sku), class, Some(expected), Some(offer));
        if is_lost && let Ok(sku) = Sku::parse(&offer.sku) {
            self.mark_lost(sku, id, acked);
        }
        true
    }

    fn add_example(
        &mut self,
        sku: &str,
        class: MatchClass,
        expected: Option<Expected>,
        offer: Option<&ReadbackOffer>,
    ) {
        let kept_count = self.examples_by_class.entry(class).or_default();
        if *kept_count >= MAX_EXAMPLES {
            return;
        }
        *kept_count += 1;
        self.examples.push(ReadbackExample {
            sku: sku.to_owned(),
            class,
            ours: expected.map(|it| it.level.count.get()),
            sent_at: expected.and_then(|it| it.acked.acked_at()),
            markets: offer.map(|it| it.available),
            reserved: offer.map(|it| it.reserved).filter(|it| *it > 0),
            markets_updated_at: offer.and_then(|it| it.updated_at).map(|at| at.to_utc()),
        });
    }

    /// Marks a SKU as lost, to be sent again. This happens at once, because the pass may take hours
    /// and newer updates may be accepted meanwhile. Returns false if too many SKUs are marked.
    fn mark_lost(&mut self, sku: Sku, id: SkuId, expected: Acked) -> bool {
        let fits = self.lost_count < MAX_RESENT_SKUS;
        let ReadbackContext { data, target, .. } = &self.context;
        if fits && data.ledger.clear_if_unchanged(target.shop, id, expected) {
            self.lost.push(sku);
            self.lost_count += 1;
        }
        fits
    }

    pub(super) fn take_lost(&mut self) -> Vec<Sku> {
        std::mem::take(&mut self.lost)
    }
}

/// Step of a pass that finds acknowledged SKUs that were on no page.
pub struct FindMissing {
    pub(super) context: ReadbackContext,
    pub(super) pass: PassId,
}

impl FindMissing {
    /// Reads every SKU of the book.
    #[must_use]
    pub fn run(self) -> Vec<Sku> {
        let Self { context, pass } = self;
        let shop = context.target.shop;
        let mut missing = Vec::new();
        context.data.book.for_each(shop, |sku, entry| {
            let observed = context.data.observations.get(shop, entry.id());
            if observed.class_in(pass).is_some() || missing.len() >= MAX_RESENT_SKUS {
                return;
            }
            let acked = context.data.ledger.get(shop, entry.id());
            let expected = context.expected(entry, acked, TimeDelta::zero());
            if expected.classify_missing(pass.began) == MatchClass::Unknown {
                missing.push(sku.clone());
            }
        });
        missing
    }
}

/// Last step of a pass.
pub struct FinishPass(pub(super) PassStats);

/// Result of a complete pass.
pub struct PassResult {
    stats: PassStats,
    counts: [u64; MatchClass::ALL.len()],
}

impl FinishPass {
    /// Reads every SKU of the book, counts the classes, and forgets the acknowledgements of SKUs
    /// that the Market does not know. `quarantined` are the SKUs in quarantine.
    #[must_use]
    pub fn run(self, quarantined: &HashSet<SkuId>, now: DateTime<Utc>) -> PassResult {
        let Self(mut stats) = self;
        let ReadbackContext { data, target, .. } = stats.context.clone();
        let mut counts = [0; MatchClass::ALL.len()];
        counts[usize::from(MatchClass::NotOurs.number())] = stats.not_ours;
        data.book.for_each(target.shop, |sku, entry| {
            let observed = data.observations.get(target.shop, entry.id());
            let seen_class = observed.class_in(stats.pass);
            let mut class = seen_class.unwrap_or_else(|| stats.record_missing(sku, entry, now));
            stats.count_dry_run(entry, seen_class.map(|_| observed.available()));
            if class == MatchClass::Unsent && quarantined.contains(&entry.id()) {
                class = MatchClass::Rejected;
            }
            counts[usize::from(class.number())] += 1;
        });
        stats.dry_run.estimate(&target.address);
        PassResult { stats, counts }
    }
}

impl PassStats {
    /// Classifies and records a SKU that was on no page, not even when it was queried by SKU.
    fn record_missing(&mut self, sku: &Sku, entry: BookEntry, now: DateTime<Utc>) -> MatchClass {
        let (context, shop) = (&self.context, self.context.target.shop);
        let acked = context.data.ledger.get(shop, entry.id());
        let expected = context.expected(entry, acked, TimeDelta::zero());
        let class = expected.classify_missing(self.pass.began);
        let previous = context.data.observations.get(shop, entry.id());
        let mut is_recorded = true;
        if class == MatchClass::Unknown {
            self.add_example(sku.as_str(), class, Some(expected), None);
            // Sent again once, because the update may be lost, and then daily. Not at each pass,
            // because the SKU may not be in the catalogue.
            let is_newly_unknown = previous.class() != Some(MatchClass::Unknown);
            let is_resend_due = acked
                .acked_at()
                .is_some_and(|at| now - at >= RESEND_INTERVAL);
            if (is_newly_unknown || is_resend_due) && !expected.is_dry_run {
                // If too many SKUs are marked already, this SKU is not recorded, so it counts as
                // newly unknown again at the next pass.
                is_recorded = self.mark_lost(sku.clone(), entry.id(), acked);
            }
        }
        if is_recorded {
            // A SKU that was sent again and is still pending stays `Unknown`. As `Pending`, it
            // would count as newly unknown in the next pass and be sent once more.
            let is_still_unknown =
                class == MatchClass::Pending && previous.class() == Some(MatchClass::Unknown);
            let recorded = if is_still_unknown {
                MatchClass::Unknown
            } else {
                class
            };
            let observed = Observed::new(0, now, self.pass, recorded);
            let observations = &self.context.data.observations;
            observations.with(shop, |per_sku| per_sku.set(entry.id(), observed));
        }
        class
    }

    fn count_dry_run(&mut self, entry: BookEntry, available: Option<u32>) {
        let estimate = &mut self.dry_run;
        let count = entry.level().count.get();
        estimate.skus += 1;
        match available {
            None => estimate.unknown += 1,
            Some(available) if available == count => estimate.same += 1,
            Some(_) if count == 0 => estimate.to_zero += 1,
            Some(available) if available > count => estimate.lower += 1,
            Some(_) => estimate.higher += 1,
        }
    }
}

impl DryRunEstimate {
    /// Computes the number of requests and minutes.
    fn estimate(&mut self, address: &MarketAddress) {
        self.requests = self.skus.div_ceil(max_skus_per_request(address) as u64);
        self.minutes = match address {
            MarketAddress::Campaign { .. } => self.skus.div_ceil(SKUS_PER_MINUTE.into()),
            MarketAddress::Business { .. } => self.requests.div_ceil(UPDATES_PER_MINUTE.into()),
        };
    }
}

impl PassResult {
    /// Returns the lost SKUs that were not taken before. Their acknowledgements are forgotten
    /// already.
    #[must_use]
    pub fn lost(&self) -> &[Sku] {
        &self.stats.lost
    }

    /// Writes the findings into the report.
    pub(super) fn write_to(self, report: &mut ReadbackReport) {
        let Self { stats, counts } = self;
        let classes = MatchClass::ALL
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0);
        report.classes = classes
            .map(|(class, count)| (class.name().into(), count))
            .collect();
        report.resent = stats.lost_count as u64;
        report.examples = stats.examples.into();
        let is_dry_run = stats.context.target.mode == Mode::DryRun;
        report.would_send = is_dry_run.then_some(stats.dry_run);
    }
}
