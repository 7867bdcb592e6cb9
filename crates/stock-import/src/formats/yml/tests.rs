//! Tests of the YML reader: documented and old feeds, encodings, outlets and rejected offers.

use super::super::Format;
use super::super::testing::{describe, read_described, read_entries, sample, utf16};
use crate::{DeliveryEntry, DeliveryScope, ReadSettings};

fn feed(offers: &str) -> String {
    format!("<yml_catalog><shop><offers>{offers}</offers></shop></yml_catalog>")
}

fn read_default(offers: &str) -> Vec<String> {
    read_described(
        Format::Yml,
        feed(offers).as_bytes(),
        &ReadSettings::default(),
    )
}

fn read_with(offers: &str, reading: &ReadSettings) -> Vec<String> {
    read_described(Format::Yml, feed(offers).as_bytes(), reading)
}

#[test]
fn reads_the_documented_feed() {
    let expected = [
        "1 123456 = 15",
        "2 0557722 = 3",
        "3 two-outlets@1 = 15",
        "3 two-outlets@Склад = 20",
        "4 silent = ?",
        "5 off = 7",
    ];
    assert_eq!(
        read_described(Format::Yml, &sample("feed.xml"), &ReadSettings::default()),
        expected
    );
}

#[test]
fn unavailable_offers_are_zero_if_set() {
    let reading = ReadSettings {
        zeroes_unavailable: true,
        ..ReadSettings::default()
    };
    let described = read_described(Format::Yml, &sample("feed.xml"), &reading);
    assert_eq!(described[1], "2 0557722 = 0");
    assert_eq!(described[5], "5 off = 0");
    let outlets = r#"<offer id="1" available="FALSE"><outlets><outlet id="a" instock="много"/>
        <outlet id="b"/></outlets></offer>"#;
    assert_eq!(read_with(outlets, &reading), ["1 1@a = 0", "1 1@b = 0"]);
    let more = format!("{outlets}<offer id=\"2\"><count>1</count></offer>");
    assert_eq!(read_default(&more)[1], "1 1@b = ?");
}

#[test]
fn reads_an_old_feed_by_shop_sku() {
    let expected = ["1 АРТ-1 = 1234", "2 АРТ-2@Склад на Мира = 2"];
    let bytes = sample("feed-windows-1251.xml");
    assert!(std::str::from_utf8(&bytes).is_err());
    assert_eq!(
        read_described(Format::Yml, &bytes, &ReadSettings::default()),
        expected
    );
}

#[test]
fn feed_is_the_same_in_every_encoding() {
    let text = feed(r#"<offer id="Ящик-1"><count>3</count></offer>"#);
    let reading = ReadSettings::default();
    let cp1251 = |head: &str| {
        let (bytes, ..) = encoding_rs::WINDOWS_1251.encode(&text);
        [head.as_bytes(), &bytes].concat()
    };
    for bytes in [
        text.clone().into_bytes(),
        format!("\u{feff}{text}").into_bytes(),
        format!("<?xml version='1.0' encoding='utf-16'?>{text}").into_bytes(),
        cp1251("<?xml version=\"1.0\" encoding = 'Windows-1251' standalone=\"yes\"?>\n"),
        cp1251("<?xml version=\"1.0\" encoding=\"cp1251\"?>"),
        utf16(&text, u16::to_le_bytes),
        utf16(
            &format!("<?xml version='1.0' encoding='UTF-16'?>{text}"),
            u16::to_be_bytes,
        ),
        utf16(&text, u16::to_le_bytes).split_off(2),
    ] {
        assert_eq!(
            read_described(Format::Yml, &bytes, &reading),
            ["1 Ящик-1 = 3"]
        );
    }
    let set = ReadSettings {
        encoding: Some(encoding_rs::WINDOWS_1251),
        ..ReadSettings::default()
    };
    assert_eq!(
        read_described(Format::Yml, &cp1251(""), &set),
        ["1 Ящик-1 = 3"]
    );
    for bytes in [
        cp1251(""),
        cp1251("<?xml version='1.0' encoding='klingon'?>"),
    ] {
        let (rows, result) = read_entries(Format::Yml, &bytes, &reading);
        assert!(
            !rows
                .iter()
                .any(|entry| matches!(entry, DeliveryEntry::Row(_))),
            "{rows:?}"
        );
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("set encoding to the file's encoding"),
            "{error}"
        );
        assert_eq!(read_described(Format::Yml, &bytes, &set), ["1 Ящик-1 = 3"]);
        let detect = |encoding| Format::detect(&mut std::io::Cursor::new(&bytes[..]), encoding);
        assert_eq!(detect(set.encoding).unwrap(), Format::Yml);
    }
    for label in ["win-1251", "Windows1251", "CP-1251"] {
        let bytes = cp1251(&format!("<?xml version='1.0' encoding='{label}'?>"));
        assert_eq!(
            read_described(Format::Yml, &bytes, &reading),
            ["1 Ящик-1 = 3"],
            "{label}"
        );
    }
}

