//! The service's own program with a store and a configuration of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use axum::http::Request;
use serde_json::Value;
use tempfile::TempDir;

use crate::market::{self, BlockingClient};
use crate::peer_process::PeerProcess;
use crate::{goods, protocol};

const FEED_KEY: &str = "ACMA:bench";

/// SKUs of one request.
const BATCH: u16 = 2000;

pub(crate) struct Program {
    pub(crate) process: PeerProcess,
    pub(crate) public: SocketAddr,
    ops: SocketAddr,
    // Removed after the process has ended.
    _directory: TempDir,
}

impl Program {
    /// Starts the program with empty shops, which send nothing to the Market.
    pub(crate) fn start(shops: u16) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut config = "listen = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\n\
            store = \"store\"\nlog_format = \"json\"\nverify_hours = 0\n\
            market_url = \"http://127.0.0.1:9\"\n"
            .to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockbridge"));
        for shop in 0..shops {
            config += &format!(
                "\n[[shops]]\nname = \"shop-{shop}\"\nwarehouses = [{}]\ncampaign = {}\n\
                 migrate = \"off\"\n",
                market::warehouse(shop),
                shop + 1
            );
            for (kind, secret) in [
                ("PUSH_TOKEN", market::TOKEN),
                ("FEED_KEY", FEED_KEY),
                ("API_KEY", "unused"),
            ] {
                command.env(format!("STOCKBRIDGE_SHOPS_SHOP_{shop}_{kind}"), secret);
            }
        }
        let file = directory.path().join("stockbridge.toml");
        std::fs::write(&file, config)?;
        command.args(["serve", "--config"]).arg(file);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = PeerProcess::start(&mut command)?;
        let log = process.0.stderr.take().context("the log is not piped")?;
        let mut lines = BufReader::new(log).lines();
        let mut log = String::new();
        let (public, ops) = loop {
            let line = lines
                .next()
                .with_context(|| format!("the program ended: {log}"))??;
            if let Some(addresses) = addresses(&line) {
                break addresses;
            }
            log.push_str(&line);
        };
        // The program must not wait for a reader of its log.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            process,
            public,
            ops,
            _directory: directory,
        })
    }

    /// Sends the stock of all shops as the seller's program does.
    pub(crate) fn fill(&self, skus_per_shop: u64) -> anyhow::Result<()> {
        let mut client = BlockingClient::connect(self.public)?;
        for shop in 0..u64::from(market::SHOPS) {
            let first = shop * skus_per_shop;
            for from in (first..first + skus_per_shop).step_by(BATCH.into()) {
                let until = (from + u64::from(BATCH)).min(first + skus_per_shop);
                let items: Vec<String> = (from..until).map(item).collect();
                let body = format!(r#"{{"skus":[{}]}}"#, items.join(","));
                let request = Request::put(format!("/v2/campaigns/{}/offers/stocks", shop + 1))
                    .header("host", "127.0.0.1")
                    .header("api-key", FEED_KEY)
                    .header("content-type", "application/json")
                    .header("content-length", body.len());
                client.send(&market::raw_request(request, &body)?)?;
                client.receive()?;
            }
        }
        Ok(())
    }

    /// Returns the command that imports a file as the complete list of the first shop.
    pub(crate) fn import(&self, file: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockbridge"));
        command
            .arg("import")
            .arg(file)
            .args(["--shop", "shop-0", "--scope", "snapshot", "--ops"])
            .arg(self.ops.to_string());
        command
    }
}

fn item(number: u64) -> String {
    let level = protocol::level(number);
    format!(
        r#"{{"sku":"{}","items":[{{"count":{},"updatedAt":"{}"}}]}}"#,
        goods::sku(number),
        level.count,
        level.updated_at
    )
}

/// Returns the addresses from the line of the log that has them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let record: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| record[key].as_str()?.parse().ok();
    Some((address("listen")?, address("ops")?))
}
