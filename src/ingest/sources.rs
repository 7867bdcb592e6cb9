use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Origin;
use crate::stock::ShopId;

/// When each origin last asserted anything of each shop, news or not.
#[derive(Debug, Default)]
pub struct Sources {
    last: Mutex<BTreeMap<(u16, Origin), DateTime<Utc>>>,
    news: Mutex<BTreeSet<(u16, Origin)>>,
}

/// One origin of one shop's stock.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Source {
    /// See [`Origin::name`].
    pub origin: &'static str,
    /// When it last asserted anything.
    pub last_asserted: DateTime<Utc>,
}

impl Sources {
    /// This origin has just asserted something.
    pub fn note(&self, shop: ShopId, origin: Origin, at: DateTime<Utc>) {
        let mut last = self.lock();
        let known = last.entry((shop.0, origin)).or_insert(at);
        *known = at.max(*known);
        drop(last);
        self.news
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((shop.0, origin));
    }

    /// The origins of a shop that have said anything since this was asked last.
    #[must_use]
    pub fn take_news(&self, shop: ShopId) -> Vec<(Origin, DateTime<Utc>)> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = self.of(shop).into_iter();
        of_it
            .filter(|(origin, _)| news.remove(&(shop.0, *origin)))
            .collect()
    }

    /// Every origin of a shop.
    #[must_use]
    pub fn of(&self, shop: ShopId) -> Vec<(Origin, DateTime<Utc>)> {
        let last = self.lock();
        let mine = last.iter().filter(|((of, _), _)| *of == shop.0);
        mine.map(|((_, origin), at)| (*origin, *at)).collect()
    }

    /// The same, by name.
    #[must_use]
    pub fn named(&self, shop: ShopId) -> Vec<Source> {
        let source = |(origin, last_asserted): (Origin, _)| Source {
            origin: origin.name(),
            last_asserted,
        };
        self.of(shop).into_iter().map(source).collect()
    }

    /// The origin that was the last to assert anything of a shop.
    #[must_use]
    pub fn latest(&self, shop: ShopId) -> Option<(Origin, DateTime<Utc>)> {
        self.of(shop).into_iter().max_by_key(|(_, at)| *at)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u16, Origin), DateTime<Utc>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_keeps_its_latest_time_and_shops_do_not_mix() {
        let sources = Sources::default();
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        sources.note(ShopId(0), Origin::CampaignPut, at(20));
        sources.note(ShopId(0), Origin::CampaignPut, at(10));
        sources.note(ShopId(0), Origin::BusinessPost, at(30));
        sources.note(ShopId(1), Origin::CampaignPut, at(40));
        assert_eq!(
            sources.latest(ShopId(0)),
            Some((Origin::BusinessPost, at(30)))
        );
        assert_eq!(sources.of(ShopId(0))[0], (Origin::CampaignPut, at(20)));
        assert_eq!(sources.latest(ShopId(2)), None);
    }
}
