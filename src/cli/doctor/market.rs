//! The Market's side: what the keys may do, and whether the numbers mean what we think.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use futures_util::StreamExt as _;

use super::finding::Finding;
use crate::cli::account_probe::{
    AccountProbe, GRANT_LIST_HINT, GRANT_SEND_HINT, KeyProbe, id_with_name, join_ids, one_line,
};
use crate::clock::Clock;
use crate::config::{Config, ShopConfig};
use crate::http::client;
use crate::http::secret::Secret;
use crate::migrator::Mode;
use crate::partner_api::account::{AccountError, MarketCampaign, MarketWarehouse};
use crate::partner_api::client::MarketClient;
use crate::partner_api::wire::MarketAddress;

/// From here on a wrong clock is worth a look.
const SKEW_WARNING: TimeDelta = TimeDelta::seconds(2);

/// From here on stock is dated so wrongly that the Market refuses it: it takes no date in the
/// future, and one in the past may lose to an older one.
const SKEW_FAILURE: TimeDelta = TimeDelta::seconds(60);

/// Keys asked about at a time: a Market that is silent costs each its deadline.
const PARALLEL: usize = 4;

/// What the Market told of our keys.
#[derive(Debug)]
struct MarketFacts {
    keys: Vec<KeyFacts>,
    /// By business id.
    accounts: BTreeMap<u64, AccountProbe>,
}

/// One key, though several shops may use it.
#[derive(Debug)]
struct KeyFacts {
    key: Secret,
    /// Such as `api_key of moscow`.
    users: Vec<String>,
    /// Whether a shop sends with it, rather than only reads.
    sends: bool,
    probe: KeyProbe,
}

/// Asks the Market about every shop that is forwarded, and judges.
pub(super) async fn examine(config: &Config, clock: Clock) -> Vec<Finding> {
    let shops: Vec<&ShopConfig> = forwarded(&config.shops).collect();
    if shops.is_empty() {
        let what = "no shop is forwarded (migrate = \"off\"): it was not asked";
        return vec![Finding::ok("market", what)];
    }
    let market = match client(&config.outbound()) {
        Ok(client) => MarketClient::new(client, &config.market_url),
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            return vec![Finding::fail(
                "market",
                what,
                "mend ca_file or the system's certificates",
            )];
        }
    };
    let facts = fetch(&market, &shops, clock).await;
    evaluate(&shops, &facts)
}

fn forwarded(shops: &[ShopConfig]) -> impl Iterator<Item = &ShopConfig> {
    shops.iter().filter(|shop| shop.migrate != Mode::Off)
}

// === Asking ===

async fn fetch(market: &MarketClient, shops: &[&ShopConfig], clock: Clock) -> MarketFacts {
    let probes = distinct_keys(shops)
        .into_iter()
        .map(async |(key, users, sends)| {
            let probe = KeyProbe::fetch(market, &key, clock).await;
            KeyFacts {
                key,
                users,
                sends,
                probe,
            }
        });
    let keys = futures_util::stream::iter(probes)
        .buffered(PARALLEL)
        .collect()
        .await;
    let mut facts = MarketFacts {
        keys,
        accounts: BTreeMap::new(),
    };
    for shop in shops {
        for business in facts.businesses(shop) {
            if facts.accounts.contains_key(&business) {
                continue;
            }
            if let Some(key) = facts.warehouse_key(shop) {
                let account = AccountProbe::fetch(market, &key, business).await;
                facts.accounts.insert(business, account);
            }
        }
    }
    facts
}

/// Every key once, with the names of its settings, and whether anybody sends with it.
fn distinct_keys(shops: &[&ShopConfig]) -> Vec<(Secret, Vec<String>, bool)> {
    let mut keys: Vec<(Secret, Vec<String>, bool)> = Vec::new();
    for shop in shops {
        for (key, setting) in shop.api_keys.iter().zip(["api_key", "api_key_2"]) {
            let user = format!("{setting} of {}", shop.name);
            let sends = shop.migrate == Mode::On;
            match keys.iter_mut().find(|(known, _, _)| known == key) {
                Some((_, users, any_sends)) => {
                    users.push(user);
                    *any_sends |= sends;
                }
                None => keys.push((key.clone(), vec![user], sends)),
            }
        }
    }
    keys
}

