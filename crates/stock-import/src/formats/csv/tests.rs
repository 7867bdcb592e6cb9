//! Tests of the CSV reader: columns, delimiters, quotes, encodings, truncation and streaming.

use std::cell::Cell;
use std::io::{self, Seek, SeekFrom};
use std::rc::Rc;

use encoding_rs::{UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251};
use proptest::prelude::*;

use super::super::super::quantity::{DecimalMark, Quantity};
use super::super::super::row::{ProductKey, Row};
use super::super::Format;
use super::*;

fn entries(file: &[u8], reading: &ReadSettings) -> Result<Vec<DeliveryEntry>, FormatError> {
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    read(&mut Cursor::new(file), reading, &mut sink)?;
    Ok(found)
}

fn default_entries(file: &[u8]) -> Vec<DeliveryEntry> {
    entries(file, &ReadSettings::default()).unwrap()
}

fn sku(row: &Row) -> &str {
    match &row.key {
        ProductKey::Sku(sku) | ProductKey::Id(sku) => sku,
    }
}

/// Describes entries: `SKU=quantity` of a row, `!line` of a rejected one, `?line` of a suspicious
/// one.
fn described(entries: &[DeliveryEntry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| match entry {
            DeliveryEntry::Row(row) => {
                let quantity = row.quantity.map(|quantity| quantity.to_string());
                format!("{}={}", sku(row), quantity.unwrap_or_default())
            }
            DeliveryEntry::Article { id, sku } => format!("{id}~{sku}"),
            DeliveryEntry::PartBoundary => "--".to_owned(),
            DeliveryEntry::Rejected(fault) => format!("!{}", fault.line),
            DeliveryEntry::Suspicious(fault) => format!("?{}", fault.line),
        })
        .collect()
}

fn rows(file: &str) -> Vec<String> {
    described(&default_entries(file.as_bytes()))
}

fn reasons(entries: &[DeliveryEntry]) -> Vec<&str> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) => {
                Some(fault.reason.as_str())
            }
            DeliveryEntry::Row(_) | DeliveryEntry::Article { .. } | DeliveryEntry::PartBoundary => {
                None
            }
        })
        .collect()
}

fn error_message(file: &[u8], reading: &ReadSettings) -> String {
    entries(file, reading).unwrap_err().to_string()
}

fn reading_of_columns(sku: &str, quantity: &str) -> ReadSettings {
    ReadSettings {
        sku: Some(sku.into()),
        quantity: Some(quantity.into()),
        ..ReadSettings::default()
    }
}

fn in_utf_16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

