//! Tests of the JSON reader: layouts, members, encodings and ambiguous documents.

use super::super::Format;
use super::super::testing::{read_described, read_entries, sample, utf16};
use crate::ReadSettings;

fn read_default(text: &str) -> Vec<String> {
    read_described(Format::Json, text.as_bytes(), &ReadSettings::default())
}

fn read_with(text: &str, reading: &ReadSettings) -> Vec<String> {
    read_described(Format::Json, text.as_bytes(), reading)
}

fn error_message(bytes: &[u8]) -> String {
    read_entries(Format::Json, bytes, &ReadSettings::default())
        .1
        .unwrap_err()
        .to_string()
}

#[test]
fn reads_the_markets_own_bodies() {
    let update = ["1 A = 15 since 2026-11-22T07:00:00Z", "2 B = 0"];
    assert_eq!(
        read_described(
            Format::Json,
            &sample("update.json"),
            &ReadSettings::default()
        ),
        update
    );
    let legacy = read_described(
        Format::Json,
        &sample("legacy.json"),
        &ReadSettings::default(),
    );
    assert_eq!(legacy[0], "1 A@123 = 7 since 2026-11-22T07:00:00Z");
    // A time without an offset is ignored in a member that no setting names.
    assert_eq!(legacy[1..], ["2 B@123 = 3", "3 C@123 = ?"]);
}

