//! Table of the events: batches of events in, at most [`MAX_EVENTS`] rows on disk.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteConnection;

use super::coalescing::{coalesce, course};
use super::service_event::{PreviousRun, ServiceEvent};
use super::{MAX_EVENTS, QueuedEvent};
use crate::operator_database::DatabaseLayout;

/// File of the events.
pub(super) const LAYOUT: DatabaseLayout = DatabaseLayout {
    file_name: "events.db",
    schema: "CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, \
             first_at INTEGER NOT NULL, times INTEGER NOT NULL, kind TEXT NOT NULL, shop TEXT, \
             subject TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL) STRICT;\n\
             CREATE TABLE run (id INTEGER PRIMARY KEY CHECK (id = 1), \
             is_running INTEGER NOT NULL) STRICT;\n",
};

/// Largest number of courses that are remembered for coalescing.
const MAX_COURSES: usize = 10_000;

/// Shop, subject and name of a course of events.
type CourseKey = (Option<String>, String, &'static str);

/// Last event of a course.
#[derive(Debug)]
struct LastOfCourse {
    id: i64,
    first_at: DateTime<Utc>,
    times: u64,
    event: ServiceEvent,
}

/// Writer of the table, with what it must know about the rows.
#[derive(Debug)]
pub(super) struct EventTable {
    connection: SqliteConnection,
    last_id: i64,
    rows: u64,
    // Courses since the start of the process. A start ends all courses of the previous run.
    courses: HashMap<CourseKey, LastOfCourse>,
}

impl EventTable {
    /// Reads what is known about the rows.
    pub(super) async fn new(mut connection: SqliteConnection) -> Result<Self, sqlx::Error> {
        let (last_id, rows): (i64, i64) =
            sqlx::query_as("SELECT coalesce(max(id), 0), count(*) FROM event")
                .fetch_one(&mut connection)
                .await?;
        Ok(Self {
            connection,
            last_id,
            rows: u64::try_from(rows).unwrap_or_default(),
            courses: HashMap::new(),
        })
    }

    /// Returns the id of the latest event; 0 without events.
    pub(super) fn last_id(&self) -> i64 {
        self.last_id
    }

    /// Continues with ids after `id`, so that a new file repeats none of this process.
    pub(super) fn continue_after(&mut self, id: i64) {
        self.last_id = self.last_id.max(id);
    }

    /// Marks that the service runs. Returns the end of the previous run.
    pub(super) async fn begin_run(&mut self) -> Result<PreviousRun, sqlx::Error> {
        let was_running: Option<bool> = sqlx::query_scalar("SELECT is_running FROM run")
            .fetch_optional(&mut self.connection)
            .await?;
        self.mark_running(true).await?;
        Ok(match was_running {
            None => PreviousRun::None,
            Some(false) => PreviousRun::Stopped,
            Some(true) => PreviousRun::Crashed,
        })
    }

    /// Marks if the service runs.
    pub(super) async fn mark_running(&mut self, is_running: bool) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR REPLACE INTO run VALUES (1, ?1)")
            .bind(is_running)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Writes events in one transaction, all or none, and deletes the oldest rows above the limit.
    pub(super) async fn write(&mut self, events: &[QueuedEvent]) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut self.connection)
            .await?;
        let written = self.write_rows(events).await;
        let outcome = match written {
            Ok(rows) => {
                let committed = sqlx::raw_sql("COMMIT").execute(&mut self.connection).await;
                committed.map(|_| self.rows = rows)
            }
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            // The remembered rows may not exist. If the rollback fails too, the next transaction
            // does, and the caller opens the file again.
            self.courses.clear();
            let _rolled_back = sqlx::raw_sql("ROLLBACK")
                .execute(&mut self.connection)
                .await;
        }
        outcome
    }

    async fn write_rows(&mut self, events: &[QueuedEvent]) -> Result<u64, sqlx::Error> {
        let mut rows = self.rows;
        for event in events {
            rows += 1;
            if self.write_row(event).await? {
                rows -= 1;
            }
        }
        if rows > MAX_EVENTS {
            sqlx::query(
                "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT ?1)",
            )
            .bind(i64::try_from(rows - MAX_EVENTS).unwrap_or_default())
            .execute(&mut self.connection)
            .await?;
        }
        Ok(rows.min(MAX_EVENTS))
    }

    /// Writes one event. Returns true if it took the place of an earlier one.
    async fn write_row(&mut self, queued: &QueuedEvent) -> Result<bool, sqlx::Error> {
        let QueuedEvent {
            at,
            shop,
            subject,
            event,
        } = queued;
        let key = course(event).map(|course| (shop.clone(), subject.clone(), course));
        let last = key.as_ref().and_then(|key| self.courses.get(key));
        let coalesced = last.and_then(|last| {
            let event = coalesce(&last.event, event, *at - last.first_at)?;
            Some((last.id, last.first_at, last.times + 1, event))
        });
        // A course is remembered since the start of the process, so its row may have been deleted.
        let mut is_replacement = false;
        if let Some((id, ..)) = coalesced {
            let deleted = sqlx::query("DELETE FROM event WHERE id = ?1")
                .bind(id)
                .execute(&mut self.connection)
                .await?;
            is_replacement = deleted.rows_affected() > 0;
        }
        let (first_at, times, event) = match coalesced {
            Some((_, first_at, times, event)) => (first_at, times, event),
            None => (*at, 1, event.clone()),
        };
        self.last_id += 1;
        sqlx::query("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")
            .bind(self.last_id)
            .bind(at.timestamp_micros())
            .bind(first_at.timestamp_micros())
            .bind(i64::try_from(times).unwrap_or(i64::MAX))
            .bind(event.kind())
            .bind(shop.as_deref())
            .bind(subject)
            .bind(super::cut(&event.to_string()))
            .bind(serde_json::to_string(&event).unwrap_or_default())
            .execute(&mut self.connection)
            .await?;
        if let Some(key) = key {
            if self.courses.len() >= MAX_COURSES {
                self.courses.clear();
            }
            let last = LastOfCourse {
                id: self.last_id,
                first_at,
                times,
                event,
            };
            self.courses.insert(key, last);
        }
        Ok(is_replacement)
    }

    /// Closes the file, which writes its log back.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        sqlx::Connection::close(self.connection).await
    }

    #[cfg(test)]
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}
