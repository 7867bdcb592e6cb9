//! Whole content of a store in memory, as packed records.

use std::collections::HashMap;

use super::copy_marks::{CopiedTo, CopyMark};
use crate::store::RecentSend;
use crate::store::notes::{NoteRow, STORE_WIDE};
use crate::store::record::PackedRecord;

/// Whole content of a store. The number of a shop is its position, from 1.
#[derive(Debug, Default)]
pub(in crate::store) struct StoreImage {
    pub(in crate::store) shops: Vec<ShopImage>,
    /// Notes, without the marks of copies.
    pub(in crate::store) notes: Vec<NoteRow>,
    pub(in crate::store) copied_to: Option<CopiedTo>,
    /// Source of this store, if it is an unfinished copy itself.
    pub(in crate::store) unfinished_from: Option<String>,
}

/// Content of one shop.
#[derive(Debug)]
pub(in crate::store) struct ShopImage {
    /// Number of the shop where it was read.
    pub(in crate::store) source_id: i64,
    pub(in crate::store) name: String,
    pub(in crate::store) target: String,
    /// Records of the snapshot and then of the log, in their order.
    pub(in crate::store) records: Vec<PackedRecord>,
    pub(in crate::store) sends: Vec<RecentSend>,
}

impl StoreImage {
    /// Creates an image of shops in the order of their numbers, and gives them and their notes the
    /// numbers of the image. Notes of shops that do not exist are left out.
    pub(in crate::store) fn new(shops: Vec<ShopImage>, mut notes: Vec<NoteRow>) -> Self {
        let copied_to = CopiedTo::find(&notes);
        let unfinished_from = CopyMark::Unfinished.find(&notes).map(ToOwned::to_owned);
        let marks = [CopyMark::Unfinished, CopyMark::CopiedTo].map(CopyMark::name);
        notes.retain(|note| note.shop != STORE_WIDE || !marks.contains(&note.name.as_str()));
        let sources = shops.iter().map(|shop| shop.source_id);
        let numbers: HashMap<i64, i64> =
            sources.zip(1..).chain([(STORE_WIDE, STORE_WIDE)]).collect();
        notes.retain_mut(|note| {
            let number = numbers.get(&note.shop);
            note.shop = number.copied().unwrap_or(note.shop);
            number.is_some()
        });
        Self {
            shops,
            notes,
            copied_to,
            unfinished_from,
        }
    }
}
