//! Robustness of all readers: no input makes them panic, hang, use unbounded memory or invent
//! stock.

use std::collections::HashSet;
use std::io::Cursor;

use proptest::prelude::*;

use super::testing::{GeneratedDocument, describe, read_entries, sample};
use super::{FileSummary, Format, FormatError, Input, read};
use crate::{DeliveryCancelled, DeliveryEntry, ReadSettings};

const SAMPLES: &[(&str, Format)] = &[
    ("feed.xml", Format::Yml),
    ("feed-windows-1251.xml", Format::Yml),
    ("import.xml", Format::CommerceMl),
    ("offers.xml", Format::CommerceMl),
    ("rests.xml", Format::CommerceMl),
    ("update.json", Format::Json),
    ("legacy.json", Format::Json),
    ("map.json", Format::Json),
];

#[test]
fn document_truncated_at_any_byte_is_broken() {
    for (name, format) in SAMPLES {
        let bytes = sample(name);
        let (complete, result) = read_entries(*format, &bytes, &ReadSettings::default());
        result.unwrap();
        let document = bytes.trim_ascii_end();
        for length in 0..document.len() {
            let (truncated, result) =
                read_entries(*format, &document[..length], &ReadSettings::default());
            assert!(result.is_err(), "{name} truncated at {length} is accepted");
            assert!(
                complete.starts_with(&truncated),
                "{name} truncated at {length} has other entries"
            );
        }
    }
}

#[test]
fn truncated_lines_yield_a_prefix() {
    let bytes = sample("stock.ndjson");
    let is_accepted = |entry: &DeliveryEntry| {
        !matches!(
            entry,
            DeliveryEntry::Rejected(_) | DeliveryEntry::Suspicious(_)
        )
    };
    let accepted = |bytes: &[u8]| -> Vec<String> {
        let (entries, _) = read_entries(Format::Json, bytes, &ReadSettings::default());
        entries
            .iter()
            .filter(|entry| is_accepted(entry))
            .map(describe)
            .collect()
    };
    let complete = accepted(&bytes);
    for length in 0..bytes.len() {
        let truncated = accepted(&bytes[..length]);
        assert!(
            complete.starts_with(&truncated),
            "truncated at {length}: {truncated:?}"
        );
    }
}

#[test]
fn declared_entities_are_not_expanded() {
    let document = r#"<!DOCTYPE yml_catalog [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
        <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY f SYSTEM "file:///etc/passwd">]>
        <yml_catalog><offer id="1"><count>&c;</count></offer><offer id="&f;"><count>1</count></offer>
        <offer id="3"><name>&c;</name><count>3</count></offer></yml_catalog>"#;
    let (entries, result) =
        read_entries(Format::Yml, document.as_bytes(), &ReadSettings::default());
    result.unwrap();
    let described: Vec<_> = entries.iter().map(describe).collect();
    assert_eq!(described[0], "1 rejected: &c; is an unknown entity");
    assert!(described[1].starts_with("2 rejected: "), "{described:?}");
    assert_eq!(described[2], "3 3 = 3");
}

#[test]
fn limits_nesting_depth() {
    let deep = 100_000;
    let xml = format!("<yml_catalog>{}", "<a>".repeat(deep));
    let (_, result) = read_entries(Format::Yml, xml.as_bytes(), &ReadSettings::default());
    assert!(result.unwrap_err().to_string().contains("nested deeper"));
    let xml = format!(
        "<КоммерческаяИнформация><Предложение>{}",
        "<Склад>".repeat(deep)
    );
    let (_, result) = read_entries(Format::CommerceMl, xml.as_bytes(), &ReadSettings::default());
    assert!(result.unwrap_err().to_string().contains("nested deeper"));
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    let (rows, result) = read_entries(
        Format::Json,
        format!("{open}{close}").as_bytes(),
        &ReadSettings::default(),
    );
    assert!(
        result.is_err() || matches!(&rows[..], [DeliveryEntry::Rejected(_)]),
        "{result:?}"
    );
    for text in [
        format!("{{\"a\":{open}{close}}}"),
        format!("[{{\"sku\":\"a\",\"items\":{open}{close}}}]"),
        format!("{{\"sku\":\"a\",\"count\":{open}{close}}}\n{{\"sku\":{open}{close}}}"),
        open,
        "{\"a\":".repeat(deep),
    ] {
        let (rows, _) = read_entries(Format::Json, text.as_bytes(), &ReadSettings::default());
        assert!(
            rows.iter()
                .all(|entry| matches!(entry, DeliveryEntry::Rejected(_)))
        );
    }
}

#[test]
fn rejects_an_element_without_an_end_early() {
    const MANY: u64 = 1 << 40;
    let filler = |_| "x".repeat(4096);
    let limit = 8 * 1024 * 1024;
    for (format, head) in [
        (Format::Yml, "<yml_catalog><offer id=\"1\"><count>"),
        (Format::Yml, "<yml_catalog><offer id=\""),
        (Format::Yml, "<yml_catalog><!--"),
        (Format::Yml, "<!DOCTYPE "),
        (Format::CommerceMl, "<КоммерческаяИнформация><![CDATA["),
        (Format::Json, "[{\"sku\":\""),
        (Format::Json, "[{\"sku\":\"a\"}\n,\""),
        (Format::Json, "{\"sku\":\"a\",\"count\":1}\n{\"sku\":\""),
    ] {
        let mut input = GeneratedDocument::new(head, filler, "", MANY);
        let result = read(
            format,
            &mut input,
            &ReadSettings::default(),
            &mut |_| Ok(()),
        );
        assert!(
            matches!(result, Err(FormatError::Broken { .. })),
            "{head}: {result:?}"
        );
        assert!(
            input.bytes_read < limit,
            "{head}: {} bytes were read",
            input.bytes_read
        );
    }
}

