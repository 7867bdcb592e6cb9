//! 1C hands its files over by itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{counts, with_source};
use crate::harness::{Endpoints, TestService, TestShop};
use crate::wire::send;

/// `1c:canary-1c`.
const BASIC: &str = "Basic MWM6Y2FuYXJ5LTFj";

fn shop() -> TestShop {
    let shop = TestShop::moscow().secret("SOURCES_ERP_PASSWORD", "canary-1c");
    let lines = [
        "path = \"/1c/exchange\"",
        "login = \"1c\"",
        "warehouses = \"*\"",
        "guard_bad_rows = 1.0",
    ];
    with_source(shop, "erp", "1c", &lines)
}

async fn send_1c(
    endpoints: Endpoints,
    method: &str,
    query: &str,
    header: (&str, &str),
    body: &[u8],
) -> (u16, String) {
    let target = format!("/1c/exchange?type=catalog&{query}");
    let response = send(endpoints.public, method, &target, &[header], body).await;
    (response.status, response.text())
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/fixtures/sources/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// Every file below is 0600 and every directory 0700.
fn assert_owner_only(path: &Path) {
    let metadata = std::fs::metadata(path).unwrap();
    let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(
        metadata.permissions().mode() & 0o777,
        expected,
        "{}",
        path.display()
    );
    if metadata.is_dir() {
        let entries: Vec<_> = std::fs::read_dir(path).unwrap().collect();
        assert!(
            entries.len() > 1 || path.ends_with("sources"),
            "{}",
            path.display()
        );
        entries
            .into_iter()
            .for_each(|entry| assert_owner_only(&entry.unwrap().path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_1c_exchange_reaches_the_market() {
    let mut service = TestService::start(&[shop()]).await;
    let endpoints = service.endpoints();
    let wrong_login = ("Authorization", "Basic MWM6d3Jvbmc=");
    assert_eq!(
        send_1c(endpoints, "GET", "mode=checkauth", wrong_login, b"")
            .await
            .0,
        401
    );
    let (status, text) = send_1c(
        endpoints,
        "GET",
        "mode=checkauth",
        ("Authorization", BASIC),
        b"",
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    let ["success", name, value] = lines[..] else {
        panic!("{status} {text}")
    };
    let cookie = format!("{name}={value}");
    let session = ("Cookie", cookie.as_str());
    let (_, init_text) = send_1c(endpoints, "GET", "mode=init", session, b"").await;
    assert!(init_text.starts_with("zip=yes\nfile_limit="), "{init_text}");
    for (name, expected) in [
        ("import.xml", None),
        ("offers.xml", Some(2)),
        ("rests.xml", Some(210)),
    ] {
        // In parts of any length, cut within letters.
        for chunk in fixture(name).chunks(701) {
            let query = format!("mode=file&filename={name}");
            let (status, text) = send_1c(endpoints, "POST", &query, session, chunk).await;
            assert_eq!((status, text.trim()), (200, "success"));
        }
        let query = format!("mode=import&filename={name}");
        let (status, text) = send_1c(endpoints, "GET", &query, session, b"").await;
        assert!(
            status == 200 && text.starts_with("success\n"),
            "{status} {text}"
        );
        if let Some(expected) = expected {
            assert_eq!(
                endpoints.counts(service.shop(), &["ART-9"]).await,
                counts(&[("ART-9", expected)])
            );
        }
    }
    let source = endpoints.source("erp").await.unwrap();
    assert_eq!(
        (&source["kind"], &source["state"]),
        (&"1c".into(), &"ok".into()),
        "{source}"
    );
    service.wait_settled().await;
    assert_eq!(service.market.get(12_345, "ART-9").unwrap().count, 210);
    let sources_directory = service.directory.path().join("store/sources");
    assert_owner_only(&sources_directory);
    // What an earlier version left is restricted at the start.
    let database = sources_directory.join("moscow/stated.db");
    std::fs::set_permissions(&database, Permissions::from_mode(0o644)).unwrap();
    service.restart().await;
    assert_owner_only(&sources_directory);
    assert_eq!(
        service.endpoints().counts(service.shop(), &["ART-9"]).await,
        counts(&[("ART-9", 210)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_1c_file_changes_nothing() {
    let service = TestService::start(&[shop()]).await;
    let endpoints = service.endpoints();
    let (_, text) = send_1c(
        endpoints,
        "GET",
        "mode=checkauth",
        ("Authorization", BASIC),
        b"",
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    let cookie = format!("{}={}", lines[1], lines[2]);
    let session = ("Cookie", cookie.as_str());
    send_1c(endpoints, "GET", "mode=init", session, b"").await;
    let whole = fixture("offers.xml");
    send_1c(
        endpoints,
        "POST",
        "mode=file&filename=offers.xml",
        session,
        &whole[..whole.len() - 40],
    )
    .await;
    let (status, text) = send_1c(
        endpoints,
        "GET",
        "mode=import&filename=offers.xml",
        session,
        b"",
    )
    .await;
    assert!(
        status == 200 && text.starts_with("failure\n"),
        "{status} {text}"
    );
    assert!(endpoints.has_alarm("source_failed", "moscow/erp").await);
    assert!(endpoints.all_stock(service.shop(), 100).await.is_empty());
}

/// Runs an exchange of 1C with one file and returns the response.
async fn upload_file(endpoints: Endpoints, name: &str, file: &str) -> String {
    let (_, text) = send_1c(
        endpoints,
        "GET",
        "mode=checkauth",
        ("Authorization", BASIC),
        b"",
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    let cookie = format!("{}={}", lines[1], lines[2]);
    let session = ("Cookie", cookie.as_str());
    send_1c(endpoints, "GET", "mode=init", session, b"").await;
    send_1c(
        endpoints,
        "POST",
        &format!("mode=file&filename={name}"),
        session,
        file.as_bytes(),
    )
    .await;
    send_1c(
        endpoints,
        "GET",
        &format!("mode=import&filename={name}"),
        session,
        b"",
    )
    .await
    .1
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_with_one_article_are_listed_or_summed() {
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
    let service = TestService::start(&[shop()]).await;
    let endpoints = service.endpoints();
    upload_file(endpoints, "import0_1.xml", catalogue).await;
    for (at, (variant, quantity, _)) in parts.iter().enumerate() {
        let text = upload_file(
            endpoints,
            &format!("rests0_{at}.xml"),
            &rests(variant, *quantity),
        )
        .await;
        assert!(
            text.starts_with("success\n0 rows taken, 0 changed, 0 rejected, 1 suspicious"),
            "{text}"
        );
        let (_, listed) = endpoints.rejected("source=erp&shop=moscow").await;
        assert!(listed.contains("SHOE-1 is the article of"), "{listed}");
    }
    assert!(endpoints.all_stock(service.shop(), 100).await.is_empty());
    let mut service = TestService::start(&[shop().set("variants = \"sum\"")]).await;
    upload_file(service.endpoints(), "import0_1.xml", catalogue).await;
    for (at, (variant, quantity, sum)) in parts.iter().enumerate() {
        let name = format!("rests0_{at}.xml");
        upload_file(service.endpoints(), &name, &rests(variant, *quantity)).await;
        let expected = counts(&[("SHOE-1", *sum)]);
        assert_eq!(
            service
                .endpoints()
                .counts(service.shop(), &["SHOE-1"])
                .await,
            expected
        );
        service.restart().await;
        assert_eq!(
            service
                .endpoints()
                .counts(service.shop(), &["SHOE-1"])
                .await,
            expected
        );
    }
}
