//! Running processes of the service that keep their stock in a PostgreSQL database, and a Market.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lifecycle::{Clock, CrashSignal, Tasks};
use market_sim::{CampaignConfig, MarketSimulator, SimulatorConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::process::{ProgramProcess, program};

/// Maximum time for anything to happen, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Time between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) const CAMPAIGN: u64 = 12_345;
pub(crate) const WAREHOUSE: u64 = 569_667;

/// Market with one campaign.
pub(crate) struct Market {
    pub(crate) simulator: MarketSimulator,
    url: String,
    address: SocketAddr,
    _tasks: Tasks,
}

impl Market {
    pub(crate) async fn start() -> Self {
        Self::with_limit(SimulatorConfig::new(Clock::wall()).skus_per_minute).await
    }

    /// Starts a Market with another rate limit.
    pub(crate) async fn with_limit(skus_per_minute: usize) -> Self {
        let campaign = CampaignConfig::new(CAMPAIGN, WAREHOUSE, vec!["api".to_owned()]);
        let simulator = MarketSimulator::new(SimulatorConfig {
            campaigns: vec![campaign],
            skus_per_minute,
            ..SimulatorConfig::new(Clock::wall())
        });
        let tasks = Tasks::new(CrashSignal::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = simulator.start(any, &tasks).await.unwrap();
        Self {
            simulator,
            url: format!("http://{address}"),
            address,
            _tasks: tasks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of pieces of each SKU that the Market knows.
    pub(crate) fn counts(&self, skus: &[&str]) -> Vec<Option<u32>> {
        let count = |sku: &&str| self.simulator.available(CAMPAIGN, sku);
        skus.iter().map(count).collect()
    }
}

/// Configuration of one process, in a directory of its own.
pub(crate) struct ServiceConfig {
    directory: TempDir,
}

impl ServiceConfig {
    pub(crate) fn new(market: &Market, database_url: &str, extra_settings: &str) -> Self {
        Self::listening((&market.url, database_url), (0, 0), (extra_settings, ""))
    }

    /// Returns a configuration with fixed ports of the listeners, and further settings of the shop.
    pub(crate) fn listening(
        (market_url, database_url): (&str, &str),
        (port, ops_port): (u16, u16),
        (extra_settings, shop_settings): (&str, &str),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\nops_listen = \"127.0.0.1:{ops_port}\"\n\
             store = \"store\"\nstore_url_file = \"store_url\"\ninstance = \"production\"\n\
             market_url = {market_url:?}\n\
             log_format = \"json\"\n{extra_settings}\n[[shops]]\nname = \"moscow\"\n\
             warehouses = [{WAREHOUSE}]\ncampaign = {CAMPAIGN}\nmigrate = \"on\"\n\
             {shop_settings}[[shops.sources]]\nname = \"erp\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"erp\"\n\
             password_file = \"password\"\n"
        );
        std::fs::write(directory.path().join("config.toml"), text).unwrap();
        std::fs::write(directory.path().join("store_url"), database_url).unwrap();
        std::fs::write(directory.path().join("password"), "password-of-1c").unwrap();
        Self { directory }
    }

    /// Adds settings of the shop.
    pub(crate) fn add(&self, settings: &str) {
        let path = self.directory.path().join("config.toml");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(settings.as_bytes()).unwrap();
    }

    /// Adds settings of the service.
    pub(crate) fn prepend(&self, settings: &str) {
        let path = self.directory.path().join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{settings}{text}")).unwrap();
    }

    /// Returns a path in the directory of the store.
    pub(crate) fn in_store(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("store").join(path)
    }

    /// Starts the service and waits until it serves.
    pub(crate) fn serve(&self) -> Service {
        Service::start(&mut self.command())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn command(&self) -> Command {
        self.command_of("serve")
    }

    /// Returns another command with the same configuration.
    pub(crate) fn command_of(&self, name: &str) -> Command {
        let mut command = program();
        command
            .arg(name)
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .env("STOCKBRIDGE_SHOPS_MOSCOW_PUSH_TOKEN", "push-token")
            .env("STOCKBRIDGE_SHOPS_MOSCOW_FEED_KEY", "feed-key")
            .env("STOCKBRIDGE_SHOPS_MOSCOW_API_KEY", "api");
        command
    }
}

/// Running process, killed at the latest when it is dropped.
pub(crate) struct Service {
    process: ProgramProcess,
    pub(crate) public: SocketAddr,
    ops: SocketAddr,
}

impl Service {
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = ProgramProcess::start(command);
        Self {
            public: process.public,
            ops: process.ops,
            process,
        }
    }

    /// Returns true if this replica is the one that sends.
    pub(crate) fn sends(&self) -> bool {
        let (_, status) = self.ops("GET", "/status");
        let shop = &status["shops"][0];
        let reason = shop["migrator"]["reason"].as_str().unwrap_or_default();
        let is_sender = shop["sent_by"].is_string() && shop["sent_by"] == status["replica"];
        is_sender && !reason.contains("send")
    }

    /// `kill -9`, which leaves no time for anything.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits until the process has ended, and returns its log.
    pub(crate) async fn wait_for_exit(&mut self) -> String {
        self.process.wait_for_exit().await;
        self.process.log()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Updates the stock and returns the status of the response.
    pub(crate) fn put(&self, stock: &[(&str, u32)]) -> u16 {
        block_in_place(|| self.put_blocking(stock))
    }

    /// Updates the stock from a thread outside the runtime, and returns the status of the response.
    pub(crate) fn put_blocking(&self, stock: &[(&str, u32)]) -> u16 {
        let item =
            |(sku, count): &(&str, u32)| json!({ "sku": sku, "items": [{ "count": count }] });
        let skus: Vec<Value> = stock.iter().map(item).collect();
        let body = json!({ "skus": skus }).to_string();
        let target = format!("/v2/campaigns/{CAMPAIGN}/offers/stocks");
        let header = "Api-Key: feed-key";
        exchange(self.public, TIMEOUT, ("PUT", &target, header, &body)).0
    }

    /// Requests the stock as the Market does. Returns the counts, or the status of an error.
    pub(crate) fn counts(&self, skus: &[&str]) -> Result<Vec<u64>, u16> {
        block_in_place(|| self.counts_blocking(skus))
    }

    /// Requests the stock as the Market does, from a thread outside the runtime.
    pub(crate) fn counts_blocking(&self, skus: &[&str]) -> Result<Vec<u64>, u16> {
        let body = json!({ "warehouseId": WAREHOUSE, "skus": skus }).to_string();
        let header = "Authorization: push-token";
        let request = ("POST", "/stocks", header, &*body);
        let (status, text) = exchange(self.public, TIMEOUT, request);
        if status != 200 {
            return Err(status);
        }
        let response: Value = serde_json::from_str(&text).unwrap();
        let items = response["skus"].as_array().unwrap().iter();
        let count = |item: &Value| item["items"][0]["count"].as_u64().unwrap();
        Ok(items.map(count).collect())
    }

    /// Reads stock back as the seller's programs do. Returns the counts, or the status of an error.
    pub(crate) fn read_back(&self, skus: &[&str]) -> Result<Vec<u64>, u16> {
        let body = json!({ "offerIds": skus }).to_string();
        self.read_back_with("", &body)
    }

    /// Reads the first page of all SKUs back, as the seller's programs do.
    pub(crate) fn read_back_page(&self) -> Result<Vec<u64>, u16> {
        self.read_back_with("?limit=200", "")
    }

    fn read_back_with(&self, query: &str, body: &str) -> Result<Vec<u64>, u16> {
        let target = format!("/v2/campaigns/{CAMPAIGN}/offers/stocks{query}");
        let (status, text) = send(self.public, "POST", &target, "Api-Key: feed-key", body);
        if status != 200 {
            return Err(status);
        }
        let response: Value = serde_json::from_str(&text).unwrap();
        let offers = &response["result"]["warehouses"][0]["offers"];
        let count = |offer: &Value| offer["stocks"][0]["count"].as_u64().unwrap();
        Ok(offers.as_array().unwrap().iter().map(count).collect())
    }

    /// Sends a request without a body to the public listener.
    pub(crate) fn request(&self, method: &str, target: &str) -> (u16, String) {
        send(self.public, method, target, "X-Test: 1", "")
    }

    /// Sends a form of the page, as a browser does. Returns the page.
    pub(crate) fn form(&self, target: &str) -> (u16, String) {
        send(self.ops, "POST", target, "Sec-Fetch-Site: same-origin", "")
    }

    /// Sends a request to the operator's listener.
    pub(crate) fn ops(&self, method: &str, target: &str) -> (u16, Value) {
        let (status, text) = send(self.ops, method, target, "X-Stockbridge: 1", "");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Requests an English page, or a text, from the operator's listener.
    pub(crate) fn ops_text(&self, target: &str) -> String {
        send(self.ops, "GET", target, "Accept-Language: en", "").1
    }

    /// Returns how many batches have ended, with and without a response of the Market.
    pub(crate) fn ended_batches(&self) -> u64 {
        let text = self.ops_text("/metrics");
        let counts = text
            .lines()
            .filter(|line| line.contains("market_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next());
        counts.map(|count| count.parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn has_alarm(&self, name: &str) -> bool {
        let (_, status) = self.ops("GET", "/status");
        let alarms = status["alarms"].as_array().unwrap().iter();
        alarms.clone().any(|alarm| alarm["alarm"] == name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.log());
        }
    }
}

/// Waits until a condition holds.
pub(crate) async fn wait_until(what: &str, mut is_reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_reached().await {
        assert!(Instant::now() < deadline, "never came about: {what}");
        sleep(POLL_INTERVAL).await;
    }
}

fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    header: &str,
    body: &str,
) -> (u16, String) {
    block_in_place(|| exchange(address, TIMEOUT, (method, target, header, body)))
}

/// Sends a request on a connection of its own: its method, target, a header and its body. Returns
/// status and body; the status is 0 without a response within the limit.
pub(crate) fn exchange(
    address: SocketAddr,
    limit: Duration,
    (method, target, header, body): (&str, &str, &str, &str),
) -> (u16, String) {
    let receive = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let length = match method {
            "GET" => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\
             Content-Type: application/json\r\n{length}\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    };
    let response = receive().unwrap_or_default();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_default();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), body.to_owned())
}