#[test]
fn finds_columns_by_every_known_name() {
    for sku in [
        "Артикул",
        "Код",
        "SKU",
        "offer_id",
        "Ваш SKU",
        "Ваш SKU *",
        "shop-sku",
        "SHOP_SKU",
        " артикул ",
        "АРТИКУЛ",
        "\u{a0}Shop  SKU\u{a0}",
        "Offer-ID",
        "\u{200b}sku",
    ] {
        for quantity in [
            "Количество",
            "Остаток",
            "Доступно",
            "Доступно для заказа",
            "Доступно для заказа *",
            "stock",
            "quantity",
            "count",
            "COUNT",
            "доступно_для-заказа",
        ] {
            let file = format!("{sku};Цена;{quantity}\nA-1;99;5\n");
            assert_eq!(rows(&file), ["A-1=5"], "{sku}, {quantity}");
            let file = format!("{quantity},Цена,{sku}\n5,99,A-1\n");
            assert_eq!(rows(&file), ["A-1=5"], "{quantity}, {sku}");
        }
    }
    for warehouse in ["Склад", "Склад *", "warehouse", "WAREHOUSE_AND_SHOP"] {
        let file = format!("sku;{warehouse};stock\nA-1; Юг ;5\nA-2;;6\n");
        let results: Vec<_> = default_entries(file.as_bytes())
            .into_iter()
            .map(|entry| match entry {
                DeliveryEntry::Row(row) => row.warehouse.unwrap_or_default(),
                DeliveryEntry::Suspicious(fault) => fault.reason,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(results[0], "Юг", "{warehouse}");
        assert!(
            results[1].starts_with("warehouse is empty"),
            "{warehouse}: {results:?}"
        );
    }
}

#[test]
fn prefers_the_documented_one_of_two_columns() {
    assert_eq!(rows("Код;Артикул;Остаток;Доступно\n1;A;9;5\n"), ["A=5"]);
    assert_eq!(
        rows("Артикул;Ваш SKU;Количество;Доступно для заказа\n1;A;9;5\n"),
        ["A=5"]
    );
    assert_eq!(
        rows("Артикул;SKU;Остаток\nTEA-1;900000001;5\n"),
        ["TEA-1=5"]
    );
    assert_eq!(
        rows("Артикул продавца;Артикул WB;Остаток\nTEA-1;900000001;5\n"),
        ["TEA-1=5"]
    );
}

#[test]
fn rejects_ambiguous_columns() {
    for (header, names) in [
        ("Код;SKU;Остаток", ["'Код'", "'SKU'"]),
        ("offer_id;Артикул;Остаток", ["'offer_id'", "'Артикул'"]),
        ("SKU;count;Остаток", ["'count'", "'Остаток'"]),
        ("SKU;Остаток;Количество", ["'Остаток'", "'Количество'"]),
        ("SKU;stock;quantity", ["'stock'", "'quantity'"]),
    ] {
        let message = error_message(
            format!("{header}\n1;2;3\n").as_bytes(),
            &ReadSettings::default(),
        );
        assert!(names.iter().all(|name| message.contains(name)), "{message}");
        assert!(
            message.contains("set sku") || message.contains("set quantity"),
            "{message}"
        );
    }
}

#[test]
fn rejects_two_columns_with_one_name() {
    let file = "SKU;Остаток;ОСТАТОК;Юг\nA;1;2;3\n".as_bytes();
    let message = error_message(file, &ReadSettings::default());
    assert!(
        message.contains("columns 2 'Остаток' and 3 'ОСТАТОК' may each be the quantity"),
        "{message}"
    );
    let reading = ReadSettings {
        quantity: Some("юг".into()),
        ..ReadSettings::default()
    };
    assert_eq!(described(&entries(file, &reading).unwrap()), ["A=3"]);
}

#[test]
fn settings_win_over_known_names() {
    let file = "Артикул;Остаток;Номер;На полке\nA;1;N;2\n".as_bytes();
    let rows_read = described(&entries(file, &reading_of_columns("номер *", "НА_ПОЛКЕ")).unwrap());
    assert_eq!(rows_read, ["N=2"]);
    let message = error_message(file, &reading_of_columns("Номер", "Полка"));
    assert!(
        message.contains("the quantity ('Полка' in the setting quantity)"),
        "{message}"
    );
    assert!(message.contains("'На полке'"), "{message}");
}

#[test]
fn lists_found_and_missing_columns() {
    let message = error_message("Товар;Цена\nБолт;5\n".as_bytes(), &ReadSettings::default());
    assert!(
        message.contains("no column for the SKU ('ваш sku', 'shop sku',"),
        "{message}"
    );
    assert!(message.contains("nor for the quantity"), "{message}");
    assert!(message.contains("'Товар', 'Цена'"), "{message}");
    let empty = entries(b"", &ReadSettings::default()).unwrap_err();
    assert!(matches!(empty, FormatError::Unusable(_)), "{empty}");
}

#[test]
fn skips_title_rows_above_the_header() {
    let title = "Остатки на складах;;\nООО \"Ромашка\"; на 22.11.2026;\n;;\n";
    assert_eq!(
        rows(&format!("{title}Артикул;Товар;Остаток\nA;Болт;5\n")),
        ["A=5"]
    );
    let deep = "title\n".repeat(29);
    assert_eq!(rows(&format!("{deep}sku,stock\nA,5\n")), ["A=5"]);
    let too_deep = "title\n".repeat(30);
    let file = format!("{too_deep}sku,stock\nA,5\n");
    assert!(matches!(
        entries(file.as_bytes(), &ReadSettings::default()),
        Err(FormatError::Unusable(_))
    ));
}

/// Returns the reason why a file is unusable.
fn unusable_reason(file: &str) -> String {
    match entries(file.as_bytes(), &ReadSettings::default()) {
        Err(FormatError::Unusable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rejects_header_of_two_rows() {
    let reason = unusable_reason("Артикул;Название;Остаток\n;;Москва\nA-1;x;0\nA-2;x;5\n");
    assert!(reason.starts_with("row 2 continues the header"), "{reason}");
    // A first row with a word as its quantity is a product.
    let word = "Артикул;Название;Остаток\nA-1;x;нет\nA-2;x;5\n";
    assert_eq!(
        entries(word.as_bytes(), &ReadSettings::default())
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn rejects_second_table() {
    for header in ["Артикул;Цена", "Артикул;В пути", "артикул ;Ожидается"]
    {
        let reason = unusable_reason(&format!("Артикул;Остаток\nA-1;5\n\n{header}\nA-2;500\n"));
        assert!(reason.starts_with("row 4 is a second header"), "{reason}");
    }
}

#[test]
fn column_numbers_are_not_a_product() {
    let found = entries(
        "№;Артикул;Остаток\n1;2;3\n1;A-1;5\n".as_bytes(),
        &ReadSettings::default(),
    );
    let found = found.unwrap();
    assert!(
        matches!(&found[0], DeliveryEntry::Suspicious(fault) if fault.reason.contains("1, 2, 3"))
    );
    assert!(matches!(&found[1], DeliveryEntry::Row(_)), "{found:?}");
}

#[test]
fn missing_warehouse_is_suspicious_beside_others() {
    let file =
        "Артикул;Склад;Остаток\nA-1;Москва;5\nA-1;;8\nA-2;;\nA-1;Все склады;13\nA-1;Итого;13\n";
    let found = entries(file.as_bytes(), &ReadSettings::default()).unwrap();
    assert_eq!(found.len(), 3, "totals are skipped: {found:?}");
    assert!(
        matches!(&found[1], DeliveryEntry::Suspicious(fault) if fault.reason.contains("warehouse is"))
    );
    let without = "Артикул;Склад;Остаток\nA-1;;8\nA-2;;3\n";
    assert_eq!(rows(without), ["A-1=8", "A-2=3"]);
}

#[test]
fn rejects_flags_in_the_preferred_column() {
    let reason = unusable_reason("Артикул;Доступно;Остаток\nA-1;1;15\nA-2;0;4\n");
    assert!(reason.contains("'Доступно' has only 0 and 1"), "{reason}");
    let free = "Артикул;Доступно;Остаток\nA-1;1;15\nA-2;2;4\n";
    assert_eq!(rows(free), ["A-1=1", "A-2=2"]);
}

#[test]
fn row_without_sku_may_belong_to_previous_one() {
    let file = "sku;size;stock\n;S;1\nA-1;S;5\n;M;7\n;L;8\nB-1;S;2\n01.фев;S;2\n;M;3\nC-1;S;4\n\n\
                ;M;3\nD-1;S;4\nD-1;S;4;x\n;M;3\nE-1;S;1\nE-2;S;2\n;;3\nF-1;S;1\n;;19\n";
    let found = entries(file.as_bytes(), &ReadSettings::default()).unwrap();
    let products: Vec<_> = found
        .iter()
        .map(|entry| match entry {
            DeliveryEntry::Row(row) => format!("{:?}", row.key),
            DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) => {
                format!("{:?}", fault.possible_sku)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let previous = r#"Some("A-1")"#;
    let (row, other) = (r#"Sku("A-1")"#, r#"Sku("B-1")"#);
    assert_eq!(
        products[..7],
        ["None", row, previous, previous, other, "None", "None"]
    );
    // A blank or shifted row comes between, and rows with the sums of a group and of all rows.
    let (fourth, shifted) = (r#"Sku("D-1")"#, r#"Some("D-1")"#);
    assert_eq!(
        products[7..12],
        [r#"Sku("C-1")"#, "None", fourth, shifted, "None"]
    );
    assert_eq!(
        products[12..],
        [
            r#"Sku("E-1")"#,
            r#"Sku("E-2")"#,
            "None",
            r#"Sku("F-1")"#,
            "None"
        ]
    );
}

#[test]
fn detects_delimiters_and_prefers_a_declared_one() {
    for delimiter in [";", ",", "\t", "|"] {
        let file =
            format!("\"Имя; с, всем\"{delimiter}sku{delimiter}stock\nx{delimiter}A{delimiter}5\n");
        assert_eq!(rows(&file), ["A=5"], "{delimiter:?}");
    }
    assert_eq!(rows("sep=|\r\nsku|stock\r\nA|5\r\n"), ["A=5"]);
    assert_eq!(rows("SEP=\t\nsku\tstock\nA\t5\n"), ["A=5"]);
    let reading = ReadSettings {
        delimiter: Some(b'^'),
        ..ReadSettings::default()
    };
    let rows_read = described(&entries(b"sku^stock\nA^5\n", &reading).unwrap());
    assert_eq!(rows_read, ["A=5"]);
}

#[test]
fn quotes_enclose_delimiters_quotes_and_lines() {
    let file =
        "sku;name;stock\n\"A;1\";\"Болт \"\"М5\"\"\";5\n\"B\";\"две\nстроки\";6\nC;Труба 5\";7\n";
    let found = default_entries(file.as_bytes());
    assert_eq!(described(&found), ["A;1=5", "B=6", "C=7"]);
    let lines: Vec<_> = found
        .iter()
        .map(|entry| match entry {
            DeliveryEntry::Row(row) => row.line,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines, [2, 3, 5]);
}

#[test]
fn extra_quote_affects_only_its_own_line() {
    let file = "sku;name;stock\nA;\"Болт;5\nB;Гайка;6\nC;\"Винт\";7\nD;Шуруп;8\n";
    assert_eq!(rows(file), ["!2", "B=6", "C=7", "D=8"]);
}

#[test]
fn unclosed_quote_breaks_the_file() {
    let file = "sku;name;stock\nA;\"Болт;5\nB;Гайка;6\n";
    assert!(error_message(file.as_bytes(), &ReadSettings::default()).contains("line 2"));
    let long = format!("{file}{}", "C;Винт;7\n".repeat(20_000));
    assert!(error_message(long.as_bytes(), &ReadSettings::default()).contains("line 2"));
    let flat = format!("sku;stock\nA;{}\n", "5".repeat(100_000));
    assert!(error_message(flat.as_bytes(), &ReadSettings::default()).contains("line 2"));
}

#[test]
fn rejects_rows_with_extra_fields() {
    let file = "sku;name;stock;\nA;x;5;\nB;x;6\nC;x\nD;x;7;8\nE;x;9;;;\n;;;\n\n  \n";
    let found = default_entries(file.as_bytes());
    // An extra field shows an unquoted delimiter, even if the last fields are empty.
    assert_eq!(described(&found), ["A=5", "B=6", "C=", "!5", "!6"]);
    let expected = [
        "the row has 4 fields, the header has 3",
        "the row has 6 fields, the header has 3",
    ];
    assert_eq!(reasons(&found), expected);
    assert_eq!(
        rows("sku,stock,a,b\nA-1,5,,\nA-2,1,000,,\n"),
        ["A-1=5", "!3"]
    );
    // Extra empty fields are valid if every row has them.
    assert_eq!(rows("sku;stock\nA;5;;\nB;6;;\n"), ["A=5", "B=6"]);
}

#[test]
fn rejects_second_header_with_other_columns() {
    for file in [
        "sku;stock\n557722;3\n\nstock;sku\n9;557723\n",
        "Показатели:;Артикул;Остаток\nСклад;;\nАртикул;Номенклатура;Остаток\nTEA-1;Чай;5\n",
        "sku;x;stock\nA;1;3\nЗаказы;;\nsku;stock;сумма\nB;4;3\n",
    ] {
        let reason = error_message(file.as_bytes(), &ReadSettings::default());
        assert!(
            reason.contains("is a second header with other columns"),
            "{reason}"
        );
    }
    assert_eq!(rows("sku;stock\nA;3\nsku;stock\nB;4\n"), ["A=3", "B=4"]);
}

#[test]
fn skips_and_reports_totals() {
    let mut file = Cursor::new("Артикул;Остаток\nA;3\nОбщий итог;3\n".as_bytes());
    let mut found = Vec::new();
    let summary = read(&mut file, &ReadSettings::default(), &mut |entry| {
        found.push(entry);
        Ok(())
    });
    assert_eq!(described(&found), ["A=3"]);
    assert!(summary.unwrap().notices[0].ends_with("the first is row 3"));
}

#[test]
fn sku_in_unproven_encoding_is_suspicious() {
    let in_koi8 = |text: &str| encoding_rs::KOI8_R.encode(text).0.into_owned();
    for file in [
        in_koi8("sku;stock\nБОЛТ-5;3\nB;4\n"),
        in_koi8("sku;stock\nболт-5;3\nB;4\n"),
    ] {
        assert_eq!(described(&default_entries(&file)), ["?2", "B=4"]);
    }
    let proven = WINDOWS_1251
        .encode("Артикул;stock\nБОЛТ-5;3\n")
        .0
        .into_owned();
    assert_eq!(described(&default_entries(&proven)), ["БОЛТ-5=3"]);
    let set = ReadSettings {
        encoding: Some(WINDOWS_1251),
        ..ReadSettings::default()
    };
    let file = WINDOWS_1251.encode("sku;stock\nБОЛТ-5;3\n").0.into_owned();
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    read(&mut Cursor::new(file), &set, &mut sink).unwrap();
    assert_eq!(described(&found), ["БОЛТ-5=3"]);
}

#[test]
fn decimal_comma_between_commas_is_rejected() {
    assert_eq!(
        rows("sku,stock\nA,46,5\nB,\"46,5\"\nC,3\n"),
        ["!2", "!3", "C=3"]
    );
}

#[test]
fn reads_numbers_and_words_by_source_rules() {
    let file = "sku;stock\nA;3.000\nB;1\u{a0}234,000\nC;46,5\nD;-2\nE;>10\nF;НЕТ\nG;\nH;-\n";
    // The comma is decimal in this column, so the point groups thousands.
    assert_eq!(
        rows(file),
        ["?2", "B=1234", "!4", "!5", "!6", "!7", "G=", "!9"]
    );
    let reading = ReadSettings {
        words: vec![
            (">10".into(), Quantity::from_pieces(10).unwrap()),
            ("нет".into(), Quantity::ZERO),
            ("-".into(), Quantity::ZERO),
        ],
        floors_fractions: true,
        zeroes_negatives: true,
        ..ReadSettings::default()
    };
    let rows_read = described(&entries(file.as_bytes(), &reading).unwrap());
    assert_eq!(
        rows_read,
        ["?2", "B=1234", "C=46.5", "D=-2", "E=10", "F=0", "G=", "H=0"]
    );
}

#[test]
fn skips_groups_and_totals() {
    let file = "Артикул;Товар;Остаток\n;Крепёж;\nA;Болт;5\n;Гайка;6\n;Итого:;11\nИтого;;11\n";
    let found = default_entries(file.as_bytes());
    assert_eq!(described(&found), ["A=5", "!4"]);
    assert_eq!(reasons(&found), ["sku is empty, and quantity is '6'"]);
}

#[test]
fn sku_changed_by_a_spreadsheet_is_suspicious() {
    let file = "sku;stock\n0557722;1\n557722;2\n5.577E+05;3\n5,577e+05;4\n557722.0;5\n1E5;6\n\
                1.5;7\n a b ;8\nE+05;9\n12E+05;1\n";
    assert_eq!(
        rows(file),
        [
            "0557722=1",
            "557722=2",
            "?4",
            "?5",
            "?6",
            "1E5=6",
            "1.5=7",
            "a b=8",
            "E+05=9",
            "12E+05=1"
        ]
    );
}

#[test]
fn reads_reserve_and_time_named_by_settings() {
    let file = "sku;stock;Резерв;Когда\nA;5;2;2026-11-22T10:00:00+03:00\nB;5;;\nC;5;x;\n\
                D;5;1;22.11.2026\n";
    let reading = ReadSettings {
        reserve: Some("резерв".into()),
        updated_at: Some("когда".into()),
        ..ReadSettings::default()
    };
    let found = entries(file.as_bytes(), &reading).unwrap();
    assert_eq!(described(&found), ["A=5", "B=5", "!4", "!5"]);
    let DeliveryEntry::Row(row) = &found[0] else {
        panic!("{found:?}")
    };
    assert_eq!(row.reserve, Quantity::from_pieces(2));
    assert_eq!(row.stated_at.unwrap().to_string(), "2026-11-22T07:00:00Z");
    assert!(reasons(&found)[1].contains("22.11.2026"));
    let unread = default_entries(file.as_bytes());
    assert!(unread.iter().all(|entry| matches!(
        entry,
        DeliveryEntry::Row(Row {
            reserve: None,
            stated_at: None,
            ..
        })
    )));
}

#[test]
fn market_quantity_already_excludes_reserve() {
    let reading = ReadSettings {
        reserve: Some("RESERVE".into()),
        ..ReadSettings::default()
    };
    let file = b"SHOP_SKU;WAREHOUSE_AND_SHOP;COUNT;RESERVE\nA;W;5;2\n";
    let DeliveryEntry::Row(row) = &entries(file, &reading).unwrap()[0] else {
        panic!()
    };
    assert_eq!(
        (row.quantity, row.reserve),
        (Quantity::from_pieces(5), None)
    );
    let file = b"SKU;COUNT;RESERVE\nA;5;2\n";
    let DeliveryEntry::Row(row) = &entries(file, &reading).unwrap()[0] else {
        panic!()
    };
    assert_eq!(row.reserve, Quantity::from_pieces(2));
}

const CYRILLIC: &str = "Артикул;Склад;Остаток\r\nБОЛТ-№5;Юг;5\r\nA-2;Ёлка;6\r\n";

#[test]
fn reads_text_in_any_encoding() {
    let expected = default_entries(CYRILLIC.as_bytes());
    assert_eq!(described(&expected), ["БОЛТ-№5=5", "A-2=6"]);
    let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    let utf_8 = CYRILLIC.as_bytes().to_vec();
    let cyrillic = WINDOWS_1251.encode(CYRILLIC).0.into_owned();
    let little = in_utf_16(CYRILLIC, u16::to_le_bytes);
    let big = in_utf_16(CYRILLIC, u16::to_be_bytes);
    for (file, declared) in [
        (marked(b"\xef\xbb\xbf", utf_8.clone()), None),
        (marked(b"\xef\xbb\xbf", utf_8.clone()), Some(UTF_8)),
        (utf_8, Some(UTF_8)),
        (cyrillic.clone(), None),
        (cyrillic, Some(WINDOWS_1251)),
        (marked(b"\xff\xfe", little.clone()), None),
        (marked(b"\xff\xfe", little.clone()), Some(UTF_16BE)),
        (little.clone(), None),
        (little, Some(UTF_16LE)),
        (marked(b"\xfe\xff", big.clone()), None),
        (big.clone(), None),
        (big, Some(UTF_16BE)),
    ] {
        let reading = ReadSettings {
            encoding: declared,
            ..ReadSettings::default()
        };
        assert_eq!(
            entries(&file, &reading).unwrap(),
            expected,
            "{declared:?}: {file:?}"
        );
    }
}

#[test]
fn wrong_encoding_setting_is_visible_in_columns() {
    let cyrillic = WINDOWS_1251.encode(CYRILLIC).0.into_owned();
    for (file, declared, column) in [
        (cyrillic.as_slice(), UTF_8, "\u{fffd}"),
        (CYRILLIC.as_bytes(), UTF_16LE, "'"),
    ] {
        let reading = ReadSettings {
            encoding: Some(declared),
            ..ReadSettings::default()
        };
        let message = error_message(file, &reading);
        assert!(
            message.contains(column) && message.contains("no column for"),
            "{message}"
        );
    }
    let reading = ReadSettings {
        encoding: Some(WINDOWS_1251),
        ..ReadSettings::default()
    };
    let message = error_message(CYRILLIC.as_bytes(), &reading);
    assert!(message.contains("its bytes are UTF-8"), "{message}");
}

#[test]
fn reads_a_letter_split_between_two_chunks() {
    for pad in 0..4 {
        let mut file = format!("sku;stock;{}\n", "x".repeat(pad));
        for row in 0..9_000 {
            file.push_str(&format!(
                "№{row}-Ёж€;{row}{}\n",
                if pad == 0 { "" } else { ";" }
            ));
        }
        let found = default_entries(file.as_bytes());
        assert_eq!(found.len(), 9_000);
        assert!(
            found
                .iter()
                .all(|entry| matches!(entry, DeliveryEntry::Row(_)))
        );
    }
}

#[test]
fn undecodable_bytes_affect_only_their_row() {
    let mut file = b"sku;stock\nA;1\n\xff\xfe;2\nC;3\nD\xd0;4\nE;5\n".to_vec();
    let reading = ReadSettings {
        encoding: Some(UTF_8),
        ..ReadSettings::default()
    };
    assert_eq!(
        described(&entries(&file, &reading).unwrap()),
        ["A=1", "!3", "C=3", "!5", "E=5"]
    );
    // Without a declaration, this many valid letters prove UTF-8.
    file.extend("Ёлочная игрушка «Шар»;6\n".repeat(4).bytes());
    let rows_read = described(&default_entries(&file));
    assert_eq!(
        rows_read.iter().filter(|row| row.starts_with('!')).count(),
        2,
        "{rows_read:?}"
    );
    // A replacement character in the file itself is valid.
    assert_eq!(rows("sku;name;stock\nA;\u{fffd};5\n"), ["A=5"]);
}

#[test]
fn names_the_format_of_binary_files() {
    for (file, name) in [
        (&b"PK\x03\x04rest"[..], "workbook"),
        (b"\xd0\xcf\x11\xe0rest", "XLS"),
        (b"\x1f\x8brest", "gzip"),
        (b"sku;stock\nA\0;5\n", "0x00"),
        (b"sku;stock\nA\x01;5\n", "byte 12"),
        (b" <!DOCTYPE HTML><html>", "web page"),
    ] {
        let message = error_message(file, &ReadSettings::default());
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn last_row_needs_a_line_end_or_the_setting() {
    let file = b"sku;stock\nA;5\nB;15";
    let found = default_entries(file);
    assert_eq!(described(&found), ["A=5", "!3"]);
    assert!(reasons(&found)[0].contains("unended_row = \"take\""));
    let reading = ReadSettings {
        accepts_unterminated_row: true,
        ..ReadSettings::default()
    };
    assert_eq!(
        described(&entries(file, &reading).unwrap()),
        ["A=5", "B=15"]
    );
    assert_eq!(rows("sku;stock\nA;5\n  "), ["A=5"]);
    assert_eq!(rows("sku;stock\r\nA;5\r\n\u{1a}"), ["A=5"]);
}

#[test]
fn truncated_file_yields_no_new_value() {
    let line = |number: u64| match number % 6 {
        0 => format!("\"Ёж-{number}\";\"д;\n\"\"\";{};Ю", number * 37),
        1 => format!("A-{number};;\"{}\";\"Ю\"", number * 11),
        _ => format!("0{number};x;{},000;Ю", number * 1_313),
    };
    let text: Vec<_> = std::iter::once("Артикул;Товар;Остаток;Склад".to_owned())
        .chain((1..=18).map(line))
        .collect();
    for line_end in ["\n", "\r\n", "\r"] {
        let complete = text.join(line_end) + line_end;
        let files = match line_end {
            "\n" => vec![
                complete.clone().into_bytes(),
                WINDOWS_1251.encode(&complete).0.into_owned(),
                in_utf_16(&complete, u16::to_le_bytes),
            ],
            _ => vec![complete.into_bytes()],
        };
        for file in files {
            let known = default_entries(&file);
            assert_eq!(known.len(), 18, "{line_end:?}");
            for cut in 0..file.len() {
                assert_truncated_is_prefix(&file[..cut], &known);
            }
        }
    }
}

fn assert_truncated_is_prefix(file: &[u8], known: &[DeliveryEntry]) {
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    // The entries before an error must be correct too.
    let _any = read(&mut Cursor::new(file), &ReadSettings::default(), &mut sink);
    let rows: Vec<_> = found
        .into_iter()
        .filter(|entry| !matches!(entry, DeliveryEntry::Rejected(_)))
        .collect();
    assert_eq!(
        rows.as_slice(),
        &known[..rows.len()],
        "truncated at {}",
        file.len()
    );
}

/// A file generated while it is read, with a count of the bytes read.
struct GeneratedCsv {
    position: u64,
    /// Bytes read since the latest seek.
    bytes_read: Rc<Cell<u64>>,
}

impl GeneratedCsv {
    const HEADER: &'static [u8] = b"sku,stock\nfill,000000\n";
    const ROW: &'static [u8] = b"SKU-000000000000,0012\n";
    const LENGTH: u64 = 22 * 60_001;
}

impl Read for GeneratedCsv {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < buffer.len() && self.position < Self::LENGTH {
            let line = if self.position < 22 {
                Self::HEADER
            } else {
                Self::ROW
            };
            let offset = usize::try_from(self.position % 22).unwrap();
            let length = (22 - offset).min(buffer.len() - written);
            buffer[written..written + length].copy_from_slice(&line[offset..offset + length]);
            written += length;
            self.position += length as u64;
        }
        self.bytes_read.set(self.bytes_read.get() + written as u64);
        Ok(written)
    }
}

impl Seek for GeneratedCsv {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = target else {
            panic!("{target:?}")
        };
        self.bytes_read.set(0);
        self.position = at;
        Ok(at)
    }
}

#[test]
fn streams_rows_without_buffering_the_file() {
    assert_eq!(
        (GeneratedCsv::HEADER.len(), GeneratedCsv::ROW.len()),
        (22, 22)
    );
    let bytes = Rc::new(Cell::new(0));
    let mut input = GeneratedCsv {
        position: 0,
        bytes_read: Rc::clone(&bytes),
    };
    let mut rows = 0_u64;
    let mut sink = |_| {
        rows += 1;
        // The reader is at most a few chunks ahead of this row.
        assert!(
            bytes.get() <= rows * 22 + 4 * 64 * 1024,
            "{} at {rows}",
            bytes.get()
        );
        Ok(())
    };
    read(&mut input, &ReadSettings::default(), &mut sink).unwrap();
    assert_eq!(rows, 60_001);
}

#[test]
fn stops_when_the_sink_cancels() {
    let mut seen = 0;
    let mut sink = |_| {
        seen += 1;
        Err(DeliveryCancelled)
    };
    let outcome = read(
        &mut Cursor::new("sku;stock\nA;1\nB;2\n"),
        &ReadSettings::default(),
        &mut sink,
    );
    assert!(matches!(outcome, Err(FormatError::Cancelled(_))));
    assert_eq!(seen, 1);
}

#[test]
fn reads_exports_of_1c_and_the_market() {
    let export = include_bytes!("../../../../../fixtures/sources/1c-export-windows-1251.csv");
    let rows_read = described(&default_entries(export));
    assert_eq!(
        rows_read,
        ["0557722=1234", "БОЛТ-М5=3", "!7", "!8", "A;9=", "Ёлка №3=0"]
    );
    let sheet = include_bytes!("../../../../../fixtures/sources/market-stocks.csv");
    assert_eq!(
        described(&default_entries(sheet)),
        ["0557722=15", "БОЛТ-М5=0", "A 9="]
    );
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(file in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _any = entries(&file, &ReadSettings::default());
    }

    #[test]
    fn random_rows_do_not_panic(rest in "[A0;,\t|\"\r\n =Ё\u{ffff}5.E+-]{0,120}") {
        for takes_unended_row in [false, true] {
            let reading = ReadSettings { accepts_unterminated_row: takes_unended_row, ..ReadSettings::default() };
            let _any = entries(format!("sku;stock;Склад\n{rest}").as_bytes(), &reading);
            let _any = entries(rest.as_bytes(), &reading);
        }
    }

    #[test]
    fn quoted_fields_are_read_unchanged(
        fields in proptest::collection::vec("[a-zЁ;,\"\n5]{0,6}", 1..20),
    ) {
        let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
        let mut file = "sku;stock;name\r\n".to_owned();
        for field in &fields {
            file.push_str(&format!("x;1;{}\r\n", quoted(field)));
        }
        let found = default_entries(file.as_bytes());
        prop_assert_eq!(described(&found), vec!["x=1"; fields.len()]);
        let mut records = CsvRecords::new(file.as_bytes(), b';');
        records.next().unwrap();
        for field in &fields {
            let record = records.next().unwrap().unwrap();
            let cells = record.cells();
            let text = cells[2].text();
            prop_assert_eq!(text.as_ref(), field.as_str());
        }
    }
}

#[test]
fn rows_may_omit_empty_last_fields() {
    for delimiter in [";", ",", "\t", "|"] {
        let file = "Артикул;Остаток;Комментарий;Поставщик\nA-1;5;срочно;Завод\nA-2;7\nA-3;0;;\n\
                    A-4;3;\nA-5\n"
            .replace(';', delimiter);
        assert_eq!(
            rows(&file),
            ["A-1=5", "A-2=7", "A-3=0", "A-4=3", "A-5="],
            "{delimiter:?}"
        );
    }
}

#[test]
fn ambiguous_number_is_read_by_its_column() {
    for (numbers, rows_read) in [
        (
            &["\"2,000\"", "\"10,000\"", "15"][..],
            &["?2", "?3", "A3=15"][..],
        ),
        (&["\"2,000\"", "\"1,234,567\""], &["A1=2000", "A2=1234567"]),
        (&["\"2,000\"", "\"0,000\""], &["A1=2", "A2=0"]),
        (&["2.000", "\"1.234,00\""], &["A1=2000", "A2=1234"]),
        (&["2.000", "1.50"], &["A1=2", "!3"]),
        (&["2.000", "7"], &["?2", "A2=7"]),
    ] {
        let mut file = "sku,stock\n".to_owned();
        for (at, number) in numbers.iter().enumerate() {
            file.push_str(&format!("A{},{number}\n", at + 1));
        }
        assert_eq!(rows(&file), rows_read, "{numbers:?}");
    }
    let file = b"sku;stock\nA;2,000\nB;2.000\n";
    let by = |decimal| {
        let reading = ReadSettings {
            decimal: Some(decimal),
            ..ReadSettings::default()
        };
        described(&entries(file, &reading).unwrap())
    };
    assert_eq!(by(DecimalMark::Comma), ["A=2", "B=2000"]);
    assert_eq!(by(DecimalMark::Point), ["A=2000", "B=2"]);
}

#[test]
fn empty_quantity_is_zero_if_set() {
    let file = "sku;stock\nA;5\nB;\nC;  \nD\n".as_bytes();
    let reading = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    assert_eq!(
        described(&entries(file, &reading).unwrap()),
        ["A=5", "B=0", "C=0", "D=0"]
    );
    assert_eq!(described(&default_entries(file)), ["A=5", "B=", "C=", "D="]);
    let mut none = Cursor::new(b"sku;stock\nA;\nB;\n");
    let none = super::super::read(
        Format::Csv,
        &mut none,
        &ReadSettings::default(),
        &mut |_| Ok(()),
    );
    let none = none.unwrap_err().to_string();
    assert!(
        none.contains("none of the 2 products has a quantity"),
        "{none}"
    );
}

#[test]
fn truncates_decimals_if_set() {
    let file = b"sku;stock\nA;12.3456\nB;7.5\nC;0,33333\n";
    let reading = ReadSettings {
        floors_fractions: true,
        ..ReadSettings::default()
    };
    let pieces: Vec<_> = entries(file, &reading)
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            DeliveryEntry::Row(row) => row.quantity.unwrap().pieces(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pieces, [12, 7, 0]);
}

#[test]
fn restores_spoiled_skus_where_certain() {
    let file = "Артикул;Остаток\n=\"0557722\";5\n\"=\"\"0012\"\"\";7\n'TEA-1;3\n#Н/Д;1\n";
    assert_eq!(rows(file), ["0557722=5", "0012=7", "TEA-1=3", "?5"]);
}

#[test]
fn ignores_truncated_letters_in_unread_columns() {
    let mut file = b"sku;name;stock\n".to_vec();
    for row in 1..=5 {
        file.extend_from_slice(format!("Б-{row};Смеситель ").as_bytes());
        file.push(0xd0);
        file.extend_from_slice(format!(";{row}\n").as_bytes());
    }
    assert_eq!(
        described(&default_entries(&file)),
        ["Б-1=1", "Б-2=2", "Б-3=3", "Б-4=4", "Б-5=5"]
    );
}
