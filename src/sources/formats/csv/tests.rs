use std::cell::Cell as Counter;
use std::io::{Seek, SeekFrom};
use std::rc::Rc;

use encoding_rs::{UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251};
use proptest::prelude::*;

use super::super::super::quantity::{DecimalMark, Quantity};
use super::super::super::row::{Key, Row};
use super::super::Format;
use super::*;

fn entries(file: &[u8], reading: &Reading) -> Result<Vec<Entry>, FormatError> {
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    read(&mut Cursor::new(file), reading, &mut sink)?;
    Ok(found)
}

fn all(file: &[u8]) -> Vec<Entry> {
    entries(file, &Reading::default()).unwrap()
}

fn sku(row: &Row) -> &str {
    match &row.key {
        Key::Sku(sku) | Key::Id(sku) => sku,
    }
}

/// `SKU=quantity` of each row, `!line` of each that is set aside, `?line` of the suspicious.
fn told_by(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| match entry {
            Entry::Row(row) => {
                let quantity = row.quantity.map(|quantity| quantity.to_string());
                format!("{}={}", sku(row), quantity.unwrap_or_default())
            }
            Entry::Article { id, sku } => format!("{id}~{sku}"),
            Entry::NextPart => "--".to_owned(),
            Entry::Rejected(fault) => format!("!{}", fault.line),
            Entry::Suspicious(fault) => format!("?{}", fault.line),
        })
        .collect()
}

fn rows(file: &str) -> Vec<String> {
    told_by(&all(file.as_bytes()))
}

fn reasons(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Rejected(fault) | Entry::Suspicious(fault) => Some(fault.reason.as_str()),
            Entry::Row(_) | Entry::Article { .. } | Entry::NextPart => None,
        })
        .collect()
}

fn refusal(file: &[u8], reading: &Reading) -> String {
    entries(file, reading).unwrap_err().to_string()
}

fn named(sku: &str, quantity: &str) -> Reading {
    Reading {
        sku: Some(sku.into()),
        quantity: Some(quantity.into()),
        ..Reading::default()
    }
}

fn in_utf_16(text: &str, turn: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(turn).collect()
}

#[test]
fn columns_go_by_every_name_the_field_knows() {
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
        let places: Vec<_> = all(file.as_bytes())
            .into_iter()
            .map(|entry| match entry {
                Entry::Row(row) => row.place.unwrap_or_default(),
                Entry::Suspicious(fault) => fault.reason,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(places[0], "Юг", "{warehouse}");
        assert!(
            places[1].starts_with("warehouse is empty"),
            "{warehouse}: {places:?}"
        );
    }
}

#[test]
fn of_several_columns_that_fit_the_one_that_is_meant_is_taken() {
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
fn of_columns_that_fit_alike_none_is_chosen() {
    for (header, names) in [
        ("Код;SKU;Остаток", ["'Код'", "'SKU'"]),
        ("offer_id;Артикул;Остаток", ["'offer_id'", "'Артикул'"]),
        ("SKU;count;Остаток", ["'count'", "'Остаток'"]),
        ("SKU;Остаток;Количество", ["'Остаток'", "'Количество'"]),
        ("SKU;stock;quantity", ["'stock'", "'quantity'"]),
    ] {
        let refusal = refusal(format!("{header}\n1;2;3\n").as_bytes(), &Reading::default());
        assert!(names.iter().all(|name| refusal.contains(name)), "{refusal}");
        assert!(
            refusal.contains("set sku") || refusal.contains("set quantity"),
            "{refusal}"
        );
    }
}

#[test]
fn two_columns_of_one_name_are_for_the_owner_to_choose() {
    let file = "SKU;Остаток;ОСТАТОК;Юг\nA;1;2;3\n".as_bytes();
    let refusal = refusal(file, &Reading::default());
    assert!(
        refusal.contains("columns 2 'Остаток' and 3 'ОСТАТОК' may each be the quantity"),
        "{refusal}"
    );
    let reading = Reading {
        quantity: Some("юг".into()),
        ..Reading::default()
    };
    assert_eq!(told_by(&entries(file, &reading).unwrap()), ["A=3"]);
}

#[test]
fn what_the_settings_name_comes_before_what_the_field_knows() {
    let file = "Артикул;Остаток;Номер;На полке\nA;1;N;2\n".as_bytes();
    let told = told_by(&entries(file, &named("номер *", "НА_ПОЛКЕ")).unwrap());
    assert_eq!(told, ["N=2"]);
    let refusal = refusal(file, &named("Номер", "Полка"));
    assert!(
        refusal.contains("the quantity ('Полка', by the setting quantity)"),
        "{refusal}"
    );
    assert!(refusal.contains("'На полке'"), "{refusal}");
}

#[test]
fn a_file_without_the_columns_says_what_it_has_and_what_is_missing() {
    let refusal = refusal("Товар;Цена\nБолт;5\n".as_bytes(), &Reading::default());
    assert!(
        refusal.contains("no column for the SKU ('ваш sku', 'shop sku',"),
        "{refusal}"
    );
    assert!(refusal.contains("nor for the quantity"), "{refusal}");
    assert!(refusal.contains("'Товар', 'Цена'"), "{refusal}");
    let empty = entries(b"", &Reading::default()).unwrap_err();
    assert!(matches!(empty, FormatError::Unfit(_)), "{empty}");
}

#[test]
fn above_the_header_there_may_be_a_title() {
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
        entries(file.as_bytes(), &Reading::default()),
        Err(FormatError::Unfit(_))
    ));
}

