//! End of a copy of the store that is a database.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::time::sleep;

use super::compact::insert_snapshot;
use super::connection::{
    BULK_TIMEOUT, PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit,
};
use super::lease::{Fence, LeaseOutcome, LeaseTable, check_fence};
use super::load::{check_end, load, prepare_tables};
use super::read_log::{read_changes, read_snapshot, visit_changes};
use super::shop_log::{LogEnd, LogRow, SnapshotHead};
use super::{StoreUrl, WHOLE_DATABASE, side_tables};
use crate::store::StoreError;
use crate::store::copy::{
    CopyError, CopyMark, ShopImage, StoreImage, StoreSummary, identities, summarize,
};
use crate::store::error::StoreInternalError;
use crate::store::loaded_store::DiskShop;
use crate::store::notes::STORE_WIDE;
use crate::store::record::PackedRecord;

/// Time after which a service may use the database if the copy has crashed.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Time between two renewals of the lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(3);

/// Database of a copy.
pub(in crate::store) struct DatabaseEnd {
    url: StoreUrl,
    connection: PostgresConnection,
    /// Lease on the whole database.
    fence: Option<Fence>,
}

/// Lease on a whole database during a copy.
pub(in crate::store) struct DatabaseLease {
    url: StoreUrl,
    fence: Fence,
}

/// Outcome of writing a copy.
enum WriteOutcome {
    Written,
    NotEmpty,
    LeaseLost,
}

impl DatabaseEnd {
    /// Takes the lease on a database that has the tables.
    pub(in crate::store) async fn open_source(url: &StoreUrl) -> Result<Self, CopyError> {
        let mut end = Self::open_without_lease(url);
        let reading = has_tables(&mut end.connection);
        let has_tables = with_limit(WRITE_TIMEOUT, reading).await;
        if !has_tables.map_err(|error| end.connection.to_store_error(error))? {
            return Err(CopyError::NothingToCopy(url.to_string()));
        }
        end.take_lease().await
    }

    /// Creates the tables if they are missing, and takes the lease on the database.
    pub(in crate::store) async fn open_target(url: &StoreUrl) -> Result<Self, CopyError> {
        Self::open_without_lease(url).take_lease().await
    }

    pub(in crate::store) fn open_without_lease(url: &StoreUrl) -> Self {
        Self {
            url: url.clone(),
            connection: PostgresConnection::new(url.clone()),
            fence: None,
        }
    }

    /// Takes the lease that every process looks at before it uses the database.
    async fn take_lease(mut self) -> Result<Self, CopyError> {
        prepare_tables(&mut self.connection, &self.url).await?;
        let table = LeaseTable::new(self.url.clone());
        let owner = format!("store copy/{:08x}", rand::random::<u32>());
        let in_use = |owner: String| CopyError::InUse {
            place: self.url.to_string(),
            owner,
        };
        let acquiring = table.acquire(WHOLE_DATABASE, &owner, LEASE_DURATION);
        let lease = match acquiring.await? {
            LeaseOutcome::Held(lease) => lease,
            LeaseOutcome::Taken { owner, .. } => return Err(in_use(owner)),
        };
        let fence = Fence {
            lease: WHOLE_DATABASE.to_owned(),
            owner,
            epoch: lease.epoch,
        };
        // After the own lease was written, so that of two processes at least one sees the other.
        // Those for sending too: a killed process may still have a request on its way.
        let holders = table.holders("%").await?;
        if let Some(other) = holders.into_iter().find(|holder| *holder != fence.owner) {
            table.release(WHOLE_DATABASE, &fence.owner).await?;
            return Err(in_use(other));
        }
        self.fence = Some(fence);
        Ok(self)
    }

    pub(in crate::store) fn lease(&self) -> Option<DatabaseLease> {
        let fence = self.fence.clone();
        fence.map(|fence| DatabaseLease {
            url: self.url.clone(),
            fence,
        })
    }

    pub(in crate::store) async fn read_image(&mut self) -> Result<StoreImage, StoreError> {
        let reading = read_image(&mut self.connection);
        let outcome = with_limit(BULK_TIMEOUT, reading).await;
        outcome.map_err(|error| self.connection.to_store_error(error))
    }

