//! Texts of the pages. Each language has an exhaustive `match`, so none can be forgotten.

mod chinese;
mod english;
mod events;
mod russian;
mod sentences;

pub(super) use self::events::{EventGroup, event_group, event_sentence};
pub(super) use self::sentences::{condition, days_left, sync_verdict};
use crate::i18n::Language;

/// Text without parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Text {
    AcknowledgedColumn,
    Alarms,
    All,
    CommandByApi,
    CommandByFile,
    CommandBySource,
    ConnectionLive,
    ConnectionLost,
    Consequence,
    Detail,
    DifferingColumn,
    EventColumn,
    EventKind,
    Events,
    EventsUnreadable,
    FeedShop,
    FeedShopLead,
    Filter,
    LanguageSwitch,
    Login,
    LoginLead,
    Logout,
    MatchColumn,
    ModeColumn,
    ModeDryRun,
    ModeOff,
    ModeOn,
    Never,
    NewData,
    Newest,
    NoAlarms,
    NoEvents,
    Older,
    Overview,
    Password,
    PushColumn,
    RejectedColumn,
    Reload,
    Remedy,
    Shop,
    Shops,
    SkipToContent,
    SkusColumn,
    StartingLead,
    StartingTitle,
    StateColumn,
    Time,
    WaitingColumn,
    WholeService,
    WrongPassword,
}

/// Returns a text in a language.
pub(super) const fn text(name: Text, language: Language) -> &'static str {
    match language {
        Language::English => english::text(name),
        Language::Russian => russian::text(name),
        Language::Chinese => chinese::text(name),
    }
}
