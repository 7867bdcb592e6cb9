//! A rehearsal with the seller's own stock: his sources, as they are, into the whole service.
//!
//! What they say is read a second time beside the service, and the Market's copy must equal
//! that. Nothing is sent anywhere but to the Market in miniature; a source is only read.

mod given;
mod reports;
mod witness;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::time::Instant;

use self::given::Given;
pub(in crate::cli) use self::given::file_source;
use self::reports::reports;
use self::witness::Witness;
use super::scenes::{Scenes, push};
use super::shop::Shop;
use super::{any_port, keep, market_config, perform, secrets, settings};
use crate::app::{App, Claim};
use crate::cli::operator::Operator;
use crate::cli::say;
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{Fuse, Tasks};
use crate::rehearsal::catalogue::Product;
use crate::rehearsal::{Market, MarketConfig, PushReport};

/// SKUs a minute that the Market takes of a campaign.
const MARKET_TAKES: usize = 100_000;

/// Whose stock it is.
#[derive(Debug, clap::Args)]
pub(super) struct OwnArgs {
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

impl OwnArgs {
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
        let is_named = from.is_some() || from_handler.is_some() || config.is_some();
        is_named || skus_file.is_some() || !set.is_empty()
    }
}

/// Rehearses with it.
pub(super) async fn rehearse(args: &super::Args) -> anyhow::Result<ExitCode> {
    let directory = tempfile::tempdir().context("make a directory for the store")?;
    let given = Given::of(&args.own, directory.path()).await?;
    say("Your own stock, the whole service, and a Market in miniature with the real one's limits.");
    let begun = Instant::now();
    let witness = Witness::hear(&given, directory.path()).await?;

    let tasks = Tasks::new(Fuse::default());
    // The Market sells what the seller has, and shows nothing else. What is not a file may have
    // something new a moment later, which the Market would know too.
    let catalogue = given.stands_still().then(|| witness.skus().collect());
    let market = Market::new(MarketConfig {
        catalogue,
        ..market_config(false)
    });
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the rehearsal Market")?;
    let text = settings(
        any_port(),
        any_port(),
        &format!("http://{address}"),
        args.method,
    );
    let mut config = Config::parse(&text, secrets(), directory.path())?;
    config.ca_file.clone_from(&given.ca_file);
    config.shops[0].sources.clone_from(&given.sources);
    config.shops[0].rules.clone_from(&given.rules);
    let app = App::build(config, Clock::wall(), Claim::Respect).await?;
    let shop = Shop::new(app.public_addr(), app.ops_addr())?;

    let play = async {
        let reports = reports(&Operator::at(shop.ops)?, witness.rows()).await?;
        reports.iter().for_each(|report| say(&report.to_string()));
        if !reports.iter().all(|report| report.is_taken()) {
            say("\nNOT well: nothing of this was sent, not even to the Market in miniature.");
            return Ok(false);
        }
        let dates: Vec<_> = reports.iter().map(|report| report.stated_at).collect();
        let shelf = witness.shelf(&dates);
        tell_of(&shelf, given.asked_for());
        let push = push(&shop, &shelf).await;
        let shelf = settle(&given, directory.path(), shelf, &dates, &push).await?;
        let scenes = Scenes::filled(shop, market.clone(), shelf);
        let verdict = scenes.play_out(push, begun).await?;
        say(&verdict.to_string());
        keep(args, &scenes).await?;
        Ok(verdict.is_good())
    };
    perform(app, &tasks, play).await
}

/// What the shop has, and how long the Market will take to take it.
fn tell_of(shelf: &[Product], asked_for: Option<usize>) {
    if let Some(asked) = asked_for {
        let silent = asked.saturating_sub(shelf.len());
        say(&format!(
            "{:<12} {asked} SKUs were asked for, and of {silent} the handler says nothing that \
             can be taken",
            ""
        ));
    }
    let zeros = shelf.iter().filter(|product| product.count == 0).count();
    say(&format!(
        "{:<12} {} SKUs to answer for, {zeros} of them sold out",
        "stock",
        shelf.len()
    ));
    if shelf.len() > MARKET_TAKES {
        say(&format!(
            "{:<12} {} min or a little more: the Market takes {MARKET_TAKES} SKUs a minute",
            "expected",
            shelf.len() / MARKET_TAKES
        ));
    }
}

/// Takes out of the reckoning what has changed in the source while it was read.
///
/// What is answered differs from what was read first, either because of us, or because
/// something was sold in between: then it reads otherwise now.
async fn settle(
    given: &Given,
    spool: &std::path::Path,
    shelf: Vec<Product>,
    dates: &[crate::stock::Instant],
    push: &PushReport,
) -> anyhow::Result<Vec<Product>> {
    let answered = |sku: &str| push.stocks.get(sku).map(|(count, _)| *count);
    let is_other = |product: &Product| answered(&product.sku) != Some(product.count);
    if given.stands_still() || !shelf.iter().any(is_other) {
        return Ok(shelf);
    }
    let now = Witness::hear(given, spool).await?.shelf(dates);
    let now: HashMap<&str, u32> = now.iter().map(|p| (p.sku.as_str(), p.count)).collect();
    let mut moved = 0;
    let settled = shelf.into_iter().map(|product| {
        let Product { sku, count } = &product;
        let count = match answered(sku) {
            Some(answer) if answer != *count && now.get(sku.as_str()) != Some(count) => {
                moved += 1;
                answer
            }
            Some(_) | None => *count,
        };
        Product { count, ..product }
    });
    let settled = settled.collect();
    say(&format!(
        "{:<12} {moved} SKUs in the source while it was read",
        "changed"
    ));
    Ok(settled)
}
