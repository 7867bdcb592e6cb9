//! Quarantine: SKUs that the Market rejects individually, with the reason and the next retry.
//!
//! Decides when a quarantined SKU is retried: after a pause that doubles with each rejection, or
//! at once when its count changes.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use stock::{Count, Level, SkuId};

use super::queue::QueuedSku;
use crate::store::QuarantineEntry;

/// First pause before a rejected SKU is retried; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// Longest pause before a rejected SKU is retried.
const MAX_PAUSE: TimeDelta = TimeDelta::hours(24);

/// First pause of an unconfirmed SKU; doubles. Short, because the SKU may be valid.
const FIRST_UNCONFIRMED_PAUSE: TimeDelta = TimeDelta::minutes(1);

/// Longest pause of an unconfirmed SKU.
const MAX_UNCONFIRMED_PAUSE: TimeDelta = TimeDelta::minutes(10);

/// Certainty that the SKU itself causes the rejection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confirmation {
    /// The Market accepted another request after the rejection, or named the SKU.
    Confirmed,
    /// Nothing else was left to send, so the Market may have rejected everything.
    Unconfirmed,
}

/// Quarantined SKUs of one shop.
#[derive(Debug, Default)]
pub struct Quarantine {
    held: HashMap<SkuId, HeldSku>,
    is_changed: bool,
}

#[derive(Debug)]
struct HeldSku {
    entry: QuarantineEntry,
    confirmation: Confirmation,
}

impl Quarantine {
    /// Creates the quarantine from the entries in the store. All count as confirmed.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (SkuId, QuarantineEntry)>) -> Self {
        let confirmation = Confirmation::Confirmed;
        let hold = |(id, entry)| {
            (
                id,
                HeldSku {
                    entry,
                    confirmation,
                },
            )
        };
        Self {
            held: entries.into_iter().map(hold).collect(),
            is_changed: true,
        }
    }

    /// Adds a SKU, or extends its pause if it is in quarantine.
    ///
    /// The pause doubles only while the same count is rejected. It starts again with a changed
    /// count, and when the certainty changes.
    pub fn add(
        &mut self,
        sku: &QueuedSku,
        level: Level,
        reason: String,
        confirmation: Confirmation,
        now: DateTime<Utc>,
    ) -> &QuarantineEntry {
        let same_count = |held: &&HeldSku| held.entry.level.count == level.count;
        let previous = self.held.get(&sku.id).filter(same_count);
        let since = previous.map_or(now, |held| held.entry.since);
        let attempts = previous
            .filter(|held| held.confirmation == confirmation)
            .map_or(1, |held| held.entry.attempts.saturating_add(1));
        let (first, last) = match confirmation {
            Confirmation::Confirmed => (FIRST_PAUSE, MAX_PAUSE),
            Confirmation::Unconfirmed => (FIRST_UNCONFIRMED_PAUSE, MAX_UNCONFIRMED_PAUSE),
        };
        let doublings = attempts.saturating_sub(1).min(8);
        let entry = QuarantineEntry {
            sku: sku.sku.clone(),
            level,
            reason,
            since,
            attempts,
            retry_at: now + (first * (1 << doublings)).min(last),
        };
        let held = HeldSku {
            entry,
            confirmation,
        };
        self.is_changed = true;
        &self.held.entry(sku.id).insert_entry(held).into_mut().entry
    }

    /// Returns true if the SKU is in quarantine with this count.
    #[must_use]
    pub fn has_with_count(&self, id: SkuId, count: Count) -> bool {
        self.get(id).is_some_and(|entry| entry.level.count == count)
    }

    /// Returns true if the SKU is in quarantine with this count and the rejection is confirmed.
    #[must_use]
    pub fn is_confirmed(&self, id: SkuId, count: Count) -> bool {
        let is_unconfirmed = self.held.get(&id).is_some_and(HeldSku::is_unconfirmed);
        self.has_with_count(id, count) && !is_unconfirmed
    }

    /// Returns the unconfirmed SKUs.
    pub fn unconfirmed_mut(&mut self) -> impl Iterator<Item = (SkuId, &mut QuarantineEntry)> {
        let held = self.held.iter_mut();
        let unconfirmed = held.filter(|(_, held)| held.is_unconfirmed());
        unconfirmed.map(|(id, held)| (*id, &mut held.entry))
    }

    /// Releases the unconfirmed SKUs when the rejections turn out to be systemic, because no SKU is
    /// at fault.
    pub fn release_unconfirmed(&mut self) -> Vec<QuarantineEntry> {
        let unconfirmed = self.held.extract_if(|_, held| held.is_unconfirmed());
        let released: Vec<_> = unconfirmed.map(|(_, held)| held.entry).collect();
        self.is_changed |= !released.is_empty();
        released
    }

    /// Removes and returns a SKU that the Market has accepted; `None` if it was not in quarantine.
    pub fn release(&mut self, id: SkuId) -> Option<QuarantineEntry> {
        let held = self.held.remove(&id)?;
        self.is_changed = true;
        Some(held.entry)
    }

    /// Returns the entry of a SKU, due or not.
    #[must_use]
    pub fn get(&self, id: SkuId) -> Option<&QuarantineEntry> {
        self.held.get(&id).map(|held| &held.entry)
    }

    /// Returns true if a quarantined SKU should be retried now: its pause is over, or its count
    /// differs from the rejected one.
    #[must_use]
    pub fn is_due(&self, id: SkuId, count: Count, now: DateTime<Utc>) -> bool {
        self.get(id)
            .is_some_and(|entry| entry.retry_at <= now || entry.level.count != count)
    }

    /// Returns the numbers of all SKUs in quarantine.
    pub fn ids(&self) -> impl Iterator<Item = SkuId> {
        self.held.keys().copied()
    }

    /// Returns all entries, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &QuarantineEntry> {
        self.held.values().map(|held| &held.entry)
    }

    /// Returns true if an entry was added, extended or removed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }
}

