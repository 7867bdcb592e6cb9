//! History of each shop's numbers for the charts: a sample every minute for 24 hours, and every
//! hour for 90 days.
//!
//! In memory in rings of a fixed size, about 230 kB a shop, and in `charts.db` in the store's
//! directory, which is read at the start and gets the latest samples each minute in one
//! transaction. A period in which the service did not run has no sample and is shown as a gap. No
//! decision of the service depends on the history, so a damaged file is renamed and a new one is
//! begun.

mod chart_file;
mod sample_ring;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

pub use chart_file::ChartFile;
pub use series::{Aggregation, ChartSample, Series};

use lifecycle::Clock;
use stock::ShopId;

use self::sample_ring::{PeriodSample, SampleRing};

/// Length of the periods of a chart.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Resolution {
    /// One minute, for the last 24 hours.
    Minute,
    /// One hour, for the last 90 days.
    Hour,
}

impl Resolution {
    /// Both resolutions.
    pub const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// Returns the name in the address of a request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Returns the length of a period in seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// Returns the number of periods that are kept.
    #[must_use]
    pub const fn periods(self) -> usize {
        match self {
            Self::Minute => 24 * 60,
            Self::Hour => 90 * 24,
        }
    }

    fn period_of(self, at: DateTime<Utc>) -> i64 {
        at.timestamp().div_euclid(self.seconds())
    }

    fn start_of(self, period: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(period.saturating_mul(self.seconds()), 0).unwrap_or_default()
    }
}

/// Handle to the history of all shops. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChartHistory(Arc<ChartState>);

#[derive(Debug)]
struct ChartState {
    names: Vec<String>,
    clock: Clock,
    rings: Mutex<Rings>,
}

#[derive(Debug)]
struct Rings {
    shops: Vec<ShopRings>,
    // Slots that differ from the file: shop, resolution, slot.
    unsaved: BTreeSet<(usize, Resolution, usize)>,
    // Minute that was recorded last; a second sample of it is merged.
    last_minute: Option<i64>,
}

/// Rings of a shop, in the order of [`Resolution::ALL`].
#[derive(Clone, Debug)]
struct ShopRings([SampleRing; 2]);

impl ShopRings {
    fn ring(&self, resolution: Resolution) -> &SampleRing {
        &self.0[resolution as usize]
    }

    fn ring_mut(&mut self, resolution: Resolution) -> &mut SampleRing {
        &mut self.0[resolution as usize]
    }

    /// Stores the sample of a minute and updates its hour.
    fn record(&mut self, minute: i64, sample: ChartSample, is_merged: bool) {
        let [minutes, hours] = &mut self.0;
        let known = minutes.get(minute).filter(|_| is_merged);
        let sample = known.map_or(sample, |known| {
            ChartSample::aggregate(&[known.sample, sample])
        });
        minutes.put(PeriodSample {
            period: minute,
            minutes: 1,
            sample,
        });
        let hour = minute.div_euclid(60);
        let first = hour.saturating_mul(60);
        let of_hour = (first..first.saturating_add(60)).filter_map(|it| minutes.get(it));
        let samples: Vec<ChartSample> = of_hour.map(|it| it.sample).collect();
        let count = u8::try_from(samples.len()).unwrap_or(u8::MAX);
        // A clock that was set back by days meets hours whose minutes are gone: they stay.
        let is_fuller = hours.get(hour).is_some_and(|it| it.minutes > count);
        if !is_fuller {
            hours.put(PeriodSample {
                period: hour,
                minutes: count,
                sample: ChartSample::aggregate(&samples),
            });
        }
    }
}

impl ChartHistory {
    /// Opens the history of the shops with these names, in the order of the book.
    ///
    /// Never fails: while the file cannot be used, the history is in memory only. The caller saves
    /// with the file.
    pub async fn open(directory: &Path, names: Vec<String>, clock: Clock) -> (Self, ChartFile) {
        let history = Self::empty(names, clock);
        let file = ChartFile::open(directory, &history).await;
        (history, file)
    }

    fn empty(names: Vec<String>, clock: Clock) -> Self {
        let rings = ShopRings(Resolution::ALL.map(|it| SampleRing::new(it.periods())));
        let shops = vec![rings; names.len()];
        Self(Arc::new(ChartState {
            names,
            clock,
            rings: Mutex::new(Rings {
                shops,
                unsaved: BTreeSet::new(),
                last_minute: None,
            }),
        }))
    }

    /// Records one sample of each shop, in the order of the book, for the minute of `at`.
    ///
    /// A second sample in a row of the same minute is merged with the first: the counts of a
    /// restart within a minute are of different times. A clock that was set back replaces the
    /// samples that it meets again.
    pub fn record(&self, at: DateTime<Utc>, samples: Vec<ChartSample>) {
        let minute = Resolution::Minute.period_of(at);
        let mut rings = self.0.rings.lock();
        let is_merged = rings.last_minute == Some(minute);
        rings.last_minute = Some(minute);
        for (shop, sample) in samples.into_iter().enumerate() {
            let Some(shop_rings) = rings.shops.get_mut(shop) else {
                return;
            };
            shop_rings.record(minute, sample, is_merged);
            let unsaved = Resolution::ALL.map(|it| {
                let slot = shop_rings.ring(it).slot_of(it.period_of(at));
                (shop, it, slot)
            });
            rings.unsaved.extend(unsaved);
        }
    }

    /// Returns the values of a series until now, the oldest first: one for each period that is
    /// kept, `None` for a gap. The current period is the last one, once it has a sample.
    #[must_use]
    pub fn series(
        &self,
        shop: ShopId,
        series: Series,
        resolution: Resolution,
    ) -> Vec<(DateTime<Utc>, Option<f64>)> {
        let current = resolution.period_of(self.0.clock.now());
        let rings = self.0.rings.lock();
        let Some(shop_rings) = rings.shops.get(shop.index()) else {
            return Vec::new();
        };
        let ring = shop_rings.ring(resolution);
        let last = current - i64::from(ring.get(current).is_none());
        let first = last + 1 - i64::try_from(ring.capacity()).unwrap_or_default();
        (first..=last)
            .map(|period| {
                let sample = ring.get(period);
                let value = sample.and_then(|it| it.sample.get(series));
                (resolution.start_of(period), value)
            })
            .collect()
    }
}
