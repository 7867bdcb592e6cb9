//! Text in which the store keeps the alarms that a channel has sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::planner::{AlarmKey, TrackedAlarm};
use crate::telemetry::AlarmKind;

/// One tracked alarm in the store.
#[derive(Debug, Deserialize, Serialize)]
struct StoredAlarm {
    alarm: String,
    about: String,
    #[serde(flatten)]
    tracked: TrackedAlarm,
}

/// Writes tracked alarms as JSON.
pub(super) fn to_text(tracked: &BTreeMap<AlarmKey, TrackedAlarm>) -> String {
    let stored = tracked.iter().map(|((kind, about), tracked)| StoredAlarm {
        alarm: kind.name().to_owned(),
        about: about.clone(),
        tracked: *tracked,
    });
    let stored: Vec<StoredAlarm> = stored.collect();
    serde_json::to_string(&stored).expect("texts and times can be written as JSON")
}

/// Reads tracked alarms. Alarms of another release that this one does not know are left out, and a
/// text that is not JSON is an empty list: then the active alarms are sent once more.
pub(super) fn from_text(text: &str) -> BTreeMap<AlarmKey, TrackedAlarm> {
    let stored: Vec<StoredAlarm> = serde_json::from_str(text).unwrap_or_default();
    let known = stored.into_iter().filter_map(|stored| {
        let kind = AlarmKind::from_name(&stored.alarm)?;
        Some(((kind, stored.about), stored.tracked))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_the_alarms_that_it_wrote() {
        let since = "2026-11-29T22:03:20.123456789Z".parse().unwrap();
        let tracked = TrackedAlarm {
            since,
            sent_at: None,
            inactive_since: None,
        };
        let sent = TrackedAlarm {
            sent_at: Some(since),
            inactive_since: Some(since),
            ..tracked
        };
        let alarms: BTreeMap<AlarmKey, TrackedAlarm> = [
            ((AlarmKind::Drift, "moscow".to_owned()), tracked),
            ((AlarmKind::StoreFailed, String::new()), sent),
        ]
        .into();
        assert_eq!(from_text(&to_text(&alarms)), alarms);
    }

    #[test]
    fn unknown_alarms_and_other_texts_are_ignored() {
        let since = "\"since\":\"2026-11-29T22:03:20Z\"";
        let text = format!(
            "[{{\"alarm\":\"of_the_future\",\"about\":\"\",{since}}},\
             {{\"alarm\":\"drift\",\"about\":\"moscow\",{since},\"more\":1}}]"
        );
        assert_eq!(from_text(&text).len(), 1);
        assert!(from_text("damaged").is_empty());
    }
}