impl HeldSku {
    fn is_unconfirmed(&self) -> bool {
        self.confirmation == Confirmation::Unconfirmed
    }
}

#[cfg(test)]
mod tests {
    use stock::{ShopId, Sku, StockBook, Timestamp};

    use super::*;

    fn count(count: i64) -> Count {
        Count::try_from(count).unwrap()
    }

    fn level(pieces: i64, micros: i64) -> Level {
        Level {
            count: count(pieces),
            updated_at: Timestamp::from_micros(micros).unwrap(),
        }
    }

    fn queued_sku() -> QueuedSku {
        let sku = Sku::parse("A").unwrap();
        let id = StockBook::new([1]).restore(ShopId(0), &sku, level(1, 0));
        QueuedSku { id, sku, since: 0 }
    }

    #[test]
    fn pause_doubles_from_an_hour_to_a_day() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let (sku, mut quarantine) = (queued_sku(), Quarantine::default());
        let hours = [(); 7].map(|()| {
            let reason = String::new();
            let entry = quarantine.add(&sku, level(1, 0), reason, Confirmation::Confirmed, now);
            (entry.retry_at - now).num_hours()
        });
        assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24]);
    }

    #[test]
    fn pause_starts_again_with_another_certainty_or_count() {
        use Confirmation::{Confirmed, Unconfirmed};
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let (sku, mut quarantine) = (queued_sku(), Quarantine::default());
        for (pieces, confirmation, attempts, minutes) in [
            (1, Unconfirmed, 1, 1),
            (1, Unconfirmed, 2, 2),
            (1, Confirmed, 1, 60),
            (1, Confirmed, 2, 120),
            (2, Confirmed, 1, 60),
            (2, Unconfirmed, 1, 1),
        ] {
            let entry = quarantine.add(&sku, level(pieces, 0), String::new(), confirmation, now);
            let pause = (entry.retry_at - now).num_minutes();
            assert_eq!((entry.attempts, pause), (attempts, minutes));
            let is_confirmed = quarantine.is_confirmed(sku.id, count(pieces));
            assert_eq!(is_confirmed, confirmation == Confirmed);
        }
        assert_eq!(quarantine.release_unconfirmed().len(), 1);
        assert!(quarantine.get(sku.id).is_none());
    }

    #[test]
    fn retries_after_the_pause_or_a_changed_count() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let (sku, mut quarantine) = (queued_sku(), Quarantine::default());
        let reason = "rejected".to_owned();
        quarantine.add(&sku, level(1, 0), reason, Confirmation::Confirmed, now);
        assert!(
            !quarantine.is_due(sku.id, count(1), now),
            "a later date alone is not a change"
        );
        assert!(quarantine.is_due(sku.id, count(2), now));
        assert!(quarantine.is_due(sku.id, count(1), now + TimeDelta::hours(1)));
        assert!(quarantine.release(sku.id).is_some());
        assert!(!quarantine.is_due(sku.id, count(2), now));
    }
}
