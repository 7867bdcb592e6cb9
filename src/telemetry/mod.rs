//! Logging and alarms.
//!
//! An alarm appears in three places: as an `error` log line with a stable `alarm` field when it
//! begins, as a gauge, and as an entry in the status until it clears. Other modules raise and
//! clear alarms; this module only keeps them. Text from outside is escaped before it is logged.

mod printable;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::field::Field;
use tracing::{error, info};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use self::printable::{EscapingJsonWriter, EscapingWriter};
pub use self::printable::{is_unprintable, printable, printable_lines};
use lifecycle::Clock;

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// One line of text per event, for people.
    Text,
}

/// Starts logging to standard error.
///
/// Standard output is reserved for the result of a command. [`parse_filter`] reads `filter`.
///
/// Returns the handle that replaces the filter.
///
/// # Errors
/// The filter is invalid, or logging was started before.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<LogFilter, String> {
    let (filter, handle) = reload::Layer::new(parse_filter(filter)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let as_json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let lines = if as_json {
        lines
            .with_writer(|| EscapingJsonWriter(std::io::stderr()))
            .json()
            .flatten_event(true)
            .boxed()
    } else {
        lines.fmt_fields(escaped_fields()).boxed()
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(|e| e.to_string())?;
    // Only the location is logged: the panic message may contain data from a client.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        error!(place, "thread panicked at {place}");
    }));
    Ok(LogFilter(handle))
}

/// Filter of log lines, which can be replaced while the service runs.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<Targets, Registry>);

impl LogFilter {
    /// Replaces the filter.
    ///
    /// # Errors
    /// The filter is invalid.
    pub fn replace(&self, filter: &str) -> Result<(), String> {
        let filter = parse_filter(filter)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Parses a log filter: a level, and levels of modules, as in `info,stockbridge::migrator=debug`.
///
/// The syntax is that of `RUST_LOG` without spans and fields.
///
/// # Errors
/// A part is neither a level nor a module with its level.
pub fn parse_filter(filter: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    let parts = filter.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let invalid = || {
            format!(
                "log filter '{filter}': '{part}' must be a level (off, error, warn, info, debug, \
                 trace) or a module with a level, such as stockbridge::migrator=debug"
            )
        };
        let is_in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        let is_module = |name: &str| !name.is_empty() && name.chars().all(is_in_name);
        let parse = |level: &str| level.parse::<LevelFilter>().map_err(|_| invalid());
        targets = match part.split_once('=') {
            None => targets.with_default(parse(part)?),
            Some((module, level)) if is_module(module) => {
                targets.with_target(module, parse(level)?)
            }
            Some(_) => return Err(invalid()),
        };
    }
    Ok(targets)
}

/// Formatter of the fields of text lines.
///
/// Messages and values may contain text from outside, so each character that could end a line,
/// move the cursor or reorder text is escaped.
fn escaped_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let write_field = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let mut writer = EscapingWriter(writer);
        match field.name() {
            "message" => write!(writer, "{value:?}"),
            name => write!(writer, "{name}={value:?}"),
        }
    };
    debug_fn(write_field).delimited(" ")
}

/// Kind of an alarm. The names are stable, because operators build alerts on them.
#[derive(
    Clone,
    Copy,
    Debug,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum AlarmKind {
    /// A snapshot was applied, but SKUs that it lacks keep their stock although they should not.
    AbsenceNotApplied,
    /// Many requests came with a wrong token, key or password.
    AuthFailures,
    /// The Market rejects whole batches, so the fault is not in a single SKU.
    BatchRefused,
    /// Forwarding to a campaign is paused until its cause is fixed.
    CampaignPaused,
    /// The store belongs to another installation. Nothing is sent until the operator decides.
    CloneGuard,
    /// The clock of this service was set, or stored dates come from a clock that ran ahead.
    ClockJumped,
    /// The Market requested a shop without any stock.
    ColdShopAsked,
    /// A new configuration is invalid. The service keeps the old one.
    ConfigRejected,
    /// The database had lost acknowledged changes, which were appended again.
    DatabaseLostChanges,
    /// The Market shows counts that differ from the ledger for no known reason.
    Drift,
    /// SKUs are waiting and the Market has acknowledged nothing for too long.
    NothingAcknowledged,
    /// A channel cannot deliver notifications about alarms.
    NotifyFailed,
    /// The Market rejects some SKUs, which are quarantined.
    Quarantine,
    /// The Market's copy cannot be read back.
    #[strum(serialize = "read_back_failed")]
    ReadbackFailed,
    /// This replica cannot read the changes of the others, so it does not answer the Market.
    ReplicaBehind,
    /// A replica has other settings than this one.
    ReplicasDiffer,
    /// A product is still hidden after an integration check and could not be made visible yet.
    SelftestHidden,
    /// A source cannot be read, or its data cannot be applied.
    SourceFailed,
    /// A delivery of a source looks like a wipe and is held for approval.
    SourceHeld,
    /// No stock of a shop was stated for too long.
    SourceSilent,
    /// No replica reads the sources of a shop.
    SourcesUnread,
    /// The store cannot write. Updates are rejected; requests of the Market are still answered.
    StoreFailed,
    /// The Market requested a warehouse that no shop of this path and token has.
    UnmappedWarehouse,
}

