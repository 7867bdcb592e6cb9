//! What no reader may do, whatever it is given: panic, hang, swell, or invent stock.

use std::collections::HashSet;
use std::io::Cursor;

use proptest::prelude::*;

use super::trial::{Endless, entries, sample, tell};
use super::{Ending, Format, FormatError, Input, read};
use crate::sources::{Entry, GivenUp, Reading};

const FILES: &[(&str, Format)] = &[
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
fn a_document_cut_at_any_byte_is_broken() {
    for (name, format) in FILES {
        let bytes = sample(name);
        let (whole, ending) = entries(*format, &bytes, &Reading::default());
        ending.unwrap();
        let document = bytes.trim_ascii_end();
        for length in 0..document.len() {
            let (cut, ending) = entries(*format, &document[..length], &Reading::default());
            assert!(ending.is_err(), "{name} cut at {length} is taken for whole");
            assert!(
                whole.starts_with(&cut),
                "{name} cut at {length} says something else"
            );
        }
    }
}

#[test]
fn lines_cut_at_any_byte_are_a_prefix_of_them() {
    let bytes = sample("stock.ndjson");
    let is_said = |entry: &Entry| !matches!(entry, Entry::Rejected(_) | Entry::Suspicious(_));
    let said = |bytes: &[u8]| -> Vec<String> {
        let (entries, _) = entries(Format::Json, bytes, &Reading::default());
        entries
            .iter()
            .filter(|entry| is_said(entry))
            .map(tell)
            .collect()
    };
    let whole = said(&bytes);
    for length in 0..bytes.len() {
        let cut = said(&bytes[..length]);
        assert!(whole.starts_with(&cut), "cut at {length}: {cut:?}");
    }
}

#[test]
fn an_entity_is_not_expanded_however_it_is_declared() {
    let bomb = r#"<!DOCTYPE yml_catalog [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
        <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY f SYSTEM "file:///etc/passwd">]>
        <yml_catalog><offer id="1"><count>&c;</count></offer><offer id="&f;"><count>1</count></offer>
        <offer id="3"><name>&c;</name><count>3</count></offer></yml_catalog>"#;
    let (entries, ending) = entries(Format::Yml, bomb.as_bytes(), &Reading::default());
    ending.unwrap();
    let told: Vec<_> = entries.iter().map(tell).collect();
    assert_eq!(told[0], "1 rejected: &c; stands for nothing");
    assert!(told[1].starts_with("2 rejected: "), "{told:?}");
    assert_eq!(told[2], "3 3 = 3");
}

#[test]
fn depth_is_no_weapon() {
    let deep = 100_000;
    let xml = format!("<yml_catalog>{}", "<a>".repeat(deep));
    let (_, ending) = entries(Format::Yml, xml.as_bytes(), &Reading::default());
    assert!(ending.unwrap_err().to_string().contains("nested deeper"));
    let xml = format!(
        "<КоммерческаяИнформация><Предложение>{}",
        "<Склад>".repeat(deep)
    );
    let (_, ending) = entries(Format::CommerceMl, xml.as_bytes(), &Reading::default());
    assert!(ending.unwrap_err().to_string().contains("nested deeper"));
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    let (found, ending) = entries(
        Format::Json,
        format!("{open}{close}").as_bytes(),
        &Reading::default(),
    );
    assert!(
        ending.is_err() || matches!(&found[..], [Entry::Rejected(_)]),
        "{ending:?}"
    );
    for text in [
        format!("{{\"a\":{open}{close}}}"),
        format!("[{{\"sku\":\"a\",\"items\":{open}{close}}}]"),
        format!("{{\"sku\":\"a\",\"count\":{open}{close}}}\n{{\"sku\":{open}{close}}}"),
        open,
        "{\"a\":".repeat(deep),
    ] {
        let (found, _) = entries(Format::Json, text.as_bytes(), &Reading::default());
        assert!(
            found
                .iter()
                .all(|entry| matches!(entry, Entry::Rejected(_)))
        );
    }
}

