//! Fuzz targets for sellers' files: each format, workbooks, and archives.

use std::io::{Cursor, Read as _, Write as _};
use std::panic::catch_unwind;
use std::sync::LazyLock;

use stock_import::formats::{Format, FormatHints, read, unpack};
use stock_import::{DeliveryEntry, Quantity, ReadSettings};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::values::settings;

pub(crate) fn csv(bytes: &[u8]) {
    read_all(Format::Csv, bytes);
}

pub(crate) fn yml(bytes: &[u8]) {
    read_all(Format::Yml, bytes);
}

pub(crate) fn commerceml(bytes: &[u8]) {
    read_all(Format::CommerceMl, bytes);
}

pub(crate) fn json(bytes: &[u8]) {
    read_all(Format::Json, bytes);
}

pub(crate) fn sheet(bytes: &[u8]) {
    read_all(Format::Sheet, bytes);
}

/// Reads an Excel workbook with one fuzzed part, which the first byte selects.
pub(crate) fn xlsx(bytes: &[u8]) {
    let Some((&choice, content)) = bytes.split_first() else {
        return;
    };
    let fuzzed = usize::from(choice) % WORKBOOK_PARTS.len();
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (at, (name, part)) in WORKBOOK_PARTS.iter().enumerate() {
        archive
            .start_file(name.as_str(), stored)
            .expect("writing to memory cannot fail");
        let part = if at == fuzzed { content } else { part };
        archive
            .write_all(part)
            .expect("writing to memory cannot fail");
    }
    let archive = archive
        .finish()
        .expect("writing to memory cannot fail")
        .into_inner();
    read_all(Format::Sheet, &archive);
}

/// Name and content of each part of a workbook.
static WORKBOOK_PARTS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let workbook = include_bytes!("../../fixtures/sources/market-stocks.xlsx");
    let mut archive = ZipArchive::new(Cursor::new(workbook)).expect("the fixture is an archive");
    (0..archive.len())
        .map(|at| {
            let mut file = archive.by_index(at).expect("the archive has this part");
            let mut content = Vec::new();
            file.read_to_end(&mut content)
                .expect("the part can be unpacked");
            (
                file.name().expect("the name is valid UTF-8").into_owned(),
                content,
            )
        })
        .filter(|(name, _)| name.ends_with("xml") || name.ends_with("rels"))
        .collect()
});

/// Unpacks any file, detects its format and reads it.
pub(crate) fn container(bytes: &[u8]) {
    let spool = std::env::temp_dir();
    let _ignored = unpack(
        "fuzzed",
        &mut Cursor::new(bytes),
        FormatHints::default(),
        &spool,
        &mut |file| {
            // The compression ratio stops a zip bomb. Reading all that is allowed takes too long
            // for a fuzzer.
            let mut content = Vec::new();
            (&mut *file.input)
                .take(64 * 1024)
                .read_to_end(&mut content)?;
            read_all(file.format, &content);
            Ok(())
        },
    );
}

/// Reads the bytes under the strictest settings, and under settings that their length chooses.
fn read_all(format: Format, bytes: &[u8]) {
    for reading in [ReadSettings::default(), settings(bytes.len())] {
        // Only panics of calamine and cfb get here, and the service catches them too. Every other
        // panic aborts in the hook.
        let _ignored = catch_unwind(|| {
            read(format, &mut Cursor::new(bytes), &reading, &mut |entry| {
                check_row(&entry, &reading);
                Ok(())
            })
        });
    }
}

/// Checks that a row has no quantity that the settings forbid.
pub(crate) fn check_row(entry: &DeliveryEntry, reading: &ReadSettings) {
    if let DeliveryEntry::Row(row) = entry
        && let Some(quantity) = row.quantity
    {
        assert!(
            reading.floors_fractions || !quantity.is_fraction(),
            "{row:?}"
        );
        assert!(
            reading.zeroes_negatives || quantity >= Quantity::ZERO,
            "{row:?}"
        );
    }
}
