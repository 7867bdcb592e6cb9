//! Losses of the database server, after which a standby takes over.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::Instant;

use super::cluster::{Cluster, RECOVERY_TIMEOUT, wait_within};
use super::workload::SellerLoad;
use crate::postgres_store::{execute, query_text};
use crate::server::DatabaseServer;

/// Time for which the Market counts SKUs against its limit.
const LIMIT_WINDOW: Duration = Duration::from_secs(60);

/// Number of changes in the database.
const CHANGES: &str = "SELECT sum(ver)::text FROM stockbridge.shop";

impl Cluster {
    /// Loses the server after its standby has everything that was acknowledged.
    pub(super) async fn fail_over(&mut self, workload: &SellerLoad) {
        let standby = block_in_place(|| self.server.standby());
        let primary_url = self.server.url().to_owned();
        execute(
            &primary_url,
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        )
        .await;
        execute(&primary_url, "SELECT pg_reload_conf()").await;
        wait_within(RECOVERY_TIMEOUT, "the standby is synchronous", async || {
            let sql = "SELECT coalesce(min(sync_state), '') FROM pg_stat_replication";
            query_text(&primary_url, sql).await == "sync"
        })
        .await;
        // Connections read the setting before their next statement.
        self.wait_for_progress(workload, 20).await;
        self.promote(standby).await;
    }

    /// Loses the server while its standby lacks updates and a list that were acknowledged. The
    /// replicas still have them: all of them run, and have followed since before.
    pub(super) async fn fail_over_behind(&mut self, workload: &SellerLoad) {
        // An earlier fault may still go on for one of them.
        self.wait_for_recovery(workload).await;
        let first = self.wait_for_list(workload, 0).await;
        let standby = block_in_place(|| self.server.standby_that_stays_behind());
        self.wait_for_list(workload, first + 1).await;
        self.wait_for_progress(workload, 20).await;
        let changes = async |server: &DatabaseServer| {
            let count = query_text(&self.url_at(server), CHANGES).await;
            count.parse::<u64>().unwrap()
        };
        let (known, found) = (changes(&self.server).await, changes(&standby).await);
        println!("the standby lacks {} of {known} changes", known - found);
        assert!(found < known);
        self.promote(standby).await;
        self.wait_for_recovery(workload).await;
        // A replica that begins to send would not know of the requests that are lost with the server.
        self.limit_is_known = Instant::now() + LIMIT_WINDOW;
    }

    /// Makes a standby the primary server, and leads all replicas to it.
    async fn promote(&mut self, standby: DatabaseServer) {
        block_in_place(|| {
            self.server.stop();
            standby.promote();
        });
        // Its own commits would wait for a standby that it does not have.
        execute(
            standby.url(),
            "ALTER SYSTEM RESET synchronous_standby_names",
        )
        .await;
        execute(standby.url(), "SELECT pg_reload_conf()").await;
        for replica in &self.replicas {
            replica.database.redirect(standby.address());
        }
        self.server = standby;
    }
}
