//! Endpoints `/api/events` and `/api/charts`: the event log and the history for the charts.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strict_http::ErrorResponse;
use tracing::warn;

use super::{Ops, Started, bad_request};
use crate::chart_history::{Resolution, Series};
use crate::event_log::{EVENT_KINDS, EventFilter, MAX_QUERIED_EVENTS, StoredEvent};
use crate::migrator::LimitUnit;

/// Events in one response without the parameter `limit`.
const DEFAULT_EVENTS: u32 = 100;

/// Builds the routes.
pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/api/events", get(events))
        .route("/api/charts", get(charts))
}

/// Parameters of `/api/events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventParams {
    shop: Option<String>,
    /// Names of kinds, separated by commas.
    kind: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct EventsResponse {
    /// Latest first.
    events: Vec<StoredEvent>,
    /// Value of `before` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

async fn events(
    Query(params): Query<EventParams>,
    Started(state): Started,
) -> Result<Json<EventsResponse>, ErrorResponse> {
    let filter = event_filter(params).map_err(bad_request)?;
    let events = state.events.query(&filter).await.map_err(|error| {
        warn!(error = %error, "failed to read the event log: {error}");
        let message = "the event log cannot be read now: see the log of the service";
        ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "CANNOT_READ", message)
    })?;
    let is_full = events.len() >= filter.limit as usize;
    let next = events.last().filter(|_| is_full).map(|event| event.id);
    Ok(Json(EventsResponse { events, next }))
}

fn event_filter(params: EventParams) -> Result<EventFilter, String> {
    let kinds = params.kind.unwrap_or_default();
    let kinds = kinds.split(',').filter(|kind| !kind.is_empty());
    let kinds: Vec<String> = kinds.map(ToOwned::to_owned).collect();
    if let Some(unknown) = kinds.iter().find(|it| !EVENT_KINDS.contains(&it.as_str())) {
        let known = EVENT_KINDS.join(", ");
        return Err(format!(
            "kind '{unknown}' is unknown, the kinds are {known}"
        ));
    }
    let limit = params.limit.unwrap_or(DEFAULT_EVENTS);
    if !(1..=MAX_QUERIED_EVENTS).contains(&limit) {
        return Err(format!(
            "limit is {limit}, it must be 1 to {MAX_QUERIED_EVENTS}"
        ));
    }
    Ok(EventFilter {
        shop: params.shop,
        kinds,
        before: params.before,
        limit,
    })
}

/// Parameters of `/api/charts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChartParams {
    shop: String,
    resolution: Option<String>,
}

#[derive(Serialize)]
struct ChartsResponse {
    shop: String,
    resolution: &'static str,
    /// Length of a period.
    period_seconds: i64,
    /// Start of the first period.
    start: Option<DateTime<Utc>>,
    /// Unit of the rate limit, `skus` or `requests`; absent if nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_unit: Option<LimitUnit>,
    /// Values of each series, one a period; `null` is a gap.
    series: BTreeMap<&'static str, Vec<Option<f32>>>,
}

async fn charts(
    Query(params): Query<ChartParams>,
    Started(state): Started,
) -> Result<Json<ChartsResponse>, ErrorResponse> {
    let name = params.resolution.as_deref().unwrap_or("minute");
    let mut resolutions = Resolution::ALL.into_iter();
    let resolution = resolutions
        .find(|it| it.name() == name)
        .ok_or_else(|| bad_request(format!("resolution is '{name}', it must be minute or hour")))?;
    let (shop, _) = state.select_shops(Some(&params.shop))?[0];
    let mut response = ChartsResponse {
        shop: params.shop,
        resolution: resolution.name(),
        period_seconds: resolution.seconds(),
        start: None,
        rate_limit_unit: state.migrator.status(shop).map(|it| it.rate_limit.unit),
        series: BTreeMap::new(),
    };
    for &series in Series::ALL {
        let points = state.charts.series(shop, series, resolution);
        response.start = points.first().map(|(at, _)| *at);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the history keeps seven digits"
        )]
        let values = points.iter().map(|(_, value)| value.map(|it| it as f32));
        response.series.insert(series.name(), values.collect());
    }
    Ok(Json(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_of_events_names_the_broken_rule() {
        let params = |kind: &str, limit| EventParams {
            shop: None,
            kind: Some(kind.to_owned()),
            before: Some(7),
            limit,
        };
        let filter = event_filter(params("alarm_raised,alarm_cleared", None)).unwrap();
        assert_eq!(filter.kinds, ["alarm_raised", "alarm_cleared"]);
        assert_eq!((filter.before, filter.limit), (Some(7), 100));
        assert!(
            event_filter(params("", Some(500)))
                .unwrap()
                .kinds
                .is_empty()
        );
        for (params, expected) in [
            (params("alarm", None), "kind 'alarm' is unknown"),
            (params("", Some(0)), "limit is 0, it must be 1 to 500"),
            (params("", Some(501)), "limit is 501"),
        ] {
            let message = event_filter(params).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
