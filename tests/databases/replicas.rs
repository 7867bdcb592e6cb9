//! Two replicas on one database: reads after writes, one sender, faults of processes and database.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::postgres_store::{execute, new_database};
use super::server::DatabaseServer;
use super::service_process::{CAMPAIGN, Market, Service, ServiceConfig, wait_until};

/// Gives the lease for the Market back, as its owner would. The test need not wait for its end.
pub(crate) const HAND_OVER: &str = "UPDATE stockbridge.lease SET owner = '', until = now() \
                         WHERE name LIKE 'campaign%'";

/// Time in which a request would reach the Market: a send takes some milliseconds.
const NOTHING_SENT: Duration = Duration::from_secs(2);

/// Time between two looks at the Market.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Two replicas and what they share.
struct Replicas {
    server: DatabaseServer,
    url: String,
    market: Market,
    one: Service,
    two: Service,
    configs: [ServiceConfig; 2],
}

impl Replicas {
    async fn start(database: &str) -> Self {
        let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
        let url = new_database(&server, database).await;
        let config = |name: &str| {
            let settings = format!("replica = {name:?}\nsources_on = \"one\"");
            ServiceConfig::new(&market, &url, &settings)
        };
        let configs = [config("one"), config("two")];
        let (one, two) = (configs[0].serve(), configs[1].serve());
        Self {
            server,
            url,
            market,
            one,
            two,
            configs,
        }
    }

    async fn wait_for_market(&self, stock: &[(&str, u32)]) {
        let skus: Vec<&str> = stock.iter().map(|(sku, _)| *sku).collect();
        let counts: Vec<Option<u32>> = stock.iter().map(|(_, count)| Some(*count)).collect();
        wait_until("the Market has the stock", async || {
            self.market.counts(&skus) == counts
        })
        .await;
    }

