//! Detection of a file's format by its content, and unpacking of archives.
//!
//! Names inside an archive select the data files and appear in messages; no file is created with
//! such a name. Unpacked content goes to an anonymous temporary file, which the operating system
//! deletes when it is closed, even after a crash.

#[cfg(test)]
mod tests;
mod unsupported;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use chrono::{Datelike as _, NaiveDate};
use encoding_rs::{Encoding, UTF_8};
use flate2::read::MultiGzDecoder;

use super::decode::{broken, decode_head, detect_utf_16};
use super::xml::XmlReader;
use super::{Format, FormatError, Input, list_names};
use crate::archive::{Archive, Budget, MAX_UNPACKED, MemberKind};

/// Most data files in one archive.
const MAX_DATA_FILES: usize = 1_000;

/// Bytes at the beginning of a file that are inspected to recognise it.
const HEAD_LENGTH: u64 = 4 * 1024;

/// Extensions of data files in an archive. Other files are skipped, such as the pictures of 1C.
const DATA_EXTENSIONS: &[&str] = &[
    "xml", "yml", "csv", "tsv", "txt", "xls", "xlsx", "json", "ndjson", "jsonl",
];

/// Extensions of nested archives.
const ARCHIVE_EXTENSIONS: &[&str] = &["zip", "gz", "tgz", "rar", "7z", "tar", "bz2", "xz", "zst"];

impl Format {
    /// Returns the name of the format in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the format with this name in the settings. `xlsx` and `xls` are accepted too.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if matches!(name, "xlsx" | "xls") {
            return Some(Self::Sheet);
        }
        name.parse().ok()
    }

    /// Detects the format of an unpacked file by its content, and rewinds the file. `encoding` is
    /// the one in the settings.
    ///
    /// # Errors
    /// The file cannot be read, or its format is not supported.
    pub fn detect(
        input: &mut dyn Input,
        encoding: Option<&'static Encoding>,
    ) -> Result<Self, FormatError> {
        let head = read_head(input)?;
        if head.starts_with(XLS_MAGIC) || head.starts_with(ZIP_MAGIC) {
            return Ok(Self::Sheet);
        }
        unsupported::reject_binary_document(&head)?;
        let text = decode_head(&head, encoding.unwrap_or_else(|| guess_encoding(&head)));
        unsupported::reject_text_document(&text)?;
        let is_control = |c: char| c.is_ascii_control() && !"\0\t\r\n\u{c}\u{1a}".contains(c);
        match text.trim_start().chars().next() {
            None => Err(broken(0, "it is empty")),
            Some('<') => detect_xml_format(input, encoding),
            Some('{' | '[') => Ok(Self::Json),
            Some(_) if text.contains(is_control) => Err(FormatError::Unusable(
                "the file is neither text nor a workbook".to_owned(),
            )),
            Some(_) => Ok(Self::Csv),
        }
    }
}

const GZIP_MAGIC: &[u8] = b"\x1f\x8b";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
const EMPTY_ZIP_MAGIC: &[u8] = b"PK\x05\x06";
const XLS_MAGIC: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// Returns the first bytes and rewinds the input.
fn read_head(input: &mut dyn Input) -> Result<Vec<u8>, FormatError> {
    let mut head = Vec::new();
    input.rewind()?;
    input.take(HEAD_LENGTH).read_to_end(&mut head)?;
    input.rewind()?;
    Ok(head)
}

/// Returns an encoding that is good enough to recognise the first character.
fn guess_encoding(head: &[u8]) -> &'static Encoding {
    match head {
        [0, _, ..] => encoding_rs::UTF_16BE,
        [_, 0, ..] => encoding_rs::UTF_16LE,
        _ => detect_utf_16(head).unwrap_or(UTF_8),
    }
}

/// Detects the format of an XML document by its root element.
fn detect_xml_format(
    input: &mut dyn Input,
    encoding: Option<&'static Encoding>,
) -> Result<Format, FormatError> {
    let mut xml = XmlReader::new(input, encoding)?;
    xml.next_element()?;
    let root = xml.name().to_owned();
    input.rewind()?;
    match root.as_str() {
        "yml_catalog" => Ok(Format::Yml),
        "КоммерческаяИнформация" => Ok(Format::CommerceMl),
        _ => Err(unsupported::unsupported_root(&root).unwrap_or_else(|| {
            FormatError::Unusable(format!(
                "the root is <{root}>, it must be <yml_catalog> or <КоммерческаяИнформация>"
            ))
        })),
    }
}

