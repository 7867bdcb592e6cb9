//! Tests of the workbook readers: choice of sheets, cells, formulas, merged cells and damaged
//! files.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::super::super::row::{DeliveryCancelled, DeliveryEntry, ProductKey};
use super::*;

const MARKET: &[u8] = include_bytes!("../../../../../fixtures/sources/market-stocks.xlsx");
const XLSX: &[u8] = include_bytes!("../../../../../fixtures/sources/cells.xlsx");
const XLS: &[u8] = include_bytes!("../../../../../fixtures/sources/cells.xls");

/// Returns the entries of a workbook and the result of reading it.
fn read_result(
    file: &[u8],
    reading: &ReadSettings,
) -> (Vec<DeliveryEntry>, Result<FileSummary, FormatError>) {
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    let result = read(&mut Cursor::new(file), reading, &mut sink);
    (found, result)
}

fn entries(file: &[u8], reading: &ReadSettings) -> Vec<DeliveryEntry> {
    let (found, result) = read_result(file, reading);
    assert_eq!(result.unwrap().scope, None);
    found
}

fn error_message(file: &[u8], reading: &ReadSettings) -> String {
    let (found, result) = read_result(file, reading);
    assert_eq!(found, []);
    result.unwrap_err().to_string()
}

fn described(entry: &DeliveryEntry) -> String {
    match entry {
        DeliveryEntry::Row(row) => {
            let (ProductKey::Sku(sku) | ProductKey::Id(sku)) = &row.key;
            let quantity = row.quantity.map(|quantity| quantity.to_string());
            format!("{}: {sku}={}", row.line, quantity.unwrap_or_default())
        }
        DeliveryEntry::Article { id, sku } => format!("{id}~{sku}"),
        DeliveryEntry::PartBoundary => "--".to_owned(),
        DeliveryEntry::Rejected(fault) => format!("{}! {}", fault.line, fault.reason),
        DeliveryEntry::Suspicious(fault) => format!("{}? {}", fault.line, fault.reason),
    }
}

fn reading_of_sheet(sheet: &str) -> ReadSettings {
    ReadSettings {
        sheet: Some(sheet.into()),
        ..ReadSettings::default()
    }
}

/// Returns a workbook with each of its parts changed.
fn changed(file: &[u8], mut change: impl FnMut(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(file)).unwrap();
    let mut new = ZipWriter::new(Cursor::new(Vec::new()));
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).unwrap();
        let name = String::from_utf8(file.name_raw().to_vec()).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        new.start_file(name.as_str(), options).unwrap();
        new.write_all(&change(&name, bytes)).unwrap();
    }
    new.finish().unwrap().into_inner()
}

fn replaced(file: &[u8], part: &str, from: &str, to: &str) -> Vec<u8> {
    let mut is_found = false;
    let new = changed(file, |name, bytes| {
        if !name.ends_with(part) {
            return bytes;
        }
        let text = String::from_utf8(bytes).unwrap();
        is_found |= text.contains(from);
        text.replacen(from, to, 1).into_bytes()
    });
    assert!(is_found, "{part} has no {from}");
    new
}

