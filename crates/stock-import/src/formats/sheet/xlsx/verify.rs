//! Verification of an XLSX archive before its cells are read: checksums, sizes and names. Also
//! finds properties that concern the whole workbook.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use super::broken;
use crate::archive::{Archive, Member};
use crate::formats::{FormatError, Input};

/// Largest unpacked size of the shared strings in bytes. All of them are kept in memory.
const MAX_SHARED_STRINGS: u64 = 128 << 20;

/// Largest unpacked size of the styles in bytes. They take more than that in memory.
const MAX_STYLES: u64 = 8 << 20;

/// Part with the list of sheets.
const WORKBOOK_PART: &str = "xl/workbook.xml";

/// Largest size of that part in bytes. All of it is in memory.
const MAX_WORKBOOK_PART: u64 = 64 << 20;

/// Most files in the archive.
const MAX_FILES: usize = 10_000;

/// Most merged ranges of a workbook. They are kept in memory.
const MAX_MERGES: usize = 1_000_000;

/// Largest unpacked size of the archive in bytes, enough for about five million rows.
const MAX_UNPACKED: u64 = 1 << 30;

/// Properties of a workbook, found while it is verified. Stored zeros may be placeholders if the
/// workbook requests calculation on opening.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WorkbookTraits {
    /// Zeros of cells with a formula may be placeholders.
    pub(super) has_stale_formulas: bool,
    /// Zeros of all other cells may be too: an array formula or a data table fills cells that do
    /// not mention it.
    pub(super) has_stale_array_cells: bool,
    /// Some sheet has merged cells. Searching for them takes as long as reading a sheet.
    pub(super) has_merges: bool,
}

/// Unpacks the whole archive once to verify its checksums and sizes. `calamine` checks neither.
pub(super) fn verify_archive(input: &mut dyn Input) -> Result<WorkbookTraits, FormatError> {
    let mut archive = Archive::open("the workbook", BufReader::new(input), MAX_UNPACKED)?;
    let members = archive.members()?;
    if members.len() > MAX_FILES {
        return Err(broken(format!(
            "it has {} files, the limit is {MAX_FILES}",
            members.len()
        )));
    }
    let mut main_part = Vec::new();
    let (mut has_arrays, mut merge_count) = (false, 0_usize);
    for member in &members {
        if member.name == WORKBOOK_PART {
            check_length(member, MAX_WORKBOOK_PART)?;
            archive.unpack(member, &mut main_part)?;
        } else {
            let scanner = verify_entry(&mut archive, member)?;
            has_arrays |= scanner.has_arrays;
            merge_count += scanner.merge_count;
            if merge_count > MAX_MERGES {
                return Err(FormatError::Unusable(format!(
                    "the workbook has over {MAX_MERGES} merged ranges: export it without them, or as \
                     CSV"
                )));
            }
        }
    }
    verify_names(archive.into_inner().into_inner(), &members)?;
    let has_stale_formulas = requests_recalculation(&main_part);
    Ok(WorkbookTraits {
        has_stale_formulas,
        has_stale_array_cells: has_stale_formulas && has_arrays,
        has_merges: merge_count > 0,
    })
}

/// Returns true if the main part of a workbook requests calculation of formulas on opening.
fn requests_recalculation(part: &[u8]) -> bool {
    let text = String::from_utf8_lossy(part);
    let tag = text
        .split("calcPr")
        .nth(1)
        .and_then(|after| after.split('>').next());
    let has_attribute = |name: &str, values: [&str; 2]| {
        let value = tag.and_then(|tag| tag.split(name).nth(1));
        let value = value.map(|value| value.trim_start_matches(['=', '"', '\'', ' ']));
        value.is_some_and(|value| values.iter().any(|known| value.starts_with(known)))
    };
    has_attribute("fullCalcOnLoad", ["1", "true"])
        || has_attribute("forceFullCalc", ["1", "true"])
        || has_attribute("calcCompleted", ["0", "false"])
}

