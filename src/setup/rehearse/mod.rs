//! `rehearse`: runs the real service against the Market simulator and reports if the result is
//! correct.

mod fault_run;
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

use self::fault_run::FaultRun;
pub(crate) use self::own_stock::file_source;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use market_sim::catalogue::{self, CatalogueProduct};
use market_sim::{
    CampaignConfig, DEFAULT_BUSINESS_ID, FaultPlan, MarketSimulator, SimulatorConfig,
};

use self::scenario::Scenario;
use self::service_client::ServiceClient;
use crate::app::{App, Ownership};
use crate::command::{print_line, runtime};
use crate::config::Config;
use crate::telemetry::{LogFormat, start_logging};

// The shop of the rehearsal and its secrets, which are valid in the simulator only.
const CAMPAIGN: u64 = 12_345;
const WAREHOUSE: u64 = 569_667;
const PUSH_TOKEN: &str = "rehearsal-push-token";
const FEED_KEY: &str = "rehearsal-feed-key";
const API_KEY: &str = "rehearsal-api-key";
const SECOND_API_KEY: &str = "rehearsal-second-api-key";

/// Products of the invented seller.
const PRODUCTS: u32 = 10_000;

/// Delay until the simulator with faults shows accepted stock. The real Market takes minutes.
const VISIBILITY_DELAY: Duration = Duration::from_secs(2);

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockbridge rehearse
  stockbridge rehearse --from stock.csv --set quantity=Остаток
  stockbridge rehearse --config config.toml --shop moscow
  stockbridge rehearse --faults --seed 7";

/// Arguments of `rehearse`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Use a catalogue of N SKUs.
    #[arg(long, value_name = "N", default_value_t = PRODUCTS,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    skus: u32,
    /// Let the simulator produce every fault it knows while the shop continues to sell.
    #[arg(long)]
    faults: bool,
    /// The method by which the stock is sent.
    #[arg(long, value_enum, default_value_t)]
    method: RehearsalMethod,
    /// The seed of the random choices. The same seed gives the same faults.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Keep the service and the simulator running after the report, and print curl commands for
    /// them.
    #[arg(long)]
    keep: bool,
    /// Run the service as a separate process and kill it N times with `kill -9` while it is fed.
    #[arg(long, value_name = "N", conflicts_with_all = ["skus", "faults", "keep", "market_only"])]
    kills: Option<u32>,
    /// Run only the Market simulator, for a service that is started separately.
    #[arg(long)]
    market_only: bool,
    /// The address on which the simulator listens.
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

/// Method of the Market's API.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RehearsalMethod {
    /// `PUT /v2/campaigns/{campaignId}/offers/stocks`.
    #[default]
    Campaign,
    /// `POST /v3/businesses/{businessId}/offers/stocks/update`.
    Business,
}

/// Runs the rehearsal. Fails unless every check passes.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // The report shows the result, so only errors of the service are logged.
    let filter = std::env::var_os("RUST_LOG").and_then(|filter| filter.into_string().ok());
    // The report covers the seller's own sources, so their alarms are not logged too.
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
    let products = catalogue::generate(args.skus as usize);
    let tasks = Tasks::new(CrashSignal::default());
    let market = MarketSimulator::new(market_config(args.faults));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the Market simulator")?;
    let directory = tempfile::tempdir().context("create a directory for the store")?;
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

/// Keeps the service running after the report until Ctrl-C, with `--keep`.
async fn stay_up(args: &Args, scenario: &Scenario) -> anyhow::Result<()> {
    if args.keep {
        print_line(&scenario.curl_lines());
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    }
    Ok(())
}

/// Runs the service until the rehearsal ends, with success or not, and then stops the simulator.
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
        .context("start the Market simulator")?;
    if args.faults {
        market.set_faults(FaultPlan::all_faults(args.seed, 0.3));
    }
    print_line(&format!(
        "The Market simulator listens on {address}.\n\
         It has one campaign, {CAMPAIGN}, of the business {DEFAULT_BUSINESS_ID}, with the \
         warehouse {WAREHOUSE}. Its Api-Keys are {API_KEY} and {SECOND_API_KEY}.\n\
         Set market_url = \"http://{address}\" in the service. Print the simulator's copy with\n  \
         curl -X POST -H 'Api-Key: {API_KEY}' \
         'http://{address}/v2/campaigns/{CAMPAIGN}/offers/stocks?limit=100'\n\
         Stop it with Ctrl-C."
    ));
    tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    tasks.stop();
    tasks.ended().await;
    let report = market.report();
    print_line(&format!(
        "received {} requests with {} SKUs; stored {} SKUs; rules broken: {} {:?}",
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

/// Returns the configuration of a simulator with one campaign. `has_quirks` adds the special
/// behaviour of the real Market: reserves, a warehouse for returns, short pages and a delay until
/// stock is shown.
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

/// Returns the configuration file of the rehearsal's service.
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
         warehouses = [{WAREHOUSE}]\nbase_path = \"/market/api\"\n\
         campaign = {CAMPAIGN}\n{method_settings}",
        VISIBILITY_DELAY.as_secs() + 1
    )
}

/// Returns the secrets of the rehearsal's service, as variables.
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

/// Products and their counts, as the seller has them now.
type SellerStock = Vec<CatalogueProduct>;