#[test]
fn rejects_a_false_encoding_declaration() {
    let feed = feed(r#"<offer id="Ящик-1"><count>3</count></offer>"#);
    for label in ["windows-1251", "win-1251", "koi8-r", "ibm866"] {
        let text = format!("<?xml version=\"1.0\" encoding=\"{label}\"?>{feed}");
        let (rows, result) = read_entries(Format::Yml, text.as_bytes(), &ReadSettings::default());
        assert!(rows.is_empty());
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("its bytes are UTF-8: set encoding = \"utf-8\""),
            "{error}"
        );
        let set = ReadSettings {
            encoding: Some(encoding_rs::UTF_8),
            ..ReadSettings::default()
        };
        assert_eq!(
            read_described(Format::Yml, text.as_bytes(), &set),
            ["1 Ящик-1 = 3"]
        );
        let latin = text.replace("Ящик", "Box");
        assert_eq!(
            read_described(Format::Yml, latin.as_bytes(), &ReadSettings::default()),
            ["1 Box-1 = 3"]
        );
    }
    // A letter split between two chunks.
    for gap in 65_400..65_500 {
        let gap = " ".repeat(gap);
        let text = format!("<?xml version=\"1.0\" encoding=\"windows-1251\"?>{gap}{feed}");
        let (_, result) = read_entries(Format::Yml, text.as_bytes(), &ReadSettings::default());
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("its bytes are UTF-8")
        );
    }
}

#[test]
fn truncated_letter_affects_only_its_row() {
    let offers = "<offer id=\"1\"><name>\u{ffff}</name><count>1</count></offer>\
        <offer id=\"2\" note=\"\u{ffff}\"><count>2</count></offer>\
        <offer id=\"\u{ffff}3\"><count>3</count></offer>\
        <offer id=\"4\"><count>4\u{ffff}</count></offer>\
        <offer id=\"5\"><outlets><outlet id=\"\u{ffff}\" instock=\"5\"/></outlets></offer>";
    let described = read_default(offers);
    assert_eq!(described[..2], ["1 1 = 1", "2 2 = 2"]);
    assert_eq!(described.len(), 5);
    for (rejected, line) in described[2..].iter().zip(3..) {
        let reason =
            format!("{line} rejected: the row has bytes that are not characters of the file's");
        assert!(rejected.starts_with(&reason), "{rejected}");
    }
}

#[test]
fn thousands_are_suspicious_without_decimal_mark() {
    use crate::DecimalMark::{Comma, Point};
    let offers = |text: &str| {
        format!(
            r#"<offer id="1"><count>{text}</count></offer>
        <offer id="2"><outlets><outlet id="a" instock="{text}"/></outlets></offer>
        <offer id="3"><count>1</count></offer>"#
        )
    };
    for (text, decimal, described) in [
        ("2,000", Some(Comma), "2"),
        ("2,000", Some(Point), "2000"),
        ("2.000", Some(Comma), "2000"),
        ("2.000", Some(Point), "2"),
    ] {
        let reading = ReadSettings {
            decimal,
            ..ReadSettings::default()
        };
        let rows = read_with(&offers(text), &reading);
        assert_eq!(
            rows[..2],
            [format!("1 1 = {described}"), format!("2 2@a = {described}")]
        );
        let doubts = read_default(&offers(text));
        assert!(
            doubts[..2]
                .iter()
                .all(|it| it.contains("suspicious: quantity is")),
            "{doubts:?}"
        );
    }
}

