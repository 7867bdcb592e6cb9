use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::operator::{Operator, OpsArgs, list, query, text};
use super::{runtime, say};

/// How often it is looked how far the check has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
        let operator = args.ops.operator()?;
        // Before the question: if nobody is there, there is nothing to ask.
        operator.get("/status").await?;
        if !args.yes && !agreed(args)? {
            say("Nothing was touched.");
            return Ok(ExitCode::FAILURE);
        }
        operator
            .post(
                "/selftest",
                Some(json!({ "shop": args.shop, "sku": args.sku })),
            )
            .await?;
        watch(&operator, &args.shop).await.context(
            "the check cannot be watched any more; if the product is hidden, the service shows it \
             again, now or when it is started",
        )
    })
}

fn agreed(args: &Args) -> anyhow::Result<bool> {
    say(&format!(
        "On the real Market, '{}' of {} will be hidden, its stock sent and read back, and then it \
         is shown again. Meanwhile, some minutes, nobody can buy it.",
        args.sku, args.shop
    ));
    let mut out = std::io::stdout();
    write!(out, "Go on? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn watch(operator: &Operator, shop: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/selftest{}", query(&[("shop", Some(shop))]));
    let mut told = 0;
    loop {
        let tests = operator.get(&path).await?;
        let test = list(&tests).first().unwrap_or(&Value::Null);
        let steps = list(&test["steps"]);
        for step in steps.iter().skip(told) {
            let mark = if step["is_good"] == true {
                "ok  "
            } else {
                "FAIL"
            };
            let at = text(&step["at"]);
            let second = at.split('.').next().unwrap_or(&at);
            say(&format!("  {mark}  {second}  {}", text(&step["what"])));
        }
        told = steps.len();
        match test["state"].as_str() {
            Some("passed") => {
                say("The integration works, and the product is shown as before.");
                return Ok(ExitCode::SUCCESS);
            }
            Some("failed") => {
                let shown = if test["is_shown"] == true {
                    "the product is shown as before"
                } else {
                    "the product is still HIDDEN; the service shows it again when it starts"
                };
                say(&format!("The check failed; {shown}."));
                return Ok(ExitCode::FAILURE);
            }
            _ => {}
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            done = tokio::signal::ctrl_c() => {
                done?;
                say("The service finishes the check by itself and shows the product again.");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}
