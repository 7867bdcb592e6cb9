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
    pub(super) pass: PassId,
    pub(super) not_ours: u64,
    dry_run: DryRunEstimate,
    examples: Vec<ReadbackExample>,
    examples_by_class: BTreeMap<MatchClass, usize>,
    lost: Vec<Sku>,
    // Number of `lost` SKUs that `take_lost` has returned.
    taken_lost: usize,
}

impl PassStats {
    pub(super) fn new(pass: PassId) -> Self {
        Self {
            pass,
            not_ours: 0,
            dry_run: DryRunEstimate::default(),
            examples: Vec::new(),
            examples_by_class: BTreeMap::new(),
            lost: Vec::new(),
            taken_lost: 0,
        }
    }

    /// Classifies one offer and records the result. Returns false if the book has no such SKU.
    pub(super) fn record_offer(
        &mut self,
        context: &ReadbackContext,
        offer: &ReadbackOffer,
        max_clock_skew: TimeDelta,
        now: DateTime<Utc>,
    ) -> bool {
        let shop = context.target.shop;
        let Some(entry) = context.book.get(shop, Sku::trim(&offer.sku)) else {
            if let Ok(sku) = Sku::parse(&offer.sku) {
                context.observations.record_unknown(shop, sku);
            }
            self.add_example(&offer.sku, MatchClass::NotOurs, None, Some(offer));
            return false;
        };
        let id = entry.id();
        let acked = context.ledger.get(shop, id);
        let expected = context.expected(entry, acked, max_clock_skew);
        let class = expected.classify(offer, now);
        context.observations.with(shop, |per_sku| {
            // If several warehouses share the stock, the worst class counts.
            let previous = per_sku.get(id).class_in(self.pass);
            if previous.is_none_or(|previous| previous < class) {
                per_sku.set(id, Observed::new(offer.available, now, self.pass, class));
            }
        });
        if class == MatchClass::Equal {
            return true;
        }
        let count = i64::try_from(offer.available)
            .ok()
            .and_then(|n| Count::try_from(n).ok());
        let count = count.unwrap_or(entry.level().count);
        let kind = EventKind::Readback(class.number());
        context
            .history
            .record(shop, now, kind, std::iter::once((id, count)));
        self.add_example(Sku::trim(&offer.sku), class, Some(expected), Some(offer));
        if class == MatchClass::Drifted && !expected.is_dry_run {
            let is_restated = acked
                .acked_at()
                .is_some_and(|at| is_stated_since(&context.activity, shop, id, at, now));
            if (is_restated || expected.is_provably_lost(offer))
                && let Ok(sku) = Sku::parse(&offer.sku)
            {
                self.mark_lost(context, sku, id, acked);
            }
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
            class: class.name(),
            ours: expected.map(|expected| expected.level.count.get()),
            sent_at: expected.and_then(|expected| expected.acked.acked_at()),
            markets: offer.map(|offer| offer.available),
            reserved: offer
                .map(|offer| offer.reserved)
                .filter(|reserved| *reserved > 0),
            markets_updated_at: offer
                .and_then(|offer| offer.updated_at)
                .map(|at| at.to_utc()),
        });
    }

    /// Marks a SKU as lost, to be sent again. This happens at once, because the pass may take hours
    /// and newer updates may be accepted meanwhile. Returns false if too many SKUs are marked.
    fn mark_lost(
        &mut self,
        context: &ReadbackContext,
        sku: Sku,
        id: SkuId,
        expected: Acked,
    ) -> bool {
        let fits = self.lost.len() < MAX_RESENT_SKUS;
        let ReadbackContext { ledger, target, .. } = context;
        if fits && ledger.clear_if_unchanged(target.shop, id, expected) {
            self.lost.push(sku);
        }
        fits
    }

    pub(super) fn take_lost(&mut self) -> Vec<Sku> {
        let already_taken = std::mem::replace(&mut self.taken_lost, self.lost.len());
        self.lost[already_taken..].to_vec()
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
        let mut missing = Vec::new();
        context.book.for_each(context.target.shop, |sku, entry| {
            if missing.len() >= MAX_RESENT_SKUS
                || context
                    .observations
                    .get(context.target.shop, entry.id())
                    .class_in(pass)
                    .is_some()
            {
                return;
            }
            let acked = context.ledger.get(context.target.shop, entry.id());
            let expected = context.expected(entry, acked, TimeDelta::zero());
            if expected.classify_missing(pass.began) == MatchClass::Unknown {
                missing.push(sku.clone());
            }
        });
        missing
    }
}

