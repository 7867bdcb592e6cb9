use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::operator::{Operator, ReportArgs, list, query, text};
use super::progress::Stage;
use super::{runtime, say, tell};
use crate::migrator::reconcile::Class;
use crate::telemetry::AlarmKind;

/// How often it is looked how far the service has come.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long nothing may move before it is given up: longer than the service's own pauses.
const PATIENCE: Duration = Duration::from_mins(11);

/// Examples printed of each class.
const MOST_EXAMPLES: usize = 5;

/// Member of a report: the sources whose latest snapshot lacks SKUs that keep their stock, as the
/// alarms of that name have it. The Market then shows what the service knows, and not what the source
/// has.
const ABSENCE: &str = AlarmKind::AbsenceNotApplied.name();

/// What to verify.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this shop.
    #[arg(long, value_name = "NAME")]
    shop: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Reads the Market's copy back; succeeds only if every SKU of it is explained.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let ReportArgs { json, ops } = &args.report;
        let surveys = read_back(&ops.operator()?, args.shop.as_deref(), "", *json).await?;
        let is_well = surveys.iter().all(is_explained);
        let surveys = Value::Array(surveys);
        args.report.tell(&surveys, is_well, |surveys| {
            list(surveys).iter().for_each(print)
        })
    })
}

/// Has the Market's copy read back, and gives each shop's part of the status after that.
pub(super) async fn read_back(
    operator: &Operator,
    shop: Option<&str>,
    title: &str,
    is_quiet: bool,
) -> anyhow::Result<Vec<Value>> {
    let before = operator.get("/status").await?;
    let begun = operator
        .post(&format!("/verify{}", query(&[("shop", shop)])), None)
        .await?;
    let mut surveys = Vec::new();
    for name in list(&begun["shops"]).iter().filter_map(Value::as_str) {
        let title = if title.is_empty() { name } else { title };
        surveys.push(watch(operator, (name, title), &before, is_quiet).await?);
    }
    Ok(surveys)
}

/// Waits until the pass has ended, and gives the shop's part of the status then.
async fn watch(
    operator: &Operator,
    (name, title): (&str, &str),
    before: &Value,
    is_quiet: bool,
) -> anyhow::Result<Value> {
    let survey = &shop_of(before, name)?["survey"];
    // Of a pass that was under way already the beginning is old, and its failure is news.
    let was_running = survey["state"] == "running";
    let began = if was_running {
        Value::Null
    } else {
        survey["began"].clone()
    };
    let ended = survey["ended"].clone();
    let mut stage: Option<Stage> = None;
    let mut moved = (Value::Null, Instant::now());
    loop {
        let status = operator.get("/status").await?;
        let shop = shop_of(&status, name)?;
        let survey = &shop["survey"];
        let count = |value: &Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap_or(0);
        if !is_quiet {
            let total = count(&shop["skus"]);
            let stage = stage.get_or_insert_with(|| Stage::begin(title, total, "SKUs read back"));
            stage.set(count(&survey["listed"]));
        }
        if survey["state"] == "done" && survey["ended"] != ended {
            if let Some(stage) = stage {
                stage.end(&format!(
                    "{} offers on {} pages",
                    survey["listed"], survey["pages"]
                ));
            }
            let mut shop = shop.clone();
            shop[ABSENCE] = absence_not_applied(&status, name);
            return Ok(shop);
        }
        if survey["state"] == "failed" && survey["began"] != began {
            bail!(
                "{name}: the Market's copy cannot be read: {}",
                text(&survey["trouble"])
            );
        }
        let lane = &shop["migrator"];
        if lane["state"] == "paused" && moved.1.elapsed() > LOOK_EVERY * 3 {
            bail!(
                "{name}: the campaign is paused, and is not called: {}",
                text(&lane["reason"])
            );
        }
        let now = json!([survey["pages"], survey["state"], survey["trouble"]]);
        if !is_quiet && survey["trouble"] != moved.0[2] && !survey["trouble"].is_null() {
            tell(&format!(
                "{name}: {}; trying again",
                text(&survey["trouble"])
            ));
        }
        if now != moved.0 {
            moved = (now, Instant::now());
        } else if moved.1.elapsed() > PATIENCE {
            bail!(
                "{name}: nothing moves any more: {}",
                text(&survey["trouble"])
            );
        }
        sleep(LOOK_EVERY).await;
    }
}