fn check_length(member: &Member, limit: u64) -> Result<(), FormatError> {
    if member.length <= limit {
        return Ok(());
    }
    Err(FormatError::Unusable(format!(
        "{} in the workbook is {} bytes long, the limit is {limit}: export the sheet as CSV",
        member.name, member.length
    )))
}

/// Compares the two copies of each name in the archive, because names have no checksum. A workbook
/// with renamed styles would open without them: dates would become numbers, and SKUs would lose
/// leading zeros.
fn verify_names(input: &mut dyn Input, members: &[Member]) -> Result<(), FormatError> {
    const NAME_OFFSET: u64 = 30;
    for Member {
        header_start,
        raw_name: name,
        ..
    } in members
    {
        input.seek(SeekFrom::Start(header_start.saturating_add(NAME_OFFSET)))?;
        let mut local_name = Vec::with_capacity(name.len());
        Read::take(&mut *input, name.len() as u64).read_to_end(&mut local_name)?;
        if local_name != *name {
            let name = String::from_utf8_lossy(name);
            return Err(broken(format!("{name} has another name in the directory")));
        }
    }
    Ok(())
}

/// Verifies the checksum, the length and the declared number of texts of one file.
fn verify_entry<R: Read + Seek>(
    archive: &mut Archive<R>,
    member: &Member,
) -> Result<XlsxPartScanner, FormatError> {
    let Member { name, length, .. } = member;
    let limit = match name.to_ascii_lowercase() {
        texts if texts.ends_with("sharedstrings.xml") => MAX_SHARED_STRINGS,
        styles if styles.ends_with("styles.xml") => MAX_STYLES,
        _ => MAX_UNPACKED,
    };
    check_length(member, limit)?;
    let is_sheet = name.to_ascii_lowercase().starts_with("xl/worksheets/");
    let mut scanner = XlsxPartScanner {
        is_sheet,
        ..XlsxPartScanner::default()
    };
    archive.unpack(member, &mut scanner)?;
    // `calamine` allocates the declared number of texts before it reads the first one.
    match declared_count(&scanner.head) {
        Some(texts) if texts > *length => Err(broken(format!(
            "{name} declares {texts} texts in {length} bytes"
        ))),
        _ => Ok(scanner),
    }
}

/// Writer that keeps the first 4 KiB of a part, and counts array formulas and merged cells of a
/// sheet.
#[derive(Default)]
struct XlsxPartScanner {
    head: Vec<u8>,
    is_sheet: bool,
    /// Some formula fills several cells.
    has_arrays: bool,
    /// Number of `mergeCell` tags, at most twice the number of merged ranges.
    merge_count: usize,
    /// End of the bytes written last.
    tail: Vec<u8>,
}

impl XlsxPartScanner {
    /// Searches for array formulas and merged cells, across the borders of chunks.
    fn scan(&mut self, bytes: &[u8]) {
        const TYPES: [&[u8]; 4] = [
            b"t=\"array\"",
            b"t='array'",
            b"t=\"dataTable\"",
            b"t='dataTable'",
        ];
        const MERGE: &[u8] = b"mergeCell";
        const MAX_OVERLAP: usize = 14;
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(bytes);
        for (at, _) in joined
            .iter()
            .enumerate()
            .filter(|(_, byte)| byte.is_ascii_whitespace())
        {
            let (before, after) = joined.split_at(at);
            self.merge_count += usize::from(before.ends_with(MERGE));
            let attribute = after.get(1..).unwrap_or_default();
            self.has_arrays |= TYPES.iter().any(|kind| attribute.starts_with(kind));
        }
        let keep = joined.len().saturating_sub(MAX_OVERLAP);
        self.tail = joined.split_off(keep);
    }
}

impl Write for XlsxPartScanner {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        const HEAD_LENGTH: usize = 4 * 1024;
        let length = HEAD_LENGTH.saturating_sub(self.head.len()).min(bytes.len());
        self.head
            .extend_from_slice(bytes.get(..length).unwrap_or_default());
        if self.is_sheet {
            self.scan(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the declared number of shared strings.
fn declared_count(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head);
    let (_, after) = head.split_once("uniqueCount")?;
    let digits: String = after
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    Some(digits.parse().unwrap_or(u64::MAX))
}
