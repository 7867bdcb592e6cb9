//! The whole job on one machine: the real service, a Market in miniature, a verdict.

mod kill_test;
mod own_stock;
mod rehearsal_report;
mod scenario;
mod service_client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub(super) use self::own_stock::file_source;
use self::scenario::{FaultRun, Scenario};
use self::service_client::ServiceClient;
use super::{print_line, runtime};
use crate::app::{App, Ownership};
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{CrashSignal, Tasks};
use crate::market_sim::catalogue::{self, CatalogueProduct};
use crate::market_sim::{
    CampaignConfig, DEFAULT_BUSINESS_ID, FaultPlan, MarketSimulator, SimulatorConfig,
};
use crate::telemetry::{LogFormat, start_logging};

/// The shop of the rehearsal.
const CAMPAIGN: u64 = 12_345;
const WAREHOUSE: u64 = 569_667;
const PUSH_TOKEN: &str = "rehearsal-push-token";
const FEED_KEY: &str = "rehearsal-feed-key";
const API_KEY: &str = "rehearsal-api-key";
const SECOND_API_KEY: &str = "rehearsal-second-api-key";

/// How long an odd Market takes to show what it took: minutes of the real one's.
const VISIBILITY_DELAY: Duration = Duration::from_secs(2);

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
    method: RehearsalMethod,
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
    own: own_stock::OwnStockArgs,
}

/// One of the Market's two methods.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RehearsalMethod {
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
    let default_filter = if args.own.is_given() {
        "error,stockbridge::telemetry=off"
    } else {
        "error"
    };
    let filter = filter.unwrap_or_else(|| default_filter.to_owned());
    start_logging(LogFormat::Auto, &filter)
        .map_err(|reason| anyhow::anyhow!("start logging: {reason}"))?;
    runtime()?.block_on(async {
        match args.kills {
            Some(kills) => kill_test::run(kills, args.seed).await,
            None if args.market_only => market_only(args).await,
            None if args.own.is_given() => own_stock::rehearse(args).await,
            None => rehearse(args).await,
        }
    })
}

async fn rehearse(args: &Args) -> anyhow::Result<ExitCode> {
    let products = match args.skus {
        None => catalogue::parse(catalogue::FIXTURE).map_err(anyhow::Error::msg)?,
        Some(n) => catalogue::generate(n as usize),
    };
    let tasks = Tasks::new(CrashSignal::default());
    let market = MarketSimulator::new(market_config(args.faults));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the rehearsal Market")?;
    let directory = tempfile::tempdir().context("make a directory for the store")?;
    let text = service_config(
        any_port(),
        any_port(),
        &format!("http://{address}"),
        args.method,
    );
    let config = Config::parse(&text, service_secrets(), directory.path())?;
    let app = App::build(config, Clock::wall(), Ownership::Verify).await?;
    let limit = match args.method {
        RehearsalMethod::Campaign => 50_000,
        RehearsalMethod::Business => 40,
    };
    let fault_run = args.faults.then_some(FaultRun {
        seed: args.seed,
        advertised_limit: limit,
    });
    let service = ServiceClient::new(app.public_addr(), app.ops_addr())?;
    let scenario = Scenario::with_feed(service, market, products, fault_run);
    let rehearsal = async {
        let report = scenario.run().await?;
        print_line(&report.to_string());
        stay_up(args, &scenario).await?;
        anyhow::Ok(report.is_good())
    };
    run_with_service(app, &tasks, rehearsal).await
}

/// Stays up after the verdict, if that was asked for.
async fn stay_up(args: &Args, scenario: &Scenario) -> anyhow::Result<()> {
    if args.keep {
        print_line(&scenario.curl_lines());
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    }
    Ok(())
}

/// Runs the service for as long as the play lasts, however that ends; then the Market's tasks
/// stop too.
async fn run_with_service(
    app: App,
    tasks: &Tasks,
    rehearsal: impl Future<Output = anyhow::Result<bool>>,
) -> anyhow::Result<ExitCode> {
    let stop = tokio_util::sync::CancellationToken::new();
    let service = app.run(stop.clone().cancelled_owned());
    let rehearsal = async {
        let outcome = rehearsal.await;
        stop.cancel();
        outcome
    };
    let (service_result, outcome) = tokio::join!(service, rehearsal);
    tasks.stop();
    tasks.ended().await;
    let is_good = outcome?;
    service_result.context("the service failed")?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn market_only(args: &Args) -> anyhow::Result<ExitCode> {
    let tasks = Tasks::new(CrashSignal::default());
    let market = MarketSimulator::new(market_config(args.faults));
    let address = market
        .start(args.listen, &tasks)
        .await
        .context("start the rehearsal Market")?;
    if args.faults {
        market.set_faults(FaultPlan::all_faults(args.seed, 0.3));
    }
    print_line(&format!(
        "A Market in miniature listens on {address}.\n\
         Its one shop is campaign {CAMPAIGN} of the business {DEFAULT_BUSINESS_ID}, with warehouse \
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
    print_line(&format!(
        "{} requests with {} SKUs came, {} SKUs are known, {} rules were broken {:?}",
        report.updates,
        report.skus_received,
        market.len(CAMPAIGN),
        report.total_violations(),
        report.violations,
    ));
    Ok(if report.total_violations() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A Market with one shop; one that fails has every oddity of the real one besides.
fn market_config(has_quirks: bool) -> SimulatorConfig {
    let keys = vec![API_KEY.to_owned(), SECOND_API_KEY.to_owned()];
    let campaigns = vec![CampaignConfig::new(CAMPAIGN, WAREHOUSE, keys)];
    let config = SimulatorConfig {
        campaigns,
        ..SimulatorConfig::new(Clock::wall())
    };
    if !has_quirks {
        return config;
    }
    SimulatorConfig {
        reserved: 2,
        return_warehouse: Some(WAREHOUSE + 1),
        short_pages: true,
        visibility_delay: VISIBILITY_DELAY,
        ..config
    }
}

/// The settings of the rehearsal's service.
fn service_config(
    listen: SocketAddr,
    ops: SocketAddr,
    market_url: &str,
    method: RehearsalMethod,
) -> String {
    let business_settings = format!("method = \"business\"\nbusiness = {DEFAULT_BUSINESS_ID}\n");
    let method_settings = match method {
        RehearsalMethod::Campaign => "",
        RehearsalMethod::Business => &business_settings,
    };
    format!(
        "listen = \"{listen}\"\nops_listen = \"{ops}\"\nstore = \"store\"\n\
         market_url = \"{market_url}\"\ngrace_seconds = {}\n[[shops]]\nname = \"rehearsal\"\n\
         warehouses = [{WAREHOUSE}]\nbase_path = \"/market/api\"\ncampaign = {CAMPAIGN}\n{method_settings}",
        VISIBILITY_DELAY.as_secs() + 1
    )
}

/// And its secrets, as variables.
fn service_secrets() -> BTreeMap<String, String> {
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
type SellerStock = Vec<CatalogueProduct>;
