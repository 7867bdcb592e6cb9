//! Start of the store: registration of the configured shops, and loading of their state.

use super::replay::{replay, snapshot_row_counts};
use super::side_tables;
use super::store_connection::StoreConnection;
use super::store_write::StoreWrite;
use crate::store::error::StoreInternalError;
use crate::store::loaded_store::{DiskShop, LoadedStore, ShopTable, shop_of_disk_id};
use crate::store::record::RecordPacker;
use crate::store::{Notes, ShopIdentity, StoreError};

/// Assigns numbers to new shops and records changed targets, in one transaction.
pub(super) async fn register_shops(
    connection: &mut StoreConnection,
    known: Vec<DiskShop>,
    shops: &[ShopIdentity],
) -> Result<ShopTable, StoreError> {
    let mut header = connection.header();
    let mut writes = Vec::new();
    let mut configured = Vec::new();
    for ShopIdentity { name, target, .. } in shops {
        let found = known.iter().find(|shop| shop.name == *name);
        let id = found.map_or(header.shops + 1, |shop| shop.id);
        configured.push(id);
        if found.is_some_and(|shop| shop.target == *target) {
            continue;
        }
        writes.push(StoreWrite::Shop(DiskShop {
            id,
            name: name.clone(),
            target: target.clone(),
        }));
        if found.is_some() {
            header.last_seq += 1;
            let packed = RecordPacker::target_changed();
            writes.push(StoreWrite::Change {
                seq: header.last_seq,
                shop: id,
                packed,
            });
        } else {
            header.shops = id;
        }
    }
    if !writes.is_empty() {
        connection.ensure_ready().await?;
        connection.commit(writes, header).await?;
    }
    let absent = known
        .into_iter()
        .filter(|shop| !configured.contains(&shop.id))
        .collect();
    Ok(ShopTable { configured, absent })
}

/// Reads the state of the configured shops from the database.
pub(super) async fn load(
    connection: &mut StoreConnection,
    configured: &[i64],
    shops: &[ShopIdentity],
) -> Result<LoadedStore, StoreInternalError> {
    let header = connection.header();
    let conn = connection.conn()?;
    let sizes = snapshot_row_counts(conn, header).await?;
    let with_size = |id: &i64| {
        let size = sizes.iter().find(|(shop, _)| shop == id);
        (*id, size.map_or(0, |(_, rows)| *rows))
    };
    let with_sizes: Vec<_> = configured.iter().map(with_size).collect();
    let owner = |id| shop_of_disk_id(configured.iter().copied(), id);
    let notes = Notes::from_rows(side_tables::read_notes(conn).await?, owner);
    let mut loaded = LoadedStore::new(&with_sizes, shops, notes);
    replay(&mut *conn, header, |shop, reader| {
        loaded.apply_record(shop, reader)
    })
    .await?;
    for shop in configured {
        let sends = side_tables::read_sends(conn, *shop).await?;
        loaded.recent_sends.push(sends);
    }
    Ok(loaded)
}
