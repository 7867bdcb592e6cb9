//! `store copy`: copies the stock of a service between a directory and a PostgreSQL database.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use lifecycle::Clock;

use crate::command::{exit_code, print_error, print_line, runtime};
use crate::config::read_secret;
use crate::store::{CopyReport, ShopSummary, StorePlace, StoreSummary, StoreUrl, copy_store};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge store copy /var/lib/stockbridge secrets/store_url
  stockbridge store copy secrets/store_url /var/lib/stockbridge-2";

/// Commands for the store of a service that is stopped.
#[derive(Debug, clap::Subcommand)]
pub(super) enum StoreCommand {
    /// Copy all stock from a directory to a PostgreSQL database, or back.
    ///
    /// Stop the service before. The copy is read back and compared, and the exit code is 1 if it is
    /// not equal. Afterwards a start on FROM is refused. What sources have stated is in files beside
    /// the stock, which are not copied.
    #[command(after_help = EXAMPLES)]
    Copy(Args),
}

/// Arguments of `store copy`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A directory, as in the setting `store`, or a file that holds a postgres:// address, as in
    /// `store_url_file`.
    #[arg(value_name = "FROM")]
    from: String,
    /// The same for the copy. A directory is created if it is missing.
    #[arg(value_name = "TO")]
    to: String,
    /// Copy FROM although it was copied to another place before. No service may use that copy.
    #[arg(long)]
    adopt: bool,
}

/// Copies, compares both ends and prints what they have.
pub(super) fn run(command: &StoreCommand) -> anyhow::Result<ExitCode> {
    let StoreCommand::Copy(args) = command;
    let (from, to) = (place(&args.from)?, place(&args.to)?);
    let copying = copy_store(&from, &to, args.adopt, Clock::wall().now());
    let report = runtime()?.block_on(copying).context("nothing was copied")?;
    print_table(&report);
    print_line("");
    if report.is_equal() {
        print_next_steps(&report, &from, &to);
    } else {
        print_error(&format!(
            "{to} differs from {from}, so it cannot be used. {from} is as it was. Copy again"
        ));
    }
    Ok(exit_code(report.is_equal()))
}

/// Reads an argument: a directory, or a file with an address.
fn place(text: &str) -> anyhow::Result<StorePlace> {
    if text.contains("://") {
        bail!(
            "an address on the command line can be seen by every user of this machine: write it \
             into a file that only you can read, and name the file"
        );
    }
    let path = Path::new(text);
    if !path.is_file() {
        return Ok(StorePlace::Directory(PathBuf::from(path)));
    }
    let address = read_secret(path);
    let address = address.map_err(|rule| anyhow::anyhow!("{text} {rule}"))?;
    match StoreUrl::parse(address.expose()) {
        Ok(url) => Ok(StorePlace::Database(url)),
        Err(error) => bail!("{text} {error}"),
    }
}

fn print_table(report: &CopyReport) {
    let CopyReport { source, copy } = report;
    let mut rows = vec![
        [
            "shop",
            "SKUs",
            "acknowledged",
            "quarantined",
            "checksum",
            "",
        ]
        .map(String::from),
    ];
    for position in 0..source.shops.len().max(copy.shops.len()) {
        let (one, two) = (source.shops.get(position), copy.shops.get(position));
        rows.extend(one.map(|shop| shop_row(shop, if one == two { "equal" } else { "in FROM" })));
        if one != two {
            rows.extend(two.map(|shop| shop_row(shop, "DIFFERENT in TO")));
        }
    }
    let notes_row = |summary: &StoreSummary, result: &str| {
        let (count, checksum) = (summary.notes.to_string(), summary.notes_checksum.clone());
        [
            "(notes)".to_owned(),
            count,
            String::new(),
            String::new(),
            checksum,
            result.to_owned(),
        ]
    };
    if (source.notes, &source.notes_checksum) == (copy.notes, &copy.notes_checksum) {
        rows.push(notes_row(source, "equal"));
    } else {
        rows.push(notes_row(source, "in FROM"));
        rows.push(notes_row(copy, "DIFFERENT in TO"));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or(0)).collect();
    for [name, numbers @ .., checksum, result] in &rows {
        let mut line = format!("{name:<0$}", widths[0]);
        for (number, width) in numbers.iter().zip(&widths[1..]) {
            line.push_str(&format!("  {number:>width$}"));
        }
        line.push_str(&format!("  {checksum:<0$}  {result}", widths[4]));
        print_line(line.trim_end());
    }
}

