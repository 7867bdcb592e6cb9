//! Named short texts of a shop or of the whole store.
//!
//! They are kept beside the log, because only the last text of each name matters.

use std::collections::HashMap;

use stock::ShopId;

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
    /// Sorts rows of the table `note` by their owners. Those of shops that are not configured become
    /// orphans.
    pub(super) fn from_rows(
        rows: Vec<NoteRow>,
        shop_of_disk_id: impl Fn(i64) -> Option<ShopId>,
    ) -> Self {
        let mut notes = Self::default();
        for NoteRow { shop, name, text } in rows {
            let owner = shop_of_disk_id(shop);
            if shop == STORE_WIDE || owner.is_some() {
                notes.texts.insert((owner, name), text);
            } else {
                notes.orphans.push((shop, name, text));
            }
        }
        notes
    }

    /// Removes and returns the notes of a shop that is not configured: name and text.
    pub(super) fn take_orphans(&mut self, shop: i64) -> Vec<(String, String)> {
        let matching = self.orphans.extract_if(.., |(owner, _, _)| *owner == shop);
        matching.map(|(_, name, text)| (name, text)).collect()
    }
}

/// Row of the table `note`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct NoteRow {
    /// Number of the shop on disk, or [`STORE_WIDE`].
    pub(super) shop: i64,
    pub(super) name: String,
    pub(super) text: String,
}

impl NoteRow {
    /// Verifies a row that was read.
    pub(super) fn verified(self, expected_crc: i64) -> Result<Self, MalformedRecord> {
        if expected_crc == crc(self.shop, &self.name, &self.text) {
            Ok(self)
        } else {
            Err(MalformedRecord("checksum mismatch in a note"))
        }
    }
}

/// Returns the checksum of a note.
pub(super) fn crc(shop: i64, name: &str, text: &str) -> i64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&shop.to_le_bytes());
    // With the length, characters that move between name and text change the checksum.
    crc.update(&(name.len() as u64).to_le_bytes());
    crc.update(name.as_bytes());
    crc.update(text.as_bytes());
    crc.finalize().into()
}