fn shop_of<'a>(status: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let mut shops = list(&status["shops"]).iter();
    shops
        .find(|shop| shop["name"] == name)
        .ok_or_else(|| anyhow!("the shop {name} is gone"))
}

/// The alarms about absence of a shop's sources: of which source, and what is wrong.
fn absence_not_applied(status: &Value, shop: &str) -> Value {
    let is_of_shop = |about: &str| about.split('/').next() == Some(shop);
    let alarms = list(&status["alarms"])
        .iter()
        .filter(|alarm| alarm["alarm"] == ABSENCE);
    let of_shop = alarms.filter(|alarm| is_of_shop(&text(&alarm["about"])));
    of_shop
        .map(|alarm| json!({"source": alarm["about"], "text": alarm["text"]}))
        .collect()
}

fn is_explained(shop: &Value) -> bool {
    if !list(&shop[ABSENCE]).is_empty() {
        return false;
    }
    let classes = &shop["survey"]["classes"];
    Class::ALL
        .iter()
        .filter(|class| !class.is_explained())
        .all(|c| classes[c.name()].is_null())
}

/// What a class means to the one who reads the table.
fn meaning(class: Class, is_dry: bool) -> &'static str {
    match class {
        Class::Equal if is_dry => "the Market shows what would be sent",
        Class::Unknown if is_dry => "the Market does not show it",
        Class::Drifted if is_dry => "the Market shows another number",
        Class::Equal => "the Market shows what was sent",
        Class::Explained => "fewer, because of reserves or orders",
        Class::Pending => "sent a short while ago",
        Class::Archived => "in the Market's archive",
        Class::NotOurs => "the Market shows it, the seller never spoke of it",
        Class::Unsent => "waits to be sent",
        Class::Refused => "the Market refuses it: see the quarantine",
        Class::Unknown => "taken by the Market and shown nowhere: in no catalogue?",
        Class::Drifted => "another number, and nothing explains it",
    }
}

fn print(shop: &Value) {
    let survey = &shop["survey"];
    let is_dry = shop["migrate"] == "dry-run";
    say("");
    if is_dry {
        say("DRY RUN: nothing was sent. The book is compared with the Market's copy as it is.");
    }
    for class in Class::ALL {
        let count = &survey["classes"][class.name()];
        if !count.is_null() {
            let mark = if class.is_explained() { "ok  " } else { "OPEN" };
            let count = count.to_string();
            say(&format!(
                "  {mark}  {:<10} {count:>9}  {}",
                class.name(),
                meaning(class, is_dry)
            ));
        }
    }
    for class in Class::ALL {
        let of_it = list(&survey["examples"])
            .iter()
            .filter(|e| e["class"] == class.name());
        of_it.take(MOST_EXAMPLES).for_each(print_example);
    }
    for alarm in list(&shop[ABSENCE]) {
        say(&format!(
            "  OPEN  absence of {}: {}",
            text(&alarm["source"]),
            text(&alarm["text"])
        ));
    }
    if let Some(would) = survey["would_send"].as_object() {
        let told: Vec<String> = would
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        say(&format!("  would send: {}", told.join(", ")));
    }
    let resent = survey["resent"].as_u64().unwrap_or(0);
    if resent > 0 {
        say(&format!(
            "  {resent} SKUs are sent again: the Market never heard what it acknowledged."
        ));
    }
    let name = text(&shop["name"]);
    say(&if is_explained(shop) {
        format!("{name}: the Market's copy is explained.")
    } else {
        format!("{name}: the Market's copy is NOT explained: see the lines marked OPEN.")
    });
}

fn print_example(example: &Value) {
    let mut line = format!(
        "        {} '{}'",
        text(&example["class"]),
        text(&example["sku"])
    );
    for (key, words) in [
        ("ours", "ours"),
        ("markets", "the Market's"),
        ("reserved", "reserved"),
        ("sent_at", "sent"),
        ("markets_updated_at", "the Market's date"),
    ] {
        if !example[key].is_null() {
            line.push_str(&format!(", {words} {}", text(&example[key])));
        }
    }
    say(&line);
}
