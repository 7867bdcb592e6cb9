//! What a pass finds: SKU by SKU as the pages come, and at its end those that were on none.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::class::Ours;
use super::sighting::{PassId, Sighting};
use super::{Class, Example, Field, Survey, WouldSend};
use crate::history::What;
use crate::migrator::Mode;
use crate::migrator::plan::most_skus;
use crate::migrator::scan::is_asserted_since;
use crate::partner::page::Shown;
use crate::partner::wire::{Address, SKUS_PER_MINUTE, UPDATES_PER_MINUTE};
use crate::stock::{Count, Entry, Sku, SkuId};
use crate::store::Acked;

/// So many examples are kept of each class that is worth some.
const MAX_EXAMPLES: usize = 20;

/// Most SKUs that one pass finds to be sent again, or asks for by name.
const MAX_RESENT: usize = 50_000;

/// How long after the last time a SKU is sent again that the Market does not know.
const SAID_AGAIN: TimeDelta = TimeDelta::hours(24);

/// What a pass has found so far.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) not_ours: u64,
    would: WouldSend,
    examples: Vec<Example>,
    by_class: BTreeMap<Class, usize>,
    lost: Vec<Sku>,
    // So many of them were told of.
    told: usize,
}

/// Notes what the Market shows of one offer; whether it is one of the seller's.
pub(super) fn see(
    field: &Field,
    tally: &mut Tally,
    (pass, apart): (PassId, TimeDelta),
    shown: &Shown,
    now: DateTime<Utc>,
) -> bool {
    let sku = Sku::parse(&shown.sku).ok();
    let entry = sku
        .as_ref()
        .and_then(|sku| field.book.get(field.shop, sku.as_str()));
    let (sku, entry) = match (sku, entry) {
        (Some(sku), Some(entry)) => (sku, entry),
        (sku, _) => {
            if let Some(sku) = sku {
                field.sightings.note_stranger(field.shop, sku);
            }
            tally.example(&shown.sku, Class::NotOurs, None, Some(shown));
            return false;
        }
    };
    let acked = field.ledger.get(field.shop, entry.id());
    let ours = field.ours(entry, acked, apart);
    let class = ours.classify(shown, now);
    field.sightings.with(field.shop, |column| {
        // Of several warehouses that share the stock, the worst counts.
        let known = column.get(entry.id()).class_in(pass);
        if known.is_none_or(|known| known < class) {
            column.set(entry.id(), Sighting::new(shown.available, now, pass, class));
        }
    });
    if class == Class::Equal {
        return true;
    }
    let count = i64::try_from(shown.available)
        .ok()
        .and_then(|n| Count::try_from(n).ok());
    let count = count.unwrap_or(entry.level().count);
    let what = What::Seen(class.number());
    field
        .history
        .note(field.shop, now, what, std::iter::once((entry.id(), count)));
    tally.example(sku.as_str(), class, Some(ours), Some(shown));
    if class == Class::Drifted && !ours.is_dry {
        let is_news = acked
            .acked_at()
            .is_some_and(|at| is_asserted_since(&field.marks, field.shop, entry.id(), at, now));
        if is_news || ours.is_lost(shown) {
            tally.lose(field, (&sku, entry.id()), acked);
        }
    }
    true
}

impl Tally {
    fn example(&mut self, sku: &str, class: Class, ours: Option<Ours>, shown: Option<&Shown>) {
        let kept = self.by_class.entry(class).or_default();
        if *kept >= MAX_EXAMPLES {
            return;
        }
        *kept += 1;
        self.examples.push(Example {
            sku: sku.to_owned(),
            class: class.name(),
            ours: ours.map(|ours| ours.level.count.get()),
            sent_at: ours.and_then(|ours| ours.acked.acked_at()),
            markets: shown.map(|shown| shown.available),
            reserved: shown
                .map(|shown| shown.reserved)
                .filter(|reserved| *reserved > 0),
            markets_updated_at: shown
                .and_then(|shown| shown.updated_at)
                .map(|at| at.to_utc()),
        });
    }

    /// To be sent again, from now on: the end of the pass may be hours away, and by then the
    /// Market may have taken, and sold, what was said since. Whether there was a place for it.
    fn lose(&mut self, field: &Field, (sku, id): (&Sku, SkuId), judged: Acked) -> bool {
        let fits = self.lost.len() < MAX_RESENT;
        if fits && field.ledger.forget_judged(field.shop, id, judged) {
            self.lost.push(sku.clone());
        }
        fits
    }

    pub(super) fn take_lost(&mut self) -> Vec<Sku> {
        let told = std::mem::replace(&mut self.told, self.lost.len());
        self.lost[told..].to_vec()
    }
}

/// Finds the SKUs that the Market has acknowledged and that were on no page.
pub struct Gathering {
    field: Field,
    pass: PassId,
}

impl Gathering {
    pub(super) fn new(field: Field, pass: PassId) -> Self {
        Self { field, pass }
    }