/// Returns the expected entries of the same cells in XLSX and XLS.
fn expected_cells() -> Vec<String> {
    [
        "4: A-1=5",
        "5? sku is the number 557722, and other SKUs have leading zeros, which this one may have \
         lost: format the cell as text, or set suspicious_sku = \"take\"",
        "6: 0557722=7",
        "7: 12.50=8",
        "8? sku is the number 1234567890123456, whose last digits are lost: format the cell as text",
        "9? sku is 'TRUE', which is how a spreadsheet shows a date, a boolean or an error: format \
         the cell as text",
        "10! quantity is '46.5', it must be whole, or set fraction = \"floor\"",
        "11: A-8=3",
        "12! quantity is 'нет', it must be a number, or a word listed in the setting words",
        "13: A-10=1234",
        "14: A-11=",
        "16! sku is empty, and quantity is '3'",
        "17! quantity is 'TRUE', it must be a number",
        "19! quantity is '-2', it must not be negative, or set negative = \"zero\"",
        "21? sku is 'a date', which is how a spreadsheet shows a date, a boolean or an error: format \
         the cell as text",
        "22! quantity is 'a date', it must be a number",
        "23! quantity is '#N/A', it must be a number",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn finds_the_market_sheet_after_instructions() {
    let found = entries(
        MARKET,
        &ReadSettings {
            reserve: Some("Резерв".into()),
            ..ReadSettings::default()
        },
    );
    let rows: Vec<_> = found.iter().map(described).collect();
    assert_eq!(rows, ["2: 0557722=15", "3: БОЛТ-М5=0", "4: A 9="]);
    let DeliveryEntry::Row(row) = &found[0] else {
        panic!("{found:?}")
    };
    assert_eq!(row.warehouse.as_deref(), Some("Юг (Ромашка)"));
    assert_eq!(
        row.reserve, None,
        "the quantity already excludes the reserve"
    );
}

#[test]
fn reads_or_rejects_every_kind_of_cell() {
    let found: Vec<_> = entries(XLSX, &ReadSettings::default())
        .iter()
        .map(described)
        .collect();
    assert_eq!(found, expected_cells());
}

#[test]
fn xls_and_xlsx_yield_the_same_rows() {
    let found: Vec<_> = entries(XLS, &reading_of_sheet("Лист1"))
        .iter()
        .map(described)
        .collect();
    let mut expected = expected_cells();
    // A formula that was never calculated has no quantity.
    expected.push("24: A-24=".to_owned());
    assert_eq!(found, expected);
    let second = entries(XLS, &reading_of_sheet(" ЕЩЁ "));
    assert_eq!(second.len(), 40);
    assert_eq!(described(&second[39]), "41: X-39=39");
}

#[test]
fn describes_a_row_as_displayed() {
    let found = entries(XLSX, &ReadSettings::default());
    let text = found.iter().find_map(|entry| match entry {
        DeliveryEntry::Rejected(fault) if fault.line == 10 => Some(fault.text.as_str()),
        _ => None,
    });
    assert_eq!(text, Some("A-7 | дробное | 46.5"));
}

#[test]
fn reads_the_sheet_named_by_the_setting() {
    assert_eq!(entries(MARKET, &reading_of_sheet("остатки")).len(), 3);
    let message = error_message(MARKET, &reading_of_sheet("Инструкция"));
    assert!(message.contains("Как заполнить шаблон"), "{message}");
    let message = error_message(MARKET, &reading_of_sheet("Лист1"));
    assert!(
        message.contains("it has 'Инструкция', 'Остатки'"),
        "{message}"
    );
    let message = error_message(XLS, &reading_of_sheet("x"));
    assert!(message.contains("it has 'Лист1', 'Ещё'"), "{message}");
}

#[test]
fn lists_the_error_of_every_sheet() {
    let reading = ReadSettings {
        quantity: Some("нет такого".into()),
        ..ReadSettings::default()
    };
    for file in [MARKET, XLS] {
        let message = error_message(file, &reading);
        assert!(message.matches("sheet '").count() == 2, "{message}");
        assert!(
            message.contains("'нет такого' in the setting quantity"),
            "{message}"
        );
    }
}

#[test]
fn prefers_visible_sheets_over_hidden_ones() {
    let hidden = replaced(
        XLSX,
        "workbook.xml",
        "state=\"visible\"",
        "state=\"hidden\"",
    );
    assert_eq!(
        entries(&hidden, &ReadSettings::default()),
        entries(XLSX, &ReadSettings::default())
    );
}

#[test]
fn rejects_files_that_are_not_workbooks() {
    for file in [&b""[..], b"P", b"sku;stock\nA;5\n", b"<html>"] {
        assert!(
            error_message(file, &ReadSettings::default()).contains("neither an XLSX nor an XLS")
        );
    }
    assert!(error_message(b"PK\x03\x04", &ReadSettings::default()).contains("broken"));
    assert!(error_message(b"\xd0\xcf\x11\xe0", &ReadSettings::default()).contains("truncated"));
}

#[test]
fn distinguishes_encrypted_from_damaged_workbooks() {
    let in_directory = |name: &str| name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (from, to): (Vec<u8>, Vec<u8>) =
        (in_directory("Workbook"), in_directory("EncryptedPackage"));
    let at = XLS
        .windows(from.len())
        .position(|bytes| bytes == from)
        .unwrap();
    let mut file = XLS.to_vec();
    file[at..at + to.len()].copy_from_slice(&to);
    file[at + 64] = u8::try_from(to.len() + 2).unwrap();
    let message = error_message(&file, &ReadSettings::default());
    assert!(message.contains("protected by a password"), "{message}");
}

#[test]
fn rejects_bombs_and_false_text_counts() {
    let bomb = changed(XLSX, |name, bytes| {
        if name.ends_with("styles.xml") {
            vec![b' '; 9 << 20]
        } else {
            bytes
        }
    });
    assert!(bomb.len() < 64 * 1024);
    let message = error_message(&bomb, &ReadSettings::default());
    assert!(
        message.contains("styles.xml in the workbook is 9437184 bytes long, the limit is 8388608"),
        "{message}"
    );
    let declaration = "<sst uniqueCount=\"99999999999999\" ";
    let changed = replaced(MARKET, "sharedStrings.xml", "<sst ", declaration);
    assert!(error_message(&changed, &ReadSettings::default()).contains("declares"));
}

#[test]
fn truncated_workbook_yields_no_row() {
    for file in [XLSX, MARKET] {
        for cut in 0..file.len() {
            let (found, result) = read_result(&file[..cut], &ReadSettings::default());
            assert!(found.is_empty() && result.is_err(), "truncated at {cut}");
        }
    }
    let complete = entries(XLS, &reading_of_sheet("Лист1"));
    for cut in 0..XLS.len() {
        let (found, result) = read_result(&XLS[..cut], &reading_of_sheet("Лист1"));
        // Truncation may remove only padding.
        assert!(
            if result.is_ok() {
                found == complete
            } else {
                found.is_empty()
            },
            "truncated at {cut}"
        );
    }
}

#[test]
fn changed_byte_in_xlsx_changes_no_value() {
    for file in [XLSX, MARKET] {
        assert_no_changed_value(file);
    }
}

fn assert_no_changed_value(workbook: &[u8]) {
    let complete = entries(workbook, &ReadSettings::default());
    for at in (0..workbook.len()).step_by(2) {
        let mut file = workbook.to_vec();
        file[at] ^= 0x10;
        let (found, result) = read_result(&file, &ReadSettings::default());
        // A change of dates or flags in the archive's directory does not affect the contents.
        assert!(
            if result.is_ok() {
                found == complete
            } else {
                found.is_empty()
            },
            "byte {at}"
        );
    }
}

#[test]
fn rejects_a_part_renamed_in_the_directory() {
    let name = b"xl/styles.xml";
    let at = MARKET
        .windows(name.len())
        .rposition(|window| window == name)
        .unwrap();
    for end in [b'/', b'\\'] {
        let mut file = MARKET.to_vec();
        file[at + name.len() - 1] = end;
        let message = error_message(&file, &ReadSettings::default());
        assert!(
            message.contains("has another name in the directory"),
            "{message}"
        );
    }
}

#[test]
fn stops_when_the_sink_cancels() {
    for file in [XLSX, XLS] {
        let mut sink = |_| Err(DeliveryCancelled);
        let result = read(
            &mut Cursor::new(file),
            &reading_of_sheet("Лист1"),
            &mut sink,
        );
        assert!(
            matches!(result, Err(FormatError::Cancelled(_))),
            "{result:?}"
        );
    }
}

fn misread_sample(name: &str) -> Vec<u8> {
    crate::formats::testing::sample(&format!("misread/{name}"))
}

fn described_rows(name: &str) -> Vec<String> {
    entries(&misread_sample(name), &ReadSettings::default())
        .iter()
        .map(described)
        .collect()
}

#[test]
fn uncalculated_formula_is_suspicious() {
    let file = misread_sample("formula-cached-zero.xlsx");
    let rows = described_rows("formula-cached-zero.xlsx");
    assert!(!rows.is_empty());
    assert!(
        rows.iter()
            .all(|row| row.contains("? quantity is a formula")),
        "{rows:?}"
    );
    // The same zeros are valid if the program that saved them calculates formulas.
    let saved = replaced(&file, "workbook.xml", "fullCalcOnLoad", "calcCompleted");
    let rows: Vec<_> = entries(&saved, &ReadSettings::default())
        .iter()
        .map(described)
        .collect();
    assert!(rows.iter().all(|row| row.ends_with("=0")), "{rows:?}");
}

#[test]
fn uncalculated_array_zero_is_suspicious() {
    let file = misread_sample("formula-cached-zero.xlsx");
    let array = replaced(
        &file,
        "sheet1.xml",
        "<f>B2-C2</f>",
        "<f t=\"array\" ref=\"D2:D3\">B2-C2</f>",
    );
    // The second cell of the array does not mention the formula.
    let array = replaced(&array, "sheet1.xml", "<f>B3-C3</f>", "");
    let rows: Vec<_> = entries(&array, &ReadSettings::default())
        .iter()
        .map(described)
        .collect();
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter()
            .all(|row| row.contains("? quantity is a formula")),
        "{rows:?}"
    );
    let saved = replaced(&array, "workbook.xml", "fullCalcOnLoad", "calcCompleted");
    let rows: Vec<_> = entries(&saved, &ReadSettings::default())
        .iter()
        .map(described)
        .collect();
    assert!(rows.iter().all(|row| row.ends_with("=0")), "{rows:?}");
}

#[test]
fn rejects_a_formula_without_a_value() {
    let rows = described_rows("formula-no-cache.xlsx");
    let of_formulas: Vec<_> = rows
        .iter()
        .filter(|row| row.contains("without a stored"))
        .collect();
    assert_eq!(of_formulas.len(), 2, "{rows:?}");
    assert!(
        of_formulas
            .iter()
            .all(|row| row.contains("! quantity is a formula")),
        "{rows:?}"
    );
}

#[test]
fn merged_cells_fill_their_rows() {
    let merged = "quantity: the cell is merged over rows of several products or warehouses: give \
                  each row its own cell";
    for name in ["merged-cells.xlsx", "merged-cells.xls"] {
        let found = entries(&misread_sample(name), &ReadSettings::default());
        let rows: Vec<_> = found.iter().map(described).collect();
        let suspicious = |line: u64| format!("{line}? {merged}");
        let expected = ["2: A-1=5", "3: A-1=7", "4: B-2=3", "5: C-3=4"].map(str::to_owned);
        let expected = expected.into_iter().chain([suspicious(6), suspicious(7)]);
        let expected = expected.chain(["8: F-6=9", "10: G-7=1"].map(str::to_owned));
        assert_eq!(rows, expected.collect::<Vec<_>>(), "{name}");
        let warehouse = |entry: &DeliveryEntry| match entry {
            DeliveryEntry::Row(row) => row.warehouse.clone().unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        let warehouses: Vec<_> = found.iter().take(4).map(warehouse).collect();
        assert_eq!(warehouses, ["Юг", "Север", "Юг", "Юг"], "{name}");
    }
}

#[test]
fn rejects_a_continued_sheet_without_a_header() {
    let file = misread_sample("two-sheets.xlsx");
    let names = workbook_names(&file);
    let headless = changed(&file, |part, bytes| {
        if !part.ends_with("sheet2.xml") {
            return bytes;
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, rows) = text.split_once("<row").unwrap();
        let (_, rows) = rows.split_once("</row>").unwrap();
        format!("{head}{rows}").into_bytes()
    });
    for reading in [ReadSettings::default(), reading_of_sheet("*")] {
        let (_, result) = read_result(&headless, &reading);
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains("has no header, and its first rows look like"),
            "{message}"
        );
    }
    assert_eq!(entries(&headless, &reading_of_sheet(&names[0])).len(), 2);
}

fn workbook_names(file: &[u8]) -> Vec<String> {
    let message = error_message(file, &ReadSettings::default());
    message
        .split('\'')
        .skip(1)
        .step_by(2)
        .take(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn rejects_a_duplicate_cell() {
    let file = misread_sample("merged-cells.xlsx");
    let twice = replaced(
        &file,
        "sheet1.xml",
        "<c r=\"C4\" t=\"n\"><v>3</v></c>",
        "<c r=\"C4\" t=\"n\"><v>3</v></c><c r=\"C4\" t=\"n\"><v>0</v></c>",
    );
    let (_, result) = read_result(&twice, &ReadSettings::default());
    let message = result.unwrap_err().to_string();
    assert!(
        message.contains("cell 3 of row 4 is stated twice"),
        "{message}"
    );
}

#[test]
fn leading_zeros_are_compared_across_sheets() {
    let file = misread_sample("two-sheets.xlsx");
    let padded = changed(&file, |_, bytes| {
        let text = String::from_utf8(bytes).unwrap();
        text.replacen(">A-1<", ">0557722<", 1).into_bytes()
    });
    let number = replaced(
        &padded,
        "sheet2.xml",
        "<c r=\"A3\" t=\"inlineStr\"><is><t>B-9</t></is></c>",
        "<c r=\"A3\"><v>557723</v></c>",
    );
    let rows: Vec<_> = entries(&number, &reading_of_sheet("*"))
        .iter()
        .map(described)
        .collect();
    let lost = rows.iter().find(|row| row.contains("557723")).unwrap();
    assert!(
        lost.contains("? sku is the number 557723, and other SKUs have leading zeros"),
        "{rows:?}"
    );
}

#[test]
fn rejects_several_sheets_without_a_setting() {
    let file = misread_sample("two-sheets.xlsx");
    let message = error_message(&file, &ReadSettings::default());
    assert!(
        message.contains("several sheets have the columns") && message.contains("set sheet"),
        "{message}"
    );
    let all: Vec<_> = entries(&file, &reading_of_sheet("*"))
        .iter()
        .map(described)
        .collect();
    assert_eq!(all, ["2: A-1=5", "3: A-2=3", "2: A-1=7", "3: B-9=4"]);
    let names = workbook_names(&file);
    assert_eq!(
        entries(&file, &reading_of_sheet(&names[1])).len(),
        2,
        "{names:?}"
    );
    let hidden = replaced(
        &file,
        "workbook.xml",
        "state=\"visible\"",
        "state=\"hidden\"",
    );
    let (found, result) = read_result(&hidden, &ReadSettings::default());
    assert_eq!(found.len(), 2);
    let notices = result.unwrap().notices;
    assert!(notices[0].contains(&names[0]), "{notices:?}");
}

#[test]
fn reads_xls_without_padding_or_with_wrong_count() {
    let control = described_rows("control-padded.xls");
    assert_eq!(control.len(), 2);
    assert_eq!(described_rows("xls-not-padded.xls"), control);
    assert_eq!(described_rows("xls-sst-count.xls").len(), 2);
    assert!(
        described_rows("xls-sst-count.xls")
            .iter()
            .all(|row| row.ends_with("=5") || row.ends_with("=7"))
    );
}

#[test]
fn reads_excel_95_in_its_code_page() {
    let rows = described_rows("excel95.xls");
    assert!(
        rows.len() == 2 && rows[0].ends_with("=5") && rows[1].ends_with("=7"),
        "{rows:?}"
    );
}

proptest! {
    #[test]
    fn changed_xls_does_not_panic(
        changes in proptest::collection::vec((0..XLS.len(), any::<u8>()), 1..40),
        cut in 0..=XLS.len(),
    ) {
        let mut file = XLS.to_vec();
        for (at, byte) in changes {
            file[at] = byte;
        }
        let _any = read_result(&file, &reading_of_sheet("Лист1"));
        let _any = read_result(&file[..cut], &reading_of_sheet("Ещё"));
    }

    #[test]
    fn changed_xlsx_part_does_not_panic(
        workbook in proptest::sample::select(vec![XLSX, MARKET]),
        changes in proptest::collection::vec((0..20_000_usize, any::<u8>()), 1..10),
    ) {
        let file = changed(workbook, |name, mut bytes| {
            let is_read = ["sheet1.xml", "sharedStrings.xml", "workbook.xml", "styles.xml", ".rels"]
                .iter()
                .any(|part| name.ends_with(part));
            for (at, byte) in changes.iter().filter(|_| is_read) {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            bytes
        });
        let _any = read_result(&file, &ReadSettings::default());
    }

    #[test]
    fn random_bytes_do_not_panic(rest in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for magic in [&b"PK\x03\x04"[..], b"\xd0\xcf\x11\xe0", &XLS[..512]] {
            let _any = read_result(&[magic, &rest].concat(), &ReadSettings::default());
        }
    }
}