fn shop_row(shop: &ShopSummary, result: &str) -> [String; 6] {
    [
        shop.name.clone(),
        shop.skus.to_string(),
        shop.acknowledged.to_string(),
        shop.quarantined.to_string(),
        shop.checksum.clone(),
        result.to_owned(),
    ]
}

fn print_next_steps(report: &CopyReport, from: &StorePlace, to: &StorePlace) {
    print_line(&format!(
        "{to} has everything that {from} has. A start on {from} is refused now."
    ));
    print_line(&next_step(from, to));
    if let Some(instance) = &report.copy.instance {
        print_line(&format!(
            "The stock belongs to the installation '{instance}'. If instance has another name, start \
             once with --adopt; until then nothing is sent."
        ));
    }
}

/// Returns what to do with the copy. Paths are absolute, because those of settings start at the
/// directory of the configuration, and those of arguments at that of the shell.
fn next_step(from: &StorePlace, to: &StorePlace) -> String {
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.display().to_string()
    };
    match (from, to) {
        (StorePlace::Directory(from), StorePlace::Database(_)) => format!(
            "Next: set store_url_file, and keep store = {:?}: what sources have stated, events and \
             charts are still there. With replica, also set sources_on to the one with this directory.",
            absolute(from)
        ),
        (StorePlace::Directory(from), StorePlace::Directory(to)) => {
            let (from, to) = (absolute(from), absolute(to));
            format!(
                "Next: move {from}/sources, {from}/events.db and {from}/charts.db to {to}, and set \
                 store = {to:?}."
            )
        }
        (StorePlace::Database(_), StorePlace::Directory(to)) => {
            let to = absolute(to);
            format!(
                "Next: copy the directory sources, events.db and charts.db from the store of the \
                 replica that reads the sources to {to}. Set store = {to:?}, and remove \
                 store_url_file, replica and sources_on."
            )
        }
        (StorePlace::Database(_), StorePlace::Database(_)) => {
            "Next: write the new address into the file of store_url_file on every machine, and set \
             sources_on to the replica that has read the sources: their images are not copied."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_files_only() {
        let error = place("postgres://a:secret@db/stock")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("name the file") && !error.contains("secret"),
            "{error}"
        );
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store_url");
        std::fs::write(&file, "postgres://a:secret@db.example:5432/stock\n").unwrap();
        let found = place(file.to_str().unwrap()).unwrap();
        assert_eq!(found.to_string(), "postgres://db.example:5432/stock");
        std::fs::write(&file, "mysql://a:secret@db/stock").unwrap();
        let error = place(file.to_str().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("must hold an address") && !error.contains("secret"),
            "{error}"
        );
        let found = place(directory.path().to_str().unwrap()).unwrap();
        assert!(matches!(found, StorePlace::Directory(_)));
    }
    #[test]
    fn next_step_has_absolute_paths() {
        let directory = |path: &str| StorePlace::Directory(PathBuf::from(path));
        let url = StoreUrl::parse("postgres://db.example/stock").unwrap();
        let database = StorePlace::Database(url);
        let current = std::env::current_dir().unwrap();
        let here = |path: &str| format!("{:?}", current.join(path).display().to_string());
        let text = next_step(&directory("single/store"), &database);
        let expected = format!("keep store = {}:", here("single/store"));
        assert!(text.contains(&expected), "{text}");
        let text = next_step(&database, &directory("single/store"));
        let expected = format!("Set store = {},", here("single/store"));
        assert!(text.contains(&expected), "{text}");
        let text = next_step(&directory("a"), &directory("./b"));
        assert!(
            text.ends_with(&format!("set store = {}.", here("b"))),
            "{text}"
        );
        let from = format!("move {}/sources", current.join("a").display());
        assert!(text.contains(&from), "{text}");
    }
}
