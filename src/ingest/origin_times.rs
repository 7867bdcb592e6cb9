//! Time of the last statement per shop and origin, and which of these times are not on disk yet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stock::ShopId;

use super::Origin;
use crate::store::{Notes, Store, StoreError};

/// Prefix of the notes that keep the times in the store; the name of the origin follows.
const STATED_NOTE_PREFIX: &str = "asserted:";

/// Time of the last statement of each origin about each shop, whether it changed stock or not.
#[derive(Debug, Default)]
pub struct OriginTimes {
    last_stated: Mutex<BTreeMap<(u16, Origin), DateTime<Utc>>>,
    unsaved: Mutex<BTreeSet<(u16, Origin)>>,
}

/// Last statement of one origin about one shop.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OriginTime {
    /// See [`Origin::name`].
    pub origin: Cow<'static, str>,
    /// Time of the last statement.
    pub last_asserted: DateTime<Utc>,
}

impl OriginTimes {
    /// Restores the times of these shops from the notes.
    #[must_use]
    pub fn restore(notes: &Notes, shops: impl Iterator<Item = ShopId>) -> Self {
        let times = Self::default();
        for shop in shops {
            for (name, text) in notes.with_prefix(shop, STATED_NOTE_PREFIX) {
                if let (Some(origin), Ok(at)) = (Origin::from_name(name), text.parse()) {
                    times.record(shop, origin, at);
                }
            }
        }
        times
    }

    /// Takes over later times from notes that other replicas have written.
    pub fn merge(&self, notes: &Notes, shops: impl Iterator<Item = ShopId>) {
        let mut last = self.last_stated.lock();
        for shop in shops {
            for (name, text) in notes.with_prefix(shop, STATED_NOTE_PREFIX) {
                if let (Some(origin), Ok(at)) = (Origin::from_name(name), text.parse()) {
                    let known = last.entry((shop.0, origin)).or_insert(at);
                    *known = at.max(*known);
                }
            }
        }
    }

    /// Persists the times of a shop that changed since the last call of this method.
    ///
    /// # Errors
    /// The store cannot write.
    pub async fn save(&self, shop: ShopId, store: &Store) -> Result<(), StoreError> {
        for (origin, at) in self.take_unsaved(shop) {
            let name = format!("{STATED_NOTE_PREFIX}{}", origin.name());
            let text = at.to_rfc3339();
            store.put_note(Some(shop), &name, Some(&text)).await?;
        }
        Ok(())
    }

    /// Records a statement of an origin; an earlier time than the known one is ignored.
    pub fn record(&self, shop: ShopId, origin: Origin, at: DateTime<Utc>) {
        let mut last = self.last_stated.lock();
        let known = last.entry((shop.0, origin)).or_insert(at);
        *known = at.max(*known);
        drop(last);
        self.unsaved.lock().insert((shop.0, origin));
    }

    /// Returns the origins of a shop with a statement since the last call of this method.
    fn take_unsaved(&self, shop: ShopId) -> Vec<(Origin, DateTime<Utc>)> {
        let mut unsaved = self.unsaved.lock();
        let times = self.times(shop).into_iter();
        times
            .filter(|(origin, _)| unsaved.remove(&(shop.0, *origin)))
            .collect()
    }

    /// Returns every origin of a shop with the time of its last statement.
    #[must_use]
    pub fn times(&self, shop: ShopId) -> Vec<(Origin, DateTime<Utc>)> {
        let last = self.last_stated.lock();
        let matching = last.iter().filter(|((owner, _), _)| *owner == shop.0);
        matching.map(|((_, origin), at)| (*origin, *at)).collect()
    }

    /// Returns the same as [`OriginTimes::times`], with the names of the origins.
    #[must_use]
    pub fn by_name(&self, shop: ShopId) -> Vec<OriginTime> {
        let source = |(origin, last_asserted): (Origin, _)| OriginTime {
            origin: origin.name().into(),
            last_asserted,
        };
        self.times(shop).into_iter().map(source).collect()
    }

    /// Returns the latest statement about a shop.
    #[must_use]
    pub fn latest(&self, shop: ShopId) -> Option<(Origin, DateTime<Utc>)> {
        self.times(shop).into_iter().max_by_key(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_time_per_shop_and_origin() {
        let origin_times = OriginTimes::default();
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        origin_times.record(ShopId(0), Origin::CampaignPut, at(20));
        origin_times.record(ShopId(0), Origin::CampaignPut, at(10));
        origin_times.record(ShopId(0), Origin::BusinessPost, at(30));
        origin_times.record(ShopId(1), Origin::CampaignPut, at(40));
        assert_eq!(
            origin_times.latest(ShopId(0)),
            Some((Origin::BusinessPost, at(30)))
        );
        assert_eq!(
            origin_times.times(ShopId(0))[0],
            (Origin::CampaignPut, at(20))
        );
        assert_eq!(origin_times.latest(ShopId(2)), None);
    }
}
