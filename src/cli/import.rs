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

use super::ops_client::{OpsClient, ReportArgs, json_list, json_text, query_string};
use super::progress::ProgressReporter;
use super::{print_line, runtime};

/// Bytes sent in one piece.
const CHUNK_BYTES: usize = 256 * 1024;

/// How often it is looked how far the service has come.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

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
        let response = upload_file(args).await?;
        let is_success = response["outcome"] != "held";
        args.report.print_report(&response, is_success, print)
    })
}

async fn upload_file(args: &Args) -> anyhow::Result<Value> {
    let client = args.report.ops.upload_client()?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let query = query_string(&[
        ("shop", Some(&args.shop)),
        ("source", args.source.as_deref()),
        ("name", Some(&name)),
        ("format", args.format.as_deref()),
        ("scope", args.scope.as_deref()),
        ("dry_run", args.dry_run.then_some("true")),
    ]);
    let (size, sent, body) = chunked_body(&args.file)?;
    let mut progress =
        (!args.report.json).then(|| ProgressReporter::start("sending", size, "bytes"));
    let path = format!("/import{query}");
    let importing = client.upload(&path, body);
    tokio::pin!(importing);
    let mut ticks = interval(POLL_INTERVAL);
    let response = loop {
        tokio::select! {
            result = &mut importing => break result?,
            _ = ticks.tick() => {
                let sent = sent.load(Ordering::Relaxed);
                if let Some(progress) = &mut progress {
                    progress.set_position(sent);
                    if sent == size {
                        progress.set_message(&rows_so_far(&client, args).await);
                    }
                }
            }
        }
    };
    if let Some(progress) = progress {
        progress.finish(&format!("{size} bytes read"));
    }
    Ok(response)
}

/// How far the service has come, for the bar; empty if it does not say.
async fn rows_so_far(client: &OpsClient, args: &Args) -> String {
    let source = args.source.as_deref().unwrap_or("import");
    let sources = client.get("/sources").await.unwrap_or_default();
    let status = json_list(&sources)
        .iter()
        .find(|candidate| candidate["shop"] == args.shop && candidate["source"] == source);
    match status.and_then(|status| status["rows_so_far"].as_u64()) {
        Some(rows) => format!("{rows} rows"),
        None => "taking".to_owned(),
    }
}

/// The length of a file, how much of it was sent, and its pieces.
fn chunked_body(path: &Path) -> anyhow::Result<(usize, Arc<AtomicUsize>, reqwest::Body)> {
    let open = || format!("open {}", path.display());
    let file = std::fs::File::open(path).with_context(open)?;
    let size = usize::try_from(file.metadata().with_context(open)?.len())?;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let chunks = stream::unfold(file, move |mut file| {
        let counter = Arc::clone(&counter);
        async move {
            let mut chunk = vec![0; CHUNK_BYTES];
            match file.read(&mut chunk) {
                Ok(0) => None,
                Ok(read) => {
                    chunk.truncate(read);
                    counter.fetch_add(read, Ordering::Relaxed);
                    Some((Ok(Bytes::from(chunk)), file))
                }
                Err(error) => Some((Err(error), file)),
            }
        }
    });
    Ok((size, sent, reqwest::Body::wrap_stream(chunks)))
}

/// Rows that are not applied, as far as they are printed.
const MAX_ROWS_PRINTED: usize = 20;

/// What became of a delivery.
pub(super) fn print(report: &Value) {
    let count = |key: &str| json_text(&report[key]);
    let what = match report["outcome"].as_str() {
        Some("held") => format!(
            "HELD, the stock stays as it was: {}",
            json_text(&report["doubt"])
        ),
        Some("looked") => "nothing was changed, this is what would be".to_owned(),
        _ => "taken".to_owned(),
    };
    print_line(&format!(
        "{} of {} rows: {what}",
        json_text(&report["scope"]),
        count("rows")
    ));
    print_line(&format!(
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
    for row in json_list(&report["first_rejected"])
        .iter()
        .take(MAX_ROWS_PRINTED)
    {
        let (line, kind, reason) = (
            &row["line"],
            json_text(&row["kind"]),
            json_text(&row["reason"]),
        );
        print_line(&format!(
            "  {kind} line {line}, '{}': {reason}",
            json_text(&row["text"])
        ));
    }
    for notice in json_list(&report["notices"]) {
        print_line(&format!("  {}", json_text(notice)));
    }
    if let Some(why) = report["absence_untold"].as_str() {
        print_line(&format!("  {why}"));
    }
}
