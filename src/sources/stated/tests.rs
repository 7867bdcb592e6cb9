//! Variants of CommerceML, from a file to the book.

use std::io::Cursor;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::{FORMAT, Statements};
use crate::sources::formats::{self, Format};
use crate::sources::guard::Limits;
use crate::sources::intake::tests::{House, now, row, stock, taking};
use crate::sources::rules::ShopRules;
use crate::sources::{
    Absent, Completeness, Entry, Outcome, Reading, Receipt, Rows, Scope, Taking, Variants,
    Warehouses,
};

const CATALOGUE: &str = "<КоммерческаяИнформация ВерсияСхемы=\"2.10\"><Каталог><Товары>\
    <Товар><Ид>p1</Ид><Артикул>SHOE-1</Артикул></Товар>\
    <Товар><Ид>p2</Ид><Артикул>BAG-2</Артикул></Товар>\
    </Товары></Каталог></КоммерческаяИнформация>";

/// Offers by their id, with an article if one is given behind a blank.
fn offers(offers: &[(&str, &str)]) -> String {
    let offer = |(name, quantity): &(&str, &str)| {
        let (id, article) = name.split_once(' ').unwrap_or((name, ""));
        format!(
            "<Предложение><Ид>{id}</Ид><Артикул>{article}</Артикул>\
             <Количество>{quantity}</Количество></Предложение>"
        )
    };
    let offers: String = offers.iter().map(offer).collect();
    format!(
        "<КоммерческаяИнформация><ПакетПредложений><Предложения>{offers}</Предложения>\
         </ПакетПредложений></КоммерческаяИнформация>"
    )
}

fn settings(variants: Variants) -> Taking {
    let limits = Limits {
        most_zeroed: 1.0,
        least_rows: 0.0,
        ..Limits::default()
    };
    Taking {
        scope: None,
        warehouses: Warehouses::All,
        variants,
        limits,
        ..taking("1c")
    }
}

async fn house(variants: Variants) -> House {
    House::new(vec![settings(variants)], ShopRules::default()).await
}

const CHANGES: Completeness = Completeness::Sure(Scope::Delta);
const WHOLE: Completeness = Completeness::Sure(Scope::Snapshot);

fn exchanged(says: Scope, is_numbered: bool) -> Completeness {
    Completeness::Exchanged {
        says: Some(says),
        is_numbered,
    }
}

/// Delivers some files as one delivery.
async fn deliver(house: &House, files: &[&str], completeness: Completeness) -> Receipt {
    let mut entries = Vec::new();
    for file in files {
        let mut input = Cursor::new(file.as_bytes());
        formats::read(
            Format::CommerceMl,
            &mut input,
            &Reading::default(),
            &mut |entry| {
                entries.push(entry);
                Ok(())
            },
        )
        .unwrap();
    }
    deliver_entries(house, entries, completeness).await
}

async fn deliver_entries(
    house: &House,
    entries: Vec<Entry>,
    completeness: Completeness,
) -> Receipt {
    let read = async |rows: &mut Rows| {
        for entry in entries {
            rows.put(entry).await.unwrap();
        }
        Ok(completeness)
    };
    let receipt = house.intake.deliver(0, now(), true, read).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Taken, "{receipt:?}");
    receipt
}

/// The reason of the only suspicious row.
fn reason(receipt: &Receipt) -> &str {
    let [fault] = &receipt.first_rejected[..] else {
        panic!("{receipt:?}")
    };
    assert_eq!(
        (receipt.suspicious, fault.text.as_str()),
        (1, "SHOE-1"),
        "{receipt:?}"
    );
    &fault.reason
}

#[tokio::test]
async fn one_variant_in_a_delta_leaves_its_article_as_it_was() {
    for (variant, quantity) in [
        ("p1#size-42", "0"),
        ("p1#size-42", "3"),
        ("p1#size-42 SHOE-1", "0"),
    ] {
        let rests = offers(&[(variant, quantity), ("p2", "4")]);
        for deliveries in [&[&[CATALOGUE][..], &[&rests]][..], &[&[CATALOGUE, &rests]]] {
            let house = house(Variants::Reject).await;
            let mut receipt = deliver_entries(&house, vec![row("SHOE-1", 9)], CHANGES).await;
            for files in deliveries {
                receipt = deliver(&house, files, CHANGES).await;
            }
            assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
            let reason = reason(&receipt);
            let parts = [
                "variant p1#size-42",
                "sku = \"Ид\"",
                "mapping_file",
                "\"sum\"",
            ];
            assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
        }
    }
}

