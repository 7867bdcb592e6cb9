//! Files that spreadsheets open and that are not read here: named for what they are, with the cure.

use super::super::FormatError;

/// The cure of every such file.
const SAVE_AS: &str = "open it in Excel or LibreOffice and save it as XLSX or CSV";

/// The error of a file of that kind.
fn foreign(what: &str) -> FormatError {
    FormatError::Unfit(format!("the file is {what}, which is not read: {SAVE_AS}"))
}

/// Refuses a zip archive that is a document of another program, told by the names in it.
///
/// # Errors
/// It is one.
pub(super) fn check_archive<'n>(names: impl Iterator<Item = &'n [u8]>) -> Result<(), FormatError> {
    let names: Vec<&[u8]> = names.collect();
    let has = |name: &[u8]| names.contains(&name);
    let has_ending = |end: &[u8]| names.iter().any(|name| name.to_ascii_lowercase().ends_with(end));
    if has(b"mimetype") && has(b"content.xml")
        || has(b"META-INF/manifest.xml") && has(b"content.xml")
    {
        return Err(foreign("an OpenDocument spreadsheet (ODS)"));
    }
    if has(b"xl/workbook.bin") {
        return Err(foreign("a binary workbook (XLSB)"));
    }
    if has_ending(b".iwa") || has(b"index.xml") && has(b"buildVersionHistory.plist") {
        return Err(foreign("a spreadsheet of Apple Numbers"));
    }
    if has(b"word/document.xml") {
        return Err(foreign("a Word document"));
    }
    Ok(())
}

/// Refuses a text that is a document of another program, told by its beginning.
///
/// # Errors
/// It is one.
pub(super) fn check_text(head: &str) -> Result<(), FormatError> {
    let start = head.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let lower = start.to_lowercase();
    if lower.starts_with("mime-version:") || lower.starts_with("content-type: multipart/") {
        return Err(foreign("a web archive (MHTML), as Excel saves \"single file web page\""));
    }
    if lower.starts_with("{\\rtf") {
        return Err(foreign("a rich text document (RTF)"));
    }
    let is_page = ["<!doctype html", "<html", "<table", "<body", "<meta", "<head"]
        .iter()
        .any(|tag| lower.starts_with(tag))
        || (lower.starts_with("<?xml") && lower.contains("<html"));
    if !is_page {
        return Ok(());
    }
    let has_form = ["<form", "type=\"password\"", "type='password'", "type=password"]
        .iter()
        .any(|sign| lower.contains(sign));
    let is_table = lower.contains("<table") || lower.contains("schemas-microsoft-com:office:excel");
    if is_table && !has_form {
        return Err(foreign("an HTML table, as some programs name .xls"));
    }
    Err(FormatError::Unfit(
        "the file is a web page, such as one to log in: check the address and the password that it \
         is fetched with"
            .to_owned(),
    ))
}

/// Names the document whose XML has that root, if it is one of a spreadsheet.
pub(super) fn by_root(root: &str) -> Option<FormatError> {
    match root {
        "document-content" | "document" => Some(foreign("an OpenDocument spreadsheet (ODS)")),
        "Workbook" => Some(foreign("an XML spreadsheet of Excel 2003 (SpreadsheetML)")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_other_programs_are_named_with_the_cure() {
        for (head, name) in [
            ("<html><body><table><tr><td>a", Some("an HTML table")),
            ("\u{feff}<!DOCTYPE html><table>", Some("an HTML table")),
            ("<table border=1><tr>", Some("an HTML table")),
            ("<html xmlns:x=\"urn:schemas-microsoft-com:office:excel\">", Some("an HTML table")),
            ("<html><table><form><input type=password>", Some("one to log in")),
            ("<html><h1>502 Bad Gateway</h1>", Some("a web page")),
            ("MIME-Version: 1.0\nContent-Type: multipart/related", Some("MHTML")),
            ("{\\rtf1\\ansi", Some("RTF")),
            ("{\"sku\":1}", None),
            ("sku;stock\n", None),
            ("<?xml version=\"1.0\"?><yml_catalog>", None),
        ] {
            let found = check_text(head).err().map(|error| error.to_string());
            match name {
                None => assert_eq!(found, None, "{head}"),
                Some(name) => assert!(found.unwrap().contains(name), "{head}"),
            }
        }
        for (names, name) in [
            (&["mimetype", "content.xml", "META-INF/manifest.xml"][..], Some("OpenDocument")),
            (&["[Content_Types].xml", "xl/workbook.bin"], Some("XLSB")),
            (&["Index/Document.iwa"], Some("Numbers")),
            (&["[Content_Types].xml", "xl/workbook.xml"], None),
            (&["import.xml", "offers.xml"], None),
        ] {
            let found = check_archive(names.iter().map(|name| name.as_bytes())).err();
            let found = found.map(|error| error.to_string());
            match name {
                None => assert_eq!(found, None, "{names:?}"),
                Some(name) => assert!(found.unwrap().contains(name), "{names:?}"),
            }
        }
    }
}
