//! Series of the charts, one sample of all series, and the aggregation of samples.

/// Number of series.
pub(super) const SERIES_COUNT: usize = Series::ALL.len();

/// Number that a chart shows over time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(usize)]
pub enum Series {
    /// SKUs whose acknowledged stock differs from ours, as far as the worker knows: those that wait,
    /// are in flight or in quarantine. A queue has at most 50 000 SKUs.
    DirtySkus,
    /// SKUs that wait to be sent.
    WaitingSkus,
    /// SKUs that the Market acknowledged in the period.
    AcknowledgedSkus,
    /// Update requests to the Market that ended in the period.
    UpdateRequests,
    /// Rate limit in SKUs or requests a minute, see
    /// [`RateLimitStatus`](crate::migrator::RateLimitStatus).
    RateLimit,
    /// Mean time in which the Market answered an update, in seconds.
    #[strum(serialize = "response_mean_seconds")]
    ResponseMean,
    /// Longest time in which the Market answered an update, in seconds.
    #[strum(serialize = "response_max_seconds")]
    ResponseMax,
    /// Stock requests of the Market that were answered with stock in the period.
    MarketRequests,
    /// SKUs in these requests.
    RequestedSkus,
    /// SKUs in these requests whose stock is unknown.
    UnknownSkus,
    /// Active alarms about the shop.
    ActiveAlarms,
}

/// Rule by which samples of a longer period become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aggregation {
    /// Total of the period.
    Sum,
    /// Highest value: a short peak stays visible.
    Max,
    /// Lowest value.
    Min,
    /// Mean, weighted by the update requests of each sample.
    MeanPerRequest,
}

impl Series {
    /// Every series. The order is that of the values on disk, so a new one is added at the end.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the rule by which minutes become an hour.
    ///
    /// A limit is the lowest of the hour, because that one delayed the sending. States are the
    /// highest, so that a short backlog is not averaged away.
    #[must_use]
    pub const fn aggregation(self) -> Aggregation {
        match self {
            Self::AcknowledgedSkus
            | Self::UpdateRequests
            | Self::MarketRequests
            | Self::RequestedSkus
            | Self::UnknownSkus => Aggregation::Sum,
            Self::DirtySkus | Self::WaitingSkus | Self::ResponseMax | Self::ActiveAlarms => {
                Aggregation::Max
            }
            Self::RateLimit => Aggregation::Min,
            Self::ResponseMean => Aggregation::MeanPerRequest,
        }
    }
}

/// Values of all series of one shop in one period. A series without a value is a gap.
///
/// Four bytes a value, because a ring has thousands of samples.
#[derive(Clone, Copy, Debug)]
pub struct ChartSample([f32; SERIES_COUNT]);

/// Value of a gap.
const GAP: f32 = f32::NAN;

impl Default for ChartSample {
    fn default() -> Self {
        Self([GAP; SERIES_COUNT])
    }
}

/// Compares the bits, so that a gap equals a gap.
impl PartialEq for ChartSample {
    fn eq(&self, other: &Self) -> bool {
        self.0.map(f32::to_bits) == other.0.map(f32::to_bits)
    }
}

impl ChartSample {
    /// Returns the value of a series.
    #[must_use]
    pub fn get(&self, series: Series) -> Option<f64> {
        let value = self.0[series as usize];
        value.is_finite().then(|| f64::from(value))
    }

    /// Sets the value of a series.
    pub fn set(&mut self, series: Series, value: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "seven digits are enough for a chart, and a larger value becomes infinite"
        )]
        let value = value as f32;
        self.0[series as usize] = if value.is_finite() { value } else { GAP };
    }

    /// Aggregates the samples of a longer period.
    #[must_use]
    pub(super) fn aggregate(samples: &[Self]) -> Self {
        let mut total = Self::default();
        for &series in Series::ALL {
            let values = || samples.iter().filter_map(move |it| it.get(series));
            let value = match series.aggregation() {
                Aggregation::Sum => values().reduce(|sum, it| sum + it),
                Aggregation::Max => values().reduce(f64::max),
                Aggregation::Min => values().reduce(f64::min),
                Aggregation::MeanPerRequest => mean_per_request(samples, series),
            };
            if let Some(value) = value {
                total.set(series, value);
            }
        }
        total
    }

    /// Returns the bytes on disk: four a series, a value that is not a number for a gap.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        self.0.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    /// Reads the bytes of this or another release, which may have fewer or more series.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut sample = Self::default();
        let (values, _rest) = bytes.as_chunks::<4>();
        for (slot, value) in sample.0.iter_mut().zip(values) {
            let value = f32::from_le_bytes(*value);
            *slot = if value.is_finite() { value } else { GAP };
        }
        sample
    }
}

