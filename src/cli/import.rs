use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::time::interval;

use super::operator::{Operator, ReportArgs, list, query, text};
use super::progress::Stage;
use super::{runtime, say};

/// Bytes sent in one piece.
const PIECE: usize = 256 * 1024;

/// How often it is looked how far the service has come.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What to import.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file: CSV, XLSX, XLS, YML, CommerceML or JSON, as it is or packed as gzip or zip.
    file: PathBuf,
    /// For which shop.
    #[arg(long, value_name = "NAME")]
    shop: String,
    /// As which of its sources, with that one's settings; otherwise with none.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// What the file is, if it cannot be told from its content.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The file is all there is (`snapshot`) or some of it (`delta`), if its format does not say.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Hands a file to a running service, as its file source would take it.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let told = hand_over(args).await?;
        let is_well = told["outcome"] != "held";
        args.report.tell(&told, is_well, print)
    })
}

async fn hand_over(args: &Args) -> anyhow::Result<Value> {
    let operator = args.report.ops.patient_operator()?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let asked = query(&[
        ("shop", Some(&args.shop)),
        ("source", args.source.as_deref()),
        ("name", Some(&name)),
        ("format", args.format.as_deref()),
        ("scope", args.scope.as_deref()),
        ("dry_run", args.dry_run.then_some("true")),
    ]);
    let (size, sent, body) = pieces(&args.file)?;
    let mut stage = (!args.report.json).then(|| Stage::begin("sending", size, "bytes"));
    let path = format!("/import{asked}");
    let importing = operator.send(&path, body);
    tokio::pin!(importing);
    let mut looks = interval(LOOK_EVERY);
    let told = loop {
        tokio::select! {
            told = &mut importing => break told?,
            _ = looks.tick() => {
                let sent = sent.load(Ordering::Relaxed);
                if let Some(stage) = &mut stage {
                    stage.set(sent);
                    if sent == size {
                        stage.say(&rows_so_far(&operator, args).await);
                    }
                }
            }
        }
    };
    if let Some(stage) = stage {
        stage.end(&format!("{size} bytes read"));
    }
    Ok(told)
}

/// How far the service has come, for the bar; empty if it does not say.
async fn rows_so_far(operator: &Operator, args: &Args) -> String {
    let source = args.source.as_deref().unwrap_or("import");
    let sources = operator.get("/sources").await.unwrap_or_default();
    let ours = list(&sources)
        .iter()
        .find(|it| it["shop"] == args.shop && it["source"] == source);
    match ours.and_then(|ours| ours["rows_so_far"].as_u64()) {
        Some(rows) => format!("{rows} rows"),
        None => "taking".to_owned(),
    }
}

/// The length of a file, how much of it was sent, and its pieces.
fn pieces(path: &Path) -> anyhow::Result<(usize, Arc<AtomicUsize>, reqwest::Body)> {
    let open = || format!("open {}", path.display());
    let file = std::fs::File::open(path).with_context(open)?;
    let size = usize::try_from(file.metadata().with_context(open)?.len())?;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let pieces = stream::unfold(file, move |mut file| {
        let counted = Arc::clone(&counted);
        async move {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece) {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    counted.fetch_add(read, Ordering::Relaxed);
                    Some((Ok(Bytes::from(piece)), file))
                }
                Err(error) => Some((Err(error), file)),
            }
        }
    });
    Ok((size, sent, reqwest::Body::wrap_stream(pieces)))
}

/// Rows that are not applied, as far as they are printed.
const MOST_ROWS: usize = 20;

/// What became of a delivery.
pub(super) fn print(told: &Value) {
    let count = |key: &str| text(&told[key]);
    let what = match told["outcome"].as_str() {
        Some("held") => format!("HELD, the stock stays as it was: {}", text(&told["doubt"])),
        Some("looked") => "nothing was changed, this is what would be".to_owned(),
        _ => "taken".to_owned(),
    };
    say(&format!(
        "{} of {} rows: {what}",
        text(&told["scope"]),
        count("rows")
    ));
    say(&format!(
        "  new {}, changed {} ({} of them to zero), unchanged {}, outdated {}, rejected {}, \
         suspicious {}",
        count("new"),
        count("changed"),
        count("zeroed"),
        count("unchanged"),
        count("outdated"),
        count("rejected"),
        count("suspicious"),
    ));
    for row in list(&told["first_rejected"]).iter().take(MOST_ROWS) {
        let (line, kind, reason) = (&row["line"], text(&row["kind"]), text(&row["reason"]));
        say(&format!(
            "  {kind} line {line}, '{}': {reason}",
            text(&row["text"])
        ));
    }
    for notice in list(&told["notices"]) {
        say(&format!("  {}", text(notice)));
    }
    if let Some(why) = told["absence_untold"].as_str() {
        say(&format!("  {why}"));
    }
}
