//! Tests of format detection and of archives: nested, damaged, oversized, or with several exports.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::testing::{sample, utf16};
use super::*;
use crate::archive::MAX_RATIO;

fn unpack_all(name: &str, bytes: &[u8]) -> Result<Vec<(String, Format, Vec<u8>)>, FormatError> {
    let spool = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let result = unpack(
        name,
        &mut Cursor::new(bytes),
        FormatHints::default(),
        spool.path(),
        &mut |file| {
            let mut content = Vec::new();
            file.input.read_to_end(&mut content)?;
            files.push((file.name.to_owned(), file.format, content));
            Ok(())
        },
    );
    assert_eq!(
        std::fs::read_dir(spool.path()).unwrap().count(),
        0,
        "no temporary file remains"
    );
    result.map(|()| files)
}

fn unpack_error(bytes: &[u8]) -> String {
    unpack_all("a", bytes).unwrap_err().to_string()
}

pub(in super::super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub(in super::super) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn detects_the_format_by_content() {
    let csv = "Артикул;Остаток\nA;1\n";
    let (cp1251, ..) = encoding_rs::WINDOWS_1251.encode(csv);
    let exchange = String::from_utf8(sample("offers.xml")).unwrap();
    let old = exchange.replace("UTF-8", "windows-1251");
    let (old, ..) = encoding_rs::WINDOWS_1251.encode(&old);
    for (bytes, format) in [
        (sample("feed.xml"), Format::Yml),
        (sample("feed-windows-1251.xml"), Format::Yml),
        (sample("offers.xml"), Format::CommerceMl),
        (sample("import.xml"), Format::CommerceMl),
        (old.to_vec(), Format::CommerceMl),
        (
            utf16("<КоммерческаяИнформация/>", u16::to_be_bytes),
            Format::CommerceMl,
        ),
        (
            utf16("<yml_catalog/>", u16::to_le_bytes).split_off(2),
            Format::Yml,
        ),
        (sample("update.json"), Format::Json),
        (sample("stock.ndjson"), Format::Json),
        (b"\xef\xbb\xbf [".to_vec(), Format::Json),
        (csv.as_bytes().to_vec(), Format::Csv),
        (cp1251.to_vec(), Format::Csv),
        (utf16(csv, u16::to_le_bytes), Format::Csv),
        (
            zip(&[
                ("[Content_Types].xml", b"<Types/>"),
                ("xl/workbook.xml", b"<x/>"),
            ]),
            Format::Sheet,
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1...".to_vec(),
            Format::Sheet,
        ),
    ] {
        let files = unpack_all("file", &bytes).unwrap();
        assert_eq!(files, [("file".to_owned(), format, bytes)]);
    }
}

#[test]
fn names_unsupported_files() {
    for (bytes, reason) in [
        (&b""[..], "it is empty"),
        (b" \r\n", "it is empty"),
        (
            b"<!DOCTYPE html><html><body>Login</body></html>",
            "the file is a web page",
        ),
        (b"<rss/>", "the root is <rss>"),
        (b"<!-- ", "broken"),
        (b"\x89PNG\r\n\x1a\n\x01\x02", "neither text nor a workbook"),
        (b"\x7fELF\x02\x01", "neither text nor a workbook"),
    ] {
        assert!(
            unpack_error(bytes).contains(reason),
            "{}",
            unpack_error(bytes)
        );
    }
}

#[test]
fn unpacks_one_level_of_archives() {
    let feed = sample("feed.xml");
    let alone = |name: &str| [(name.to_owned(), Format::Yml, feed.clone())];
    assert_eq!(
        unpack_all("feed.xml.gz", &gzip(&feed)).unwrap(),
        alone("feed.xml")
    );
    assert_eq!(
        unpack_all("f.zip", &zip(&[("dir/feed.xml", &feed)])).unwrap(),
        alone("dir/feed.xml")
    );
    let twice = [gzip(&feed), gzip(b"")].concat();
    assert_eq!(unpack_all("a", &twice).unwrap(), alone("a"));
    let (inner, outer) = (gzip(&feed), zip(&[("feed.xml", &feed)]));
    for nested in [
        gzip(&inner),
        gzip(&outer),
        zip(&[("feed.xml.gz", &inner)]),
        zip(&[("feed.xml", &inner)]),
        zip(&[("feed.xml", &outer)]),
        zip(&[("a.rar", b"Rar!")]),
    ] {
        assert!(unpack_error(&nested).contains("an archive within an archive"));
    }
}

#[test]
fn visits_data_files_in_archive_order() {
    let archive = zip(&[
        ("webdata/", b""),
        ("webdata/import0_1.xml", &sample("import.xml")),
        ("webdata/import_files/1.JPG", b"\xff\xd8\xff"),
        ("__MACOSX/webdata/._import0_1.xml", b"\0\x05\x16\x07"),
        (".hidden.csv", b"a;b"),
        ("../../etc/offers0_1.XML", &sample("offers.xml")),
        ("остатки.csv", b"sku;count\n"),
    ]);
    let files = unpack_all("webdata.zip", &archive).unwrap();
    let names: Vec<_> = files
        .iter()
        .map(|(name, format, _)| (name.as_str(), *format))
        .collect();
    let expected = [
        ("webdata/import0_1.xml", Format::CommerceMl),
        ("../../etc/offers0_1.XML", Format::CommerceMl),
        ("остатки.csv", Format::Csv),
    ];
    assert_eq!(names, expected);
    assert!(
        unpack_error(&zip(&[("1.jpg", b"x")])).contains("the archive 'a' contains no data file")
    );
    assert!(unpack_error(&zip(&[])).contains("the archive 'a' contains no data file"));
}

#[test]
fn detects_utf_16_table_without_bom() {
    let bytes: Vec<u8> = "Артикул;Остаток\r\nA;5\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(unpack_all("a", &bytes).unwrap()[0].1, Format::Csv);
}

#[test]
fn skips_lock_files_of_excel() {
    let archive = zip(&[
        ("~$stock.xlsx", b"\x05Owner"),
        ("stock.csv", b"sku;stock\nA;5\n"),
    ]);
    let names: Vec<_> = unpack_all("a", &archive)
        .unwrap()
        .into_iter()
        .map(|file| file.0)
        .collect();
    assert_eq!(names, ["stock.csv"]);
}

#[test]
fn trusts_the_format_setting() {
    let spool = tempfile::tempdir().unwrap();
    for bytes in [b"{}".to_vec(), gzip(b"{}"), zip(&[("a.txt", b"{}")])] {
        let mut format = None;
        let set = FormatHints {
            format: Some(Format::Csv),
            encoding: None,
        };
        unpack(
            "a",
            &mut Cursor::new(bytes),
            set,
            spool.path(),
            &mut |file| {
                format = Some(file.format);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(format, Some(Format::Csv));
    }
    for format in [
        Format::Csv,
        Format::Sheet,
        Format::Yml,
        Format::CommerceMl,
        Format::Json,
    ] {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("dbf"), None);
}

#[test]
fn truncated_or_damaged_archive_is_broken() {
    let feed = sample("feed.xml");
    let (gzipped, zipped) = (gzip(&feed), zip(&[("feed.xml", &feed)]));
    for archive in [&gzipped, &zipped] {
        for length in 0..archive.len() {
            // A file of at most two bytes is not recognised as an archive.
            if let Ok(files) = unpack_all("a", &archive[..length]) {
                assert!(length < 3 && files[0].1 == Format::Csv, "{length}");
            }
        }
    }
    let mut wrong = gzipped;
    let checksum = wrong.len() - 8;
    wrong[checksum] ^= 1;
    assert!(
        unpack_error(&wrong).contains("in its archive"),
        "{}",
        unpack_error(&wrong)
    );
    let mut wrong = zipped;
    wrong[60] ^= 1;
    assert!(
        unpack_error(&wrong).contains("in its archive"),
        "{}",
        unpack_error(&wrong)
    );
}

#[test]
fn rejects_decompression_bombs() {
    let zeros = vec![0; 1024 * 1024];
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(
        bomb.len() as u64 * MAX_RATIO < 64 * 1024 * 1024,
        "{} bytes",
        bomb.len()
    );
    assert!(
        unpack_error(&bomb).contains("more than 1000 times its packed size"),
        "{}",
        unpack_error(&bomb)
    );
}

#[test]
fn rejects_archives_with_too_many_files() {
    let names: Vec<String> = (0..=MAX_DATA_FILES).map(|n| format!("{n}.csv")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"a;b"[..])).collect();
    assert!(unpack_error(&zip(&files)).contains("more than 1000 data files"));
}

#[test]
fn rejects_exports_of_several_days() {
    for (names, is_refused) in [
        (&["stock_2026-11-27.csv", "stock_2026-11-28.csv"][..], true),
        (
            &["остатки 27.11.2026.xlsx", "остатки 28.11.2026.xlsx"],
            true,
        ),
        (
            &["a/export20261127_1000.csv", "a/export20261128_0900.csv"],
            true,
        ),
        (&["moscow_2026-11-28.csv", "omsk_2026-11-28.csv"], false),
        (
            &["stock_2026-11-27_01.csv", "stock_2026-11-28_01.csv"],
            true,
        ),
        (
            &["stock_2026-11-28_01.csv", "stock_2026-11-28_02.csv"],
            false,
        ),
        (&["stock_27.11.26.csv", "stock_28.11.26.csv"], true),
        (&["import0_1.xml", "import0_2.xml", "offers0_1.xml"], false),
        (&["part_00000001.csv", "part_00000002.csv"], false),
        (&["20261399.csv", "20261499.csv"], false),
    ] {
        let found = reject_several_dates(names.iter().copied());
        assert_eq!(found.is_err(), is_refused, "{names:?}: {found:?}");
    }
}

#[test]
fn ignores_dates_in_picture_names() {
    let (old, new) = (
        b"sku;stock\nA;5\n".as_slice(),
        b"sku;stock\nA;6\n".as_slice(),
    );
    let message = unpack_error(&zip(&[
        ("stock_2026-11-27.csv", old),
        ("stock_2026-11-28.csv", new),
    ]));
    assert!(message.contains("differ only in a date"), "{message}");
    let pictures = zip(&[
        ("stock.csv", old),
        ("IMG_20261127.jpg", b"1"),
        ("IMG_20261128.jpg", b"2"),
    ]);
    assert_eq!(unpack_all("a", &pictures).unwrap().len(), 1);
}