fn mean_per_request(samples: &[ChartSample], series: Series) -> Option<f64> {
    let mut sum = 0.0;
    let mut weights = 0.0;
    for sample in samples {
        if let Some(value) = sample.get(series) {
            // A sample with a response has a request, unless its count was lost.
            let weight = sample.get(Series::UpdateRequests).unwrap_or(1.0).max(1.0);
            sum += value * weight;
            weights += weight;
        }
    }
    (weights > 0.0).then(|| sum / weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample with these values.
    fn sample(values: &[(Series, f64)]) -> ChartSample {
        let mut sample = ChartSample::default();
        values
            .iter()
            .for_each(|(it, value)| sample.set(*it, *value));
        sample
    }

    #[test]
    fn each_series_has_its_own_place_and_name() {
        let names: std::collections::BTreeSet<_> = Series::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), SERIES_COUNT);
        for (index, series) in Series::ALL.iter().copied().enumerate() {
            assert_eq!(series as usize, index);
        }
    }

    #[test]
    fn minutes_become_an_hour_by_series() {
        for (series, minutes, expected) in [
            (
                Series::DirtySkus,
                [Some(5.0), Some(70.0), Some(1.0)],
                Some(70.0),
            ),
            (Series::WaitingSkus, [Some(0.0), None, Some(0.0)], Some(0.0)),
            (
                Series::AcknowledgedSkus,
                [Some(5.0), None, Some(2.5)],
                Some(7.5),
            ),
            (
                Series::UpdateRequests,
                [Some(1.0), Some(2.0), Some(3.0)],
                Some(6.0),
            ),
            (
                Series::RateLimit,
                [Some(100.0), Some(40.0), None],
                Some(40.0),
            ),
            (
                Series::ResponseMax,
                [Some(0.5), Some(9.0), Some(1.0)],
                Some(9.0),
            ),
            (Series::MarketRequests, [None, None, None], None),
            (
                Series::RequestedSkus,
                [Some(1.0), Some(1.0), Some(1.0)],
                Some(3.0),
            ),
            (Series::UnknownSkus, [Some(1.0), Some(0.0), None], Some(1.0)),
            (
                Series::ActiveAlarms,
                [Some(1.0), Some(3.0), Some(0.0)],
                Some(3.0),
            ),
        ] {
            let samples = minutes
                .map(|value| sample(&value.map_or(Vec::new(), |value| vec![(series, value)])));
            let hour = ChartSample::aggregate(&samples);
            assert_eq!(hour.get(series), expected, "{}", series.name());
        }
    }

    #[test]
    fn mean_response_time_is_weighted_by_requests() {
        let minute = |requests, mean| {
            sample(&[
                (Series::UpdateRequests, requests),
                (Series::ResponseMean, mean),
            ])
        };
        let idle = sample(&[(Series::UpdateRequests, 0.0)]);
        let hour = ChartSample::aggregate(&[minute(3.0, 1.0), idle, minute(1.0, 5.0)]);
        assert_eq!(hour.get(Series::ResponseMean), Some(2.0));
        assert_eq!(
            ChartSample::aggregate(&[idle]).get(Series::ResponseMean),
            None
        );
    }

    #[test]
    fn bytes_keep_values_and_gaps_of_any_release() {
        let full = sample(&[(Series::DirtySkus, 1_000_000.0), (Series::RateLimit, 0.25)]);
        assert_eq!(ChartSample::from_bytes(&full.to_bytes()), full);
        let mut longer = full.to_bytes();
        longer.extend([1, 2, 3, 4, 5]);
        assert_eq!(ChartSample::from_bytes(&longer), full);
        let first = ChartSample::from_bytes(&full.to_bytes()[..7]);
        assert_eq!(first, sample(&[(Series::DirtySkus, 1_000_000.0)]));
        let mut infinite = ChartSample::default();
        infinite.set(Series::DirtySkus, f64::MAX);
        infinite.set(Series::WaitingSkus, f64::NAN);
        assert_eq!(infinite, ChartSample::default());
    }
}
