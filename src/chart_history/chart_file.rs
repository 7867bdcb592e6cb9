//! File of the chart history: read at the start, and updated with the slots that have changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::time::Instant;
use tracing::warn;

use super::sample_ring::PeriodSample;
use super::series::ChartSample;
use super::{ChartHistory, Resolution, Rings};
use crate::operator_database::{DatabaseError, DatabaseLayout, open_database};

/// Tables of the file. A slot of a ring has one row, so the number of rows is limited.
const LAYOUT: DatabaseLayout = DatabaseLayout {
    file_name: "charts.db",
    schema: "CREATE TABLE sample (shop TEXT NOT NULL, seconds INTEGER NOT NULL, \
             slot INTEGER NOT NULL, period INTEGER NOT NULL, minutes INTEGER NOT NULL, \
             data BLOB NOT NULL, PRIMARY KEY (shop, seconds, slot)) STRICT, WITHOUT ROWID;\n",
};

/// Shortest time between two attempts to open a file that cannot be used.
const REOPEN_INTERVAL: Duration = Duration::from_secs(30);

/// File of a [`ChartHistory`].
#[derive(Debug)]
pub struct ChartFile {
    directory: PathBuf,
    connection: Option<SqliteConnection>,
    // Time of the last failure, until the history is saved again.
    failed_at: Option<Instant>,
    damage: Option<String>,
}

impl ChartFile {
    /// Opens the file and reads it into the history.
    pub(super) async fn open(directory: &Path, history: &ChartHistory) -> Self {
        let mut file = Self {
            directory: directory.to_owned(),
            connection: None,
            failed_at: None,
            damage: None,
        };
        if let Err(error) = file.load(history).await {
            file.on_failure(&error);
        }
        file
    }

    /// Takes the damage for which a file was renamed since the last call, with the file's name.
    pub fn take_damage(&mut self) -> Option<(&'static str, String)> {
        Some((LAYOUT.file_name, self.damage.take()?))
    }

    /// Saves the slots that have changed, in one transaction. What cannot be saved is saved later.
    pub async fn save(&mut self, history: &ChartHistory) {
        let is_waiting = self
            .failed_at
            .is_some_and(|at| at.elapsed() < REOPEN_INTERVAL);
        if self.connection.is_none() && is_waiting {
            return;
        }
        match self.try_save(history).await {
            Ok(()) => self.failed_at = None,
            Err(error) => self.on_failure(&error),
        }
    }