#[test]
fn empty_count_is_zero_if_set() {
    let offers = r#"<offer id="1"><count/></offer><offer id="2"><count> </count></offer>
        <offer id="3"></offer><offer id="4"><count>4</count></offer>
        <offer id="5"><outlets><outlet id="a" instock=""/><outlet id="b"/></outlets></offer>"#;
    let empty = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    let expected = [
        "1 1 = 0",
        "2 2 = 0",
        "3 3 = ?",
        "4 4 = 4",
        "5 5@a = 0",
        "5 5@b = ?",
    ];
    assert_eq!(read_with(offers, &empty), expected);
    let expected = [
        "1 1 = ?",
        "2 2 = ?",
        "3 3 = ?",
        "4 4 = 4",
        "5 5@a = ?",
        "5 5@b = ?",
    ];
    assert_eq!(read_default(offers), expected);
}

#[test]
fn outlets_count_if_count_is_empty() {
    let offers = r#"<offer id="1"><count/><outlets><outlet id="a" instock="3"/>
        <outlet id="b" instock="0"/></outlets></offer>
        <offer id="2"><count/><outlets><outlet id="a" instock=""/></outlets></offer>
        <offer id="3"><count>7</count><outlets><outlet id="a" instock="3"/></outlets></offer>"#;
    let expected = ["1 1@a = 3", "1 1@b = 0", "2 2 = ?", "3 3 = 7"];
    assert_eq!(read_default(offers), expected);
    let empty = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    let expected = ["1 1@a = 3", "1 1@b = 0", "2 2 = 0", "3 3 = 7"];
    assert_eq!(read_with(offers, &empty), expected);
}

