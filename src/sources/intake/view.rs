use std::collections::HashMap;
use std::fmt::Write as _;

use super::taking::Absent;
use super::{IntakeError, Seat};
use crate::ingest::Origin;
use crate::sources::Quantity;
use crate::sources::rules::{self, Combine, Part, ShopRules, SourceRules, Steps};
use crate::sources::stated::{Groups, Said, SourceId};
use crate::stock::{Instant, Sku};

/// All that decides what is made of statements, at one moment.
pub(super) struct View<'a> {
    pub(super) seats: &'a [Seat],
    /// When each source's last snapshot was stated.
    pub(super) snapshots: HashMap<SourceId, Option<Instant>>,
    pub(super) rules: Vec<SourceRules>,
    pub(super) shop: &'a ShopRules,
    /// The rules are other ones than those under which the book was reckoned last.
    pub(super) is_anew: bool,
}

impl View<'_> {
    fn find(&self, source: SourceId) -> Option<usize> {
        self.seats.iter().position(|seat| seat.id == source)
    }

    /// Since when a row holds: since its own date, or its source's last snapshot.
    fn since(&self, said: &Said) -> Option<Instant> {
        let own = said.at.and_then(Instant::from_micros);
        own.or_else(|| self.snapshots.get(&said.source).copied().flatten())
    }

    /// What counts of what is stated, in the order of the sources.
    ///
    /// A product of which only other warehouses were ever heard has nothing that counts: that
    /// it is not in ours is nobody's word. One that is still in some of ours is in no other.
    pub(super) fn parts(&self, group: &[Said]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::with_capacity(group.len());
        for (source, seat) in self.seats.iter().enumerate() {
            // By hand is a word of the moment, not one of several that make up a number.
            let is_aside =
                seat.taking.origin == Origin::Import && self.shop.combine != Combine::Latest;
            let ours = |said: &&Said| {
                said.source == seat.id && !is_aside && seat.taking.warehouses.has(&said.place)
            };
            let is_there = group
                .iter()
                .filter(ours)
                .any(|said| said.absent_at.is_none());
            let counted = group.iter().filter(ours);
            let counted = counted.filter(|said| said.absent_at.is_none() || !is_there);
            for said in counted {
                let Some(part) = self.part(source, said) else {
                    continue;
                };
                // Variants at one warehouse follow each other, and are one number there.
                match parts.last_mut() {
                    Some(last) if !said.variant.is_empty() && is_same(last, &part) => {
                        add(last, &part);
                    }
                    Some(_) | None => parts.push(part),
                }
            }
        }
        parts
    }

    fn part(&self, source: usize, said: &Said) -> Option<Part> {
        let absent = self.seats[source].taking.absent;
        let gone = said.absent_at.filter(|_| absent == Absent::Zero);
        let (quantity, reserve, at) = match gone {
            Some(at) => (0, None, Instant::from_micros(at)?),
            None => (said.quantity, said.reserve, self.since(said)?),
        };
        Some(Part {
            source,
            said: Some(said.said.clone()).filter(|word| *word != said.sku),
            place: said.place.clone(),
            quantity: Quantity::from_thousandths(quantity).unwrap_or_default(),
            reserve: reserve.and_then(Quantity::from_thousandths),
            pack: said.pack,
            at,
        })
    }

    fn result(&self, group: &[Said]) -> Option<(Sku, rules::Result)> {
        let sku = Sku::parse(&group[0].sku).ok()?;
        let parts = self.parts(group);
        let mut result = rules::evaluate(&sku, &parts, &self.rules, self.shop, &mut Steps::none())?;
        if self.is_anew {
            // What was made of a source that has no say any more must not outlive it: what the
            // sources stated of the SKU last, all of them, is the date of what was made of it.
            let absent = |said: &Said| said.absent_at.and_then(Instant::from_micros);
            let latest = group
                .iter()
                .filter_map(|said| self.since(said).max(absent(said)))
                .max();
            result.at = latest.map_or(result.at, |latest| latest.max(result.at));
        }
        Some((sku, result))
    }

    pub(super) fn describe(&self, said: &Said) -> String {
        let Some(source) = self.find(said.source) else {
            return "a source that is not configured any more has stated it".to_owned();
        };
        let Seat { taking, .. } = &self.seats[source];
        let at = self.since(said);
        let mut text = format!("{} '{}'", taking.name, said.said);
        if !said.variant.is_empty() {
            let _infallible = write!(text, ", variant '{}'", said.variant);
        }
        if !said.place.is_empty() {
            let _infallible = write!(text, " at '{}'", said.place);
        }
        let quantity = Quantity::from_thousandths(said.quantity).unwrap_or_default();
        let _infallible = write!(text, ": {quantity}");
        if let Some(at) = at {
            let _infallible = write!(text, " as of {at}");
        }
        if said.absent_at.is_some() {
            text.push_str(", absent from its last snapshot");
        }
        if !taking.warehouses.has(&said.place) {
            text.push_str(", a warehouse that does not feed this shop");
        }
        text
    }
}

/// Whether two parts are of one word of a source at one warehouse.
fn is_same(one: &Part, other: &Part) -> bool {
    (one.source, &one.said, &one.place) == (other.source, &other.said, &other.place)
}

/// Adds a variant to the others of its SKU.
fn add(to: &mut Part, variant: &Part) {
    let sum = |one: Quantity, other: Quantity| {
        // More than any count is capped there by the rules.
        Quantity::from_thousandths(one.thousandths() + other.thousandths())
            .unwrap_or(one.max(other))
    };
    to.quantity = sum(to.quantity, variant.quantity);
    to.reserve = match (to.reserve, variant.reserve) {
        (Some(one), Some(other)) => Some(sum(one, other)),
        (one, other) => one.or(other),
    };
    to.at = to.at.max(variant.at);
}

/// The next SKU of which anything is to be said.
pub(super) async fn next(
    groups: &mut Groups<'_>,
    view: &View<'_>,
) -> Result<Option<(Sku, rules::Result)>, IntakeError> {
    while let Some(group) = groups.next().await? {
        if let Some(found) = view.result(&group) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
