//! `selftest`: starts the integration check in a running service and prints its steps.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::command::ops_client::{OpsArgs, OpsClient, exact_time, query_string};
use crate::command::{print_line, runtime};
use crate::migrator::selftest::{Selftest, SelftestStatus};
use crate::telemetry::printable;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge selftest --shop moscow --sku 557722
  stockbridge selftest --shop moscow --sku 557722 --yes";

/// Interval at which the steps of the check are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `selftest`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shop to check.
    #[arg(long, value_name = "NAME")]
    shop: String,
    /// A product that is on sale and has stock in the service.
    #[arg(long, value_name = "SKU")]
    sku: String,
    /// Hide the product without asking for confirmation.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ops: OpsArgs,
}

/// Starts the check in the running service and prints its progress.
///
/// The service finishes the check and shows the product again even if this command is interrupted.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let client = args.ops.client()?;
        // Before the confirmation: without a running service there is nothing to confirm.
        client.get::<Value>("/status").await?;
        if !args.yes && !confirm(args)? {
            print_line("Nothing was changed.");
            return Ok(ExitCode::FAILURE);
        }
        let body = json!({ "shop": args.shop, "sku": args.sku });
        client.post::<Value>("/selftest", Some(body)).await?;
        watch(&client, &args.shop).await.context(
            "lost contact with the service during the check; if the product is hidden, the service \
             shows it again, now or at its next start",
        )
    })
}

fn confirm(args: &Args) -> anyhow::Result<bool> {
    print_line(&format!(
        "On the real Market, '{}' of {} is hidden, its stock is sent and read back, and the \
         product is shown again. This takes some minutes. Until then the product cannot be bought.",
        args.sku, args.shop
    ));
    let mut out = std::io::stdout();
    write!(out, "Continue? [y/N] ")?;
    out.flush()?;
    let mut response = String::new();
    std::io::stdin().lock().read_line(&mut response)?;
    Ok(matches!(response.trim(), "y" | "Y" | "yes"))
}

async fn watch(client: &OpsClient, shop: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/selftest{}", query_string(&[("shop", Some(shop))]));
    let mut printed = 0;
    loop {
        let tests: Vec<Option<Selftest>> = client.get(&path).await?;
        if let Some(Some(test)) = tests.first() {
            for step in test.steps.iter().skip(printed) {
                let mark = if step.is_good { "ok  " } else { "FAIL" };
                let time = exact_time(step.at);
                let second = time.split('.').next().unwrap_or(&time);
                print_line(&format!("  {mark}  {second}  {}", printable(&step.what)));
            }
            printed = test.steps.len();
            match test.state {
                SelftestStatus::Running => {}
                SelftestStatus::Passed => {
                    print_line("The integration works. The product is shown as before.");
                    return Ok(ExitCode::SUCCESS);
                }
                SelftestStatus::Failed => {
                    let visibility = if test.is_shown {
                        "the product is shown as before"
                    } else {
                        "the product is still HIDDEN. The service shows it again at its next start"
                    };
                    print_line(&format!(
                        "The check failed: see FAIL above. Now {visibility}."
                    ));
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        tokio::select! {
            () = sleep(POLL_INTERVAL) => {}
            done = tokio::signal::ctrl_c() => {
                done?;
                print_line("The service completes the check and shows the product again.");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}