/// An unpacked data file.
pub struct DataFile<'a> {
    /// Name for messages.
    pub name: &'a str,
    /// Format of the file.
    pub format: Format,
    /// Content, positioned at its beginning.
    pub input: &'a mut dyn Input,
}

/// Callback that receives the data files one after the other.
pub type VisitDataFile<'a> = &'a mut dyn FnMut(DataFile<'_>) -> Result<(), FormatError>;

/// Settings that replace detection.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatHints {
    /// Format of all files; detected if `None`.
    pub format: Option<Format>,
    /// Encoding of text files; detected if `None`.
    pub encoding: Option<&'static Encoding>,
}

/// Passes the data files of a file or archive to the callback, in the archive's order.
///
/// `spool` is the directory for unpacked files. An archive is verified only at its end, so the caller
/// must discard data received before an error.
///
/// # Errors
/// The archive is broken, too large when unpacked, or without a data file; or the callback fails.
pub fn unpack(
    name: &str,
    input: &mut dyn Input,
    hints: FormatHints,
    spool: &Path,
    visit: VisitDataFile<'_>,
) -> Result<(), FormatError> {
    match ContainerFormat::detect(input)? {
        ContainerFormat::Plain => visit_file(name, input, hints, visit),
        ContainerFormat::Gzip => {
            let packed_size = input.seek(SeekFrom::End(0))?;
            input.rewind()?;
            let mut unpacked = tempfile::tempfile_in(spool)?;
            let mut budget = Budget::new(packed_size, MAX_UNPACKED);
            budget.copy(&mut MultiGzDecoder::new(input), &mut unpacked, name)?;
            unpacked.rewind()?;
            let inner_name = name.strip_suffix(".gz").unwrap_or(name);
            visit_unpacked(inner_name, unpacked, hints, visit)
        }
        ContainerFormat::Zip => unpack_zip(name, input, hints, spool, visit),
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ContainerFormat {
    Plain,
    Gzip,
    Zip,
}

impl ContainerFormat {
    fn detect(input: &mut dyn Input) -> Result<Self, FormatError> {
        let head = read_head(input)?;
        if head.starts_with(GZIP_MAGIC) {
            return Ok(Self::Gzip);
        }
        if !head.starts_with(ZIP_MAGIC) && !head.starts_with(EMPTY_ZIP_MAGIC) {
            return Ok(Self::Plain);
        }
        let archive = Archive::open("the archive", &mut *input, MAX_UNPACKED)?;
        unsupported::reject_archive_document(archive.raw_names())?;
        let is_workbook = archive
            .raw_names()
            .any(|name| name == b"[Content_Types].xml" || name.starts_with(b"xl/"));
        input.rewind()?;
        Ok(if is_workbook { Self::Plain } else { Self::Zip })
    }
}

fn visit_file(
    name: &str,
    input: &mut dyn Input,
    hints: FormatHints,
    visit: VisitDataFile<'_>,
) -> Result<(), FormatError> {
    let format = hints
        .format
        .map_or_else(|| Format::detect(input, hints.encoding), Ok)?;
    input.rewind()?;
    visit(DataFile {
        name,
        format,
        input,
    })
}

/// Passes an unpacked file to the callback. A nested archive is an error.
fn visit_unpacked(
    name: &str,
    mut file: File,
    hints: FormatHints,
    visit: VisitDataFile<'_>,
) -> Result<(), FormatError> {
    match ContainerFormat::detect(&mut file)? {
        ContainerFormat::Plain => visit_file(name, &mut file, hints, visit),
        ContainerFormat::Gzip | ContainerFormat::Zip => Err(nested_archive_error(name)),
    }
}

fn nested_archive_error(name: &str) -> FormatError {
    FormatError::Unusable(format!(
        "'{name}' is an archive within an archive: pack it only once"
    ))
}

fn unpack_zip(
    name: &str,
    input: &mut dyn Input,
    hints: FormatHints,
    spool: &Path,
    visit: VisitDataFile<'_>,
) -> Result<(), FormatError> {
    let mut archive = Archive::open(name, input, MAX_UNPACKED)?;
    let mut file_count = 0;
    let mut other_names = Vec::new();
    let mut members = archive.members()?;
    members.retain(|member| member.kind != MemberKind::Directory);
    let names = members.iter().map(|member| member.name.as_str());
    reject_several_dates(names.filter(|name| matches!(is_data_file(name), Ok(true))))?;
    for member in members {
        if !is_data_file(&member.name)? {
            other_names.push(member.name);
            continue;
        }
        file_count += 1;
        if file_count > MAX_DATA_FILES {
            return Err(FormatError::Unusable(format!(
                "'{name}' contains more than {MAX_DATA_FILES} data files"
            )));
        }
        let mut file = tempfile::tempfile_in(spool)?;
        archive.unpack(&member, &mut file)?;
        file.rewind()?;
        visit_unpacked(&member.name, file, hints, &mut *visit)?;
    }
    if file_count == 0 {
        let others = list_names(&other_names, 10);
        return Err(FormatError::Unusable(format!(
            "the archive '{name}' contains no data file ({}); it contains {}",
            DATA_EXTENSIONS.join(", "),
            if others.is_empty() {
                "no file"
            } else {
                &others
            }
        )));
    }
    Ok(())
}

/// Rejects an archive with exports of several days, because stock of different days must not be
/// mixed.
fn reject_several_dates<'n>(names: impl Iterator<Item = &'n str>) -> Result<(), FormatError> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for name in names {
        let Some(undated) = without_date(name) else {
            continue;
        };
        if let Some(other) = seen.insert(undated, name) {
            return Err(FormatError::Unusable(format!(
                "'{other}' and '{name}' in the archive differ only in a date: leave one export in the \
                 archive"
            )));
        }
    }
    Ok(())
}

