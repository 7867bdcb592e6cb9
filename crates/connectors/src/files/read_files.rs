//! Reads files into a delivery and separates permanent errors of a file from temporary ones.

use std::fs::File;
use std::io::Seek as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use lifecycle::run_blocking;
use stock_import::formats::{self, DataFile, FileSummary, Format, FormatError};
use stock_import::{DeliveryEntry, DeliveryScope, ReadSettings};
use strict_http::causes;

use super::found_file::{FileStamp, FoundFile, OneCFileRole, open_file};
use crate::source::ReadFailure;
use crate::{EntrySender, ReadReport};

/// Creates the failure of a file. Only errors of the disk are temporary; bad content stays bad.
fn format_failure(path: &Path, error: &FormatError) -> ReadFailure {
    ReadFailure {
        message: format!("{}: {}", path.display(), causes(error)),
        is_temporary: matches!(error, FormatError::Io(_)),
    }
}

/// Reads files into one delivery and returns their combined scope.
pub(super) fn read_delivery(
    files: &[FoundFile],
    format: Option<Format>,
    settings: &ReadSettings,
    spool: &Path,
    rows: &mut EntrySender,
) -> Result<ReadReport, ReadFailure> {
    let mut summaries = Vec::new();
    let mut role = files.first().map(|file| OneCFileRole::of_path(&file.path));
    let cancelled = |_| ReadFailure::temporary("the delivery was cancelled".to_owned());
    for FoundFile {
        path,
        stamp,
        is_named,
    } in files
    {
        if role.replace(OneCFileRole::of_path(path)) == Some(OneCFileRole::Offers)
            && OneCFileRole::of_path(path) == OneCFileRole::StockLevels
        {
            rows.send_blocking(DeliveryEntry::PartBoundary)
                .map_err(cancelled)?;
        }
        let mut file = open_file(path, *is_named).map_err(|e| format_failure(path, &e.into()))?;
        let is_unchanged = |file: &File| {
            file.metadata()
                .is_ok_and(|now| FileStamp::of_metadata(&now) == *stamp)
        };
        if !is_unchanged(&file) {
            return Err(ReadFailure::temporary(format!(
                "{} was replaced just now",
                path.display()
            )));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let result = read_file(&name, &mut file, format, settings, spool, rows);
        summaries.extend(result.map_err(|error| format_failure(path, &error))?);
        if !is_unchanged(&file) {
            return Err(ReadFailure::temporary(format!(
                "{} changed while it was read",
                path.display()
            )));
        }
    }
    rows.flush_blocking().map_err(cancelled)?;
    Ok(ReadReport::from_files(
        combined_scope(&summaries).into(),
        summaries,
    ))
}

/// Reads one file, or the files in it if it is an archive.
///
/// # Errors
/// The file is not readable to its verified end.
pub fn read_file(
    name: &str,
    file: &mut File,
    format: Option<Format>,
    settings: &ReadSettings,
    spool: &Path,
    rows: &mut EntrySender,
) -> Result<Vec<FileSummary>, FormatError> {
    file.rewind()?;
    let mut summaries = Vec::new();
    let hints = formats::FormatHints {
        format,
        encoding: settings.encoding,
    };
    let unpack = || {
        formats::unpack(name, file, hints, spool, &mut |data: DataFile<'_>| {
            let mut sink = |entry| rows.send_blocking(entry);
            let result = formats::read(data.format, data.input, settings, &mut sink);
            // Errors name the file in an archive; the caller adds the name of the archive.
            let is_packed = data.name != name;
            let mut summary =
                result.map_err(|e| if is_packed { e.in_file(data.name) } else { e })?;
            if is_packed {
                summary.shape.set("file", data.name);
            }
            summaries.push(summary);
            Ok(())
        })
    };
    // A file that makes a library panic must not stop the service, again at each start. Rows
    // read so far are dropped with the delivery.
    std::panic::catch_unwind(AssertUnwindSafe(unpack)).unwrap_or_else(|_| {
        Err(FormatError::Broken {
            place: "an unknown position".to_owned(),
            reason: "internal error of the parser".to_owned(),
        })
    })?;
    Ok(summaries)
}

/// Reads one file like [`read_file`], on a blocking thread so that the runtime stays free for
/// requests.
///
/// # Errors
/// The file is not readable to its verified end. The text is a sentence.
pub async fn read_on_blocking_thread(
    name: String,
    mut file: File,
    format: Option<Format>,
    (settings, spool): (&ReadSettings, &Path),
    rows: &EntrySender,
) -> Result<Vec<FileSummary>, String> {
    let (mut rows, settings, spool) = (rows.new_sender(), settings.clone(), spool.to_owned());
    run_blocking(move || {
        let result = read_file(&name, &mut file, format, &settings, &spool, &mut rows);
        let summaries = result.map_err(|error| causes(&error))?;
        rows.flush_blocking().map_err(|error| error.to_string())?;
        Ok(summaries)
    })
    .await
}

/// Returns the scope of several files together: one delta makes all of them a delta.
#[must_use]
pub fn combined_scope(summaries: &[FileSummary]) -> Option<DeliveryScope> {
    let scopes: Vec<DeliveryScope> = summaries
        .iter()
        .filter_map(|summary| summary.scope)
        .collect();
    let is_delta = scopes.contains(&DeliveryScope::Delta);
    if is_delta {
        Some(DeliveryScope::Delta)
    } else {
        scopes.first().copied()
    }
}