#[test]
fn a_piece_without_an_end_is_refused_before_it_fills_the_memory() {
    const MANY: u64 = 1 << 40;
    let filler = |_| "x".repeat(4096);
    let most = 8 * 1024 * 1024;
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
        let mut input = Endless::new(head, filler, "", MANY);
        let ending = read(format, &mut input, &Reading::default(), &mut |_| Ok(()));
        assert!(
            matches!(ending, Err(FormatError::Broken { .. })),
            "{head}: {ending:?}"
        );
        assert!(input.read < most, "{head}: {} bytes were read", input.read);
    }
}

#[test]
fn the_first_row_is_out_before_64_kib_are_read_and_all_the_others_follow() {
    const ROWS: u64 = 1_000_000;
    streams(
        Format::Yml,
        ROWS,
        "<yml_catalog><shop><offers>",
        |n| format!("<offer id=\"{n}\"><count>{}</count></offer>\n", n % 100),
        "</offers></shop></yml_catalog>",
    );
    // JSON is read to its end before its first row, so more rows would prove nothing else.
    streams(
        Format::Json,
        10_000,
        "{\"skus\":[{\"sku\":\"0\",\"count\":0}",
        |n| format!(",{{\"sku\":\"{n}\",\"count\":{}}}\n", n % 100),
        "]}",
    );
    streams(
        Format::Json,
        10_000,
        "\n",
        |n| format!("{{\"sku\":\"{n}\",\"count\":1}}\n"),
        "\n",
    );
    streams(
        Format::CommerceMl,
        10_000,
        "<КоммерческаяИнформация><ПакетПредложений><Предложения>",
        |n| format!("<Предложение><Ид>{n}</Ид><Количество>1</Количество></Предложение>"),
        "</Предложения></ПакетПредложений></КоммерческаяИнформация>",
    );
}

fn streams(
    format: Format,
    rows: u64,
    head: &'static str,
    row: impl Fn(u64) -> String,
    tail: &'static str,
) {
    // One row is enough to see how much was read before it.
    let mut input = Endless::new(head, &row, tail, rows);
    let first: Result<Ending, FormatError> =
        read(format, &mut input, &Reading::default(), &mut |_| {
            Err(GivenUp)
        });
    assert!(matches!(first, Err(FormatError::GivenUp(_))), "{first:?}");
    // JSON is gone through once before, to decide which member is which.
    let is_read_once = format != Format::Json;
    assert!(
        !is_read_once || input.read < 64 * 1024,
        "{format:?}: {} bytes",
        input.read
    );
    // The others need not be as many to follow.
    let rows = rows.min(10_000);
    let mut input: Box<dyn Input> = Box::new(Endless::new(head, &row, tail, rows));
    let mut seen = 0;
    read(format, &mut *input, &Reading::default(), &mut |entry| {
        seen += u64::from(matches!(entry, Entry::Row(_)));
        Ok(())
    })
    .unwrap();
    assert!(seen >= rows, "{format:?}: {seen} of {rows}");
}

/// What may be said of a mutated sample: SKUs and quantities that its bytes still spell.
fn spells(bytes: &[u8], entry: &Entry) -> bool {
    let Entry::Row(row) = entry else { return true };
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
    fn random_bytes_are_no_stock(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for format in [Format::Yml, Format::CommerceMl, Format::Json] {
            let (entries, _) = entries(format, &bytes, &Reading::default());
            prop_assert!(entries.iter().all(|entry| !matches!(entry, Entry::Row(_))));
        }
        let spool = std::env::temp_dir();
        let _any = super::unpack("a", &mut Cursor::new(&bytes), None, &spool, &mut |_| Ok(()));
    }

    #[test]
    fn a_mutated_sample_says_nothing_that_it_does_not_spell(
        file in 0..FILES.len(),
        at in any::<proptest::sample::Index>(),
        removed in 0..6_usize,
        added in proptest::collection::vec(
            proptest::sample::select(&b"<>/\"'&;{}[]:,0 a\n\\\xd0\x00!-"[..]), 0..6),
    ) {
        let (name, format) = FILES[file];
        let mut bytes = sample(name);
        let start = at.index(bytes.len());
        let end = (start + removed).min(bytes.len());
        bytes.splice(start..end, added);
        for zeroes in [false, true] {
            let reading = Reading { zeroes_unavailable: zeroes, ..Reading::default() };
            let (entries, _) = entries(format, &bytes, &reading);
            for entry in &entries {
                prop_assert!(spells(&bytes, entry), "{}", tell(entry));
            }
        }
    }
}
