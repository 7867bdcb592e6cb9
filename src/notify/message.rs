//! Text and JSON of one message, made of the notices that are due.
//!
//! Notices are grouped by event and kind, so that a hundred shops with the same alarm are one
//! paragraph. Descriptions of alarms contain SKUs and texts of other servers: characters that
//! mislead a reader are escaped, and the message has no markup.

use std::fmt::Write as _;

use chrono::{DateTime, FixedOffset, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::planner::{AlarmNotice, NoticeEvent, hex, shop_of};
use crate::i18n::{Language, NotificationText, alarm_text, notification_text, zone_name};
use crate::telemetry::{AlarmKind, printable};

/// Subjects that one paragraph lists.
const MAX_SUBJECTS: usize = 20;

/// Descriptions that one paragraph has.
const MAX_DESCRIPTIONS: usize = 3;

/// Characters of one description.
const MAX_DESCRIPTION_CHARS: usize = 400;

/// Characters of one subject.
const MAX_SUBJECT_CHARS: usize = 100;

/// Version of the JSON.
const JSON_VERSION: u32 = 1;

/// Language, time zone and address that all messages of a channel share.
#[derive(Clone, Debug)]
pub(super) struct MessageStyle {
    pub(super) channel: String,
    pub(super) language: Language,
    pub(super) time_zone: FixedOffset,
    /// Base URL of the operator's pages.
    pub(super) page_url: Option<String>,
    /// Names of the configured shops, which have pages of their own.
    pub(super) shops: Vec<String>,
}

/// Message to one channel, and the JSON that a webhook receives.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Notification {
    version: u32,
    channel: String,
    /// Id that is the same for the same events.
    pub(super) id: String,
    /// One line.
    pub(super) subject: String,
    /// Text after the subject.
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    alarms: Vec<WebhookAlarm>,
}

/// Alarms of one kind with the same event.
#[derive(Clone, Debug, Serialize)]
struct WebhookAlarm {
    event: &'static str,
    alarm: &'static str,
    title: &'static str,
    consequence: &'static str,
    remedy: &'static str,
    subjects: Vec<WebhookSubject>,
}

/// One alarm of a [`WebhookAlarm`].
#[derive(Clone, Debug, Serialize)]
struct WebhookSubject {
    id: String,
    about: String,
    since: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
}

impl MessageStyle {
    /// Makes one message of notices, which are sorted by event and kind.
    pub(super) fn message(&self, notices: &[AlarmNotice]) -> Notification {
        let words = notification_text(self.language);
        let groups: Vec<&[AlarmNotice]> = notices
            .chunk_by(|one, other| (one.event, one.kind) == (other.event, other.kind))
            .collect();
        let page = self.page(notices);
        let mut text = page.clone().map_or_else(String::new, |page| page + "\n\n");
        let mut heading = None;
        for group in &groups {
            let event = group[0].event;
            if groups.len() > 1 && heading.replace(event) != Some(event) {
                let _infallible = write!(text, "== {} ==\n\n", event_heading(event, words));
            }
            self.add_paragraph(&mut text, group, words);
        }
        let ids: String = notices.iter().map(|notice| notice.id.as_str()).collect();
        let alarms = groups.iter().map(|group| self.webhook_alarm(group));
        Notification {
            page,
            alarms: alarms.collect(),
            ..self.notification(
                &ids,
                self.subject(&groups, words),
                text.trim_end().to_owned(),
            )
        }
    }

    /// Makes the message with which an operator tests a channel.
    pub(super) fn test_message(&self, now: DateTime<Utc>) -> Notification {
        let words = notification_text(self.language);
        let mut text = words.test_text.replace("{name}", &self.channel);
        if let Some(page) = &self.page_url {
            let _infallible = write!(text, "\n{page}");
        }
        let ids = format!("test {} {now}", self.channel);
        Notification {
            page: self.page_url.clone(),
            ..self.notification(&ids, words.test_subject.to_owned(), text)
        }
    }

    fn notification(&self, ids: &str, subject: String, text: String) -> Notification {
        Notification {
            version: JSON_VERSION,
            channel: self.channel.clone(),
            id: hex(&Sha256::digest(ids)[..16]),
            subject,
            text,
            page: None,
            alarms: Vec::new(),
        }
    }

    /// The page of the shop if all notices are about one shop, or else the overview.
    fn page(&self, notices: &[AlarmNotice]) -> Option<String> {
        let base = self.page_url.as_ref()?;
        let shop = notices.first().map_or("", |first| shop_of(&first.about));
        let is_of_shop = |notice: &AlarmNotice| {
            // A channel may have the name of a shop.
            notice.kind != AlarmKind::NotifyFailed && shop_of(&notice.about) == shop
        };
        let is_of_one_shop =
            self.shops.iter().any(|name| name == shop) && notices.iter().all(is_of_shop);
        Some(if is_of_one_shop {
            format!("{base}/shops/{shop}")
        } else {
            format!("{base}/")
        })
    }

