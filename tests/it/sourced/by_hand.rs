//! What the operator hands over, sees and lets through.

use serde_json::{Value, json};

use super::{counts, with_source};
use crate::harness::{House, Shop};
use crate::wire::send;

const FILE: &str = "Артикул;Остаток\nA;5\nB;6\nC;7\n";

fn code(told: &Value) -> &str {
    told["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_looked_at_first_and_taken_when_it_is_meant() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let (_, shown) = doors.operator("GET", "/sources", "").await;
    assert_eq!(shown, json!([]), "a door nobody has used");
    let target = "/import?shop=moscow&name=stock.csv";
    let (status, told) = doors
        .operator("POST", &format!("{target}&dry_run=true"), FILE)
        .await;
    assert_eq!(
        (status, &told["outcome"], &told["new"]),
        (200, &json!("looked"), &json!(3))
    );
    assert!(doors.everything(shop, 100).await.is_empty());
    let (status, told) = doors.operator("POST", target, FILE).await;
    assert_eq!(
        (status, &told["outcome"], &told["rows"]),
        (200, &json!("taken"), &json!(3))
    );
    assert_eq!(
        (&told["scope"], &told["rejected"]),
        (&json!("delta"), &json!(0))
    );
    assert_eq!(
        doors.counts(shop, &["A", "B", "C"]).await,
        counts(&[("A", 5), ("B", 6), ("C", 7)])
    );
    house.settle().await;
    assert_eq!(house.market.get(12_345, "C").unwrap().count, 7);
    let shown = doors.source("import").await.unwrap();
    assert_eq!(
        (&shown["shop"], &shown["state"]),
        (&json!("moscow"), &json!("ok"))
    );
    assert_eq!(shown["last"]["new"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_parameter_changes_nothing() {
    let house = House::with(&[Shop::moscow()]).await;
    let doors = house.doors();
    let headers = [("X-Stockbridge", "1")];
    for target in [
        "/import?shop=moscow&dryrun=true",
        "/accept?sorce=import",
        "/verify?shops=moscow",
    ] {
        let answer = send(doors.ops, "POST", target, &headers, FILE.as_bytes()).await;
        assert_eq!(answer.status, 400, "{target}");
    }
    assert!(doors.everything(house.shop(), 100).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_would_wipe_the_shop_says_so_when_looked_at_and_waits_when_meant() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.operator("POST", "/import?shop=moscow", FILE).await;
    let empty = FILE.replace(";6", ";0").replace(";7", ";0");
    let doubt = json!("it would turn 2 of 3 SKUs in stock to zero");
    for (target, is_held) in [
        ("/import?shop=moscow&dry_run=true", false),
        ("/import?shop=moscow", true),
    ] {
        let (status, told) = doors.operator("POST", target, &empty).await;
        assert_eq!(
            (status, &told["outcome"], &told["doubt"]),
            (200, &json!("held"), &doubt)
        );
        assert_eq!(
            doors.has_alarm("source_held", "moscow/import").await,
            is_held
        );
    }
    assert_eq!(doors.counts(shop, &["B"]).await, counts(&[("B", 6)]));
    assert_eq!(
        doors.operator("POST", "/accept?source=import", "").await.0,
        200
    );
    assert_eq!(doors.counts(shop, &["B"]).await, counts(&[("B", 0)]));
    let (status, told) = doors.operator("POST", "/accept?source=rules", "").await;
    assert_eq!((status, code(&told)), (404, "NOTHING_HELD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_set_aside_are_shown_with_their_lines_and_reasons() {
    let house = House::with(&[Shop::moscow()]).await;
    let doors = house.doors();
    let mut file = FILE.to_owned();
    file.push_str("D;много\n");
    let (status, told) = doors.operator("POST", "/import?shop=moscow", &file).await;
    assert_eq!(
        (status, &told["rejected"], &told["rows"]),
        (200, &json!(1), &json!(3))
    );
    let shown = doors.source("import").await.unwrap();
    let row = &shown["rejected"][0];
    assert_eq!(
        (
            &row["line"],
            row["text"].as_str().unwrap().contains("много")
        ),
        (&json!(5), true)
    );
    let (status, csv) = doors.rejected("shop=moscow&source=import").await;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        (status, lines.len(), lines[0]),
        (200, 2, "line;kind;row;reason")
    );
    assert!(
        lines[1].starts_with("5;rejected;") && lines[1].contains("много"),
        "{csv}"
    );
    // The next delivery that is well has none.
    doors.operator("POST", "/import?shop=moscow", FILE).await;
    assert_eq!(doors.rejected("source=import").await.1.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_no_stock_is_refused_in_words() {
    let place = tempfile::tempdir().unwrap();
    let path = format!("path = {:?}", place.path().join("stock.csv"));
    let shops = [Shop::moscow(), Shop::new("omsk", 2, 22)]
        .map(|shop| with_source(shop, "erp", "file", &[&path]));
    let house = House::with(&shops).await;
    let doors = house.doors();
    for (target, status, wanted, told) in [
        (
            "/import?shop=perm",
            404,
            "NOT_FOUND",
            "there is no shop 'perm': there are moscow, omsk",
        ),
        (
            "/import?shop=moscow&source=x",
            404,
            "NOT_FOUND",
            "there are moscow/erp, moscow/import",
        ),
        (
            "/import?shop=moscow&format=doc",
            400,
            "BAD_REQUEST",
            "format is 'doc', it must be csv",
        ),
        (
            "/import?shop=moscow&scope=all",
            400,
            "BAD_REQUEST",
            "scope is 'all', it must be snapshot",
        ),
        (
            "/accept?source=erp",
            404,
            "NOT_FOUND",
            "several shops have a source 'erp'",
        ),
        (
            "/accept?shop=omsk&source=erp",
            404,
            "NOTHING_HELD",
            "nothing of erp is held",
        ),
        (
            "/sources/read?source=x",
            404,
            "NOT_FOUND",
            "there is no source 'x'",
        ),
    ] {
        let (given, answer) = doors.operator("POST", target, FILE).await;
        assert_eq!(
            (given, code(&answer)),
            (status, wanted),
            "{target}: {answer}"
        );
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{target}: {message}");
    }
    assert_eq!(doors.rejected("source=x").await.0, 404);
    assert_eq!(
        doors
            .operator("POST", "/sources/read?shop=omsk&source=erp", "")
            .await
            .0,
        202
    );
    for page in ["<!DOCTYPE html><html></html>", "", "a;b\n1;2\n"] {
        let (status, told) = doors.operator("POST", "/import?shop=moscow", page).await;
        assert_eq!(
            (status, code(&told)),
            (422, "CANNOT_TAKE"),
            "{page:?}: {told}"
        );
    }
    assert!(doors.everything(&shops[0], 100).await.is_empty());
    // A file that is named and is not there.
    let failed = doors
        .wait_until("erp", "it fails", |it| it["state"] == "failed")
        .await;
    assert!(
        failed["failure"].as_str().unwrap().contains("stock.csv"),
        "{failed}"
    );
    assert!(doors.has_alarm("source_failed", "moscow/erp").await);
}
