//! SKUs the Market refuses by themselves: set aside, with the reason, tried again rarely.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::stock::{Level, Sku};
use crate::store::Quarantined;

/// The first pause before a refused SKU is tried again; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// The longest pause.
const LAST_PAUSE: TimeDelta = TimeDelta::hours(24);

/// The same for a SKU that may be innocent, because nothing was accepted since its rejection.
const FIRST_UNPROVEN_PAUSE: TimeDelta = TimeDelta::minutes(1);

/// The longest such pause.
const LAST_UNPROVEN_PAUSE: TimeDelta = TimeDelta::minutes(10);

/// Whether it is certain that the SKU is rejected by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// The Market accepted another request after the rejection, or named the SKU.
    Proven,
    /// Nothing else was left to send, so the Market may have rejected everything.
    Unproven,
}

/// The SKUs of one shop that are set aside.
#[derive(Debug, Default)]
pub struct Quarantine {
    rows: HashMap<Sku, Quarantined>,
    // Of these, those without proof.
    unproven: HashSet<Sku>,
}

impl Quarantine {
    /// As the store remembers it.
    #[must_use]
    pub fn new(rows: Vec<Quarantined>) -> Self {
        let rows = rows.into_iter().map(|row| (row.sku.clone(), row)).collect();
        Self {
            rows,
            unproven: HashSet::new(),
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
        (now, proof): (DateTime<Utc>, Proof),
    ) -> &Quarantined {
        let was_unproven = match proof {
            Proof::Proven => self.unproven.remove(sku),
            Proof::Unproven => !self.unproven.insert(sku.clone()),
        };
        let known = self
            .rows
            .get(sku)
            .filter(|row| row.level.count == level.count);
        let since = known.map_or(now, |row| row.since);
        let known = known.filter(|_| was_unproven == (proof == Proof::Unproven));
        let attempts = known.map_or(1, |row| row.attempts.saturating_add(1));
        let (first, last) = match proof {
            Proof::Proven => (FIRST_PAUSE, LAST_PAUSE),
            Proof::Unproven => (FIRST_UNPROVEN_PAUSE, LAST_UNPROVEN_PAUSE),
        };
        let doublings = attempts.saturating_sub(1).min(8);
        let pause = (first * (1 << doublings)).min(last);
        let retry_at = now + pause;
        let row = Quarantined {
            sku: sku.clone(),
            level,
            reason,
            since,
            attempts,
            retry_at,
        };
        self.rows.entry(sku.clone()).insert_entry(row).into_mut()
    }

    /// Whether the SKU is set aside with this count.
    #[must_use]
    pub fn has_count(&self, sku: &Sku, level: Level) -> bool {
        self.rows
            .get(sku)
            .is_some_and(|row| row.level.count == level.count)
    }

    /// Whether the SKU is set aside with this count, and with a proof.
    #[must_use]
    pub fn is_proven(&self, sku: &Sku, level: Level) -> bool {
        self.has_count(sku, level) && !self.unproven.contains(sku)
    }

    /// How many SKUs are set aside without a proof.
    #[must_use]
    pub fn unproven(&self) -> usize {
        self.unproven.len()
    }

    /// Makes the SKUs without a proof due: something was accepted, so they can be tried.
    pub fn try_unproven(&mut self, now: DateTime<Utc>) -> Vec<Sku> {
        let skus: Vec<Sku> = self.unproven.iter().cloned().collect();
        for sku in &skus {
            if let Some(row) = self.rows.get_mut(sku) {
                row.retry_at = row.retry_at.min(now);
            }
        }
        skus
    }

    /// Hands out the SKUs without a proof: no SKU is to blame.
    #[must_use]
    pub fn acquit(&mut self) -> Vec<Sku> {
        std::mem::take(&mut self.unproven).into_iter().collect()
    }

    /// The Market took it after all.
    pub fn release(&mut self, sku: &Sku) -> bool {
        self.unproven.remove(sku);
        self.rows.remove(sku).is_some()
    }

    /// Whether the SKU is set aside, whatever its time.
    #[must_use]
    pub fn has(&self, sku: &Sku) -> bool {
        self.rows.contains_key(sku)
    }

    /// What is known of a SKU set aside.
    #[must_use]
    pub fn get(&self, sku: &Sku) -> Option<&Quarantined> {
        self.rows.get(sku)
    }

    /// Whether a SKU set aside should be tried now: its time has come, or the shop counts
    /// another number than the one that was refused.
    #[must_use]
    pub fn is_due(&self, sku: &Sku, level: Level, now: DateTime<Utc>) -> bool {
        self.rows
            .get(sku)
            .is_some_and(|row| row.retry_at <= now || row.level.count != level.count)
    }

    /// The SKUs whose time has come.
    #[must_use]
    pub fn due(&self, now: DateTime<Utc>) -> Vec<Sku> {
        let due = self.rows.values().filter(|row| row.retry_at <= now);
        due.map(|row| row.sku.clone()).collect()
    }

    /// Every SKU that is set aside.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.rows.keys()
    }

    /// Everything set aside, the longest first.
    #[must_use]
    pub fn list(&self) -> Vec<Quarantined> {
        let mut rows: Vec<_> = self.rows.values().cloned().collect();
        rows.sort_by(|a, b| (a.since, &a.sku).cmp(&(b.since, &b.sku)));
        rows
    }

    /// The one that is set aside the longest.
    #[must_use]
    pub fn first(&self) -> Option<&Quarantined> {
        self.rows.values().min_by_key(|row| (row.since, &row.sku))
    }

    /// How many SKUs are set aside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Nothing is set aside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::{Count, Instant};

    fn level(count: i64, micros: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Instant::from_micros(micros).unwrap(),
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
                    .add(&sku, level(1, 0), String::new(), (now, Proof::Proven))
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
        quarantine.add(&sku, level(1, 0), "no".to_owned(), (now, Proof::Proven));
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
