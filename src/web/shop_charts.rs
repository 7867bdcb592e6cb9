//! Charts of a shop's page: 24 hours by minute, or 7 days by hour.

use stock::ShopId;

use super::chart::{AreaChart, AreaChartSpec, ChartPoint, ChartUnit, area_chart};
use super::page_context::PageContext;
use super::texts::Text;
use crate::chart_history::{Resolution, Series};
use crate::migrator::{LimitUnit, RateLimitStatus};
use crate::ops::OpsState;

/// Length of the charts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChartPeriod {
    Day,
    Week,
}

impl ChartPeriod {
    pub(super) const ALL: [Self; 2] = [Self::Day, Self::Week];

    /// Returns the period with this name in the address; a day for others.
    pub(super) fn from_name(name: Option<&str>) -> Self {
        let named = Self::ALL
            .into_iter()
            .find(|period| name == Some(period.name()));
        named.unwrap_or(Self::Day)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    pub(super) const fn title(self) -> Text {
        match self {
            Self::Day => Text::ChartsOfDay,
            Self::Week => Text::ChartsOfWeek,
        }
    }

    const fn resolution(self) -> Resolution {
        match self {
            Self::Day => Resolution::Minute,
            Self::Week => Resolution::Hour,
        }
    }

    /// Returns the fewest values that are shown, for a service that has just started.
    const fn fewest_periods(self) -> usize {
        match self {
            Self::Day => 60,
            Self::Week => 24,
        }
    }

    /// Returns the number of values that are shown.
    const fn periods(self) -> usize {
        match self {
            Self::Day => 24 * 60,
            Self::Week => 7 * 24,
        }
    }

    const fn minutes_per_value(self) -> f64 {
        match self {
            Self::Day => 1.0,
            Self::Week => 60.0,
        }
    }
}

/// Draws the charts of a shop; those without any value are left out.
pub(super) fn shop_charts(
    state: &OpsState,
    shop: ShopId,
    period: ChartPeriod,
    context: PageContext,
) -> Vec<AreaChart> {
    // Every minute has the count of the Market's requests, so this series shows since when there
    // are values. The time before is not a gap and would only make the chart small.
    let known = state
        .charts
        .series(shop, Series::MarketRequests, period.resolution());
    let first = known.iter().position(|(_, value)| value.is_some());
    let shown = (known.len() - first.unwrap_or(known.len()))
        .clamp(period.fewest_periods(), period.periods());
    let points = |series: Series| -> Vec<ChartPoint> {
        let all = state.charts.series(shop, series, period.resolution());
        let skipped = all.len().saturating_sub(shown);
        all.into_iter().skip(skipped).collect()
    };
    let rates = |series: Series| per_minute(points(series), period.minutes_per_value());
    let limit = state.migrator.status(shop).map(|worker| worker.rate_limit);
    let sent_by_request = limit.is_some_and(|limit| limit.unit == LimitUnit::Requests);
    let (sent_title, sent_series) = if sent_by_request {
        (Text::ChartRequestsSent, Series::UpdateRequests)
    } else {
        (Text::ChartSkusSent, Series::AcknowledgedSkus)
    };
    let dirty = points(Series::DirtySkus);
    let sent = rates(sent_series);
    let (slowest, mean) = (points(Series::ResponseMax), points(Series::ResponseMean));
    let requests = rates(Series::MarketRequests);
    let limit_value = |limit: RateLimitStatus| {
        let per_minute = f64::from(limit.per_minute);
        (per_minute > 0.0).then(|| (context.text(Text::ChartLimit), per_minute))
    };
    let spec = |id, title, unit, points| AreaChartSpec {
        id,
        title: context.text(title),
        unit,
        points,
        second: None,
        limit: None,
    };
    let specs = [
        spec(
            "chart-dirty",
            Text::ChartDirtySkus,
            ChartUnit::Count,
            &dirty,
        ),
        AreaChartSpec {
            limit: limit.and_then(limit_value),
            ..spec("chart-sent", sent_title, ChartUnit::PerMinute, &sent)
        },
        AreaChartSpec {
            second: Some((context.text(Text::ChartResponseMean), &mean)),
            ..spec(
                "chart-responses",
                Text::ChartResponseMax,
                ChartUnit::Seconds,
                &slowest,
            )
        },
        spec(
            "chart-requests",
            Text::ChartMarketRequests,
            ChartUnit::PerMinute,
            &requests,
        ),
    ];
    let charts = specs.iter().filter_map(|spec| area_chart(spec, context));
    charts.collect()
}

/// Converts totals of a period into a mean per minute.
fn per_minute(points: Vec<ChartPoint>, minutes: f64) -> Vec<ChartPoint> {
    let rate = |(at, value): ChartPoint| (at, value.map(|total| total / minutes));
    points.into_iter().map(rate).collect()
}
