//! `discover`: lists the cabinets of an Api-Key and prints the shops of a configuration for them.

mod identify;
mod shop_name;
mod shop_plan;
mod stock_list;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use lifecycle::Clock;
use market_api::partner::account::{ApiKeyInfo, MarketCampaign};
use market_api::partner::client::MarketClient;
use strict_http::secret::Secret;
use strict_http::{ClientConfig, Trust, client};

use self::identify::identify;
use self::shop_plan::plan_shops;
use super::account_probe::{AccountProbe, GRANT_LIST_HINT, GRANT_SEND_HINT, KeyProbe, permissions};
use crate::command::{print_error, print_line, runtime};
use crate::config::{SETTINGS, parse_market_url, read_secret};

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockbridge discover --api-key-file api_key
  stockbridge discover --api-key-file api_key > config.toml
  stockbridge discover --api-key-file api_key 21234567 569667";

/// Arguments of `discover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file that holds the Api-Key.
    #[arg(long, value_name = "FILE")]
    api_key_file: PathBuf,
    /// The address of the Market, if it is not the real one, for example of a simulator.
    #[arg(long, value_name = "URL", env = "STOCKBRIDGE_MARKET_URL", value_parser = market_url)]
    market_url: Option<String>,
    /// A PEM file with additional certificate authorities to trust.
    #[arg(long, value_name = "FILE", env = "STOCKBRIDGE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Ids to explain: campaign, business, warehouse or group.
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
}

fn market_url(text: &str) -> Result<String, String> {
    let rule = SETTINGS
        .iter()
        .find(|setting| setting.key == "market_url")
        .map(|s| s.rule);
    parse_market_url(text).ok_or_else(|| format!("must be {}", rule.unwrap_or_default()))
}

fn default_market() -> &'static str {
    let setting = SETTINGS.iter().find(|setting| setting.key == "market_url");
    setting
        .and_then(|setting| setting.default)
        .expect("the setting has a default")
}

/// Prints the tables. Fails if no shop could be planned.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let key = read_secret(&args.api_key_file)
        .map_err(|rule| anyhow!("{} {rule}", args.api_key_file.display()))?;
    let url = args.market_url.as_deref().unwrap_or(default_market());
    let outbound = ClientConfig {
        trust: Trust::needed_for(url),
        extra_ca_file: args.ca_file.clone(),
        ..ClientConfig::default()
    };
    let market = MarketClient::new(
        client(&outbound).context("create the HTTP client for the Market")?,
        url,
    );
    let header = header_settings(args)?;
    let key_file = absolute(&args.api_key_file)?;
    runtime()?.block_on(async {
        let probe = KeyProbe::fetch(&market, &key, Clock::wall()).await;
        for line in key_problems(&probe) {
            print_error(&line);
        }
        let Ok(campaigns) = &probe.campaigns else {
            return Ok(ExitCode::FAILURE);
        };
        let accounts = fetch_accounts(&market, &key, campaigns).await;
        let plan = plan_shops(campaigns, &accounts, &key_file);
        let ids = args
            .ids
            .iter()
            .flat_map(|id| identify(*id, campaigns, &accounts));
        let ids: String = ids.map(|line| format!("# {line}\n")).collect();
        let blank = if ids.is_empty() { "" } else { "\n" };
        print_line(format!("{header}{ids}{blank}{plan}").trim_end());
        if plan.shops().next().is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        print_error("no shop can be configured from this list: see the comments in the output");
        Ok(ExitCode::FAILURE)
    })
}

async fn fetch_accounts(
    market: &MarketClient,
    key: &Secret,
    campaigns: &[MarketCampaign],
) -> BTreeMap<u64, AccountProbe> {
    let businesses: BTreeSet<u64> = campaigns
        .iter()
        .filter_map(MarketCampaign::business_id)
        .collect();
    let mut accounts = BTreeMap::new();
    // One at a time: the Market allows only 100 of these requests an hour.
    for business in businesses {
        let account = AccountProbe::fetch(market, key, business).await;
        if let Err(error) = &account.warehouses {
            print_error(&format!(
                "the warehouses of the cabinet {business} cannot be listed: {error}"
            ));
        }
        accounts.insert(business, account);
    }
    accounts
}

/// Returns a sentence for each problem of the key, with its remedy.
fn key_problems(probe: &KeyProbe) -> Vec<String> {
    let mut lines = match &probe.key {
        Ok(info) => missing_scopes(info),
        Err(error) => vec![format!("the permissions of the key are unknown: {error}")],
    };
    match &probe.campaigns {
        Ok(campaigns) if campaigns.is_empty() => {
            lines.push(
                "this key sees no campaign. Create the token in the cabinet that has the shop"
                    .to_owned(),
            );
        }
        Ok(_) => {}
        Err(error) => lines.push(format!("the campaigns cannot be listed: {error}")),
    }
    lines
}

fn missing_scopes(info: &ApiKeyInfo) -> Vec<String> {
    let has = permissions(info);
    let mut lines = Vec::new();
    if !info.may_send() {
        lines.push(format!(
            "this key may not send stock. It has {has}. Remedy: {GRANT_SEND_HINT}"
        ));
    }
    if !info.may_list_warehouses() {
        lines.push(format!(
            "this key may not list warehouses. It has {has}. Remedy: {GRANT_LIST_HINT}"
        ));
    }
    lines
}

/// Returns the settings at the top of the file that differ from the defaults.
fn header_settings(args: &Args) -> anyhow::Result<String> {
    let mut text = String::new();
    if let Some(url) = args
        .market_url
        .as_deref()
        .filter(|url| *url != default_market())
    {
        text.push_str(&format!("market_url = {}\n", toml::Value::from(url)));
    }
    if let Some(file) = &args.ca_file {
        text.push_str(&format!(
            "ca_file = {}\n",
            toml::Value::from(absolute(file)?)
        ));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(text)
}

/// Returns an absolute path. Relative paths in a configuration start at its own directory, which
/// may be another one.
fn absolute(file: &std::path::Path) -> anyhow::Result<String> {
    let file = std::path::absolute(file)
        .with_context(|| format!("find the absolute path of {}", file.display()))?;
    Ok(file.display().to_string())
}