/// Delivers two variants and the bag: the receipt, and the stock.
async fn two_variants(
    variants: Variants,
    (repeats, one, other): (&str, &str, &str),
    completeness: Completeness,
) -> (Receipt, std::collections::BTreeMap<String, u32>) {
    let (first, second) = (format!("p1#41{repeats}"), format!("p1#42{repeats}"));
    let package = offers(&[(&first, one), (&second, other), ("p2", "4")]);
    let house = house(variants).await;
    let receipt = deliver(&house, &[CATALOGUE, &package], completeness).await;
    (receipt, house.stock())
}

#[tokio::test]
async fn variants_of_one_article_are_suspicious_or_summed_whatever_their_numbers() {
    for (one, other, sum) in [("7", "7", 14), ("7", "0", 7), ("5", "8", 13)] {
        for repeats in ["", " SHOE-1"] {
            for completeness in [WHOLE, CHANGES, exchanged(Scope::Snapshot, true)] {
                let numbers = (repeats, one, other);
                let (receipt, left) = two_variants(Variants::Reject, numbers, completeness).await;
                assert_eq!(left, stock([("BAG-2", 4)]));
                assert!(reason(&receipt).contains("2 variants of the product p1, p1#41, p1#42"));
                let (_, summed) = two_variants(Variants::Sum, numbers, completeness).await;
                assert_eq!(summed, stock([("BAG-2", 4), ("SHOE-1", sum)]));
            }
        }
    }
    let (_, none) = two_variants(Variants::Sum, ("", "0", "0"), WHOLE).await;
    assert_eq!(none, stock([("BAG-2", 4), ("SHOE-1", 0)]));
    let (receipt, left) = two_variants(Variants::Sum, ("", "0", "0"), CHANGES).await;
    assert!(
        reason(&receipt).contains("others may have some"),
        "{receipt:?}"
    );
    assert_eq!(left, stock([("BAG-2", 4)]));
}

#[tokio::test]
async fn a_repeated_article_is_suspicious_without_a_catalogue_too() {
    let house = house(Variants::Reject).await;
    deliver_entries(&house, vec![row("SHOE-1", 9)], CHANGES).await;
    let receipt = deliver(&house, &[&offers(&[("p1#42 SHOE-1", "0")])], CHANGES).await;
    assert!(
        reason(&receipt).contains("may have other variants"),
        "{receipt:?}"
    );
    let both = offers(&[("p1#41 SHOE-1", "0"), ("p1#42 SHOE-1", "0")]);
    let receipt = deliver(&house, &[&both], WHOLE).await;
    assert!(reason(&receipt).contains("2 variants"), "{receipt:?}");
    assert_eq!(house.stock(), stock([("SHOE-1", 9)]));
}

#[tokio::test]
async fn variants_with_articles_of_their_own_are_skus_of_their_own() {
    let own = offers(&[("p1#41 SHOE-41", "3"), ("p1#42 SHOE-42", "0"), ("p2", "4")]);
    for files in [vec![own.as_str()], vec![CATALOGUE, &own]] {
        for completeness in [CHANGES, WHOLE] {
            let house = house(Variants::Reject).await;
            let receipt = deliver(&house, &files, completeness).await;
            assert_eq!(receipt.suspicious, 0, "{receipt:?}");
            assert_eq!(house.stock()["SHOE-41"], 3);
            assert_eq!(house.stock()["SHOE-42"], 0);
            // Known from then on, by their ids alone.
            let receipt = deliver(&house, &[&offers(&[("p1#41", "2")])], CHANGES).await;
            assert_eq!((receipt.suspicious, house.stock()["SHOE-41"]), (0, 2));
        }
    }
    let in_catalogue = CATALOGUE.replace(
        "</Товары>",
        "<Товар><Ид>p1#41</Ид><Артикул>SHOE-41</Артикул></Товар></Товары>",
    );
    let house = house(Variants::Reject).await;
    deliver(&house, &[&in_catalogue], CHANGES).await;
    deliver(&house, &[&offers(&[("p1#41", "2")])], CHANGES).await;
    assert_eq!(house.stock(), stock([("SHOE-41", 2)]));
}

