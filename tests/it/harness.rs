//! A complete service on its own port, with a Market simulator.
//!
//! The end of a [`TestService`] asserts that nothing is unsent without a reason, no task is left, the
//! disk equals memory, the Market equals the book, and no limit was exceeded.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use market_sim::{CampaignConfig, MarketSimulator, SimulatorConfig, compare};
use serde_json::{Value, json};
use stockbridge::app::{App, Ownership};
use stockbridge::config::Config;
use stockbridge::migrator::Mode;
use stockbridge::store::{self, ShopIdentity, Store};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::wire::{RawResponse, send};

/// Maximum time to wait for a condition.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Interval between checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A shop as a test wants it. Its secrets are named after it: `push-moscow`, `feed-moscow`,
/// `api-moscow` and `second-api-moscow`.
#[derive(Clone)]
pub(crate) struct TestShop {
    pub(crate) name: String,
    pub(crate) campaign: u64,
    pub(crate) warehouses: Vec<u64>,
    pub(crate) base_path: String,
    business: Option<u64>,
    extra_settings: String,
    secrets: Vec<(&'static str, String)>,
}

impl TestShop {
    /// A shop of one warehouse, with a base path of its own.
    pub(crate) fn new(name: &str, campaign: u64, warehouse: u64) -> Self {
        let secret = |kind: &str| format!("{kind}-{name}");
        Self {
            name: name.to_owned(),
            campaign,
            warehouses: vec![warehouse],
            base_path: format!("/{name}"),
            business: None,
            extra_settings: String::new(),
            secrets: vec![
                ("PUSH_TOKEN", secret("push")),
                ("FEED_KEY", secret("feed")),
                ("API_KEY", secret("api")),
            ],
        }
    }

    /// The shop of most tests.
    pub(crate) fn moscow() -> Self {
        Self::new("moscow", 12_345, 569_667)
    }

    pub(crate) fn with_base_path(self, base_path: &str) -> Self {
        Self {
            base_path: base_path.to_owned(),
            ..self
        }
    }

    pub(crate) fn with_warehouses(self, warehouses: &[u64]) -> Self {
        Self {
            warehouses: warehouses.to_vec(),
            ..self
        }
    }

    /// Sends by the method of this business.
    pub(crate) fn by_business(self, business: u64) -> Self {
        let shop = Self {
            business: Some(business),
            ..self
        };
        shop.set("method = \"business\"")
            .set(&format!("business = {business}"))
    }

    /// Adds a line of configuration.
    pub(crate) fn set(mut self, line: &str) -> Self {
        self.extra_settings.push_str(line);
        self.extra_settings.push('\n');
        self
    }

    /// Adds a secret, or replaces it: `PUSH_TOKEN_2` and the like.
    pub(crate) fn secret(mut self, kind: &'static str, text: &str) -> Self {
        self.secrets.retain(|(existing, _)| *existing != kind);
        self.secrets.push((kind, text.to_owned()));
        self
    }

    pub(crate) fn push_token(&self) -> &str {
        self.secret_named("PUSH_TOKEN")
    }

    pub(crate) fn feed_key(&self) -> &str {
        self.secret_named("FEED_KEY")
    }

