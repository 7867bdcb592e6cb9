//! Decision which alarms one channel sends at which time. Pure: time and alarms are arguments.
//!
//! The planner remembers, per alarm, if and when it was sent. So it sends each beginning and each
//! end once, also after a restart. Nothing is queued: while a channel fails, the due notices are
//! computed again before each retry, so memory is bounded by the number of alarms.
//!
//! | alarm | before | notice |
//! |---|---|---|
//! | active for `delay` | not sent | [`NoticeEvent::Raised`] |
//! | active | sent at least `repeat` ago | [`NoticeEvent::Repeated`] |
//! | inactive for `delay` | sent | [`NoticeEvent::Cleared`] |
//! | inactive for `delay` | due, but not sent | [`NoticeEvent::Passed`] |
//!
//! During quiet hours, only urgent alarms are sent. The other notices become due together when the
//! quiet hours end.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::quiet_hours::QuietHours;
use crate::telemetry::AlarmKind;

/// Time from the first due notice to the message, in which further notices join it. It is not
/// longer than `delay`, so a `delay` of 0 sends at once.
const COLLECT_TIME: TimeDelta = TimeDelta::seconds(10);

/// Minimum time between two messages of one channel.
const MIN_MESSAGE_INTERVAL: TimeDelta = TimeDelta::seconds(30);

/// Time after a start in which alarms of the previous run may be raised again. Only then is an
/// alarm that is not active reported as ended. Sources are polled and shops are read back by then.
pub(super) const START_GRACE: TimeDelta = TimeDelta::minutes(15);

/// Maximum number of alarms that are tracked. Further ones wait until others have ended.
const MAX_TRACKED: usize = 5_000;

/// Rules by which a channel selects and times its notices.
#[derive(Clone, Debug)]
pub struct ChannelPolicy {
    /// Kinds that are sent; empty means all.
    pub alarms: Vec<AlarmKind>,
    /// Shops whose alarms are sent; empty means all. Alarms about no shop are always sent.
    pub shops: Vec<String>,
    /// Hours in which only urgent alarms are sent.
    pub quiet_hours: Option<QuietHours>,
    /// Time zone of the quiet hours and of times in messages.
    pub time_zone: FixedOffset,
    /// Kinds that are sent during quiet hours too.
    pub urgent: Vec<AlarmKind>,
    /// Time after which an active alarm is sent again; `None` if it is not repeated.
    pub repeat: Option<TimeDelta>,
    /// True if the end of an alarm is sent.
    pub reports_end: bool,
    /// Time that an alarm must be active, or inactive, before that is sent.
    pub delay: TimeDelta,
}

/// Kind and subject of an alarm.
pub(super) type AlarmKey = (AlarmKind, String);

/// Active alarm, as the planner sees it.
#[derive(Clone, Debug)]
pub(super) struct ObservedAlarm {
    pub(super) key: AlarmKey,
    pub(super) since: DateTime<Utc>,
    pub(super) text: String,
}

/// Alarm that was sent, or is due to be sent. The store has it as JSON.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct TrackedAlarm {
    /// Time at which the alarm began.
    pub(super) since: DateTime<Utc>,
    /// Time of the last message about it; `None` if it was not sent yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<DateTime<Utc>>,
    /// Time from which the alarm is not active any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inactive_since: Option<DateTime<Utc>>,
}

/// Event of an alarm that a message reports.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum NoticeEvent {
    /// The alarm began.
    Raised,
    /// The alarm was sent before and is still active.
    Repeated,
    /// The alarm began and ended before it could be sent.
    Passed,
    /// The alarm ended.
    Cleared,
}