#[tokio::test]
async fn a_delta_of_one_variant_replaces_only_its_own_number_over_a_restart_too() {
    let mut house = house(Variants::Sum).await;
    for (variant, quantity, sum) in [
        ("p1#41", "7", 7),
        ("p1#42", "7", 14),
        ("p1#42", "0", 7),
        ("p1#43", "2", 9),
        ("p1#41", "0", 2),
    ] {
        let part = offers(&[(variant, quantity)]);
        deliver(&house, &[CATALOGUE, &part], exchanged(Scope::Delta, true)).await;
        assert_eq!(house.stock(), stock([("SHOE-1", sum)]), "{variant}");
        house = house
            .again(vec![settings(Variants::Sum)], ShopRules::default())
            .await;
        assert_eq!(house.stock(), stock([("SHOE-1", sum)]), "{variant}");
    }
    deliver(&house, &[&offers(&[("p1#43", "0")])], CHANGES).await;
    assert_eq!(house.stock(), stock([("SHOE-1", 0)]));
}

#[tokio::test]
async fn a_variant_known_from_an_earlier_delivery_makes_another_one_suspicious() {
    let mut house = house(Variants::Reject).await;
    deliver(&house, &[CATALOGUE, &offers(&[("p1#41", "7")])], WHOLE).await;
    // It was shown to be the only one, so its deltas are those of the article.
    assert_eq!(house.stock(), stock([("SHOE-1", 7)]));
    house = house
        .again(vec![settings(Variants::Reject)], ShopRules::default())
        .await;
    deliver(&house, &[&offers(&[("p1#41", "5")])], CHANGES).await;
    assert_eq!(house.stock(), stock([("SHOE-1", 5)]));
    let receipt = deliver(&house, &[&offers(&[("p1#42", "0")])], CHANGES).await;
    assert!(reason(&receipt).contains("2 variants of the product p1, p1#41, p1#42"));
    let receipt = deliver(&house, &[&offers(&[("p1#41", "0")])], CHANGES).await;
    assert!(reason(&receipt).contains("2 variants"));
    assert_eq!(house.stock(), stock([("SHOE-1", 5)]));
}

#[tokio::test]
async fn parts_of_an_exchange_do_not_show_that_a_variant_is_the_only_one() {
    let house = house(Variants::Reject).await;
    deliver(&house, &[CATALOGUE], exchanged(Scope::Snapshot, true)).await;
    for variant in ["p1#41", "p1#42"] {
        let part = offers(&[(variant, "7")]);
        let receipt = deliver(&house, &[&part], exchanged(Scope::Snapshot, true)).await;
        reason(&receipt);
    }
    assert_eq!(house.stock(), stock([]));
}

#[tokio::test]
async fn a_suspicious_sku_is_not_absent_and_a_variant_that_is_gone_counts_no_more() {
    let zeroing = |variants| Taking {
        absent: Absent::Zero,
        ..settings(variants)
    };
    let both = offers(&[("p1#41", "7"), ("p1#42", "7"), ("p2", "4")]);
    let bag = offers(&[("p2", "4")]);
    let one = offers(&[("p1#42", "7"), ("p2", "4")]);
    let unsaid = offers(&[("p1#41", ""), ("p1#42", "6"), ("p2", "4")]);
    let house = House::new(vec![zeroing(Variants::Reject)], ShopRules::default()).await;
    deliver_entries(&house, vec![row("SHOE-1", 9), row("BAG-2", 1)], WHOLE).await;
    for files in [[CATALOGUE, &both], [CATALOGUE, &one], [CATALOGUE, &unsaid]] {
        deliver(&house, &files, WHOLE).await;
        assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
    }
    let none = offers(&[("p1#41", ""), ("p1#42", ""), ("p2", "4")]);
    deliver(&house, &[&none], WHOLE).await;
    assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
    deliver(&house, &[&bag], WHOLE).await;
    assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 0)]));

    let house = House::new(vec![zeroing(Variants::Sum)], ShopRules::default()).await;
    for (package, sum) in [
        (&both, 14),
        (&unsaid, 13),
        (&none, 13),
        (&one, 7),
        (&bag, 0),
    ] {
        deliver(&house, &[CATALOGUE, package], WHOLE).await;
        assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", sum)]));
    }
}