    fn secret_named(&self, kind: &str) -> &str {
        let entry = self.secrets.iter().find(|(existing, _)| *existing == kind);
        entry.map(|(_, text)| text.as_str()).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> String {
        format!("/v2/campaigns/{}/offers/stocks", self.campaign)
    }

    /// Target of the stock, as the store writes it.
    fn target(&self) -> String {
        match self.business {
            Some(id) => format!("business {id} warehouses {:?}", self.warehouses),
            None => format!("campaign {}", self.campaign),
        }
    }

    fn toml(&self) -> String {
        format!(
            "\n[[shops]]\nname = {:?}\nwarehouses = {:?}\nbase_path = {:?}\ncampaign = {}\n{}",
            self.name, self.warehouses, self.base_path, self.campaign, self.extra_settings
        )
    }
}

/// The configuration of these shops, as a file and an environment. Ports are chosen by the
/// system, the store is beside the file.
pub(crate) fn configuration(
    market_url: &str,
    shops: &[TestShop],
) -> (String, Vec<(String, String)>) {
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\nstore = \"store\"\n\
         market_url = {market_url:?}\n"
    );
    text.extend(shops.iter().map(TestShop::toml));
    let variables = shops.iter().flat_map(|shop| {
        let name = shop.name.to_uppercase().replace('-', "_");
        let variable = move |kind: &str| format!("STOCKBRIDGE_SHOPS_{name}_{kind}");
        shop.secrets
            .iter()
            .map(move |(kind, text)| (variable(kind), text.clone()))
    });
    (text, variables.collect())
}

/// The Market of these shops, which takes each shop's key and a second one.
pub(crate) fn market_for(shops: &[TestShop]) -> MarketSimulator {
    MarketSimulator::new(market_config(shops))
}

/// Configuration of that simulator.
pub(crate) fn market_config(shops: &[TestShop]) -> SimulatorConfig {
    let campaigns = shops.iter().map(|shop| {
        let keys = vec![
            format!("api-{}", shop.name),
            format!("second-api-{}", shop.name),
        ];
        let campaign = CampaignConfig::new(shop.campaign, shop.warehouses[0], keys);
        campaign.in_business(shop.business.unwrap_or_default())
    });
    SimulatorConfig {
        campaigns: campaigns.collect(),
        ..SimulatorConfig::new(Clock::wall())
    }
}

/// Addresses of a running service, in this process or another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoints {
    pub(crate) public: SocketAddr,
    pub(crate) ops: SocketAddr,
}

/// SKU, count, and the moment since when, as the read-back spells it.
pub(crate) type ListedStock = BTreeMap<String, (u32, String)>;

impl Endpoints {
    pub(crate) async fn put(self, shop: &TestShop, body: &[u8]) -> RawResponse {
        let headers = [
            ("Api-Key", shop.feed_key()),
            ("Content-Type", "application/json"),
        ];
        send(self.public, "PUT", &shop.path(), &headers, body).await
    }

    /// Feeds the shop, which must take it.
    pub(crate) async fn feed(self, shop: &TestShop, stock: &[(&str, u32)]) {
        let response = self.put(shop, update(stock).as_bytes()).await;
        assert_eq!(response.status, 200, "{}", response.text());
    }

    pub(crate) async fn query_stock(
        self,
        shop: &TestShop,
        warehouse: u64,
        skus: &[&str],
    ) -> RawResponse {
        self.query_stock_with_token(shop, shop.push_token(), warehouse, skus)
            .await
    }

    pub(crate) async fn query_stock_with_token(
        self,
        shop: &TestShop,
        token: &str,
        warehouse: u64,
        skus: &[&str],
    ) -> RawResponse {
        let body = json!({ "warehouseId": warehouse, "skus": skus }).to_string();
        let headers = [
            ("Authorization", token),
            ("Content-Type", "application/json"),
        ];
        let target = format!("{}/stocks", shop.base_path);
        send(self.public, "POST", &target, &headers, body.as_bytes()).await
    }

    /// Every SKU with its count in an answer that must be one.
    pub(crate) async fn counts(self, shop: &TestShop, skus: &[&str]) -> Vec<(String, u64)> {
        let response = self.query_stock(shop, shop.warehouses[0], skus).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let response = response.json();
        let items = response["skus"].as_array().unwrap().iter();
        items
            .map(|item| {
                let sku = item["sku"].as_str().unwrap().to_owned();
                (sku, item["items"][0]["count"].as_u64().unwrap())
            })
            .collect()
    }