    /// One line: the alarm if there is only one kind, or else the numbers.
    fn subject(&self, groups: &[&[AlarmNotice]], words: NotificationText) -> String {
        if let [group] = groups {
            let first = &group[0];
            return format!(
                "stockbridge: {}: {}: {}",
                event_heading(first.event, words),
                self.title(first.kind),
                self.subjects(group, 3, words)
            );
        }
        let events = groups.chunk_by(|one, other| one[0].event == other[0].event);
        let counts = events.map(|of_event| {
            let count: usize = of_event.iter().map(|group| group.len()).sum();
            let heading = event_heading(of_event[0][0].event, words);
            format!("{heading}: {}", self.language.number(count as u64))
        });
        format!("stockbridge: {}", counts.collect::<Vec<_>>().join(", "))
    }

    fn add_paragraph(&self, body: &mut String, group: &[AlarmNotice], words: NotificationText) {
        let first = &group[0];
        let text = alarm_text(first.kind, self.language);
        let _infallible = writeln!(
            body,
            "{}\n{}",
            self.title(first.kind),
            self.subjects(group, MAX_SUBJECTS, words)
        );
        let since = self.language.date_time(first.since, self.time_zone);
        let zone = zone_name(self.time_zone);
        let ended = first.ended.map_or_else(String::new, |ended| {
            format!(" – {}", self.language.date_time(ended, self.time_zone))
        });
        if group.len() == 1 {
            let _infallible = writeln!(body, "{} {since}{ended} ({zone})", words.since);
        }
        if matches!(first.event, NoticeEvent::Raised | NoticeEvent::Repeated) {
            let (label, remedy) = (words.remedy, text.remedy);
            let _infallible = writeln!(body, "{}\n{label} {remedy}", text.consequence);
            for notice in group.iter().take(MAX_DESCRIPTIONS) {
                let description = cut(&notice.text, MAX_DESCRIPTION_CHARS);
                let _infallible = writeln!(body, "> {description}");
            }
            if let Some(more) = self.more(group, MAX_DESCRIPTIONS, words) {
                let _infallible = writeln!(body, "> {more}");
            }
        }
        body.push('\n');
    }

    /// Words for the notices of a group after the first `shown` ones; `None` if there are none.
    fn more(&self, group: &[AlarmNotice], shown: usize, words: NotificationText) -> Option<String> {
        let hidden = group.len().saturating_sub(shown) as u64;
        (hidden > 0).then(|| words.more.replace("{n}", &self.language.number(hidden)))
    }

    /// List of what the alarms are about, cut with "and N more".
    fn subjects(&self, group: &[AlarmNotice], max: usize, words: NotificationText) -> String {
        let names = group.iter().take(max).map(|notice| {
            if notice.about.is_empty() {
                words.whole_service.to_owned()
            } else {
                cut(&notice.about, MAX_SUBJECT_CHARS)
            }
        });
        let mut text = names.collect::<Vec<_>>().join(", ");
        if let Some(more) = self.more(group, max, words) {
            let _infallible = write!(text, " {more}");
        }
        text
    }

    fn title(&self, kind: AlarmKind) -> String {
        let title = alarm_text(kind, self.language).title;
        format!("{title} ({})", kind.name())
    }

    fn webhook_alarm(&self, group: &[AlarmNotice]) -> WebhookAlarm {
        let first = &group[0];
        let text = alarm_text(first.kind, self.language);
        let subjects = group.iter().map(|notice| WebhookSubject {
            id: notice.id.clone(),
            about: notice.about.clone(),
            since: notice.since,
            ended: notice.ended,
            text: notice.text.chars().take(MAX_DESCRIPTION_CHARS).collect(),
        });
        WebhookAlarm {
            event: first.event.name(),
            alarm: first.kind.name(),
            title: text.title,
            consequence: text.consequence,
            remedy: text.remedy,
            subjects: subjects.collect(),
        }
    }
}

const fn event_heading(event: NoticeEvent, words: NotificationText) -> &'static str {
    match event {
        NoticeEvent::Raised => words.raised,
        NoticeEvent::Repeated => words.repeated,
        NoticeEvent::Passed => words.passed,
        NoticeEvent::Cleared => words.cleared,
    }
}

