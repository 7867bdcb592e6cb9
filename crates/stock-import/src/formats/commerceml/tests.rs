//! Tests of the CommerceML reader: versions of 1C, keys, deletion marks and declared scopes.

use super::super::Format;
use super::super::testing::{read_described, read_entries, sample};
use crate::{DeliveryScope, ReadSettings};

const PRODUCT_1: &str = "cbcf4931-55bc-11d9-848a-00112f43529a";
const PRODUCT_2: &str = "cbcf4932-55bc-11d9-848a-00112f43529a";
const PRODUCT_3: &str = "cbcf4933-55bc-11d9-848a-00112f43529a";
const PRODUCT_4: &str = "cbcf4934-55bc-11d9-848a-00112f43529a";
const WAREHOUSE_1: &str = "03ce4b6e-55bc-11d9-848a-00112f43529a";
const WAREHOUSE_2: &str = "163cab5e-55bc-11d9-848a-00112f43529a";

fn document(attributes: &str, offers: &str) -> String {
    format!(
        "<КоммерческаяИнформация><ПакетПредложений{attributes}><Предложения>{offers}\
         </Предложения></ПакетПредложений></КоммерческаяИнформация>"
    )
}

fn read_offer(inside: &str) -> Vec<String> {
    read_offer_with(inside, &ReadSettings::default())
}

fn read_offer_with(inside: &str, reading: &ReadSettings) -> Vec<String> {
    let text = document(
        "",
        &format!("<Предложение><Ид>p</Ид>{inside}</Предложение>"),
    );
    read_described(Format::CommerceMl, text.as_bytes(), reading)
}

fn scope_of(text: &str) -> Option<DeliveryScope> {
    read_entries(
        Format::CommerceMl,
        text.as_bytes(),
        &ReadSettings::default(),
    )
    .1
    .unwrap()
    .scope
}

#[test]
fn catalogue_links_ids_to_articles() {
    let read = |sku: Option<&str>| {
        let reading = ReadSettings {
            sku: sku.map(str::to_owned),
            ..ReadSettings::default()
        };
        read_described(Format::CommerceMl, &sample("import.xml"), &reading)
    };
    let articles = [
        format!("{PRODUCT_1} is ART-9"),
        format!("{PRODUCT_3} is ART-11"),
    ];
    assert_eq!(read(None), articles);
    assert_eq!(read(Some("Артикул")), articles);
    assert_eq!(read(Some("Код")), [format!("{PRODUCT_2} is 00-00000017")]);
    assert_eq!(
        read(Some("штрихкод")),
        [format!("{PRODUCT_1} is 2000000000001")]
    );
    assert_eq!(read(Some("Ид")), [""; 0]);
    let reading = ReadSettings {
        zeroes_unavailable: true,
        ..ReadSettings::default()
    };
    let described = read_described(Format::CommerceMl, &sample("import.xml"), &reading);
    assert_eq!(
        described[1..],
        [format!("{PRODUCT_3} is ART-11"), "3 ART-11 = 0".to_owned()]
    );
}

#[test]
fn reads_offers_of_2_07_by_warehouse() {
    let variant = "816d6099-55bc-11d9-848a-00112f43529a";
    let mut expected = vec![
        format!("{PRODUCT_1}#{variant} is ART-9"),
        format!("1 #{PRODUCT_1}#{variant}@{WAREHOUSE_1} = 2"),
        format!("1 #{PRODUCT_1}#{variant}@{WAREHOUSE_2} = 0"),
        format!("2 #{PRODUCT_2} = 5"),
        format!("3 #{PRODUCT_3} = ?"),
        format!("4 #{PRODUCT_4} = ?"),
    ];
    let bytes = sample("offers.xml");
    assert_eq!(
        read_described(Format::CommerceMl, &bytes, &ReadSettings::default()),
        expected
    );
    assert_eq!(
        scope_of(std::str::from_utf8(&bytes).unwrap()),
        Some(DeliveryScope::Snapshot)
    );
    let reading = ReadSettings {
        zeroes_unavailable: true,
        ..ReadSettings::default()
    };
    expected[4] = format!("3 #{PRODUCT_3} = 0");
    assert_eq!(
        read_described(Format::CommerceMl, &bytes, &reading),
        expected
    );
}

