//! Two replicas of which one reads the sources: kills, pauses and losses of the lease at each step of
//! a delivery, after which the other one takes over.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sqlx::{Connection as _, PgConnection, Row as _};
use tempfile::TempDir;

use super::postgres_store::{execute, new_database};
use super::server::DatabaseServer;
use super::service_process::{Market, Service, ServiceConfig, wait_until};

/// Gives the leases back, as their owners would. The test need not wait for their end.
const HAND_OVER: &str = "UPDATE stockbridge.lease SET owner = '', until = now() \
                         WHERE name LIKE 'campaign%' OR name LIKE 'sources%'";

/// Small lists of the tests change completely.
const NO_GUARD: &str = "guard_rows = 0\nguard_zeros = 1";

/// Two replicas that see the same exports, and the source that one of them reads.
struct Takeover {
    server: DatabaseServer,
    url: String,
    _market: Market,
    services: [Option<Service>; 3],
    /// Two replicas, and a process that uses the database alone.
    configs: [ServiceConfig; 3],
    exports: TempDir,
    age: u64,
    last_date: serde_json::Value,
    pages: i64,
}

impl Takeover {
    async fn new(database: &str, guard: &str) -> Self {
        let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
        let url = new_database(&server, database).await;
        let exports = tempfile::tempdir().unwrap();
        let settings = ["replica = \"one\"", "replica = \"two\"", ""];
        let configs = settings.map(|settings| {
            let config = ServiceConfig::new(&market, &url, settings);
            let path = exports.path().join("stock.csv");
            config.add(&format!(
                "[[shops.sources]]\nname = \"file\"\nkind = \"file\"\npath = {path:?}\n\
                 scope = \"snapshot\"\nabsent = \"zero\"\nevery_seconds = 1\n{guard}\n"
            ));
            config
        });
        Self {
            configs,
            server,
            _market: market,
            url,
            services: [None, None, None],
            exports,
            // Each file is newer than the one before, and old enough to be complete.
            age: 3_600,
            last_date: serde_json::Value::Null,
            pages: 0,
        }
    }

    /// Starts a replica. The first one gets the leases.
    fn start(&mut self, index: usize) {
        self.services[index] = Some(self.configs[index].serve());
    }

    async fn start_both(&mut self) {
        self.start(0);
        self.wait_for_leader(0).await;
        self.start(1);
    }

    fn service(&self, index: usize) -> &Service {
        self.services[index].as_ref().unwrap()
    }

    /// Writes the complete list of the source.
    fn export(&mut self, stock: &[(&str, u32)]) {
        let rows = stock.iter().map(|(sku, count)| format!("{sku};{count}\n"));
        let text: String = ["Артикул;Остаток\n".to_owned()]
            .into_iter()
            .chain(rows)
            .collect();
        let path = self.exports.path().join("new");
        std::fs::write(&path, text).unwrap();
        self.age -= 60;
        let changed = SystemTime::now() - Duration::from_secs(self.age);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(changed).unwrap();
        std::fs::rename(path, self.exports.path().join("stock.csv")).unwrap();
    }

    fn sources_on(&self, index: usize) -> Option<String> {
        let (_, status) = self.service(index).ops("GET", "/status");
        status["shops"][0]["sources_on"]
            .as_str()
            .map(ToOwned::to_owned)
    }

    async fn wait_for_leader(&self, index: usize) {
        let name = ["one", "two"][index];
        wait_until("the replica reads the sources", async || {
            self.sources_on(index).as_deref() == Some(name)
        })
        .await;
    }

    async fn wait_for_stock(&self, index: usize, stock: &[(&str, u64)]) {
        let (skus, counts): (Vec<&str>, Vec<u64>) = stock.iter().copied().unzip();
        wait_until("the replica has the stock", async || {
            self.service(index).counts(&skus).as_ref() == Ok(&counts)
        })
        .await;
    }

    /// Kills a replica and gives its leases back.
    async fn kill(&mut self, index: usize) {
        self.services[index].take().unwrap().kill();
        let name = ["replica one", "replica two", "service"][index];
        let delete = format!("DELETE FROM stockbridge.lease WHERE name = '{name}'");
        execute(&self.url, &delete).await;
        execute(&self.url, HAND_OVER).await;
    }

    async fn generation(&self) -> i64 {
        self.number("SELECT coalesce(sum(generation), 0)::bigint FROM stockbridge.statement_file")
            .await
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query(sql).fetch_one(&mut conn).await.unwrap().get(0)
    }

    /// Blocks every append of stock until the connection is closed.
    async fn block_stock(&self) -> PgConnection {
        self.lock("SELECT id FROM stockbridge.shop FOR UPDATE")
            .await
    }

