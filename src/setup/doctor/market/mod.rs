//! Checks at the Market: clock, permissions of the keys, campaigns, methods and warehouses.

mod campaign_checks;
mod key_checks;
mod market_facts;
#[cfg(test)]
mod tests;
mod warehouse_checks;

use chrono::TimeDelta;
use lifecycle::Clock;
use market_api::partner::account::AccountError;
use market_api::partner::client::MarketClient;
use strict_http::client;

use self::campaign_checks::{check_campaign, check_feed_campaigns};
use self::key_checks::check_key;
use self::market_facts::{MarketFacts, fetch};
use self::warehouse_checks::{
    check_groups, check_method, check_partner_warehouses, check_warehouses,
};
use super::finding::Finding;
use crate::config::{Config, ShopConfig};
use crate::migrator::Mode;
use crate::setup::account_probe::{GRANT_LIST_HINT, one_line};

/// Clock skew from which a warning is given.
const SKEW_WARNING: TimeDelta = TimeDelta::seconds(2);

/// Clock skew from which the dates of stock are too wrong. The Market rejects dates in the future,
/// and a date in the past may lose to an older statement.
const SKEW_FAILURE: TimeDelta = TimeDelta::seconds(60);

/// Checks every shop whose `migrate` is not `off`.
pub(super) async fn examine(config: &Config, clock: Clock) -> Vec<Finding> {
    let shops: Vec<&ShopConfig> = forwarded(&config.shops).collect();
    if shops.is_empty() {
        let what = "not checked, because every shop has migrate = \"off\"";
        return vec![Finding::ok("market", what)];
    }
    let market = match client(&config.outbound()) {
        Ok(client) => MarketClient::new(client, &config.market_url),
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            return vec![Finding::fail(
                "market",
                what,
                "correct ca_file, or install the CA certificates of this system (package \
                 ca-certificates)",
            )];
        }
    };
    let facts = fetch(&market, &shops, clock).await;
    evaluate(&shops, &facts)
}

fn forwarded(shops: &[ShopConfig]) -> impl Iterator<Item = &ShopConfig> {
    shops.iter().filter(|shop| shop.migrate != Mode::Off)
}

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
                    "not checked, because the warehouses cannot be listed: {}",
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
    let what = format!("this machine is {seconds} s {direction} the Market");
    let todo = "synchronize the clock of this machine (NTP)";
    if skew.abs() > SKEW_FAILURE {
        let what = format!("{what}: its stock is rejected, or older stock overwrites it");
        Finding::fail("clock", what, todo)
    } else if skew.abs() > SKEW_WARNING {
        Finding::warn("clock", what, todo)
    } else {
        Finding::ok("clock", "equal to the Market's clock")
    }
}
