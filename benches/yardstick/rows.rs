//! Rows of the imported files, the same on every machine.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Function that writes the given number of rows and adds the given change to the count of every
/// hundredth one.
pub(crate) type WriteRows = fn(&mut dyn Write, u64, u64) -> std::io::Result<()>;

pub(crate) fn fill(path: &Path, rows: u64, change: u64, write: WriteRows) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file, rows, change)?;
    Ok(file.flush()?)
}

/// Returns a SKU; consecutive numbers give unsorted SKUs, as from a database.
pub(crate) fn sku(number: u64) -> String {
    format!(
        "{:08X}-{number}",
        number.wrapping_mul(2_654_435_761) % 4_294_967_296
    )
}

pub(crate) fn count(number: u64, change: u64) -> u64 {
    number % 97
        + 1
        + if number.is_multiple_of(100) {
            change
        } else {
            0
        }
}

pub(crate) fn csv(out: &mut dyn Write, rows: u64, change: u64) -> std::io::Result<()> {
    writeln!(out, "Артикул;Наименование;Остаток")?;
    (0..rows).try_for_each(|n| writeln!(out, "{};Товар {n};{}", sku(n), count(n, change)))
}
