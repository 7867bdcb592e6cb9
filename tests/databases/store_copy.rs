//! `store copy` between directories and databases: content, refusals, and `kill -9`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use stockbridge::store::{
    CopyError, CopyReport, RecentSend, StoreError, StorePlace, StoreUrl, copy_store,
    reclaim_copied_store,
};
use tempfile::TempDir;
use tokio::time::sleep;

use super::postgres_store::{database_subject, execute, new_database};
use super::server::DatabaseServer;
use super::service_process::{Market, ServiceConfig};
use super::store_suite::samples::{rows, shops};
use super::store_suite::test_store::{SHOP_A, SHOP_B, StoredState, Subject};
use super::store_suite::{self};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_796_000_000, 0).unwrap()
}

fn directory_subject() -> Subject {
    Subject {
        directory: tempfile::tempdir().unwrap(),
        database: None,
    }
}

fn place(subject: &Subject) -> StorePlace {
    match &subject.database {
        Some(url) => StorePlace::Database(StoreUrl::parse(url).unwrap()),
        None => StorePlace::Directory(subject.directory.path().to_owned()),
    }
}

async fn copy(from: &Subject, to: &Subject) -> Result<CopyReport, CopyError> {
    copy_store(&place(from), &place(to), false, now()).await
}

/// Returns a change of the store that no configuration names any more.
async fn add_what_is_beside_the_log(subject: &Subject) {
    let test_store = subject.open_with(&shops(["a", "b", "old"])).await;
    let store = &test_store.store;
    let old = stock::ShopId(2);
    test_store.append_stock(old, &rows(0..20, 5)).await;
    for (shop, name, text) in [
        (None, "instance", "moscow-1"),
        (Some(SHOP_B), "hidden:557722", "since ten"),
        (Some(old), "hidden:557722", "since eleven"),
    ] {
        store.put_note(shop, name, Some(text)).await.unwrap();
    }
    for skus in [3, 4] {
        let send = RecentSend { at: now(), skus };
        store.record_send(SHOP_A, send).await.unwrap();
    }
    store.close().await.unwrap();
}

