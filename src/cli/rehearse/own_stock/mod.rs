//! A rehearsal with the seller's own stock: his sources, as they are, into the whole service.
//!
//! What they say is read a second time beside the service, and the Market's copy must equal
//! that. Nothing is sent anywhere but to the Market in miniature; a source is only read.

mod inputs;
mod reference_model;
mod source_reports;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::time::Instant;

use self::inputs::RehearsalInputs;
pub(in crate::cli) use self::inputs::file_source;
use self::reference_model::ReferenceModel;
use self::source_reports::wait_for_sources;
use super::scenario::{Scenario, ask_everything};
use super::service_client::ServiceClient;
use super::{any_port, market_config, run_with_service, service_config, service_secrets, stay_up};
use crate::app::{App, Ownership};
use crate::cli::ops_client::OpsClient;
use crate::cli::print_line;
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{CrashSignal, Tasks};
use crate::market_sim::catalogue::CatalogueProduct;
use crate::market_sim::{MarketSimulator, PushReport, SimulatorConfig};

/// SKUs a minute that the Market takes of a campaign.
const MARKET_SKUS_PER_MINUTE: usize = 100_000;

/// Whose stock it is.
#[derive(Debug, clap::Args)]
pub(super) struct OwnStockArgs {
    /// Rehearse with the stock in this file of yours: CSV, XLSX, XLS, YML, CommerceML or JSON,
    /// as it is or packed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["skus", "faults", "kills", "market_only"])]
    from: Option<PathBuf>,
    /// Rehearse with the stock that your handler of today answers at this address; it is asked
    /// for the SKUs in --skus-file, or in --from, and about the warehouse in
    /// `--set ask_warehouse=ID`.
    #[arg(
        long,
        value_name = "URL",
        requires = "token_file",
        conflicts_with_all = ["skus", "faults", "kills", "market_only", "config"]
    )]
    from_handler: Option<String>,
    /// A file that holds the token your handler lets the Market in by.
    #[arg(long, value_name = "FILE", requires = "from_handler")]
    token_file: Option<PathBuf>,
    /// A text file with the SKUs to ask a handler for, one a line.
    #[arg(long, value_name = "FILE")]
    skus_file: Option<PathBuf>,
    /// A setting of [[shops.sources]] for the file or the handler, such as `quantity=Остаток`,
    /// `warehouses=*` or `token_in=query`; lists and tables as in the configuration.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "config")]
    set: Vec<String>,
    /// Rehearse with the sources of this configuration, as they are set there; with --from, that
    /// file is read as its source would.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["skus", "faults", "kills", "market_only"])]
    config: Option<PathBuf>,
    /// Which shop of the configuration, if it has several.
    #[arg(long, value_name = "NAME", requires = "config")]
    shop: Option<String>,
    /// This source of the shop alone.
    #[arg(long, value_name = "NAME", requires = "config")]
    source: Option<String>,
}

impl OwnStockArgs {
    /// Whether any stock was named.
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

/// Rehearses with it.
pub(super) async fn rehearse(args: &super::Args) -> anyhow::Result<ExitCode> {
    let directory = tempfile::tempdir().context("make a directory for the store")?;
    let inputs = RehearsalInputs::load(&args.own, directory.path()).await?;
    print_line(
        "Your own stock, the whole service, and a Market in miniature with the real one's limits.",
    );
    let started = Instant::now();
    let model = ReferenceModel::read(&inputs, directory.path()).await?;

    let tasks = Tasks::new(CrashSignal::default());
    // The Market sells what the seller has, and shows nothing else. What is not a file may have
    // something new a moment later, which the Market would know too.
    let catalogue = inputs.is_static().then(|| model.skus().collect());
    let market = MarketSimulator::new(SimulatorConfig {
        catalogue,
        ..market_config(false)
    });
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the rehearsal Market")?;
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
        let reports = wait_for_sources(&OpsClient::new(service.ops)?, model.rows()).await?;
        reports
            .iter()
            .for_each(|report| print_line(&report.to_string()));
        if !reports.iter().all(|report| report.is_applied()) {
            print_line(
                "\nNOT well: nothing of this was sent, not even to the Market in miniature.",
            );
            return Ok(false);
        }
        let dates: Vec<_> = reports.iter().map(|report| report.stated_at).collect();
        let stock = model.stock(&dates);
        print_summary(&stock, inputs.handler_sku_count());
        let push_report = ask_everything(&service, &stock).await;
        let stock =
            adopt_source_changes(&inputs, directory.path(), stock, &dates, &push_report).await?;
        let scenario = Scenario::with_sources(service, market.clone(), stock);
        let report = scenario.run_after_feed(push_report, started).await?;
        print_line(&report.to_string());
        stay_up(args, &scenario).await?;
        Ok(report.is_good())
    };
    run_with_service(app, &tasks, rehearsal).await
}

/// What the shop has, and how long the Market will take to take it.
fn print_summary(stock: &[CatalogueProduct], requested: Option<usize>) {
    if let Some(requested) = requested {
        let unanswered = requested.saturating_sub(stock.len());
        print_line(&format!(
            "{:<12} {requested} SKUs were asked for, and of {unanswered} the handler says nothing that \
             can be taken",
            ""
        ));
    }
    let zeros = stock.iter().filter(|product| product.count == 0).count();
    print_line(&format!(
        "{:<12} {} SKUs to answer for, {zeros} of them sold out",
        "stock",
        stock.len()
    ));
    if stock.len() > MARKET_SKUS_PER_MINUTE {
        print_line(&format!(
            "{:<12} {} min or a little more: the Market takes {MARKET_SKUS_PER_MINUTE} SKUs a minute",
            "expected",
            stock.len() / MARKET_SKUS_PER_MINUTE
        ));
    }
}

/// Takes out of the reckoning what has changed in the source while it was read.
///
/// What is answered differs from what was read first, either because of us, or because
/// something was sold in between: then it reads otherwise now.
async fn adopt_source_changes(
    inputs: &RehearsalInputs,
    spool: &std::path::Path,
    stock: Vec<CatalogueProduct>,
    dates: &[crate::stock::Timestamp],
    push: &PushReport,
) -> anyhow::Result<Vec<CatalogueProduct>> {
    let answered_count = |sku: &str| push.stocks.get(sku).map(|(count, _)| *count);
    let is_different =
        |product: &CatalogueProduct| answered_count(&product.sku) != Some(product.count);
    if inputs.is_static() || !stock.iter().any(is_different) {
        return Ok(stock);
    }
    let current_stock = ReferenceModel::read(inputs, spool).await?.stock(dates);
    let current: HashMap<&str, u32> = current_stock
        .iter()
        .map(|p| (p.sku.as_str(), p.count))
        .collect();
    let mut changed = 0;
    let settled = stock.into_iter().map(|product| {
        let CatalogueProduct { sku, count } = &product;
        let count = match answered_count(sku) {
            Some(response) if response != *count && current.get(sku.as_str()) != Some(count) => {
                changed += 1;
                response
            }
            Some(_) | None => *count,
        };
        CatalogueProduct { count, ..product }
    });
    let settled = settled.collect();
    print_line(&format!(
        "{:<12} {changed} SKUs in the source while it was read",
        "changed"
    ));
    Ok(settled)
}