/// One printable line of at most `max` characters before the escapes.
fn cut(text: &str, max: usize) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(max).collect();
    let end = if chars.next().is_some() { "…" } else { "" };
    format!("{}{end}", printable(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(language: Language) -> MessageStyle {
        MessageStyle {
            channel: "ops".to_owned(),
            language,
            time_zone: FixedOffset::east_opt(3 * 3600).unwrap(),
            page_url: Some("https://stock.example".to_owned()),
            shops: vec!["moscow".to_owned()],
        }
    }

    fn notice(event: NoticeEvent, kind: AlarmKind, about: &str, text: &str) -> AlarmNotice {
        let since: DateTime<Utc> = "2026-11-29T22:03:20Z".parse().unwrap();
        let has_ended = matches!(event, NoticeEvent::Passed | NoticeEvent::Cleared);
        AlarmNotice {
            event,
            kind,
            about: about.to_owned(),
            since,
            ended: has_ended.then(|| since + chrono::TimeDelta::hours(1)),
            text: text.to_owned(),
            id: format!("{about}-id"),
        }
    }

    #[test]
    fn one_alarm_is_described_in_every_language() {
        let alarm = notice(
            NoticeEvent::Raised,
            AlarmKind::Drift,
            "moscow",
            "2 SKUs differ",
        );
        for language in Language::ALL {
            let message = style(language).message(std::slice::from_ref(&alarm));
            let words = notification_text(language);
            for part in ["drift", "moscow", words.raised] {
                assert!(message.subject.contains(part), "{}", message.subject);
            }
            let text = alarm_text(AlarmKind::Drift, language);
            for part in [
                "https://stock.example/shops/moscow\n",
                "> 2 SKUs differ",
                "01:03:20 (UTC+3)",
                text.consequence,
                text.remedy,
            ] {
                assert!(message.text.contains(part), "{part}: {}", message.text);
            }
        }
    }

    #[test]
    fn a_hundred_shops_are_one_paragraph() {
        let shops = (0..100).map(|shop| {
            let about = format!("shop-{shop}");
            notice(
                NoticeEvent::Raised,
                AlarmKind::SourceSilent,
                &about,
                "silent",
            )
        });
        let message = style(Language::English).message(&shops.collect::<Vec<_>>());
        assert!(message.text.contains("shop-19 and 80 more\n"));
        assert!(message.text.contains("> and 97 more"), "{}", message.text);
        assert_eq!(message.text.matches("source_silent").count(), 1);
        assert!(message.subject.ends_with("shop-2 and 97 more"));
        let json = serde_json::to_value(&message).unwrap();
        let subjects = json["alarms"][0]["subjects"].as_array().unwrap();
        assert_eq!(subjects.len(), 100, "a program gets all of them");
    }

    #[test]
    fn several_events_are_counted_in_the_subject() {
        let message = style(Language::Russian).message(&[
            notice(NoticeEvent::Raised, AlarmKind::Drift, "moscow", "text"),
            notice(NoticeEvent::Raised, AlarmKind::StoreFailed, "", "text"),
            notice(NoticeEvent::Cleared, AlarmKind::Drift, "kazan", ""),
        ]);
        assert_eq!(message.subject, "stockbridge: Новые тревоги: 2, Сняты: 1");
        assert!(message.text.starts_with("https://stock.example/\n"));
        assert!(message.text.contains("весь сервис"));
        assert!(message.text.contains("01:03:20 – 30.11.2026 02:03:20"));
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let hostile = "SKU 'a\r\n\u{202e}<b>*_[x](http://evil)\u{0}' ".repeat(50);
        let alarm = notice(
            NoticeEvent::Raised,
            AlarmKind::Quarantine,
            "moscow",
            &hostile,
        );
        let about = notice(NoticeEvent::Raised, AlarmKind::Drift, "a\r\nBcc: x", "text");
        let message = style(Language::English).message(&[about, alarm]);
        let text = format!("{}\n{}", message.subject, message.text);
        assert!(!text.contains(['\r', '\u{202e}', '\u{0}']));
        assert!(text.contains("SKU 'a\\r\\n\\u202e<b>"));
        assert!(!message.text.lines().any(|line| line.starts_with("Bcc")));
        assert!(
            message
                .text
                .lines()
                .all(|line| line.chars().count() < 1_000)
        );
    }

    #[test]
    fn a_message_has_a_stable_id() {
        let alarms = [notice(NoticeEvent::Raised, AlarmKind::Drift, "moscow", "1")];
        let again = [notice(NoticeEvent::Raised, AlarmKind::Drift, "moscow", "2")];
        let other = [notice(NoticeEvent::Raised, AlarmKind::Drift, "kazan", "1")];
        let id = |notices: &[AlarmNotice]| style(Language::English).message(notices).id;
        assert_eq!(id(&alarms), id(&again));
        assert_ne!(id(&alarms), id(&other));
        assert_eq!(id(&alarms).len(), 32);
    }
}