#[tokio::test]
async fn numbers_of_a_product_and_of_its_variants_are_never_added() {
    // The only variant: the later word replaces the earlier one.
    for variants in [Variants::Reject, Variants::Sum] {
        let house = house(variants).await;
        deliver(&house, &[CATALOGUE, &offers(&[("p1#41", "7")])], WHOLE).await;
        deliver(&house, &[&offers(&[("p1", "9")])], CHANGES).await;
        assert_eq!(house.stock(), stock([("SHOE-1", 9)]));
        deliver(&house, &[&offers(&[("p1#41", "6")])], CHANGES).await;
        assert_eq!(house.stock(), stock([("SHOE-1", 6)]));
        // Both at once, or one of several: it is not known whether one includes the other.
        let receipt = deliver(&house, &[&offers(&[("p1", "9"), ("p1#41", "5")])], CHANGES).await;
        assert!(
            reason(&receipt).contains("the product itself"),
            "{receipt:?}"
        );
        deliver(&house, &[&offers(&[("p1#42", "")])], CHANGES).await;
        let receipt = deliver(&house, &[&offers(&[("p1", "0")])], CHANGES).await;
        assert!(
            reason(&receipt).contains("the product itself"),
            "{receipt:?}"
        );
        assert_eq!(house.stock(), stock([("SHOE-1", 6)]));
    }
    // None of the product itself beside its variants adds nothing.
    let house = house(Variants::Sum).await;
    let package = offers(&[("p1", "0"), ("p1#41", "5"), ("p1#42", "6")]);
    deliver(&house, &[CATALOGUE, &package], WHOLE).await;
    assert_eq!(house.stock(), stock([("SHOE-1", 11)]));
}

#[tokio::test]
async fn the_first_zero_of_some_variants_empties_no_article() {
    let house = house(Variants::Sum).await;
    deliver_entries(&house, vec![row("SHOE-1", 9)], CHANGES).await;
    let rests = offers(&[("p1#size-42", "0"), ("p2", "4")]);
    let receipt = deliver(&house, &[CATALOGUE, &rests], CHANGES).await;
    assert!(
        reason(&receipt).contains("others may have some"),
        "{receipt:?}"
    );
    assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
    deliver(&house, &[&rests], exchanged(Scope::Snapshot, true)).await;
    assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 0)]));
}

#[tokio::test]
async fn one_article_of_variants_of_two_products_is_suspicious() {
    for variants in [Variants::Reject, Variants::Sum] {
        let house = house(variants).await;
        let package = offers(&[("p7#a SHOE-1", "5"), ("p8#b SHOE-1", "6")]);
        let catalogue = CATALOGUE
            .replace("p1", "p7")
            .replace("p2", "p8")
            .replace("BAG-2", "SHOE-1");
        let receipt = deliver(&house, &[&catalogue, &package], WHOLE).await;
        assert!(
            reason(&receipt).contains("2 variants of 2 products, p7#a, p8#b"),
            "{receipt:?}"
        );
        assert_eq!(house.stock(), stock([]));
    }
}

#[tokio::test]
async fn an_empty_variant_is_the_product_itself() {
    let house = house(Variants::Reject).await;
    let package = offers(&[
        ("p1#00000000-0000-0000-0000-000000000000", "5"),
        ("p2#", "4"),
    ]);
    deliver(&house, &[CATALOGUE, &package], CHANGES).await;
    assert_eq!(house.stock(), stock([("BAG-2", 4), ("SHOE-1", 5)]));
}

