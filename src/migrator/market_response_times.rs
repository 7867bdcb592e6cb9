//! Times in which the Market answered update requests, collected until they are taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Response times of one shop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UpdateResponseTimes {
    responses: u32,
    total: Duration,
    max: Duration,
}

impl UpdateResponseTimes {
    /// Returns the mean; `None` without a response.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.total.checked_div(self.responses)
    }

    /// Returns the longest time; `None` without a response.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.responses > 0).then_some(self.max)
    }
}

/// Response times by the name of the shop. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseTimesByShop(Arc<Mutex<HashMap<String, UpdateResponseTimes>>>);

impl ResponseTimesByShop {
    pub(super) fn record(&self, shop: &str, duration: Duration) {
        let mut by_shop = self.0.lock();
        let times = by_shop.entry(shop.to_owned()).or_default();
        times.responses = times.responses.saturating_add(1);
        times.total = times.total.saturating_add(duration);
        times.max = times.max.max(duration);
    }

    pub(super) fn take(&self, shop: &str) -> UpdateResponseTimes {
        self.0.lock().remove(shop).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_once_and_by_shop() {
        let times = ResponseTimesByShop::default();
        for (shop, millis) in [("moscow", 100), ("moscow", 300), ("kazan", 7)] {
            times.clone().record(shop, Duration::from_millis(millis));
        }
        let taken = times.take("moscow");
        assert_eq!(taken.mean(), Some(Duration::from_millis(200)));
        assert_eq!(taken.max(), Some(Duration::from_millis(300)));
        let taken = times.take("moscow");
        assert_eq!((taken.mean(), taken.max()), (None, None));
        assert_eq!(times.take("kazan").max(), Some(Duration::from_millis(7)));
    }
}
