//! Complete list of some SKUs, which the shop's source reads with `absent = "zero"`.
//!
//! A list is rewritten when every replica has answered with the one before. So a zero that is not in
//! it shows at once, whether it comes from a leader of the sources that knows too little, or too
//! late from one that leads no more.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Number of SKUs in all lists together.
pub(super) const LISTED_SKUS: u32 = 8;

/// Returns the SKU with this number.
pub(super) fn listed_sku(number: u32) -> String {
    format!("LIST-{number}")
}

/// Returns the right count of a SKU after a list: the number of the list, or 0 if the list lacks it.
///
/// The first SKU is in every list, and the first list has every SKU: a SKU that the source has never
/// stated is not zero.
pub(super) fn count_in_list(sku: u32, list: u32) -> u32 {
    let is_absent = sku > 0 && list > 1 && (list + sku).is_multiple_of(3);
    if is_absent { 0 } else { list }
}

/// Directory with the list.
pub(super) struct CompleteList {
    directory: TempDir,
}

impl CompleteList {
    pub(super) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("stock.csv")
    }

    /// Returns the settings of the source. Small lists change by more than the guard allows.
    pub(super) fn settings(&self) -> String {
        let path = self.path();
        format!(
            "[[shops.sources]]\nname = \"list\"\nkind = \"file\"\npath = {path:?}\n\
             scope = \"snapshot\"\nabsent = \"zero\"\nevery_seconds = 1\nguard_rows = 0\n\
             guard_zeros = 1\n"
        )
    }
}

/// Writes a list in place of the one before, in one step.
pub(super) fn write_list(path: &Path, number: u32) {
    let rows = (0..LISTED_SKUS)
        .map(|sku| (sku, count_in_list(sku, number)))
        .filter(|(_, count)| *count > 0)
        .map(|(sku, count)| format!("{};{count}\n", listed_sku(sku)));
    let text: String = std::iter::once("Артикул;Остаток\n".to_owned())
        .chain(rows)
        .collect();
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}
