//! `import`: sends a stock file to a running service and prints what changed.

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

use crate::command::ops_client::{OpsClient, ReportArgs, or_dash, query_string};
use crate::command::progress::ProgressReporter;
use crate::command::{print_line, runtime};
use crate::ops::{DeliveryDto, SourceStatusDto};
use crate::sources::ChangeCounts;
use crate::telemetry::printable;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge import stock.csv --shop moscow --dry-run
  stockbridge import stock.csv --shop moscow --scope delta
  stockbridge import offers.xml --shop moscow --source erp";

/// Bytes per chunk of the upload.
const CHUNK_BYTES: usize = 256 * 1024;

/// Interval at which the progress of the service is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file: CSV, XLSX, XLS, YML, CommerceML, JSON or NDJSON, also packed as gzip or zip.
    file: PathBuf,
    /// The shop that receives the stock.
    #[arg(long, value_name = "NAME")]
    shop: String,
    /// The source whose settings are used to read the file. Without it, the defaults are used.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The format, if it cannot be detected: csv, sheet (or xlsx, xls), yml, commerceml
    /// or json.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// `snapshot` if the file lists all products, `delta` if it lists some. The default is what the
    /// format declares, or else `delta`.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Only print what would change. The stock stays as it is.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Uploads a file to a running service, which applies it like a file source. Fails if the delivery
/// is held for approval.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let response = upload_file(args).await?;
        let is_success = |report: &DeliveryDto| report.outcome != "held";
        args.report.print_report(response, is_success, print)
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
                    // The size of a pipe is not known: it is 0.
                    if sent >= size {
                        progress.set_message(&rows_so_far(&client, args).await);
                    }
                }
            }
        }
    };
    if let Some(progress) = progress {
        progress.finish(&format!("{} bytes read", sent.load(Ordering::Relaxed)));
    }
    Ok(response)
}

/// Returns the number of rows the service has read, for the progress bar.
async fn rows_so_far(client: &OpsClient, args: &Args) -> String {
    let source = args.source.as_deref().unwrap_or("import");
    let sources: Vec<SourceStatusDto> = client.get("/sources").await.unwrap_or_default();
    let status = sources
        .iter()
        .find(|status| status.shop == args.shop && status.source == source);
    match status.and_then(|status| status.rows_so_far) {
        Some(rows) => format!("{rows} rows"),
        None => "applying".to_owned(),
    }
}

/// Returns the length of a file, a counter of the bytes sent, and the body that streams it.
fn chunked_body(path: &Path) -> anyhow::Result<(usize, Arc<AtomicUsize>, reqwest::Body)> {
    let open = || format!("open {}", path.display());
    let mut file = std::fs::File::open(path).with_context(open)?;
    let size = usize::try_from(file.metadata().with_context(open)?.len())?;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let chunks = std::iter::from_fn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).map(|read| {
            chunk.truncate(read);
            counter.fetch_add(read, Ordering::Relaxed);
            Bytes::from(chunk)
        });
        // An empty chunk is the end of the file.
        Some(read).filter(|read| !matches!(read, Ok(chunk) if chunk.is_empty()))
    });
    let body = reqwest::Body::wrap_stream(stream::iter(chunks));
    Ok((size, sent, body))
}

/// Maximum number of rejected or suspicious rows that are printed.
const MAX_ROWS_PRINTED: usize = 20;

/// Prints the report of a delivery.
pub(super) fn print(report: &DeliveryDto) {
    let what = match report.outcome.as_str() {
        "held" => format!(
            "HELD for approval, the stock is unchanged: {}. If the file is correct, run: \
             stockbridge accept SOURCE --shop NAME",
            or_dash(report.doubt.as_deref().map(printable))
        ),
        "looked" => "dry run, nothing was changed. It would change:".to_owned(),
        _ => "applied".to_owned(),
    };
    let scope = printable(&report.scope);
    print_line(&format!("{scope} of {} rows: {what}", report.rows));
    let ChangeCounts {
        new,
        changed,
        unchanged,
        outdated,
        zeroed,
        ..
    } = report.changes;
    print_line(&format!(
        "  new {new}, changed {changed} ({zeroed} of them to zero), unchanged {unchanged}, outdated \
         {outdated}, rejected {}, suspicious {}",
        report.rejected, report.suspicious,
    ));
    for row in report.first_rejected.iter().take(MAX_ROWS_PRINTED) {
        let [kind, text, reason] = [&row.kind, &row.text, &row.reason].map(|it| printable(it));
        print_line(&format!("  {kind} line {}, '{text}': {reason}", row.line));
    }
    for notice in report.notices.iter().map(|notice| printable(notice)) {
        print_line(&format!("  {notice}"));
    }
    if let Some(why) = &report.absence_untold {
        print_line(&format!("  {why}"));
    }
}
