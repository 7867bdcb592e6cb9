//! Time, language and zone of one page, and the formats that depend on them.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};

use super::format;
use super::texts::{Text, text};
use crate::i18n::{Language, zone_name};
use crate::ops::OpsState;

/// Time, language and zone of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageContext {
    pub(super) now: DateTime<Utc>,
    pub(super) language: Language,
    pub(super) zone: FixedOffset,
}

/// Time in a few words, and in full for the title of its element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Moment {
    pub(super) text: String,
    pub(super) title: String,
}

impl PageContext {
    /// Creates the context of a page that is made now.
    pub(super) fn new(state: &OpsState, language: Language, zone: FixedOffset) -> Self {
        Self {
            now: state.clock.now(),
            language,
            zone,
        }
    }

    /// Returns a fixed text.
    pub(super) fn text(self, name: Text) -> &'static str {
        text(name, self.language)
    }

    /// Formats a number.
    pub(super) fn number(self, n: u64) -> String {
        self.language.number(n)
    }

    /// Formats a time of the past as an age; `None` as "never".
    pub(super) fn past(self, at: Option<DateTime<Utc>>) -> Moment {
        match at {
            Some(at) => Moment {
                text: format::ago(at, self.now, self.language),
                title: self.full(at),
            },
            None => Moment {
                text: self.text(Text::Never).to_owned(),
                title: String::new(),
            },
        }
    }

    /// Formats a time of the future as a distance.
    pub(super) fn future(self, at: DateTime<Utc>) -> Moment {
        Moment {
            text: format::ahead(at, self.now, self.language),
            title: self.full(at),
        }
    }

    /// Formats a time with its date and zone.
    pub(super) fn full(self, at: DateTime<Utc>) -> String {
        format::full(at, self.zone, self.language)
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
