//! Notes about products that a self-test has hidden, as they are found at a start.

use stock::{ShopId, Sku};
use tracing::warn;

use super::quoted_list;
use crate::store::{AbsentShop, Notes};
use crate::telemetry::{AlarmKind, Alarms};

/// Prefix of the names of these notes. The SKU follows the prefix; the note holds the
/// [`campaign_location`](super::campaign_location).
pub(super) const HIDDEN_NOTE_PREFIX: &str = "hidden:";

/// Reports a shop that was renamed, or removed from the configuration, and its hidden products.
pub fn report_absent_shop(shop: &AbsentShop, alarms: &Alarms) {
    let name = &shop.name;
    warn!(
        shop = name,
        "the store has stock of shop {name}, which is not in the configuration"
    );
    let hidden = shop.notes.iter().filter_map(|(note, place)| {
        note.strip_prefix(HIDDEN_NOTE_PREFIX)
            .map(|sku| format!("'{sku}' at {place}"))
    });
    let hidden: Vec<String> = hidden.collect();
    if !hidden.is_empty() {
        let text = format!(
            "a self-test was interrupted and left products of {name} hidden: {}. {name} is not \
             in the configuration any more, so they stay hidden. Add the shop again, or show the \
             products in the Market's cabinet",
            hidden.join(", ")
        );
        alarms.raise(AlarmKind::SelftestHidden, name, text);
    }
}

/// Returns the products that an interrupted self-test left hidden at the current forwarding target.
/// Raises an alarm about products hidden at another target, because the service cannot show them.
pub(in crate::migrator) fn hidden_products(
    notes: &Notes,
    (id, shop): (ShopId, &str),
    here: Option<&str>,
    alarms: &Alarms,
) -> Vec<Sku> {
    let noted = notes.with_prefix(id, HIDDEN_NOTE_PREFIX);
    let noted = noted.filter_map(|(sku, place)| Some((Sku::parse(sku).ok()?, place)));
    let (ours, others): (Vec<_>, Vec<_>) = noted.partition(|(_, place)| here == Some(*place));
    if let Some((_, place)) = others.first() {
        let skus: Vec<Sku> = others.iter().map(|(sku, _)| sku.clone()).collect();
        let text = format!(
            "a self-test was interrupted and left products of {shop} hidden at {place}: {}. Stock \
             is not forwarded there any more, so they stay hidden. Show them in the Market's cabinet, \
             or restore the old forwarding target and restart",
            quoted_list(&skus)
        );
        // A successful self-test clears the alarm of the shop itself, so this one needs another subject.
        let about = here.map_or(shop.to_owned(), |_| format!("{shop} at {place}"));
        alarms.raise(AlarmKind::SelftestHidden, &about, text);
    }
    ours.into_iter().map(|(sku, _)| sku).collect()
}
