//! Observations: the result of the last read-back of each SKU, packed into 8 bytes.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use stock::{PerSku, ShopId, Sku, SkuId};

use super::MatchClass;

/// Result of the last read-back of a SKU, in 8 bytes. The default means that there was none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Observed {
    available: u32,
    // Upper 24 bits: minutes since 2020, or 0 for never. Next 4 bits: number of the pass modulo
    // 16. Lower 4 bits: class.
    packed: u32,
}

/// 2020-01-01T00:00:00Z in Unix seconds.
const EPOCH_2020: i64 = 1_577_836_800;

/// Identifies a pass. Passes are numbered modulo 16; the start time separates equal numbers.
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

    /// Returns the number of pieces that the Market offers.
    #[must_use]
    pub fn available(self) -> u32 {
        self.available
    }

    /// Returns the time of the read-back, in whole minutes; `None` if there was none.
    #[must_use]
    pub fn at(self) -> Option<DateTime<Utc>> {
        let minutes = i64::from(self.packed >> 8);
        (minutes > 0)
            .then(|| DateTime::from_timestamp(EPOCH_2020 + minutes * 60, 0))
            .flatten()
    }

    /// Returns the class; `None` if there was no read-back.
    #[must_use]
    pub fn class(self) -> Option<MatchClass> {
        self.at()
            .and_then(|_| MatchClass::from_number(self.packed.to_le_bytes()[0] & 0x0f))
    }

    /// Returns the class if the SKU was recorded in this pass.
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

/// Results of the last read-back of every SKU of all shops.
#[derive(Debug)]
pub struct Observations {
    shops: Vec<Mutex<PerSku<Observed>>>,
    // SKUs of the Market's catalogue that the book does not have, per shop.
    unknown_skus: Vec<Mutex<HashSet<Sku>>>,
}

/// Largest number of unknown SKUs kept per shop: about 10 MB.
const MAX_UNKNOWN_SKUS: usize = 200_000;

impl Observations {
    /// Creates empty observations for this number of shops.
    #[must_use]
    pub fn new(shops: usize) -> Self {
        Self {
            shops: (0..shops).map(|_| Mutex::default()).collect(),
            unknown_skus: (0..shops).map(|_| Mutex::default()).collect(),
        }
    }

    /// Returns the SKUs of the Market's catalogue that the book did not have at the read-back.
    #[must_use]
    pub fn unknown_skus(&self, shop: ShopId) -> Vec<Sku> {
        self.unknown_skus[shop.index()]
            .lock()
            .iter()
            .cloned()
            .collect()
    }

    pub(super) fn record_unknown(&self, shop: ShopId, sku: Sku) {
        let mut unknown = self.unknown_skus[shop.index()].lock();
        if unknown.len() < MAX_UNKNOWN_SKUS {
            unknown.insert(sku);
        }
    }

    /// Returns the last observation of one SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Observed {
        self.with(shop, |per_sku| per_sku.get(id))
    }

    pub(super) fn with<T>(
        &self,
        shop: ShopId,
        access: impl FnOnce(&mut PerSku<Observed>) -> T,
    ) -> T {
        access(&mut self.shops[shop.index()].lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    #[test]
    fn observation_holds_count_time_pass_and_class() {
        let pass = PassId {
            number: 17,
            began: at(0),
        };
        let observed = Observed::new(7, at(3), pass, MatchClass::Drifted);
        assert_eq!((observed.available(), observed.at()), (7, Some(at(3))));
        assert_eq!(observed.class_in(pass), Some(MatchClass::Drifted));
        assert_eq!(observed.class_in(PassId { number: 2, ..pass }), None);
        // Sixteen passes later the number is the same, but the start is later.
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