#[test]
fn reads_rests_of_2_10_by_warehouse() {
    let expected = [
        format!("1 #{PRODUCT_1}@{WAREHOUSE_1} = 201"),
        format!("1 #{PRODUCT_1}@{WAREHOUSE_2} = 9"),
        format!("2 #{PRODUCT_2} = 3"),
    ];
    let bytes = sample("rests.xml");
    assert_eq!(
        read_described(Format::CommerceMl, &bytes, &ReadSettings::default()),
        expected
    );
    assert_eq!(
        scope_of(std::str::from_utf8(&bytes).unwrap()),
        Some(DeliveryScope::Delta)
    );
}

#[test]
fn ignores_namespaces_prefixes_and_encodings() {
    let text = std::str::from_utf8(&sample("offers.xml"))
        .unwrap()
        .to_owned();
    let reading = ReadSettings::default();
    let plain = read_described(Format::CommerceMl, text.as_bytes(), &reading);
    let prefixed = text
        .replace("</", "<\0")
        .replace('<', "<c:")
        .replace("<c:\0", "</c:")
        .replace("<c:?", "<?")
        .replace(
            "ВерсияСхемы",
            "xmlns:c=\"urn:1C.ru:commerceml_205\" ВерсияСхемы",
        );
    assert_eq!(
        read_described(Format::CommerceMl, prefixed.as_bytes(), &reading),
        plain
    );
    let old = text.replace("UTF-8", "windows-1251");
    let (bytes, ..) = encoding_rs::WINDOWS_1251.encode(&old);
    assert_eq!(read_described(Format::CommerceMl, &bytes, &reading), plain);
}

#[test]
fn reads_stock_from_the_preferred_element() {
    let rest = "<Остатки><Остаток><Количество>1</Количество></Остаток></Остатки>";
    let rests = "<Остатки><Остаток><Склад><Ид>w</Ид><Количество>2</Количество></Склад>\
        <Склад><Ид>v</Ид><Количество/></Склад></Остаток></Остатки>";
    let warehouse = r#"<Склад ИдСклада="w" КоличествоНаСкладе="3"/>"#;
    let warehouses = r#"<Склады ИдСклада="w" КоличествоНаСкладе="4"/><Склады ИдСклада="v"/>"#;
    let list = r#"<Склады><Склад ИдСклада="w" КоличествоНаСкладе="5"/></Склады>"#;
    let sum = "<Количество>6</Количество>";
    let empty = "<Остатки/>";
    for (inside, expected) in [
        ([sum, warehouse, rest], &["1 #p = 1"][..]),
        ([sum, warehouse, rests], &["1 #p@w = 2", "1 #p@v = ?"]),
        ([rest, rests, ""], &["1 #p@w = 2", "1 #p@v = ?"]),
        ([sum, warehouse, empty], &["1 #p@w = 3"]),
        ([warehouses, sum, ""], &["1 #p@w = 4", "1 #p@v = ?"]),
        ([list, sum, ""], &["1 #p@w = 5"]),
        ([empty, sum, ""], &["1 #p = 6"]),
        (
            [
                "<ХарактеристикиТовара><Количество>9</Количество></ХарактеристикиТовара>",
                "",
                "",
            ],
            &["1 #p = ?"],
        ),
    ] {
        assert_eq!(read_offer(&inside.concat()), expected, "{inside:?}");
    }
}

