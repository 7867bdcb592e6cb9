//! Rows of the imported files, the same on every machine.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Changes of the counts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes {
    /// Number that is added to the count of every hundredth row.
    pub(crate) every_hundredth: u64,
    /// Number that is added to the count of every row.
    pub(crate) every: u64,
}

/// Function that writes the given number of rows with the given changes.
pub(crate) type WriteRows = fn(&mut dyn Write, u64, Changes) -> std::io::Result<()>;

pub(crate) fn fill(
    path: &Path,
    rows: u64,
    changes: Changes,
    write: WriteRows,
) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file, rows, changes)?;
    Ok(file.flush()?)
}

/// Returns a SKU; consecutive numbers give unsorted SKUs, as from a database.
pub(crate) fn sku(number: u64) -> String {
    format!(
        "{:08X}-{number}",
        number.wrapping_mul(2_654_435_761) % 4_294_967_296
    )
}

pub(crate) fn count(number: u64, changes: Changes) -> u64 {
    let change = if number.is_multiple_of(100) {
        changes.every_hundredth
    } else {
        0
    };
    number % 97 + 1 + change + changes.every
}

pub(crate) fn csv(out: &mut dyn Write, rows: u64, changes: Changes) -> std::io::Result<()> {
    writeln!(out, "Артикул;Наименование;Остаток")?;
    (0..rows).try_for_each(|n| writeln!(out, "{};Товар {n};{}", sku(n), count(n, changes)))
}
