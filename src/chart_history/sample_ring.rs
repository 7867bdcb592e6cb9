//! Ring of samples of one shop and one resolution. Pure: time is a period number.

use super::series::ChartSample;

/// Sample of one period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PeriodSample {
    /// Number of the period since 1970.
    pub(super) period: i64,
    /// Number of minutes in the sample: 1 for a minute, at most 60 for an hour.
    pub(super) minutes: u8,
    pub(super) sample: ChartSample,
}

/// Fixed number of slots. A period always has the same slot, so a clock that jumps replaces
/// samples and never adds any.
#[derive(Clone, Debug)]
pub(super) struct SampleRing(Box<[Option<PeriodSample>]>);

impl SampleRing {
    pub(super) fn new(capacity: usize) -> Self {
        Self(vec![None; capacity].into_boxed_slice())
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.len()
    }

    /// Returns the slot of a period.
    pub(super) fn slot_of(&self, period: i64) -> usize {
        let capacity = i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        usize::try_from(period.rem_euclid(capacity)).unwrap_or_default()
    }

    /// Returns the sample of a slot.
    pub(super) fn at_slot(&self, slot: usize) -> Option<&PeriodSample> {
        self.0.get(slot)?.as_ref()
    }

    /// Returns the sample of a period; `None` is a gap.
    pub(super) fn get(&self, period: i64) -> Option<&PeriodSample> {
        self.at_slot(self.slot_of(period))
            .filter(|sample| sample.period == period)
    }

    /// Stores a sample in the slot of its period.
    pub(super) fn put(&mut self, sample: PeriodSample) {
        let slot = self.slot_of(sample.period);
        self.0[slot] = Some(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_periods_and_any_number() {
        let mut ring = SampleRing::new(3);
        let put = |ring: &mut SampleRing, period| {
            ring.put(PeriodSample {
                period,
                minutes: 1,
                sample: ChartSample::default(),
            });
        };
        for period in 10..15 {
            put(&mut ring, period);
        }
        let kept = |ring: &SampleRing| -> Vec<i64> {
            let slots = (0..ring.capacity()).filter_map(|slot| ring.at_slot(slot));
            let mut periods: Vec<i64> = slots.map(|sample| sample.period).collect();
            periods.sort_unstable();
            periods
        };
        assert_eq!(kept(&ring), [12, 13, 14]);
        assert!(ring.get(11).is_none() && ring.get(14).is_some());
        for period in [-1, i64::MIN, i64::MAX] {
            put(&mut ring, period);
            assert_eq!(ring.get(period).map(|it| it.period), Some(period));
        }
    }
}
