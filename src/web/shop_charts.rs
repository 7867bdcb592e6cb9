//! Charts of a shop's page: 24 hours by minute, or 7 days by hour.

use stock::ShopId;

use super::chart::{AreaChart, AreaChartSpec, ChartPoint, ChartUnit, area_chart};
use super::page_context::PageContext;
use super::texts::Text;
use crate::chart_history::{Resolution, Series};
use crate::migrator::{LimitUnit, RateLimitStatus};
use crate::ops::OpsState;

/// Length of the charts.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChartPeriod {
    /// Name in the address.
    pub(super) name: &'static str,
    pub(super) title: Text,
    resolution: Resolution,
    /// Fewest values that are shown, for a service that has just started.
    fewest_values: usize,
    /// Number of values that are shown.
    values: usize,
}

impl ChartPeriod {
    pub(super) const ALL: [Self; 2] = [
        Self {
            name: "day",
            title: Text::CHARTS_OF_DAY,
            resolution: Resolution::Minute,
            fewest_values: 60,
            values: 24 * 60,
        },
        Self {
            name: "week",
            title: Text::CHARTS_OF_WEEK,
            resolution: Resolution::Hour,
            fewest_values: 24,
            values: 7 * 24,
        },
    ];

    /// Returns the period with this name in the address; a day for others.
    pub(super) fn from_name(name: Option<&str>) -> Self {
        let [day, _] = Self::ALL;
        let named = Self::ALL.into_iter().find(|it| name == Some(it.name));
        named.unwrap_or(day)
    }
}

/// Draws the charts of a shop; those without any value are left out.
pub(super) fn shop_charts(
    state: &OpsState,
    shop: ShopId,
    period: ChartPeriod,
    context: PageContext,
) -> Vec<AreaChart> {
    use ChartUnit::{Count, PerMinute, Seconds};
    // Every minute has the count of the Market's requests, so this series shows since when there
    // are values. The time before is not a gap and would only make the chart small.
    let series = |series| state.charts.series(shop, series, period.resolution);
    let known = series(Series::MarketRequests);
    let first = known.iter().position(|(_, value)| value.is_some());
    let shown = known.len() - first.unwrap_or(known.len());
    let shown = shown.clamp(period.fewest_values, period.values);
    let points = |of: Series| -> Vec<ChartPoint> {
        let all = series(of);
        let skipped = all.len().saturating_sub(shown);
        all.into_iter().skip(skipped).collect()
    };
    // Means per minute, of the totals of a period.
    let rates = |of: Series| -> Vec<ChartPoint> {
        let minutes = match period.resolution {
            Resolution::Minute => 1.0,
            Resolution::Hour => 60.0,
        };
        let rate = |(at, value): ChartPoint| (at, value.map(|total| total / minutes));
        points(of).into_iter().map(rate).collect()
    };
    let limit = state.migrator.status(shop).map(|worker| worker.rate_limit);
    let sent_by_request = limit.is_some_and(|limit| limit.unit == LimitUnit::Requests);
    let (sent_title, sent_series) = if sent_by_request {
        (Text::CHART_REQUESTS_SENT, Series::UpdateRequests)
    } else {
        (Text::CHART_SKUS_SENT, Series::AcknowledgedSkus)
    };
    let dirty = points(Series::DirtySkus);
    let sent = rates(sent_series);
    let (max, mean) = (points(Series::ResponseMax), points(Series::ResponseMean));
    let asked = rates(Series::MarketRequests);
    let limit_value = |limit: RateLimitStatus| {
        let per_minute = f64::from(limit.per_minute);
        (per_minute > 0.0).then(|| (context.text(Text::CHART_LIMIT), per_minute))
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
        spec("chart-dirty", Text::CHART_DIRTY_SKUS, Count, &dirty),
        AreaChartSpec {
            limit: limit.and_then(limit_value),
            ..spec("chart-sent", sent_title, PerMinute, &sent)
        },
        AreaChartSpec {
            second: Some((context.text(Text::CHART_RESPONSE_MEAN), &mean)),
            ..spec("chart-responses", Text::CHART_RESPONSE_MAX, Seconds, &max)
        },
        spec(
            "chart-requests",
            Text::CHART_MARKET_REQUESTS,
            PerMinute,
            &asked,
        ),
    ];
    let charts = specs.iter().filter_map(|spec| area_chart(spec, context));
    charts.collect()
}
