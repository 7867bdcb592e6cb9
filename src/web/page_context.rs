//! Time, language and zone of one page, and the formats that depend on them.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};

use super::cell::TitledText;
use super::format;
use super::texts::Text;
use crate::i18n::{Language, zone_name};

/// Time, language and zone of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageContext {
    pub(super) now: DateTime<Utc>,
    pub(super) language: Language,
    pub(super) zone: FixedOffset,
}

impl PageContext {
    /// Returns a fixed text.
    pub(super) fn text(self, text: Text) -> &'static str {
        text.in_language(self.language)
    }

    /// Formats a number.
    pub(super) fn number(self, n: impl Into<u64>) -> String {
        self.language.number(n.into())
    }

    /// Formats a time of the past as an age; `None` as "never".
    pub(super) fn past(self, at: Option<DateTime<Utc>>) -> TitledText {
        match at {
            Some(at) => TitledText {
                text: format::ago(at, self.now, self.language),
                title: self.full(at),
            },
            None => TitledText {
                text: self.text(Text::NEVER).to_owned(),
                title: String::new(),
            },
        }
    }

    /// Formats a time of the future as a distance.
    pub(super) fn future(self, at: DateTime<Utc>) -> TitledText {
        TitledText {
            text: format::ahead(at, self.now, self.language),
            title: self.full(at),
        }
    }

    /// Formats a time with its date and zone.
    pub(super) fn full(self, at: DateTime<Utc>) -> String {
        let at = self.language.date_time(at, self.zone);
        format!("{at} {}", self.zone_name())
    }

    /// Formats a time of day, to the second.
    pub(super) fn clock(self) -> String {
        let local = self.now.with_timezone(&self.zone);
        local.format("%H:%M:%S").to_string()
    }

    /// Formats a time with its date, to the minute.
    pub(super) fn short_time(self, at: DateTime<Utc>) -> String {
        let local = at.with_timezone(&self.zone);
        let date = self.language.date(local.date_naive());
        format!("{date} {}", local.format("%H:%M"))
    }

    /// Formats a time below an axis of this length: the time of a day, or the day of a week.
    pub(super) fn axis_time(self, at: DateTime<Utc>, span: TimeDelta) -> String {
        let format = match self.language {
            _ if span <= TimeDelta::hours(36) => "%H:%M",
            Language::English => "%-d %b",
            Language::Russian => "%d.%m",
            Language::Chinese => "%m-%d",
        };
        at.with_timezone(&self.zone).format(format).to_string()
    }

    /// Returns the name of the zone.
    pub(super) fn zone_name(self) -> String {
        zone_name(self.zone)
    }
}
