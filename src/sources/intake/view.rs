use std::fmt::Write as _;

use super::taking::Absent;
use super::{IntakeError, Seat};
use crate::sources::Quantity;
use crate::sources::rules::{self, Part, ShopRules, SourceRules, Steps};
use crate::sources::stated::{Groups, Said, SourceId};
use crate::stock::{Instant, Sku};

/// All that decides what is made of statements, at one moment.
pub(super) struct View<'a> {
    pub(super) seats: Vec<(&'a Seat, Option<Instant>)>,
    pub(super) rules: Vec<SourceRules>,
    pub(super) shop: &'a ShopRules,
}

impl View<'_> {
    fn find(&self, source: SourceId) -> Option<usize> {
        self.seats.iter().position(|(seat, _)| seat.id == source)
    }

    /// What counts of what is stated, in the order of the sources.
    pub(super) fn parts(&self, group: &[Said]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::with_capacity(group.len());
        for said in group {
            // A source that is not configured any more has no say.
            let Some(source) = self.find(said.source) else { continue };
            let (Seat { taking, .. }, stated_at) = self.seats[source];
            let epoch = Instant::from_micros(0).expect("1970 is in the calendar");
            let stated_at = stated_at.unwrap_or(epoch);
            let own = said.at.and_then(Instant::from_micros).unwrap_or(stated_at);
            let is_here = taking.warehouses.has(&said.place);
            let is_gone = taking.absent == Absent::Zero && (said.is_absent || !is_here);
            if !is_here && !is_gone {
                continue;
            }
            let quantity = if is_gone { 0 } else { said.quantity };
            parts.push(Part {
                source,
                said: Some(said.said.clone()).filter(|word| *word != said.sku),
                place: said.place.clone(),
                quantity: Quantity::from_thousandths(quantity).unwrap_or_default(),
                reserve: said.reserve.filter(|_| !is_gone).and_then(Quantity::from_thousandths),
                pack: said.pack,
                at: if is_gone { stated_at } else { own },
            });
        }
        // The smallest of several warehouses is asked of those that count only.
        let chosen = |part: &Part| {
            let (Seat { taking, .. }, _) = self.seats[part.source];
            taking.warehouses.has(&part.place)
        };
        let has_chosen: Vec<bool> = (0..self.seats.len())
            .map(|source| parts.iter().any(|part| part.source == source && chosen(part)))
            .collect();
        parts.retain(|part| chosen(part) || !has_chosen[part.source]);
        parts.sort_by_key(|part| part.source);
        parts
    }

    fn result(&self, group: &[Said]) -> Option<(Sku, rules::Result)> {
        let sku = Sku::parse(&group[0].sku).ok()?;
        let parts = self.parts(group);
        let result = rules::evaluate(&sku, &parts, &self.rules, self.shop, &mut Steps::none())?;
        Some((sku, result))
    }

    pub(super) fn describe(&self, said: &Said) -> String {
        let Some(source) = self.find(said.source) else {
            return "a source that is not configured any more has stated it".to_owned();
        };
        let (Seat { taking, .. }, stated_at) = self.seats[source];
        let at = said.at.and_then(Instant::from_micros).or(stated_at);
        let mut text = format!("{} '{}'", taking.name, said.said);
        if !said.place.is_empty() {
            let _infallible = write!(text, " at '{}'", said.place);
        }
        let quantity = Quantity::from_thousandths(said.quantity).unwrap_or_default();
        let _infallible = write!(text, ": {quantity}");
        if let Some(at) = at {
            let _infallible = write!(text, " as of {at}");
        }
        if said.is_absent {
            text.push_str(", absent from its last snapshot");
        }
        if !taking.warehouses.has(&said.place) {
            text.push_str(", a warehouse that does not feed this shop");
        }
        text
    }
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