impl MarketFacts {
    fn keys_of<'a>(&'a self, shop: &'a ShopConfig) -> impl Iterator<Item = &'a KeyFacts> {
        self.keys
            .iter()
            .filter(|facts| shop.api_keys.contains(&facts.key))
    }

    /// The shop's campaign, as any of its keys sees it.
    fn campaign<'a>(&'a self, shop: &'a ShopConfig) -> Option<&'a MarketCampaign> {
        let mut campaigns = self.keys_of(shop).flat_map(|facts| facts.probe.campaigns());
        campaigns.find(|campaign| campaign.id == shop.campaign)
    }

    /// The cabinets to look into: the campaign's, and the one that was set; if the campaign
    /// is not seen, whatever is, so that it can be said what its number is.
    fn businesses(&self, shop: &ShopConfig) -> BTreeSet<u64> {
        let campaigns = || self.keys_of(shop).flat_map(|facts| facts.probe.campaigns());
        let is_configured = |campaign: &&MarketCampaign| campaign.id == shop.campaign;
        let seen = campaigns()
            .find(is_configured)
            .or_else(|| campaigns().next());
        seen.and_then(MarketCampaign::business_id)
            .into_iter()
            .chain(shop.business)
            .collect()
    }

    /// The shop's cabinet: the campaign's own, or else the one that was set.
    fn account<'a>(&'a self, shop: &'a ShopConfig) -> Option<(u64, &'a AccountProbe)> {
        let business = self
            .campaign(shop)
            .and_then(MarketCampaign::business_id)
            .or(shop.business)?;
        Some((business, self.accounts.get(&business)?))
    }

    /// A key of the shop's that may list warehouses; one that is not known to, if there is
    /// none; nothing if both are refused.
    fn warehouse_key(&self, shop: &ShopConfig) -> Option<Secret> {
        let may_list = |facts: &&KeyFacts| {
            facts
                .probe
                .key
                .as_ref()
                .is_ok_and(|info| info.may_list_warehouses())
        };
        let works = |facts: &&KeyFacts| facts.probe.campaigns.is_ok();
        let best = self
            .keys_of(shop)
            .find(may_list)
            .or_else(|| self.keys_of(shop).find(works));
        best.map(|facts| facts.key.clone())
    }
}

// === Judging ===

fn evaluate(shops: &[&ShopConfig], facts: &MarketFacts) -> Vec<Finding> {
    let skews = facts.keys.iter().filter_map(|key| key.probe.skew);
    let mut findings: Vec<Finding> = skews
        .max_by_key(TimeDelta::abs)
        .map(check_skew)
        .into_iter()
        .collect();
    findings.extend(facts.keys.iter().flat_map(check_key));
    for shop in shops {
        findings.push(check_campaign(shop, facts));
        findings.extend(check_feed_campaigns(shop, facts));
        let Some((business, account)) = facts.account(shop) else {
            continue;
        };
        match &account.warehouses {
            Ok(all) => {
                findings.push(check_method(shop, business, account));
                findings.push(check_warehouses(shop, all));
                findings.extend(check_partner_warehouses(shop, account));
            }
            Err(error) => findings.push(Finding::warn(
                format!("warehouses of {}", shop.name),
                format!(
                    "the list is not known, so they were not compared: {}",
                    error_text(error)
                ),
                GRANT_LIST_HINT,
            )),
        }
    }
    findings.extend(check_groups(shops, facts));
    findings
}

fn error_text(error: &AccountError) -> String {
    one_line(&error.to_string())
}

fn check_skew(skew: TimeDelta) -> Finding {
    let seconds = skew.abs().num_seconds();
    let direction = if skew > TimeDelta::zero() {
        "ahead of"
    } else {
        "behind"
    };
    let what = format!("ours is {seconds} s {direction} the Market's");
    let todo = "let this machine take its time from the network (NTP)";
    if skew.abs() > SKEW_FAILURE {
        let what = format!("{what}: dates of stock will be refused, or lose to older ones");
        Finding::fail("clock", what, todo)
    } else if skew.abs() > SKEW_WARNING {
        Finding::warn("clock", what, todo)
    } else {
        Finding::ok("clock", "as the Market's")
    }
}

