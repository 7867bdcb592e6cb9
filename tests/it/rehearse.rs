//! A rehearsal with the seller's own stock: from a file, an old handler, or a configuration.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::response::Html;
use lifecycle::{CrashSignal, Tasks};
use serde_json::{Value, json};
use strict_http::{HttpServer, ServerLimits};

use crate::harness::{TestShop, configuration};
use crate::program::{program, run};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/sources")
        .join(name)
}

/// Rehearses with these words: the exit code, what is printed, and what went wrong.
fn rehearse(words: &[&str]) -> (Option<i32>, String, String) {
    run(program().arg("rehearse").args(words).env_remove("RUST_LOG"))
}

fn assert_contains(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rehearses_an_export_and_reports_its_faults() {
    let export = fixture("shop-export.csv");
    let (code, stdout, stderr) = rehearse(&["--from", export.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert_contains(
        &stdout,
        &[
            "7 rows, 6 applied, 0 rejected, 1 suspicious",
            "suspicious: line 5, sku is '5,57722E+11'",
            "5 SKUs, 1 of them with count 0",
            "ok    SKUs answered     5 of 5",
            "ok    SKUs that differ  0",
            "PASSED",
        ],
    );
    // And as its settings would have it.
    let words = [
        "--from",
        export.to_str().unwrap(),
        "--set",
        "fraction=floor",
    ];
    let words = [
        &words[..],
        &["--set", "suspicious_sku=take", "--method", "business"],
    ]
    .concat();
    let (code, stdout, stderr) = rehearse(&words);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_contains(
        &stdout,
        &["7 rows, 7 applied, 0 rejected", "stock        6 SKUs"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_file_ends_the_rehearsal() {
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut.xlsx");
    let whole = std::fs::read(fixture("cells.xlsx")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let (code, stdout, stderr) = rehearse(&["--from", cut.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
    assert_contains(&stdout, &["cut.xlsx: the file is broken at"]);
    let nowhere = directory.path().join("nowhere.csv");
    let (code, stdout, stderr) = rehearse(&["--from", nowhere.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
    assert_contains(&stdout, &["nowhere.csv: No such file"]);
    // It can be read, and is held; or does not say what is to be known.
    for (name, reason) in [
        (
            "1c-export-windows-1251.csv",
            "HELD for approval, as the real service would do: 2 of 6 rows are rejected or suspicious",
        ),
        (
            "feed.xml",
            "FAILED, kind file: it names 2 warehouses, '1', 'Склад'",
        ),
    ] {
        let (code, stdout, stderr) = rehearse(&["--from", fixture(name).to_str().unwrap()]);
        assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
        assert_contains(&stdout, &[reason, "FAILED: a source was not applied"]);
        assert!(!stdout.contains("migrated"), "{stdout}");
    }
}

/// An old handler with counts as texts, the media type of a page, SKUs that were not requested, a
/// missing SKU, and a SKU that is sold between two requests.
fn old_handler() -> (String, Arc<Mutex<Vec<Value>>>, Tasks) {
    let requests: Arc<Mutex<Vec<Value>>> = Arc::default();
    let log = Arc::clone(&requests);
    let sold = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(async move |headers: HeaderMap, body: String| {
        assert_eq!(headers["authorization"], "old-token");
        let request: Value = serde_json::from_str(&body).unwrap();
        log.lock().unwrap().push(request.clone());
        let skus = request["skus"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str);
        let items = skus.filter(|sku| *sku != "left-out").map(|sku| {
            let count = match sku {
                "sold" => (50 - sold.fetch_add(1, Ordering::Relaxed)).to_string(),
                sku => sku.len().to_string(),
            };
            let item = json!({ "type": "FIT", "count": count, "updatedAt": "2026-11-20 10:00:00" });
            json!({ "sku": sku, "warehouseId": "77", "items": [item] })
        });
        let unrequested = [json!({ "sku": "stranger", "items": [{ "type": "FIT", "count": 1 }] })];
        let items: Vec<Value> = items.chain(unrequested).collect();
        Html(json!({ "skus": items }).to_string())
    });
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(any, ServerLimits::default()).unwrap();
    let url = format!("http://{}/old", server.local_addr().unwrap());
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn("old handler", server.run(router, tasks.clone()));
    (url, requests, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_handler_is_asked_and_what_it_says_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let token = file("token", "old-token\n");
    let skus = file("skus", "0557722\nБОЛТ-М5\n\nleft-out\nsold\na b\n");
    let (url, requests, handler_tasks) = old_handler();
    let handler_args = ["--from-handler", &url, "--token-file", &token];
    let (code, _, stderr) = rehearse(&handler_args);
    assert_eq!(code, Some(1));
    assert_contains(&stderr, &["no SKUs to request", "--skus-file"]);
    assert!(
        requests.lock().unwrap().is_empty(),
        "the handler is requested before all SKUs are known"
    );

    let more = [
        "--skus-file",
        &skus,
        "--set",
        "part_skus=2",
        "--set",
        "ask_warehouse=77",
    ];
    let (code, stdout, stderr) = rehearse(&[&handler_args[..], &more].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert_contains(
        &stdout,
        &[
            "handler      kind legacy, snapshot: 4 rows, 4 applied, 0 rejected",
            "5 SKUs were requested, and for 1 of them the handler returned no",
            "ok    SKUs answered     4 of 4",
            "ok    SKUs that differ  0",
            "PASSED",
        ],
    );
    for request in requests.lock().unwrap().drain(..) {
        assert_eq!(request["warehouseId"], 77);
        assert!(request["skus"].as_array().unwrap().len() <= 2);
    }
    // A file of any other kind says as well which SKUs there are.
    let export = fixture("shop-export.csv");
    let more = [
        "--from",
        export.to_str().unwrap(),
        "--set",
        "fraction=floor",
    ];
    let more = [&more[..], &["--set", "ask_warehouse=77"]].concat();
    let (code, stdout, stderr) = rehearse(&[&handler_args[..], &more].concat());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_contains(&stdout, &["kind legacy, snapshot: 6 rows", "PASSED"]);
    handler_tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn rehearses_the_sources_of_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let sources = "buffer = 1\ncombine = \"sum\"\n\
        [[shops.sources]]\nname = \"hall\"\nkind = \"file\"\npath = \"hall.csv\"\n\
        warehouses = [\"Юг\", \"Север\"]\nscope = \"snapshot\"\nabsent = \"zero\"\nmapping_file = \"map.csv\"\n\
        [[shops.sources]]\nname = \"attic\"\nkind = \"file\"\npath = \"attic-*.csv\"\n\
        files = \"together\"\n\
        [[shops.sources]]\nname = \"ledger\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"1c\"\n\
        password_file = \"password\"\nwarehouses = \"*\"\n";
    let (text, variables) = configuration("http://127.0.0.1:9", &[TestShop::moscow().set(sources)]);
    write("stockbridge.toml", &text);
    write("password", "secret-of-1c");
    write(
        "map.csv",
        "source_sku;sku;pack\nкоробка;A;10\nкоробка;B;1\n",
    );
    write(
        "hall.csv",
        "sku;Склад;quantity\nкоробка;Юг;35\nC;Север;4\nC;Юг;5\nD;Запад;9\nE;Юг;1\n",
    );
    write("attic-1.csv", "sku;quantity\nA;7\nC;1\n");
    write("attic-2.csv", "sku;quantity\nF;1000\n");
    let file = directory.path().join("stockbridge.toml");
    let rehearse = |words: &[&str]| {
        let mut command = program();
        command
            .arg("rehearse")
            .arg("--config")
            .arg(&file)
            .args(words);
        run(command
            .envs(variables.iter().cloned())
            .env_remove("RUST_LOG"))
    };
    // 1C would come by itself.
    let (code, stdout, stderr) = rehearse(&[]);
    assert_eq!(code, Some(1), "{stdout}");
    assert_contains(
        &stderr,
        &["the source ledger cannot be polled, because 1C connects to it"],
    );
    let (code, stdout, stderr) = rehearse(&["--source", "hall"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    // A, B, C, and E, which the buffer reduces to 0. D is not in this file.
    assert_contains(&stdout, &["4 SKUs, 1 of them with count 0", "PASSED"]);
    let (code, stdout, stderr) = rehearse(&["--source", "attic", "--shop", "moscow"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_contains(&stdout, &["3 SKUs, 1 of them with count 0", "PASSED"]);
    let export = fixture("offers.xml");
    let export = export.to_str().unwrap();
    let (code, stdout, stderr) = rehearse(&["--source", "ledger", "--from", export]);
    assert!(
        code == Some(0) || stdout.contains("HELD"),
        "{stdout}{stderr}"
    );
    assert_contains(&stdout, &["ledger       kind file"]);
    let (code, _, stderr) = rehearse(&["--source", "cellar"]);
    assert_eq!(code, Some(1));
    assert_contains(
        &stderr,
        &["no source 'cellar', its sources are: hall, attic, ledger"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sources_are_one_stock() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let sources = "combine = \"sum\"\n\
        [[shops.sources]]\nname = \"hall\"\nkind = \"file\"\npath = \"hall.csv\"\n\
        [[shops.sources]]\nname = \"attic\"\nkind = \"file\"\npath = \"attic.csv\"\n";
    let (text, variables) = configuration("http://127.0.0.1:9", &[TestShop::moscow().set(sources)]);
    write("stockbridge.toml", &text);
    write("hall.csv", "sku;quantity\nA;7\nC;1\n");
    write("attic.csv", "sku;quantity\nA;3\nF;1000\n");
    let file = directory.path().join("stockbridge.toml");
    let mut command = program();
    command
        .arg("rehearse")
        .arg("--config")
        .arg(&file)
        .envs(variables)
        .env_remove("RUST_LOG");
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_contains(
        &stdout,
        &["hall         kind file", "attic        kind file", "PASSED"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_contradictory_arguments() {
    let export = fixture("shop-export.csv");
    let export = export.to_str().unwrap();
    for words in [
        vec!["--from", export, "--faults"],
        vec!["--from", export, "--skus", "10"],
        vec!["--from-handler", "http://127.0.0.1:9"],
        vec!["--shop", "moscow"],
    ] {
        let (code, stdout, stderr) = rehearse(&words);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{words:?} {stderr}");
    }
    let (code, _, stderr) = rehearse(&["--set", "fraction=floor"]);
    assert_eq!(code, Some(1));
    assert_contains(&stderr, &["--from"]);
    let (code, _, stderr) = rehearse(&["--from", export, "--set", "colour=red"]);
    assert_eq!(code, Some(78), "{stderr}");
    assert_contains(&stderr, &["colour is unknown"]);
    let (code, _, stderr) = rehearse(&["--from", export, "--set", "fraction=maybe"]);
    assert_eq!(code, Some(78), "{stderr}");
    assert_contains(&stderr, &["it must be reject or floor"]);
}