#[test]
fn lists_elements_if_no_offer_has_a_quantity() {
    let offers = r#"<offer id="A-1"><price>1</price><quantity>5</quantity></offer>
        <offer id="A-2" available="false"><price>1</price><stock>0</stock></offer>"#;
    let refused = |offers: &str, reading: &ReadSettings| {
        let (_, result) = read_entries(Format::Yml, feed(offers).as_bytes(), reading);
        result.unwrap_err().to_string()
    };
    let error = refused(offers, &ReadSettings::default());
    for part in [
        "none of the 2 products",
        "set quantity",
        "<price>, <quantity>, <stock>",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let reading = ReadSettings {
        quantity: Some("quantity".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(read_with(offers, &reading), ["1 A-1 = 5", "2 A-2 = ?"]);
    let reading = ReadSettings {
        quantity: Some("amount".to_owned()),
        ..ReadSettings::default()
    };
    assert!(refused(offers, &reading).contains("<quantity>"));
    let empty = r#"<offer id="1"><count/></offer>"#;
    assert!(refused(empty, &ReadSettings::default()).contains("empty = \"zero\""));
}

#[test]
fn spoiled_skus_are_restored_or_suspicious() {
    let vendor = ReadSettings {
        sku: Some("vendorCode".to_owned()),
        ..ReadSettings::default()
    };
    for (text, described) in [
        ("=&quot;0557722&quot;", "1 0557722 = 1"),
        ("'TEA-1", "1 TEA-1 = 1"),
        ("5.577E+05", "1 suspicious: sku is '5.577E+05'"),
        ("01.фев", "1 suspicious: sku is '01.фев'"),
        ("#Н/Д", "1 suspicious: sku is '#Н/Д'"),
    ] {
        let count = "<count>1</count></offer>";
        for (offer, reading) in [
            (
                format!("<offer id=\"{text}\">{count}"),
                &ReadSettings::default(),
            ),
            (
                format!("<offer id=\"x\"><shop-sku>{text}</shop-sku>{count}"),
                &ReadSettings::default(),
            ),
            (
                format!("<offer id=\"x\"><vendorCode>{text}</vendorCode>{count}"),
                &vendor,
            ),
        ] {
            let read = read_with(&offer, reading);
            assert!(
                read.len() == 1 && read[0].starts_with(described),
                "{offer}: {read:?}"
            );
        }
    }
}

#[test]
fn setting_replaces_the_default_field() {
    let offers = r#"<offer id="1" group="g"><vendorCode> V-1 </vendorCode><count>5</count>
        <outlets><outlet id="x" instock="2"/></outlets><stock>8</stock><held>3</held>
        <seen>2026-11-22T10:00:00+03:00</seen><store>Мира</store></offer>
        <offer id="2"><count>5</count></offer>"#;
    let name = |name: &str| Some(name.to_owned());
    let reading = ReadSettings {
        sku: name("VENDORCODE"),
        ..ReadSettings::default()
    };
    let expected = ["1 V-1 = 5", "2 rejected: the offer has no 'VENDORCODE'"];
    assert_eq!(read_with(offers, &reading), expected);
    let reading = ReadSettings {
        sku: name("id"),
        quantity: name("Stock"),
        reserve: name("held"),
        updated_at: name("seen"),
        warehouse: name("store"),
        ..ReadSettings::default()
    };
    let expected = ["1 1@Мира = 8 - 3 since 2026-11-22T07:00:00Z", "2 2 = ?"];
    assert_eq!(read_with(offers, &reading), expected);
}

#[test]
fn reads_quantities_by_source_rules() {
    for (text, described) in [
        ("3.0", "1 1 = 3"),
        (
            "3.000",
            "1 suspicious: quantity is '3.000', which may be thousands or have three decimals: set \
             decimal = \"comma\" or decimal = \"point\"",
        ),
        ("<![CDATA[ 4 ]]>", "1 1 = 4"),
        ("1<!-- and -->5", "1 1 = 15"),
        ("&#49;&#x32;", "1 1 = 12"),
        ("", "1 1 = ?"),
        (
            "46,5",
            "1 rejected: quantity is '46,5', it must be whole, or set fraction = \"floor\"",
        ),
        (
            "-2",
            "1 rejected: quantity is '-2', it must not be negative, or set negative = \"zero\"",
        ),
        ("&nbsp;5", "1 rejected: &nbsp; is an unknown entity"),
        ("1<b/>5", "1 rejected: <b> is not allowed in a text field"),
        (
            "5</count><count>6",
            "1 rejected: <count> is stated twice with different values",
        ),
        ("5</count><count>5", "1 1 = 5"),
    ] {
        let offer = format!(
            r#"<offer id="1"><count>{text}</count></offer><offer id="2"><count>2</count></offer>"#
        );
        assert_eq!(read_default(&offer), [described, "2 2 = 2"], "{text}");
    }
}

#[test]
fn rejects_only_offers_without_an_id() {
    let offers =
        r#"<offer><count>1</count></offer><offer id=" "/><offer id="3"><count>3</count></offer>"#;
    let expected = [
        "1 rejected: the offer has no id",
        "2 rejected: the offer has no id",
        "3 3 = 3",
    ];
    assert_eq!(read_default(offers), expected);
}

#[test]
fn finds_offers_at_any_depth_and_namespace() {
    let text = r#"<y:yml_catalog xmlns:y="urn:x"><y:shop><y:offers><y:offer id="1"><y:count>1</y:count>
        <y:param name="count">9</y:param></y:offer></y:offers><y:offers>
        <y:offer id="2"><y:count>2</y:count></y:offer></y:offers></y:shop></y:yml_catalog>"#;
    let described = read_described(Format::Yml, text.as_bytes(), &ReadSettings::default());
    assert_eq!(described, ["1 1 = 1", "2 2 = 2"]);
}

#[test]
fn feed_declares_no_scope() {
    let (_, result) = read_entries(Format::Yml, &sample("feed.xml"), &ReadSettings::default());
    assert_eq!(result.unwrap().scope, None::<DeliveryScope>);
}

#[test]
fn rejects_files_that_are_not_feeds() {
    for (text, reason) in [
        (
            "<html><body/></html>",
            "a feed must begin with <yml_catalog>, but this file begins with <html>",
        ),
        (
            "",
            "the file is broken at byte 0: it ends before its last element is closed",
        ),
        (
            "offer",
            "the file is broken at byte 0: text is outside the root element",
        ),
        (
            "<yml_catalog/><yml_catalog/>",
            "the file is broken at byte 14: a second document",
        ),
        (
            "<yml_catalog></shop>",
            "the file is broken at byte 13: ill-formed document",
        ),
    ] {
        let (rows, result) = read_entries(Format::Yml, text.as_bytes(), &ReadSettings::default());
        assert!(rows.is_empty());
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn rejects_a_duplicate_attribute() {
    let text = feed(r#"<offer id="1" id="2"><count>1</count></offer>"#);
    let (rows, result) = read_entries(Format::Yml, text.as_bytes(), &ReadSettings::default());
    assert_eq!(rows.iter().map(describe).collect::<Vec<_>>(), [""; 0]);
    result.unwrap_err();
}
