//! SKUs the Market refuses by themselves: set aside, with the reason, tried again rarely.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::stock::{Level, Sku};
use crate::store::Quarantined;

/// The first pause before a refused SKU is tried again; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// The longest pause.
const LAST_PAUSE: TimeDelta = TimeDelta::hours(24);

/// The SKUs of one shop that are set aside.
#[derive(Debug, Default)]
pub struct Quarantine {
    rows: HashMap<Sku, Quarantined>,
}

impl Quarantine {
    /// As the store remembers it.
    #[must_use]
    pub fn new(rows: Vec<Quarantined>) -> Self {
        Self { rows: rows.into_iter().map(|row| (row.sku.clone(), row)).collect() }
    }

    /// Sets a SKU aside, or sets it aside again for longer.
    pub fn add(
        &mut self,
        sku: &Sku,
        level: Level,
        reason: String,
        now: DateTime<Utc>,
    ) -> &Quarantined {
        let (attempts, since) =
            self.rows.get(sku).map_or((1, now), |row| (row.attempts.saturating_add(1), row.since));
        let doublings = attempts.saturating_sub(1).min(8);
        let pause = (FIRST_PAUSE * (1 << doublings)).min(LAST_PAUSE);
        let retry_at = now + pause;
        let row = Quarantined { sku: sku.clone(), level, reason, since, attempts, retry_at };
        self.rows.entry(sku.clone()).insert_entry(row).into_mut()
    }

    /// The Market took it after all.
    pub fn release(&mut self, sku: &Sku) -> bool {
        self.rows.remove(sku).is_some()
    }

    /// Whether the SKU is set aside, whatever its time.
    #[must_use]
    pub fn has(&self, sku: &Sku) -> bool {
        self.rows.contains_key(sku)
    }

    /// Whether a SKU set aside should be tried now: its time has come, or the shop counts
    /// another number than the one that was refused.
    #[must_use]
    pub fn is_due(&self, sku: &Sku, level: Level, now: DateTime<Utc>) -> bool {
        self.rows.get(sku).is_some_and(|row| row.retry_at <= now || row.level.count != level.count)
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
            .map(|_| quarantine.add(&sku, level(1, 0), String::new(), now).retry_at - now)
            .map(|pause| pause.num_hours())
            .collect();
        assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24]);
    }

    #[test]
    fn a_sku_is_tried_again_when_its_time_comes_or_its_count_changes() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let sku = Sku::parse("A").unwrap();
        let mut quarantine = Quarantine::default();
        quarantine.add(&sku, level(1, 0), "no".to_owned(), now);
        assert!(!quarantine.is_due(&sku, level(1, 5), now), "a later date alone is no news");
        assert!(quarantine.is_due(&sku, level(2, 5), now));
        assert!(quarantine.is_due(&sku, level(1, 0), now + TimeDelta::hours(1)));
        assert!(quarantine.release(&sku));
        assert!(!quarantine.is_due(&sku, level(2, 5), now));
    }
}