fn check_key(facts: &KeyFacts) -> Vec<Finding> {
    let about = match &facts.users[..] {
        [first, others @ ..] if others.len() > 2 => format!("{first} and {} more", others.len()),
        users => users.join(", "),
    };
    let info = match &facts.probe.key {
        Ok(info) => info,
        Err(error) => return vec![key_error(about, error)],
    };
    let has = if info.scopes.is_empty() {
        "nothing".to_owned()
    } else {
        info.scopes.join(", ")
    };
    let name = one_line(&info.name);
    let mut findings = Vec::new();
    if facts.sends && !info.may_send() {
        let what = format!("the token «{name}» may not send stock, it has {has}");
        findings.push(Finding::fail(about.clone(), what, GRANT_SEND_HINT));
    } else if !info.may_read_back() {
        let what = format!("the token «{name}» may not read stock back, it has {has}");
        findings.push(Finding::fail(about.clone(), what, GRANT_SEND_HINT));
    } else if !info.may_send() {
        let what = format!("the token «{name}» does for a dry run and may not send, it has {has}");
        findings.push(Finding::warn(about.clone(), what, GRANT_SEND_HINT));
    }
    if !info.may_list_warehouses() {
        let what = format!("the token «{name}» may not list warehouses, it has {has}");
        findings.push(Finding::warn(about.clone(), what, GRANT_LIST_HINT));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            about,
            format!("the token «{name}» works and may do all we do"),
        ));
    }
    findings
}

fn key_error(about: String, error: &AccountError) -> Finding {
    let todo = if error.is_key_rejected() {
        "make a token in the cabinet, Настройки → API и модули, and put it into the file; a new \
         one takes up to ten minutes"
    } else {
        match error {
            AccountError::Unreachable(_) => {
                "let this machine call market_url: its names, its firewall, its certificates"
            }
            AccountError::Refused { .. } => "see whether market_url is the Market's own address",
            AccountError::Unreadable(_) => {
                "see whether market_url is the Market's own address, without a proxy between"
            }
        }
    };
    Finding::fail(about, error_text(error), todo)
}

fn check_campaign(shop: &ShopConfig, facts: &MarketFacts) -> Finding {
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
            "{users} does not see {}{}; it sees {}",
            shop.campaign,
            likely_meaning(shop.campaign, facts),
            if visible.is_empty() {
                "none".to_owned()
            } else {
                join_ids(visible.iter().map(|c| c.id))
            },
        );
        return Finding::fail(about, what, "stockbridge discover says what each number is");
    }
    let Some(campaign) = facts.campaign(shop) else {
        return Finding::warn(
            about,
            "not checked, as no key told its campaigns",
            "mend the key",
        );
    };
    let name = id_with_name(campaign.id, campaign.name());
    if let Some(obstacle) = campaign.sending_obstacle() {
        let todo = "open it in the cabinet, or set migrate = \"off\" for this shop";
        return Finding::fail(about, format!("{name}: {obstacle}"), todo);
    }
    match (shop.business, campaign.business_id()) {
        (Some(set), Some(real)) if set != real => Finding::fail(
            about,
            format!("{name} belongs to the cabinet {real}, business is {set}"),
            format!("set business = {real}, or another campaign"),
        ),
        (_, real) => {
            let of = real.map_or_else(String::new, |real| format!(" of the cabinet {real}"));
            Finding::ok(about, format!("{name}{of} is open"))
        }
    }
}

/// What else a number is, if it is no campaign's.
fn likely_meaning(number: u64, facts: &MarketFacts) -> &'static str {
    let all = || facts.keys.iter().flat_map(|key| key.probe.campaigns());
    if all().any(|campaign| campaign.business_id() == Some(number)) {
        return ", which is the number of the whole cabinet";
    }
    if facts
        .accounts
        .values()
        .flat_map(AccountProbe::warehouses)
        .any(|w| w.id == number)
    {
        return ", which is the number of a warehouse";
    }
    ", which may be the shop id shown in the cabinet, not the campaign id"
}

fn check_feed_campaigns(shop: &ShopConfig, facts: &MarketFacts) -> Option<Finding> {
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
        let what = format!("the key does not see {}", join_ids(unseen));
        Finding::warn(about, what, "stockbridge discover says what each number is")
    })
}

