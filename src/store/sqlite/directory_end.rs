//! End of a copy of the store that is a directory.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;

use super::database_file::create_database;
use super::load::load;
use super::replay::replay;
use super::side_tables;
use super::store_connection::StoreConnection;
use super::store_header::StoreHeader;
use super::store_write::{StoreWrite, run_transaction};
use crate::store::copy::{
    CopyError, CopyMark, ShopImage, StoreImage, StoreSummary, identities, summarize,
};
use crate::store::directory::{DirectoryState, StoreDirectory, directory_state};
use crate::store::error::StoreInternalError;
use crate::store::loaded_store::DiskShop;
use crate::store::notes::{NoteRow, STORE_WIDE};
use crate::store::{RecentSend, StoreError};

/// Locked directory of a copy.
pub(in crate::store) struct DirectoryEnd {
    directory: Arc<StoreDirectory>,
    /// `None` as long as the directory has no store.
    connection: Option<StoreConnection>,
}

impl DirectoryEnd {
    /// Locks a directory, and opens its store.
    pub(in crate::store) async fn open_source(path: &Path) -> Result<Self, CopyError> {
        let missing = || CopyError::NothingToCopy(path.display().to_string());
        // Locking would create the directory.
        if directory_state(path).is_ok_and(|state| state == DirectoryState::Missing) {
            return Err(missing());
        }
        let end = Self::open_target(path).await?;
        if end.connection.is_none() {
            return Err(missing());
        }
        Ok(end)
    }

    /// Locks a directory, which is created if it is missing, and opens its store if it has one.
    pub(in crate::store) async fn open_target(path: &Path) -> Result<Self, CopyError> {
        let directory = Arc::new(StoreDirectory::acquire(path)?);
        if !directory.database().exists() && !directory.wal().exists() {
            return Ok(Self {
                directory,
                connection: None,
            });
        }
        Ok(Self::open_locked(directory).await?)
    }

    /// Locks a directory and opens its store.
    pub(in crate::store) async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_locked(Arc::new(StoreDirectory::acquire(path)?)).await
    }

    async fn open_locked(directory: Arc<StoreDirectory>) -> Result<Self, StoreError> {
        let connection = StoreConnection::open(Arc::clone(&directory)).await?;
        Ok(Self {
            directory,
            connection: Some(connection),
        })
    }

    fn connection(&mut self) -> Result<&mut StoreConnection, StoreError> {
        self.connection.as_mut().ok_or(StoreError::Closed)
    }

    pub(in crate::store) async fn read_image(&mut self) -> Result<StoreImage, StoreError> {
        let connection = self.connection()?;
        let shops = connection.shops().await?;
        let outcome = read_image(connection, shops).await;
        outcome.map_err(|error| connection.record_failure(error))
    }

    pub(in crate::store) async fn has_unfinished_copy(&mut self) -> Result<bool, StoreError> {
        if self.connection.is_none() {
            return Ok(false);
        }
        let notes = self.read_notes().await?;
        Ok(CopyMark::Unfinished.find(&notes).is_some())
    }

    pub(in crate::store) async fn write_image(
        &mut self,
        image: &StoreImage,
        mark: &str,
    ) -> Result<(), CopyError> {
        if self.connection.is_some() {
            if !self.has_unfinished_copy().await? {
                return Err(CopyError::NotEmpty {
                    place: self.directory.path().display().to_string(),
                    cure: "name another directory, or move stock.db with its -wal and -shm files \
                           away",
                });
            }
            if let Some(mut connection) = self.connection.take() {
                // Leaves no write-ahead log, which would not fit to the next file.
                connection.detach().await?;
            }
            self.directory.remove_database()?;
        }
        create_database(&self.directory, async |conn| fill(conn, image, mark).await).await?;
        let connection = StoreConnection::open(Arc::clone(&self.directory)).await?;
        self.connection = Some(connection);
        Ok(())
    }

    pub(in crate::store) async fn summarize(&mut self) -> Result<StoreSummary, StoreError> {
        let notes = self.read_notes().await?;
        let connection = self.connection()?;
        let shops = connection.shops().await?;
        let ids: Vec<i64> = shops.iter().map(|shop| shop.id).collect();
        let outcome = load(connection, &ids, &identities(&shops)).await;
        let loaded = outcome.map_err(|error| connection.record_failure(error))?;
        Ok(summarize(&loaded, &shops, notes))
    }

    pub(in crate::store) async fn put_mark(
        &mut self,
        mark: CopyMark,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let connection = self.connection()?;
        connection.ensure_ready().await?;
        let write = StoreWrite::Note {
            shop: STORE_WIDE,
            name: mark.name().to_owned(),
            text: text.map(ToOwned::to_owned),
        };
        let header = connection.header();
        connection.commit(vec![write], header).await
    }

    pub(in crate::store) async fn close(mut self) {
        if let Some(mut connection) = self.connection.take() {
            // Everything is on disk already, perhaps still in the write-ahead log.
            let _written_back = connection.close().await;
        }
        self.directory.unlock();
    }

    async fn read_notes(&mut self) -> Result<Vec<NoteRow>, StoreError> {
        let connection = self.connection()?;
        let outcome = match connection.conn() {
            Ok(conn) => side_tables::read_notes(conn).await,
            Err(error) => Err(error),
        };
        outcome.map_err(|error| connection.record_failure(error))
    }
}

async fn read_image(
    connection: &mut StoreConnection,
    shops: Vec<DiskShop>,
) -> Result<StoreImage, StoreInternalError> {
    let header = connection.header();
    let conn = connection.conn()?;
    let mut images = Vec::new();
    for DiskShop { id, name, target } in shops {
        images.push(ShopImage {
            source_id: id,
            name,
            target,
            records: Vec::new(),
            sends: side_tables::read_sends(conn, id).await?,
        });
    }
    let notes = side_tables::read_notes(conn).await?;
    replay(conn, header, |id, reader| {
        if let Some(image) = images.iter_mut().find(|image| image.source_id == id) {
            image.records.push(reader.to_packed());
        }
        Ok(())
    })
    .await?;
    Ok(StoreImage::new(images, notes))
}

/// Writes an image into a new database, as its first snapshot.
async fn fill(
    conn: &mut SqliteConnection,
    image: &StoreImage,
    mark: &str,
) -> Result<(), StoreInternalError> {
    let mut header = StoreHeader {
        generation: 1,
        ..StoreHeader::default()
    };
    for (id, shop) in (1..).zip(&image.shops) {
        header.shops = id;
        let (name, target) = (shop.name.clone(), shop.target.clone());
        let mut writes = vec![StoreWrite::Shop(DiskShop { id, name, target })];
        for packed in &shop.records {
            writes.push(StoreWrite::Chunk {
                generation: header.generation,
                chunk: header.chunks,
                shop: id,
                packed: packed.clone(),
            });
            header.chunks += 1;
            header.rows += packed.rows;
        }
        run_transaction(conn, writes, header).await?;
        for RecentSend { at, skus } in &shop.sends {
            let send = RecentSend {
                at: *at,
                skus: *skus,
            };
            side_tables::insert_send(conn, id, send).await?;
        }
    }
    for NoteRow { shop, name, text } in &image.notes {
        side_tables::write_note(conn, *shop, name, Some(text)).await?;
    }
    side_tables::write_note(conn, STORE_WIDE, CopyMark::Unfinished.name(), Some(mark)).await?;
    run_transaction(conn, Vec::new(), header).await
}
