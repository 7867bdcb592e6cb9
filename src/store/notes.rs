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
    /// Removes and returns the notes of a shop that is not configured: name and text.
    pub(super) fn take_orphans(&mut self, shop: i64) -> Vec<(String, String)> {
        let matching = self.orphans.extract_if(.., |(owner, _, _)| *owner == shop);
        matching.map(|(_, name, text)| (name, text)).collect()
    }

    /// Adds a row of the table `note`; a shop that is not configured has no `owner`.
    pub(super) fn add(
        &mut self,
        (shop, owner): (i64, Option<ShopId>),
        (name, text): (String, String),
        expected_crc: i64,
    ) -> Result<(), MalformedRecord> {
        if expected_crc != crc(shop, &name, &text) {
            return Err(MalformedRecord("checksum mismatch in a note"));
        }
        if shop == STORE_WIDE || owner.is_some() {
            self.texts.insert((owner, name), text);
        } else {
            self.orphans.push((shop, name, text));
        }
        Ok(())
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
