//! SKUs the Market refuses by themselves: set aside, with the reason, tried again rarely.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::stock::{Level, Sku};
use crate::store::QuarantineEntry;

/// The first pause before a refused SKU is tried again; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// The longest pause.
const MAX_PAUSE: TimeDelta = TimeDelta::hours(24);

/// The same for a SKU that may be innocent, because nothing was accepted since its rejection.
const FIRST_UNCONFIRMED_PAUSE: TimeDelta = TimeDelta::minutes(1);

/// The longest such pause.
const MAX_UNCONFIRMED_PAUSE: TimeDelta = TimeDelta::minutes(10);

/// Whether it is certain that the SKU is rejected by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confirmation {
    /// The Market accepted another request after the rejection, or named the SKU.
    Confirmed,
    /// Nothing else was left to send, so the Market may have rejected everything.
    Unconfirmed,
}

/// The SKUs of one shop that are set aside.
#[derive(Debug, Default)]
pub struct Quarantine {
    entries: HashMap<Sku, QuarantineEntry>,
    // Of these, those without proof.
    unconfirmed: HashSet<Sku>,
}

impl Quarantine {
    /// As the store remembers it.
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

    /// Sets a SKU aside, or sets it aside again for longer.
    ///
    /// The pause doubles only while the same count is rejected: a changed count is another try,
    /// and so is the first rejection with a proof.
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

    /// Whether the SKU is set aside with this count.
    #[must_use]
    pub fn has_with_count(&self, sku: &Sku, level: Level) -> bool {
        self.entries
            .get(sku)
            .is_some_and(|entry| entry.level.count == level.count)
    }

    /// Whether the SKU is set aside with this count, and with a proof.
    #[must_use]
    pub fn is_confirmed(&self, sku: &Sku, level: Level) -> bool {
        self.has_with_count(sku, level) && !self.unconfirmed.contains(sku)
    }

    /// How many SKUs are set aside without a proof.
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Makes the SKUs without a proof due: something was accepted, so they can be tried.
    pub fn make_unconfirmed_due(&mut self, now: DateTime<Utc>) -> Vec<Sku> {
        let skus: Vec<Sku> = self.unconfirmed.iter().cloned().collect();
        for sku in &skus {
            if let Some(entry) = self.entries.get_mut(sku) {
                entry.retry_at = entry.retry_at.min(now);
            }
        }
        skus
    }

    /// Hands out the SKUs without a proof: no SKU is to blame.
    #[must_use]
    pub fn take_unconfirmed(&mut self) -> Vec<Sku> {
        std::mem::take(&mut self.unconfirmed).into_iter().collect()
    }

    /// The Market took it after all.
    pub fn release(&mut self, sku: &Sku) -> bool {
        self.unconfirmed.remove(sku);
        self.entries.remove(sku).is_some()
    }

    /// Whether the SKU is set aside, whatever its time.
    #[must_use]
    pub fn contains(&self, sku: &Sku) -> bool {
        self.entries.contains_key(sku)
    }

    /// What is known of a SKU set aside.
    #[must_use]
    pub fn get(&self, sku: &Sku) -> Option<&QuarantineEntry> {
        self.entries.get(sku)
    }

    /// Whether a SKU set aside should be tried now: its time has come, or the shop counts
    /// another number than the one that was refused.
    #[must_use]
    pub fn is_due(&self, sku: &Sku, level: Level, now: DateTime<Utc>) -> bool {
        self.entries
            .get(sku)
            .is_some_and(|entry| entry.retry_at <= now || entry.level.count != level.count)
    }

    /// The SKUs whose time has come.
    #[must_use]
    pub fn due_skus(&self, now: DateTime<Utc>) -> Vec<Sku> {
        let due = self.entries.values().filter(|entry| entry.retry_at <= now);
        due.map(|entry| entry.sku.clone()).collect()
    }

    /// Every SKU that is set aside.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.entries.keys()
    }

    /// Everything set aside, the longest first.
    #[must_use]
    pub fn list(&self) -> Vec<QuarantineEntry> {
        let mut entries: Vec<_> = self.entries.values().cloned().collect();
        entries.sort_by(|a, b| (a.since, &a.sku).cmp(&(b.since, &b.sku)));
        entries
    }

    /// The one that is set aside the longest.
    #[must_use]
    pub fn oldest(&self) -> Option<&QuarantineEntry> {
        self.entries
            .values()
            .min_by_key(|entry| (entry.since, &entry.sku))
    }

    /// How many SKUs are set aside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is set aside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::{Count, Timestamp};

    fn level(count: i64, micros: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Timestamp::from_micros(micros).unwrap(),
        }
    }

    #[test]
    fn the_pause_doubles_from_an_hour_to_a_day() {
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
    fn a_sku_is_tried_again_when_its_time_comes_or_its_count_changes() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let sku = Sku::parse("A").unwrap();
        let mut quarantine = Quarantine::default();
        quarantine.add(
            &sku,
            level(1, 0),
            "no".to_owned(),
            (now, Confirmation::Confirmed),
        );
        assert!(
            !quarantine.is_due(&sku, level(1, 5), now),
            "a later date alone is no news"
        );
        assert!(quarantine.is_due(&sku, level(2, 5), now));
        assert!(quarantine.is_due(&sku, level(1, 0), now + TimeDelta::hours(1)));
        assert!(quarantine.release(&sku));
        assert!(!quarantine.is_due(&sku, level(2, 5), now));
    }
}
