//! Images of the files in which each shop's statements of sources are: a copy of their pages.
//!
//! The leader of a shop's sources writes the pages that a delivery has changed, in one transaction
//! that is rejected if another process has the lease by then. The next leader reads the image. The
//! content of the files is not known here.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use stock::ShopId;
use tokio::sync::MutexGuard;

use super::StoreUrl;
use super::connection::{
    PostgresConnection, PostgresWork, Purpose, WRITE_TIMEOUT, query, to_store_error, with_limit,
};
use super::lease::{Fence, check_fence};
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// Timeout of one batch of pages.
const BATCH_TIMEOUT: Duration = Duration::from_mins(1);

/// Images of all shops, on a connection of their own.
#[derive(Debug)]
pub struct StatementImages {
    url: StoreUrl,
    connection: tokio::sync::Mutex<PostgresConnection>,
    /// Numbers of the configured shops in the database.
    shops: Vec<i64>,
}

/// File of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageFile {
    /// Name in the directory of the shop.
    pub name: String,
    /// Number of its pages, which are numbered from 1.
    pub pages: u32,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Sum of the digests of its pages.
    pub digest: u64,
}

/// Image of the statements of one shop.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StatementImage {
    /// Number of writes so far.
    pub generation: i64,
    /// Its files.
    pub files: Vec<ImageFile>,
}

/// State of a shop's image, for a process that begins to lead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ImageState {
    /// The image is stored.
    Stored(StatementImage),
    /// No leader has stored an image yet.
    Missing {
        /// True if the statements by which the shop got its stock may be in the directory of a process.
        may_be_in_directory: bool,
        /// Name of a live process of an earlier release, which reads sources without a lease.
        earlier_release: Option<String>,
    },
}

/// Pages of one file.
#[derive(Clone, Debug, Default)]
pub struct PageBatch {
    /// Numbers of the pages.
    pub pages: Vec<i64>,
    /// Content of each page.
    pub bodies: Vec<Vec<u8>>,
}

/// Connection for a write, locked.
#[derive(Debug)]
pub struct ImageWriter<'a> {
    images: &'a StatementImages,
    connection: MutexGuard<'a, PostgresConnection>,
}

/// Write of an image. Nothing is stored before [`ImageWrite::finish`].
#[derive(Debug)]
pub struct ImageWrite<'a> {
    url: &'a StoreUrl,
    shop: i64,
    work: PostgresWork<'a>,
}

impl StatementImages {
    pub(super) fn new(url: StoreUrl, shops: Vec<i64>) -> Self {
        Self {
            connection: tokio::sync::Mutex::new(PostgresConnection::new(url.clone())),
            url,
            shops,
        }
    }

    /// Returns the state of a shop's image.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn state(&self, shop: ShopId) -> Result<ImageState, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::ReadAll).await?;
            let state = read_state(work.conn(), self.shops[shop.index()]).await?;
            work.roll_back().await?;
            Ok(state)
        };
        let outcome = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Returns at most `limit` pages of a file, those after page `after`, in their order.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn pages(
        &self,
        (shop, file): (ShopId, &str),
        (after, limit): (i64, i64),
    ) -> Result<PageBatch, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::ReadAll).await?;
            let rows = query(
                "SELECT page, body FROM stockbridge.statement_page \
                 WHERE shop = $1 AND name = $2 AND page > $3 ORDER BY page LIMIT $4",
            )
            .bind(self.shops[shop.index()])
            .bind(file.to_owned())
            .bind(after)
            .bind(limit)
            .fetch_all(work.conn())
            .await?;
            work.roll_back().await?;
            let mut batch = PageBatch::default();
            for row in rows {
                batch.pages.push(row.try_get(0)?);
                batch.bodies.push(row.try_get(1)?);
            }
            Ok(batch)
        };
        let outcome = with_limit(BATCH_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Deletes the image of a shop, because a process that has the whole database keeps the
    /// statements in its directory. The next replica must not go back to the image.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn delete(&self, shop: ShopId) -> Result<(), StoreError> {
        let id = self.shops[shop.index()];
        let mut connection = self.connection.lock().await;
        let deleting = async {
            let mut work = connection.begin(Purpose::Write).await?;
            for statement in [
                "DELETE FROM stockbridge.statement_file WHERE shop = $1",
                "DELETE FROM stockbridge.statement_page WHERE shop = $1",
            ] {
                query(statement).bind(id).execute(work.conn()).await?;
            }
            set_directory_statements(work.conn(), id, true).await?;
            work.commit().await
        };
        let outcome = with_limit(BATCH_TIMEOUT, deleting).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Locks the connection for a write.
    pub async fn writer(&self) -> ImageWriter<'_> {
        ImageWriter {
            images: self,
            connection: self.connection.lock().await,
        }
    }
}

impl ImageWriter<'_> {
    /// Begins to write the image of a shop.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn begin(&mut self, shop: ShopId) -> Result<ImageWrite<'_>, StoreError> {
        let (url, shop) = (&self.images.url, self.images.shops[shop.index()]);
        let work = with_limit(WRITE_TIMEOUT, self.connection.begin(Purpose::WriteAll)).await;
        let work = work.map_err(|error| to_store_error(url, error))?;
        Ok(ImageWrite { url, shop, work })
    }
}