impl NoticeEvent {
    /// Returns the name in the JSON of a webhook.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

/// Event of one alarm that is due to be sent.
#[derive(Clone, Debug)]
pub(super) struct AlarmNotice {
    pub(super) event: NoticeEvent,
    pub(super) kind: AlarmKind,
    pub(super) about: String,
    pub(super) since: DateTime<Utc>,
    /// End of the alarm, if it has ended.
    pub(super) ended: Option<DateTime<Utc>>,
    /// Description of the fault; empty if the alarm has ended.
    pub(super) text: String,
    /// Id of the event, the same each time it is sent.
    pub(super) id: String,
}

/// Decision at one moment.
#[derive(Debug)]
pub(super) struct NotifyPlan {
    /// Notices of the message to send now; empty if there is none.
    pub(super) due: Vec<AlarmNotice>,
    /// Time of the next decision if no alarm changes before.
    pub(super) wake_at: Option<DateTime<Utc>>,
}

/// Decides for one channel what is sent when.
#[derive(Debug)]
pub(super) struct AlarmPlanner {
    channel: String,
    policy: ChannelPolicy,
    // Shops whose alarms are not sent.
    excluded_shops: BTreeSet<String>,
    tracked: BTreeMap<AlarmKey, TrackedAlarm>,
    // Alarms of earlier runs that were not active yet in this one. One that an earlier run did not see
    // either may still be raised, because that run may have been short.
    unseen: BTreeSet<AlarmKey>,
    started: DateTime<Utc>,
    collect_until: Option<DateTime<Utc>>,
    last_message: Option<DateTime<Utc>>,
}

impl AlarmPlanner {
    /// Creates a planner for the channel of this name. `restored` are the alarms of the previous
    /// run, and `all_shops` the names of all configured shops.
    pub(super) fn new(
        channel: &str,
        policy: ChannelPolicy,
        all_shops: &[String],
        restored: BTreeMap<AlarmKey, TrackedAlarm>,
        started: DateTime<Utc>,
    ) -> Self {
        let is_excluded = |shop: &&String| !policy.shops.is_empty() && !policy.shops.contains(shop);
        let excluded_shops = all_shops.iter().filter(is_excluded).cloned().collect();
        let mut planner = Self {
            channel: channel.to_owned(),
            policy,
            excluded_shops,
            tracked: BTreeMap::new(),
            unseen: BTreeSet::new(),
            started,
            collect_until: None,
            last_message: None,
        };
        for (key, tracked) in restored {
            if planner.selects(&key) {
                planner.unseen.insert(key.clone());
                planner.tracked.insert(key, tracked);
            }
        }
        planner
    }

    /// Returns the tracked alarms, for persistence.
    pub(super) fn tracked(&self) -> &BTreeMap<AlarmKey, TrackedAlarm> {
        &self.tracked
    }

    /// Decides what is sent now, and when to decide again.
    pub(super) fn plan(&mut self, now: DateTime<Utc>, active: &[ObservedAlarm]) -> NotifyPlan {
        let mut wake = WakeTime(None);
        let active = self.track(now, active, &mut wake);
        let quiet_end = self
            .policy
            .quiet_hours
            .and_then(|quiet| quiet.end_of_current(now, self.policy.time_zone));
        let mut due = Vec::new();
        for (key, tracked) in &self.tracked {
            let Some(event) = self.due_event(now, key, tracked, &mut wake) else {
                continue;
            };
            if let Some(end) = quiet_end
                && !self.policy.urgent.contains(&key.0)
            {
                wake.no_later_than(end);
                continue;
            }
            let text = active.get(key).map(|alarm| alarm.text.clone());
            due.push(AlarmNotice {
                event,
                kind: key.0,
                about: key.1.clone(),
                since: tracked.since,
                ended: tracked.inactive_since,
                text: text.unwrap_or_default(),
                id: event_id(event, key, tracked),
            });
        }
        self.collect(now, due, wake)
    }

    /// Records that a message with these notices was delivered.
    pub(super) fn confirm(&mut self, now: DateTime<Utc>, sent: &[AlarmNotice]) {
        self.collect_until = None;
        self.last_message = Some(now);
        for notice in sent {
            let key = (notice.kind, notice.about.clone());
            match notice.event {
                NoticeEvent::Raised | NoticeEvent::Repeated => {
                    if let Some(tracked) = self.tracked.get_mut(&key) {
                        tracked.sent_at = Some(now);
                    }
                }
                NoticeEvent::Passed | NoticeEvent::Cleared => {
                    self.tracked.remove(&key);
                }
            }
        }
    }