#[test]
fn setting_replaces_the_default_quantity() {
    let inside = r#"<Склад ИдСклада="w" КоличествоНаСкладе="3"/><Количество>6</Количество>
        <Свободно>2</Свободно><Резерв>1</Резерв>"#;
    let reading = |quantity: &str| ReadSettings {
        quantity: Some(quantity.to_owned()),
        reserve: Some("Резерв".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(
        read_offer_with(inside, &reading("Количество")),
        ["1 #p = 6 - 1"]
    );
    assert_eq!(
        read_offer_with(inside, &reading("Свободно")),
        ["1 #p = 2 - 1"]
    );
    assert_eq!(read_offer_with(inside, &reading("Нет")), ["1 #p = ? - 1"]);
}

#[test]
fn offer_key_is_its_article_or_its_id() {
    let sku = |sku: &str| ReadSettings {
        sku: Some(sku.to_owned()),
        ..ReadSettings::default()
    };
    let inside = "<Артикул>A</Артикул><Код>K</Код><Количество>1</Количество>";
    assert_eq!(read_offer(inside), ["p is A", "1 A = 1"]);
    assert_eq!(read_offer_with(inside, &sku("Код")), ["p is K", "1 K = 1"]);
    assert_eq!(read_offer_with(inside, &sku("Штрихкод")), ["1 #p = 1"]);
    assert_eq!(read_offer_with(inside, &sku("Ид")), ["1 p = 1"]);
    let text = document("", "<Предложение><Количество>1</Количество></Предложение>");
    let nameless = read_described(
        Format::CommerceMl,
        text.as_bytes(),
        &ReadSettings::default(),
    );
    assert_eq!(
        nameless,
        ["1 rejected: the product has neither an article nor an Ид"]
    );
}

#[test]
fn bad_warehouse_does_not_affect_the_others() {
    let inside = r#"<Склад ИдСклада="w" КоличествоНаСкладе="1.5"/><Склад КоличествоНаСкладе="3"/>
        <Склад ИдСклада="v" КоличествоНаСкладе="4"/>"#;
    let described = read_offer(inside);
    assert!(
        described[0].starts_with("1 rejected: quantity is '1.5'"),
        "{described:?}"
    );
    assert_eq!(
        described[1..],
        ["1 rejected: a warehouse has no Ид", "1 #p@v = 4"]
    );
}

#[test]
fn reads_deletion_from_attribute_and_element() {
    let reading = ReadSettings {
        zeroes_unavailable: true,
        ..ReadSettings::default()
    };
    let inside = "<Статус>Удалён</Статус><Количество>7</Количество>";
    assert_eq!(read_offer(inside), ["1 #p = ?"]);
    assert_eq!(read_offer_with(inside, &reading), ["1 #p = 0"]);
    assert_eq!(
        read_offer_with("<Статус>Новый</Статус><Количество>7</Количество>", &reading),
        ["1 #p = 7"]
    );
}

#[test]
fn package_declares_its_scope() {
    for (says, scope) in [
        (
            r#" СодержитТолькоИзменения="true""#,
            Some(DeliveryScope::Delta),
        ),
        (
            r#" СодержитТолькоИзменения="1""#,
            Some(DeliveryScope::Delta),
        ),
        (
            r#" СодержитТолькоИзменения="Истина""#,
            Some(DeliveryScope::Delta),
        ),
        (
            r#" СодержитТолькоИзменения="false""#,
            Some(DeliveryScope::Snapshot),
        ),
        (
            r#" СодержитТолькоИзменения="0""#,
            Some(DeliveryScope::Snapshot),
        ),
        (r#" СодержитТолькоИзменения="как знать""#, None),
        ("", None),
    ] {
        assert_eq!(scope_of(&document(says, "")), scope, "{says}");
    }
    let inside = "<СодержитТолькоИзменения>false</СодержитТолькоИзменения>";
    assert_eq!(
        scope_of(&document("", inside)),
        Some(DeliveryScope::Snapshot)
    );
    let catalogue = "<Каталог СодержитТолькоИзменения=\"false\"/>";
    assert_eq!(
        scope_of(&format!(
            "<КоммерческаяИнформация>{catalogue}</КоммерческаяИнформация>"
        )),
        None
    );
    let two = |first: &str, second: &str| {
        let package =
            |says: &str| format!("<ПакетПредложений СодержитТолькоИзменения=\"{says}\"/>");
        scope_of(&format!(
            "<КоммерческаяИнформация>{}{}</КоммерческаяИнформация>",
            package(first),
            package(second)
        ))
    };
    assert_eq!(two("false", "true"), Some(DeliveryScope::Delta));
    assert_eq!(two("false", "?"), None);
    assert_eq!(two("false", "false"), Some(DeliveryScope::Snapshot));
}

#[test]
fn ignores_products_of_orders() {
    let text = "<КоммерческаяИнформация><Документ><Товары><Товар Статус=\"Удален\"><Ид>p</Ид>\
        <Артикул>A</Артикул><Количество>2</Количество></Товар></Товары></Документ>\
        </КоммерческаяИнформация>";
    let reading = ReadSettings {
        zeroes_unavailable: true,
        ..ReadSettings::default()
    };
    assert_eq!(
        read_described(Format::CommerceMl, text.as_bytes(), &reading),
        [""; 0]
    );
}

#[test]
fn reads_deletion_mark_from_element_or_attribute() {
    let zeroing = ReadSettings {
        zeroes_unavailable: true,
        ..ReadSettings::default()
    };
    let rest = "<Остатки><Остаток><Количество>5</Количество></Остаток></Остатки>";
    for (mark, is_deleted) in [
        ("true", true),
        ("1", true),
        ("Истина", true),
        (" да ", true),
        ("false", false),
        ("0", false),
        ("", false),
        ("ложь", false),
    ] {
        let element = format!("<ПометкаУдаления>{mark}</ПометкаУдаления>{rest}");
        let (kept, zeroed) = if is_deleted { ("?", "0") } else { ("5", "5") };
        assert_eq!(read_offer(&element), [format!("1 #p = {kept}")], "{mark}");
        assert_eq!(
            read_offer_with(&element, &zeroing),
            [format!("1 #p = {zeroed}")],
            "{mark}"
        );
        let attribute = format!(
            "<Предложение ПометкаУдаления=\"{mark}\"><Ид>p#v</Ид><Артикул>A</Артикул>{rest}\
             </Предложение>"
        );
        let read = read_described(
            Format::CommerceMl,
            document("", &attribute).as_bytes(),
            &zeroing,
        );
        assert_eq!(
            read,
            ["p#v is A".to_owned(), format!("1 #p#v = {zeroed}")],
            "{mark}"
        );
        let catalogue = format!(
            "<КоммерческаяИнформация><Каталог><Товары><Товар><Ид>p</Ид><Артикул>A</Артикул>\
             <ПометкаУдаления>{mark}</ПометкаУдаления></Товар></Товары></Каталог>\
             </КоммерческаяИнформация>"
        );
        let read = read_described(Format::CommerceMl, catalogue.as_bytes(), &zeroing);
        let expected = ["p is A", "1 A = 0"];
        assert_eq!(
            read,
            if is_deleted {
                &expected[..]
            } else {
                &expected[..1]
            },
            "{mark}"
        );
    }
    let unclear = format!("<ПометкаУдаления>может</ПометкаУдаления>{rest}");
    let reason = "1 rejected: ПометкаУдаления is 'может', it must be true or false";
    assert_eq!(read_offer_with(&unclear, &zeroing), [reason]);
    // The deletion mark of a nested element does not apply to the product.
    let inner = format!("<Значение><ПометкаУдаления>true</ПометкаУдаления></Значение>{rest}");
    assert_eq!(read_offer_with(&inner, &zeroing), ["1 #p = 5"]);
}

#[test]
fn point_is_decimal_and_comma_is_suspicious() {
    for (quantity, described) in [
        ("3.000", "1 #p = 3"),
        ("2000.000", "1 #p = 2000"),
        ("2,000", "1 suspicious: quantity is '2,000'"),
        ("2000,000", "1 #p = 2000"),
    ] {
        let own = format!("<Количество>{quantity}</Количество>");
        let rest = format!("<Остатки><Остаток>{own}</Остаток></Остатки>");
        for inside in [own, rest] {
            let read = read_offer(&inside);
            assert!(
                read.len() == 1 && read[0].starts_with(described),
                "{inside}: {read:?}"
            );
        }
        let warehouse = format!("<Склад ИдСклада=\"w\" КоличествоНаСкладе=\"{quantity}\"/>");
        assert!(read_offer(&warehouse)[0].starts_with(&described.replace("#p", "#p@w")));
    }
}

#[test]
fn empty_quantity_is_zero_if_set() {
    let empty = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    let rest = "<Остатки><Остаток><Количество/></Остаток></Остатки>";
    for inside in ["<Количество/>", "<Количество> </Количество>", rest]
    {
        assert_eq!(read_offer(inside), ["1 #p = ?"], "{inside}");
        assert_eq!(read_offer_with(inside, &empty), ["1 #p = 0"], "{inside}");
    }
    assert_eq!(read_offer_with("", &empty), ["1 #p = ?"]);
    assert_eq!(read_offer_with("<Остатки/>", &empty), ["1 #p = ?"]);
}

#[test]
fn spoiled_articles_are_restored_or_suspicious() {
    for (text, sku) in [
        ("=&quot;0557722&quot;", Some("0557722")),
        ("'TEA-1", Some("TEA-1")),
        ("5.577E+05", None),
        ("01.фев", None),
        ("#REF!", None),
    ] {
        for (field, reading) in [
            ("Артикул", ReadSettings::default()),
            (
                "Код",
                ReadSettings {
                    sku: Some("Код".to_owned()),
                    ..ReadSettings::default()
                },
            ),
        ] {
            let inside = format!("<{field}>{text}</{field}><Количество>1</Количество>");
            let read = read_offer_with(&inside, &reading);
            match sku {
                Some(sku) => assert_eq!(read, [format!("p is {sku}"), format!("1 {sku} = 1")]),
                None => {
                    assert!(
                        read.len() == 1 && read[0].contains("1 suspicious: sku is"),
                        "{read:?}"
                    );
                }
            }
            let catalogue = document("", "").replace(
                "<Предложения>",
                &format!("<Товары><Товар><Ид>p</Ид><{field}>{text}</{field}></Товар></Товары>"),
            );
            let catalogue = catalogue.replace("</Предложения>", "");
            let read = read_described(Format::CommerceMl, catalogue.as_bytes(), &reading);
            match sku {
                Some(sku) => assert_eq!(read, [format!("p is {sku}")]),
                None => {
                    assert!(
                        read.len() == 1 && read[0].contains("1 suspicious: sku is"),
                        "{read:?}"
                    );
                }
            }
        }
        let by_id = ReadSettings {
            sku: Some("Ид".to_owned()),
            ..ReadSettings::default()
        };
        let offer = format!("<Предложение><Ид>{text}</Ид><Количество>1</Количество></Предложение>");
        let read = read_described(Format::CommerceMl, document("", &offer).as_bytes(), &by_id);
        match sku {
            Some(sku) => assert_eq!(read, [format!("1 {sku} = 1")]),
            None => assert!(read[0].contains("1 suspicious: sku is"), "{read:?}"),
        }
    }
}

#[test]
fn truncated_letter_affects_only_its_row() {
    assert_eq!(
        read_offer("<Наименование>\u{ffff}</Наименование><Количество>1</Количество>"),
        ["1 #p = 1"]
    );
    for inside in [
        "<Артикул>A\u{ffff}</Артикул><Количество>1</Количество>",
        "<Количество>1\u{ffff}</Количество>",
        "<Склад ИдСклада=\"\u{ffff}\" КоличествоНаСкладе=\"1\"/>",
    ] {
        let read = read_offer(inside);
        let is_rejected =
            read[0].starts_with("1 rejected: the row has bytes that are not characters");
        assert!(read.len() == 1 && is_rejected, "{read:?}");
    }
}
