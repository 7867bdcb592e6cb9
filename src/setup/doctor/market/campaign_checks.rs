//! Checks of each shop's campaigns: visible to its keys, open for the API, and in the right
//! cabinet.

use super::market_facts::MarketFacts;
use crate::config::ShopConfig;
use crate::setup::account_probe::{AccountProbe, id_with_name, join_ids};
use crate::setup::doctor::finding::Finding;

/// Remedy for an id of an unknown kind.
const EXPLAIN_IDS_HINT: &str = "run stockbridge discover with the ids: it explains each id";

pub(super) fn check_campaign(shop: &ShopConfig, facts: &MarketFacts) -> Finding {
    let about = format!("campaign of {}", shop.name);
    let blind_key = facts.keys_of(shop).find(|key| {
        let campaigns = key.probe.campaigns.as_ref();
        campaigns.is_ok_and(|list| list.iter().all(|campaign| campaign.id != shop.campaign))
    });
    if let Some(key) = blind_key {
        let visible = key.probe.campaigns();
        let users = key
            .users
            .iter()
            .filter(|user| user.ends_with(&format!(" of {}", shop.name)));
        let users = users.cloned().collect::<Vec<_>>().join(", ");
        let what = format!(
            "{users} does not see {}{}. It sees {}",
            shop.campaign,
            likely_meaning(shop.campaign, facts),
            if visible.is_empty() {
                "no campaign".to_owned()
            } else {
                join_ids(visible.iter().map(|c| c.id))
            },
        );
        return Finding::fail(about, what, EXPLAIN_IDS_HINT);
    }
    let Some(campaign) = facts.campaign(shop) else {
        return Finding::warn(
            about,
            "not checked, because no key of the shop lists its campaigns",
            "correct the key: see the line about it",
        );
    };
    let name = id_with_name(campaign.id, campaign.name());
    if let Some(obstacle) = campaign.sending_obstacle() {
        let todo = "enable the API for it in the cabinet, or set migrate = \"off\" for this shop";
        return Finding::fail(about, format!("{name}: {obstacle}"), todo);
    }
    match (shop.business, campaign.business_id()) {
        (Some(set), Some(real)) if set != real => Finding::fail(
            about,
            format!("{name} belongs to the cabinet {real}, but business is {set}"),
            format!("set business = {real}, or set another campaign"),
        ),
        (_, real) => {
            let of = real.map_or_else(String::new, |real| format!(" of the cabinet {real}"));
            Finding::ok(about, format!("{name}{of} is open"))
        }
    }
}

/// Returns the likely meaning of an id that is not a campaign's.
fn likely_meaning(number: u64, facts: &MarketFacts) -> &'static str {
    let all = || facts.keys.iter().flat_map(|key| key.probe.campaigns());
    if all().any(|campaign| campaign.business_id() == Some(number)) {
        return ", which is the business id of the cabinet";
    }
    if facts
        .accounts
        .values()
        .flat_map(AccountProbe::warehouses)
        .any(|w| w.id == number)
    {
        return ", which is the id of a warehouse";
    }
    ", which may be the shop id shown in the cabinet instead of the campaign id"
}

pub(super) fn check_feed_campaigns(shop: &ShopConfig, facts: &MarketFacts) -> Option<Finding> {
    facts.campaign(shop)?;
    let is_seen = |id: &u64| {
        let mut all = facts.keys_of(shop).flat_map(|key| key.probe.campaigns());
        all.any(|campaign| campaign.id == *id)
    };
    let unseen: Vec<u64> = shop
        .feed_campaigns
        .iter()
        .copied()
        .filter(|id| !is_seen(id))
        .collect();
    (!unseen.is_empty()).then(|| {
        let about = format!("feed_campaigns of {}", shop.name);
        let what = format!("no key of the shop sees {}", join_ids(unseen));
        Finding::warn(about, what, EXPLAIN_IDS_HINT)
    })
}