    /// Updates the tracked alarms. Returns the selected active ones.
    fn track<'a>(
        &mut self,
        now: DateTime<Utc>,
        active: &'a [ObservedAlarm],
        wake: &mut WakeTime,
    ) -> BTreeMap<AlarmKey, &'a ObservedAlarm> {
        let selected = active.iter().filter(|alarm| self.selects(&alarm.key));
        let selected: BTreeMap<AlarmKey, &ObservedAlarm> =
            selected.map(|alarm| (alarm.key.clone(), alarm)).collect();
        for (key, alarm) in &selected {
            let due_at = alarm.since + self.policy.delay;
            if let Some(tracked) = self.tracked.get_mut(key) {
                tracked.inactive_since = None;
            } else if now < due_at {
                wake.no_later_than(due_at);
            } else if self.tracked.len() < MAX_TRACKED {
                let tracked = TrackedAlarm {
                    since: alarm.since,
                    sent_at: None,
                    inactive_since: None,
                };
                self.tracked.insert(key.clone(), tracked);
            }
        }
        self.unseen.retain(|key| !selected.contains_key(key));
        for (key, tracked) in &mut self.tracked {
            if !selected.contains_key(key) {
                tracked.inactive_since.get_or_insert(now);
            }
        }
        if !self.policy.reports_end {
            // The end of an alarm that was sent is not reported, so it needs no message.
            let mut tracked = std::mem::take(&mut self.tracked);
            tracked.retain(|key, tracked| {
                let has_ended = || {
                    self.end_is_certain_at(key, tracked)
                        .is_some_and(|at| at <= now)
                };
                tracked.sent_at.is_none() || !has_ended()
            });
            self.tracked = tracked;
        }
        selected
    }

    /// Returns the event of an alarm that is due now.
    fn due_event(
        &self,
        now: DateTime<Utc>,
        key: &AlarmKey,
        tracked: &TrackedAlarm,
        wake: &mut WakeTime,
    ) -> Option<NoticeEvent> {
        let (event, due_at) = match (self.end_is_certain_at(key, tracked), tracked.sent_at) {
            (None, None) => (NoticeEvent::Raised, tracked.since),
            (None, Some(sent_at)) => (NoticeEvent::Repeated, sent_at + self.policy.repeat?),
            (Some(end), None) => (NoticeEvent::Passed, end),
            (Some(end), Some(_)) => (NoticeEvent::Cleared, end),
        };
        if now < due_at {
            wake.no_later_than(due_at);
            return None;
        }
        Some(event)
    }

    /// Returns the time from which an inactive alarm counts as ended.
    fn end_is_certain_at(&self, key: &AlarmKey, tracked: &TrackedAlarm) -> Option<DateTime<Utc>> {
        let end = tracked.inactive_since? + self.policy.delay;
        Some(if self.unseen.contains(key) {
            end.max(self.started + START_GRACE)
        } else {
            end
        })
    }

    /// Waits for further notices, and for the minimum interval between messages.
    fn collect(
        &mut self,
        now: DateTime<Utc>,
        mut due: Vec<AlarmNotice>,
        mut wake: WakeTime,
    ) -> NotifyPlan {
        if due.is_empty() {
            self.collect_until = None;
        } else {
            let collected = now + COLLECT_TIME.min(self.policy.delay);
            let earliest = self.last_message.map(|last| last + MIN_MESSAGE_INTERVAL);
            let until = earliest.map_or(collected, |earliest| collected.max(earliest));
            let until = *self.collect_until.get_or_insert(until);
            if now < until {
                wake.no_later_than(until);
                due.clear();
            }
        }
        due.sort_by_key(|notice| {
            let is_urgent = self.policy.urgent.contains(&notice.kind);
            (notice.event, !is_urgent, notice.kind)
        });
        NotifyPlan {
            due,
            wake_at: wake.0,
        }
    }

    /// Returns true if the channel sends this alarm.
    fn selects(&self, (kind, about): &AlarmKey) -> bool {
        if *kind == AlarmKind::NotifyFailed {
            // The channel that fails cannot report it.
            return *about != self.channel && self.selects_kind(*kind);
        }
        self.selects_kind(*kind) && !self.excluded_shops.contains(shop_of(about))
    }

    fn selects_kind(&self, kind: AlarmKind) -> bool {
        self.policy.alarms.is_empty() || self.policy.alarms.contains(&kind)
    }
}

/// Returns the shop that an alarm is about; another text if it is about none.
///
/// `about` is a shop, `shop/source` or `shop at PLACE`, or else a path or empty. Names of shops
/// contain neither slashes nor blanks.
pub(super) fn shop_of(about: &str) -> &str {
    about.split(['/', ' ']).next().unwrap_or_default()
}

/// Earliest of several times.
struct WakeTime(Option<DateTime<Utc>>);

impl WakeTime {
    fn no_later_than(&mut self, at: DateTime<Utc>) {
        self.0 = Some(self.0.map_or(at, |earliest| earliest.min(at)));
    }
}

