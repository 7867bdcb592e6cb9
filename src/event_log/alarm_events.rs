//! Events of alarms: compares the active alarms with those before and records the changes.

use std::time::Duration;

use lifecycle::Tasks;
use tokio::time::{MissedTickBehavior, interval};

use super::{EventLog, ServiceEvent};
use crate::telemetry::{ActiveAlarm, AlarmChange, Alarms, alarm_changes};

/// Time between two looks at the alarms without a notification: an expiry has none.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Records each alarm that begins or ends, until the tasks are stopping. `shops` are the names of
/// the shops.
pub(super) async fn record_alarms(
    events: EventLog,
    alarms: Alarms,
    shops: Vec<String>,
    tasks: Tasks,
) {
    let mut versions = alarms.subscribe();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Vec::new();
    loop {
        let is_last = tokio::select! {
            () = tasks.stopping() => true,
            // Fails only without alarms, and this task has them.
            _changed = versions.changed() => false,
            _ = ticks.tick() => false,
        };
        let active = alarms.active();
        for change in alarm_changes(&known, &active) {
            record_change(&events, &shops, change);
        }
        known = active;
        if is_last {
            return;
        }
    }
}

fn record_change(events: &EventLog, shops: &[String], change: AlarmChange) {
    let (alarm, event) = match change {
        AlarmChange::Raised(it) => {
            let (alarm, reason) = (it.alarm.to_owned(), it.text.as_str().into());
            (it, ServiceEvent::AlarmRaised { alarm, reason })
        }
        AlarmChange::Cleared(it) => {
            let (alarm, since) = (it.alarm.to_owned(), it.since);
            (it, ServiceEvent::AlarmCleared { alarm, since })
        }
    };
    let (shop, subject) = shop_and_subject(&alarm, shops);
    events.push(shop, subject, event);
}

/// Splits the subject of an alarm: a shop, a source as `shop/source`, or something else.
fn shop_and_subject<'a>(alarm: &'a ActiveAlarm, shops: &'a [String]) -> (Option<&'a str>, &'a str) {
    let about = alarm.about.as_str();
    let (first, rest) = about.split_once('/').unwrap_or((about, ""));
    match shops.iter().find(|shop| *shop == first) {
        Some(shop) => (Some(shop), rest),
        None => (None, about),
    }
}
