//! 1C hands its files over by itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{counts, with_source};
use crate::harness::{Doors, House, Shop};
use crate::wire::send;

/// `1c:canary-1c`.
const BASIC: &str = "Basic MWM6Y2FuYXJ5LTFj";

fn shop() -> Shop {
    let shop = Shop::moscow().secret("SOURCES_ERP_PASSWORD", "canary-1c");
    let lines = [
        "path = \"/1c/exchange\"",
        "login = \"1c\"",
        "warehouses = \"*\"",
        "guard_bad_rows = 1.0",
    ];
    with_source(shop, "erp", "1c", &lines)
}

async fn say(
    doors: Doors,
    method: &str,
    query: &str,
    header: (&str, &str),
    body: &[u8],
) -> (u16, String) {
    let target = format!("/1c/exchange?type=catalog&{query}");
    let answer = send(doors.public, method, &target, &[header], body).await;
    (answer.status, answer.text())
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/fixtures/sources/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// Every file below is 0600 and every directory 0700.
fn assert_owner_only(place: &Path) {
    let metadata = std::fs::metadata(place).unwrap();
    let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(
        metadata.permissions().mode() & 0o777,
        expected,
        "{}",
        place.display()
    );
    if metadata.is_dir() {
        let entries: Vec<_> = std::fs::read_dir(place).unwrap().collect();
        assert!(
            entries.len() > 1 || place.ends_with("sources"),
            "{}",
            place.display()
        );
        entries
            .into_iter()
            .for_each(|entry| assert_owner_only(&entry.unwrap().path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_arrives_by_the_whole_conversation_with_1c_and_is_answered_to_the_market() {
    let mut house = House::with(&[shop()]).await;
    let doors = house.doors();
    let nobody = ("Authorization", "Basic MWM6d3Jvbmc=");
    assert_eq!(
        say(doors, "GET", "mode=checkauth", nobody, b"").await.0,
        401
    );
    let (status, told) = say(
        doors,
        "GET",
        "mode=checkauth",
        ("Authorization", BASIC),
        b"",
    )
    .await;
    let lines: Vec<&str> = told.lines().collect();
    let ["success", name, value] = lines[..] else {
        panic!("{status} {told}")
    };
    let cookie = format!("{name}={value}");
    let guest = ("Cookie", cookie.as_str());
    let (_, terms) = say(doors, "GET", "mode=init", guest, b"").await;
    assert!(terms.starts_with("zip=yes\nfile_limit="), "{terms}");
    for (name, expected) in [
        ("import.xml", None),
        ("offers.xml", Some(2)),
        ("rests.xml", Some(210)),
    ] {
        // In parts of any length, cut within letters.
        for part in fixture(name).chunks(701) {
            let query = format!("mode=file&filename={name}");
            let (status, told) = say(doors, "POST", &query, guest, part).await;
            assert_eq!((status, told.trim()), (200, "success"));
        }
        let query = format!("mode=import&filename={name}");
        let (status, told) = say(doors, "GET", &query, guest, b"").await;
        assert!(
            status == 200 && told.starts_with("success\n"),
            "{status} {told}"
        );
        if let Some(expected) = expected {
            assert_eq!(
                doors.counts(house.shop(), &["ART-9"]).await,
                counts(&[("ART-9", expected)])
            );
        }
    }
    let shown = doors.source("erp").await.unwrap();
    assert_eq!(
        (&shown["kind"], &shown["state"]),
        (&"1c".into(), &"ok".into()),
        "{shown}"
    );
    house.settle().await;
    assert_eq!(house.market.get(12_345, "ART-9").unwrap().count, 210);
    let kept = house.directory.path().join("store/sources");
    assert_owner_only(&kept);
    // What an earlier version left is restricted at the start.
    let database = kept.join("moscow/stated.db");
    std::fs::set_permissions(&database, Permissions::from_mode(0o644)).unwrap();
    house.restart().await;
    assert_owner_only(&kept);
    assert_eq!(
        house.doors().counts(house.shop(), &["ART-9"]).await,
        counts(&[("ART-9", 210)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_1c_that_is_cut_is_a_failure_in_words_and_the_stock_stays() {
    let house = House::with(&[shop()]).await;
    let doors = house.doors();
    let (_, told) = say(
        doors,
        "GET",
        "mode=checkauth",
        ("Authorization", BASIC),
        b"",
    )
    .await;
    let lines: Vec<&str> = told.lines().collect();
    let cookie = format!("{}={}", lines[1], lines[2]);
    let guest = ("Cookie", cookie.as_str());
    say(doors, "GET", "mode=init", guest, b"").await;
    let whole = fixture("offers.xml");
    say(
        doors,
        "POST",
        "mode=file&filename=offers.xml",
        guest,
        &whole[..whole.len() - 40],
    )
    .await;
    let (status, told) = say(doors, "GET", "mode=import&filename=offers.xml", guest, b"").await;
    assert!(
        status == 200 && told.starts_with("failure\n"),
        "{status} {told}"
    );
    assert!(doors.has_alarm("source_failed", "moscow/erp").await);
    assert!(doors.everything(house.shop(), 100).await.is_empty());
}

/// Lets 1C in and has it hand over a file; what is told of it.
async fn hand_over(doors: Doors, name: &str, file: &str) -> String {
    let (_, told) = say(
        doors,
        "GET",
        "mode=checkauth",
        ("Authorization", BASIC),
        b"",
    )
    .await;
    let lines: Vec<&str> = told.lines().collect();
    let cookie = format!("{}={}", lines[1], lines[2]);
    let guest = ("Cookie", cookie.as_str());
    say(doors, "GET", "mode=init", guest, b"").await;
    say(
        doors,
        "POST",
        &format!("mode=file&filename={name}"),
        guest,
        file.as_bytes(),
    )
    .await;
    say(
        doors,
        "GET",
        &format!("mode=import&filename={name}"),
        guest,
        b"",
    )
    .await
    .1
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_that_share_an_article_are_listed_or_summed_part_by_part() {
    let catalogue = "<КоммерческаяИнформация><Каталог><Товары>\
        <Товар><Ид>p1</Ид><Артикул>SHOE-1</Артикул></Товар>\
        </Товары></Каталог></КоммерческаяИнформация>";
    let rests = |variant: &str, quantity: u64| {
        format!(
            "<КоммерческаяИнформация><ПакетПредложений СодержитТолькоИзменения=\"true\">\
             <Предложения><Предложение><Ид>p1#{variant}</Ид><Остатки><Остаток>\
             <Количество>{quantity}</Количество></Остаток></Остатки></Предложение></Предложения>\
             </ПакетПредложений></КоммерческаяИнформация>"
        )
    };
    let parts = [("41", 7, 7), ("42", 7, 14), ("42", 0, 7)];
    let house = House::with(&[shop()]).await;
    let doors = house.doors();
    hand_over(doors, "import0_1.xml", catalogue).await;
    for (at, (variant, quantity, _)) in parts.iter().enumerate() {
        let told = hand_over(
            doors,
            &format!("rests0_{at}.xml"),
            &rests(variant, *quantity),
        )
        .await;
        assert!(
            told.starts_with("success\n0 rows taken, 0 changed, 0 rejected, 1 suspicious"),
            "{told}"
        );
        let (_, listed) = doors.rejected("source=erp&shop=moscow").await;
        assert!(listed.contains("SHOE-1 is the article of"), "{listed}");
    }
    assert!(doors.everything(house.shop(), 100).await.is_empty());
    let mut house = House::with(&[shop().set("variants = \"sum\"")]).await;
    hand_over(house.doors(), "import0_1.xml", catalogue).await;
    for (at, (variant, quantity, sum)) in parts.iter().enumerate() {
        let name = format!("rests0_{at}.xml");
        hand_over(house.doors(), &name, &rests(variant, *quantity)).await;
        let expected = counts(&[("SHOE-1", *sum)]);
        assert_eq!(
            house.doors().counts(house.shop(), &["SHOE-1"]).await,
            expected
        );
        house.restart().await;
        assert_eq!(
            house.doors().counts(house.shop(), &["SHOE-1"]).await,
            expected
        );
    }
}
