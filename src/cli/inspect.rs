//! `inspect`: shows how a stock file would be read, and the settings that read it.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use lifecycle::Clock;
use stock_import::Quantity;
use stock_import::formats::{FileShape, FileSummary};

use crate::command::{print_error, print_line, runtime};
use crate::setup::rehearse::file_source;
use crate::sources::inspect::{Preview, inspect};
use crate::sources::{Config, PreviewRow};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge inspect stock.xlsx
  stockbridge inspect stock.csv --set sku=Код --set quantity=Остаток
  cat stock.csv | stockbridge inspect -";

/// Width of the first column of the output.
const LABEL_WIDTH: usize = 12;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file. `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A setting of `[[shops.sources]]`, such as `--set sku=Код`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Prints how a file would be read. Fails if it cannot be read.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let spool = tempfile::tempdir().context("make a directory for temporary files")?;
    let (name, file) = open(&args.file)?;
    let config = file_source(&args.file, &args.set)?;
    let now = Clock::wall().now().into();
    let size = file.metadata()?.len();
    let preview = runtime()?.block_on(inspect(name.clone(), file, &config, spool.path(), now));
    print_labelled("file", &format!("{name}, {size} bytes"));
    match preview {
        Ok(preview) => {
            print(&preview);
            print_line("");
            print_line(&source_table(args, &preview, &config));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            print_error(&labelled("not read", &strict_http::causes(&error)));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Opens the file and returns its name with it. Standard input is copied to a temporary file first,
/// because formats such as XLSX need random access.
fn open(path: &Path) -> anyhow::Result<(String, File)> {
    if path != Path::new("-") {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok((name, file));
    }
    let mut file = tempfile::tempfile().context("make a temporary file")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).context("read standard input")?;
    file.flush()?;
    file.rewind()?;
    Ok(("standard input".to_owned(), file))
}

fn labelled(label: &str, text: &str) -> String {
    format!("{label:<LABEL_WIDTH$} {text}")
}

fn print_labelled(label: &str, text: &str) {
    print_line(&labelled(label, text));
}

fn property<'s>(shape: &'s FileShape, name: &str) -> Option<&'s str> {
    shape.0.get(name).map(String::as_str)
}

fn print(preview: &Preview) {
    for summary in &preview.files {
        print_file(summary);
    }
    if !preview.warehouses.is_empty() {
        let names = preview.warehouses.iter();
        let quoted: Vec<_> = names.map(|name| format!("'{name}'")).collect();
        print_labelled("warehouses", &quoted.join(", "));
    }
    let Preview {
        rows,
        without_quantity,
        rejected,
        suspicious,
        ..
    } = preview;
    let without_text = match without_quantity {
        0 => String::new(),
        count => format!(", {count} without a quantity"),
    };
    print_labelled(
        "rows",
        &format!(
            "{rows} would be applied{without_text}, {rejected} rejected, {suspicious} suspicious"
        ),
    );
    for row in &preview.first_rows {
        print_labelled("  applied", &describe_row(row));
    }
    let more = rows.saturating_sub(preview.first_rows.len() as u64);
    if more > 0 {
        print_labelled("", &format!("and {more} more"));
    }
    for rejection in &preview.first_rejected {
        let kind = if rejection.is_suspicious {
            "  suspicious"
        } else {
            "  rejected"
        };
        print_labelled(
            kind,
            &format!(
                "line {}, '{}': {}",
                rejection.line, rejection.text, rejection.reason
            ),
        );
    }
    let listed = preview.first_rejected.len() as u64;
    let more = (rejected + suspicious).saturating_sub(listed);
    if more > 0 {
        print_labelled("", &format!("and {more} more that would not be applied"));
    }
}

fn print_file(summary: &FileSummary) {
    let shape = &summary.shape;
    let labels = [
        ("file", "data file"),
        ("format", "type"),
        ("encoding", "encoding"),
        ("delimiter", "delimiter"),
        ("sheets", "sheets"),
        ("sheet", "sheet"),
        ("list", "products in"),
        ("header", "header"),
        ("columns", "columns"),
        ("members", "members"),
        ("sku", "SKU"),
        ("why", ""),
        ("quantity", "quantity"),
        ("warehouse", "warehouse"),
        ("reserve", "reserve"),
        ("time", "time"),
        ("numbers", "numbers"),
    ];
    for (name, label) in labels {
        if let Some(value) = property(shape, name) {
            print_labelled(label, value);
        }
    }
    let scope = match summary.scope {
        None => {
            "the format does not state it; set scope = \"snapshot\" if every file lists all \
             products"
        }
        Some(scope) => scope.name(),
    };
    print_labelled("scope", scope);
    for notice in &summary.notices {
        print_labelled("note", notice);
    }
}

fn describe_row(row: &PreviewRow) -> String {
    let PreviewRow {
        line,
        sku,
        warehouse,
        quantity,
        reserve,
    } = row;
    let quantity = quantity
        .as_ref()
        .map_or("no quantity".to_owned(), Quantity::to_string);
    let location = warehouse
        .as_ref()
        .map(|name| format!(" at '{name}'"))
        .unwrap_or_default();
    let reserve = reserve
        .map(|reserve| format!(", {reserve} reserved"))
        .unwrap_or_default();
    format!("line {line}: '{sku}'{location} = {quantity}{reserve}")
}

/// Returns the `[[shops.sources]]` table with which a service reads the file the same way.
fn source_table(args: &Args, preview: &Preview, config: &Config) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let path = if args.file == Path::new("-") {
        "PATH OF THE FILE".to_owned()
    } else {
        std::path::absolute(&args.file)
            .unwrap_or_else(|_| args.file.clone())
            .display()
            .to_string()
    };
    let mut lines = vec![
        "[[shops.sources]]".to_owned(),
        "name = \"file\"".to_owned(),
        "kind = \"file\"".to_owned(),
        format!("path = {}", quoted(&path)),
    ];
    let set: Vec<(&str, &str)> = args
        .set
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let is_set = |key: &str| set.iter().any(|(known, _)| *known == key);
    // The files of an archive may differ, so their properties stay to be detected for each.
    if let [summary] = preview.files.as_slice() {
        for key in [
            "format",
            "encoding",
            "delimiter",
            "sheet",
            "sku",
            "quantity",
            "warehouse",
        ] {
            if let Some(value) = property(&summary.shape, key).filter(|_| !is_set(key)) {
                lines.push(format!("{key} = {}", quoted(value)));
            }
        }
        if let Some(list) = property(&summary.shape, "list")
            && list.contains('.')
            && !is_set("list")
        {
            lines.push(format!("list = {}", quoted(list)));
        }
    }
    for (key, value) in &set {
        let value = if value.starts_with(['[', '{']) {
            (*value).to_owned()
        } else {
            quoted(value)
        };
        lines.push(format!("{key} = {value}"));
    }
    if preview.warehouses.len() > 1 && !is_set("warehouses") {
        let names: Vec<_> = preview.warehouses.iter().map(|name| quoted(name)).collect();
        lines.push(format!(
            "warehouses = [{}] # keep only those that supply this shop",
            names.join(", ")
        ));
    }
    if config.policy.scope.is_none() && preview.files.iter().all(|file| file.scope.is_none()) {
        lines.push("# scope = \"snapshot\" # if the file always lists all products".to_owned());
    }
    lines.join("\n")
}