    /// Closes the file, which writes its log back.
    pub async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = sqlx::Connection::close(connection).await
        {
            warn!(error = %error, "failed to close the history for the charts: {error}");
        }
    }

    async fn load(&mut self, history: &ChartHistory) -> Result<(), DatabaseError> {
        let mut connection = self.open_connection().await?;
        delete_removed_shops(&mut connection, history).await?;
        let rows: Vec<(String, i64, i64, i64, Vec<u8>)> =
            sqlx::query_as("SELECT shop, seconds, period, minutes, data FROM sample")
                .fetch_all(&mut connection)
                .await?;
        let now = history.0.clock.now();
        let mut rings = history.0.rings.lock();
        for (shop, seconds, period, minutes, data) in rows {
            let mut names = history.0.names.iter();
            let mut resolutions = Resolution::ALL.into_iter();
            let (Some(shop), Some(resolution)) = (
                names.position(|name| *name == shop),
                resolutions.find(|it| it.seconds() == seconds),
            ) else {
                continue;
            };
            let current = resolution.period_of(now);
            // A clock that ran ahead has left samples of the future.
            if period > current {
                continue;
            }
            if resolution == Resolution::Minute && period == current {
                rings.last_minute = Some(current);
            }
            rings.shops[shop].ring_mut(resolution).put(PeriodSample {
                period,
                minutes: u8::try_from(minutes).unwrap_or(u8::MAX),
                sample: ChartSample::from_bytes(&data),
            });
        }
        drop(rings);
        self.connection = Some(connection);
        Ok(())
    }

    async fn open_connection(&mut self) -> Result<SqliteConnection, DatabaseError> {
        let opened = open_database(&self.directory, LAYOUT).await?;
        if let Some(damage) = opened.replaced_because {
            self.damage = Some(damage);
        }
        Ok(opened.connection)
    }

    async fn try_save(&mut self, history: &ChartHistory) -> Result<(), DatabaseError> {
        if self.connection.is_none() {
            self.connection = Some(self.open_connection().await?);
            // It may be a new file.
            history.mark_all_unsaved();
        }
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let rows = history.unsaved_rows();
        if rows.is_empty() {
            return Ok(());
        }
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut *connection)
            .await?;
        for row in &rows {
            sqlx::query("INSERT OR REPLACE INTO sample VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .bind(&history.0.names[row.shop])
                .bind(row.resolution.seconds())
                .bind(i64::try_from(row.slot).unwrap_or_default())
                .bind(row.content.period)
                .bind(row.content.minutes)
                .bind(row.content.sample.to_bytes())
                .execute(&mut *connection)
                .await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        history.mark_saved(&rows);
        Ok(())
    }

    /// Logs a failure, once until the history is saved again, and closes the file. A transaction
    /// that was begun is rolled back with it.
    fn on_failure(&mut self, error: &DatabaseError) {
        self.connection = None;
        if self.failed_at.replace(Instant::now()).is_none() {
            warn!(
                error = %error,
                "failed to save the history for the charts, it is kept in memory until the file \
                 can be written: {error}"
            );
        }
    }

    #[cfg(test)]
    pub(super) fn connection(&mut self) -> Option<&mut SqliteConnection> {
        self.connection.as_mut()
    }
}

/// Deletes the rows of shops that are not configured any more, once they are too old for a chart.
async fn delete_removed_shops(
    connection: &mut SqliteConnection,
    history: &ChartHistory,
) -> Result<(), sqlx::Error> {
    let kept = Resolution::Hour.seconds() * i64::try_from(Resolution::Hour.periods()).unwrap_or(0);
    sqlx::query(
        "DELETE FROM sample WHERE shop NOT IN (SELECT value FROM json_each(?1)) \
         AND period * seconds < ?2",
    )
    .bind(serde_json::to_string(&history.0.names).unwrap_or_default())
    .bind(history.0.clock.now().timestamp() - kept)
    .execute(connection)
    .await
    .map(drop)
}

/// Slot to save, as it was when it was read from the ring.
#[derive(Debug)]
struct UnsavedRow {
    shop: usize,
    resolution: Resolution,
    slot: usize,
    content: PeriodSample,
}

impl ChartHistory {
    fn unsaved_rows(&self) -> Vec<UnsavedRow> {
        let rings = self.0.rings.lock();
        let unsaved = rings.unsaved.iter();
        unsaved
            .filter_map(|(shop, resolution, slot)| {
                let ring = rings.shops.get(*shop)?.ring(*resolution);
                Some(UnsavedRow {
                    shop: *shop,
                    resolution: *resolution,
                    slot: *slot,
                    content: *ring.at_slot(*slot)?,
                })
            })
            .collect()
    }

    /// Marks rows as saved, unless they have changed meanwhile.
    fn mark_saved(&self, rows: &[UnsavedRow]) {
        let mut rings = self.0.rings.lock();
        for row in rows {
            let ring = rings.shops[row.shop].ring(row.resolution);
            if ring.at_slot(row.slot) == Some(&row.content) {
                rings.unsaved.remove(&(row.shop, row.resolution, row.slot));
            }
        }
    }

    fn mark_all_unsaved(&self) {
        let mut rings = self.0.rings.lock();
        let Rings { shops, unsaved, .. } = &mut *rings;
        for (shop, shop_rings) in shops.iter().enumerate() {
            for resolution in Resolution::ALL {
                let ring = shop_rings.ring(resolution);
                let slots = (0..ring.capacity()).filter(|slot| ring.at_slot(*slot).is_some());
                unsaved.extend(slots.map(|slot| (shop, resolution, slot)));
            }
        }
    }
}