#[tokio::test]
async fn variants_are_summed_at_each_warehouse() {
    let at = |id: &str, one: u8, other: u8| {
        format!(
            "<Предложение><Ид>{id}</Ид><Склад ИдСклада=\"w\" КоличествоНаСкладе=\"{one}\"/>\
             <Склад ИдСклада=\"v\" КоличествоНаСкладе=\"{other}\"/></Предложение>"
        )
    };
    let package = |offers: &str| {
        format!(
            "<КоммерческаяИнформация><ПакетПредложений><Предложения>{offers}</Предложения>\
             </ПакетПредложений></КоммерческаяИнформация>"
        )
    };
    let chosen = Taking {
        warehouses: Warehouses::Named(vec!["w".to_owned()]),
        ..settings(Variants::Sum)
    };
    let house = House::new(vec![chosen], ShopRules::default()).await;
    let both = package(&(at("p1#41", 3, 20) + &at("p1#42", 4, 30)));
    deliver(&house, &[CATALOGUE, &both], WHOLE).await;
    assert_eq!(house.stock(), stock([("SHOE-1", 7)]));
    deliver(&house, &[&package(&at("p1#41", 1, 0))], CHANGES).await;
    assert_eq!(house.stock(), stock([("SHOE-1", 5)]));
}

#[tokio::test]
async fn a_file_of_format_1_is_brought_to_the_current_one_with_all_it_states() {
    const OLD: &str = "\
        CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stated_at INTEGER, \
        snapshot_at INTEGER, rows INTEGER NOT NULL DEFAULT 0, owes INTEGER NOT NULL DEFAULT 0, \
        reader TEXT NOT NULL DEFAULT '', held TEXT NOT NULL DEFAULT '[]') STRICT; \
        CREATE TABLE stated (said TEXT NOT NULL, source INTEGER NOT NULL, place TEXT NOT NULL, \
        quantity INTEGER NOT NULL, reserve INTEGER, at INTEGER, absent_at INTEGER, \
        PRIMARY KEY (said, source, place)) STRICT, WITHOUT ROWID; \
        CREATE TABLE article (source INTEGER NOT NULL, id TEXT NOT NULL, said TEXT NOT NULL, \
        PRIMARY KEY (source, id)) STRICT, WITHOUT ROWID; \
        CREATE TABLE mapping (source INTEGER NOT NULL, said TEXT NOT NULL, sku TEXT NOT NULL, \
        pack INTEGER NOT NULL, PRIMARY KEY (source, said, sku)) STRICT, WITHOUT ROWID; \
        CREATE TABLE rejected (source INTEGER NOT NULL, line INTEGER NOT NULL, \
        text TEXT NOT NULL, reason TEXT NOT NULL) STRICT; \
        CREATE INDEX rejected_by_source ON rejected (source); \
        CREATE TABLE rules (id INTEGER PRIMARY KEY CHECK (id = 1), digest TEXT NOT NULL) STRICT; \
        INSERT INTO source (id, name) VALUES (1, '1c'); \
        INSERT INTO stated VALUES ('SHOE-1', 1, '', 9000, NULL, 1000000, NULL), \
        ('BAG-2', 1, 'w', 4000, 1000, 2000000, 3000000); \
        INSERT INTO article VALUES (1, 'p1', 'SHOE-1'), (1, 'p1#41', 'SHOE-1'); \
        PRAGMA user_version = 1;";
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(directory.path().join("stated.db"))
        .create_if_missing(true);
    let mut old = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(OLD).execute(&mut old).await.unwrap();
    old.close().await.unwrap();
    for _opened in 0..2 {
        let mut statements = Statements::open(directory.path()).await.unwrap();
        let mut found = Vec::new();
        let mut groups = statements.groups(super::Which::All);
        while let Some(group) = groups.next().await.unwrap() {
            found.extend(group.iter().map(|said| {
                format!(
                    "{} {:?} {:?} {} {:?} {:?} {:?}",
                    said.said,
                    said.place,
                    said.variant,
                    said.quantity,
                    said.reserve,
                    said.at,
                    said.absent_at
                )
            }));
        }
        drop(groups);
        let expected = [
            r#"BAG-2 "w" "" 4000 Some(1000) Some(2000000) Some(3000000)"#,
            r#"SHOE-1 "" "" 9000 None Some(1000000) None"#,
        ];
        assert_eq!(found, expected);
        let format: u32 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut statements.conn)
            .await
            .unwrap();
        assert_eq!(format, FORMAT);
        let known: Vec<String> = sqlx::query_scalar("SELECT id FROM variant")
            .fetch_all(&mut statements.conn)
            .await
            .unwrap();
        assert_eq!(known, ["p1#41"]);
    }
}
