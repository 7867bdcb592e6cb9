//! Replicas: the processes that serve from the same database, and what each of them has applied.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit};
use super::{LogEnd, StoreUrl};
use crate::store::StoreError;
use crate::store::append_guard::LogPosition;
use crate::store::error::StoreInternalError;

/// Time after which a replica that does not renew its row no longer counts.
///
/// A replica may answer the Market for this time, less a margin, after it has read all changes of
/// the others. So an update waits at most this long for a replica that has crashed.
pub const REPLICA_LIFETIME: Duration = Duration::from_secs(6);

/// Part of [`REPLICA_LIFETIME`] by which a replica stops answering earlier.
///
/// Its monotonic clock may be slower than that of the database, and a standby that becomes the primary
/// server may lack the last renewals.
pub const REPLICA_MARGIN: Duration = Duration::from_secs(2);

/// Rows of the table `replica`, on a connection of their own.
#[derive(Debug)]
pub(super) struct ReplicaTable {
    connection: tokio::sync::Mutex<PostgresConnection>,
}

/// Replica as the operator sees it.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct ReplicaStatus {
    /// Name in the configuration of the replica.
    pub name: String,
    /// Release of the program; empty for one before releases were written.
    #[serde(default)]
    pub release: String,
    /// Digests of its settings, see [`SettingsDigest`](crate::store::SettingsDigest); empty for a
    /// release without them.
    #[serde(skip)]
    pub settings: String,
    /// Parts of the configuration that differ from those of the process that shows the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing_settings: Vec<String>,
    /// True if it serves: it has renewed its row within the last seconds.
    pub is_alive: bool,
    /// Seconds since it last renewed its row.
    pub seconds_since_renewal: u64,
    /// Changes of all shops that it has not applied yet.
    pub lag: i64,
}

impl ReplicaTable {
    pub(super) fn new(url: StoreUrl) -> Self {
        Self {
            connection: tokio::sync::Mutex::new(PostgresConnection::new(url)),
        }
    }

    /// Deletes the rows that ended more than a day ago.
    pub(super) async fn remove_old(&self) -> Result<(), StoreError> {
        let mut connection = self.connection.lock().await;
        let removing = async {
            let mut work = connection.begin(Purpose::Write).await?;
            query(
                "DELETE FROM stockbridge.replica \
                 WHERE until < clock_timestamp() - interval '1 day'",
            )
            .execute(work.conn())
            .await?;
            set_commit(work.conn(), "local").await?;
            work.commit().await
        };
        let outcome = with_limit(WRITE_TIMEOUT, removing).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Returns the time of the database's clock.
    pub(super) async fn time(&self) -> Result<DateTime<Utc>, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::Write).await?;
            let row = query("SELECT clock_timestamp()")
                .fetch_one(work.conn())
                .await?;
            work.roll_back().await?;
            Ok(row.try_get(0)?)
        };
        let outcome: Result<_, StoreInternalError> = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Deletes the row of a replica that no longer answers.
    pub(super) async fn remove(&self, id: &str) -> Result<(), StoreError> {
        let mut connection = self.connection.lock().await;
        let removing = async {
            let mut work = connection.begin(Purpose::Write).await?;
            query("DELETE FROM stockbridge.replica WHERE id = $1")
                .bind(id.to_owned())
                .execute(work.conn())
                .await?;
            set_commit(work.conn(), "local").await?;
            work.commit_and_notify("applied", id).await
        };
        let outcome = with_limit(WRITE_TIMEOUT, removing).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Reads how far the other replicas have applied the changes up to these ends.
    ///
    /// A row that has ended does not count, unless it ended within the last minute and this connection
    /// is younger than a permit to answer. Then the server may have been replaced by a standby that
    /// lacks the last renewal of the row. Behind a pooler the connection from it to the server counts,
    /// which a standby may have accepted before it took over.
    pub(super) async fn read_applied(
        &self,
        id: &str,
        ends: &[(i64, LogEnd)],
    ) -> Result<AppliedState, StoreError> {
        let permit = REPLICA_LIFETIME.saturating_sub(REPLICA_MARGIN).as_millis();
        let permit = i64::try_from(permit).unwrap_or(i64::MAX);
        let logs: Vec<i64> = ends.iter().map(|(log, _)| *log).collect();
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::Write).await?;
            let rows = query(
                "SELECT id, ver, chain, NULL::bigint[], NULL::bigint[] FROM stockbridge.shop \
                 WHERE id = ANY($2) UNION ALL \
                 SELECT NULL, NULL, NULL, shops, applied FROM stockbridge.replica \
                 WHERE id <> $1 AND until > clock_timestamp() - CASE WHEN \
                 (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())) > \
                 clock_timestamp() - $3 * interval '1 millisecond' \
                 THEN interval '1 minute' ELSE interval '0' END",
            )
            .bind(id.to_owned())
            .bind(&logs)
            .bind(permit)
            .fetch_all(work.conn())
            .await?;
            work.roll_back().await?;
            let mut state = AppliedState {
                have_all: true,
                log_ends: Vec::new(),
            };
            for row in rows {
                if let Some(log) = row.try_get(0)? {
                    let (ver, chain) = (row.try_get(1)?, row.try_get(2)?);
                    state.log_ends.push((log, LogEnd { ver, chain }));
                    continue;
                }
                let (shops, applied): (Vec<i64>, Vec<i64>) = (row.try_get(3)?, row.try_get(4)?);
                // A shop that is not in its configuration is not served by it.
                let has = |(log, end): &(i64, LogEnd)| {
                    let position = shops.iter().position(|known| known == log);
                    position.is_none_or(|at| applied.get(at).is_some_and(|known| *known >= end.ver))
                };
                state.have_all &= ends.iter().all(has);
            }
            Ok(state)
        };
        let outcome = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Returns all replicas of the last day.
    pub(super) async fn list(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::Write).await?;
            let ms = i64::try_from(REPLICA_LIFETIME.as_millis()).unwrap_or(i64::MAX);
            let rows = query(
                "SELECT r.name, r.until > clock_timestamp(), \
                 greatest(0, floor(extract(epoch FROM clock_timestamp() - r.until) + $1 / 1000.0))::bigint, \
                 (SELECT coalesce(sum(greatest(0, s.ver - a.ver)), 0)::bigint FROM stockbridge.shop s \
                 JOIN unnest(r.shops, r.applied) AS a(shop, ver) ON a.shop = s.id), \
                 r.release, r.settings \
                 FROM stockbridge.replica r ORDER BY r.name, r.until",
            )
            .bind(ms)
            .fetch_all(work.conn())
            .await?;
            work.roll_back().await?;
            let to_status = |row: &sqlx::postgres::PgRow| {
                Ok(ReplicaStatus {
                    name: row.try_get(0)?,
                    is_alive: row.try_get(1)?,
                    seconds_since_renewal: row.try_get::<i64, _>(2)?.unsigned_abs(),
                    lag: row.try_get(3)?,
                    release: row.try_get(4)?,
                    settings: row.try_get(5)?,
                    differing_settings: Vec::new(),
                })
            };
            rows.iter().map(to_status).collect()
        };
        let outcome: Result<_, StoreInternalError> = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    pub(super) async fn close(&self) {
        self.connection.lock().await.close().await;
    }
}

