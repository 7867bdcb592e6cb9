//! Asks the Market what a cabinet holds, and writes the shops of the configuration from it.

mod identify;
mod shop_name;
mod shop_plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use self::identify::identify;
use self::shop_plan::plan_shops;
use super::account_probe::{AccountProbe, GRANT_LIST_HINT, GRANT_SEND_HINT, KeyProbe};
use super::{print_error, print_line, runtime};
use crate::clock::Clock;
use crate::config::{SETTINGS, parse_market_url, read_secret};
use crate::http::secret::Secret;
use crate::http::{ClientConfig, Trust, client};
use crate::partner_api::account::{ApiKeyInfo, MarketCampaign};
use crate::partner_api::client::MarketClient;

/// Whom to ask, and about what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file that holds the Api-Key.
    #[arg(long, value_name = "FILE")]
    api_key_file: PathBuf,
    /// The Market, if it is not the real one.
    #[arg(long, value_name = "URL", env = "STOCKBRIDGE_MARKET_URL", value_parser = market_url)]
    market_url: Option<String>,
    /// Further certificate authorities to trust, in PEM.
    #[arg(long, value_name = "FILE", env = "STOCKBRIDGE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Numbers of which to say what they are.
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
}

fn market_url(text: &str) -> Result<String, String> {
    let rule = SETTINGS
        .iter()
        .find(|setting| setting.key == "market_url")
        .map(|s| s.rule);
    parse_market_url(text).ok_or_else(|| format!("it must be {}", rule.unwrap_or_default()))
}

fn default_market() -> &'static str {
    let setting = SETTINGS.iter().find(|setting| setting.key == "market_url");
    setting
        .and_then(|setting| setting.default)
        .expect("the setting has a default")
}

/// Prints the tables, and fails unless there is one.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let key = read_secret(&args.api_key_file)
        .map_err(|rule| anyhow!("{} {rule}", args.api_key_file.display()))?;
    let url = args.market_url.as_deref().unwrap_or(default_market());
    let outbound = ClientConfig {
        trust: Trust::needed_for(url),
        extra_ca_file: args.ca_file.clone(),
        ..ClientConfig::default()
    };
    let market = MarketClient::new(
        client(&outbound).context("prepare to call the Market")?,
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
        print_error("no shop could be made of what the Market lists");
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
    // One after the other: the Market allows 100 such calls an hour and likes few at a time.
    for business in businesses {
        let account = AccountProbe::fetch(market, key, business).await;
        if let Err(error) = &account.warehouses {
            print_error(&format!(
                "the warehouses of cabinet {business} are not known: {error}"
            ));
        }
        accounts.insert(business, account);
    }
    accounts
}

/// What stands in the way, and what to do about it.
fn key_problems(probe: &KeyProbe) -> Vec<String> {
    let mut lines = match &probe.key {
        Ok(info) => missing_scopes(info),
        Err(error) => vec![format!("what the key may do is not known: {error}")],
    };
    match &probe.campaigns {
        Ok(campaigns) if campaigns.is_empty() => {
            lines.push("the key sees no campaign: it belongs to another cabinet".to_owned());
        }
        Ok(_) => {}
        Err(error) => lines.push(format!("the campaigns are not known: {error}")),
    }
    lines
}

fn missing_scopes(info: &ApiKeyInfo) -> Vec<String> {
    let has = if info.scopes.is_empty() {
        "nothing".to_owned()
    } else {
        info.scopes.join(", ")
    };
    let mut lines = Vec::new();
    if !info.may_send() {
        lines.push(format!(
            "this key may not send stock, it has {has}: {GRANT_SEND_HINT}"
        ));
    }
    if !info.may_list_warehouses() {
        lines.push(format!(
            "this key may not list warehouses, it has {has}: {GRANT_LIST_HINT}"
        ));
    }
    lines
}

/// The settings above the tables that differ from the defaults.
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

/// The configuration takes relative paths from its own directory, which may be another one.
fn absolute(file: &std::path::Path) -> anyhow::Result<String> {
    let file = std::path::absolute(file).with_context(|| format!("find {}", file.display()))?;
    Ok(file.display().to_string())
}
