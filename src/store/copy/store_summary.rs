//! Summary of a loaded store: counts, and checksums over everything that a service would use.

use sha2::{Digest as _, Sha256};
use stock::{ShopId, Sku, StockBook};

use super::copy_marks::CopyMark;
use crate::store::loaded_store::{DiskShop, LoadedStore};
use crate::store::notes::{NoteRow, STORE_WIDE};
use crate::store::record::PackedRecord;
use crate::store::{RecentSend, ShopIdentity, packing::pack_quarantine};

/// Summary of a store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreSummary {
    /// Shops, in the order of their numbers.
    pub shops: Vec<ShopSummary>,
    /// Number of notes of the store and of all shops.
    pub notes: usize,
    /// Checksum over the notes.
    pub notes_checksum: String,
    /// Installation that owns the store, if any.
    pub instance: Option<String>,
}

/// Summary of one shop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShopSummary {
    /// Name of the shop.
    pub name: String,
    /// SKUs with stock.
    pub skus: usize,
    /// SKUs of which the Market has acknowledged some stock.
    pub acknowledged: usize,
    /// SKUs in quarantine.
    pub quarantined: usize,
    /// Recent sends.
    pub sends: usize,
    /// Checksum over target, SKUs, counts, dates, last statements with their origin,
    /// acknowledgements, quarantine and recent sends.
    pub checksum: String,
}

/// Name of the note that contains the owner of a store.
pub const INSTANCE_NOTE: &str = "instance";

/// Number of hexadecimal digits of a checksum.
const CHECKSUM_DIGITS: usize = 16;

/// Returns the identities with which shops are loaded for a summary.
pub(in crate::store) fn identities(shops: &[DiskShop]) -> Vec<ShopIdentity> {
    let identity = |shop: &DiskShop| ShopIdentity {
        name: shop.name.clone(),
        target: shop.target.clone(),
        warehouses: Vec::new(),
    };
    shops.iter().map(identity).collect()
}

/// Summarizes a store that was loaded with all its shops, in the order of their numbers.
pub(in crate::store) fn summarize(
    loaded: &LoadedStore,
    shops: &[DiskShop],
    mut notes: Vec<NoteRow>,
) -> StoreSummary {
    let marks = [CopyMark::Unfinished, CopyMark::CopiedTo].map(CopyMark::name);
    notes.retain(|note| note.shop != STORE_WIDE || !marks.contains(&note.name.as_str()));
    let instance = notes
        .iter()
        .find(|note| note.shop == STORE_WIDE && note.name == INSTANCE_NOTE);
    let instance = instance.map(|note| note.text.clone());
    let number_of = |id: i64| shops.iter().position(|shop| shop.id == id);
    // The numbers of the shops may differ between both ends; their order does not.
    let mut notes: Vec<_> = notes
        .into_iter()
        .filter(|note| note.shop == STORE_WIDE || number_of(note.shop).is_some())
        .map(|note| (number_of(note.shop), note.name, note.text))
        .collect();
    notes.sort_unstable();
    let mut hash = RowHash::default();
    for (shop, name, text) in &notes {
        hash.number(shop.map_or(0, |shop| shop as u64 + 1));
        hash.text(name);
        hash.text(text);
    }
    let shop_ids = loaded.book.shops().zip(shops);
    StoreSummary {
        shops: shop_ids
            .map(|(shop, disk)| summarize_shop(loaded, shop, disk))
            .collect(),
        notes: notes.len(),
        notes_checksum: hash.finish(),
        instance,
    }
}

fn summarize_shop(loaded: &LoadedStore, shop: ShopId, disk: &DiskShop) -> ShopSummary {
    let mut hash = RowHash::default();
    hash.text(&disk.name);
    hash.text(&disk.target);
    let mut acknowledged = 0;
    let skus = sorted_skus(&loaded.book, shop);
    for sku in &skus {
        let Some(entry) = loaded.book.get(shop, sku.as_str()) else {
            continue;
        };
        hash.text(sku.as_str());
        hash.number(entry.level().count.get().into());
        hash.signed(entry.level().updated_at.as_micros());
        let stated = loaded.activity.last_stated(shop, entry.id());
        hash.number(stated.map_or(0, |stated| u64::from(stated.hour.number()) + 1));
        hash.number(stated.map_or(0, |stated| stated.origin.into()));
        let acked = loaded.acked[shop.index()].get(entry.id());
        if let Some(level) = acked.level() {
            acknowledged += 1;
            hash.number(level.count.get().into());
            hash.signed(level.updated_at.as_micros());
            hash.signed(acked.acked_at().map_or(0, |at| at.timestamp()));
        }
    }
    let quarantine = pack_quarantine(&loaded.quarantine, disk.id);
    for PackedRecord { body, .. } in &quarantine {
        hash.bytes(body);
    }
    let sends = &loaded.recent_sends[shop.index()];
    for RecentSend { at, skus } in sends {
        hash.signed(at.timestamp_micros());
        hash.number((*skus).into());
    }
    ShopSummary {
        name: disk.name.clone(),
        skus: skus.len(),
        acknowledged,
        quarantined: loaded.quarantine.entries(disk.id).count(),
        sends: sends.len(),
        checksum: hash.finish(),
    }
}

/// Returns the SKUs with stock in an order that does not depend on that of their records.
fn sorted_skus(book: &StockBook, shop: ShopId) -> Vec<Sku> {
    let mut skus = Vec::with_capacity(book.len(shop));
    book.for_each(shop, |sku, _| skus.push(sku.clone()));
    skus.sort_unstable_by(|one, two| one.as_str().cmp(two.as_str()));
    skus
}

/// Checksum over rows, in which values cannot move between fields.
#[derive(Default)]
struct RowHash(Sha256);

impl RowHash {
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn signed(&mut self, number: i64) {
        self.number(number.cast_unsigned());
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn finish(self) -> String {
        let digest = self.0.finalize();
        let mut digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(CHECKSUM_DIGITS);
        digits
    }
}