    /// Looks at every SKU of the book.
    #[must_use]
    pub fn run(self) -> Vec<Sku> {
        let Self { field, pass } = self;
        let mut missing = Vec::new();
        field.book.for_each(field.shop, |sku, entry| {
            if missing.len() >= MAX_RESENT
                || field
                    .sightings
                    .get(field.shop, entry.id())
                    .class_in(pass)
                    .is_some()
            {
                return;
            }
            let acked = field.ledger.get(field.shop, entry.id());
            let ours = field.ours(entry, acked, TimeDelta::zero());
            if ours.classify_missing(pass.began) == Class::Unknown {
                missing.push(sku.clone());
            }
        });
        missing
    }
}

/// The last step of a pass.
pub struct Roundup {
    field: Field,
    pass: PassId,
    tally: Tally,
    aside: HashSet<Sku>,
}

/// What a whole pass came to.
pub struct Outcome {
    tally: Tally,
    counts: [u64; Class::ALL.len()],
    mode: Mode,
}

impl Roundup {
    pub(super) fn new(field: Field, pass: PassId, tally: Tally, aside: Vec<Sku>) -> Self {
        Self {
            field,
            pass,
            tally,
            aside: aside.into_iter().collect(),
        }
    }

    /// Looks at every SKU of the book: counts the classes, and takes from the ledger what the
    /// Market does not know.
    #[must_use]
    pub fn run(self, now: DateTime<Utc>) -> Outcome {
        let Self {
            field,
            pass,
            mut tally,
            aside,
        } = self;
        let mut counts = [0; Class::ALL.len()];
        counts[usize::from(Class::NotOurs.number())] = tally.not_ours;
        let mode = field.mode;
        field.book.for_each(field.shop, |sku, entry| {
            let sighting = field.sightings.get(field.shop, entry.id());
            let seen = sighting.class_in(pass);
            let class = seen.unwrap_or_else(|| tally.miss(&field, (sku, entry), (pass, now)));
            if mode == Mode::DryRun {
                tally.compare(entry, seen.map(|_| sighting.available()));
            }
            let is_aside = class == Class::Unsent && aside.contains(sku);
            let class = if is_aside { Class::Refused } else { class };
            counts[usize::from(class.number())] += 1;
        });
        if mode == Mode::DryRun {
            tally.would.reckon(&field.address);
        }
        Outcome {
            tally,
            counts,
            mode,
        }
    }
}

impl Tally {
    /// A SKU that was on no page, and that the Market does not know by name.
    fn miss(
        &mut self,
        field: &Field,
        (sku, entry): (&Sku, Entry),
        (pass, now): (PassId, DateTime<Utc>),
    ) -> Class {
        let acked = field.ledger.get(field.shop, entry.id());
        let ours = field.ours(entry, acked, TimeDelta::zero());
        let class = ours.classify_missing(pass.began);
        let before = field.sightings.get(field.shop, entry.id());
        let mut is_noted = true;
        if class == Class::Unknown {
            self.example(sku.as_str(), class, Some(ours), None);
            // Said once more, in case it was lost, and then daily: not at each pass, in case it
            // is nobody's.
            let is_first = before.class() != Some(Class::Unknown);
            let is_daily = acked.acked_at().is_some_and(|at| now - at >= SAID_AGAIN);
            if (is_first || is_daily) && !ours.is_dry {
                // What does not fit now is a first time at the next pass again.
                is_noted = self.lose(field, (sku, entry.id()), acked);
            }
        }
        if is_noted {
            // Said once more and not shown yet, it stays unknown, or it would be first again.
            let is_still = class == Class::Pending && before.class() == Some(Class::Unknown);
            let noted = if is_still { Class::Unknown } else { class };
            let sighting = Sighting::new(0, now, pass, noted);
            field
                .sightings
                .with(field.shop, |column| column.set(entry.id(), sighting));
        }
        class
    }

    fn compare(&mut self, entry: Entry, available: Option<u32>) {
        let would = &mut self.would;
        let count = entry.level().count.get();
        would.skus += 1;
        match available {
            None => would.unknown += 1,
            Some(available) if available == count => would.same += 1,
            Some(_) if count == 0 => would.to_zero += 1,
            Some(available) if available > count => would.lower += 1,
            Some(_) => would.higher += 1,
        }
    }
}

impl WouldSend {
    /// How many requests and minutes it would take.
    fn reckon(&mut self, address: &Address) {
        self.requests = self.skus.div_ceil(most_skus(address) as u64);
        self.minutes = match address {
            Address::Campaign { .. } => self.skus.div_ceil(SKUS_PER_MINUTE.into()),
            Address::Business { .. } => self.requests.div_ceil(UPDATES_PER_MINUTE.into()),
        };
    }
}

impl Outcome {
    /// SKUs to be sent again that were not told of before; the ledger has forgotten them already.
    #[must_use]
    pub fn lost(&self) -> &[Sku] {
        &self.tally.lost[self.tally.told..]
    }

    /// Writes down what was found.
    pub(super) fn tell(self, survey: &mut Survey) {
        let Self {
            tally,
            counts,
            mode,
        } = self;
        let classes = Class::ALL
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0);
        survey.classes = classes
            .map(|(class, count)| (class.name(), count))
            .collect();
        survey.resent = tally.lost.len() as u64;
        survey.examples = tally.examples.into();
        survey.would_send = (mode == Mode::DryRun).then_some(tally.would);
    }
}