/// State of the logs and of the live replicas in the database.
#[derive(Debug)]
pub(super) struct AppliedState {
    /// True if every other replica has applied changes of these numbers.
    pub(super) have_all: bool,
    /// End of each log.
    pub(super) log_ends: Vec<(i64, LogEnd)>,
}

/// Content of the row of a replica.
#[derive(Clone, Copy)]
pub(super) struct ReplicaRecord<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) applied: &'a [LogPosition],
    /// Digests of its settings.
    pub(super) settings: &'a str,
}

/// Renews the row of a replica with what it has applied. Returns false if the row had ended or did not
/// exist.
///
/// A live row gets the settings only with `with_settings`: they are long, and seldom change.
pub(super) async fn renew(
    conn: &mut PgConnection,
    record: ReplicaRecord<'_>,
    with_settings: bool,
    is_durable: bool,
) -> Result<bool, StoreInternalError> {
    let ReplicaRecord {
        id,
        name,
        applied,
        settings,
    } = record;
    let ms = i64::try_from(REPLICA_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let (shops, vers): (Vec<i64>, Vec<i64>) = applied.iter().copied().unzip();
    let renewed = query(
        "UPDATE stockbridge.replica SET shops = $2, applied = $3, \
         until = clock_timestamp() + $4 * interval '1 millisecond', \
         settings = coalesce($5, settings) \
         WHERE id = $1 AND until > clock_timestamp()",
    )
    .bind(id.to_owned())
    .bind(&shops)
    .bind(&vers)
    .bind(ms)
    .bind(with_settings.then(|| settings.to_owned()))
    .execute(&mut *conn)
    .await?;
    let was_alive = renewed.rows_affected() == 1;
    if !was_alive {
        query(
            "INSERT INTO stockbridge.replica (id, name, shops, applied, release, settings, until) \
             VALUES ($1, $5, $2, $3, $6, $7, clock_timestamp() + $4 * interval '1 millisecond') \
             ON CONFLICT (id) DO UPDATE SET shops = $2, applied = $3, settings = $7, \
             until = clock_timestamp() + $4 * interval '1 millisecond'",
        )
        .bind(id.to_owned())
        .bind(&shops)
        .bind(&vers)
        .bind(ms)
        .bind(name.to_owned())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(settings.to_owned())
        .execute(&mut *conn)
        .await?;
    }
    // Others do not wait for a replica whose row was lost in a crash of the server. The disk of the
    // server is enough: without its standby, updates wait, but the Market must get its answers.
    let commit = if is_durable || !was_alive {
        "local"
    } else {
        "off"
    };
    set_commit(conn, commit).await?;
    Ok(was_alive)
}

/// Sets what the commit of this transaction waits for.
async fn set_commit(conn: &mut PgConnection, commit: &str) -> Result<(), StoreInternalError> {
    query("SELECT set_config('synchronous_commit', $1, true)")
        .bind(commit.to_owned())
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns the time until which a process that read all changes at `at` may answer the Market.
#[must_use]
pub fn may_answer_until(at: Instant) -> Instant {
    at + REPLICA_LIFETIME - REPLICA_MARGIN
}
