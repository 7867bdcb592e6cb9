//! Queries of the events, on a connection of its own that only reads.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tokio::sync::Mutex;

use super::event_table::LAYOUT;
use super::service_event::ServiceEvent;
use crate::operator_database::open_for_reading;

/// Most events in one result.
pub const MAX_QUERIED_EVENTS: u32 = 500;

/// Selection of events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Name of a shop; `None` for all events.
    pub shop: Option<String>,
    /// Names of kinds, see [`super::EVENT_KINDS`]; empty for all kinds.
    pub kinds: Vec<String>,
    /// Only events with a smaller id: the next page.
    pub before: Option<i64>,
    /// Most events to return, at most [`MAX_QUERIED_EVENTS`].
    pub limit: u32,
}

/// Event as it was stored.
#[derive(Clone, Debug, Serialize)]
pub struct StoredEvent {
    /// Number of the event. Later events have higher ones.
    pub id: i64,
    /// Time of the event; of the latest one if several were coalesced.
    pub at: DateTime<Utc>,
    /// Time of the first of the coalesced events.
    pub first_at: DateTime<Utc>,
    /// Number of coalesced events.
    pub times: i64,
    /// Name of the shop, if the event is about one.
    pub shop: Option<String>,
    /// Source, warehouse path or other part of the shop; empty if there is none.
    pub subject: String,
    /// English sentence.
    pub text: String,
    /// Kind and values, flattened in JSON.
    #[serde(flatten)]
    pub event: ServiceEvent,
}

/// Reader of the file. Queries run one after the other, on SQLite's own thread.
#[derive(Debug)]
pub(super) struct EventReader {
    directory: Option<PathBuf>,
    // Number of files that were begun; the connection is opened again when it changes.
    generation: AtomicU64,
    connection: Mutex<Option<(u64, SqliteConnection)>>,
}

impl EventReader {
    /// Creates a reader of the file in `directory`; without one, there are no events.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            generation: AtomicU64::new(0),
            connection: Mutex::new(None),
        }
    }

    /// Makes the next query open the file again, because a new one was begun.
    pub(super) fn reopen(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) async fn query(
        &self,
        filter: &EventFilter,
    ) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let Some(directory) = &self.directory else {
            return Ok(Vec::new());
        };
        let mut slot = self.connection.lock().await;
        let generation = self.generation.load(Ordering::Relaxed);
        // Taken, so that a query that fails or is cancelled leaves no connection in its middle.
        let current = slot.take().filter(|(opened, _)| *opened == generation);
        let mut connection = match current {
            Some((_, connection)) => connection,
            None => open_for_reading(directory, LAYOUT).await?,
        };
        let rows = sqlx::query(
            "SELECT id, at, first_at, times, shop, subject, text, data FROM event \
             WHERE (?1 IS NULL OR shop = ?1) AND id < ?2 \
             AND (?3 = '[]' OR kind IN (SELECT value FROM json_each(?3))) \
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(filter.shop.as_deref())
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(serde_json::to_string(&filter.kinds).unwrap_or_default())
        .bind(filter.limit.min(MAX_QUERIED_EVENTS))
        .fetch_all(&mut connection)
        .await?;
        *slot = Some((generation, connection));
        rows.iter().map(stored_event).collect()
    }
}

fn stored_event(row: &SqliteRow) -> Result<StoredEvent, sqlx::Error> {
    let time = |column| -> Result<DateTime<Utc>, sqlx::Error> {
        let micros = row.try_get(column)?;
        Ok(DateTime::from_timestamp_micros(micros).unwrap_or_default())
    };
    let data: &str = row.try_get("data")?;
    Ok(StoredEvent {
        id: row.try_get("id")?,
        at: time("at")?,
        first_at: time("first_at")?,
        times: row.try_get("times")?,
        shop: row.try_get("shop")?,
        subject: row.try_get("subject")?,
        text: row.try_get("text")?,
        // A later release may have written other values.
        event: serde_json::from_str(data).unwrap_or(ServiceEvent::Unknown),
    })
}
