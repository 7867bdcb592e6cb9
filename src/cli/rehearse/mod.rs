//! The whole job on one machine: the real service, a Market in miniature, a verdict.

mod kills;
mod own;
mod scenes;
mod shop;
mod verdict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub(super) use self::own::file_source;
use self::scenes::{Scenes, Storm};
use self::shop::Shop;
use super::{runtime, say};
use crate::app::{App, Claim};
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{Fuse, Tasks};
use crate::rehearsal::catalogue::{self, Product};
use crate::rehearsal::{CampaignConfig, FaultPlan, HOME_BUSINESS, Market, MarketConfig};
use crate::telemetry::{LogFormat, start_logging};

/// The shop of the rehearsal.
const CAMPAIGN: u64 = 12_345;
const WAREHOUSE: u64 = 569_667;
const PUSH_TOKEN: &str = "rehearsal-push-token";
const FEED_KEY: &str = "rehearsal-feed-key";
const API_KEY: &str = "rehearsal-api-key";
const SECOND_API_KEY: &str = "rehearsal-second-api-key";

/// How long an odd Market takes to show what it took: minutes of the real one's.
const GRACE: Duration = Duration::from_secs(2);

/// What to rehearse.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Invent a catalogue of so many SKUs instead of using the sample of 10 000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    skus: Option<u32>,
    /// Let the Market fail in every way it knows while the shop goes on selling.
    #[arg(long)]
    faults: bool,
    /// By which of the Market's two methods the stock is sent.
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// Chooses which requests fail; the same seed, the same faults.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Stay up after the verdict, for calls by hand.
    #[arg(long)]
    keep: bool,
    /// Run the service as a process of its own and kill it so many times while it is fed.
    #[arg(long, value_name = "N", conflicts_with_all = ["skus", "faults", "keep", "market_only"])]
    kills: Option<u32>,
    /// Run the Market in miniature alone, for a service that is started by itself.
    #[arg(long)]
    market_only: bool,
    /// Where the Market in miniature listens.
    #[arg(
        long,
        value_name = "ADDR",
        requires = "market_only",
        default_value = "127.0.0.1:8090"
    )]
    listen: SocketAddr,
    #[command(flatten)]
    own: own::OwnArgs,
}

/// One of the Market's two methods.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Method {
    /// `PUT /v2/campaigns/{campaignId}/offers/stocks`.
    #[default]
    Campaign,
    /// `POST /v3/businesses/{businessId}/offers/stocks/update`.
    Business,
}

/// Rehearses, and fails unless all went well.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // The rehearsal speaks for itself; what the service logs is of interest if it is a fault.
    let filter = std::env::var_os("RUST_LOG").and_then(|filter| filter.into_string().ok());
    // What becomes of a source of his own the seller is told in words of the rehearsal.
    let usual = if args.own.is_given() {
        "error,stockbridge::telemetry=off"
    } else {
        "error"
    };
    let filter = filter.unwrap_or_else(|| usual.to_owned());
    start_logging(LogFormat::Auto, &filter)
        .map_err(|reason| anyhow::anyhow!("start logging: {reason}"))?;
    runtime()?.block_on(async {
        match args.kills {
            Some(kills) => kills::run(kills, args.seed).await,
            None if args.market_only => market_only(args).await,
            None if args.own.is_given() => own::rehearse(args).await,
            None => rehearse(args).await,
        }
    })
}

async fn rehearse(args: &Args) -> anyhow::Result<ExitCode> {
    let products = match args.skus {
        None => catalogue::read(catalogue::FIXTURE).map_err(anyhow::Error::msg)?,
        Some(n) => catalogue::invent(n as usize),
    };
    let tasks = Tasks::new(Fuse::default());
    let market = Market::new(market_config(args.faults));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the rehearsal Market")?;
    let directory = tempfile::tempdir().context("make a directory for the store")?;
    let text = settings(
        any_port(),
        any_port(),
        &format!("http://{address}"),
        args.method,
    );
    let config = Config::parse(&text, secrets(), directory.path())?;
    let app = App::build(config, Clock::wall(), Claim::Respect).await?;
    let limit = match args.method {
        Method::Campaign => 50_000,
        Method::Business => 40,
    };
    let storm = args.faults.then_some(Storm {
        seed: args.seed,
        limit,
    });
    let shop = Shop::new(app.public_addr(), app.ops_addr())?;
    let scenes = Scenes::fed(shop, market, products, storm);
    let play = async {
        let verdict = scenes.play().await?;
        say(&verdict.to_string());
        keep(args, &scenes).await?;
        anyhow::Ok(verdict.is_good())
    };
    perform(app, &tasks, play).await
}

