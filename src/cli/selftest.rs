use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ops_client::{OpsArgs, OpsClient, json_list, json_text, query_string};
use super::{print_line, runtime};

/// How often it is looked how far the check has come.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// With what to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shop.
    #[arg(long, value_name = "NAME")]
    shop: String,
    /// A product on sale whose stock the seller has told.
    #[arg(long, value_name = "SKU")]
    sku: String,
    /// Do not ask before the product is hidden.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ops: OpsArgs,
}

/// Has the running service make the check, and watches it.
///
/// The service finishes by itself, whatever becomes of this command: the product is shown again.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let client = args.ops.client()?;
        // Before the question: if nobody is there, there is nothing to ask.
        client.get("/status").await?;
        if !args.yes && !confirm(args)? {
            print_line("Nothing was touched.");
            return Ok(ExitCode::FAILURE);
        }
        client
            .post(
                "/selftest",
                Some(json!({ "shop": args.shop, "sku": args.sku })),
            )
            .await?;
        watch(&client, &args.shop).await.context(
            "the check cannot be watched any more; if the product is hidden, the service shows it \
             again, now or when it is started",
        )
    })
}

fn confirm(args: &Args) -> anyhow::Result<bool> {
    print_line(&format!(
        "On the real Market, '{}' of {} will be hidden, its stock sent and read back, and then it \
         is shown again. Meanwhile, some minutes, nobody can buy it.",
        args.sku, args.shop
    ));
    let mut out = std::io::stdout();
    write!(out, "Go on? [y/N] ")?;
    out.flush()?;
    let mut response = String::new();
    std::io::stdin().lock().read_line(&mut response)?;
    Ok(matches!(response.trim(), "y" | "Y" | "yes"))
}

async fn watch(client: &OpsClient, shop: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/selftest{}", query_string(&[("shop", Some(shop))]));
    let mut printed = 0;
    loop {
        let tests = client.get(&path).await?;
        let test = json_list(&tests).first().unwrap_or(&Value::Null);
        let steps = json_list(&test["steps"]);
        for step in steps.iter().skip(printed) {
            let mark = if step["is_good"] == true {
                "ok  "
            } else {
                "FAIL"
            };
            let time = json_text(&step["at"]);
            let second = time.split('.').next().unwrap_or(&time);
            print_line(&format!("  {mark}  {second}  {}", json_text(&step["what"])));
        }
        printed = steps.len();
        match test["state"].as_str() {
            Some("passed") => {
                print_line("The integration works, and the product is shown as before.");
                return Ok(ExitCode::SUCCESS);
            }
            Some("failed") => {
                let visibility = if test["is_shown"] == true {
                    "the product is shown as before"
                } else {
                    "the product is still HIDDEN; the service shows it again when it starts"
                };
                print_line(&format!("The check failed; {visibility}."));
                return Ok(ExitCode::FAILURE);
            }
            _ => {}
        }
        tokio::select! {
            () = sleep(POLL_INTERVAL) => {}
            done = tokio::signal::ctrl_c() => {
                done?;
                print_line("The service finishes the check by itself and shows the product again.");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}