    pub(in crate::store) async fn has_unfinished_copy(&mut self) -> Result<bool, StoreError> {
        let reading = async {
            let mut work = self.connection.begin(Purpose::Write).await?;
            let notes = side_tables::read_notes(work.conn()).await?;
            work.roll_back().await?;
            Ok(CopyMark::Unfinished.find(&notes).is_some())
        };
        let outcome = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| self.connection.to_store_error(error))
    }

    pub(in crate::store) async fn write_image(
        &mut self,
        image: &StoreImage,
        mark: &str,
    ) -> Result<(), CopyError> {
        let writing = write_image(&mut self.connection, self.fence.as_ref(), image, mark);
        let outcome = with_limit(BULK_TIMEOUT, writing).await;
        let outcome = outcome.map_err(|error| self.connection.to_store_error(error))?;
        match outcome {
            WriteOutcome::Written => Ok(()),
            WriteOutcome::NotEmpty => Err(CopyError::NotEmpty {
                place: self.url.to_string(),
                cure: "name another database, or drop its schema stockbridge if its stock is not \
                       needed",
            }),
            WriteOutcome::LeaseLost => Err(CopyError::LeaseLost(self.url.to_string())),
        }
    }

    pub(in crate::store) async fn summarize(&mut self) -> Result<StoreSummary, StoreError> {
        let outcome = with_limit(BULK_TIMEOUT, read_summary(&mut self.connection)).await;
        outcome.map_err(|error| self.connection.to_store_error(error))
    }

    pub(in crate::store) async fn put_mark(
        &mut self,
        mark: CopyMark,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let fence = self.fence.as_ref();
        let writing = async {
            let mut work = self.connection.begin(Purpose::Write).await?;
            if let Some(fence) = fence
                && check_fence(work.conn(), fence).await?.is_none()
            {
                work.roll_back().await?;
                return Ok(false);
            }
            side_tables::write_note(work.conn(), STORE_WIDE, mark.name(), text).await?;
            work.commit().await?;
            Ok(true)
        };
        let outcome = with_limit(WRITE_TIMEOUT, writing).await;
        match outcome.map_err(|error| self.connection.to_store_error(error))? {
            true => Ok(()),
            false => Err(StoreError::not_leader(self.fence.as_ref())),
        }
    }

    pub(in crate::store) async fn close(mut self) {
        if let Some(fence) = &self.fence {
            let table = LeaseTable::new(self.url.clone());
            // Otherwise it ends by itself.
            let _released = table.release(WHOLE_DATABASE, &fence.owner).await;
        }
        self.connection.close().await;
    }
}

impl DatabaseLease {
    /// Renews the lease, and returns the name of the database only if the lease is lost.
    pub(in crate::store) async fn keep(self) -> String {
        let table = LeaseTable::new(self.url.clone());
        loop {
            sleep(RENEW_INTERVAL).await;
            let Fence {
                lease,
                owner,
                epoch,
            } = &self.fence;
            match table.acquire(lease, owner, LEASE_DURATION).await {
                Ok(LeaseOutcome::Held(lease)) if lease.epoch == *epoch => {}
                Ok(_) => return self.url.to_string(),
                // No other process can take it either while the database cannot be used.
                Err(_) => {}
            }
        }
    }
}

async fn has_tables(connection: &mut PostgresConnection) -> Result<bool, StoreInternalError> {
    let mut work = connection.begin(Purpose::Write).await?;
    let row = query("SELECT to_regclass('stockbridge.shop') IS NOT NULL")
        .fetch_one(work.conn())
        .await?;
    work.roll_back().await?;
    Ok(row.try_get(0)?)
}