/// Last step of a pass.
pub struct FinishPass {
    pub(super) context: ReadbackContext,
    pub(super) stats: PassStats,
}

/// Result of a complete pass.
pub struct PassResult {
    stats: PassStats,
    counts: [u64; MatchClass::ALL.len()],
    mode: Mode,
}

impl FinishPass {
    /// Reads every SKU of the book, counts the classes, and forgets the acknowledgements of SKUs
    /// that the Market does not know. `quarantined` are the SKUs in quarantine.
    #[must_use]
    pub fn run(self, quarantined: &HashSet<SkuId>, now: DateTime<Utc>) -> PassResult {
        let Self { context, mut stats } = self;
        let mut counts = [0; MatchClass::ALL.len()];
        counts[usize::from(MatchClass::NotOurs.number())] = stats.not_ours;
        let mode = context.target.mode;
        context.book.for_each(context.target.shop, |sku, entry| {
            let observed = context.observations.get(context.target.shop, entry.id());
            let seen_class = observed.class_in(stats.pass);
            let class =
                seen_class.unwrap_or_else(|| stats.record_missing(&context, sku, entry, now));
            if mode == Mode::DryRun {
                stats.count_dry_run(entry, seen_class.map(|_| observed.available()));
            }
            let is_rejected = class == MatchClass::Unsent && quarantined.contains(&entry.id());
            let class = if is_rejected {
                MatchClass::Rejected
            } else {
                class
            };
            counts[usize::from(class.number())] += 1;
        });
        if mode == Mode::DryRun {
            stats.dry_run.estimate(&context.target.address);
        }
        PassResult {
            stats,
            counts,
            mode,
        }
    }
}

impl PassStats {
    /// Classifies and records a SKU that was on no page, not even when it was queried by SKU.
    fn record_missing(
        &mut self,
        context: &ReadbackContext,
        sku: &Sku,
        entry: BookEntry,
        now: DateTime<Utc>,
    ) -> MatchClass {
        let acked = context.ledger.get(context.target.shop, entry.id());
        let expected = context.expected(entry, acked, TimeDelta::zero());
        let class = expected.classify_missing(self.pass.began);
        let previous = context.observations.get(context.target.shop, entry.id());
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
                is_recorded = self.mark_lost(context, sku.clone(), entry.id(), acked);
            }
        }
        if is_recorded {
            // A SKU that was sent again and is still pending stays `Unknown`. As `Pending`, it
            // would count as newly unknown in the next pass and be sent once more.
            let is_still_unknown =
                class == MatchClass::Pending && previous.class() == Some(MatchClass::Unknown);
            let recorded_class = if is_still_unknown {
                MatchClass::Unknown
            } else {
                class
            };
            let observed = Observed::new(0, now, self.pass, recorded_class);
            context.observations.with(context.target.shop, |per_sku| {
                per_sku.set(entry.id(), observed)
            });
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
        &self.stats.lost[self.stats.taken_lost..]
    }

    /// Writes the findings into the report.
    pub(super) fn write_to(self, report: &mut ReadbackReport) {
        let Self {
            stats,
            counts,
            mode,
        } = self;
        let classes = MatchClass::ALL
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0);
        report.classes = classes
            .map(|(class, count)| (class.name(), count))
            .collect();
        report.resent = stats.lost.len() as u64;
        report.examples = stats.examples.into();
        report.would_send = (mode == Mode::DryRun).then_some(stats.dry_run);
    }
}
