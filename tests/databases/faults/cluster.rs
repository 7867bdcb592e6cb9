//! Three replicas behind haproxy, their database and a Market; faults and their repair.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};

use super::complete_list::CompleteList;
use super::fault::ReplicaFault;
use super::load_balancer::LoadBalancer;
use super::replica::Replica;
use super::tcp_proxy::{ProxyMode, TcpProxy};
use super::workload::{Entry, SellerLoad};
use crate::postgres_store::{execute, new_database, query_text};
use crate::replicas::HAND_OVER;
use crate::server::DatabaseServer;
use crate::service_process::{Market, wait_until};

/// SKUs that the Market accepts in a minute. The replicas know it as a part of its usual limit.
const SKUS_PER_MINUTE: usize = 1_000;

/// Part of the Market's usual limit of 100 000 SKUs that is [`SKUS_PER_MINUTE`].
const SHOP_SETTINGS: &str = "limit_share = 0.01\n";

/// Longest time until a condition holds after a fault. Another replica sends after at most 100 s.
pub(super) const RECOVERY_TIMEOUT: Duration = Duration::from_secs(240);

/// Longest time in which a replica that leads sends something, while it is not at the limit.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// Gives the leases of a killed replica for the sources back, as it would. What it still stores is
/// refused, because the number of the lease is another one.
const HAND_OVER_SOURCES: &str = "UPDATE stockbridge.lease SET owner = '', until = now() \
                                 WHERE name LIKE 'sources%' AND owner LIKE ";

/// Time between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Lengths of the faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultLengths {
    /// Time for which a replica is stopped or cannot reach the database. `None` means until the
    /// others no longer wait for it.
    pub(super) outage: Option<Duration>,
    /// Part of the killed processes whose leases the test hands over, `0.0..=1.0`. The others end
    /// after 15 s (the name) and up to 100 s (sending).
    pub(super) handed_over: f64,
}

/// Three replicas and what they need.
pub(super) struct Cluster {
    market: Market,
    /// Between the replicas and the Market. All have the same address of the Market: another one
    /// would be another Market, which has none of the stock.
    market_proxy: TcpProxy,
    pub(super) server: DatabaseServer,
    database: String,
    pub(super) replicas: [Replica; 3],
    balancer: LoadBalancer,
    list: CompleteList,
    lengths: FaultLengths,
    rng: StdRng,
    /// Time from which every replica knows what was sent in the last minute.
    pub(super) limit_is_known: Instant,
}

impl Cluster {
    /// Starts everything, with clocks that can jump.
    pub(super) async fn start(database: &str, lengths: FaultLengths, rng: StdRng) -> Self {
        let market = Market::with_limit(SKUS_PER_MINUTE).await;
        let market_proxy = TcpProxy::start(market.address()).await;
        let market_url = format!("http://{}", market_proxy.address());
        let server = DatabaseServer::postgresql();
        new_database(&server, database).await;
        let settings = ("", SHOP_SETTINGS);
        let list = CompleteList::new();
        let new = async |name| {
            let replica = Replica::new(name, (&server, database), &market_url, settings).await;
            replica.with_source(&list.settings()).with_clock()
        };
        let mut replicas = [new("one").await, new("two").await, new("three").await];
        replicas.iter_mut().for_each(Replica::start);
        let balancer = LoadBalancer::start(&replicas.each_ref().map(Replica::ports)).await;
        let database = database.to_owned();
        Self {
            market,
            market_proxy,
            server,
            database,
            replicas,
            balancer,
            list,
            lengths,
            rng,
            limit_is_known: Instant::now(),
        }
    }

    /// Returns the path of the list that the sources read.
    pub(super) fn list_path(&self) -> PathBuf {
        self.list.path()
    }

    /// Returns the address of the load balancer.
    pub(super) fn balancer(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// Returns the addresses of the load balancer and of the replicas.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let balancer = ("haproxy".to_owned(), self.balancer.address());
        let replica = |it: &Replica| (it.name.to_owned(), it.address());
        std::iter::once(balancer)
            .chain(self.replicas.iter().map(replica))
            .collect()
    }

    /// Lets a fault happen, and repairs what does not repair itself.
    pub(super) async fn suffer(&mut self, fault: ReplicaFault, workload: &SellerLoad) {
        if fault.may_change_sender() {
            sleep_until(self.limit_is_known).await;
        }
        match fault {
            ReplicaFault::Kill(number) => self.kill(number).await,
            ReplicaFault::Restart(number) => self.restart(number, workload).await,
            ReplicaFault::KillSender => self.kill_sender().await,
            ReplicaFault::Stop(number) => {
                self.replicas[number].service().signal("-STOP");
                self.wait_for_outage(workload).await;
                self.replicas[number].service().signal("-CONT");
            }
            ReplicaFault::RestartDatabase(mode) => block_in_place(|| {
                self.server.stop_in_mode(mode);
                self.server.start();
            }),
            ReplicaFault::Cut(number) => self.replicas[number].database.cut(),
            ReplicaFault::Swallow(number) => {
                self.replicas[number].database.set_mode(ProxyMode::Swallow);
                self.wait_for_outage(workload).await;
                self.replicas[number].database.heal();
            }
            ReplicaFault::LoseConnections(number) => {
                self.replicas[number].database.lose_connections();
                // The others first wait for the replica, and then no longer.
                self.wait_for_progress(workload, 10).await;
            }
            ReplicaFault::JumpClock(number, hours) => {
                self.set_clocks_right();
                self.replicas[number].set_clock(hours);
            }
            ReplicaFault::Failover => self.fail_over(workload).await,
            ReplicaFault::FailoverBehind => self.fail_over_behind(workload).await,
        }
    }

