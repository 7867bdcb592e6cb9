use std::fmt;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::cli::ops_client::OpsClient;
use crate::cli::progress::ProgressReporter;

/// How often it is looked how far the sources are.
const POLL_INTERVAL: Duration = Duration::from_millis(400);

/// How long nothing may come of a source before it is given up: longer than a handler may take
/// for its first answers, and to be asked for them once more.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// How long a source may be silent from the start: it is looked at four times a second.
const FIRST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Rows shown of those somebody should look at.
const MAX_ROWS_PRINTED: usize = 10;

/// What the service says of a source.
#[derive(Clone, Debug, Deserialize)]
struct PolledSource {
    source: String,
    kind: String,
    state: String,
    #[serde(default)]
    rows_so_far: u64,
    last: Option<LastDelivery>,
    last_at: Option<DateTime<Utc>>,
    held: Option<String>,
    failure: Option<String>,
    #[serde(default)]
    rejected: Vec<PolledRejection>,
}

/// What it says of its last delivery.
#[derive(Clone, Debug, Deserialize)]
struct LastDelivery {
    scope: String,
    stated_at: DateTime<Utc>,
    rows: u64,
    rejected: u64,
    suspicious: u64,
    #[serde(default)]
    absence_untold: Option<String>,
    #[serde(default)]
    notices: Vec<String>,
    took_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct PolledRejection {
    line: u64,
    text: String,
    reason: String,
    kind: String,
}

/// What became of a source, for people.
pub(super) struct SourceReport {
    /// As of when it was stated, if it was taken.
    pub(super) stated_at: crate::stock::Timestamp,
    source: PolledSource,
}

/// Waits until every source is taken, or one is not, and tells what became of each.
///
/// `rows` is how many there will be of them, about.
pub(super) async fn wait_for_sources(
    client: &OpsClient,
    rows: usize,
) -> anyhow::Result<Vec<SourceReport>> {
    let mut progress = ProgressReporter::start("read", rows, "rows");
    let started = Instant::now();
    let mut last_change = (0, Instant::now());
    let mut previous_dates = Vec::new();
    loop {
        let sources: Vec<PolledSource> = serde_json::from_value(client.get("/sources").await?)?;
        let dates: Vec<_> = sources.iter().map(|source| source.last_at).collect();
        let is_applied =
            |source: &PolledSource| matches!(source.state.as_str(), "ok" | "incomplete");
        let is_refused = |source: &PolledSource| source.state == "failed" || source.state == "held";
        // One of several files of a source may be taken, and the next one be next: twice alike.
        let is_done =
            !sources.is_empty() && sources.iter().all(is_applied) && dates == previous_dates;
        if is_done || sources.iter().any(is_refused) {
            progress.clear();
            return Ok(sources.into_iter().map(SourceReport::new).collect());
        }
        let rows = sources.iter().map(|source| source.rows_so_far).sum();
        progress.set_position(usize::try_from(rows).unwrap_or(usize::MAX));
        if rows != last_change.0 || dates != previous_dates {
            last_change = (rows, Instant::now());
        }
        let is_overdue = sources.iter().any(|source| source.state == "waiting")
            && started.elapsed() > FIRST_DELIVERY_TIMEOUT;
        if is_overdue || last_change.1.elapsed() > STALL_TIMEOUT {
            let pending = sources.iter().find(|source| !is_applied(source));
            let name = pending.map_or("", |source| source.source.as_str());
            bail!("nothing comes of the source {name}");
        }
        previous_dates = dates;
        sleep(POLL_INTERVAL).await;
    }
}

impl SourceReport {
    fn new(source: PolledSource) -> Self {
        let stated_at = source
            .last
            .as_ref()
            .map(|last| last.stated_at)
            .unwrap_or_default();
        Self {
            stated_at: stated_at.into(),
            source,
        }
    }

    /// Whether it is in the book, whole.
    pub(super) fn is_applied(&self) -> bool {
        matches!(self.source.state.as_str(), "ok" | "incomplete")
    }
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PolledSource {
            source,
            kind,
            last,
            held,
            failure,
            rejected,
            ..
        } = &self.source;
        write!(f, "{source:<12} ")?;
        match (last, failure) {
            (_, Some(failure)) => {
                let (_, reason) = failure.split_once(" UTC: ").unwrap_or(("", failure));
                return write!(f, "FAILED, kind {kind}: {reason}");
            }
            (Some(last), None) => {
                let LastDelivery {
                    scope,
                    rows,
                    rejected,
                    suspicious,
                    took_ms,
                    ..
                } = last;
                let verb = if self.is_applied() { "taken" } else { "good" };
                let all = rows + rejected + suspicious;
                write!(
                    f,
                    "kind {kind}, {scope}: {all} rows, {rows} {verb}, {rejected} rejected, \
                     {suspicious} suspicious, in {:.1} s",
                    Duration::from_millis(*took_ms).as_secs_f64()
                )?;
            }
            (None, None) => write!(f, "kind {kind}: {}", self.source.state)?,
        }
        if let Some(hold_reason) = held {
            write!(
                f,
                "\n{:<12} HELD, as it would be in earnest: {hold_reason}",
                ""
            )?;
        }
        for PolledRejection {
            line,
            text,
            reason,
            kind,
        } in rejected.iter().take(MAX_ROWS_PRINTED)
        {
            write!(f, "\n{:<12} {kind}: line {line}, {reason}: {text}", "")?;
        }
        let all = last
            .as_ref()
            .map_or(0, |last| last.rejected + last.suspicious);
        let more = all.saturating_sub(MAX_ROWS_PRINTED.min(rejected.len()) as u64);
        if more > 0 {
            write!(f, "\n{:<12} and {more} more rejected or suspicious", "")?;
        }
        let last = last.iter();
        for line in last.flat_map(|last| last.notices.iter().chain(&last.absence_untold)) {
            write!(f, "\n{:<12} {line}", "")?;
        }
        Ok(())
    }
}
