//! The operator's own lists beside the configuration: what words stand for, single SKUs'
//! rules, and SKUs to ask for.
//!
//! Small files that people write: CSV with `;` or `,`, UTF-8 or windows-1251, columns by name.
//! They are read whole, and one fault refuses the whole list.

use std::collections::HashMap;
use std::path::Path;

use super::rules::Override;
use crate::stock::{Count, Sku};

/// Bytes of a list; more is a mistake.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Reads what a source's words stand for: columns `said`, `sku` and, if there, `pack`.
///
/// # Errors
/// The file and the row, the value and the rule.
pub fn mapping(path: &Path) -> Result<Vec<(String, String, u32)>, String> {
    let table = Table::read(path)?;
    let (said, sku) = (table.need("said")?, table.need("sku")?);
    let pack = table.find("pack");
    let mut seen = HashMap::new();
    table.each(|row| {
        let said = Sku::parse(row.cell(said)).map_err(|error| error.to_string())?;
        let sku = Sku::parse(row.cell(sku)).map_err(|error| error.to_string())?;
        let pack = pack.map_or("", |column| row.cell(column));
        let pack = number(pack, "pack", 1, 1_000_000)?.unwrap_or(1);
        let pair = (said.as_str().to_owned(), sku.as_str().to_owned());
        if let Some(line) = seen.insert(pair.clone(), row.line) {
            return Err(format!(
                "'{}' stands for '{}' in line {line} already",
                pair.0, pair.1
            ));
        }
        Ok((pair.0, pair.1, pack))
    })
}

/// Reads single SKUs' rules: columns `sku` and any of `count`, `buffer`, `zero_below`, `cap`;
/// an empty cell leaves the shop's.
///
/// # Errors
/// The file and the row, the value and the rule.
pub fn overrides(path: &Path) -> Result<HashMap<Sku, Override>, String> {
    let table = Table::read(path)?;
    let sku = table.need("sku")?;
    let columns = ["count", "buffer", "zero_below", "cap"].map(|name| table.find(name));
    let mut seen = HashMap::new();
    let rows = table.each(|row| {
        let sku = Sku::parse(row.cell(sku)).map_err(|error| error.to_string())?;
        let cell = |column: usize, name: &str| {
            let text = columns[column].map_or("", |column| row.cell(column));
            number(text, name, 0, crate::stock::MAX_COUNT)
        };
        if let Some(line) = seen.insert(sku.clone(), row.line) {
            return Err(format!("'{sku}' stands in line {line} already"));
        }
        let count = cell(0, "count")?;
        let count = count.map(|count| Count::try_from(i64::from(count)));
        let over = Override {
            count: count.transpose().map_err(|error| error.to_string())?,
            buffer: cell(1, "buffer")?,
            below: cell(2, "zero_below")?,
            cap: cell(3, "cap")?,
        };
        Ok((sku, over))
    })?;
    Ok(rows.into_iter().collect())
}

/// Reads SKUs, one a line; blank lines do not count.
///
/// # Errors
/// The file and the line, the value and the rule.
pub fn skus(path: &Path) -> Result<Vec<Sku>, String> {
    let text = read(path)?;
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

fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(format!(
            "{} has {size} bytes, the limit is {MAX_BYTES}",
            path.display()
        ));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Whatever is not UTF-8 was written by a Russian Windows.
        Err(_) => encoding_rs::WINDOWS_1251.decode(bytes).0.into_owned(),
    })
}

fn number(text: &str, name: &str, least: u32, most: u32) -> Result<Option<u32>, String> {
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

struct Table<'a> {
    path: &'a Path,
    header: Vec<String>,
    rows: Vec<(u64, csv::StringRecord)>,
}

struct Line<'a> {
    line: u64,
    record: &'a csv::StringRecord,
}

impl Line<'_> {
    fn cell(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default().trim()
    }
}

impl<'a> Table<'a> {
    fn read(path: &'a Path) -> Result<Self, String> {
        let text = read(path)?;
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

    fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    fn need(&self, name: &str) -> Result<usize, String> {
        let missing = || {
            let path = self.path.display();
            format!(
                "{path} has no column {name}, its columns are {}",
                self.header.join(", ")
            )
        };
        self.find(name).ok_or_else(missing)
    }

    fn each<T>(
        &self,
        mut see: impl FnMut(&Line<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let rows = self
            .rows
            .iter()
            .filter(|(_, record)| record.iter().any(|cell| !cell.trim().is_empty()));
        rows.map(|(line, record)| {
            let seen = see(&Line {
                line: *line,
                record,
            });
            seen.map_err(|fault| format!("{}, line {line}: {fault}", self.path.display()))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_mapping_is_read_in_either_encoding_with_either_delimiter() {
        let text = "said;sku;pack\nболт;BOLT-1;\nболт;BOLT-10;10\n;;\n";
        let cp1251 = encoding_rs::WINDOWS_1251.encode(text).0.into_owned();
        let commas = text.replace(';', ",");
        for bytes in [text.as_bytes(), &cp1251, commas.as_bytes()] {
            let rows = mapping(file(bytes).path()).unwrap();
            let expected = [("болт", "BOLT-1", 1), ("болт", "BOLT-10", 10)];
            let expected =
                expected.map(|(said, sku, pack)| (said.to_owned(), sku.to_owned(), pack));
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn a_fault_in_a_list_names_the_file_the_line_the_value_and_the_rule() {
        let told = |bytes: &str| {
            let file = file(bytes.as_bytes());
            let text = mapping(file.path()).map(drop).unwrap_err();
            text.replace(&file.path().display().to_string(), "list.csv")
        };
        assert_eq!(
            told("said;pack\n"),
            "list.csv has no column sku, its columns are said, pack"
        );
        assert_eq!(
            told("said;sku;pack\na;b;0\n"),
            "list.csv, line 2: pack is '0', it must be a whole number between 1 and 1000000"
        );
        assert_eq!(
            told("said;sku\na;b\na;b\n"),
            "list.csv, line 3: 'a' stands for 'b' in line 2 already"
        );
        let overridden = file(b"sku,count\nA,-1\n");
        let fault = overrides(overridden.path()).unwrap_err();
        assert!(fault.ends_with(
            "line 2: count is '-1', it must be a whole number between 0 and 2000000000"
        ));
    }

    #[test]
    fn single_skus_rules_leave_the_shops_where_a_cell_is_empty() {
        let list = file("sku;count;buffer;cap\nA;;0;\nB;7;;\n".as_bytes());
        let rules = overrides(list.path()).unwrap();
        let of = |sku| rules[&Sku::parse(sku).unwrap()];
        assert_eq!(
            of("A"),
            Override {
                buffer: Some(0),
                ..Override::default()
            }
        );
        assert_eq!(of("B").count.map(Count::get), Some(7));
    }

    #[test]
    fn skus_stand_one_a_line() {
        let list = file(b"A-1\r\n\r\n 0557722 \n");
        let skus = skus(list.path()).unwrap();
        assert_eq!(
            skus.iter().map(Sku::as_str).collect::<Vec<_>>(),
            ["A-1", "0557722"]
        );
    }
}
