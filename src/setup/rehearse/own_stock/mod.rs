//! Rehearsal with the seller's own stock, from a file, an old handler or the configured sources.
//!
//! The service shows its stock to a client of the Market's API after it has read the sources. Its
//! responses to the Market and the simulator's copy must equal that stock. Stock is sent to the
//! Market simulator only, and sources are only read.

mod inputs;
mod source_reports;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::time::Instant;

use self::inputs::RehearsalInputs;
pub(crate) use self::inputs::file_source;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use market_sim::MarketSimulator;
use market_sim::catalogue::CatalogueProduct;

use self::source_reports::wait_for_sources;
use super::scenario::{Scenario, ask_everything};
use super::service_client::ServiceClient;
use super::{any_port, market_config, run_with_service, service_config, service_secrets, stay_up};
use crate::app::{App, Ownership};
use crate::command::ops_client::OpsClient;
use crate::command::print_line;
use crate::config::Config;

/// Rate limit of a campaign, in SKUs a minute. Source: limits page, 2026.
const MARKET_SKUS_PER_MINUTE: usize = 100_000;

/// Arguments for the seller's own stock.
#[derive(Debug, clap::Args)]
pub(super) struct OwnStockArgs {
    /// Rehearse with the stock in this file: CSV, XLSX, XLS, YML, CommerceML, JSON or NDJSON, also
    /// packed as gzip or zip.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["skus", "faults", "kills", "market_only"])]
    from: Option<PathBuf>,
    /// Rehearse with the stock of your present handler at this address. The SKUs to request are in
    /// --skus-file or in --from. `--set ask_warehouse=ID` sets the warehouse in the requests.
    #[arg(
        long,
        value_name = "URL",
        requires = "token_file",
        conflicts_with_all = ["skus", "faults", "kills", "market_only", "config"]
    )]
    from_handler: Option<String>,
    /// A file with the token that your handler expects from the Market.
    #[arg(long, value_name = "FILE", requires = "from_handler")]
    token_file: Option<PathBuf>,
    /// A text file with the SKUs to request from the handler, one per line.
    #[arg(long, value_name = "FILE")]
    skus_file: Option<PathBuf>,
    /// A setting of `[[shops.sources]]` for the file or the handler, such as `quantity=Остаток`,
    /// `warehouses=*` or `token_in=query`. May be repeated. Lists and tables are written as in
    /// TOML.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "config")]
    set: Vec<String>,
    /// Rehearse with the sources of this configuration. With --from, the file is read with the
    /// settings of the source.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["skus", "faults", "kills", "market_only"])]
    config: Option<PathBuf>,
    /// The shop of the configuration. Needed if it has several.
    #[arg(long, value_name = "NAME", requires = "config")]
    shop: Option<String>,
    /// Only this source of the shop.
    #[arg(long, value_name = "NAME", requires = "config")]
    source: Option<String>,
}

impl OwnStockArgs {
    /// Returns true if an argument names stock.
    pub(super) fn is_given(&self) -> bool {
        let Self {
            from,
            from_handler,
            skus_file,
            set,
            config,
            ..
        } = self;
        let has_source = from.is_some() || from_handler.is_some() || config.is_some();
        has_source || skus_file.is_some() || !set.is_empty()
    }
}

/// Runs the rehearsal. Fails unless every source is applied and every check passes.
pub(super) async fn rehearse(args: &super::Args) -> anyhow::Result<ExitCode> {
    let directory = tempfile::tempdir().context("create a directory for the store")?;
    let inputs = RehearsalInputs::load(&args.own, directory.path()).await?;
    print_line("Your own stock, the whole service, and the Market simulator with the real limits.");
    let started = Instant::now();

    let tasks = Tasks::new(CrashSignal::default());
    let market = MarketSimulator::new(market_config(false));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the Market simulator")?;
    let text = service_config(
        any_port(),
        any_port(),
        &format!("http://{address}"),
        args.method,
    );
    let mut config = Config::parse(&text, service_secrets(), directory.path())?;
    config.ca_file.clone_from(&inputs.ca_file);
    config.shops[0].sources.clone_from(&inputs.sources);
    config.shops[0].rules.clone_from(&inputs.rules);
    let app = App::build(config, Clock::wall(), Ownership::Verify).await?;
    let service = ServiceClient::new(app.public_addr(), app.ops_addr())?;

    let rehearsal = async {
        let reports = wait_for_sources(&OpsClient::new(service.ops)?).await?;
        reports
            .iter()
            .for_each(|report| print_line(&report.to_string()));
        if !reports.iter().all(|report| report.is_applied()) {
            print_line("\nFAILED: a source was not applied, see above. Nothing was sent.");
            return Ok(false);
        }
        let stock = service.stock().await?;
        print_summary(&stock, inputs.handler_sku_count());
        let push_report = ask_everything(&service, &stock).await;
        let scenario = Scenario::with_sources(service, market.clone(), stock);
        let report = scenario.run_after_feed(push_report, started).await?;
        print_line(&report.to_string());
        stay_up(args, &scenario).await?;
        Ok(report.is_good())
    };
    run_with_service(app, &tasks, rehearsal).await
}

/// Prints the size of the stock, and the expected time if it exceeds the limit of one minute.
fn print_summary(stock: &[CatalogueProduct], requested: Option<usize>) {
    if let Some(requested) = requested {
        let unanswered = requested.saturating_sub(stock.len());
        print_line(&format!(
            "{:<12} {requested} SKUs were requested, and for {unanswered} of them the handler \
             returned no valid count",
            ""
        ));
    }
    let zeros = stock.iter().filter(|product| product.count == 0).count();
    print_line(&format!(
        "{:<12} {} SKUs, {zeros} of them with count 0",
        "stock",
        stock.len()
    ));
    if stock.len() > MARKET_SKUS_PER_MINUTE {
        print_line(&format!(
            "{:<12} at least {} min: the Market's limit is {MARKET_SKUS_PER_MINUTE} SKUs a minute",
            "expected",
            stock.len() / MARKET_SKUS_PER_MINUTE
        ));
    }
}
