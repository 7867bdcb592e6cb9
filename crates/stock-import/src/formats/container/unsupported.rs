//! Recognition of files in formats that are not supported. The error names the format and how to
//! export the stock instead.

use super::super::FormatError;

/// Advice for documents of spreadsheet programs.
const SAVE_AS_ADVICE: &str = "open it in Excel or LibreOffice and save it as XLSX or CSV";

/// Creates the error of a spreadsheet document in an unsupported format.
fn unsupported_error(description: &str) -> FormatError {
    unsupported(description, SAVE_AS_ADVICE)
}

fn unsupported(description: &str, advice: &str) -> FormatError {
    FormatError::Unusable(format!(
        "the file is {description}, which is not supported: {advice}"
    ))
}

const OPEN_DOCUMENT: &str = "an OpenDocument spreadsheet (ODS)";
const HTML_TABLE: &str = "an HTML table, which some programs save with the ending .xls";

/// First bytes of unsupported archives and documents, with their names and advice.
const UNSUPPORTED_SIGNATURES: &[(&[u8], &str, &str)] = &[
    (b"Rar!\x1a\x07", "a RAR archive", PACK_AS_ADVICE),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", PACK_AS_ADVICE),
    (b"BZh", "a bzip2 archive", PACK_AS_ADVICE),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", PACK_AS_ADVICE),
    (b"\xfd7zXZ\x00", "an XZ archive", PACK_AS_ADVICE),
    (
        b"%PDF-",
        "a PDF document",
        "export the stock as XLSX or CSV",
    ),
    (
        b"SQLite format 3\x00",
        "an SQLite database",
        "export the stock as CSV",
    ),
    (
        b"\x00\x01\x00\x00Standard ",
        "an Access database",
        "export the stock as CSV",
    ),
];

/// Advice for archives.
const PACK_AS_ADVICE: &str = "pack it as ZIP or gzip";

/// Rejects an unsupported archive or document by its first bytes.
///
/// # Errors
/// The file has such a format.
pub(super) fn reject_binary_document(head: &[u8]) -> Result<(), FormatError> {
    let is_match = |(bytes, ..): &&(&[u8], &str, &str)| head.starts_with(bytes);
    if let Some((_, description, advice)) = UNSUPPORTED_SIGNATURES.iter().find(is_match) {
        return Err(unsupported(description, advice));
    }
    if is_dbf(head) {
        return Err(unsupported_error("a table of dBASE or FoxPro (DBF)"));
    }
    Ok(())
}

/// Returns true if a file begins with a DBF header: a version and the date of the last change.
fn is_dbf(head: &[u8]) -> bool {
    const FIELD_END: u8 = 0x0d;
    let [version, _, month, day, ..] = head else {
        return false;
    };
    let header = head.get(8..10).and_then(|two| two.first_chunk());
    let header = header.map_or(0, |two| usize::from(u16::from_le_bytes(*two)));
    let is_ended = header > 32
        && head.get(12..14) == Some(&[0, 0])
        && head.get(header - 1) == Some(&FIELD_END);
    matches!(version, 0x03 | 0x30..=0x32 | 0x43 | 0x83 | 0x8b | 0xf5)
        && (1..=12).contains(month)
        && (1..=31).contains(day)
        && is_ended
}

/// Rejects a zip archive that is an unsupported document, by the names in it.
///
/// # Errors
/// The archive is such a document.
pub(super) fn reject_archive_document<'n>(
    names: impl Iterator<Item = &'n [u8]>,
) -> Result<(), FormatError> {
    let names: Vec<&[u8]> = names.collect();
    let has = |name: &[u8]| names.contains(&name);
    let is_numbers_part = |name: &&[u8]| name.to_ascii_lowercase().ends_with(b".iwa");
    if has(b"mimetype") && has(b"content.xml")
        || has(b"META-INF/manifest.xml") && has(b"content.xml")
    {
        return Err(unsupported_error(OPEN_DOCUMENT));
    }
    if has(b"xl/workbook.bin") {
        return Err(unsupported_error("a binary workbook (XLSB)"));
    }
    if names.iter().any(is_numbers_part) || has(b"index.xml") && has(b"buildVersionHistory.plist") {
        return Err(unsupported_error("a spreadsheet of Apple Numbers"));
    }
    if has(b"word/document.xml") {
        return Err(unsupported_error("a Word document"));
    }
    Ok(())
}