fn check_method(shop: &ShopConfig, business: u64, account: &AccountProbe) -> Finding {
    let about = format!("method of {}", shop.name);
    match (&shop.address, account.has_groups()) {
        (MarketAddress::Campaign { .. }, true) => Finding::ok(
            about,
            format!("campaign, and the cabinet {business} has groups"),
        ),
        (MarketAddress::Business { .. }, false) => Finding::ok(
            about,
            format!("business, and the cabinet {business} has no groups"),
        ),
        (MarketAddress::Business { .. }, true) => Finding::fail(
            about,
            format!(
                "business, but the cabinet {business} has groups of warehouses: there the Market \
                 is told by campaign"
            ),
            "set method = \"campaign\"",
        ),
        (MarketAddress::Campaign { .. }, false) => Finding::warn(
            about,
            format!(
                "campaign, which since 2026-07-29 is documented as current only for cabinets \
                 with groups of warehouses; the cabinet {business} has none"
            ),
            "take method = \"business\" as stockbridge discover prints it",
        ),
    }
}

fn check_warehouses(shop: &ShopConfig, all: &[MarketWarehouse]) -> Finding {
    let about = format!("warehouses of {}", shop.name);
    let configured: BTreeSet<u64> = shop.warehouses.iter().copied().collect();
    let expected = warehouses_sharing_stock(shop, all);
    let is_listed = |id: &u64| all.iter().any(|warehouse| warehouse.id == *id);
    let unknown: Vec<u64> = configured
        .iter()
        .copied()
        .filter(|id| !is_listed(id))
        .collect();
    if !unknown.is_empty() {
        let what = format!(
            "the cabinet has no {}; of this stock it has {}",
            join_ids(unknown),
            if expected.is_empty() {
                "none".to_owned()
            } else {
                join_ids(expected)
            }
        );
        return Finding::fail(about, what, "take the numbers stockbridge discover prints");
    }
    let foreign: Vec<u64> = configured.difference(&expected).copied().collect();
    if !foreign.is_empty() {
        let campaigns = all.iter().filter(|w| foreign.contains(&w.id));
        let campaigns: BTreeSet<u64> = campaigns.filter_map(|w| w.campaign_id).collect();
        let what = format!(
            "{} are of other campaigns ({}) that share no group with this one: the Market would \
             be answered with another stock",
            join_ids(foreign),
            join_ids(campaigns)
        );
        let todo = "give them a [[shops]] table of their own";
        return match shop.address {
            MarketAddress::Campaign { .. } => Finding::fail(about, what, todo),
            MarketAddress::Business { .. } => Finding::warn(
                about,
                what,
                "list their campaigns in feed_campaigns if it is one",
            ),
        };
    }
    let missing: Vec<u64> = expected.difference(&configured).copied().collect();
    if !missing.is_empty() {
        let what = format!(
            "{} share this stock and are not listed: the Market may ask for them and get 503",
            join_ids(missing)
        );
        return Finding::warn(
            about,
            what,
            format!("set warehouses = [{}]", join_ids(expected)),
        );
    }
    Finding::ok(
        about,
        format!("as the Market lists them: {}", join_ids(expected)),
    )
}

/// The warehouses of the shop's campaigns, and all that are in a group with one of them.
fn warehouses_sharing_stock(shop: &ShopConfig, all: &[MarketWarehouse]) -> BTreeSet<u64> {
    let is_ours = |warehouse: &&MarketWarehouse| {
        let is_configured = |id: u64| id == shop.campaign || shop.feed_campaigns.contains(&id);
        warehouse.campaign_id.is_some_and(is_configured)
    };
    let own: Vec<&MarketWarehouse> = all.iter().filter(is_ours).collect();
    let groups: BTreeSet<u64> = own
        .iter()
        .filter_map(|warehouse| warehouse.group())
        .collect();
    let grouped = all
        .iter()
        .filter(|w| w.group().is_some_and(|group| groups.contains(&group)));
    own.iter()
        .copied()
        .chain(grouped)
        .map(|warehouse| warehouse.id)
        .collect()
}