#[test]
fn first_row_is_emitted_before_64_kib_are_read() {
    const ROWS: u64 = 1_000_000;
    assert_streaming(
        Format::Yml,
        ROWS,
        "<yml_catalog><shop><offers>",
        |n| format!("<offer id=\"{n}\"><count>{}</count></offer>\n", n % 100),
        "</offers></shop></yml_catalog>",
    );
    // JSON is read to its end before its first row, so more rows would only take longer.
    assert_streaming(
        Format::Json,
        10_000,
        "{\"skus\":[{\"sku\":\"0\",\"count\":0}",
        |n| format!(",{{\"sku\":\"{n}\",\"count\":{}}}\n", n % 100),
        "]}",
    );
    assert_streaming(
        Format::Json,
        10_000,
        "\n",
        |n| format!("{{\"sku\":\"{n}\",\"count\":1}}\n"),
        "\n",
    );
    assert_streaming(
        Format::CommerceMl,
        10_000,
        "<КоммерческаяИнформация><ПакетПредложений><Предложения>",
        |n| format!("<Предложение><Ид>{n}</Ид><Количество>1</Количество></Предложение>"),
        "</Предложения></ПакетПредложений></КоммерческаяИнформация>",
    );
}

fn assert_streaming(
    format: Format,
    rows: u64,
    head: &'static str,
    row: impl Fn(u64) -> String,
    tail: &'static str,
) {
    // The sink cancels at the first row, so `bytes_read` is the input read before it.
    let mut input = GeneratedDocument::new(head, &row, tail, rows);
    let result: Result<FileSummary, FormatError> =
        read(format, &mut input, &ReadSettings::default(), &mut |_| {
            Err(DeliveryCancelled)
        });
    assert!(
        matches!(result, Err(FormatError::Cancelled(_))),
        "{result:?}"
    );
    // JSON is read once before, to choose the members.
    let is_read_once = format != Format::Json;
    assert!(
        !is_read_once || input.bytes_read < 64 * 1024,
        "{format:?}: {} bytes",
        input.bytes_read
    );
    // Fewer rows are enough to check that the others follow.
    let rows = rows.min(10_000);
    let mut input: Box<dyn Input> = Box::new(GeneratedDocument::new(head, &row, tail, rows));
    let mut seen = 0;
    read(
        format,
        &mut *input,
        &ReadSettings::default(),
        &mut |entry| {
            seen += u64::from(matches!(entry, DeliveryEntry::Row(_)));
            Ok(())
        },
    )
    .unwrap();
    assert!(seen >= rows, "{format:?}: {seen} of {rows}");
}

/// Returns true if the digits of a row's quantity occur in the bytes of a mutated sample.
fn is_spelled_in(bytes: &[u8], entry: &DeliveryEntry) -> bool {
    let DeliveryEntry::Row(row) = entry else {
        return true;
    };
    let Some(quantity) = row.quantity else {
        return true;
    };
    let text = String::from_utf8_lossy(bytes);
    let digits: HashSet<String> = text
        .split(|c: char| !c.is_ascii_digit() && !" .,&#;x".contains(c))
        .map(|number| number.chars().filter(char::is_ascii_digit).collect())
        .collect();
    let pieces = quantity.pieces().unsigned_abs().to_string();
    quantity.pieces() == 0
        || digits
            .iter()
            .any(|number: &String| number.contains(&pieces))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_yield_no_stock(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for format in [Format::Yml, Format::CommerceMl, Format::Json] {
            let (entries, _) = read_entries(format, &bytes, &ReadSettings::default());
            prop_assert!(entries.iter().all(|entry| !matches!(entry, DeliveryEntry::Row(_))));
        }
        let spool = std::env::temp_dir();
        let _result = super::unpack("a", &mut Cursor::new(&bytes), super::FormatHints::default(), &spool, &mut |_| Ok(()));
    }

    #[test]
    fn mutated_sample_yields_no_invented_quantity(
        file in 0..SAMPLES.len(),
        at in any::<proptest::sample::Index>(),
        removed in 0..6_usize,
        added in proptest::collection::vec(
            proptest::sample::select(&b"<>/\"'&;{}[]:,0 a\n\\\xd0\x00!-"[..]), 0..6),
    ) {
        let (name, format) = SAMPLES[file];
        let mut bytes = sample(name);
        let start = at.index(bytes.len());
        let end = (start + removed).min(bytes.len());
        bytes.splice(start..end, added);
        for zeroes in [false, true] {
            let reading = ReadSettings { zeroes_unavailable: zeroes, ..ReadSettings::default() };
            let (entries, _) = read_entries(format, &bytes, &reading);
            for entry in &entries {
                prop_assert!(is_spelled_in(&bytes, entry), "{}", describe(entry));
            }
        }
    }
}