/// The reason why a file is refused.
fn refused(file: &str) -> String {
    match entries(file.as_bytes(), &Reading::default()) {
        Err(FormatError::Unfit(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_of_two_rows_is_refused() {
    let reason = refused("Артикул;Название;Остаток\n;;Москва\nA-1;x;0\nA-2;x;5\n");
    assert!(
        reason.starts_with("row 2 goes on with the header"),
        "{reason}"
    );
    // A first row with a word for its quantity is a row.
    let word = "Артикул;Название;Остаток\nA-1;x;нет\nA-2;x;5\n";
    assert_eq!(
        entries(word.as_bytes(), &Reading::default()).unwrap().len(),
        2
    );
}

#[test]
fn second_table_of_something_else_is_refused() {
    for header in ["Артикул;Цена", "Артикул;В пути", "артикул ;Ожидается"]
    {
        let reason = refused(&format!("Артикул;Остаток\nA-1;5\n\n{header}\nA-2;500\n"));
        assert!(reason.starts_with("row 4 is a header too"), "{reason}");
    }
}

#[test]
fn numbers_of_columns_are_no_product() {
    let found = entries(
        "№;Артикул;Остаток\n1;2;3\n1;A-1;5\n".as_bytes(),
        &Reading::default(),
    );
    let found = found.unwrap();
    assert!(matches!(&found[0], Entry::Suspicious(fault) if fault.reason.contains("1, 2, 3")));
    assert!(matches!(&found[1], Entry::Row(_)), "{found:?}");
}

#[test]
fn row_without_a_warehouse_beside_rows_with_one_is_suspicious() {
    let file =
        "Артикул;Склад;Остаток\nA-1;Москва;5\nA-1;;8\nA-2;;\nA-1;Все склады;13\nA-1;Итого;13\n";
    let found = entries(file.as_bytes(), &Reading::default()).unwrap();
    assert_eq!(found.len(), 3, "totals are left out: {found:?}");
    assert!(matches!(&found[1], Entry::Suspicious(fault) if fault.reason.contains("warehouse is")));
    let without = "Артикул;Склад;Остаток\nA-1;;8\nA-2;;3\n";
    assert_eq!(rows(without), ["A-1=8", "A-2=3"]);
}

#[test]
fn flag_in_the_preferred_column_is_refused() {
    let reason = refused("Артикул;Доступно;Остаток\nA-1;1;15\nA-2;0;4\n");
    assert!(
        reason.contains("'Доступно' has nothing but 0 and 1"),
        "{reason}"
    );
    let free = "Артикул;Доступно;Остаток\nA-1;1;15\nA-2;2;4\n";
    assert_eq!(rows(free), ["A-1=1", "A-2=2"]);
}

#[test]
fn row_without_a_sku_may_be_of_the_product_above() {
    let file = "sku;size;stock\n;S;1\nA-1;S;5\n;M;7\n;L;8\nB-1;S;2\n01.фев;S;2\n;M;3\nC-1;S;4\n\n\
                ;M;3\nD-1;S;4\nD-1;S;4;x\n;M;3\nE-1;S;1\nE-2;S;2\n;;3\nF-1;S;1\n;;19\n";
    let found = entries(file.as_bytes(), &Reading::default()).unwrap();
    let products: Vec<_> = found
        .iter()
        .map(|entry| match entry {
            Entry::Row(row) => format!("{:?}", row.key),
            Entry::Rejected(fault) | Entry::Suspicious(fault) => format!("{:?}", fault.may_be),
            other => panic!("{other:?}"),
        })
        .collect();
    let above = r#"Some("A-1")"#;
    let (row, other) = (r#"Sku("A-1")"#, r#"Sku("B-1")"#);
    assert_eq!(
        products[..7],
        ["None", row, above, above, other, "None", "None"]
    );
    // A blank row, or one that is not read, stands between; and the sums of a group and of all rows.
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
fn every_delimiter_is_found_and_a_declared_one_wins() {
    for delimiter in [";", ",", "\t", "|"] {
        let file =
            format!("\"Имя; с, всем\"{delimiter}sku{delimiter}stock\nx{delimiter}A{delimiter}5\n");
        assert_eq!(rows(&file), ["A=5"], "{delimiter:?}");
    }
    assert_eq!(rows("sep=|\r\nsku|stock\r\nA|5\r\n"), ["A=5"]);
    assert_eq!(rows("SEP=\t\nsku\tstock\nA\t5\n"), ["A=5"]);
    let reading = Reading {
        delimiter: Some(b'^'),
        ..Reading::default()
    };
    let told = told_by(&entries(b"sku^stock\nA^5\n", &reading).unwrap());
    assert_eq!(told, ["A=5"]);
}

#[test]
fn quotes_enclose_delimiters_quotes_and_lines() {
    let file =
        "sku;name;stock\n\"A;1\";\"Болт \"\"М5\"\"\";5\n\"B\";\"две\nстроки\";6\nC;Труба 5\";7\n";
    let found = all(file.as_bytes());
    assert_eq!(told_by(&found), ["A;1=5", "B=6", "C=7"]);
    let lines: Vec<_> = found
        .iter()
        .map(|entry| match entry {
            Entry::Row(row) => row.line,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines, [2, 3, 5]);
}

#[test]
fn a_quote_too_many_costs_its_own_line_only() {
    let file = "sku;name;stock\nA;\"Болт;5\nB;Гайка;6\nC;\"Винт\";7\nD;Шуруп;8\n";
    assert_eq!(rows(file), ["!2", "B=6", "C=7", "D=8"]);
}

#[test]
fn a_quote_that_is_never_closed_breaks_the_file() {
    let file = "sku;name;stock\nA;\"Болт;5\nB;Гайка;6\n";
    assert!(refusal(file.as_bytes(), &Reading::default()).contains("line 2"));
    let long = format!("{file}{}", "C;Винт;7\n".repeat(20_000));
    assert!(refusal(long.as_bytes(), &Reading::default()).contains("line 2"));
    let flat = format!("sku;stock\nA;{}\n", "5".repeat(100_000));
    assert!(refusal(flat.as_bytes(), &Reading::default()).contains("line 2"));
}

#[test]
fn rows_that_do_not_fit_the_header_are_set_aside() {
    let file = "sku;name;stock;\nA;x;5;\nB;x;6\nC;x\nD;x;7;8\nE;x;9;;;\n;;;\n\n  \n";
    let found = all(file.as_bytes());
    // A field too many shows that a delimiter is inside a field, even if the last fields are empty.
    assert_eq!(told_by(&found), ["A=5", "B=6", "C=", "!5", "!6"]);
    let expected = [
        "it has 4 fields, and the header 3",
        "it has 6 fields, and the header 3",
    ];
    assert_eq!(reasons(&found), expected);
    assert_eq!(
        rows("sku,stock,a,b\nA-1,5,,\nA-2,1,000,,\n"),
        ["A-1=5", "!3"]
    );
    // Unless every row has them.
    assert_eq!(rows("sku;stock\nA;5;;\nB;6;;\n"), ["A=5", "B=6"]);
}

#[test]
fn a_second_header_of_other_columns_refuses_the_file() {
    for file in [
        "sku;stock\n557722;3\n\nstock;sku\n9;557723\n",
        "Показатели:;Артикул;Остаток\nСклад;;\nАртикул;Номенклатура;Остаток\nTEA-1;Чай;5\n",
        "sku;x;stock\nA;1;3\nЗаказы;;\nsku;stock;сумма\nB;4;3\n",
    ] {
        let reason = refusal(file.as_bytes(), &Reading::default());
        assert!(
            reason.contains("is a header too, of other columns"),
            "{reason}"
        );
    }
    assert_eq!(rows("sku;stock\nA;3\nsku;stock\nB;4\n"), ["A=3", "B=4"]);
}

#[test]
fn a_total_is_left_out_and_named() {
    let mut file = Cursor::new("Артикул;Остаток\nA;3\nОбщий итог;3\n".as_bytes());
    let mut found = Vec::new();
    let ending = read(&mut file, &Reading::default(), &mut |entry| {
        found.push(entry);
        Ok(())
    });
    assert_eq!(told_by(&found), ["A=3"]);
    assert!(ending.unwrap().notices[0].ends_with("the first of them is row 3"));
}

#[test]
fn a_sku_in_an_encoding_that_nothing_proves_is_suspicious() {
    let in_koi8 = |text: &str| encoding_rs::KOI8_R.encode(text).0.into_owned();
    for file in [
        in_koi8("sku;stock\nБОЛТ-5;3\nB;4\n"),
        in_koi8("sku;stock\nболт-5;3\nB;4\n"),
    ] {
        assert_eq!(told_by(&all(&file)), ["?2", "B=4"]);
    }
    let proven = WINDOWS_1251
        .encode("Артикул;stock\nБОЛТ-5;3\n")
        .0
        .into_owned();
    assert_eq!(told_by(&all(&proven)), ["БОЛТ-5=3"]);
    let set = Reading {
        encoding: Some(WINDOWS_1251),
        ..Reading::default()
    };
    let file = WINDOWS_1251.encode("sku;stock\nБОЛТ-5;3\n").0.into_owned();
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    read(&mut Cursor::new(file), &set, &mut sink).unwrap();
    assert_eq!(told_by(&found), ["БОЛТ-5=3"]);
}

#[test]
fn a_decimal_comma_between_commas_is_no_column() {
    assert_eq!(
        rows("sku,stock\nA,46,5\nB,\"46,5\"\nC,3\n"),
        ["!2", "!3", "C=3"]
    );
}

#[test]
fn numbers_and_words_are_read_by_the_rules_of_the_source() {
    let file = "sku;stock\nA;3.000\nB;1\u{a0}234,000\nC;46,5\nD;-2\nE;>10\nF;НЕТ\nG;\nH;-\n";
    // The comma is decimal in this column, and so the point may group thousands.
    assert_eq!(
        rows(file),
        ["?2", "B=1234", "!4", "!5", "!6", "!7", "G=", "!9"]
    );
    let reading = Reading {
        words: vec![
            (">10".into(), Quantity::from_pieces(10).unwrap()),
            ("нет".into(), Quantity::ZERO),
            ("-".into(), Quantity::ZERO),
        ],
        floors_fractions: true,
        zeroes_negatives: true,
        ..Reading::default()
    };
    let told = told_by(&entries(file.as_bytes(), &reading).unwrap());
    assert_eq!(
        told,
        ["?2", "B=1234", "C=46.5", "D=-2", "E=10", "F=0", "G=", "H=0"]
    );
}

#[test]
fn groups_and_totals_are_passed_over_and_a_row_without_sku_is_not() {
    let file = "Артикул;Товар;Остаток\n;Крепёж;\nA;Болт;5\n;Гайка;6\n;Итого:;11\nИтого;;11\n";
    let found = all(file.as_bytes());
    assert_eq!(told_by(&found), ["A=5", "!4"]);
    assert_eq!(reasons(&found), ["sku is empty, and quantity is '6'"]);
}

#[test]
fn a_sku_stays_text_and_one_that_a_spreadsheet_changed_is_suspicious() {
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
fn a_reserve_and_a_time_are_read_where_the_settings_name_them() {
    let file = "sku;stock;Резерв;Когда\nA;5;2;2026-11-22T10:00:00+03:00\nB;5;;\nC;5;x;\n\
                D;5;1;22.11.2026\n";
    let reading = Reading {
        reserve: Some("резерв".into()),
        updated_at: Some("когда".into()),
        ..Reading::default()
    };
    let found = entries(file.as_bytes(), &reading).unwrap();
    assert_eq!(told_by(&found), ["A=5", "B=5", "!4", "!5"]);
    let Entry::Row(row) = &found[0] else {
        panic!("{found:?}")
    };
    assert_eq!(row.reserve, Quantity::from_pieces(2));
    assert_eq!(row.at.unwrap().to_string(), "2026-11-22T07:00:00Z");
    assert!(reasons(&found)[1].contains("22.11.2026"));
    let unread = all(file.as_bytes());
    assert!(unread.iter().all(|entry| matches!(
        entry,
        Entry::Row(Row {
            reserve: None,
            at: None,
            ..
        })
    )));
}

#[test]
fn what_the_market_calls_available_is_without_the_reserve_already() {
    let reading = Reading {
        reserve: Some("RESERVE".into()),
        ..Reading::default()
    };
    let file = b"SHOP_SKU;WAREHOUSE_AND_SHOP;COUNT;RESERVE\nA;W;5;2\n";
    let Entry::Row(row) = &entries(file, &reading).unwrap()[0] else {
        panic!()
    };
    assert_eq!(
        (row.quantity, row.reserve),
        (Quantity::from_pieces(5), None)
    );
    let file = b"SKU;COUNT;RESERVE\nA;5;2\n";
    let Entry::Row(row) = &entries(file, &reading).unwrap()[0] else {
        panic!()
    };
    assert_eq!(row.reserve, Quantity::from_pieces(2));
}

const CYRILLIC: &str = "Артикул;Склад;Остаток\r\nБОЛТ-№5;Юг;5\r\nA-2;Ёлка;6\r\n";

#[test]
fn text_is_read_in_whatever_encoding_it_is() {
    let expected = all(CYRILLIC.as_bytes());
    assert_eq!(told_by(&expected), ["БОЛТ-№5=5", "A-2=6"]);
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
        let reading = Reading {
            encoding: declared,
            ..Reading::default()
        };
        assert_eq!(
            entries(&file, &reading).unwrap(),
            expected,
            "{declared:?}: {file:?}"
        );
    }
}

#[test]
fn an_encoding_that_is_declared_wrongly_is_told_by_the_columns_it_gives() {
    let cyrillic = WINDOWS_1251.encode(CYRILLIC).0.into_owned();
    for (file, declared, shown) in [
        (cyrillic.as_slice(), UTF_8, "\u{fffd}"),
        (CYRILLIC.as_bytes(), UTF_16LE, "'"),
    ] {
        let reading = Reading {
            encoding: Some(declared),
            ..Reading::default()
        };
        let refusal = refusal(file, &reading);
        assert!(
            refusal.contains(shown) && refusal.contains("no column for"),
            "{refusal}"
        );
    }
    let reading = Reading {
        encoding: Some(WINDOWS_1251),
        ..Reading::default()
    };
    let refusal = refusal(CYRILLIC.as_bytes(), &reading);
    assert!(refusal.contains("its bytes are UTF-8"), "{refusal}");
}

#[test]
fn a_letter_between_two_pieces_of_the_file_is_one_letter() {
    for pad in 0..4 {
        let mut file = format!("sku;stock;{}\n", "x".repeat(pad));
        for row in 0..9_000 {
            file.push_str(&format!(
                "№{row}-Ёж€;{row}{}\n",
                if pad == 0 { "" } else { ";" }
            ));
        }
        let found = all(file.as_bytes());
        assert_eq!(found.len(), 9_000);
        assert!(found.iter().all(|entry| matches!(entry, Entry::Row(_))));
    }
}

#[test]
fn bytes_that_mean_nothing_cost_their_row_and_not_the_file() {
    let mut file = b"sku;stock\nA;1\n\xff\xfe;2\nC;3\nD\xd0;4\nE;5\n".to_vec();
    let reading = Reading {
        encoding: Some(UTF_8),
        ..Reading::default()
    };
    assert_eq!(
        told_by(&entries(&file, &reading).unwrap()),
        ["A=1", "!3", "C=3", "!5", "E=5"]
    );
    // Nobody declared it, but so many letters are no accident.
    file.extend("Ёлочная игрушка «Шар»;6\n".repeat(4).bytes());
    let told = told_by(&all(&file));
    assert_eq!(
        told.iter().filter(|told| told.starts_with('!')).count(),
        2,
        "{told:?}"
    );
    // A replacement character that stood in the file is nobody's fault.
    assert_eq!(rows("sku;name;stock\nA;\u{fffd};5\n"), ["A=5"]);
}

#[test]
fn what_is_no_text_is_called_by_its_name() {
    for (file, name) in [
        (&b"PK\x03\x04rest"[..], "workbook"),
        (b"\xd0\xcf\x11\xe0rest", "XLS"),
        (b"\x1f\x8brest", "gzip"),
        (b"sku;stock\nA\0;5\n", "0x00"),
        (b"sku;stock\nA\x01;5\n", "byte 12"),
        (b" <!DOCTYPE HTML><html>", "web page"),
    ] {
        let refusal = refusal(file, &Reading::default());
        assert!(refusal.contains(name), "{refusal}");
    }
}

#[test]
fn the_last_row_is_taken_only_if_its_line_is_ended_or_the_owner_says_so() {
    let file = b"sku;stock\nA;5\nB;15";
    let found = all(file);
    assert_eq!(told_by(&found), ["A=5", "!3"]);
    assert!(reasons(&found)[0].contains("unended_row = \"take\""));
    let reading = Reading {
        takes_unended_row: true,
        ..Reading::default()
    };
    assert_eq!(told_by(&entries(file, &reading).unwrap()), ["A=5", "B=15"]);
    assert_eq!(rows("sku;stock\nA;5\n  "), ["A=5"]);
    assert_eq!(rows("sku;stock\r\nA;5\r\n\u{1a}"), ["A=5"]);
}

#[test]
fn a_file_cut_at_any_byte_gives_no_value_that_the_whole_does_not_hold() {
    let line = |number: u64| match number % 6 {
        0 => format!("\"Ёж-{number}\";\"д;\n\"\"\";{};Ю", number * 37),
        1 => format!("A-{number};;\"{}\";\"Ю\"", number * 11),
        _ => format!("0{number};x;{},000;Ю", number * 1_313),
    };
    let text: Vec<_> = std::iter::once("Артикул;Товар;Остаток;Склад".to_owned())
        .chain((1..=30).map(line))
        .collect();
    for ending in ["\n", "\r\n", "\r"] {
        let whole = text.join(ending) + ending;
        let files = match ending {
            "\n" => vec![
                whole.clone().into_bytes(),
                WINDOWS_1251.encode(&whole).0.into_owned(),
                in_utf_16(&whole, u16::to_le_bytes),
            ],
            _ => vec![whole.into_bytes()],
        };
        for file in files {
            let known = all(&file);
            assert_eq!(known.len(), 30, "{ending:?}");
            for cut in 0..file.len() {
                cut_gives_nothing_new(&file[..cut], &known);
            }
        }
    }
}

fn cut_gives_nothing_new(file: &[u8], known: &[Entry]) {
    let mut found = Vec::new();
    let mut sink = |entry| {
        found.push(entry);
        Ok(())
    };
    // Whatever becomes of the file, what was put before counts.
    let _any = read(&mut Cursor::new(file), &Reading::default(), &mut sink);
    let rows: Vec<_> = found
        .into_iter()
        .filter(|entry| !matches!(entry, Entry::Rejected(_)))
        .collect();
    assert_eq!(
        rows.as_slice(),
        &known[..rows.len()],
        "cut at {}",
        file.len()
    );
}

/// Rows that are made while they are read, and how many bytes of them were.
struct Endless {
    at: u64,
    /// Counted anew after each going back.
    read: Rc<Counter<u64>>,
}

impl Endless {
    const HEADER: &'static [u8] = b"sku,stock\nfill,000000\n";
    const ROW: &'static [u8] = b"SKU-000000000000,0012\n";
    const LENGTH: u64 = 22 * 60_001;
}

impl Read for Endless {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < room.len() && self.at < Self::LENGTH {
            let line = if self.at < 22 {
                Self::HEADER
            } else {
                Self::ROW
            };
            let within = usize::try_from(self.at % 22).unwrap();
            let length = (22 - within).min(room.len() - written);
            room[written..written + length].copy_from_slice(&line[within..within + length]);
            written += length;
            self.at += length as u64;
        }
        self.read.set(self.read.get() + written as u64);
        Ok(written)
    }
}

impl Seek for Endless {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else {
            panic!("{to:?}")
        };
        self.read.set(0);
        self.at = at;
        Ok(at)
    }
}

#[test]
fn rows_pass_without_being_held_however_many_there_are() {
    assert_eq!((Endless::HEADER.len(), Endless::ROW.len()), (22, 22));
    let bytes = Rc::new(Counter::new(0));
    let mut input = Endless {
        at: 0,
        read: Rc::clone(&bytes),
    };
    let mut rows = 0_u64;
    let mut sink = |_| {
        rows += 1;
        // What has been read beyond this row: pieces, never the file.
        assert!(
            bytes.get() <= rows * 22 + 4 * 64 * 1024,
            "{} at {rows}",
            bytes.get()
        );
        Ok(())
    };
    read(&mut input, &Reading::default(), &mut sink).unwrap();
    assert_eq!(rows, 60_001);
}

#[test]
fn when_nobody_wants_the_rest_it_stops() {
    let mut seen = 0;
    let mut sink = |_| {
        seen += 1;
        Err(GivenUp)
    };
    let outcome = read(
        &mut Cursor::new("sku;stock\nA;1\nB;2\n"),
        &Reading::default(),
        &mut sink,
    );
    assert!(matches!(outcome, Err(FormatError::GivenUp(_))));
    assert_eq!(seen, 1);
}

#[test]
fn an_export_of_1c_and_the_sheet_of_the_market_are_read() {
    let export = include_bytes!("../../../../fixtures/sources/1c-export-windows-1251.csv");
    let told = told_by(&all(export));
    assert_eq!(
        told,
        ["0557722=1234", "БОЛТ-М5=3", "!7", "!8", "A;9=", "Ёлка №3=0"]
    );
    let sheet = include_bytes!("../../../../fixtures/sources/market-stocks.csv");
    assert_eq!(told_by(&all(sheet)), ["0557722=15", "БОЛТ-М5=0", "A 9="]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(file in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _any = entries(&file, &Reading::default());
    }

    #[test]
    fn no_rows_make_it_panic(rest in "[A0;,\t|\"\r\n =Ё\u{ffff}5.E+-]{0,120}") {
        for takes_unended_row in [false, true] {
            let reading = Reading { takes_unended_row, ..Reading::default() };
            let _any = entries(format!("sku;stock;Склад\n{rest}").as_bytes(), &reading);
            let _any = entries(rest.as_bytes(), &reading);
        }
    }

    #[test]
    fn what_is_quoted_well_is_read_as_it_was(
        fields in proptest::collection::vec("[a-zЁ;,\"\n5]{0,6}", 1..20),
    ) {
        let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
        let mut file = "sku;stock;name\r\n".to_owned();
        for field in &fields {
            file.push_str(&format!("x;1;{}\r\n", quoted(field)));
        }
        let found = all(file.as_bytes());
        prop_assert_eq!(told_by(&found), vec!["x=1"; fields.len()]);
        let mut records = Records::new(file.as_bytes(), b';');
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
fn rows_without_their_empty_last_fields_are_whole() {
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
fn a_number_with_two_readings_is_read_by_its_column_or_not_at_all() {
    for (numbers, told) in [
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
        assert_eq!(rows(&file), told, "{numbers:?}");
    }
    let file = b"sku;stock\nA;2,000\nB;2.000\n";
    let by = |decimal| {
        let reading = Reading {
            decimal: Some(decimal),
            ..Reading::default()
        };
        told_by(&entries(file, &reading).unwrap())
    };
    assert_eq!(by(DecimalMark::Comma), ["A=2", "B=2000"]);
    assert_eq!(by(DecimalMark::Point), ["A=2000", "B=2"]);
}

#[test]
fn an_empty_quantity_is_zero_where_the_setting_says_so() {
    let file = "sku;stock\nA;5\nB;\nC;  \nD\n".as_bytes();
    let reading = Reading {
        zeroes_empties: true,
        ..Reading::default()
    };
    assert_eq!(
        told_by(&entries(file, &reading).unwrap()),
        ["A=5", "B=0", "C=0", "D=0"]
    );
    assert_eq!(told_by(&all(file)), ["A=5", "B=", "C=", "D="]);
    let mut none = Cursor::new(b"sku;stock\nA;\nB;\n");
    let none = super::super::read(Format::Csv, &mut none, &Reading::default(), &mut |_| Ok(()));
    let none = none.unwrap_err().to_string();
    assert!(
        none.contains("none of its 2 products states a quantity"),
        "{none}"
    );
}

#[test]
fn any_number_of_decimals_is_cut_off_where_the_setting_says_so() {
    let file = b"sku;stock\nA;12.3456\nB;7.5\nC;0,33333\n";
    let reading = Reading {
        floors_fractions: true,
        ..Reading::default()
    };
    let pieces: Vec<_> = entries(file, &reading)
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            Entry::Row(row) => row.quantity.unwrap().pieces(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pieces, [12, 7, 0]);
}

#[test]
fn spoilt_skus_are_undone_where_that_is_certain() {
    let file = "Артикул;Остаток\n=\"0557722\";5\n\"=\"\"0012\"\"\";7\n'TEA-1;3\n#Н/Д;1\n";
    assert_eq!(rows(file), ["0557722=5", "0012=7", "TEA-1=3", "?5"]);
}

#[test]
fn a_letter_cut_in_a_column_that_is_not_read_costs_nothing() {
    let mut file = b"sku;name;stock\n".to_vec();
    for row in 1..=5 {
        file.extend_from_slice(format!("Б-{row};Смеситель ").as_bytes());
        file.push(0xd0);
        file.extend_from_slice(format!(";{row}\n").as_bytes());
    }
    assert_eq!(
        told_by(&all(&file)),
        ["Б-1=1", "Б-2=2", "Б-3=3", "Б-4=4", "Б-5=5"]
    );
}
