//! Lists that the operator keeps beside the configuration: the mapping of SKUs, rules for single
//! SKUs, and SKUs to request.
//!
//! People write these files: CSV with `;` or `,`, UTF-8 or windows-1251, columns found by name.
//! They are read completely, and one error rejects the whole list.

use std::collections::HashMap;
use std::path::Path;

use stock::{Count, Sku};
use stock_import::stock_rules::SkuOverride;

/// Size limit of a list in bytes. A larger file is not a list.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Column of the mapping with the SKU as the source spells it.
const SOURCE_SKU_COLUMN: &str = "source_sku";

/// Reads the mapping of a source: a column with the SKU as the source spells it, `sku` and
/// optionally `pack`, the units of the source in one piece.
///
/// # Errors
/// Text that names the file, the line, the value and the rule.
pub fn read_mapping(path: &Path) -> Result<Vec<(String, String, u32)>, String> {
    let table = OperatorTable::read(path)?;
    let (source_sku, sku) = (
        table.require_column(SOURCE_SKU_COLUMN)?,
        table.require_column("sku")?,
    );
    let pack = table.find_column("pack");
    let mut seen = HashMap::new();
    table.map_rows(|row| {
        let source_sku = Sku::parse(row.cell(source_sku)).map_err(|error| error.to_string())?;
        let sku = Sku::parse(row.cell(sku)).map_err(|error| error.to_string())?;
        let pack = pack.map_or("", |column| row.cell(column));
        let pack = parse_number(pack, "pack", 1, 1_000_000)?.unwrap_or(1);
        let pair = (source_sku.as_str().to_owned(), sku.as_str().to_owned());
        if let Some(line) = seen.insert(pair.clone(), row.line) {
            return Err(format!(
                "'{}' is already mapped to '{}' in line {line}",
                pair.0, pair.1
            ));
        }
        Ok((pair.0, pair.1, pack))
    })
}

/// Reads rules for single SKUs: columns `sku` and any of `count`, `buffer`, `zero_below`, `cap`.
/// An empty cell keeps the shop's rule.
///
/// # Errors
/// Text that names the file, the line, the value and the rule.
pub fn read_overrides(path: &Path) -> Result<HashMap<Sku, SkuOverride>, String> {
    let table = OperatorTable::read(path)?;
    let sku = table.require_column("sku")?;
    let columns = ["count", "buffer", "zero_below", "cap"].map(|name| table.find_column(name));
    let mut seen = HashMap::new();
    let rows = table.map_rows(|row| {
        let sku = Sku::parse(row.cell(sku)).map_err(|error| error.to_string())?;
        let cell = |column: usize, name: &str| {
            let text = columns[column].map_or("", |column| row.cell(column));
            parse_number(text, name, 0, stock::MAX_COUNT)
        };
        if let Some(line) = seen.insert(sku.clone(), row.line) {
            return Err(format!("'{sku}' is already in line {line}"));
        }
        let count = cell(0, "count")?;
        let count = count.map(|count| Count::try_from(i64::from(count)));
        let sku_override = SkuOverride {
            count: count.transpose().map_err(|error| error.to_string())?,
            buffer: cell(1, "buffer")?,
            zero_below: cell(2, "zero_below")?,
            cap: cell(3, "cap")?,
        };
        Ok((sku, sku_override))
    })?;
    Ok(rows.into_iter().collect())
}

/// Reads SKUs, one a line. Blank lines are skipped.
///
/// # Errors
/// Text that names the file, the line, the value and the rule.
pub fn read_skus(path: &Path) -> Result<Vec<Sku>, String> {
    let text = read_text(path)?;
    let mut skus = Vec::new();
    for (line, text) in text
        .lines()
        .enumerate()
        .filter(|(_, text)| !text.trim().is_empty())
    {
        let sku = Sku::parse(text);
        skus.push(sku.map_err(|error| format!("{}, line {}: {error}", path.display(), line + 1))?);
    }
    Ok(skus)
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!(
            "{} has {size} bytes, the limit is {MAX_FILE_BYTES}",
            path.display()
        ));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // A file that is not UTF-8 was written by a program on Russian Windows.
        Err(_) => encoding_rs::WINDOWS_1251.decode(bytes).0.into_owned(),
    })
}

fn parse_number(text: &str, name: &str, least: u32, most: u32) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    let number = number.ok_or_else(|| {
        format!("{name} is '{text}', it must be a whole number between {least} and {most}")
    })?;
    Ok(Some(number))
}