/// Id of an event. It does not change if the event is sent again, also after a restart.
fn event_id(event: NoticeEvent, (kind, about): &AlarmKey, tracked: &TrackedAlarm) -> String {
    // A repeat differs from the one before by the time of the message before it.
    let repeated = match event {
        NoticeEvent::Repeated => tracked.sent_at.map(|at| at.timestamp_micros()),
        NoticeEvent::Raised | NoticeEvent::Passed | NoticeEvent::Cleared => None,
    };
    let text = format!(
        "{}\n{}\n{}\n{}\n{about}",
        event.name(),
        kind.name(),
        tracked.since.timestamp_micros(),
        repeated.unwrap_or_default(),
    );
    hex(&Sha256::digest(text)[..16])
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIFT: AlarmKind = AlarmKind::Drift;
    const STORE: AlarmKind = AlarmKind::StoreFailed;

    fn at(seconds: i64) -> DateTime<Utc> {
        // 12:00 in Moscow.
        let start: DateTime<Utc> = "2026-11-29T09:00:00Z".parse().unwrap();
        start + TimeDelta::seconds(seconds)
    }

    fn policy() -> ChannelPolicy {
        ChannelPolicy {
            alarms: Vec::new(),
            shops: Vec::new(),
            quiet_hours: None,
            time_zone: FixedOffset::east_opt(3 * 3600).unwrap(),
            urgent: vec![STORE],
            repeat: Some(TimeDelta::hours(24)),
            reports_end: true,
            delay: TimeDelta::seconds(60),
        }
    }

    /// Planner with the alarms that are active in a test.
    struct Timeline {
        planner: AlarmPlanner,
        active: Vec<ObservedAlarm>,
        ids: Vec<String>,
    }

    impl Timeline {
        fn new(policy: ChannelPolicy) -> Self {
            Self::restored(policy, BTreeMap::new(), 0)
        }

        fn restored(
            policy: ChannelPolicy,
            tracked: BTreeMap<AlarmKey, TrackedAlarm>,
            started: i64,
        ) -> Self {
            let shops = ["moscow".to_owned(), "kazan".to_owned()];
            Self {
                planner: AlarmPlanner::new("ops", policy, &shops, tracked, at(started)),
                active: Vec::new(),
                ids: Vec::new(),
            }
        }

        fn raise(&mut self, second: i64, kind: AlarmKind, about: &str) {
            self.active.push(ObservedAlarm {
                key: (kind, about.to_owned()),
                since: at(second),
                text: "text".to_owned(),
            });
        }

        fn clear(&mut self, kind: AlarmKind, about: &str) {
            let key = (kind, about.to_owned());
            self.active.retain(|alarm| alarm.key != key);
        }

        fn plan(&mut self, second: i64) -> NotifyPlan {
            self.planner.plan(at(second), &self.active)
        }

        /// Events of the message at this second, which is delivered.
        fn sent(&mut self, second: i64) -> Vec<String> {
            let due = self.plan(second).due;
            if !due.is_empty() {
                self.planner.confirm(at(second), &due);
            }
            self.ids.extend(due.iter().map(|notice| notice.id.clone()));
            let describe = |notice: &AlarmNotice| {
                format!(
                    "{} {} {}",
                    notice.event.name(),
                    notice.kind.name(),
                    notice.about
                )
            };
            due.iter().map(describe).collect()
        }

        /// Follows the planner's own wake-ups. Returns each message with its second.
        fn run(&mut self, mut second: i64, until: i64) -> Vec<(i64, Vec<String>)> {
            let mut messages = Vec::new();
            loop {
                let sent = self.sent(second);
                if !sent.is_empty() {
                    messages.push((second, sent));
                }
                let wake = self.plan(second).wake_at;
                let wake = wake.map(|wake| (wake - at(0)).num_seconds());
                match wake {
                    Some(wake) if wake <= until => {
                        assert!(wake > second, "a wake-up must be in the future");
                        second = wake;
                    }
                    Some(_) | None => return messages,
                }
            }
        }
    }

    fn one(second: i64, event: &str) -> (i64, Vec<String>) {
        (second, vec![event.to_owned()])
    }

    #[test]
    fn sends_begin_and_end_once_after_the_delay() {
        let mut timeline = Timeline::new(policy());
        timeline.raise(0, DRIFT, "moscow");
        assert_eq!(timeline.run(0, 3_600), [one(70, "raised drift moscow")]);
        timeline.clear(DRIFT, "moscow");
        assert_eq!(
            timeline.run(3_600, 9_000),
            [one(3_670, "cleared drift moscow")]
        );
        assert!(timeline.planner.tracked().is_empty());
        let mut ids = timeline.ids.clone();
        ids.dedup();
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn flapping_alarms_are_not_sent() {
        let mut timeline = Timeline::new(policy());
        for second in (0..3_600).step_by(60) {
            timeline.raise(second, DRIFT, "moscow");
            assert!(timeline.sent(second + 59).is_empty());
            timeline.clear(DRIFT, "moscow");
            assert!(timeline.sent(second + 59).is_empty());
        }
        // An alarm that was sent and ends for a moment is neither over nor new.
        timeline.raise(4_000, DRIFT, "moscow");
        assert_eq!(timeline.run(4_000, 4_100).len(), 1);
        timeline.clear(DRIFT, "moscow");
        assert!(timeline.run(4_200, 4_259).is_empty());
        timeline.raise(4_260, DRIFT, "moscow");
        assert!(timeline.run(4_260, 10_000).is_empty());
    }

    #[test]
    fn a_hundred_shops_are_one_message() {
        let mut timeline = Timeline::new(policy());
        for shop in 0..100 {
            // They begin within ten seconds.
            timeline.raise(shop / 10, DRIFT, &format!("shop-{shop}"));
        }
        let messages = timeline.run(0, 3_600);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].1.len(), 100);
    }

    #[test]
    fn messages_keep_their_distance() {
        let mut timeline = Timeline::new(policy());
        timeline.raise(0, DRIFT, "moscow");
        timeline.raise(15, DRIFT, "kazan");
        assert_eq!(
            timeline.run(0, 3_600),
            [
                one(70, "raised drift moscow"),
                one(100, "raised drift kazan")
            ]
        );
    }

    #[test]
    fn active_alarms_are_repeated() {
        for (repeat, expected) in [(Some(24), 2), (Some(1), 48), (None, 0)] {
            let mut timeline = Timeline::new(ChannelPolicy {
                repeat: repeat.map(TimeDelta::hours),
                ..policy()
            });
            timeline.raise(0, DRIFT, "moscow");
            let messages = timeline.run(0, 49 * 3_600);
            let is_repeat =
                |(_, events): &&(i64, Vec<String>)| events[0] == "repeated drift moscow";
            assert_eq!(messages.iter().filter(is_repeat).count(), expected);
            let count = timeline.ids.len();
            timeline.ids.dedup();
            assert_eq!(
                timeline.ids.len(),
                count,
                "each repeat has an id of its own"
            );
        }
    }

    #[test]
    fn quiet_hours_end_with_one_message() {
        // 22:00 in Moscow is 10 hours after `at(0)`, 08:00 is 20 hours after it.
        const NIGHT: i64 = 10 * 3_600;
        const MORNING: i64 = 20 * 3_600;
        let mut timeline = Timeline::new(ChannelPolicy {
            quiet_hours: QuietHours::parse("22:00-08:00"),
            ..policy()
        });
        timeline.raise(0, DRIFT, "kazan");
        assert_eq!(timeline.run(0, 100).len(), 1);
        timeline.clear(DRIFT, "kazan");
        timeline.raise(NIGHT, DRIFT, "moscow");
        timeline.raise(NIGHT, AlarmKind::Quarantine, "moscow");
        timeline.raise(NIGHT, STORE, "");
        assert_eq!(
            timeline.run(NIGHT, NIGHT + 600),
            [one(NIGHT + 70, "raised store_failed ")],
            "urgent alarms do not wait"
        );
        timeline.clear(AlarmKind::Quarantine, "moscow");
        let expected = [
            "raised drift moscow",
            "passed quarantine moscow",
            "cleared drift kazan",
        ];
        assert_eq!(
            timeline.run(NIGHT + 600, MORNING + 600),
            [(MORNING + 10, expected.map(str::to_owned).to_vec())]
        );
    }

    #[test]
    fn selects_by_kind_shop_and_channel() {
        let all = policy();
        let kinds = ChannelPolicy {
            alarms: vec![DRIFT, AlarmKind::NotifyFailed],
            ..policy()
        };
        let shops = ChannelPolicy {
            shops: vec!["moscow".to_owned()],
            ..policy()
        };
        for (kind, about, expected) in [
            (DRIFT, "moscow", [true, true, true]),
            (DRIFT, "kazan", [true, true, false]),
            (AlarmKind::SourceFailed, "kazan/erp", [true, false, false]),
            (AlarmKind::SourceFailed, "moscow/erp", [true, false, true]),
            (
                AlarmKind::SelftestHidden,
                "kazan at x",
                [true, false, false],
            ),
            (STORE, "", [true, false, true]),
            (AlarmKind::UnmappedWarehouse, "/kazan", [true, false, true]),
            (AlarmKind::NotifyFailed, "mail", [true, true, true]),
            (AlarmKind::NotifyFailed, "kazan", [true, true, true]),
            (AlarmKind::NotifyFailed, "ops", [false, false, false]),
        ] {
            let selected = [&all, &kinds, &shops].map(|policy| {
                let mut timeline = Timeline::new(policy.clone());
                timeline.raise(0, kind, about);
                !timeline.run(0, 100).is_empty()
            });
            assert_eq!(selected, expected, "{} {about}", kind.name());
        }
    }

    #[test]
    fn a_restart_repeats_nothing() {
        let mut first = Timeline::new(policy());
        first.raise(0, DRIFT, "moscow");
        first.raise(0, DRIFT, "kazan");
        assert_eq!(first.run(0, 100).len(), 1);
        let tracked = first.planner.tracked().clone();
        let mut second = Timeline::restored(policy(), tracked, 1_000);
        assert!(second.run(1_000, 1_100).is_empty());
        second.raise(1_200, DRIFT, "moscow");
        assert_eq!(
            second.run(1_200, 7_200),
            [one(1_000 + 900 + 10, "cleared drift kazan")],
            "it has ended while the service was down"
        );
    }

    #[test]
    fn each_of_two_restarts_waits_for_alarms() {
        let mut first = Timeline::new(policy());
        first.raise(0, DRIFT, "moscow");
        assert_eq!(first.run(0, 100).len(), 1);
        let mut second = Timeline::restored(policy(), first.planner.tracked().clone(), 1_000);
        assert!(second.run(1_000, 1_100).is_empty());
        let mut third = Timeline::restored(policy(), second.planner.tracked().clone(), 1_200);
        assert!(third.run(1_200, 1_200 + 890).is_empty());
        third.raise(1_200 + 890, DRIFT, "moscow");
        assert!(third.run(1_200 + 890, 7_200).is_empty(), "it never ended");
    }

    #[test]
    fn an_event_has_the_same_id_after_a_restart() {
        let mut first = Timeline::new(policy());
        first.raise(0, DRIFT, "moscow");
        let _collecting = first.plan(60);
        let unsent = first.plan(70).due;
        let tracked = first.planner.tracked().clone();
        let mut second = Timeline::restored(policy(), tracked, 1_000);
        second.raise(1_000, DRIFT, "moscow");
        assert_eq!(second.run(1_000, 1_100).len(), 1);
        assert_eq!(second.ids, [unsent[0].id.clone()]);
    }

    #[test]
    fn a_failed_message_is_due_until_it_is_confirmed() {
        let mut timeline = Timeline::new(policy());
        timeline.raise(0, DRIFT, "moscow");
        let _collecting = timeline.plan(60);
        assert_eq!(timeline.plan(70).due.len(), 1);
        timeline.raise(10, DRIFT, "kazan");
        assert_eq!(timeline.plan(75).due.len(), 2, "new alarms join the retry");
        timeline.clear(DRIFT, "moscow");
        let _inactive = timeline.plan(80);
        assert_eq!(
            timeline.sent(140),
            ["raised drift kazan", "passed drift moscow"]
        );
    }

    #[test]
    fn ends_are_not_sent_on_request() {
        let mut timeline = Timeline::new(ChannelPolicy {
            reports_end: false,
            ..policy()
        });
        timeline.raise(0, DRIFT, "moscow");
        assert_eq!(timeline.run(0, 100).len(), 1);
        timeline.clear(DRIFT, "moscow");
        assert!(timeline.run(200, 7_200).is_empty());
        assert!(timeline.sent(7_200).is_empty());
        assert!(timeline.planner.tracked().is_empty());
    }

    #[test]
    fn no_delay_sends_at_once() {
        let mut timeline = Timeline::new(ChannelPolicy {
            delay: TimeDelta::zero(),
            ..policy()
        });
        timeline.raise(0, DRIFT, "moscow");
        assert_eq!(timeline.sent(0), ["raised drift moscow"]);
    }

    #[test]
    fn tracked_alarms_are_bounded() {
        let mut timeline = Timeline::new(policy());
        for number in 0..=MAX_TRACKED {
            timeline.raise(0, DRIFT, &format!("{number}"));
        }
        let messages = timeline.run(0, 3_600);
        assert_eq!(messages[0].1.len(), MAX_TRACKED);
        assert_eq!(timeline.planner.tracked().len(), MAX_TRACKED);
    }
}
