//! Events page: what happened, newest first, with filters by shop and by group of kinds.

use askama::Template;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use serde::Deserialize;
use tracing::warn;

use super::cell::TitledText;
use super::layout::{Layout, Screen, render};
use super::links::{encode, find_shop, shop_path};
use super::live::{LiveValues, stream_values};
use super::page_context::PageContext;
use super::page_request::PageRequest;
use super::shop_health::HealthLevel;
use super::texts::{EventGroup, Text, event_group, event_reason, event_sentence};
use super::visible::visible;
use crate::event_log::{EventFilter, ServiceEvent, StoredEvent};
use crate::ops::OpsState;

/// Events of one page.
const EVENTS_PER_PAGE: u32 = 100;

/// Query of the page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct EventsQuery {
    /// Name of a shop; empty for all.
    shop: String,
    /// Name of an [`EventGroup`]; empty for all.
    group: String,
    /// Only older events than the one with this number.
    before: Option<i64>,
}

/// One option of a filter.
struct FilterOption {
    value: String,
    label: String,
    is_selected: bool,
}

/// One row of the list.
struct EventRow {
    time: TitledText,
    datetime: String,
    shop: String,
    /// Path of the shop, if it still exists.
    shop_link: Option<String>,
    subject: String,
    severity: HealthLevel,
    sentence: String,
    /// The service's own words, in English.
    reason: String,
    /// Number of equal events that share the row, if more than one.
    times: Option<String>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    layout: Layout,
    shops: Vec<FilterOption>,
    groups: Vec<FilterOption>,
    rows: Vec<EventRow>,
    /// Address of the next page, if there are older events.
    older: Option<String>,
    /// Address of the newest events, on a page with older ones.
    newest: Option<String>,
    is_unreadable: bool,
    structure: String,
}

/// Serves the page.
pub(super) async fn page(
    page: PageRequest,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    let (state, language) = (page.state(), page.language);
    let Query(query) = query.unwrap_or_default();
    let group = EventGroup::from_name(&query.group);
    let kinds = group.map(EventGroup::kinds).unwrap_or_default();
    let filter = EventFilter {
        shop: Some(query.shop.clone()).filter(|shop| !shop.is_empty()),
        kinds: kinds.into_iter().map(str::to_owned).collect(),
        before: query.before,
        limit: EVENTS_PER_PAGE,
    };
    // Read before the events, so that an event in between makes the page load again.
    let structure = structure(&page).structure_mark();
    let found = state.events.query(&filter).await;
    if let Err(error) = &found {
        warn!(error = %error, "failed to read the events: {error}");
    }
    let is_unreadable = found.is_err();
    let events = found.unwrap_or_default();
    let is_full = events.len() >= EVENTS_PER_PAGE as usize;
    let last = events.last().filter(|_| is_full);
    let option = |value: &str, label: &str, selected: &str| FilterOption {
        value: value.to_owned(),
        label: label.to_owned(),
        is_selected: value == selected,
    };
    let all = || std::iter::once(option("", page.text(Text::ALL), "-"));
    let shops = state.shops.iter();
    let shops = shops.map(|shop| option(&shop.name, &shop.name, &query.shop));
    let groups = EventGroup::ALL.iter();
    let groups =
        groups.map(|group| option(group.name(), event_group(*group, language), &query.group));
    let context = page.context();
    let live_path = match query.before {
        Some(_) => "",
        None => "/live/events",
    };
    render(&EventsPage {
        layout: Layout::new(&page, Screen::Events, page.text(Text::EVENTS), live_path),
        shops: all().chain(shops).collect(),
        groups: all().chain(groups).collect(),
        older: last.map(|last| query.address(Some(last.id))),
        newest: query.before.map(|_| query.address(None)),
        rows: events
            .iter()
            .map(|event| EventRow::new(event, state, context))
            .collect(),
        is_unreadable,
        structure,
    })
}

/// Serves the stream: a new event makes the browser load the page again.
pub(super) async fn live(page: PageRequest) -> Response {
    stream_values(page, structure)
}

fn structure(page: &PageRequest) -> LiveValues {
    let mut values = LiveValues::default();
    values.add_structure(&page.state().events.subscribe().borrow().to_string());
    values
}

impl EventRow {
    fn new(event: &StoredEvent, state: &OpsState, context: PageContext) -> Self {
        let shop = event.shop.as_deref();
        Self {
            time: context.past(Some(event.at)),
            datetime: event.at.to_rfc3339(),
            shop: visible(shop.unwrap_or_default()),
            shop_link: shop
                .filter(|name| find_shop(state, name).is_some())
                .map(shop_path),
            subject: visible(&event.subject),
            severity: severity(&event.event),
            sentence: visible(&event_sentence(&event.event, context.language)),
            reason: visible(event_reason(&event.event)),
            times: (event.times > 1).then(|| context.number(event.times.unsigned_abs())),
        }
    }
}

impl EventsQuery {
    /// Address of a page with the same filters.
    fn address(&self, before: Option<i64>) -> String {
        let mut pairs = Vec::new();
        for (name, value) in [("shop", &self.shop), ("group", &self.group)] {
            if !value.is_empty() {
                pairs.push(format!("{name}={}", encode(value)));
            }
        }
        pairs.extend(before.map(|before| format!("before={before}")));
        format!("/events?{}", pairs.join("&"))
    }
}

/// Returns the meaning of an event for the reader.
const fn severity(event: &ServiceEvent) -> HealthLevel {
    match event {
        ServiceEvent::AlarmRaised { .. }
        | ServiceEvent::DeliveryFailed { .. }
        | ServiceEvent::SendingPaused { .. }
        | ServiceEvent::ReadbackFailed { .. }
        | ServiceEvent::ServiceStopped { failure: Some(_) } => HealthLevel::Trouble,
        ServiceEvent::DeliveryHeld { .. }
        | ServiceEvent::ReadbackDifferent { .. }
        | ServiceEvent::QuarantineEntered { .. }
        | ServiceEvent::SelftestEnded { passed: false, .. }
        | ServiceEvent::EventsLost { .. }
        | ServiceEvent::FileReplaced { .. } => HealthLevel::Attention,
        ServiceEvent::AlarmCleared { .. }
        | ServiceEvent::DeliveryApplied(_)
        | ServiceEvent::DeliveryApproved(_)
        | ServiceEvent::RulesApproved
        | ServiceEvent::SendingResumed
        | ServiceEvent::ReadbackEqual { .. }
        | ServiceEvent::QuarantineLeft { .. }
        | ServiceEvent::SelftestEnded { passed: true, .. } => HealthLevel::Good,
        ServiceEvent::ServiceStarted { .. }
        | ServiceEvent::ServiceStopped { failure: None }
        | ServiceEvent::DeliveryReplaced { .. }
        | ServiceEvent::SendingDelayed { .. }
        | ServiceEvent::SelftestStarted { .. }
        | ServiceEvent::OperatorAction { .. }
        | ServiceEvent::ConfigReloaded { .. }
        | ServiceEvent::Unknown => HealthLevel::Waiting,
    }
}