    pub(super) fn set_clocks_right(&self) {
        self.replicas.iter().for_each(|it| it.set_clock(0));
    }

    /// Waits until every replica answers, updates are acknowledged again and read everywhere.
    pub(super) async fn wait_for_recovery(&self, workload: &SellerLoad) {
        let entries = self.entries();
        let start = Instant::now();
        for entry in &entries {
            wait_within(
                RECOVERY_TIMEOUT,
                &format!("{} answers", entry.0),
                async || block_in_place(|| workload.read_all(entry)).is_ok(),
            )
            .await;
        }
        self.wait_for_progress(workload, 10).await;
        println!("recovered within {:.1} s", start.elapsed().as_secs_f64());
    }

    /// Compares the stock of the Market with the model.
    pub(super) fn check_market(&self, workload: &SellerLoad) {
        let mut model = workload.model().lock();
        for sku in model.skus() {
            if let [Some(count)] = self.market.counts(&[sku.as_str()])[..] {
                model.check_market(&sku, count);
            }
        }
        model.check_report(&self.market.simulator.report());
    }

    /// Stops the workload, and compares all copies after the last updates: the replicas, what the
    /// load balancer answers, a replica that reads everything from the database, and the Market.
    pub(super) async fn check_convergence(&mut self, workload: &mut SellerLoad) {
        self.set_clocks_right();
        block_in_place(|| workload.stop());
        let entries = self.entries();
        block_in_place(|| workload.write_last(&entries[0]));
        let has_list = async || block_in_place(|| workload.confirmed_list()).is_some();
        wait_within(RECOVERY_TIMEOUT, "all replicas have the list", has_list).await;
        let server = (&self.server, self.database.as_str());
        let settings = ("", SHOP_SETTINGS);
        let market_url = format!("http://{}", self.market_proxy.address());
        let fourth = Replica::new("four", server, &market_url, settings).await;
        let mut fourth = fourth.with_source(&self.list.settings());
        fourth.start();
        let mut names = entries;
        names.push(("database".to_owned(), fourth.address()));
        let skus = workload.model().lock().skus();
        let market = || {
            let counts = skus
                .iter()
                .map(|sku| (sku.clone(), self.market.counts(&[sku])[0]));
            let known = counts.filter_map(|(sku, count)| Some((sku, count?)));
            ("Market".to_owned(), known.collect())
        };
        // `None` while a replica is behind: then it does not answer.
        let copies = || {
            let read = |entry: &Entry| {
                let counts = block_in_place(|| workload.read_all(entry));
                Some((entry.0.clone(), counts.ok()?))
            };
            let copies: Option<Vec<_>> = names.iter().map(read).collect();
            copies.map(|copies| copies.into_iter().chain([market()]).collect::<Vec<_>>())
        };
        let agree = |copies: &[(String, BTreeMap<String, u32>)]| {
            copies.windows(2).all(|pair| pair[0].1 == pair[1].1)
        };
        let start = Instant::now();
        let mut last = String::new();
        let have_agreed = holds_within(RECOVERY_TIMEOUT, async || {
            self.check_market(workload);
            let Some(copies) = copies() else {
                "one that did not answer".clone_into(&mut last);
                return false;
            };
            let other = copies.windows(2).find(|pair| pair[0].1 != pair[1].1);
            if let Some(pair) = other {
                last.clone_from(&pair[1].0);
            }
            other.is_none()
        })
        .await;
        let seconds = start.elapsed().as_secs_f64();
        println!("converged within {seconds:.1} s; the last copy was that of {last:?}");
        let copies = copies().expect("all replicas answer");
        assert!(have_agreed || !agree(&copies), "they agree too late");
        workload.model().lock().check_copies(&copies);
        self.check_market(workload);
    }

    /// Returns the number of replicas that have begun to read the sources so far.
    pub(super) async fn source_leaders(&self) -> u64 {
        let sql = "SELECT max(epoch)::text FROM stockbridge.lease WHERE name LIKE 'sources%'";
        query_text(&self.url(), sql).await.parse().unwrap()
    }

