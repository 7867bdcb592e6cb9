//! Stream of changed values: server-sent events that replace texts by the id of their element.
//!
//! A page lists its values once, as [`LiveValues`]. The template and the stream use the same list,
//! so they cannot disagree. A change of the page's structure, such as a new alarm, makes the
//! browser load the page again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::cell::Cell;
use super::page_request::PageRequest;
use super::shop_health::HealthLevel;

/// Time between two looks at the values; at most one event is sent in this time.
const FRAME_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which a comment is sent, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Lifetime of one stream. The browser then connects again. It is shorter than the time limit of a
/// response.
const MAX_DURATION: Duration = Duration::from_mins(30);

/// Value of one element.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct LiveValue {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
}

/// Values of a page by element id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LiveValues {
    values: BTreeMap<String, LiveValue>,
    /// Text that changes when elements appear or disappear.
    structure: String,
}

impl LiveValues {
    /// Adds the text of an element, and its severity if the stylesheet shows one.
    pub(super) fn set(&mut self, id: &str, text: &str, severity: Option<HealthLevel>) {
        let severity = severity.map(HealthLevel::name);
        let text = text.to_owned();
        self.values
            .insert(id.to_owned(), LiveValue { text, severity });
    }

    /// Adds the texts and severities of values.
    pub(super) fn add<'a>(&mut self, cells: impl IntoIterator<Item = &'a Cell>) {
        for cell in cells {
            self.set(&cell.id, &cell.text, cell.severity);
        }
    }

    /// Returns a short mark that differs for pages with other elements.
    pub(super) fn structure_mark(&self) -> String {
        format!("{:08x}", crc32fast::hash(self.structure.as_bytes()))
    }

    /// Adds a part of the page's structure.
    pub(super) fn add_structure(&mut self, part: &str) {
        self.structure.push_str(part);
        self.structure.push('\n');
    }
}

/// Changed values since the last event.
#[derive(Serialize)]
struct LiveFrame<'a> {
    values: BTreeMap<&'a str, &'a LiveValue>,
    /// The browser loads the page again if it was made with another structure.
    structure: String,
}

impl<'a> LiveFrame<'a> {
    /// Compares with the last values; `None` if nothing changed.
    fn between(old: &LiveValues, new: &'a LiveValues) -> Option<Self> {
        let changed = new
            .values
            .iter()
            .filter(|(id, value)| old.values.get(*id) != Some(value));
        let values: BTreeMap<&str, &LiveValue> =
            changed.map(|(id, value)| (id.as_str(), value)).collect();
        let is_changed = old.structure != new.structure || !values.is_empty();
        let structure = new.structure_mark();
        is_changed.then_some(Self { values, structure })
    }
}

/// Stream of one open page.
struct LiveStream<F> {
    collect: F,
    page: PageRequest,
    ticks: Interval,
    started: Instant,
    last: LiveValues,
    last_sent: Instant,
}

impl<F: FnMut(&PageRequest) -> LiveValues> LiveStream<F> {
    /// Waits for the next event; `None` at the end of the stream.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            tokio::select! {
                () = self.page.ops.stopping() => return None,
                _ = self.ticks.tick() => {}
            }
            if self.started.elapsed() > MAX_DURATION {
                return None;
            }
            let mut values = (self.collect)(&self.page);
            values.set("clock", &self.page.context().clock(), None);
            let event = match LiveFrame::between(&self.last, &values) {
                Some(frame) => Event::default().json_data(&frame).ok(),
                None if self.last_sent.elapsed() >= KEEP_ALIVE => {
                    Some(Event::default().comment(""))
                }
                None => None,
            };
            self.last = values;
            if let Some(event) = event {
                self.last_sent = Instant::now();
                return Some((Ok(event), self));
            }
        }
    }
}

/// Serves the stream of a page whose values `collect` returns; the clock is added.
///
/// The first event has all values, because they may have changed since the page was made.
pub(super) fn stream_values(
    page: PageRequest,
    collect: impl FnMut(&PageRequest) -> LiveValues + Send + 'static,
) -> Response {
    let mut ticks = interval(FRAME_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let stream = LiveStream {
        collect,
        page,
        ticks,
        started: now,
        last: LiveValues::default(),
        last_sent: now,
    };
    Sse::new(stream::unfold(stream, LiveStream::next)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)], structure: &str) -> LiveValues {
        let mut values = LiveValues::default();
        for (id, text) in pairs {
            values.set(id, text, None);
        }
        values.add_structure(structure);
        values
    }

    #[test]
    fn a_frame_has_only_changes() {
        let old = values(&[("a", "1"), ("b", "2")], "x");
        assert!(LiveFrame::between(&old, &old).is_none());
        let new = values(&[("a", "1"), ("b", "3"), ("c", "4")], "x");
        let frame = LiveFrame::between(&old, &new).unwrap();
        assert_eq!(frame.structure, old.structure_mark());
        assert_eq!(frame.values.keys().copied().collect::<Vec<_>>(), ["b", "c"]);
        let other = values(&[("a", "1"), ("b", "2")], "y");
        let frame = LiveFrame::between(&old, &other).unwrap();
        assert!(frame.values.is_empty());
        assert_ne!(frame.structure, old.structure_mark());
    }

    #[test]
    fn a_severity_alone_is_a_change() {
        let (mut old, mut new) = (LiveValues::default(), LiveValues::default());
        old.set("a", "1", Some(HealthLevel::Good));
        new.set("a", "1", Some(HealthLevel::Trouble));
        let frame = LiveFrame::between(&old, &new).unwrap();
        let text = serde_json::to_string(&frame).unwrap();
        let expected =
            r#"{"values":{"a":{"text":"1","severity":"trouble"}},"structure":"00000000"}"#;
        assert_eq!(text, expected);
    }
}