/// A CSV file with its header in lower case.
struct OperatorTable<'a> {
    path: &'a Path,
    header: Vec<String>,
    rows: Vec<(u64, csv::StringRecord)>,
}

struct OperatorRow<'a> {
    line: u64,
    record: &'a csv::StringRecord,
}

impl OperatorRow<'_> {
    fn cell(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default().trim()
    }
}

impl<'a> OperatorTable<'a> {
    fn read(path: &'a Path) -> Result<Self, String> {
        let text = read_text(path)?;
        let first = text.lines().next().unwrap_or_default();
        let delimiter = if first.contains(';') { b';' } else { b',' };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .from_reader(text.as_bytes());
        let broken = |error: csv::Error| format!("{}: {error}", path.display());
        let header = reader.headers().map_err(broken)?;
        let header = header
            .iter()
            .map(|name| name.trim().to_lowercase())
            .collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, csv::Position::line);
            rows.push((line, record));
        }
        Ok(Self { path, header, rows })
    }

    fn find_column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    fn require_column(&self, name: &str) -> Result<usize, String> {
        let missing = || {
            let path = self.path.display();
            format!(
                "{path} has no column {name}, its columns are {}",
                self.header.join(", ")
            )
        };
        self.find_column(name).ok_or_else(missing)
    }

    fn map_rows<T>(
        &self,
        mut parse_row: impl FnMut(&OperatorRow<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let rows = self
            .rows
            .iter()
            .filter(|(_, record)| record.iter().any(|cell| !cell.trim().is_empty()));
        rows.map(|(line, record)| {
            let parsed = parse_row(&OperatorRow {
                line: *line,
                record,
            });
            parsed.map_err(|error| format!("{}, line {line}: {error}", self.path.display()))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp_file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn reads_both_encodings_and_delimiters() {
        let text = "source_sku;sku;pack\nболт;BOLT-1;\nболт;BOLT-10;10\n;;\n";
        let cp1251 = encoding_rs::WINDOWS_1251.encode(text).0.into_owned();
        let commas = text.replace(';', ",");
        for bytes in [text.as_bytes(), &cp1251, commas.as_bytes()] {
            let rows = read_mapping(temp_file(bytes).path()).unwrap();
            let expected = [("болт", "BOLT-1", 1), ("болт", "BOLT-10", 10)];
            let expected = expected
                .map(|(source_sku, sku, pack)| (source_sku.to_owned(), sku.to_owned(), pack));
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn errors_name_file_line_value_and_rule() {
        let error_of = |bytes: &str| {
            let file = temp_file(bytes.as_bytes());
            let text = read_mapping(file.path()).map(drop).unwrap_err();
            text.replace(&file.path().display().to_string(), "list.csv")
        };
        assert_eq!(
            error_of("source_sku;pack\n"),
            "list.csv has no column sku, its columns are source_sku, pack"
        );
        assert_eq!(
            error_of("source_sku;sku;pack\na;b;0\n"),
            "list.csv, line 2: pack is '0', it must be a whole number between 1 and 1000000"
        );
        assert_eq!(
            error_of("source_sku;sku\na;b\na;b\n"),
            "list.csv, line 3: 'a' is already mapped to 'b' in line 2"
        );
        let overridden = temp_file(b"sku,count\nA,-1\n");
        let error = read_overrides(overridden.path()).unwrap_err();
        assert!(error.ends_with(
            "line 2: count is '-1', it must be a whole number between 0 and 2000000000"
        ));
    }

    #[test]
    fn empty_override_cells_keep_shop_rules() {
        let overrides_file = temp_file("sku;count;buffer;cap\nA;;0;\nB;7;;\n".as_bytes());
        let rules = read_overrides(overrides_file.path()).unwrap();
        let rules_of = |sku| rules[&Sku::parse(sku).unwrap()];
        assert_eq!(
            rules_of("A"),
            SkuOverride {
                buffer: Some(0),
                ..SkuOverride::default()
            }
        );
        assert_eq!(rules_of("B").count.map(Count::get), Some(7));
    }

    #[test]
    fn reads_one_sku_per_line() {
        let sku_file = temp_file(b"A-1\r\n\r\n 0557722 \n");
        let skus = read_skus(sku_file.path()).unwrap();
        assert_eq!(
            skus.iter().map(Sku::as_str).collect::<Vec<_>>(),
            ["A-1", "0557722"]
        );
    }
}
