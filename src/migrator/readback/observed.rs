use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::MatchClass;
use crate::stock::{PerSku, ShopId, Sku, SkuId};

/// What the Market showed of a SKU last, in 8 bytes. Never, by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Observed {
    available: u32,
    // Minutes since 2020 in the upper 24 bits, of which 0 is never; then the pass, modulo 16;
    // then the class.
    packed: u32,
}

/// 2020-01-01T00:00:00Z, in seconds.
const EPOCH_2020: i64 = 1_577_836_800;

/// Which pass: passes are numbered modulo 16, and their beginning tells apart those of a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassId {
    pub(super) number: u8,
    pub(super) began: DateTime<Utc>,
}

impl Observed {
    pub(super) fn new(available: u64, at: DateTime<Utc>, pass: PassId, class: MatchClass) -> Self {
        let number = u32::from(pass.number % 16);
        let packed = minutes(at) << 8 | number << 4 | u32::from(class.number());
        Self {
            available: u32::try_from(available).unwrap_or(u32::MAX),
            packed,
        }
    }

    /// How many can be ordered, by the Market's account.
    #[must_use]
    pub fn available(self) -> u32 {
        self.available
    }

    /// When it was looked at, to the minute; `None` if never.
    #[must_use]
    pub fn at(self) -> Option<DateTime<Utc>> {
        let minutes = i64::from(self.packed >> 8);
        (minutes > 0)
            .then(|| DateTime::from_timestamp(EPOCH_2020 + minutes * 60, 0))
            .flatten()
    }

    /// How it stood to what the Market was told.
    #[must_use]
    pub fn class(self) -> Option<MatchClass> {
        self.at()
            .and_then(|_| MatchClass::from_number(self.packed.to_le_bytes()[0] & 0x0f))
    }

    /// The class, if it was seen in this pass.
    pub(super) fn class_in(self, pass: PassId) -> Option<MatchClass> {
        let is_same_number = (self.packed >> 4) & 0x0f == u32::from(pass.number % 16);
        let is_after_start = self.packed >> 8 >= minutes(pass.began);
        self.class().filter(|_| is_same_number && is_after_start)
    }
}

fn minutes(at: DateTime<Utc>) -> u32 {
    let minutes = ((at.timestamp() - EPOCH_2020) / 60).clamp(1, 0xff_ffff);
    u32::try_from(minutes).unwrap_or(1)
}

/// What the Market showed last of each SKU of every shop.
#[derive(Debug)]
pub struct Observations {
    shops: Vec<Mutex<PerSku<Observed>>>,
    // What the Market's catalogue has and we have not, shop by shop.
    unknown_skus: Vec<Mutex<HashSet<Sku>>>,
}

/// Most SKUs of the Market's catalogue that are remembered of a shop without knowing their
/// stock: some 10 MB.
const MAX_UNKNOWN_SKUS: usize = 200_000;

impl Observations {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(shops: usize) -> Self {
        Self {
            shops: (0..shops).map(|_| Mutex::default()).collect(),
            unknown_skus: (0..shops).map(|_| Mutex::default()).collect(),
        }
    }

    /// The SKUs the Market's catalogue has and we had not when it was read back.
    #[must_use]
    pub fn unknown_skus(&self, shop: ShopId) -> Vec<Sku> {
        self.lock_unknown(shop).iter().cloned().collect()
    }

    pub(super) fn record_unknown(&self, shop: ShopId, sku: Sku) {
        let mut unknown = self.lock_unknown(shop);
        if unknown.len() < MAX_UNKNOWN_SKUS {
            unknown.insert(sku);
        }
    }

    fn lock_unknown(&self, shop: ShopId) -> MutexGuard<'_, HashSet<Sku>> {
        self.unknown_skus[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen last of one SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Observed {
        self.with(shop, |per_sku| per_sku.get(id))
    }

    pub(super) fn with<T>(
        &self,
        shop: ShopId,
        access: impl FnOnce(&mut PerSku<Observed>) -> T,
    ) -> T {
        access(
            &mut self.shops[shop.index()]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    #[test]
    fn a_sighting_tells_what_when_and_in_which_pass() {
        let pass = PassId {
            number: 17,
            began: at(0),
        };
        let observed = Observed::new(7, at(3), pass, MatchClass::Drifted);
        assert_eq!((observed.available(), observed.at()), (7, Some(at(3))));
        assert_eq!(observed.class_in(pass), Some(MatchClass::Drifted));
        assert_eq!(observed.class_in(PassId { number: 2, ..pass }), None);
        // The next but fifteen has the same number, and began later.
        assert_eq!(
            observed.class_in(PassId {
                number: 33,
                began: at(4)
            }),
            None
        );
        assert_eq!(Observed::default().class(), None);
        assert_eq!(size_of::<Observed>(), 8);
    }
}