fn check_partner_warehouses(shop: &ShopConfig, account: &AccountProbe) -> Option<Finding> {
    let MarketAddress::Business { warehouses, .. } = &shop.address else {
        return None;
    };
    let about = format!("partner_warehouses of {}", shop.name);
    let known = match account.partner.as_ref()? {
        Ok(list) => list,
        Err(error) => {
            let what = format!(
                "the list is not known, so they were not compared: {}",
                error_text(error)
            );
            return Some(Finding::warn(about, what, GRANT_LIST_HINT));
        }
    };
    let is_known = |id: &u64| known.iter().any(|partner| partner.id == *id);
    let unknown: Vec<u64> = warehouses
        .iter()
        .copied()
        .filter(|id| !is_known(id))
        .collect();
    Some(if unknown.is_empty() {
        Finding::ok(
            about,
            format!("the Market knows {}", join_ids(warehouses.iter().copied())),
        )
    } else {
        let each = known
            .iter()
            .map(|p| id_with_name(p.id, p.name.as_deref().unwrap_or_default()));
        let known = each.collect::<Vec<_>>().join(", ");
        let what = format!(
            "the methods by business have no {}; they have {known}",
            join_ids(unknown)
        );
        Finding::fail(
            about,
            what,
            "set partner_warehouses to the numbers of this stock",
        )
    })
}