    /// A page of the read-back.
    pub(crate) async fn page(self, shop: &TestShop, query: &str, body: &str) -> Value {
        let headers = [("Api-Key", shop.feed_key())];
        let target = format!("{}{query}", shop.path());
        let response = send(self.public, "POST", &target, &headers, body.as_bytes()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["result"].take()
    }

    /// All that is known of a shop, page by page.
    pub(crate) async fn all_stock(self, shop: &TestShop, limit: usize) -> ListedStock {
        let mut all = ListedStock::new();
        let mut token = String::new();
        loop {
            let query = format!("?limit={limit}&page_token={token}");
            let page = self.page(shop, &query, "").await;
            for offer in page["warehouses"][0]["offers"].as_array().unwrap() {
                let sku = offer["offerId"].as_str().unwrap().to_owned();
                let count = u32::try_from(offer["stocks"][1]["count"].as_u64().unwrap()).unwrap();
                let at = offer["updatedAt"].as_str().unwrap().to_owned();
                let previous = all.insert(sku, (count, at));
                assert_eq!(previous, None, "a SKU on two pages");
            }
            match page["paging"]["nextPageToken"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => return all,
            }
        }
    }

    pub(crate) async fn status(self) -> Value {
        let response = send(self.ops, "GET", "/status", &[], b"").await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Sends an operator's request and returns status and body.
    pub(crate) async fn ops_request(self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let headers = [("Content-Type", "application/json"), ("X-Stockbridge", "1")];
        let response = send(self.ops, method, target, &headers, body.as_bytes()).await;
        let json = if response.body.is_empty() {
            Value::Null
        } else {
            response.json()
        };
        (response.status, json)
    }

    pub(crate) async fn metrics(self) -> String {
        send(self.ops, "GET", "/metrics", &[], b"").await.text()
    }

    /// The names of the alarms that are on, with what they are about.
    pub(crate) async fn alarms(self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = self.status().await;
        let alarms = status["alarms"].as_array().unwrap().iter();
        alarms
            .map(|alarm| (text(&alarm["alarm"]), text(&alarm["about"])))
            .collect()
    }

    /// Waits until the status fulfils a condition. It is polled, because the service's tasks or another
    /// process change it without an event.
    pub(crate) async fn wait_for_status(
        self,
        what: &str,
        is_reached: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let status = self.status().await;
            if is_reached(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "never came about: {what}\n{status:#}"
            );
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the service has stopped taking new requests.
    pub(crate) async fn wait_for_stopping(self) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let response = send(self.ops, "GET", "/readyz", &[], b"").await;
            if response.json()["state"] == "stopping" {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "it does not stop: {}",
                response.text()
            );
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// The part of a status about one shop.
pub(crate) fn shop_status<'a>(status: &'a Value, shop: &TestShop) -> &'a Value {
    let shops = status["shops"].as_array().unwrap();
    shops
        .iter()
        .find(|entry| entry["name"] == shop.name.as_str())
        .unwrap()
}

/// The Market has all that it takes of this shop.
pub(crate) fn is_settled(status: &Value, shop: &TestShop) -> bool {
    let shop = shop_status(status, shop);
    if shop["migrate"] != "on" {
        return true;
    }
    let Some(dirty) = shop["dirty"].as_u64() else {
        return true;
    };
    let quarantined = shop["migrator"]["quarantined"]
        .as_array()
        .map_or(0, Vec::len) as u64;
    dirty == quarantined && shop["migrator"]["in_flight_requests"] == 0
}

/// The body of an update without dates.
pub(crate) fn update(stock: &[(&str, u32)]) -> String {
    let skus: Vec<Value> = stock
        .iter()
        .map(|(sku, count)| json!({ "sku": sku, "items": [{ "count": count }] }))
        .collect();
    json!({ "skus": skus }).to_string()
}

/// The body of an update of one SKU.
pub(crate) fn dated_update(sku: &str, count: u32, updated_at: &str) -> String {
    json!({ "skus": [{ "sku": sku, "items": [{ "count": count, "updatedAt": updated_at }] }] })
        .to_string()
}

/// See the module. Needs a runtime of several threads, for its [`Drop`].
pub(crate) struct TestService {
    pub(crate) shops: Vec<TestShop>,
    pub(crate) market: MarketSimulator,
    pub(crate) market_url: String,
    pub(crate) directory: TempDir,
    market_tasks: Tasks,
    config: Config,
    clock: Clock,
    running: Option<RunningService>,
    // Shops that may end with something unsent, and why.
    allowed_unsent: BTreeMap<String, &'static str>,
}

struct RunningService {
    endpoints: Endpoints,
    stop: CancellationToken,
    tasks: Tasks,
    done: oneshot::Receiver<anyhow::Result<()>>,
}

impl TestService {
    pub(crate) async fn start(shops: &[TestShop]) -> Self {
        Self::start_with_market(market_for(shops), shops).await
    }

    /// A house with this Market.
    pub(crate) async fn start_with_market(market: MarketSimulator, shops: &[TestShop]) -> Self {
        Self::start_with(market, shops, "", Clock::wall()).await
    }

    /// The same with some settings at the top of the file, and a clock that may be wrong.
    pub(crate) async fn start_with(
        market: MarketSimulator,
        shops: &[TestShop],
        extra_settings: &str,
        clock: Clock,
    ) -> Self {
        let market_tasks = Tasks::new(CrashSignal::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = market.start(any, &market_tasks).await.unwrap();
        let market_url = format!("http://{address}");
        let (text, variables) = configuration(&market_url, shops);
        let market = (market, market_url, market_tasks);
        Self::from_text(
            &format!("{extra_settings}{text}"),
            variables,
            market,
            shops,
            clock,
        )
        .await
    }

    /// A house that forwards nothing, of a file.
    pub(crate) async fn from_config(text: &str, variables: Vec<(String, String)>) -> Self {
        let unused_market = (
            market_for(&[]),
            String::new(),
            Tasks::new(CrashSignal::default()),
        );
        Self::from_text(text, variables, unused_market, &[], Clock::wall()).await
    }

    async fn from_text(
        text: &str,
        variables: Vec<(String, String)>,
        (market, market_url, market_tasks): (MarketSimulator, String, Tasks),
        shops: &[TestShop],
        clock: Clock,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let variables = variables.into_iter().collect();
        let config = Config::parse(text, variables, directory.path()).unwrap();
        let running = Some(RunningService::start(config.clone(), clock).await);
        Self {
            shops: shops.to_vec(),
            market,
            market_url,
            directory,
            market_tasks,
            config,
            clock,
            running,
            allowed_unsent: BTreeMap::new(),
        }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        self.running.as_ref().expect("the house is open").endpoints
    }

    /// The shop of a house with one.
    pub(crate) fn shop(&self) -> &TestShop {
        &self.shops[0]
    }

    /// Waits until the Market has all it takes.
    pub(crate) async fn wait_settled(&self) -> Value {
        let expected_shops: Vec<&TestShop> = self
            .shops
            .iter()
            .filter(|shop| !self.allowed_unsent.contains_key(&shop.name))
            .collect();
        let endpoints = self.endpoints();
        endpoints
            .wait_for_status("everything is sent", |status| {
                expected_shops.iter().all(|shop| is_settled(status, shop))
            })
            .await
    }

    /// From now on this shop may end with something unsent.
    pub(crate) fn allow_unsent(&mut self, shop: &TestShop, why: &'static str) {
        self.allowed_unsent.insert(shop.name.clone(), why);
    }

    /// Stops and starts again on the same directory and beside the same Market.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(RunningService::start(self.config.clone(), self.clock).await);
    }

    /// The same by another clock.
    pub(crate) async fn restart_with_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.restart().await;
    }

    /// The same with another configuration.
    pub(crate) async fn restart_with_config(&mut self, shops: &[TestShop], extra_settings: &str) {
        self.stop().await;
        let (text, variables) = configuration(&self.market_url, shops);
        let variables = variables.into_iter().collect();
        let text = format!("{extra_settings}{text}");
        self.config = Config::parse(&text, variables, self.directory.path()).unwrap();
        self.shops = shops.to_vec();
        self.running = Some(RunningService::start(self.config.clone(), self.clock).await);
    }

    /// Stops, and asserts order.
    async fn stop(&mut self) {
        self.wait_settled().await;
        let mut stock_before = Vec::new();
        for shop in &self.shops {
            stock_before.push(self.endpoints().all_stock(shop, 100).await);
        }
        let running = self.running.take().expect("the house is open");
        running.stop().await;
        if !self.shops.is_empty() {
            self.assert_consistent(&stock_before).await;
        }
    }

    /// Tells the service to stop and does not wait.
    pub(crate) fn start_stopping(&self) {
        self.running
            .as_ref()
            .expect("the house is open")
            .stop
            .cancel();
    }

    /// Waits for a stop that was begun. What is in the store is not looked at.
    pub(crate) async fn wait_stopped(mut self) {
        self.running.take().expect("the house is open").stop().await;
    }

    async fn assert_consistent(&self, stock_before: &[ListedStock]) {
        let keys: Vec<ShopIdentity> = self
            .shops
            .iter()
            .map(|shop| ShopIdentity {
                name: shop.name.clone(),
                target: format!("{} {}", self.market_url, shop.target()),
                warehouses: shop.warehouses.clone(),
            })
            .collect();
        let store_config = store::Config {
            path: self.config.store.clone(),
            url: None,
        };
        let disk = Store::open(&store_config, &keys).await.unwrap();
        disk.store.close().await.unwrap();
        for ((id, shop), in_memory) in disk.book.shops().zip(&self.shops).zip(stock_before) {
            let quarantined: HashSet<&str> = disk.quarantine[id.index()]
                .iter()
                .map(|row| row.sku.as_str())
                .collect();
            let may_be_unsent =
                self.allowed_unsent.contains_key(&shop.name) || !self.is_forwarded(shop);
            let mut on_disk = ListedStock::new();
            disk.book.for_each(id, |sku, entry| {
                let level = entry.level();
                on_disk.insert(
                    sku.to_string(),
                    (level.count.get(), level.updated_at.to_string()),
                );
                let acked = disk.acked[id.index()].get(entry.id()).level();
                let is_explained = may_be_unsent || quarantined.contains(sku.as_str());
                assert!(
                    is_explained || acked == Some(level),
                    "{sku} is unsent on disk: {acked:?} of {level:?}"
                );
            });
            assert_eq!(&on_disk, in_memory, "disk and memory of {}", shop.name);
            if !may_be_unsent {
                let expected = in_memory
                    .iter()
                    .map(|(sku, (count, _))| (sku.as_str(), *count));
                let expected = expected.filter(|(sku, _)| !quarantined.contains(sku));
                let comparison = compare(expected, &self.market.snapshot(shop.campaign));
                assert!(
                    comparison.is_equal(),
                    "the Market and {}: {comparison:?}",
                    shop.name
                );
            }
        }
        let report = self.market.report();
        assert_eq!(
            report.total_violations(),
            0,
            "limits were broken: {:?}",
            report.violation_examples
        );
    }

    fn is_forwarded(&self, shop: &TestShop) -> bool {
        self.config
            .shops
            .iter()
            .any(|config| config.name == shop.name && config.migrate == Mode::On)
    }
}

impl Drop for TestService {
    fn drop(&mut self) {
        if self.running.is_none() || std::thread::panicking() {
            return;
        }
        tokio::task::block_in_place(|| {
            Handle::current().block_on(async {
                self.stop().await;
                self.market_tasks.stop();
                self.market_tasks.ended().await;
                assert!(self.market_tasks.is_empty());
            });
        });
    }
}

impl RunningService {
    async fn start(config: Config, clock: Clock) -> Self {
        let app = App::build(config, clock, Ownership::Verify).await.unwrap();
        let endpoints = Endpoints {
            public: app.public_addr(),
            ops: app.ops_addr(),
        };
        let (stop, tasks) = (CancellationToken::new(), Tasks::new(CrashSignal::default()));
        let (result_sender, done) = oneshot::channel();
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn_short_lived(async move {
            // A test that failed meanwhile does not listen any more.
            let _ignored = result_sender.send(app.run(stopped).await);
        });
        Self {
            endpoints,
            stop,
            tasks,
            done,
        }
    }

    /// That this is well says that no task was left and none died.
    async fn stop(self) {
        self.stop.cancel();
        self.done.await.unwrap().unwrap();
        self.tasks.stop();
        self.tasks.ended().await;
    }
}