async fn read_image(connection: &mut PostgresConnection) -> Result<StoreImage, StoreInternalError> {
    let mut work = connection.begin(Purpose::ReadAll).await?;
    let conn = work.conn();
    let mut images = Vec::new();
    for row in LogRow::read_all(conn).await? {
        let mut records = Vec::new();
        read_snapshot(conn, &row, |reader| {
            records.push(reader.to_packed());
            Ok(())
        })
        .await?;
        let (id, from) = (row.shop.id, row.snapshot.upto);
        let changes = read_changes(conn, id, from.ver, row.end.ver).await?;
        let (end, _) = visit_changes((id, &row.shop.name), from, &changes, |reader| {
            records.push(reader.to_packed());
            Ok(())
        })?;
        check_end(&row, end)?;
        images.push(ShopImage {
            source_id: id,
            sends: side_tables::read_sends(conn, id).await?,
            name: row.shop.name,
            target: row.shop.target,
            records,
        });
    }
    let notes = side_tables::read_notes(conn).await?;
    work.roll_back().await?;
    Ok(StoreImage::new(images, notes))
}

async fn write_image(
    connection: &mut PostgresConnection,
    fence: Option<&Fence>,
    image: &StoreImage,
    mark: &str,
) -> Result<WriteOutcome, StoreInternalError> {
    let mut work = connection.begin(Purpose::WriteAll).await?;
    let conn = work.conn();
    if let Some(fence) = fence
        && check_fence(conn, fence).await?.is_none()
    {
        work.roll_back().await?;
        return Ok(WriteOutcome::LeaseLost);
    }
    // A service that starts meanwhile waits before it registers its shops.
    query("LOCK TABLE stockbridge.shop IN EXCLUSIVE MODE")
        .execute(&mut *conn)
        .await?;
    if !make_empty(conn).await? {
        work.roll_back().await?;
        return Ok(WriteOutcome::NotEmpty);
    }
    for (id, shop) in (1..).zip(&image.shops) {
        let ShopImage {
            name,
            target,
            records,
            sends,
            ..
        } = shop;
        let mut row = LogRow::new(DiskShop {
            id,
            name: name.clone(),
            target: target.clone(),
        });
        // As after a log of these records. A position without a history would be that of an empty shop.
        let end_of = |end: LogEnd, packed: &PackedRecord| end.after_body(&packed.body);
        row.end = records.iter().fold(LogEnd::default(), end_of);
        row.snapshot = SnapshotHead {
            generation: 1,
            chunks: i64::try_from(records.len()).unwrap_or(i64::MAX),
            rows: records.iter().map(|packed| packed.rows).sum(),
            upto: row.end,
        };
        insert_snapshot(conn, (id, row.snapshot.generation), records.clone()).await?;
        row.write(conn).await?;
        for send in sends {
            side_tables::insert_send(conn, id, *send).await?;
        }
    }
    for note in &image.notes {
        side_tables::write_note(conn, note.shop, &note.name, Some(&note.text)).await?;
    }
    side_tables::write_note(conn, STORE_WIDE, CopyMark::Unfinished.name(), Some(mark)).await?;
    work.commit().await?;
    Ok(WriteOutcome::Written)
}

/// Deletes an unfinished copy. Returns false if the tables have anything else.
async fn make_empty(conn: &mut PgConnection) -> Result<bool, StoreInternalError> {
    // An image of statements would belong to a shop of the same number.
    const TABLES: [&str; 7] = [
        "shop",
        "change",
        "snapshot",
        "spent",
        "note",
        "statement_file",
        "statement_page",
    ];
    let notes = side_tables::read_notes(conn).await?;
    let is_unfinished = CopyMark::Unfinished.find(&notes).is_some();
    for table in TABLES {
        if is_unfinished {
            let delete = format!("DELETE FROM stockbridge.{table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(delete))
                .execute(&mut *conn)
                .await?;
            continue;
        }
        let exists = format!("SELECT EXISTS (SELECT 1 FROM stockbridge.{table})");
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(exists))
            .fetch_one(&mut *conn)
            .await?;
        if row.try_get(0)? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn read_summary(
    connection: &mut PostgresConnection,
) -> Result<StoreSummary, StoreInternalError> {
    let (notes, shops) = {
        let mut work = connection.begin(Purpose::ReadAll).await?;
        let notes = side_tables::read_notes(work.conn()).await?;
        let rows = LogRow::read_all(work.conn()).await?;
        work.roll_back().await?;
        let shops: Vec<DiskShop> = rows.into_iter().map(|row| row.shop).collect();
        (notes, shops)
    };
    let (loaded, _, _) = load(connection, &identities(&shops)).await?;
    Ok(summarize(&loaded, &shops, notes))
}