/// Everything that a service gets from a store with all its shops.
async fn everything(subject: &Subject) -> (StoredState, Vec<String>) {
    let opened = subject.try_open(&shops(["a", "b", "old"])).await.unwrap();
    let hidden = [None, Some(SHOP_B), Some(stock::ShopId(2))].map(|shop| {
        let notes = [
            opened.notes.get(shop, "instance"),
            opened.notes.get(shop, "hidden:557722"),
        ];
        format!("{notes:?}")
    });
    let sends = format!("{:?}", opened.recent_sends);
    let test_store = store_suite::test_store::SuiteStore::new(opened);
    let contents = test_store.contents();
    test_store.store.close().await.unwrap();
    (contents, hidden.into_iter().chain([sends]).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_equal_both_ways() {
    let server = DatabaseServer::postgresql();
    let first = directory_subject();
    store_suite::checks::random_steps_equal_the_model(&first).await;
    add_what_is_beside_the_log(&first).await;
    let known = everything(&first).await;
    assert!(
        known.0.stock.len() > 60 && known.1[0].contains("moscow-1"),
        "{:?}",
        known.1
    );
    let mut from = first;
    for to in [
        database_subject(new_database(&server, "copy_one").await),
        database_subject(new_database(&server, "copy_two").await),
        directory_subject(),
        directory_subject(),
    ] {
        let report = copy(&from, &to).await.unwrap();
        assert!(report.is_equal(), "{report:?}");
        let skus: Vec<usize> = report.copy.shops.iter().map(|shop| shop.skus).collect();
        let of_shop = |number| {
            known
                .0
                .stock
                .keys()
                .filter(|(shop, _)| *shop == number)
                .count()
        };
        assert_eq!(skus, [0, 1, 2].map(of_shop));
        assert_eq!(report.copy.instance.as_deref(), Some("moscow-1"));
        assert_eq!(everything(&to).await, known);
        // The next copy also has a log after the snapshot, and a snapshot of its own.
        let test_store = to.open().await;
        test_store.compact().await.unwrap();
        test_store.store.close().await.unwrap();
        assert_refused(&from).await;
        from = to;
    }
}

async fn assert_refused(subject: &Subject) {
    let error = subject
        .try_open(&shops(["a", "b"]))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, StoreError::CopiedAway { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_replaces_nothing_and_is_made_once() {
    let server = DatabaseServer::postgresql();
    let (from, to) = (
        directory_subject(),
        database_subject(new_database(&server, "once").await),
    );
    let error = copy(&from, &to).await.unwrap_err();
    assert!(matches!(error, CopyError::NothingToCopy(_)), "{error}");
    let test_store = from.open().await;
    test_store.fill().await;
    let error = copy(&from, &to).await.unwrap_err();
    assert!(
        error.to_string().contains("is in use by process"),
        "{error}"
    );
    test_store.store.close().await.unwrap();
    // A target with content stays as it is.
    let other = to.open().await;
    other.append_stock(SHOP_A, &rows(0..3, 1)).await;
    other.store.close().await.unwrap();
    let error = copy(&from, &to).await.unwrap_err();
    assert!(matches!(error, CopyError::NotEmpty { .. }), "{error}");
    assert_eq!(to.contents().await.stock.len(), 3);
    let full = directory_subject();
    let other = full.open().await;
    other.append_stock(SHOP_A, &rows(0..4, 1)).await;
    other.store.close().await.unwrap();
    let error = copy(&from, &full).await.unwrap_err();
    assert!(matches!(error, CopyError::NotEmpty { .. }), "{error}");
    assert_eq!(full.contents().await.stock.len(), 4);
    let error = copy(&from, &from).await.unwrap_err();
    assert!(matches!(error, CopyError::SamePlace(_)), "{error}");
    // Nothing has marked the source yet.
    let known = from.contents().await;
    let to = database_subject(new_database(&server, "once_more").await);
    assert!(copy(&from, &to).await.unwrap().is_equal());
    let next = directory_subject();
    let error = copy(&from, &next).await.unwrap_err();
    assert!(
        error.to_string().contains("was copied to postgres://"),
        "{error}"
    );
    let copying = copy_store(&place(&from), &place(&next), true, now()).await;
    assert!(copying.unwrap().is_equal());
    assert_eq!(next.contents().await, known);
    // A source that is taken back can be used again.
    assert_refused(&from).await;
    reclaim_copied_store(&from.config()).await.unwrap();
    assert_eq!(from.contents().await, known);
    assert!(copy(&to, &directory_subject()).await.unwrap().is_equal());
    assert_refused(&to).await;
    reclaim_copied_store(&to.config()).await.unwrap();
    assert_eq!(to.contents().await, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_of_a_service_is_not_copied() {
    let server = DatabaseServer::postgresql();
    let market = Market::start().await;
    let url = new_database(&server, "serving").await;
    let config = ServiceConfig::new(&market, &url, "");
    let service = config.serve();
    assert_eq!(service.put(&[("A", 5)]), 200);
    let (from, to) = (database_subject(url.clone()), directory_subject());
    let error = copy(&from, &to).await.unwrap_err();
    assert!(
        error.to_string().contains("is in use by service/"),
        "{error}"
    );
    assert_eq!(service.put(&[("A", 6)]), 200);
    assert!(!to.directory.path().join("stock.db").exists());
    drop(service);
    execute(&url, "DELETE FROM stockbridge.lease").await;
    // A service that waits for the end of the copy does not begin on what was copied.
    let lease = "INSERT INTO stockbridge.lease VALUES ('service', 'store copy/1', 1, \
                 now() + interval '1 hour')";
    execute(&url, lease).await;
    let mut waiting = config.command().stderr(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(waiting.stderr.take().unwrap()));
    let mut lines = lines.map_while(Result::ok);
    let waits = tokio::task::block_in_place(|| {
        lines.find(|line| line.contains("the database is in use by store copy/1"))
    });
    assert!(waits.is_some());
    let copied = "INSERT INTO stockbridge.note VALUES (0, 'copied_to', '/data at noon', 0); \
                  DELETE FROM stockbridge.lease";
    execute(&url, copied).await;
    let log: Vec<String> = tokio::task::block_in_place(|| lines.collect());
    let status = tokio::task::block_in_place(|| waiting.wait()).unwrap();
    assert_eq!(status.code(), Some(1), "{log:?}");
    // The test does not know the checksum of a note.
    assert!(
        log.iter()
            .any(|line| line.contains("checksum mismatch in a note")),
        "{log:?}"
    );
}

/// Files of the command line of one copy.
struct CommandLine {
    directory: TempDir,
}

impl CommandLine {
    fn new(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("store_url"), url).unwrap();
        Self { directory }
    }

    fn url_file(&self) -> PathBuf {
        self.directory.path().join("store_url")
    }

    fn command(from: &Path, to: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockbridge"));
        command.args(["store", "copy"]).arg(from).arg(to);
        command
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn command_prints_what_was_copied() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "command").await;
    let (from, files) = (directory_subject(), CommandLine::new(&url));
    let test_store = from.open().await;
    test_store.fill().await;
    test_store.store.close().await.unwrap();
    let known = from.contents().await;
    let run = |from: &Path, to: &Path| {
        let mut command = CommandLine::command(from, to);
        tokio::task::block_in_place(|| command.output().unwrap())
    };
    let output = run(from.directory.path(), &files.url_file());
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let row = printed.lines().find(|line| line.starts_with("a ")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        (words[1], words[2], words[3], words[5]),
        ("350", "100", "1", "equal"),
        "{row}"
    );
    assert!(printed.contains("set store_url_file"), "{printed}");
    assert!(!printed.contains("reader@"), "{printed}");
    let output = run(from.directory.path(), Path::new("postgres://a:secret@db/x"));
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("name the file") && !printed.contains("secret"),
        "{printed}"
    );
    let back = files.directory.path().join("back");
    let output = run(&files.url_file(), &back);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let back = Subject {
        directory: files.directory,
        database: None,
    };
    let config = stockbridge::store::Config {
        path: back.directory.path().join("back"),
        url: None,
    };
    let opened = stockbridge::store::Store::open(&config, &shops(["a", "b"]))
        .await
        .unwrap();
    assert_eq!(
        store_suite::test_store::SuiteStore::new(opened).contents(),
        known
    );
}

/// Kills the copy at ever later moments. A service can use at most one of both ends at any time.
#[tokio::test(flavor = "multi_thread")]
async fn killed_copy_leaves_one_usable_store() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "killed").await;
    let (from, to) = (directory_subject(), database_subject(url.clone()));
    let test_store = from.open().await;
    test_store.append_stock(SHOP_A, &rows(0..10_000, 1)).await;
    test_store.fill().await;
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    let back = directory_subject();
    for (from, to) in [(&from, &to), (&to, &back)] {
        let kills = kill_at_ever_later_moments(from, to, &url).await;
        assert!(kills > 3);
        assert_refused(from).await;
        assert_eq!(to.contents().await, known);
    }
}

async fn kill_at_ever_later_moments(from: &Subject, to: &Subject, url: &str) -> usize {
    let files = CommandLine::new(url);
    let argument = |subject: &Subject| match subject.database {
        Some(_) => files.url_file(),
        None => subject.directory.path().to_owned(),
    };
    // The last lifetime is far longer than a copy takes.
    for kills in 0_i32..24 {
        let mut command = CommandLine::command(&argument(from), &argument(to));
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lifetime = Duration::from_millis(10).mul_f64(1.4_f64.powi(kills));
        sleep(lifetime).await;
        child.kill().unwrap();
        let output = tokio::task::block_in_place(|| child.wait_with_output().unwrap());
        // The lease of the killed process would last some seconds.
        execute(
            url,
            "DO $$ BEGIN DELETE FROM stockbridge.lease; EXCEPTION WHEN undefined_table \
             OR invalid_schema_name THEN END $$",
        )
        .await;
        let usable = [is_usable(from).await, is_usable(to).await];
        assert_ne!(usable, [true, true], "after {lifetime:?}");
        if usable == [false, true] {
            return usize::try_from(kills).unwrap();
        }
        // Else the kill came before the end, and the next copy replaces this one.
        assert!(!output.status.success(), "{}", text(&output));
    }
    panic!("the copy does not end")
}

/// Returns true if a service with stock can start. Changes nothing in an empty place.
async fn is_usable(subject: &Subject) -> bool {
    let at = subject.directory.path().join("stock.db");
    if subject.database.is_none() && !at.exists() {
        return false;
    }
    // Without shops none is registered.
    match subject.try_open(&[]).await {
        Ok(opened) => {
            opened.store.close().await.unwrap();
            !opened.absent_shops.is_empty()
        }
        Err(StoreError::CopiedAway { .. } | StoreError::UnfinishedCopy { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}