/// Returns a name with its dates replaced, such as `2026-11-28`, `28.11.2026` or `20261128_1000`;
/// `None` if it has no date.
fn without_date(name: &str) -> Option<String> {
    let is_date_char = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | '_' | ' ');
    let mut undated = String::new();
    let mut has_date = false;
    let mut rest = name;
    while let Some(first) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from_digit) = rest.split_at(first);
        let end = from_digit.find(|c| !is_date_char(c));
        let run = from_digit.get(..end.unwrap_or(from_digit.len()));
        let run = run
            .unwrap_or_default()
            .trim_end_matches(|c: char| !c.is_ascii_digit());
        undated.push_str(before);
        let length = date_length(run);
        has_date |= length.is_some();
        undated.push_str(if length.is_some() { "#" } else { run });
        let after = from_digit.get(length.unwrap_or(run.len())..);
        rest = after.unwrap_or_default();
    }
    undated.push_str(rest);
    has_date.then_some(undated)
}

/// Returns the length in bytes of a date, and of a time after it, at the start of a run of digits
/// and marks.
fn date_length(run: &str) -> Option<usize> {
    let is_digit = |c: &char| c.is_ascii_digit();
    let is_end_of_digits = |end: usize| {
        !run.get(end..)
            .is_some_and(|rest| rest.starts_with(|c| is_digit(&c)))
    };
    let is_of_this_century = |day: NaiveDate| (2000..2100).contains(&day.year());
    let parses =
        |text: &str, format| NaiveDate::parse_from_str(text, format).is_ok_and(is_of_this_century);
    let is_day = |text: &str| parses(text, "%Y%m%d") || parses(text, "%d%m%Y");
    let digits: String = run.chars().filter(is_digit).collect();
    let ends = run.char_indices().filter(|(_, c)| is_digit(c));
    for count in [14, 12, 8] {
        if let Some((last, _)) = ends.clone().nth(count - 1)
            && is_end_of_digits(last + 1)
            && digits.get(..8).is_some_and(is_day)
            && (count == 8
                || digits.get(8..10).is_some_and(|hour| hour < "24")
                    && digits.get(10..12).is_some_and(|minute| minute < "60"))
        {
            return Some(last + 1);
        }
    }
    // `28.11.26`
    let short = run.get(..8).filter(|text| text.matches('.').count() == 2)?;
    (is_end_of_digits(8) && NaiveDate::parse_from_str(short, "%d.%m.%y").is_ok()).then_some(8)
}

/// Returns true if a file name is that of a data file, not of a picture or of a desktop's own
/// files.
///
/// # Errors
/// The file is a nested archive.
fn is_data_file(path: &str) -> Result<bool, FormatError> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    if name.starts_with(['.', '~']) || path.split(['/', '\\']).any(|folder| folder == "__MACOSX") {
        return Ok(false);
    }
    let Some((_, extension)) = name.rsplit_once('.') else {
        return Ok(false);
    };
    let extension = extension.to_ascii_lowercase();
    let is_one_of = |known: &[&str]| known.contains(&extension.as_str());
    if is_one_of(ARCHIVE_EXTENSIONS) {
        return Err(nested_archive_error(path));
    }
    Ok(is_one_of(DATA_EXTENSIONS))
}
