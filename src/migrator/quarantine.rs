//! Quarantine: SKUs that the Market rejects individually, with the reason and the next retry.
//!
//! Decides when a quarantined SKU is retried: after a pause that doubles with each rejection, or
//! at once when its count changes.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use stock::{Level, Sku};

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
    entries: HashMap<Sku, QuarantineEntry>,
    // Subset of `entries`.
    unconfirmed: HashSet<Sku>,
}

impl Quarantine {
    /// Creates the quarantine from the entries in the store. All count as confirmed.
    #[must_use]
    pub fn new(entries: Vec<QuarantineEntry>) -> Self {
        let entries = entries
            .into_iter()
            .map(|entry| (entry.sku.clone(), entry))
            .collect();
        Self {
            entries,
            unconfirmed: HashSet::new(),
        }
    }

    /// Adds a SKU, or extends its pause if it is in quarantine.
    ///
    /// The pause doubles only while the same count is rejected. It starts again with a changed
    /// count, and when the certainty changes.
    pub fn add(
        &mut self,
        sku: &Sku,
        level: Level,
        reason: String,
        (now, confirmation): (DateTime<Utc>, Confirmation),
    ) -> &QuarantineEntry {
        let was_unconfirmed = match confirmation {
            Confirmation::Confirmed => self.unconfirmed.remove(sku),
            Confirmation::Unconfirmed => !self.unconfirmed.insert(sku.clone()),
        };
        let previous = self
            .entries
            .get(sku)
            .filter(|entry| entry.level.count == level.count);
        let since = previous.map_or(now, |entry| entry.since);
        let previous =
            previous.filter(|_| was_unconfirmed == (confirmation == Confirmation::Unconfirmed));
        let attempts = previous.map_or(1, |entry| entry.attempts.saturating_add(1));
        let (first, last) = match confirmation {
            Confirmation::Confirmed => (FIRST_PAUSE, MAX_PAUSE),
            Confirmation::Unconfirmed => (FIRST_UNCONFIRMED_PAUSE, MAX_UNCONFIRMED_PAUSE),
        };
        let doublings = attempts.saturating_sub(1).min(8);
        let pause = (first * (1 << doublings)).min(last);
        let retry_at = now + pause;
        let entry = QuarantineEntry {
            sku: sku.clone(),
            level,
            reason,
            since,
            attempts,
            retry_at,
        };
        self.entries
            .entry(sku.clone())
            .insert_entry(entry)
            .into_mut()
    }

    /// Returns true if the SKU is in quarantine with this count.
    #[must_use]
    pub fn has_with_count(&self, sku: &Sku, level: Level) -> bool {
        self.entries
            .get(sku)
            .is_some_and(|entry| entry.level.count == level.count)
    }

    /// Returns true if the SKU is in quarantine with this count and the rejection is confirmed.
    #[must_use]
    pub fn is_confirmed(&self, sku: &Sku, level: Level) -> bool {
        self.has_with_count(sku, level) && !self.unconfirmed.contains(sku)
    }

    /// Returns the number of unconfirmed SKUs.
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Makes the unconfirmed SKUs due and returns them. Called when the Market accepts a request,
    /// because a retry can now confirm or clear them.
    pub fn make_unconfirmed_due(&mut self, now: DateTime<Utc>) -> Vec<Sku> {
        let skus: Vec<Sku> = self.unconfirmed.iter().cloned().collect();
        for sku in &skus {
            if let Some(entry) = self.entries.get_mut(sku) {
                entry.retry_at = entry.retry_at.min(now);
            }
        }
        skus
    }

    /// Takes the unconfirmed SKUs when the rejections turn out to be systemic. The caller must
    /// release them, because no SKU is at fault.
    #[must_use]
    pub fn take_unconfirmed(&mut self) -> Vec<Sku> {
        std::mem::take(&mut self.unconfirmed).into_iter().collect()
    }

    /// Removes a SKU that the Market has accepted. Returns false if it was not in quarantine.
    pub fn release(&mut self, sku: &Sku) -> bool {
        self.unconfirmed.remove(sku);
        self.entries.remove(sku).is_some()
    }

    /// Returns true if the SKU is in quarantine, due or not.
    #[must_use]
    pub fn contains(&self, sku: &Sku) -> bool {
        self.entries.contains_key(sku)
    }

    /// Returns the entry of a SKU.
    #[must_use]
    pub fn get(&self, sku: &Sku) -> Option<&QuarantineEntry> {
        self.entries.get(sku)
    }

    /// Returns true if a quarantined SKU should be retried now: its pause is over, or its count
    /// differs from the rejected one.
    #[must_use]
    pub fn is_due(&self, sku: &Sku, level: Level, now: DateTime<Utc>) -> bool {
        self.entries
            .get(sku)
            .is_some_and(|entry| entry.retry_at <= now || entry.level.count != level.count)
    }

    /// Returns the SKUs whose pause is over.
    #[must_use]
    pub fn due_skus(&self, now: DateTime<Utc>) -> Vec<Sku> {
        let due = self.entries.values().filter(|entry| entry.retry_at <= now);
        due.map(|entry| entry.sku.clone()).collect()
    }

    /// Iterates over all SKUs in quarantine.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.entries.keys()
    }

    /// Returns all entries, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<QuarantineEntry> {
        let mut entries: Vec<_> = self.entries.values().cloned().collect();
        entries.sort_by(|a, b| (a.since, &a.sku).cmp(&(b.since, &b.sku)));
        entries
    }

    /// Returns the oldest entry.
    #[must_use]
    pub fn oldest(&self) -> Option<&QuarantineEntry> {
        self.entries
            .values()
            .min_by_key(|entry| (entry.since, &entry.sku))
    }

    /// Returns the number of SKUs in quarantine.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if no SKU is in quarantine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use stock::{Count, Timestamp};

    use super::*;

    fn level(count: i64, micros: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Timestamp::from_micros(micros).unwrap(),
        }
    }

    #[test]
    fn pause_doubles_from_an_hour_to_a_day() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let sku = Sku::parse("A").unwrap();
        let mut quarantine = Quarantine::default();
        let hours: Vec<i64> = (0..7)
            .map(|_| {
                quarantine
                    .add(
                        &sku,
                        level(1, 0),
                        String::new(),
                        (now, Confirmation::Confirmed),
                    )
                    .retry_at
                    - now
            })
            .map(|pause| pause.num_hours())
            .collect();
        assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24]);
    }

    #[test]
    fn retries_after_the_pause_or_a_changed_count() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let sku = Sku::parse("A").unwrap();
        let mut quarantine = Quarantine::default();
        quarantine.add(
            &sku,
            level(1, 0),
            "rejected".to_owned(),
            (now, Confirmation::Confirmed),
        );
        assert!(
            !quarantine.is_due(&sku, level(1, 5), now),
            "a later date alone is not a change"
        );
        assert!(quarantine.is_due(&sku, level(2, 5), now));
        assert!(quarantine.is_due(&sku, level(1, 0), now + TimeDelta::hours(1)));
        assert!(quarantine.release(&sku));
        assert!(!quarantine.is_due(&sku, level(2, 5), now));
    }
}
