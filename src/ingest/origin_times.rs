use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Origin;
use crate::stock::ShopId;

/// When each origin last asserted anything of each shop, news or not.
#[derive(Debug, Default)]
pub struct OriginTimes {
    last_stated: Mutex<BTreeMap<(u16, Origin), DateTime<Utc>>>,
    unsaved: Mutex<BTreeSet<(u16, Origin)>>,
}

/// One origin of one shop's stock.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OriginTime {
    /// See [`Origin::name`].
    pub origin: &'static str,
    /// When it last asserted anything.
    pub last_asserted: DateTime<Utc>,
}

impl OriginTimes {
    /// This origin has just asserted something.
    pub fn record(&self, shop: ShopId, origin: Origin, at: DateTime<Utc>) {
        let mut last = self.lock();
        let known = last.entry((shop.0, origin)).or_insert(at);
        *known = at.max(*known);
        drop(last);
        self.unsaved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((shop.0, origin));
    }

    /// The origins of a shop that have said anything since this was asked last.
    #[must_use]
    pub fn take_unsaved(&self, shop: ShopId) -> Vec<(Origin, DateTime<Utc>)> {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        let times = self.times(shop).into_iter();
        times
            .filter(|(origin, _)| unsaved.remove(&(shop.0, *origin)))
            .collect()
    }

    /// Every origin of a shop.
    #[must_use]
    pub fn times(&self, shop: ShopId) -> Vec<(Origin, DateTime<Utc>)> {
        let last = self.lock();
        let matching = last.iter().filter(|((owner, _), _)| *owner == shop.0);
        matching.map(|((_, origin), at)| (*origin, *at)).collect()
    }

    /// The same, by name.
    #[must_use]
    pub fn by_name(&self, shop: ShopId) -> Vec<OriginTime> {
        let source = |(origin, last_asserted): (Origin, _)| OriginTime {
            origin: origin.name(),
            last_asserted,
        };
        self.times(shop).into_iter().map(source).collect()
    }

    /// The origin that was the last to assert anything of a shop.
    #[must_use]
    pub fn latest(&self, shop: ShopId) -> Option<(Origin, DateTime<Utc>)> {
        self.times(shop).into_iter().max_by_key(|(_, at)| *at)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u16, Origin), DateTime<Utc>>> {
        self.last_stated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_keeps_its_latest_time_and_shops_do_not_mix() {
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
