use std::fmt;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::cli::operator::Operator;
use crate::cli::progress::Stage;

/// How often it is looked how far the sources are.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// How long nothing may come of a source before it is given up: longer than a handler may take
/// for its first answers, and to be asked for them once more.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long a source may be silent from the start: it is looked at four times a second.
const FIRST_PATIENCE: Duration = Duration::from_secs(20);

/// Rows shown of those somebody should look at.
const MOST_ROWS: usize = 10;

/// What the service says of a source.
#[derive(Clone, Debug, Deserialize)]
struct Shown {
    source: String,
    kind: String,
    state: String,
    #[serde(default)]
    rows_so_far: u64,
    last: Option<Last>,
    last_at: Option<DateTime<Utc>>,
    held: Option<String>,
    failure: Option<String>,
    #[serde(default)]
    rejected: Vec<Row>,
}

/// What it says of its last delivery.
#[derive(Clone, Debug, Deserialize)]
struct Last {
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
struct Row {
    line: u64,
    text: String,
    reason: String,
    kind: String,
}

/// What became of a source, for people.
pub(super) struct Report {
    /// As of when it was stated, if it was taken.
    pub(super) stated_at: crate::stock::Instant,
    shown: Shown,
}

/// Waits until every source is taken, or one is not, and tells what became of each.
///
/// `rows` is how many there will be of them, about.
pub(super) async fn reports(operator: &Operator, rows: usize) -> anyhow::Result<Vec<Report>> {
    let mut stage = Stage::begin("read", rows, "rows");
    let begun = Instant::now();
    let mut moved = (0, Instant::now());
    let mut before = Vec::new();
    loop {
        let shown: Vec<Shown> = serde_json::from_value(operator.get("/sources").await?)?;
        let dates: Vec<_> = shown.iter().map(|source| source.last_at).collect();
        let is_ok = |source: &Shown| matches!(source.state.as_str(), "ok" | "incomplete");
        let is_refused = |source: &Shown| source.state == "failed" || source.state == "held";
        // One of several files of a source may be taken, and the next one be next: twice alike.
        let is_done = !shown.is_empty() && shown.iter().all(is_ok) && dates == before;
        if is_done || shown.iter().any(is_refused) {
            stage.put_away();
            return Ok(shown.into_iter().map(Report::of).collect());
        }
        let rows = shown.iter().map(|source| source.rows_so_far).sum();
        stage.set(usize::try_from(rows).unwrap_or(usize::MAX));
        if rows != moved.0 || dates != before {
            moved = (rows, Instant::now());
        }
        let is_silent = shown.iter().any(|source| source.state == "waiting")
            && begun.elapsed() > FIRST_PATIENCE;
        if is_silent || moved.1.elapsed() > PATIENCE {
            let silent = shown.iter().find(|source| !is_ok(source));
            let name = silent.map_or("", |source| source.source.as_str());
            bail!("nothing comes of the source {name}");
        }
        before = dates;
        sleep(LOOK_EVERY).await;
    }
}

impl Report {
    fn of(shown: Shown) -> Self {
        let stated_at = shown
            .last
            .as_ref()
            .map(|last| last.stated_at)
            .unwrap_or_default();
        Self {
            stated_at: stated_at.into(),
            shown,
        }
    }

    /// Whether it is in the book, whole.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.shown.state.as_str(), "ok" | "incomplete")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown {
            source,
            kind,
            last,
            held,
            failure,
            rejected,
            ..
        } = &self.shown;
        write!(f, "{source:<12} ")?;
        match (last, failure) {
            (_, Some(failure)) => {
                let (_, reason) = failure.split_once(" UTC: ").unwrap_or(("", failure));
                return write!(f, "FAILED, kind {kind}: {reason}");
            }
            (Some(last), None) => {
                let Last {
                    scope,
                    rows,
                    rejected,
                    suspicious,
                    took_ms,
                    ..
                } = last;
                let verb = if self.is_taken() { "taken" } else { "good" };
                let all = rows + rejected + suspicious;
                write!(
                    f,
                    "kind {kind}, {scope}: {all} rows, {rows} {verb}, {rejected} rejected, \
                     {suspicious} suspicious, in {:.1} s",
                    Duration::from_millis(*took_ms).as_secs_f64()
                )?;
            }
            (None, None) => write!(f, "kind {kind}: {}", self.shown.state)?,
        }
        if let Some(doubt) = held {
            write!(f, "\n{:<12} HELD, as it would be in earnest: {doubt}", "")?;
        }
        for Row {
            line,
            text,
            reason,
            kind,
        } in rejected.iter().take(MOST_ROWS)
        {
            write!(f, "\n{:<12} {kind}: line {line}, {reason}: {text}", "")?;
        }
        let all = last
            .as_ref()
            .map_or(0, |last| last.rejected + last.suspicious);
        let more = all.saturating_sub(MOST_ROWS.min(rejected.len()) as u64);
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