    /// Blocks every write of the image until the connection is closed.
    async fn block_images(&self) -> PgConnection {
        self.lock("LOCK TABLE stockbridge.statement_file IN SHARE MODE")
            .await
    }

    async fn lock(&self, sql: &'static str) -> PgConnection {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        for statement in ["BEGIN", sql] {
            sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
        }
        conn
    }

    async fn wait_for_blocked(&self) {
        wait_until("a transaction waits for the lock", async || {
            self.number(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND query NOT LIKE '%lease%'",
            )
            .await
                > 0
        })
        .await;
    }

    /// Waits for the next delivery that changes so many SKUs. Returns the pages that were stored.
    #[expect(clippy::print_stdout, reason = "the figures are read by people")]
    async fn delivery(&mut self, changed: u64, what: &str) -> i64 {
        let mut report = serde_json::Value::Null;
        wait_until("the delivery was applied", async || {
            let (_, sources) = self.service(0).ops("GET", "/sources");
            let sources = sources.as_array().cloned().unwrap_or_default();
            let file = sources
                .into_iter()
                .find(|source| source["source"] == "file");
            report = file.map_or(serde_json::Value::Null, |file| file["last"].clone());
            let count = |key: &str| report[key].as_u64().unwrap_or_default();
            report.is_object()
                && report["stated_at"] != self.last_date
                && count("new") + count("changed") == changed
        })
        .await;
        self.last_date = report["stated_at"].clone();
        // The delivery is noted as applied a little later.
        let (mut before, mut calm) = (-1, 0);
        wait_until("everything is stored", async || {
            let pages = self.number("SELECT last_value FROM written_pages").await;
            calm = if pages == before { calm + 1 } else { 0 };
            before = pages;
            calm >= 10
        })
        .await;
        let pages = before - std::mem::replace(&mut self.pages, before);
        println!("{what}: {pages} pages, {} ms", report["took_ms"]);
        pages
    }

    /// Counts the pages that are written from now on. The server's own statistics are late.
    async fn count_pages(&self) {
        let counter = "CREATE SEQUENCE written_pages MINVALUE 0 START 0; \
                       SELECT nextval('written_pages'); \
                       CREATE FUNCTION count_page() RETURNS trigger LANGUAGE plpgsql AS \
                       'BEGIN PERFORM nextval(''public.written_pages''); RETURN NULL; END'; \
                       CREATE TRIGGER counted AFTER INSERT OR UPDATE ON stockbridge.statement_page \
                       FOR EACH ROW EXECUTE FUNCTION public.count_page();";
        execute(&self.url, counter).await;
    }

    fn statements(&self, index: usize) -> PathBuf {
        self.configs[index].in_store("sources/moscow/stated.db")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_reads_after_a_kill() {
    let mut takeover = Takeover::new("killed", NO_GUARD).await;
    takeover.export(&[("A", 5), ("B", 5), ("C", 5)]);
    takeover.start_both().await;
    takeover
        .wait_for_stock(1, &[("A", 5), ("B", 5), ("C", 5)])
        .await;
    assert_eq!(takeover.sources_on(1).as_deref(), Some("one"));
    assert!(
        !takeover.statements(1).exists(),
        "only the leader has statements"
    );
    let (status, body) = takeover.service(1).ops("POST", "/import?shop=moscow");
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &"SOURCES_ELSEWHERE".into())
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("replica one"), "{message}");
    assert_eq!(takeover.service(1).ops("GET", "/sources").0, 503);
    for form in [
        "/sources/moscow/file/read",
        "/shops/moscow/sources/file/read",
        "/sources/moscow/file/held?delivery=1",
    ] {
        let (status, page) = takeover.service(1).form(form);
        assert!(
            status == 503 && page.contains("Replica one reads the sources of moscow"),
            "{form}: {status} {page}"
        );
    }
    let (status, text) = takeover
        .service(1)
        .request("GET", "/1c?type=catalog&mode=checkauth");
    assert!(
        status == 503 && text.contains("replica one receives 1C"),
        "{text}"
    );
    // What the leader has read is known to the next one: a SKU that the list no longer has is zero.
    takeover.kill(0).await;
    takeover.export(&[("A", 4), ("C", 5)]);
    takeover.wait_for_leader(1).await;
    takeover
        .wait_for_stock(1, &[("A", 4), ("B", 0), ("C", 5)])
        .await;
    assert_eq!(
        takeover
            .service(1)
            .request("GET", "/1c?type=catalog&mode=checkauth")
            .0,
        401
    );
    // The first one comes back with old files, which the next takeover replaces.
    takeover.start(0);
    takeover
        .wait_for_stock(0, &[("A", 4), ("B", 0), ("C", 5)])
        .await;
    takeover.kill(1).await;
    takeover.export(&[("A", 4), ("B", 7)]);
    takeover.wait_for_leader(0).await;
    takeover
        .wait_for_stock(0, &[("A", 4), ("B", 7), ("C", 0)])
        .await;
    let log = takeover.service(0).log();
    assert!(log.contains("took stated.db of moscow over"), "{log}");
    // An ordered stop gives the lease back.
    takeover.start(1);
    takeover.service(0).signal("-TERM");
    takeover.services[0].take().unwrap().wait_for_exit().await;
    takeover.wait_for_leader(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_survives_a_kill_at_each_step() {
    let mut takeover = Takeover::new("steps", NO_GUARD).await;
    takeover.export(&[("A", 1), ("B", 1)]);
    takeover.start_both().await;
    takeover.wait_for_stock(0, &[("A", 1), ("B", 1)]).await;
    // Committed and stored, but not applied: the next leader applies it, although it cannot read the
    // list any more.
    let (generation, blocked) = (takeover.generation().await, takeover.block_stock().await);
    takeover.export(&[("A", 2)]);
    wait_until("the delivery is stored", async || {
        takeover.generation().await > generation
    })
    .await;
    takeover.wait_for_blocked().await;
    std::fs::remove_file(takeover.exports.path().join("stock.csv")).unwrap();
    assert_eq!(takeover.service(1).counts(&["A", "B"]), Ok(vec![1, 1]));
    takeover.kill(0).await;
    drop(blocked);
    takeover.wait_for_stock(1, &[("A", 2), ("B", 0)]).await;
    // Committed locally, but not stored: the next leader reads the list again.
    takeover.start(0);
    let (generation, blocked) = (takeover.generation().await, takeover.block_images().await);
    takeover.export(&[("B", 3)]);
    takeover.wait_for_blocked().await;
    assert_eq!(takeover.service(0).counts(&["A", "B"]), Ok(vec![2, 0]));
    takeover.kill(1).await;
    drop(blocked);
    takeover.wait_for_stock(0, &[("A", 0), ("B", 3)]).await;
    assert!(takeover.generation().await > generation);
    // The killed one has a delivery that only its own file has. It is dropped when it leads again.
    takeover.start(1);
    takeover.export(&[("A", 9), ("B", 3)]);
    takeover.wait_for_stock(1, &[("A", 9), ("B", 3)]).await;
    takeover.kill(0).await;
    takeover.wait_for_leader(1).await;
    takeover.wait_for_stock(1, &[("A", 9), ("B", 3)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_leader_applies_nothing_after_its_lease() {
    let mut takeover = Takeover::new("stopped", NO_GUARD).await;
    takeover.export(&[("A", 5), ("B", 5)]);
    takeover.start_both().await;
    takeover.wait_for_stock(1, &[("A", 5), ("B", 5)]).await;
    // Once before the statements are stored, and once while the stock is appended.
    for (round, blocks_images) in [(0_u32, true), (1, false)] {
        let leader = round as usize % 2;
        let other = 1 - leader;
        let old = [("A", 6 + 10 * round), ("B", 6 + 10 * round)];
        let new = [("A", 7 + 10 * round)];
        let blocked = if blocks_images {
            takeover.block_images().await
        } else {
            takeover.block_stock().await
        };
        takeover.export(&old);
        takeover.wait_for_blocked().await;
        // Its own clock says that the lease lasts. Only the database knows better.
        takeover.service(leader).signal("-STOP");
        execute(&takeover.url, HAND_OVER).await;
        takeover.export(&new);
        drop(blocked);
        takeover.wait_for_leader(other).await;
        let expected = [("A", u64::from(7 + 10 * round)), ("B", 0)];
        takeover.wait_for_stock(other, &expected).await;
        takeover.service(leader).signal("-CONT");
        wait_until("the old leader has stepped down", async || {
            assert_eq!(
                takeover.service(other).counts(&["A", "B"]),
                Ok(vec![expected[0].1, 0])
            );
            takeover.sources_on(leader).as_deref() == Some(["one", "two"][other])
        })
        .await;
        takeover.wait_for_stock(leader, &expected).await;
        assert!(!takeover.service(leader).has_alarm("source_failed"));
        assert!(!takeover.service(other).has_alarm("source_failed"));
    }
}

/// After a failover to a standby that was behind, the database has older pages than the leader knows.
#[tokio::test(flavor = "multi_thread")]
async fn image_that_a_failover_has_lost_is_stored_again() {
    let mut takeover = Takeover::new("lost_image", NO_GUARD).await;
    // Several pages, of which each list changes some.
    let names: Vec<String> = (0..2_000).map(|n| format!("ART-{n:07}-X")).collect();
    let list = |of_first: u32, of_last: u32| -> Vec<(&str, u32)> {
        let count = |n| match n {
            0..100 => of_first,
            1_900.. => of_last,
            _ => 5,
        };
        let all = names.iter().enumerate();
        all.map(|(n, name)| (&**name, count(n))).collect()
    };
    takeover.export(&list(5, 5));
    takeover.start_both().await;
    let (first, last) = (&*names[0], &*names[1_999]);
    takeover.wait_for_stock(1, &[(first, 5), (last, 5)]).await;
    takeover.server.stop();
    takeover.server.keep_data();
    takeover.server.start();
    let mut lost = list(6, 5);
    lost.push(("NEW", 6));
    takeover.export(&lost);
    takeover
        .wait_for_stock(1, &[(first, 6), (last, 5), ("NEW", 6)])
        .await;
    takeover.server.stop();
    takeover.server.go_back_to_kept_data();
    takeover.server.start();
    wait_until("the lost changes are appended again", async || {
        takeover.service(1).has_alarm("database_lost_changes")
            || takeover.service(0).has_alarm("database_lost_changes")
    })
    .await;
    let mut next = list(6, 7);
    next.push(("NEW", 6));
    takeover.export(&next);
    takeover
        .wait_for_stock(1, &[(first, 6), (last, 7), ("NEW", 6)])
        .await;
    takeover.kill(0).await;
    takeover.export(&list(5, 5));
    takeover.wait_for_leader(1).await;
    takeover
        .wait_for_stock(1, &[(first, 5), (last, 5), ("NEW", 0)])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_delivery_moves_to_the_next_leader() {
    let mut takeover = Takeover::new("held", "").await;
    let many: Vec<(String, u32)> = (0..200).map(|n| (format!("S-{n}"), 5)).collect();
    let many: Vec<(&str, u32)> = many.iter().map(|(sku, count)| (&**sku, *count)).collect();
    takeover.export(&many);
    takeover.start_both().await;
    takeover
        .wait_for_stock(1, &[("S-0", 5), ("S-199", 5)])
        .await;
    // Most rows are missing, so the delivery is held.
    takeover.export(&many[..20]);
    wait_until("the delivery is held", async || {
        takeover.service(0).has_alarm("source_held")
    })
    .await;
    assert!(!takeover.service(1).has_alarm("source_held"));
    std::fs::remove_file(takeover.exports.path().join("stock.csv")).unwrap();
    takeover.kill(0).await;
    wait_until("the new leader knows of it", async || {
        takeover.service(1).has_alarm("source_held")
    })
    .await;
    takeover.wait_for_leader(1).await;
    let (status, body) = takeover
        .service(1)
        .ops("POST", "/accept?shop=moscow&source=file");
    assert_eq!(status, 200, "{body}");
    takeover
        .wait_for_stock(1, &[("S-0", 5), ("S-199", 0)])
        .await;
    let held = "SELECT count(*) FROM stockbridge.statement_file WHERE name LIKE 'held-%'";
    wait_until("the image has no held delivery", async || {
        takeover.number(held).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process_without_name_takes_the_image_with_it() {
    let mut takeover = Takeover::new("alone", NO_GUARD).await;
    takeover.export(&[("A", 5), ("B", 5)]);
    takeover.start_both().await;
    takeover.wait_for_stock(1, &[("A", 5), ("B", 5)]).await;
    takeover.kill(0).await;
    takeover.kill(1).await;
    takeover.export(&[("A", 4)]);
    takeover.start(2);
    takeover.wait_for_stock(2, &[("A", 4), ("B", 0)]).await;
    assert_eq!(takeover.generation().await, 0);
    assert_eq!(takeover.sources_on(2), None);
    assert!(takeover.statements(2).exists());
    // Replicas do not know what it has read.
    takeover.kill(2).await;
    takeover.start(1);
    wait_until("it says what is missing", async || {
        takeover.service(1).has_alarm("sources_unread")
    })
    .await;
    assert_eq!(takeover.service(1).counts(&["A", "B"]), Ok(vec![4, 0]));
}

/// Pages that a delivery stores, and how long it takes. With `SOURCE_IMAGE_SKUS=1000000` and
/// `--nocapture` it prints the figures of docs/replicas.md.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures are read by people")]
async fn small_changes_store_few_pages() {
    #[expect(clippy::disallowed_methods, reason = "the test has no configuration")]
    let skus = std::env::var("SOURCE_IMAGE_SKUS").map_or(5_000, |skus| skus.parse().unwrap());
    let mut takeover = Takeover::new("costs", NO_GUARD).await;
    let names: Vec<String> = (0..skus).map(|n| format!("ART-{n:07}-X")).collect();
    let list = |count: &dyn Fn(usize) -> u32| -> Vec<(&str, u32)> {
        names
            .iter()
            .enumerate()
            .map(|(n, name)| (&**name, count(n)))
            .collect()
    };
    let all = skus as u64;
    takeover.start(0);
    takeover.count_pages().await;
    takeover.export(&list(&|_| 5));
    let first = takeover.delivery(all, "first list").await;
    takeover.export(&list(&|_| 5));
    let unchanged = takeover.delivery(0, "unchanged list").await;
    // The first SKUs stay as they are from here on.
    let first_part = |n: usize| if n < skus / 100 { 6 } else { 5 };
    takeover.export(&list(&first_part));
    let neighbours = takeover
        .delivery(all / 100, "1 % side by side changed")
        .await;
    let is_spread = |n: usize| n % 100 == 50 && n >= skus / 100;
    let spread = |n: usize| if is_spread(n) { 7 } else { first_part(n) };
    takeover.export(&list(&spread));
    let changed = (0..skus).filter(|n| is_spread(*n)).count() as u64;
    takeover
        .delivery(changed, "1 % spread over the list changed")
        .await;
    takeover.export(&list(&|n| if n == 7 { 8 } else { spread(n) }));
    let one = takeover.delivery(1, "one SKU changed").await;
    assert!(unchanged <= 8 && one <= 12, "{unchanged}, {one} pages");
    assert!(neighbours * 3 < first, "{neighbours} of {first} pages");
    let started = tokio::time::Instant::now();
    takeover.kill(0).await;
    let stopped = tokio::time::Instant::now();
    takeover.start(1);
    takeover.wait_for_leader(1).await;
    let (all, start) = (started.elapsed(), stopped.elapsed());
    println!("{skus} SKUs: takeover by a new process in {all:?}, its start included in {start:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_changes_do_not_stop_the_first_reading() {
    let mut takeover = Takeover::new("first", NO_GUARD).await;
    takeover.export(&[("A", 5)]);
    // While no replica reads the sources, the Market requests stock and a program updates some.
    takeover.configs[0].prepend("sources_on = \"two\"\n");
    takeover.start(0);
    assert_eq!(takeover.service(0).counts(&["A"]), Err(503));
    assert_eq!(takeover.service(0).put(&[("B", 2)]), 200);
    takeover.start(1);
    takeover.wait_for_stock(1, &[("A", 5), ("B", 2)]).await;
    takeover.wait_for_stock(0, &[("A", 5), ("B", 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_named_replica_brings_old_statements() {
    let mut takeover = Takeover::new("seeds", NO_GUARD).await;
    takeover.export(&[("A", 5), ("B", 5)]);
    takeover.start(0);
    takeover.wait_for_stock(0, &[("A", 5), ("B", 5)]).await;
    takeover.kill(0).await;
    // As after an upgrade from a release without images: the statements are on the disk of one.
    for table in ["statement_file", "statement_page"] {
        execute(&takeover.url, &format!("DELETE FROM stockbridge.{table}")).await;
    }
    let upgraded = "UPDATE stockbridge.shop SET directory_statements = true";
    execute(&takeover.url, upgraded).await;
    takeover.export(&[("A", 4)]);
    takeover.start(1);
    wait_until("it says what is missing", async || {
        takeover.service(1).has_alarm("sources_unread")
    })
    .await;
    assert_eq!(takeover.service(1).counts(&["A", "B"]), Ok(vec![5, 5]));
    assert_eq!(takeover.generation().await, 0);
    let (_, status) = takeover.service(1).ops("GET", "/status");
    let text = status["alarms"].to_string();
    assert!(text.contains("set sources_on on all replicas"), "{text}");
    // The one that has them is named.
    takeover.kill(1).await;
    for config in &takeover.configs {
        config.prepend("sources_on = \"one\"\n");
    }
    takeover.start(0);
    takeover.wait_for_stock(0, &[("A", 4), ("B", 0)]).await;
    takeover.start(1);
    wait_until("the other one knows who reads", async || {
        takeover.sources_on(1).as_deref() == Some("one")
    })
    .await;
    assert!(!takeover.service(1).has_alarm("sources_unread"));
}