/// Shops of ours that would overwrite each other: one group has one stock.
fn check_groups(shops: &[&ShopConfig], facts: &MarketFacts) -> Vec<Finding> {
    let mut by_group: BTreeMap<(u64, u64), BTreeSet<&str>> = BTreeMap::new();
    for shop in shops {
        let Some((business, account)) = facts.account(shop) else {
            continue;
        };
        let own = account
            .warehouses()
            .iter()
            .filter(|w| w.campaign_id == Some(shop.campaign));
        for group in own.filter_map(MarketWarehouse::group) {
            by_group
                .entry((business, group))
                .or_default()
                .insert(&shop.name);
        }
    }
    let shared = by_group.into_iter().filter(|(_, shops)| shops.len() > 1);
    shared
        .map(|((_, group), shops)| {
            let shops = shops.into_iter().collect::<Vec<_>>().join(", ");
            Finding::fail(
                format!("group {group}"),
                format!("the shops {shops} feed it: a group has one stock, each would overwrite the others"),
                "make one shop of them, its other campaigns in feed_campaigns",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::finding::Severity;
    use super::*;
    use crate::partner_api::account::ApiKeyInfo;

    fn shop(name: &str, campaign: u64, warehouses: &[u64], extra: &str) -> ShopConfig {
        let text = format!(
            "[[shops]]\nname = \"{name}\"\nwarehouses = {warehouses:?}\ncampaign = {campaign}\n{extra}"
        );
        let prefix = format!("STOCKBRIDGE_SHOPS_{}_", name.to_uppercase());
        let secrets = ["PUSH_TOKEN", "FEED_KEY", "API_KEY"]
            .map(|key| (format!("{prefix}{key}"), format!("canary-{key}")));
        let config = Config::parse(&text, secrets.into(), Path::new(""));
        config
            .unwrap_or_else(|errors| panic!("{errors}"))
            .shops
            .remove(0)
    }

    fn key_probe(campaigns: Value) -> KeyProbe {
        let scopes = vec!["ALL_METHODS".to_owned()];
        KeyProbe {
            key: Ok(ApiKeyInfo {
                name: "t".to_owned(),
                scopes,
            }),
            campaigns: Ok(serde_json::from_value(campaigns).unwrap()),
            skew: None,
        }
    }

    /// One key that all shops share, and cabinet 5.
    fn market_facts(
        shops: &[&ShopConfig],
        campaigns: Value,
        warehouses: Value,
        partner: Value,
    ) -> MarketFacts {
        let [(key, users, sends)] = &distinct_keys(shops)[..] else {
            panic!("one key is shared")
        };
        let (key, users, sends) = (key.clone(), users.clone(), *sends);
        let account = AccountProbe {
            warehouses: Ok(serde_json::from_value(warehouses).unwrap()),
            partner: (!partner.is_null()).then(|| Ok(serde_json::from_value(partner).unwrap())),
        };
        MarketFacts {
            keys: vec![KeyFacts {
                key,
                users,
                sends,
                probe: key_probe(campaigns),
            }],
            accounts: BTreeMap::from([(5, account)]),
        }
    }

    fn campaign(id: u64) -> Value {
        json!({"id": id, "apiAvailability": "AVAILABLE", "business": {"id": 5}})
    }

    fn warehouse(id: u64, campaign: u64, group: Option<u64>) -> Value {
        json!({"id": id, "campaignId": campaign, "groupInfo": group.map(|id| json!({"id": id}))})
    }

    fn problems(findings: &[Finding]) -> Vec<String> {
        let bad = findings
            .iter()
            .filter(|finding| finding.level != Severity::Ok);
        bad.map(ToString::to_string).collect()
    }

    #[track_caller]
    fn assert_finding(findings: &[Finding], level: Severity, text: &str) {
        let is_match = |f: &&Finding| f.level == level && f.to_string().contains(text);
        assert!(
            findings.iter().any(|f| is_match(&f)),
            "{level} {text} is not in {findings:#?}"
        );
    }

    #[test]
    fn a_cabinet_as_it_should_be_is_well() {
        let shop = shop("a", 1, &[10, 20], "feed_campaigns = [2]\nbusiness = 5\n");
        let group = json!([warehouse(10, 1, Some(9)), warehouse(20, 2, Some(9))]);
        let facts = market_facts(
            &[&shop],
            json!([campaign(1), campaign(2)]),
            group,
            Value::Null,
        );
        assert_eq!(problems(&evaluate(&[&shop], &facts)), [""; 0]);
        let by_business = super::tests::shop(
            "a",
            1,
            &[10],
            "method = \"business\"\nbusiness = 5\npartner_warehouses = [77]\n",
        );
        let lone = json!([warehouse(10, 1, None)]);
        let facts = super::tests::market_facts(
            &[&by_business],
            json!([campaign(1)]),
            lone,
            json!([{"id": 77}]),
        );
        assert_eq!(problems(&evaluate(&[&by_business], &facts)), [""; 0]);
    }

    #[test]
    fn a_number_of_another_kind_is_recognised() {
        for (number, expected) in [
            (5, "the number of the whole cabinet"),
            (10, "the number of a warehouse"),
            (404, "the shop id shown in the cabinet"),
        ] {
            let shop = shop("a", number, &[10], "business = 5\n");
            let list = json!([warehouse(10, 1, None)]);
            let facts = market_facts(&[&shop], json!([campaign(1)]), list, Value::Null);
            let finding = check_campaign(&shop, &facts);
            assert!(
                finding.level == Severity::Fail && finding.what.contains(expected),
                "{finding}"
            );
            assert!(finding.what.ends_with("it sees 1"), "{finding}");
        }
    }

    #[test]
    fn a_campaign_that_is_closed_or_elsewhere_is_told() {
        let shop = shop("a", 1, &[10], "business = 6\n");
        let check = |campaign: Value| {
            check_campaign(
                &shop,
                &market_facts(&[&shop], json!([campaign]), json!([]), Value::Null),
            )
        };
        assert!(
            check(campaign(1))
                .what
                .contains("belongs to the cabinet 5, business is 6")
        );
        let mut closed = campaign(1);
        closed["apiAvailability"] = "DISABLED_BY_INACTIVITY".into();
        assert!(check(closed).what.contains("90 days"));
        let mut fby = campaign(1);
        fby["placementType"] = "FBY".into();
        assert_eq!(check(fby).level, Severity::Fail);
    }

    #[test]
    fn the_method_follows_the_groups() {
        let by_business = shop("a", 1, &[10], "method = \"business\"\nbusiness = 5\n");
        let by_campaign = shop("a", 1, &[10], "");
        let check = |shop: &ShopConfig, group| {
            let list = json!([warehouse(10, 1, group)]);
            let facts = market_facts(&[shop], json!([campaign(1)]), list, Value::Null);
            check_method(shop, 5, &facts.accounts[&5]).level
        };
        assert_eq!(check(&by_business, None), Severity::Ok);
        assert_eq!(check(&by_business, Some(9)), Severity::Fail);
        assert_eq!(check(&by_campaign, Some(9)), Severity::Ok);
        assert_eq!(check(&by_campaign, None), Severity::Warn);
    }

    #[test]
    fn two_shops_in_one_group_would_overwrite_each_other() {
        let (a, b) = (shop("a", 1, &[10], ""), shop("b", 2, &[20], ""));
        let group = json!([warehouse(10, 1, Some(9)), warehouse(20, 2, Some(9))]);
        let facts = market_facts(
            &[&a, &b],
            json!([campaign(1), campaign(2)]),
            group,
            Value::Null,
        );
        assert_finding(
            &evaluate(&[&a, &b], &facts),
            Severity::Fail,
            "group 9: the shops a, b feed it",
        );
        assert!(check_groups(&[&a], &facts).is_empty());
    }

    #[test]
    fn warehouses_are_compared_with_the_markets_by_number() {
        let all: Vec<MarketWarehouse> = serde_json::from_value(json!([
            warehouse(10, 1, Some(9)),
            warehouse(20, 2, Some(9)),
            warehouse(30, 3, None),
        ]))
        .unwrap();
        let check = |ids: &[u64]| check_warehouses(&shop("a", 1, ids, ""), &all);
        assert_eq!(check(&[20, 10]).level, Severity::Ok);
        let missing = check(&[10]);
        assert_eq!(missing.level, Severity::Warn);
        assert_eq!(missing.todo.as_deref(), Some("set warehouses = [10, 20]"));
        let foreign = check(&[10, 20, 30]);
        assert!(
            foreign.level == Severity::Fail
                && foreign.what.contains("30 are of other campaigns (3)")
        );
        let unknown = check(&[10, 99]);
        assert!(
            unknown.level == Severity::Fail
                && unknown.what.contains("no 99; of this stock it has 10, 20")
        );
    }

    #[test]
    fn numbers_the_methods_by_business_do_not_know_are_told_with_those_they_do() {
        let shop = shop("a", 1, &[10], "method = \"business\"\nbusiness = 5\n");
        let list = json!([warehouse(10, 1, None)]);
        let partner = json!([{"id": 77, "name": "Tula"}]);
        let facts = market_facts(&[&shop], json!([campaign(1)]), list, partner);
        assert_finding(
            &evaluate(&[&shop], &facts),
            Severity::Fail,
            "have no 10; they have 77 «Tula»",
        );
    }

    #[test]
    fn a_key_is_judged_by_what_it_is_used_for() {
        let check = |scope: &str, sends| {
            let mut probe = key_probe(json!([]));
            probe.key = Ok(ApiKeyInfo {
                name: "t".to_owned(),
                scopes: vec![scope.to_owned()],
            });
            let users = vec!["api_key of a".to_owned()];
            let key = Secret::new("canary");
            let findings = check_key(&KeyFacts {
                key,
                users,
                sends,
                probe,
            });
            findings
                .iter()
                .map(|finding| finding.level)
                .collect::<Vec<_>>()
        };
        assert_eq!(check("ALL_METHODS", true), [Severity::Ok]);
        assert_eq!(check("ALL_METHODS_READ_ONLY", true), [Severity::Fail]);
        assert_eq!(check("ALL_METHODS_READ_ONLY", false), [Severity::Warn]);
        assert_eq!(check("OFFERS_AND_CARDS_MANAGEMENT", true), [Severity::Warn]);
        assert_eq!(check("PRICING", false), [Severity::Fail, Severity::Warn]);
    }

    #[test]
    fn a_key_that_is_refused_does_not_stop_the_rest() {
        let shop = shop("a", 1, &[10], "");
        let refused = || AccountError::Refused {
            status: 401,
            words: "Api-Key token is invalid".into(),
        };
        let mut facts = market_facts(&[&shop], json!([]), json!([]), Value::Null);
        facts.keys[0].probe = KeyProbe {
            key: Err(refused()),
            campaigns: Err(refused()),
            skew: None,
        };
        let findings = evaluate(&[&shop], &facts);
        assert_finding(
            &findings,
            Severity::Fail,
            "api_key of a: the Market refuses with status 401",
        );
        assert_finding(&findings, Severity::Warn, "campaign of a: not checked");
        assert!(!format!("{findings:?}").contains("canary"));
    }

    #[test]
    fn a_clock_may_be_a_little_wrong() {
        let level = |ms| check_skew(TimeDelta::milliseconds(ms)).level;
        assert_eq!(
            [level(2_000), level(-2_001), level(60_001)],
            [Severity::Ok, Severity::Warn, Severity::Fail]
        );
        assert!(
            check_skew(TimeDelta::seconds(-5))
                .what
                .contains("5 s behind")
        );
    }
}