impl ImageWrite<'_> {
    /// Writes pages of a file, in place of those before.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn put_pages(&mut self, file: &str, batch: PageBatch) -> Result<(), StoreError> {
        let writing = query(
            "INSERT INTO stockbridge.statement_page (shop, name, page, body) \
             SELECT $1, $2, new.page, new.body FROM unnest($3::bigint[], $4::bytea[]) \
             AS new(page, body) \
             ON CONFLICT (shop, name, page) DO UPDATE SET body = EXCLUDED.body",
        )
        .bind(self.shop)
        .bind(file.to_owned())
        .bind(batch.pages)
        .bind(batch.bodies)
        .execute(self.work.conn());
        let written = with_limit(BATCH_TIMEOUT, async { Ok(writing.await?) }).await;
        written
            .map(drop)
            .map_err(|error| to_store_error(self.url, error))
    }

    /// Stores what was written, unless another process has the lease of the fence. `changed` are
    /// files with changed pages, and `kept` are the names of all files; other files are deleted.
    ///
    /// # Errors
    /// `NotLeader`, or the database cannot be used. After the latter the write may be stored.
    pub async fn finish(
        self,
        fence: &Fence,
        changed: &[ImageFile],
        kept: &[String],
    ) -> Result<(), StoreError> {
        let Self {
            url,
            shop,
            mut work,
        } = self;
        let finishing = async {
            write_files(work.conn(), shop, changed, kept).await?;
            // Last, because a renewal of the lease waits for the transaction from here on.
            if check_fence(work.conn(), fence).await?.is_none() {
                work.roll_back().await?;
                return Ok(false);
            }
            work.commit().await?;
            Ok(true)
        };
        match with_limit(WRITE_TIMEOUT, finishing).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::not_leader(Some(fence))),
            Err(error) => Err(to_store_error(url, error)),
        }
    }
}

async fn write_files(
    conn: &mut PgConnection,
    shop: i64,
    changed: &[ImageFile],
    kept: &[String],
) -> Result<(), StoreInternalError> {
    for file in changed {
        query(
            "INSERT INTO stockbridge.statement_file \
             (shop, name, generation, pages, page_bytes, digest) VALUES ($1, $2, 1, $3, $4, $5) \
             ON CONFLICT (shop, name) DO UPDATE SET generation = statement_file.generation + 1, \
             pages = $3, page_bytes = $4, digest = $5",
        )
        .bind(shop)
        .bind(file.name.clone())
        .bind(i64::from(file.pages))
        .bind(i64::from(file.page_bytes))
        .bind(file.digest.cast_signed())
        .execute(&mut *conn)
        .await?;
        query("DELETE FROM stockbridge.statement_page WHERE shop = $1 AND name = $2 AND page > $3")
            .bind(shop)
            .bind(file.name.clone())
            .bind(i64::from(file.pages))
            .execute(&mut *conn)
            .await?;
    }
    query(
        "WITH gone AS (DELETE FROM stockbridge.statement_file \
         WHERE shop = $1 AND name <> ALL ($2) RETURNING name) \
         DELETE FROM stockbridge.statement_page p USING gone \
         WHERE p.shop = $1 AND p.name = gone.name",
    )
    .bind(shop)
    .bind(kept.to_vec())
    .execute(conn)
    .await?;
    Ok(())
}

/// Records whether a process may have statements of a shop in its directory only.
pub(super) async fn set_directory_statements(
    conn: &mut PgConnection,
    shop: i64,
    may_be_in_directory: bool,
) -> Result<(), StoreInternalError> {
    query("UPDATE stockbridge.shop SET directory_statements = $2 WHERE id = $1")
        .bind(shop)
        .bind(may_be_in_directory)
        .execute(conn)
        .await?;
    Ok(())
}

async fn read_state(conn: &mut PgConnection, shop: i64) -> Result<ImageState, StoreInternalError> {
    let rows = query(
        "SELECT name, generation, pages, page_bytes, digest FROM stockbridge.statement_file \
         WHERE shop = $1 ORDER BY name",
    )
    .bind(shop)
    .fetch_all(&mut *conn)
    .await?;
    let mut image = StatementImage::default();
    for row in rows {
        let number = |index: usize| {
            let number: i64 = row.try_get(index)?;
            let damaged = || StoreInternalError::Damaged("an image of statements".to_owned());
            u32::try_from(number).map_err(|_| damaged())
        };
        image.generation += row.try_get::<i64, _>(1)?;
        image.files.push(ImageFile {
            name: row.try_get(0)?,
            pages: number(2)?,
            page_bytes: number(3)?,
            digest: row.try_get::<i64, _>(4)?.cast_unsigned(),
        });
    }
    if !image.files.is_empty() {
        return Ok(ImageState::Stored(image));
    }
    let row = query(
        "SELECT (SELECT directory_statements AND ver > 0 FROM stockbridge.shop WHERE id = $1), \
         (SELECT min(name) FROM stockbridge.replica \
         WHERE release = '' AND until > clock_timestamp())",
    )
    .bind(shop)
    .fetch_one(conn)
    .await?;
    Ok(ImageState::Missing {
        may_be_in_directory: row.try_get::<Option<bool>, _>(0)?.unwrap_or(true),
        earlier_release: row.try_get(1)?,
    })
}