impl AlarmKind {
    /// Every kind, so that the gauge of one that was never raised shows 0.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name in logs, metrics and the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Alarm that has not cleared yet.
#[derive(Clone, Debug)]
pub struct ActiveAlarm {
    /// Kind of the fault.
    pub kind: AlarmKind,
    /// See [`AlarmKind::name`].
    pub alarm: &'static str,
    /// Shop that the alarm is about; empty for the whole process.
    pub about: String,
    /// Time of the first raise.
    pub since: DateTime<Utc>,
    /// Description of the fault, as of the latest raise.
    pub text: String,
    /// Time at which the alarm clears unless it is raised again; `None` for one that only
    /// [`Alarms::clear`] ends.
    until: Option<DateTime<Utc>>,
}

/// Change between two lists of active alarms.
#[derive(Clone, Debug)]
pub enum AlarmChange {
    /// The alarm is active now.
    Raised(ActiveAlarm),
    /// The alarm was active.
    Cleared(ActiveAlarm),
}

/// Returns the changes that lead from one result of [`Alarms::active`] to a later one, the
/// cleared alarms first.
///
/// An alarm that was cleared and raised again between the two counts as both. A new text is not a
/// change.
#[must_use]
pub fn alarm_changes(old: &[ActiveAlarm], new: &[ActiveAlarm]) -> Vec<AlarmChange> {
    let is_in = |alarm: &ActiveAlarm, list: &[ActiveAlarm]| {
        let is_same = |other: &ActiveAlarm| {
            (other.kind, other.since) == (alarm.kind, alarm.since) && other.about == alarm.about
        };
        list.iter().any(is_same)
    };
    let cleared = old.iter().filter(|alarm| !is_in(alarm, new)).cloned();
    let raised = new.iter().filter(|alarm| !is_in(alarm, old)).cloned();
    cleared
        .map(AlarmChange::Cleared)
        .chain(raised.map(AlarmChange::Raised))
        .collect()
}

/// Alarms of the process. Cheap to clone: all clones share one state.
#[derive(Clone, Debug)]
pub struct Alarms {
    clock: Clock,
    active: Arc<Mutex<BTreeMap<(AlarmKind, String), ActiveAlarm>>>,
    version: watch::Sender<u64>,
}

impl Alarms {
    /// Creates a set without alarms.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            active: Arc::default(),
            version: watch::Sender::new(0),
        }
    }

    /// Raises an alarm and logs it, or updates the text of one that is active.
    pub fn raise(&self, kind: AlarmKind, about: &str, text: impl Into<String>) {
        self.set(kind, about, text.into(), None);
    }

    /// Raises an alarm that clears once it was not raised again for `duration`.
    ///
    /// For faults whose end cannot be observed.
    pub fn raise_for(
        &self,
        kind: AlarmKind,
        about: &str,
        text: impl Into<String>,
        duration: TimeDelta,
    ) {
        self.set(kind, about, text.into(), Some(self.clock.now() + duration));
    }

    /// Clears an alarm and logs that; does nothing if the alarm is not active.
    pub fn clear(&self, kind: AlarmKind, about: &str) {
        let cleared = self.lock_active().remove(&(kind, about.to_owned()));
        if cleared.is_some() {
            self.publish_change();
            info!(alarm = kind.name(), about, "alarm cleared: {}", kind.name());
        }
    }

    /// Returns a version that increases each time an alarm begins or ends.
    ///
    /// A subscriber compares results of [`Alarms::active`] with [`alarm_changes`]. An alarm that
    /// expires is noticed only when the alarms are used, so a subscriber also looks every few
    /// seconds.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Returns true if any alarm of this kind is active.
    #[must_use]
    pub fn is_active(&self, kind: AlarmKind) -> bool {
        self.lock_active().keys().any(|(active, _)| *active == kind)
    }

    /// Returns the active alarms.
    #[must_use]
    pub fn active(&self) -> Vec<ActiveAlarm> {
        self.lock_active().values().cloned().collect()
    }

    fn set(&self, kind: AlarmKind, about: &str, text: String, until: Option<DateTime<Utc>>) {
        let since = self.clock.now();
        let name = kind.name();
        let mut active = self.lock_active();
        if let Some(alarm) = active.get_mut(&(kind, about.to_owned())) {
            (alarm.text, alarm.until) = (text, until);
            return;
        }
        let alarm = ActiveAlarm {
            kind,
            alarm: name,
            about: about.to_owned(),
            since,
            text: text.clone(),
            until,
        };
        active.insert((kind, about.to_owned()), alarm);
        // Logged after the lock is released: the log's reader may be slow, and handlers that
        // answer requests take this lock.
        drop(active);
        self.publish_change();
        error!(alarm = name, about, "{text}");
    }

    /// Locks the alarms and removes those that have expired.
    fn lock_active(&self) -> MutexGuard<'_, BTreeMap<(AlarmKind, String), ActiveAlarm>> {
        let mut active = self.active.lock();
        if !active.is_empty() {
            let now = self.clock.now();
            let count = active.len();
            active.retain(|_, alarm| alarm.until.is_none_or(|until| now < until));
            if active.len() < count {
                self.publish_change();
            }
        }
        active
    }

    fn publish_change(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text lines that `log` writes.
    fn logged_text(log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct LogBuffer(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for LogBuffer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let buffer = LogBuffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .fmt_fields(escaped_fields())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_have_no_unprintable_character() {
        let mut written = Vec::new();
        let line = "{\"message\":\"a\u{202e}b\u{200b}ж\"}\n";
        std::io::Write::write_all(&mut EscapingJsonWriter(&mut written), line.as_bytes()).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, "{\"message\":\"a\\u202eb\\u200bж\"}\n");
        let parsed: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(parsed["message"], "a\u{202e}b\u{200b}ж");
    }

    #[test]
    fn no_value_can_forge_a_text_line() {
        let evil = "x\r\n2026-11-28T10:00:00Z ERROR stockbridge: \u{1b}[2Jforged\u{85}\u{202e}";
        let error = std::io::Error::other(evil);
        let text = logged_text(|| {
            let span = tracing::info_span!("request", path = %evil, mode = evil);
            let _entered = span.enter();
            tracing::warn!(
                mode = evil,
                shown = %evil,
                debugged = ?evil,
                error = &error as &dyn std::error::Error,
                "1C exchange request {evil} failed: {error}"
            );
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(is_unprintable), "{line:?}");
        let message =
            "1C exchange request x\\r\\n2026-11-28T10:00:00Z ERROR stockbridge: \\u001b[2J";
        assert!(line.contains(message), "{line}");
        assert!(
            line.contains(" mode=\"x\\r\\n") && line.contains(" shown=x\\r\\n"),
            "{line}"
        );
    }

    #[test]
    fn ordinary_fields_are_not_escaped() {
        let text =
            logged_text(|| tracing::info!(skus = 3, shop = "moscow", "read «Плед»: {} SKUs", 3));
        let message = "stockbridge::telemetry::tests: read «Плед»: 3 SKUs skus=3 shop=\"moscow\"\n";
        assert!(text.ends_with(message), "{text}");
    }

    #[test]
    fn filter_takes_a_level_and_levels_of_modules() {
        for filter in [
            "info",
            "off",
            "error,stockbridge::telemetry=off",
            "warn,hyper=trace",
            "",
        ] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
        let trailing = parse_filter(" info, ").unwrap();
        assert!(trailing.would_enable("stockbridge", &tracing::Level::INFO));
        for filter in [
            "stockbridge=loud",
            "info,a=b=c",
            "inf0",
            "=info",
            "[request{shop=moscow}]=debug",
        ] {
            let reason = parse_filter(filter).unwrap_err();
            assert!(reason.contains(filter), "{reason}");
        }
    }

    #[test]
    fn escapes_only_misleading_characters() {
        for text in [
            "",
            "Плед «зимний» 50%\\",
            "😀 é",
            "a\u{301}",
            "مرحبا",
            "שלום",
        ] {
            assert_eq!(printable(text), text);
        }
        assert_eq!(
            printable("a\tb\0\u{7f}\u{9b}c"),
            "a\\tb\\u0000\\u007f\\u009bc"
        );
        assert_eq!(
            printable("\u{200b}\u{2028}\u{2066}\u{feff}"),
            "\\u200b\\u2028\\u2066\\ufeff"
        );
        assert_eq!(printable("\u{e0041}"), "\\udb40\\udc41");
        assert_eq!(printable_lines("a\n\tb\r\u{85}"), "a\n\tb\\r\\u0085");
    }

    #[test]
    fn alarm_keeps_its_start_and_takes_the_latest_text() {
        let alarms = Alarms::new(Clock::wall());
        alarms.raise(AlarmKind::Quarantine, "moscow", "1 SKU is refused");
        let since = alarms.active()[0].since;
        alarms.raise(AlarmKind::Quarantine, "moscow", "2 SKUs are refused");
        let active = alarms.active();
        assert_eq!((active.len(), active[0].since), (1, since));
        assert_eq!(active[0].text, "2 SKUs are refused");
        alarms.clear(AlarmKind::Quarantine, "moscow");
        assert!(alarms.active().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn alarm_with_a_duration_ends_unless_raised_again() {
        let alarms = Alarms::new(Clock::starting_at(DateTime::UNIX_EPOCH));
        let raise = || {
            alarms.raise_for(AlarmKind::UnmappedWarehouse, "", "7", TimeDelta::hours(3));
        };
        let hours = |n: u64| tokio::time::advance(std::time::Duration::from_secs(3600 * n));
        raise();
        hours(2).await;
        raise();
        hours(2).await;
        assert_eq!(alarms.active().len(), 1);
        hours(1).await;
        assert!(alarms.active().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_see_begin_end_and_expiry() {
        let alarms = Alarms::new(Clock::starting_at(DateTime::UNIX_EPOCH));
        let versions = alarms.subscribe();
        let version = || *versions.borrow();
        alarms.raise(AlarmKind::Drift, "moscow", "1 SKU");
        assert_eq!(version(), 1);
        alarms.raise(AlarmKind::Drift, "moscow", "2 SKUs");
        assert_eq!(version(), 1, "a new text is not a change");
        alarms.clear(AlarmKind::Drift, "kazan");
        assert_eq!(version(), 1, "it was not active");
        alarms.clear(AlarmKind::Drift, "moscow");
        assert_eq!(version(), 2);
        alarms.raise_for(AlarmKind::AuthFailures, "", "7", TimeDelta::hours(1));
        tokio::time::advance(std::time::Duration::from_hours(1)).await;
        assert!(alarms.active().is_empty());
        assert_eq!(version(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_between_two_lists_of_alarms() {
        let alarms = Alarms::new(Clock::starting_at(DateTime::UNIX_EPOCH));
        let described = |old: &[ActiveAlarm], new: &[ActiveAlarm]| -> Vec<String> {
            let changes = alarm_changes(old, new).into_iter();
            let describe = |change| match change {
                AlarmChange::Raised(alarm) => format!("+{} {}", alarm.alarm, alarm.about),
                AlarmChange::Cleared(alarm) => format!("-{} {}", alarm.alarm, alarm.about),
            };
            changes.map(describe).collect()
        };
        alarms.raise(AlarmKind::Drift, "moscow", "1 SKU");
        alarms.raise(AlarmKind::Drift, "kazan", "1 SKU");
        let first = alarms.active();
        assert_eq!(described(&[], &first), ["+drift kazan", "+drift moscow"]);
        alarms.raise(AlarmKind::Drift, "kazan", "2 SKUs");
        assert!(described(&first, &alarms.active()).is_empty());
        alarms.clear(AlarmKind::Drift, "moscow");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        alarms.raise(AlarmKind::Drift, "moscow", "again");
        alarms.clear(AlarmKind::Drift, "kazan");
        assert_eq!(
            described(&first, &alarms.active()),
            ["-drift kazan", "-drift moscow", "+drift moscow"]
        );
    }

    #[test]
    fn every_alarm_kind_has_its_own_name() {
        let names: std::collections::BTreeSet<_> =
            AlarmKind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), AlarmKind::ALL.len());
    }
}
