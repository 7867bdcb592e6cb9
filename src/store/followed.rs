//! Application of rows that another process has appended.

use stock::{Activity, LastStated, ShopId, Sku, SkuActivity, SkuId, StockBook};

use super::{Acked, RecordRow};

/// Effect of rows of another process on what the store does not know.
#[derive(Debug, Default)]
pub struct FollowedEffect {
    /// SKUs whose level has changed.
    pub changed: Vec<Sku>,
    /// Acknowledgements of the Market, in their order.
    pub acked: Vec<(SkuId, Acked)>,
    /// SKUs whose acknowledgement has become void, so that they are sent again.
    pub void: Vec<Sku>,
    /// The shop has another target, so its earlier acknowledgements are void.
    pub is_target_changed: bool,
}

/// Applies the rows of one record to the book and the activity.
#[must_use]
pub fn apply_followed(
    book: &StockBook,
    activity: &Activity,
    shop: ShopId,
    rows: &[RecordRow],
) -> FollowedEffect {
    let mut effect = FollowedEffect::default();
    for row in rows {
        match row {
            RecordRow::Stock(sku, level) => {
                if book.apply(shop, sku, *level).is_change() {
                    effect.changed.push(sku.clone());
                }
            }
            RecordRow::Acked(sku, acked) => {
                let entry = book.get(shop, sku.as_str());
                if entry.is_some() && *acked == Acked::default() {
                    effect.void.push(sku.clone());
                }
                effect.acked.extend(entry.map(|entry| (entry.id(), *acked)));
            }
            RecordRow::Full(sku, level, acked, sku_activity) => {
                if book.apply(shop, sku, *level).is_change() {
                    effect.changed.push(sku.clone());
                }
                let entry = book.get(shop, sku.as_str());
                effect.acked.extend(entry.map(|entry| (entry.id(), *acked)));
                merge_activity(book, activity, (shop, sku), sku_activity);
            }
            RecordRow::Activity(sku, sku_activity) => {
                merge_activity(book, activity, (shop, sku), sku_activity);
            }
            RecordRow::TargetChanged => effect.is_target_changed = true,
            // The store itself keeps the quarantine.
            RecordRow::Quarantined(_) | RecordRow::Released(_) => {}
        }
    }
    effect
}

/// Raises the activity of a SKU to that of another process, where that is later.
fn merge_activity(
    book: &StockBook,
    activity: &Activity,
    (shop, sku): (ShopId, &Sku),
    other: &SkuActivity,
) {
    let id = book.get(shop, sku.as_str()).map(|entry| entry.id());
    let known = id.map(|id| activity.get(shop, id)).unwrap_or_default();
    let is_later = |stated: &LastStated| known.stated.is_none_or(|known| known.hour < stated.hour);
    let is_new = |(warehouse, hour): &&(u64, stock::Hour)| {
        let same = |(id, known): &(u64, stock::Hour)| id == warehouse && known >= hour;
        !known.requested.iter().any(same)
    };
    let later = SkuActivity {
        stated: other.stated.filter(is_later),
        requested: other.requested.iter().filter(is_new).copied().collect(),
    };
    activity.restore(shop, sku, id, &later);
}

#[cfg(test)]
mod tests {
    use stock::{Count, Level};

    use super::*;

    const SHOP: ShopId = ShopId(0);

    #[test]
    fn void_acknowledgements_are_reported() {
        let book = StockBook::new([0]);
        let activity = Activity::new(&book, vec![vec![7]]);
        let level = Level {
            count: Count::try_from(3).unwrap(),
            updated_at: stock::Timestamp::from_micros(1_000_000).unwrap(),
        };
        let acked = Acked::new(level, level.updated_at.to_utc());
        let [known, unknown] = ["A", "B"].map(|sku| Sku::parse(sku).unwrap());
        let apply = |rows: &[RecordRow]| apply_followed(&book, &activity, SHOP, rows);
        let stated = apply(&[
            RecordRow::Stock(known.clone(), level),
            RecordRow::Acked(known.clone(), acked),
        ]);
        assert_eq!(
            (stated.changed, stated.acked.len()),
            (vec![known.clone()], 1)
        );
        assert_eq!(stated.void, []);
        let void = apply(&[
            RecordRow::Acked(known.clone(), Acked::default()),
            RecordRow::Acked(unknown, Acked::default()),
        ]);
        assert_eq!((void.changed.len(), void.acked.len()), (0, 1));
        assert_eq!(void.void, [known]);
    }
}