    /// Returns what the log of the load balancer and the report of the Market say.
    pub(super) fn summary(&self) -> String {
        let report = self.market.simulator.report();
        let log = self.balancer.log();
        format!(
            "{} updates and {} SKUs reached the Market, at most {} SKUs in a minute and {} requests \
             at once; {} requests passed haproxy",
            report.updates,
            report.skus_applied,
            report.peak_skus_per_minute,
            report.peak_parallel,
            log.lines().count(),
        )
    }

    /// Stops a replica in order and starts it again, while haproxy sends all requests to the others.
    async fn restart(&mut self, number: usize, workload: &SellerLoad) {
        // An earlier fault may still go on for one of the others.
        self.wait_for_recovery(workload).await;
        self.wait_for_check().await;
        let failed = workload.failed_at_first_entry();
        if let Some(mut service) = self.replicas[number].service.take() {
            service.signal("-TERM");
            service.wait_for_exit().await;
        }
        block_in_place(|| self.replicas[number].start());
        self.wait_for_progress(workload, 20).await;
        let failed = workload.failed_at_first_entry() - failed;
        assert_eq!(failed, 0, "clients of haproxy noticed the restart");
    }

    async fn kill(&mut self, number: usize) {
        let is_sender = self.replicas[number].service().sends();
        self.replicas[number].kill();
        self.hand_over(number, is_sender).await;
        block_in_place(|| self.replicas[number].start());
    }

    /// Kills the sender when a request of it has reached the Market, but not the response.
    async fn kill_sender(&mut self) {
        let start = Instant::now();
        let number = loop {
            assert!(start.elapsed() < RECOVERY_TIMEOUT, "no replica sends");
            let leads = |it: &Replica| it.service().sends();
            if let Some(number) = self.replicas.iter().position(leads) {
                let market = &self.market_proxy;
                market.set_mode(ProxyMode::HoldResponses);
                let sent = market.request_bytes();
                let has_sent = async || market.request_bytes() > sent;
                if holds_within(SEND_TIMEOUT, has_sent).await {
                    break number;
                }
                // It waits for the end of a limit, or leads no more.
                market.heal();
            }
            sleep(POLL_INTERVAL).await;
        };
        self.replicas[number].kill();
        self.market_proxy.heal();
        self.hand_over(number, true).await;
        block_in_place(|| self.replicas[number].start());
    }

    /// Ends the leases of a killed process, unless the test waits for their end.
    async fn hand_over(&mut self, number: usize, is_sender: bool) {
        if !self.rng.random_bool(self.lengths.handed_over) {
            return;
        }
        let Replica { name, .. } = &self.replicas[number];
        let delete = format!("DELETE FROM stockbridge.lease WHERE name = 'replica {name}'");
        execute(&self.url(), &delete).await;
        execute(&self.url(), &format!("{HAND_OVER_SOURCES}'{name}/%'")).await;
        if is_sender {
            // The Market must not see requests of the killed process later.
            self.market_proxy.cut();
            wait_until("the requests have ended", async || {
                self.market_proxy.is_idle()
            })
            .await;
            execute(&self.url(), HAND_OVER).await;
        }
    }

    /// Waits as long as an outage lasts. The workload goes on meanwhile.
    async fn wait_for_outage(&self, workload: &SellerLoad) {
        match self.lengths.outage {
            Some(length) => sleep(length).await,
            // The others first wait for the replica, and then no longer.
            None => self.wait_for_progress(workload, 10).await,
        }
    }

    /// Waits until further updates were acknowledged and further responses checked.
    pub(super) async fn wait_for_progress(&self, workload: &SellerLoad, count: u64) {
        let (acknowledged, reads) = workload.model().lock().progress();
        wait_within(RECOVERY_TIMEOUT, "updates are acknowledged", async || {
            self.check_market(workload);
            let now = workload.model().lock().progress();
            now.0 >= acknowledged + count && now.1 >= reads + count
        })
        .await;
    }

    /// Waits until every replica has answered with a list after this one, and returns its number.
    pub(super) async fn wait_for_list(&self, workload: &SellerLoad, last: u32) -> u32 {
        let confirmed = || workload.model().lock().confirmed_list();
        let is_newer = async || confirmed() > last;
        wait_within(RECOVERY_TIMEOUT, "a list is applied", is_newer).await;
        confirmed()
    }

    /// Waits until haproxy uses every replica.
    async fn wait_for_check(&self) {
        wait_within(RECOVERY_TIMEOUT, "haproxy uses all replicas", async || {
            self.balancer.uses_all()
        })
        .await;
    }

    pub(super) fn url(&self) -> String {
        self.url_at(&self.server)
    }

    pub(super) fn url_at(&self, server: &DatabaseServer) -> String {
        let of_database = format!("/{}?", self.database);
        server.url().replace("/postgres?", &of_database)
    }
}

pub(super) async fn wait_within(
    limit: Duration,
    what: &str,
    is_reached: impl AsyncFnMut() -> bool,
) {
    assert!(
        holds_within(limit, is_reached).await,
        "never came about: {what}"
    );
}

async fn holds_within(limit: Duration, mut is_reached: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_reached().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL_INTERVAL).await;
    }
}
