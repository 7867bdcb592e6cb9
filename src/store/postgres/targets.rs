//! Targets of the shops: every process that uses the database must have the same ones.
//!
//! A changed target voids what was acknowledged for the old one, and a process that still has the old
//! one can send nothing. So a start records a changed target only while no other process is live.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::connection::{Purpose, WRITE_TIMEOUT, query, with_limit};
use super::{PostgresState, PostgresStore, ShopLog, WHOLE_DATABASE};
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// Shop that has another target in the database than in this process.
#[derive(Debug)]
pub(super) struct TargetConflict {
    pub(super) shop: String,
    /// Target in the database.
    pub(super) recorded: String,
    /// Target in the configuration of this process.
    pub(super) configured: String,
}

impl From<TargetConflict> for StoreError {
    fn from(conflict: TargetConflict) -> Self {
        Self::OtherTarget {
            shop: conflict.shop,
            recorded: conflict.recorded,
            configured: conflict.configured,
        }
    }
}

impl PostgresStore {
    /// Refuses the database if another process has recorded another target meanwhile.
    ///
    /// A process that has its lease calls this after its start. One that records another target looks
    /// for live processes under a lock for which this waits, so at least one of both is refused.
    pub(in crate::store) async fn check_targets(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        let PostgresState {
            connection, logs, ..
        } = &mut *state;
        let ids: Vec<i64> = logs.iter().map(|log| log.id).collect();
        let reading = async {
            let mut work = connection.begin(Purpose::Write).await?;
            query("LOCK TABLE stockbridge.shop IN ROW SHARE MODE")
                .execute(work.conn())
                .await?;
            let conflict = find_other_target(work.conn(), logs, &ids).await?;
            work.roll_back().await?;
            Ok(conflict)
        };
        let outcome = with_limit(WRITE_TIMEOUT, reading).await;
        let conflict = outcome.map_err(|error| state.connection.to_store_error(error))?;
        conflict.map_or(Ok(()), |conflict| Err(conflict.into()))
    }
}

/// Finds a shop that has another target in the database than in this process.
pub(super) async fn find_other_target(
    conn: &mut PgConnection,
    logs: &[ShopLog],
    ids: &[i64],
) -> Result<Option<TargetConflict>, StoreInternalError> {
    if ids.is_empty() {
        return Ok(None);
    }
    let rows = query("SELECT id, target FROM stockbridge.shop WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(conn)
        .await?;
    for row in rows {
        let (id, target): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let log = logs.iter().find(|log| log.id == id);
        if let Some(log) = log.filter(|log| log.target != target) {
            return Ok(Some(TargetConflict {
                shop: log.name.clone(),
                recorded: target,
                configured: log.target.clone(),
            }));
        }
    }
    Ok(None)
}

/// Returns the names of the processes that use the database, in their order.
///
/// A process has its lease from its start, and its row as a replica while it serves. Both last for some
/// seconds after a crash.
pub(super) async fn live_processes(
    conn: &mut PgConnection,
) -> Result<Vec<String>, StoreInternalError> {
    let rows = query(
        "SELECT name FROM stockbridge.replica WHERE until > clock_timestamp() UNION \
         SELECT split_part(owner, '/', 1) FROM stockbridge.lease \
         WHERE (name = $1 OR name LIKE 'replica %') AND owner <> '' AND until > clock_timestamp() \
         ORDER BY 1",
    )
    .bind(WHOLE_DATABASE)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