#[test]
fn finds_lists_by_every_known_name() {
    let list = r#"[{"sku":"a","count":1},{"sku":"b","count":null},{"sku":"c"}]"#;
    let expected = ["1 a = 1", "2 b = ?", "3 c = ?"];
    assert_eq!(read_default(list), expected);
    for name in [
        "skus", "items", "stocks", "offers", "products", "data", "rows", "result",
    ] {
        let text = format!(r#"{{"status":"OK","page":{{"n":[1]}},"{name}":{list},"total":3}}"#);
        assert_eq!(read_default(&text), expected, "{name}");
    }
    assert_eq!(
        read_default(r#"{"data":null,"result":"ok","items":[{"sku":"a","count":1}]}"#),
        ["1 a = 1"]
    );
    assert_eq!(read_default("[]"), [""; 0]);
    assert_eq!(read_default(r#"{"skus":[]}"#), [""; 0]);
}

#[test]
fn reads_a_map_from_sku_to_stock() {
    let expected = ["1 SKU-1 = 5", "2 SKU-2 = 7", "3 SKU-3 = ?"];
    assert_eq!(
        read_described(Format::Json, &sample("map.json"), &ReadSettings::default()),
        expected
    );
    let described = read_default(
        "{\n \"a\": true,\n \"b\": {\"count\":1},\n \" \": 1, \"c\": 1e999, \"d\": 1}",
    );
    assert_eq!(
        described[0],
        "1 rejected: stock: true must be a number or a string"
    );
    assert_eq!(
        described[1],
        r#"2 rejected: stock: {"count":1} must be a number or a string"#
    );
    assert_eq!(described[2], "3 rejected: sku is empty");
    assert!(described[3].starts_with("4 rejected: quantity is '1e999'"));
}

#[test]
fn envelope_is_neither_product_nor_map() {
    for document in [
        r#"{"code":404,"message":"Not found"}"#,
        r#"{"timestamp":"2026-11-29T00:00:00Z","status":500,"error":"Internal","path":"/stock"}"#,
        r#"{"code":404,"count":0}"#,
        r#"{"total":2,"data":{"A-1":5,"B-2":7}}"#,
        r#"{"A-1":5,"count":1}"#,
        r#"{"version":3,"A-1":5}"#,
    ] {
        let mut input = std::io::Cursor::new(document.as_bytes());
        let ended = super::read(&mut input, &ReadSettings::default(), &mut |_| Ok(()));
        let reason = ended.unwrap_err().to_string();
        assert!(
            reason.contains("is not a map from SKU to stock"),
            "{document}: {reason}"
        );
    }
    let listed = r#"{"code":200,"count":1,"data":[{"sku":"A-1","stock":5}]}"#;
    assert_eq!(read_default(listed), ["1 A-1 = 5"]);
}

#[test]
fn reads_ndjson_line_by_line() {
    let described = read_described(
        Format::Json,
        &sample("stock.ndjson"),
        &ReadSettings::default(),
    );
    assert_eq!(described[0], "1 a = 1");
    assert_eq!(
        described[1],
        "2 rejected: quantity is '46,5', it must be whole, or set fraction = \"floor\""
    );
    assert_eq!(described[2], "3 Я-1@Мира, 1 = 12");
    let one = read_default("{\"sku\":\"a\",\"count\":1}\n");
    assert_eq!(one, ["1 a = 1"]);
    let product = r#"{"sku":"a","items":[{"type":"FIT","count":2}]}"#;
    assert_eq!(read_default(product), ["1 a = 2"]);
    assert_eq!(
        read_default(&format!("\n{product}\r\n\n{product}")),
        ["2 a = 2", "4 a = 2"]
    );
}

#[test]
fn bad_line_does_not_affect_the_others() {
    let good = r#"{"sku":"a","count":1}"#;
    let lines = |bad: &str| read_default(&format!("{good}\n{bad}\n{good}"));
    for bad in [
        "{\"sku\":\"b\",\"count\":}",
        "{\"sku\":\"b\",\"count\":1",
        "[1]",
        "x",
        "5",
    ] {
        let described = lines(bad);
        assert_eq!(
            (described[0].as_str(), described[2].as_str()),
            ("1 a = 1", "3 a = 1")
        );
        assert!(described[1].starts_with("2 rejected: "), "{described:?}");
    }
    let first = read_default(&format!("{{\"sku\":}}\n{good}\n"));
    assert_eq!(first.len(), 2);
    assert!(first[0].starts_with("1 rejected: "));
    let cut = read_default(&format!("{good}\n{{\"sku\":\"b\",\"count\":1"));
    assert!(
        cut[1].starts_with("2 rejected: the line is not JSON: EOF"),
        "{cut:?}"
    );
}

#[test]
fn numeric_sku_is_suspicious_if_digits_may_be_lost() {
    assert_eq!(
        read_default(r#"[{"sku":557722,"count":1}]"#),
        ["1 557722 = 1"]
    );
    for number in ["1e5", "5577220000000000000000001", "12.50", "-5"] {
        let document = format!(r#"[{{"sku":{number},"count":1}}]"#);
        let described = read_default(&document);
        assert!(
            described[0].starts_with("1 suspicious: sku is the number"),
            "{described:?}"
        );
        let reading = ReadSettings {
            accepts_suspicious_skus: true,
            ..ReadSettings::default()
        };
        assert_eq!(read_with(&document, &reading), [format!("1 {number} = 1")]);
    }
    assert!(error_message(br#"[{"sku":0557722,"count":1}]"#).contains("invalid number"));
    assert_eq!(
        read_default(r#"[{"sku":"0557722","count":1}]"#),
        ["1 0557722 = 1"]
    );
    for sku in ["null", "\" \"", "true", "[1]", "{}"] {
        let described = read_default(&format!(r#"[{{"sku":{sku},"count":1}}]"#));
        assert!(described[0].starts_with("1 rejected: "), "{described:?}");
    }
}

#[test]
fn reads_quantities_from_their_literals() {
    for (literal, message) in [
        ("3", "1 a = 3"),
        ("3.0", "1 a = 3"),
        ("\"7\"", "1 a = 7"),
        ("\"1 234,000\"", "1 a = 1234"),
        ("2000000000", "1 a = 2000000000"),
        ("3.000", "1 a = 3"),
        ("2.9999999999999996", "1 a = 3"),
    ] {
        assert_eq!(
            read_default(&format!(r#"[{{"sku":"a","count":{literal}}}]"#)),
            [message]
        );
    }
    let empty = r#"[{"sku":"a","count":""},{"sku":"b","count":null},{"sku":"c","count":1}]"#;
    assert_eq!(read_default(empty), ["1 a = ?", "2 b = ?", "3 c = 1"]);
    let zero = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    assert_eq!(read_with(empty, &zero), ["1 a = 0", "2 b = 0", "3 c = 1"]);
    let digits = "9".repeat(100_000);
    for literal in ["1e3", "-2", "46.5", "2000000001", "1e999", "{}", &digits] {
        let described = read_default(&format!(r#"[{{"sku":"a","count":{literal}}}]"#));
        assert!(
            described.len() == 1 && described[0].starts_with("1 rejected: "),
            "{literal}"
        );
    }
}

#[test]
fn finds_members_by_known_names_and_settings() {
    for sku in [
        "sku",
        "offer_id",
        "offerId",
        "shopSku",
        "shop-sku",
        "article",
        "Артикул",
        "Код",
        "code",
    ] {
        for stock in [
            "stock",
            "count",
            "Quantity",
            "available",
            "остаток",
            "Количество",
            "доступно",
        ] {
            for place in ["warehouse", "warehouseId", "Склад"] {
                let text = format!(r#"[{{"{stock}":1,"{sku}":"a","{place}":7}}]"#);
                assert_eq!(read_default(&text), ["1 a@7 = 1"]);
            }
        }
    }
    let text = r#"[{"sku":"a","own":"b","count":1,"free":2,"held":1,"store":"s","seen":"2026-11-22T00:00:00Z"}]"#;
    let reading = ReadSettings {
        sku: Some("Own".to_owned()),
        quantity: Some("free".to_owned()),
        reserve: Some("held".to_owned()),
        warehouse: Some("store".to_owned()),
        updated_at: Some("seen".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(
        read_with(text, &reading),
        ["1 b@s = 2 - 1 since 2026-11-22T00:00:00Z"]
    );
    let dated = r#"[{"sku":"a","count":1,"seen":"вчера"}]"#;
    let reading = ReadSettings {
        updated_at: Some("seen".to_owned()),
        ..ReadSettings::default()
    };
    assert!(read_with(dated, &reading)[0].starts_with("1 rejected: 'вчера' must be a date"));
}

#[test]
fn contradicting_members_are_not_applied() {
    for product in [
        r#"{"sku":"a","sku":"b","count":1}"#,
        r#"{"sku":"a","count":1,"count":1}"#,
        r#"{"sku":"a","count":1,"items":[{"count":2}]}"#,
        r#"{"sku":"a","items":[{"count":1},{"count":2}]}"#,
        r#"{"sku":"a","items":[{"count":1,"count":2}]}"#,
        r#"{"sku":"a","items":[5]}"#,
        r#"{"sku":"a","items":[{"count":5}],"items":[{"count":0}]}"#,
        r#"{"sku":"a","items":[{"count":5}],"stocks":[{"count":0}]}"#,
    ] {
        let described = read_default(&format!("[{product}]"));
        let is_refused =
            described[0].starts_with("1 rejected: ") || described[0].starts_with("1 suspicious: ");
        assert!(described.len() == 1 && is_refused, "{described:?}");
    }
    let disagreeing = read_default(r#"[{"sku":"a","stock":10,"available":7}]"#);
    assert!(disagreeing[0].starts_with("1 suspicious: stock is 10 and available is 7"));
    assert_eq!(
        read_default(r#"[{"sku":"a","stock":7,"count":7,"available":true}]"#),
        ["1 a = 7"]
    );
    let by_warehouse =
        r#"[{"sku":"a","items":[{"warehouse":"x","count":1},{"warehouse":"y","count":2}]}]"#;
    assert_eq!(read_default(by_warehouse), ["1 a@x = 1", "1 a@y = 2"]);
    assert!(error_message(br#"{"items":[{"sku":"a","count":1}],"data":[]}"#).contains("two lists"));
}

#[test]
fn accepts_only_utf_8_and_marked_utf_16() {
    let text = r#"[{"sku":"Ящик","count":1}]"#;
    let reading = ReadSettings::default();
    for bytes in [
        format!("\u{feff}{text}").into_bytes(),
        utf16(text, u16::to_le_bytes),
        utf16(text, u16::to_be_bytes),
    ] {
        assert_eq!(
            read_described(Format::Json, &bytes, &reading),
            ["1 Ящик = 1"]
        );
    }
    let (bytes, ..) = encoding_rs::WINDOWS_1251.encode(text);
    let message = error_message(&bytes);
    assert!(message.contains("are not UTF-8: set encoding"), "{message}");
    let set = ReadSettings {
        encoding: Some(encoding_rs::WINDOWS_1251),
        ..ReadSettings::default()
    };
    assert_eq!(read_described(Format::Json, &bytes, &set), ["1 Ящик = 1"]);
}

#[test]
fn rejects_invalid_json() {
    for (text, reason) in [
        ("", "JSON begins with { or ["),
        ("  \n", "JSON begins with { or ["),
        ("<html>", "JSON begins with { or ["),
        ("[] []", "trailing characters"),
        ("[1,]", "trailing comma"),
        ("[NaN]", "expected value"),
    ] {
        assert!(
            error_message(text.as_bytes()).contains(reason),
            "{text}: {}",
            error_message(text.as_bytes())
        );
    }
}

#[test]
fn chooses_the_sku_member_once_per_file() {
    let ids = r#"[{"article":"A-1","code":"00001","stock":5},{"code":"00002","stock":9},
        {"article":null,"code":"00003","stock":4}]"#;
    let described = read_default(ids);
    assert_eq!(described[0], "1 A-1 = 5");
    assert!(
        described[1..]
            .iter()
            .all(|row| row.contains("rejected: the product has no article")),
        "{described:?}"
    );
    let late = r#"[{"sku":"900","stock":5},{"offer_id":"A-2","sku":"901","stock":9}]"#;
    let described = read_default(late);
    assert!(
        described[0].contains("rejected: the product has no offer_id"),
        "{described:?}"
    );
    assert_eq!(described[1], "2 A-2 = 9");
    let both = br#"[{"sku":"A-1","code":"1","stock":5}]"#;
    let message = error_message(both);
    assert!(
        message.contains("'sku' and 'code' may each be the SKU"),
        "{message}"
    );
    let set = ReadSettings {
        sku: Some("code".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(
        read_with(std::str::from_utf8(both).unwrap(), &set),
        ["1 1 = 5"]
    );
}

#[test]
fn members_that_differ_in_case_must_agree() {
    let described = read_default(
        r#"[{"sku":"a","stock":5,"Stock":7},{"sku":"b","Stock":3},{"SKU":"c","stock":1}]"#,
    );
    assert_eq!(
        described[0],
        "1 rejected: 'stock' is 5 and 'Stock' is 7: leave one of them"
    );
    assert_eq!(described[1..], ["2 b = 3", "3 c = 1"]);
    assert_eq!(
        read_default(r#"[{"sku":"a","SKU":"a","stock":5}]"#),
        ["1 a = 5"]
    );
    // A member that is not read may occur twice. If it is the quantity, the SKU is still known.
    assert_eq!(
        read_default(r#"[{"sku":"a","note":1,"note":2,"stock":5}]"#),
        ["1 a = 5"]
    );
    let (found, _) = read_entries(
        Format::Json,
        br#"[{"sku":"a","stock":5,"stock":7},{"sku":"b","stock":1}]"#,
        &ReadSettings::default(),
    );
    let crate::DeliveryEntry::Rejected(fault) = &found[0] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (fault.reason.as_str(), fault.sku.as_deref()),
        ("'stock' is stated twice", Some("a"))
    );
    let described = read_default(r#"[{"sku":"a","SKU":"b","stock":5}]"#);
    assert!(
        described[0].contains("'sku' is \"a\" and 'SKU' is \"b\""),
        "{described:?}"
    );
}

#[test]
fn missing_quantity_member_is_suspicious() {
    let rows = r#"[{"sku":"a","stock":9,"freeStock":5},{"sku":"b","stock":7},{"sku":"c"}]"#;
    let described = read_default(rows);
    assert_eq!(described[0], "1 a = 5");
    assert!(
        described[1].starts_with("2 suspicious: the product has 'stock' but no 'freeStock'"),
        "{described:?}"
    );
    assert_eq!(described[2], "3 c = ?");
    let set = ReadSettings {
        quantity: Some("stock".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(read_with(rows, &set), ["1 a = 9", "2 b = 7", "3 c = ?"]);
    // Neither name is preferred: a product must have both, and they must agree.
    let either = r#"[{"sku":"a","stock":5},{"sku":"b","stock":null,"quantity":100},
        {"sku":"c","stock":3,"quantity":3},{"sku":"d"},{"sku":"e","stock":null}]"#;
    let described = read_default(either);
    assert!(
        described[0].starts_with("1 suspicious: stock is 5 but quantity is missing"),
        "{described:?}"
    );
    assert!(
        described[1].starts_with("2 suspicious: quantity is 100 but stock is missing"),
        "{described:?}"
    );
    assert_eq!(described[2..], ["3 c = 3", "4 d = ?", "5 e = ?"]);
}

#[test]
fn nested_products_are_suspicious_unless_set() {
    let rows = r#"[{"sku":"SHOE","stock":0,"variants":[{"sku":"SHOE-42","stock":3}]},
        {"sku":"HAT","stock":2,"packs":[{"quantity":12}],"variants":[]}]"#;
    let described = read_default(rows);
    assert!(
        described[0]
            .starts_with("1 suspicious: the list 'variants' inside the product has products"),
        "{described:?}"
    );
    assert_eq!(described[1], "2 HAT = 2");
    let set = ReadSettings {
        quantity: Some("stock".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(read_with(rows, &set), ["1 SHOE = 0", "2 HAT = 2"]);
    // Parts and packs are not products with their own stock.
    let kit = r#"[{"sku":"KIT","stock":3,"components":[{"sku":"B","quantity":2}],
        "packs":[{"code":"BOX","quantity":12}]}]"#;
    assert_eq!(read_default(kit), ["1 KIT = 3"]);
    let by_warehouse = r#"[{"article":"A","stock":8,"items":[{"warehouse":"x","freeStock":5}]}]"#;
    assert_eq!(read_default(by_warehouse), ["1 A@x = 5"]);
}

#[test]
fn rejects_a_second_list_of_products() {
    let text =
        r#"{"items":[{"sku":"a","count":1}],"archive":[{"sku":"b","count":2}],"tags":["x"]}"#;
    let message = error_message(text.as_bytes());
    assert!(
        message.contains("two lists of products, 'items' and 'archive'"),
        "{message}"
    );
    assert!(message.contains("set list"), "{message}");
    let set = ReadSettings {
        list_path: Some("archive".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(read_with(text, &set), ["1 b = 2"]);
}

#[test]
fn rejects_a_page_of_a_longer_list() {
    let list = r#"[{"sku":"a","count":1},{"sku":"b","count":2}]"#;
    for (envelope, is_page) in [
        (r#""total":5,"limit":2"#, true),
        (r#""meta":{"size":5,"limit":2,"offset":0}"#, true),
        (r#""page":1,"pages":3"#, true),
        (r#""links":{"next":"/stock?page=2"}"#, true),
        (r#""total":2,"limit":100"#, false),
        (r#""total":5"#, false),
        (r#""categories":[{"code":"tea","count":12}]"#, false),
    ] {
        for text in [
            format!(r#"{{{envelope},"items":{list}}}"#),
            format!(r#"{{"items":{list},{envelope}}}"#),
        ] {
            let (_, result) = read_entries(Format::Json, text.as_bytes(), &ReadSettings::default());
            let message = result
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert_eq!(
                message.contains("2 products and is one page of several"),
                is_page,
                "{text}: {message}"
            );
        }
    }
    let nested = format!(r#"{{"result":{{"items":{list},"total":5,"page":1}}}}"#);
    let set = ReadSettings {
        list_path: Some("result.items".to_owned()),
        ..ReadSettings::default()
    };
    let (_, result) = read_entries(Format::Json, nested.as_bytes(), &set);
    assert!(result.unwrap_err().to_string().contains("its 'total' is 5"));
}

#[test]
fn numeric_sku_is_suspicious_beside_leading_zeros() {
    let described = read_default(
        r#"[{"sku":"0557722","stock":1},{"sku":557723,"stock":2},{"sku":"9","stock":3}]"#,
    );
    assert_eq!([&described[0], &described[2]], ["1 0557722 = 1", "3 9 = 3"]);
    let in_two_cases = r#"[{"SKU":557723,"stock":1},{"sku":"0557722","stock":2}]"#;
    assert!(read_default(in_two_cases)[0].starts_with("1 suspicious: SKU is the number 557723"));
    assert!(
        described[1].starts_with("2 suspicious: sku is the number 557723, and other"),
        "{described:?}"
    );
}

#[test]
fn names_nested_lists_and_the_setting_for_them() {
    let nested = r#"{"result":{"items":[{"offer_id":"A-1","stock":5}]}}"#;
    let message = error_message(nested.as_bytes());
    assert!(
        message.contains("'result.items'") && message.contains("set list"),
        "{message}"
    );
    let set = ReadSettings {
        list_path: Some("result.items".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(read_with(nested, &set), ["1 A-1 = 5"]);
    let deep = r#"{"a":{"b":{"c":[{"sku":"A-1","stock":5}]}},"n":1}"#;
    let set = ReadSettings {
        list_path: Some("a.b.c".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(read_with(deep, &set), ["1 A-1 = 5"]);
    for list in ["a.b", "a.x", "a.b.c.d"] {
        let set = ReadSettings {
            list_path: Some(list.to_owned()),
            ..ReadSettings::default()
        };
        let (_, result) = read_entries(Format::Json, deep.as_bytes(), &set);
        result.unwrap_err();
    }
}

#[test]
fn ambiguous_text_is_read_by_its_member() {
    let described = read_default(r#"[{"sku":"a","count":"2,000"},{"sku":"b","count":"7"}]"#);
    assert!(
        described[0].starts_with("1 suspicious: quantity is '2,000'"),
        "{described:?}"
    );
    assert_eq!(described[1], "2 b = 7");
    let proved = read_default(r#"[{"sku":"a","count":"2,000"},{"sku":"b","count":"1,234,567"}]"#);
    assert_eq!(proved, ["1 a = 2000", "2 b = 1234567"]);
}

#[test]
fn lists_members_if_no_product_has_a_quantity() {
    let message = error_message(br#"[{"sku":"A-1","qty":5},{"sku":"A-2","qty":0}]"#);
    assert!(
        message.contains("'sku', 'qty'") && message.contains("set quantity"),
        "{message}"
    );
}

#[test]
fn spoiled_skus_are_restored_or_suspicious() {
    let described = read_default(
        r#"[{"sku":"=\"0557722\"","count":1},{"sku":"'TEA-1","count":2},
        {"sku":"01.фев","count":3}]"#,
    );
    assert_eq!(described[..2], ["1 0557722 = 1", "2 TEA-1 = 2"]);
    assert!(
        described[2].starts_with("3 suspicious: sku is '01.фев'"),
        "{described:?}"
    );
}

#[test]
fn ignores_truncated_letters_in_unread_members() {
    let mut bytes = r#"[{"sku":"Б-1","name":"Смеситель"#.as_bytes().to_vec();
    bytes.push(0xd0);
    bytes.extend_from_slice("\",\"count\":1}]".as_bytes());
    assert_eq!(
        read_described(Format::Json, &bytes, &ReadSettings::default()),
        ["1 Б-1 = 1"]
    );
}

#[test]
fn decimal_setting_applies_only_to_strings() {
    let reading = ReadSettings {
        decimal: Some(crate::DecimalMark::Comma),
        ..ReadSettings::default()
    };
    let document = r#"[{"sku":"a","count":2.000},{"sku":"b","count":"2.000"}]"#;
    assert_eq!(read_with(document, &reading), ["1 a = 2", "2 b = 2000"]);
}
