//! Events page: what happened, newest first, with filters by shop and by group of kinds.

use askama::Template;
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use tracing::warn;

use super::Config;
use super::format;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::links::{encode, find_shop, shop_path};
use super::live::{LiveValues, stream_values};
use super::shop_health::HealthLevel;
use super::texts::{EventGroup, Text, event_group, event_reason, event_sentence, text};
use super::visible::visible;
use crate::event_log::{EventFilter, ServiceEvent, StoredEvent};
use crate::ops::{Ops, OpsState};

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
    time: String,
    time_title: String,
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
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    let language = choice.language;
    let Some(state) = ops.state() else {
        return super::layout::starting(language);
    };
    let Query(query) = query.unwrap_or_default();
    let group = EventGroup::from_name(&query.group);
    let filter = EventFilter {
        shop: Some(query.shop.clone()).filter(|shop| !shop.is_empty()),
        kinds: group
            .map(|group| group.kinds().iter().map(|&kind| kind.to_owned()).collect())
            .unwrap_or_default(),
        before: query.before,
        limit: EVENTS_PER_PAGE,
    };
    // Read before the events, so that an event in between makes the page load again.
    let structure = structure(state).structure_mark();
    let found = state.events.query(&filter).await;
    if let Err(error) = &found {
        warn!(error = %error, "failed to read the events: {error}");
    }
    let is_unreadable = found.is_err();
    let events = found.unwrap_or_default();
    let is_full = events.len() >= EVENTS_PER_PAGE as usize;
    let older = events
        .last()
        .filter(|_| is_full)
        .map(|last| query.address(Some(last.id)));
    let option = |value: &str, label: &str, selected: &str| FilterOption {
        value: value.to_owned(),
        label: label.to_owned(),
        is_selected: value == selected,
    };
    let all = option("", text(Text::All, language), "-");
    let shop_options = state
        .shops
        .iter()
        .map(|shop| option(&shop.name, &shop.name, &query.shop));
    let all_shops = option("", text(Text::All, language), "-");
    let group_options = EventGroup::ALL
        .iter()
        .copied()
        .map(|group| option(group.name(), event_group(group, language), &query.group));
    let now = state.clock.now();
    let row = |event: &StoredEvent| EventRow {
        time: format::ago(event.at, now, language),
        time_title: format::full(event.at, config.time_zone, language),
        datetime: event.at.to_rfc3339(),
        shop: visible(event.shop.as_deref().unwrap_or_default()),
        shop_link: event
            .shop
            .as_deref()
            .filter(|name| find_shop(state, name).is_some())
            .map(shop_path),
        subject: visible(&event.subject),
        severity: severity(&event.event),
        sentence: visible(&event_sentence(&event.event, language)),
        reason: visible(event_reason(&event.event)),
        times: (event.times > 1)
            .then(|| language.number(u64::try_from(event.times).unwrap_or_default())),
    };
    let layout = Layout::new(
        &ops,
        (config, &choice),
        now,
        (Screen::Events, text(Text::Events, language).to_owned()),
        if query.before.is_some() {
            ""
        } else {
            "/live/events"
        },
    );
    render(&EventsPage {
        layout,
        shops: std::iter::once(all_shops).chain(shop_options).collect(),
        groups: std::iter::once(all).chain(group_options).collect(),
        rows: events.iter().map(row).collect(),
        older,
        newest: query.before.map(|_| query.address(None)),
        is_unreadable,
        structure,
    })
}

/// Serves the stream: a new event makes the browser load the page again.
pub(super) async fn live(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    stream_values(&ops, (config, &choice), |state, _| structure(state))
}

fn structure(state: &OpsState) -> LiveValues {
    let mut values = LiveValues::default();
    values.add_structure(&state.events.subscribe().borrow().to_string());
    values
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
        | ServiceEvent::Unknown => HealthLevel::Waiting,
    }
}
