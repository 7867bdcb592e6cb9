//! Named short texts of a shop or of the whole store.
//!
//! They are kept beside the log, because only the last text of each name matters.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use stock::ShopId;

use super::error::StoreInternalError;
use super::record::MalformedRecord;

/// Number under which notes of the whole store are kept; shops are numbered from 1.
pub(super) const STORE_WIDE: i64 = 0;

/// Notes that were in the store when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    texts: HashMap<(Option<ShopId>, String), String>,
    // Notes of shops that are not configured: number on disk, name and text.
    orphans: Vec<(i64, String, String)>,
}

impl Notes {
    /// Returns the note of this name; `None` as shop means the whole store.
    #[must_use]
    pub fn get(&self, shop: Option<ShopId>, name: &str) -> Option<&str> {
        self.texts.get(&(shop, name.to_owned())).map(String::as_str)
    }

    /// Returns every note of a shop whose name begins with `prefix`: rest of the name, and text.
    /// `None` as shop means the whole store.
    pub fn with_prefix<'a>(
        &'a self,
        shop: impl Into<Option<ShopId>>,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let shop = shop.into();
        self.texts.iter().filter_map(move |((owner, name), text)| {
            let rest = name.strip_prefix(prefix)?;
            (*owner == shop).then_some((rest, text.as_str()))
        })
    }
}

impl Notes {
    /// Removes and returns the notes of a shop that is not configured: name and text.
    pub(super) fn take_orphans(&mut self, shop: i64) -> Vec<(String, String)> {
        let matching = self.orphans.extract_if(.., |(owner, _, _)| *owner == shop);
        matching.map(|(_, name, text)| (name, text)).collect()
    }
}

/// Writes a note; `None` deletes it.
pub(super) async fn write(
    conn: &mut SqliteConnection,
    shop: i64,
    name: &str,
    text: Option<&str>,
) -> Result<(), StoreInternalError> {
    let query = match text {
        Some(text) => sqlx::query(
            "INSERT OR REPLACE INTO note (shop, name, text, crc) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(shop)
        .bind(name)
        .bind(text)
        .bind(crc(shop, name, text)),
        None => sqlx::query("DELETE FROM note WHERE shop = ?1 AND name = ?2")
            .bind(shop)
            .bind(name),
    };
    query.execute(conn).await?;
    Ok(())
}

/// Reads all notes. Those of shops that are not configured become orphans.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    shop_of_disk_id: impl Fn(i64) -> Option<ShopId>,
) -> Result<Notes, StoreInternalError> {
    let rows = sqlx::query("SELECT shop, name, text, crc FROM note")
        .fetch_all(conn)
        .await?;
    let mut notes = Notes::default();
    for row in rows {
        let (shop, name, text): (i64, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if row.try_get::<i64, _>(3)? != crc(shop, &name, &text) {
            return Err(MalformedRecord("checksum mismatch in a note").into());
        }
        let owner = shop_of_disk_id(shop);
        if shop == STORE_WIDE || owner.is_some() {
            notes.texts.insert((owner, name), text);
        } else {
            notes.orphans.push((shop, name, text));
        }
    }
    Ok(notes)
}

fn crc(shop: i64, name: &str, text: &str) -> i64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&shop.to_le_bytes());
    // With the length, characters that move between name and text change the checksum.
    crc.update(&(name.len() as u64).to_le_bytes());
    crc.update(name.as_bytes());
    crc.update(text.as_bytes());
    crc.finalize().into()
}