/// Stays up after the verdict, if that was asked for.
async fn keep(args: &Args, scenes: &Scenes) -> anyhow::Result<()> {
    if args.keep {
        say(&scenes.curl_lines());
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    }
    Ok(())
}

/// Runs the service for as long as the play lasts, however that ends; then the Market's tasks
/// stop too.
async fn perform(
    app: App,
    tasks: &Tasks,
    play: impl Future<Output = anyhow::Result<bool>>,
) -> anyhow::Result<ExitCode> {
    let stop = tokio_util::sync::CancellationToken::new();
    let running = app.run(stop.clone().cancelled_owned());
    let play = async {
        let played = play.await;
        stop.cancel();
        played
    };
    let (ran, played) = tokio::join!(running, play);
    tasks.stop();
    tasks.ended().await;
    let is_good = played?;
    ran.context("the service failed")?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn market_only(args: &Args) -> anyhow::Result<ExitCode> {
    let tasks = Tasks::new(Fuse::default());
    let market = Market::new(market_config(args.faults));
    let address = market
        .start(args.listen, &tasks)
        .await
        .context("start the rehearsal Market")?;
    if args.faults {
        market.set_faults(FaultPlan::storm(args.seed, 0.3));
    }
    say(&format!(
        "A Market in miniature listens on {address}.\n\
         Its one shop is campaign {CAMPAIGN} of the business {HOME_BUSINESS}, with warehouse \
         {WAREHOUSE}; its keys are {API_KEY} and {SECOND_API_KEY}.\n\
         Point a service at it with market_url = \"http://{address}\", and look at its copy with\n  \
         curl -X POST -H 'Api-Key: {API_KEY}' \
         'http://{address}/v2/campaigns/{CAMPAIGN}/offers/stocks?limit=100'\n\
         Ctrl-C ends it."
    ));
    tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    tasks.stop();
    tasks.ended().await;
    let report = market.report();
    say(&format!(
        "{} requests with {} SKUs came, {} SKUs are known, {} rules were broken {:?}",
        report.requests,
        report.skus_received,
        market.len(CAMPAIGN),
        report.broken_in_all(),
        report.broken,
    ));
    Ok(if report.broken_in_all() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A Market with one shop; one that fails has every oddity of the real one besides.
fn market_config(is_odd: bool) -> MarketConfig {
    let keys = vec![API_KEY.to_owned(), SECOND_API_KEY.to_owned()];
    let campaigns = vec![CampaignConfig::new(CAMPAIGN, WAREHOUSE, keys)];
    let config = MarketConfig {
        campaigns,
        ..MarketConfig::new(Clock::wall())
    };
    if !is_odd {
        return config;
    }
    MarketConfig {
        reserved: 2,
        return_warehouse: Some(WAREHOUSE + 1),
        thin_pages: true,
        visible_after: GRACE,
        ..config
    }
}

/// The settings of the rehearsal's service.
fn settings(listen: SocketAddr, ops: SocketAddr, market_url: &str, method: Method) -> String {
    let by_business = format!("method = \"business\"\nbusiness = {HOME_BUSINESS}\n");
    let method = match method {
        Method::Campaign => "",
        Method::Business => &by_business,
    };
    format!(
        "listen = \"{listen}\"\nops_listen = \"{ops}\"\nstore = \"store\"\n\
         market_url = \"{market_url}\"\ngrace_seconds = {}\n[[shops]]\nname = \"rehearsal\"\n\
         warehouses = [{WAREHOUSE}]\nbase_path = \"/market/api\"\ncampaign = {CAMPAIGN}\n{method}",
        GRACE.as_secs() + 1
    )
}

/// And its secrets, as variables.
fn secrets() -> BTreeMap<String, String> {
    let secrets = [
        ("PUSH_TOKEN", PUSH_TOKEN),
        ("FEED_KEY", FEED_KEY),
        ("API_KEY", API_KEY),
        ("API_KEY_2", SECOND_API_KEY),
    ];
    let name = |key| format!("STOCKBRIDGE_SHOPS_REHEARSAL_{key}");
    secrets
        .into_iter()
        .map(|(key, secret)| (name(key), secret.to_owned()))
        .collect()
}

/// A product and how many of it the seller has now.
type Shelf = Vec<Product>;