/// Rejects a text that is an unsupported document, by its beginning.
///
/// # Errors
/// The text is such a document.
pub(super) fn reject_text_document(head: &str) -> Result<(), FormatError> {
    let start = head.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let lower = start.to_lowercase();
    if lower.starts_with("mime-version:") || lower.starts_with("content-type: multipart/") {
        return Err(unsupported_error(
            "a web archive (MHTML), as Excel saves \"single file web page\"",
        ));
    }
    if lower.starts_with("{\\rtf") {
        return Err(unsupported_error("a rich text document (RTF)"));
    }
    let is_html = [
        "<!doctype html",
        "<html",
        "<table",
        "<body",
        "<meta",
        "<head",
        "<div",
        "<style",
        "<script",
    ]
    .iter()
    .any(|tag| lower.starts_with(tag))
        || (lower.starts_with("<?xml") && lower.contains("<html"));
    if !is_html {
        return Ok(());
    }
    let has_form = [
        "<form",
        "type=\"password\"",
        "type='password'",
        "type=password",
    ]
    .iter()
    .any(|sign| lower.contains(sign));
    let is_table = lower.contains("<table") || lower.contains("schemas-microsoft-com:office:excel");
    if is_table && !has_form {
        return Err(unsupported_error(HTML_TABLE));
    }
    Err(FormatError::Unusable(
        "the file is a web page, such as a login page: check the address and the password of the \
         source"
            .to_owned(),
    ))
}

/// Returns the error of an unsupported spreadsheet document with this root element.
pub(super) fn unsupported_root(root: &str) -> Option<FormatError> {
    Some(unsupported_error(match root {
        "document-content" | "document" => OPEN_DOCUMENT,
        "table" | "center" | "font" | "p" | "b" => HTML_TABLE,
        "Workbook" => "an XML spreadsheet of Excel 2003 (SpreadsheetML)",
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_unsupported_documents() {
        for (head, name) in [
            ("<html><body><table><tr><td>a", Some("an HTML table")),
            ("\u{feff}<!DOCTYPE html><table>", Some("an HTML table")),
            ("<table border=1><tr>", Some("an HTML table")),
            (
                "<html xmlns:x=\"urn:schemas-microsoft-com:office:excel\">",
                Some("an HTML table"),
            ),
            (
                "<html><table><form><input type=password>",
                Some("a login page"),
            ),
            ("<html><h1>502 Bad Gateway</h1>", Some("a web page")),
            ("<div>Сессия истекла</div>", Some("a web page")),
            ("<style>td {}</style><table>", Some("an HTML table")),
            (
                "MIME-Version: 1.0\nContent-Type: multipart/related",
                Some("MHTML"),
            ),
            ("{\\rtf1\\ansi", Some("RTF")),
            ("{\"sku\":1}", None),
            ("sku;stock\n", None),
            ("<?xml version=\"1.0\"?><yml_catalog>", None),
        ] {
            let found = reject_text_document(head)
                .err()
                .map(|error| error.to_string());
            match name {
                None => assert_eq!(found, None, "{head}"),
                Some(name) => assert!(found.unwrap().contains(name), "{head}"),
            }
        }
        let mut dbf = vec![0x03, 126, 11, 29, 2, 0, 0, 0, 65, 0, 20, 0];
        dbf.resize(64, 0);
        dbf.push(0x0d);
        for (head, name) in [
            (
                &b"Rar!\x1a\x07\x01\x00"[..],
                Some("a RAR archive, which is not supported: pack it as ZIP"),
            ),
            (b"7z\xbc\xaf\x27\x1c\x00\x04", Some("7-Zip")),
            (b"BZh91AY&SY", Some("bzip2")),
            (b"\x28\xb5\x2f\xfd\x04", Some("Zstandard")),
            (b"\xfd7zXZ\x00\x00", Some("XZ")),
            (b"%PDF-1.7", Some("export the stock as XLSX or CSV")),
            (b"SQLite format 3\x00", Some("SQLite")),
            (b"\x00\x01\x00\x00Standard Jet DB", Some("Access")),
            (&dbf, Some("DBF")),
            (b"sku;stock\nA;5\n", None),
            (b"", None),
        ] {
            let found = reject_binary_document(head)
                .err()
                .map(|error| error.to_string());
            match name {
                None => assert_eq!(found, None, "{head:?}"),
                Some(name) => assert!(found.unwrap().contains(name), "{head:?}"),
            }
        }
        for (names, name) in [
            (
                &["mimetype", "content.xml", "META-INF/manifest.xml"][..],
                Some("OpenDocument"),
            ),
            (&["[Content_Types].xml", "xl/workbook.bin"], Some("XLSB")),
            (&["Index/Document.iwa"], Some("Numbers")),
            (&["[Content_Types].xml", "xl/workbook.xml"], None),
            (&["import.xml", "offers.xml"], None),
        ] {
            let found = reject_archive_document(names.iter().map(|name| name.as_bytes())).err();
            let found = found.map(|error| error.to_string());
            match name {
                None => assert_eq!(found, None, "{names:?}"),
                Some(name) => assert!(found.unwrap().contains(name), "{names:?}"),
            }
        }
    }
}
