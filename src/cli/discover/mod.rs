//! Asks the Market what a cabinet holds, and writes the shops of the configuration from it.

mod identify;
mod name;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use self::identify::identify;
use self::plan::plan;
use super::survey::{Cabinet, Survey, TICK_TO_LIST, TICK_TO_SEND};
use super::{runtime, say, tell};
use crate::clock::Clock;
use crate::config::{SETTINGS, parse_market_url, read_secret};
use crate::http::secret::Secret;
use crate::http::{ClientConfig, Trust, client};
use crate::partner::cabinet::{Campaign, KeyInfo};
use crate::partner::client::MarketClient;

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
    let head = settings(args)?;
    let key_file = absolute(&args.api_key_file)?;
    runtime()?.block_on(async {
        let survey = Survey::of(&market, &key, Clock::wall()).await;
        for line in complaints(&survey) {
            tell(&line);
        }
        let Ok(campaigns) = &survey.campaigns else {
            return Ok(ExitCode::FAILURE);
        };
        let cabinets = ask_cabinets(&market, &key, campaigns).await;
        let plan = plan(campaigns, &cabinets, &key_file);
        let ids = args
            .ids
            .iter()
            .flat_map(|id| identify(*id, campaigns, &cabinets));
        let ids: String = ids.map(|line| format!("# {line}\n")).collect();
        let blank = if ids.is_empty() { "" } else { "\n" };
        say(format!("{head}{ids}{blank}{plan}").trim_end());
        if plan.shops().next().is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        tell("no shop could be made of what the Market lists");
        Ok(ExitCode::FAILURE)
    })
}

async fn ask_cabinets(
    market: &MarketClient,
    key: &Secret,
    campaigns: &[Campaign],
) -> BTreeMap<u64, Cabinet> {
    let businesses: BTreeSet<u64> = campaigns.iter().filter_map(Campaign::business_id).collect();
    let mut cabinets = BTreeMap::new();
    // One after the other: the Market allows 100 such calls an hour and likes few at a time.
    for business in businesses {
        let cabinet = Cabinet::of(market, key, business).await;
        if let Err(error) = &cabinet.warehouses {
            tell(&format!(
                "the warehouses of cabinet {business} are not known: {error}"
            ));
        }
        cabinets.insert(business, cabinet);
    }
    cabinets
}

/// What stands in the way, and what to do about it.
fn complaints(survey: &Survey) -> Vec<String> {
    let mut lines = match &survey.key {
        Ok(info) => missing_scopes(info),
        Err(error) => vec![format!("what the key may do is not known: {error}")],
    };
    match &survey.campaigns {
        Ok(campaigns) if campaigns.is_empty() => {
            lines.push("the key sees no campaign: it belongs to another cabinet".to_owned());
        }
        Ok(_) => {}
        Err(error) => lines.push(format!("the campaigns are not known: {error}")),
    }
    lines
}

fn missing_scopes(info: &KeyInfo) -> Vec<String> {
    let has = if info.scopes.is_empty() {
        "nothing".to_owned()
    } else {
        info.scopes.join(", ")
    };
    let mut lines = Vec::new();
    if !info.may_send() {
        lines.push(format!(
            "this key may not send stock, it has {has}: {TICK_TO_SEND}"
        ));
    }
    if !info.may_list_warehouses() {
        lines.push(format!(
            "this key may not list warehouses, it has {has}: {TICK_TO_LIST}"
        ));
    }
    lines
}

/// The settings above the tables that differ from the defaults.
fn settings(args: &Args) -> anyhow::Result<String> {
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
