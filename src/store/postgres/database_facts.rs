//! Settings of the database server on which the safety of the stock depends, for `doctor`.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::StoreUrl;
use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit};
use super::replica_table::REPLICA_LIFETIME;
use super::schema::known_version;
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// What `doctor` must know about a database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseFacts {
    /// Version of the server.
    pub server_version: String,
    /// Setting `fsync`: `on` if the server writes before it acknowledges.
    pub fsync: String,
    /// Setting `full_page_writes`.
    pub full_page_writes: String,
    /// Setting `synchronous_commit` of the user.
    pub synchronous_commit: String,
    /// Standbys that must have a change before it is acknowledged; empty without any.
    pub synchronous_standby_names: String,
    /// Standbys that receive changes now; `None` if the user may not see it.
    pub standbys: Option<i64>,
    /// Those of them that count for [`Self::synchronous_standby_names`].
    pub synchronous_standbys: Option<i64>,
    /// Version of the tables; `None` before the first start.
    pub tables: Option<i64>,
    /// Version of the tables that this release knows.
    pub known_tables: i64,
    /// True if the user may create the tables, or they exist.
    pub may_create: bool,
    /// Leases that last: name, and the replica that has it.
    pub leases: Vec<(String, String)>,
    /// Replicas that run now.
    pub replicas: Vec<LiveReplica>,
}

/// Replica that has renewed its row within the last seconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LiveReplica {
    /// Name in the configuration of the replica.
    pub name: String,
    /// Release of the program; empty for one before releases were written.
    pub release: String,
    /// Digests of its settings; empty for a release without them.
    pub settings: String,
    /// Seconds since it last renewed its row.
    pub seconds_since_renewal: u64,
}

/// Reads the facts without a change in the database.
///
/// # Errors
/// The database cannot be used, or it is a standby.
pub async fn database_facts(url: &StoreUrl) -> Result<DatabaseFacts, StoreError> {
    let mut connection = PostgresConnection::new(url.clone());
    let outcome = with_limit(WRITE_TIMEOUT, read_facts(&mut connection)).await;
    let outcome = outcome.map_err(|error| connection.to_store_error(error));
    connection.close().await;
    outcome
}

async fn read_facts(
    connection: &mut PostgresConnection,
) -> Result<DatabaseFacts, StoreInternalError> {
    // The settings of the user, not those that the service sets in its own transactions.
    let mut work = connection.begin(Purpose::ReadAll).await?;
    let conn = work.conn();
    let row = query(
        "SELECT current_setting('server_version'), current_setting('fsync'), \
         current_setting('full_page_writes'), \
         (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), \
         current_setting('synchronous_standby_names'), \
         CASE WHEN pg_has_role(current_user, 'pg_monitor', 'USAGE') \
         THEN (SELECT count(*) FROM pg_stat_replication) END, \
         CASE WHEN pg_has_role(current_user, 'pg_monitor', 'USAGE') \
         THEN (SELECT count(*) FROM pg_stat_replication \
         WHERE sync_state IN ('sync', 'quorum')) END, \
         to_regclass('stockbridge.schema_version') IS NOT NULL, \
         has_database_privilege(current_database(), 'CREATE')",
    )
    .fetch_one(&mut *conn)
    .await?;
    let text = |row: &PgRow, index: usize| row.try_get::<String, _>(index);
    let has_tables: bool = row.try_get(7)?;
    let tables = if has_tables {
        let found = query("SELECT max(version) FROM stockbridge.schema_version")
            .fetch_one(&mut *conn)
            .await?;
        found.try_get(0)?
    } else {
        None
    };
    let may_create: bool = row.try_get(8)?;
    let leases = if has_tables {
        let rows = query(
            "SELECT name, split_part(owner, '/', 1) FROM stockbridge.lease \
             WHERE owner <> '' AND until > clock_timestamp() ORDER BY name",
        )
        .fetch_all(&mut *conn)
        .await?;
        let lease = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let leases: Result<_, StoreInternalError> = rows.iter().map(lease).collect();
        leases?
    } else {
        Vec::new()
    };
    let replicas = if has_tables {
        read_replicas(conn).await?
    } else {
        Vec::new()
    };
    let facts = DatabaseFacts {
        server_version: text(&row, 0)?,
        fsync: text(&row, 1)?,
        full_page_writes: text(&row, 2)?,
        synchronous_commit: text(&row, 3)?,
        synchronous_standby_names: text(&row, 4)?,
        standbys: row.try_get(5)?,
        synchronous_standbys: row.try_get(6)?,
        tables,
        known_tables: known_version(),
        may_create: may_create || has_tables,
        leases,
        replicas,
    };
    work.roll_back().await?;
    Ok(facts)
}

async fn read_replicas(conn: &mut PgConnection) -> Result<Vec<LiveReplica>, StoreInternalError> {
    let lifetime = i64::try_from(REPLICA_LIFETIME.as_secs()).unwrap_or(i64::MAX);
    // Earlier versions of the tables lack the columns `release` and `settings`, which are NULL then.
    let rows = query(
        "SELECT name, coalesce(to_jsonb(r) ->> 'release', ''), \
         greatest(0, floor(extract(epoch FROM clock_timestamp() - until) + $1))::bigint, \
         coalesce(to_jsonb(r) ->> 'settings', '') \
         FROM stockbridge.replica r WHERE until > clock_timestamp() ORDER BY name, until",
    )
    .bind(lifetime)
    .fetch_all(conn)
    .await?;
    let to_replica = |row: &PgRow| {
        Ok(LiveReplica {
            name: row.try_get(0)?,
            release: row.try_get(1)?,
            seconds_since_renewal: row.try_get::<i64, _>(2)?.unsigned_abs(),
            settings: row.try_get(3)?,
        })
    };
    rows.iter().map(to_replica).collect()
}