    /// Requires that nothing reaches the Market in the time of several sends.
    async fn market_stays(&self, stock: &[(&str, u32)]) {
        let updates = || self.market.simulator.report().updates;
        let before = updates();
        let end = Instant::now() + NOTHING_SENT;
        while Instant::now() < end {
            for (sku, count) in stock {
                assert_eq!(self.market.counts(&[sku]), [Some(*count)], "{sku}");
            }
            assert_eq!(updates(), before, "requests to the Market");
            sleep(POLL_INTERVAL).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_answers_what_any_of_them_acknowledged() {
    let replicas = Replicas::start("answers").await;
    let (one, two) = (&replicas.one, &replicas.two);
    for n in 0..30 {
        let (writer, reader) = if n % 2 == 0 { (one, two) } else { (two, one) };
        assert_eq!(writer.put(&[("A", n), ("B", 1)]), 200);
        assert_eq!(reader.counts(&["A", "B"]), Ok(vec![n.into(), 1]), "{n}");
    }
    // Both write the same SKU. The last one wins everywhere.
    for n in 100..110 {
        let other = 1000 + n;
        let writes = [(one, n), (two, other)];
        std::thread::scope(|scope| {
            for (service, count) in writes {
                scope.spawn(move || assert_eq!(service.put_blocking(&[("A", count)]), 200));
            }
        });
        let answers = (one.counts(&["A"]), two.counts(&["A"]));
        assert_eq!(answers.0, answers.1);
        let answer = answers.0.unwrap();
        let possible = [n, other].map(|count| vec![u64::from(count)]);
        assert!(possible.contains(&answer), "{answer:?}");
    }
    // A stopped replica neither delays the others for long nor answers with old stock, and it does not
    // store what has arrived meanwhile, which is older than what others have acknowledged.
    two.signal("-STOP");
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| two.put_blocking(&[("A", 9)]));
        let started = Instant::now();
        assert_eq!(one.put_blocking(&[("A", 5)]), 200);
        assert!(started.elapsed() < Duration::from_secs(10));
        two.signal("-CONT");
        late.join().unwrap()
    });
    assert_eq!(late, 503);
    wait_until("the replica follows again", async || {
        match two.counts(&["A"]) {
            Ok(counts) => {
                assert_eq!(counts, [5]);
                true
            }
            Err(status) => {
                assert_eq!(status, 503);
                false
            }
        }
    })
    .await;
    // An update that changes nothing is compared with what the other has acknowledged.
    assert_eq!(two.put(&[("A", 6)]), 200);
    assert_eq!(one.put(&[("A", 5)]), 200);
    assert_eq!(two.counts(&["A"]), Ok(vec![5]));
    replicas.wait_for_market(&[("A", 5), ("B", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_sends_and_another_takes_over() {
    let mut replicas = Replicas::start("sends").await;
    assert_eq!(replicas.two.put(&[("A", 1)]), 200);
    replicas.wait_for_market(&[("A", 1)]).await;
    let leads = [replicas.one.sends(), replicas.two.sends()];
    assert_eq!(leads, [true, false], "the first one was started first");
    // Pauses work on any replica.
    assert_eq!(replicas.two.ops("POST", "/pause").0, 200);
    assert_eq!(replicas.one.put(&[("A", 2)]), 200);
    wait_until("the leader knows of the pause", async || {
        let (_, status) = replicas.one.ops("GET", "/status");
        status["shops"][0]["migrator"]["paused_since"].is_string()
    })
    .await;
    replicas.market_stays(&[("A", 1)]).await;
    assert_eq!(replicas.two.ops("POST", "/resume").0, 200);
    replicas.wait_for_market(&[("A", 2)]).await;
    // The leader does not know yet that another one leads: its sends are refused.
    replicas.two.signal("-STOP");
    execute(&replicas.url, HAND_OVER).await;
    let taken = "UPDATE stockbridge.lease SET owner = 'three/1', epoch = epoch + 1, \
                 until = now() + interval '1 hour' WHERE name LIKE 'campaign%'";
    execute(&replicas.url, taken).await;
    replicas.two.signal("-CONT");
    wait_until("the update is accepted", async || {
        replicas.one.put(&[("A", 3)]) == 200
    })
    .await;
    wait_until("the old leader has stepped down", async || {
        !replicas.one.sends()
    })
    .await;
    replicas.market_stays(&[("A", 2)]).await;
    // After a kill of a leader the next one sends what is left.
    replicas.one.kill();
    execute(&replicas.url, HAND_OVER).await;
    replicas.wait_for_market(&[("A", 3)]).await;
    assert!(replicas.two.sends());
    // An ordered stop hands over at once.
    let delete = "DELETE FROM stockbridge.lease WHERE name = 'replica one'";
    execute(&replicas.url, delete).await;
    replicas.one = replicas.configs[0].serve();
    assert_eq!(replicas.one.counts(&["A"]), Ok(vec![3]));
    replicas.two.signal("-TERM");
    replicas.two.wait_for_exit().await;
    assert_eq!(replicas.one.put(&[("A", 4)]), 200);
    replicas.wait_for_market(&[("A", 4)]).await;
    assert!(replicas.one.sends());
    let violations = replicas.market.simulator.report().total_violations();
    assert_eq!(violations, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_outlive_the_database() {
    let replicas = Replicas::start("outlive").await;
    let (one, two) = (&replicas.one, &replicas.two);
    assert_eq!(one.put(&[("A", 1)]), 200);
    assert_eq!(two.read_back(&["A"]), Ok(vec![1]));
    assert_eq!(two.read_back_page(), Ok(vec![1]));
    replicas.server.stop();
    assert_eq!(one.put(&[("A", 2)]), 503);
    // Another replica may have acknowledged newer stock, so none answers after a while.
    wait_until("the replicas stop answering", async || {
        (one.counts(&["A"]), two.counts(&["A"])) == (Err(503), Err(503))
    })
    .await;
    // A program of the seller may act on what it reads back.
    assert_eq!(
        (one.read_back(&["A"]), one.read_back_page()),
        (Err(503), Err(503))
    );
    assert_eq!(one.ops("GET", "/readyz").0, 503);
    // It is raised by the next look at the database, after the permit has ended.
    wait_until("the alarm is raised", async || {
        one.has_alarm("replica_behind")
    })
    .await;
    replicas.server.start();
    wait_until("the replicas answer again", async || {
        (one.counts(&["A"]), two.counts(&["A"])) == (Ok(vec![1]), Ok(vec![1]))
    })
    .await;
    wait_until("updates are accepted", async || one.put(&[("A", 2)]) == 200).await;
    assert_eq!(two.counts(&["A"]), Ok(vec![2]));
    assert_eq!(two.read_back(&["A"]), Ok(vec![2]));
    replicas.wait_for_market(&[("A", 2)]).await;
    wait_until("the alarm has ended", async || {
        !one.has_alarm("replica_behind")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_run_on_one_replica() {
    let replicas = Replicas::start("sources").await;
    let (status, body) = replicas.two.ops("POST", "/import?shop=moscow");
    assert_eq!(status, 503);
    assert_eq!(body["error"]["code"], "SOURCES_ELSEWHERE", "{body}");
    // 1C shows the text of a failure to its user.
    let login = "/1c?type=catalog&mode=checkauth";
    wait_until("the other replica knows who receives 1C", async || {
        let (status, text) = replicas.two.request("GET", login);
        assert_eq!(status, 503);
        text.starts_with("failure\nreplica one receives 1C")
    })
    .await;
    wait_until("the sources have started", async || {
        replicas.one.request("GET", login).0 == 401
    })
    .await;
    // A process without a name does not join them.
    let alone = ServiceConfig::new(&replicas.market, &replicas.url, "");
    let output = tokio::task::block_in_place(|| alone.command().output().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("set replica on each process"), "{log}");
}

/// A changed target stops the sends of every process that has the old one.
#[tokio::test(flavor = "multi_thread")]
async fn other_target_is_refused_while_replicas_live() {
    let mut replicas = Replicas::start("targets").await;
    assert_eq!(replicas.one.put(&[("A", 1)]), 200);
    replicas.wait_for_market(&[("A", 1)]).await;
    let other = ServiceConfig::new(&replicas.market, &replicas.url, "replica = \"three\"");
    let path = other.directory().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (old, new) = (format!("campaign = {CAMPAIGN}"), "campaign = 12399");
    std::fs::write(&path, text.replace(&old, new)).unwrap();
    let output = block_in_place(|| other.command().output().unwrap());
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for part in [
        "shop moscow has the target",
        "campaign 12345'",
        "campaign 12399'",
        "these processes use: one, two.",
        "correct its campaign, business or market_url, or stop all processes before a change",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // The others go on.
    assert_eq!(replicas.one.put(&[("A", 2)]), 200);
    replicas.wait_for_market(&[("A", 2)]).await;
    // Without live replicas the change is recorded.
    for replica in [&replicas.one, &replicas.two] {
        replica.signal("-STOP");
    }
    for sql in [
        "UPDATE stockbridge.replica SET until = now()",
        "UPDATE stockbridge.lease SET until = now() WHERE name LIKE 'replica %'",
    ] {
        execute(&replicas.url, sql).await;
    }
    let mut third = other.serve();
    third.kill();
    // A process that goes on, and finds another target, says so at once.
    for replica in [&replicas.one, &replicas.two] {
        replica.signal("-CONT");
    }
    wait_until("the alarm is raised", async || {
        replicas.one.has_alarm("campaign_paused")
    })
    .await;
    let (_, status) = replicas.one.ops("GET", "/status");
    let alarms = status["alarms"].to_string();
    let cause = "a process with another campaign, business or market_url was started";
    assert!(
        alarms.contains("campaign 12399'") && alarms.contains(cause),
        "{alarms}"
    );
    assert_eq!(status["shops"][0]["migrator"]["state"], "paused");
    // The cure that the alarm names.
    replicas.one.kill();
    replicas.two.kill();
    let one = replicas.configs[0].serve();
    execute(&replicas.url, HAND_OVER).await;
    assert_eq!(one.put(&[("A", 3)]), 200);
    replicas.wait_for_market(&[("A", 3)]).await;
    assert!(!one.has_alarm("campaign_paused"));
}

/// An update that waits for a locked shop is older than one that has arrived since, also if it is written
/// after it.
#[tokio::test(flavor = "multi_thread")]
async fn undated_update_counts_from_its_arrival() {
    let replicas = Replicas::start("arrival").await;
    let (one, two) = (&replicas.one, &replicas.two);
    assert_eq!(one.put(&[("A", 0)]), 200);
    let mut lock = PgConnection::connect(&replicas.url).await.unwrap();
    let locking = "BEGIN; SELECT 1 FROM stockbridge.shop FOR UPDATE";
    lock.execute(sqlx::raw_sql(locking)).await.unwrap();
    let (started, runtime) = (Instant::now(), tokio::runtime::Handle::current());
    let wait_for = |millis| {
        let time = Duration::from_millis(millis);
        runtime.block_on(wait_until("time", async || started.elapsed() > time));
    };
    let outcomes = block_in_place(|| {
        std::thread::scope(|scope| {
            let earlier = scope.spawn(|| two.put_blocking(&[("A", 1)]));
            // Longer than the clocks of replicas differ.
            wait_for(1_500);
            let later = scope.spawn(|| one.put_blocking(&[("A", 2)]));
            wait_for(2_000);
            runtime.block_on(lock.close()).unwrap();
            [earlier.join().unwrap(), later.join().unwrap()]
        })
    });
    assert_eq!(outcomes, [200, 200]);
    for replica in [one, two] {
        assert_eq!(replica.counts(&["A"]), Ok(vec![2]));
    }
}
