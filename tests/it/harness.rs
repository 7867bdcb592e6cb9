//! A whole house on a port of its own, with a rehearsal Market across the street.
//!
//! Dropping a [`House`] asserts order: nothing unsent that is not explained, no task left, the
//! disk equal to memory, the Market equal to the book, no limit broken.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use stockbridge::app::{App, Claim};
use stockbridge::clock::Clock;
use stockbridge::config::Config;
use stockbridge::lifecycle::{Fuse, Tasks};
use stockbridge::migrator::Mode;
use stockbridge::rehearsal::{CampaignConfig, Market, MarketConfig, compare};
use stockbridge::store::{self, ShopKey, Store};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::wire::{Answer, send};

/// How long a condition may take to come about before the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A shop as a test wants it. Its secrets are named after it: `push-moscow`, `feed-moscow`,
/// `api-moscow` and `second-api-moscow`.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) name: String,
    pub(crate) campaign: u64,
    pub(crate) warehouses: Vec<u64>,
    pub(crate) base_path: String,
    business: Option<u64>,
    more: String,
    secrets: Vec<(&'static str, String)>,
}

impl Shop {
    /// A shop of one warehouse, with a base path of its own.
    pub(crate) fn new(name: &str, campaign: u64, warehouse: u64) -> Self {
        let secret = |kind: &str| format!("{kind}-{name}");
        Self {
            name: name.to_owned(),
            campaign,
            warehouses: vec![warehouse],
            base_path: format!("/{name}"),
            business: None,
            more: String::new(),
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

    pub(crate) fn at(self, base_path: &str) -> Self {
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

    /// Told to the Market by the method of this business.
    pub(crate) fn by_business(self, business: u64) -> Self {
        let told = Self {
            business: Some(business),
            ..self
        };
        told.set("method = \"business\"")
            .set(&format!("business = {business}"))
    }

    /// Adds a line of configuration.
    pub(crate) fn set(mut self, line: &str) -> Self {
        self.more.push_str(line);
        self.more.push('\n');
        self
    }

    /// Adds a secret, or replaces it: `PUSH_TOKEN_2` and the like.
    pub(crate) fn secret(mut self, kind: &'static str, text: &str) -> Self {
        self.secrets.retain(|(given, _)| *given != kind);
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
        let found = self.secrets.iter().find(|(given, _)| *given == kind);
        found.map(|(_, text)| text.as_str()).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> String {
        format!("/v2/campaigns/{}/offers/stocks", self.campaign)
    }

    /// Where its stock goes, as the store spells it.
    fn target(&self) -> String {
        match self.business {
            Some(id) => format!("business {id} warehouses {:?}", self.warehouses),
            None => format!("campaign {}", self.campaign),
        }
    }

    fn toml(&self) -> String {
        format!(
            "\n[[shops]]\nname = {:?}\nwarehouses = {:?}\nbase_path = {:?}\ncampaign = {}\n{}",
            self.name, self.warehouses, self.base_path, self.campaign, self.more
        )
    }
}

/// The configuration of these shops, as a file and an environment. Ports are chosen by the
/// system, the store is beside the file.
pub(crate) fn configuration(market_url: &str, shops: &[Shop]) -> (String, Vec<(String, String)>) {
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\nstore = \"store\"\n\
         market_url = {market_url:?}\n"
    );
    text.extend(shops.iter().map(Shop::toml));
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
pub(crate) fn market(shops: &[Shop]) -> Market {
    Market::new(market_config(shops))
}

/// What that Market is like.
pub(crate) fn market_config(shops: &[Shop]) -> MarketConfig {
    let campaigns = shops.iter().map(|shop| {
        let keys = vec![
            format!("api-{}", shop.name),
            format!("second-api-{}", shop.name),
        ];
        let campaign = CampaignConfig::new(shop.campaign, shop.warehouses[0], keys);
        campaign.of_business(shop.business.unwrap_or_default())
    });
    MarketConfig {
        campaigns: campaigns.collect(),
        ..MarketConfig::new(Clock::wall())
    }
}

/// Where a running service is, whichever process it runs in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doors {
    pub(crate) public: SocketAddr,
    pub(crate) ops: SocketAddr,
}

/// SKU, count, and the moment since when, as the read-back spells it.
pub(crate) type Everything = BTreeMap<String, (u32, String)>;

impl Doors {
    pub(crate) async fn put(self, shop: &Shop, body: &[u8]) -> Answer {
        let headers = [
            ("Api-Key", shop.feed_key()),
            ("Content-Type", "application/json"),
        ];
        send(self.public, "PUT", &shop.path(), &headers, body).await
    }

    /// Feeds the shop, which must take it.
    pub(crate) async fn feed(self, shop: &Shop, stock: &[(&str, u32)]) {
        let answer = self.put(shop, update(stock).as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub(crate) async fn ask(self, shop: &Shop, warehouse: u64, skus: &[&str]) -> Answer {
        self.ask_with(shop, shop.push_token(), warehouse, skus)
            .await
    }

    pub(crate) async fn ask_with(
        self,
        shop: &Shop,
        token: &str,
        warehouse: u64,
        skus: &[&str],
    ) -> Answer {
        let body = json!({ "warehouseId": warehouse, "skus": skus }).to_string();
        let headers = [
            ("Authorization", token),
            ("Content-Type", "application/json"),
        ];
        let target = format!("{}/stocks", shop.base_path);
        send(self.public, "POST", &target, &headers, body.as_bytes()).await
    }

    /// Every SKU with its count in an answer that must be one.
    pub(crate) async fn counts(self, shop: &Shop, skus: &[&str]) -> Vec<(String, u64)> {
        let answer = self.ask(shop, shop.warehouses[0], skus).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let items = answer["skus"].as_array().unwrap().iter();
        items
            .map(|item| {
                let sku = item["sku"].as_str().unwrap().to_owned();
                (sku, item["items"][0]["count"].as_u64().unwrap())
            })
            .collect()
    }

    /// A page of the read-back.
    pub(crate) async fn page(self, shop: &Shop, query: &str, body: &str) -> Value {
        let headers = [("Api-Key", shop.feed_key())];
        let target = format!("{}{query}", shop.path());
        let answer = send(self.public, "POST", &target, &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["result"].take()
    }

    /// All that is known of a shop, page by page.
    pub(crate) async fn everything(self, shop: &Shop, limit: usize) -> Everything {
        let mut all = Everything::new();
        let mut token = String::new();
        loop {
            let query = format!("?limit={limit}&page_token={token}");
            let page = self.page(shop, &query, "").await;
            for offer in page["warehouses"][0]["offers"].as_array().unwrap() {
                let sku = offer["offerId"].as_str().unwrap().to_owned();
                let count = u32::try_from(offer["stocks"][1]["count"].as_u64().unwrap()).unwrap();
                let at = offer["updatedAt"].as_str().unwrap().to_owned();
                let twin = all.insert(sku, (count, at));
                assert_eq!(twin, None, "a SKU on two pages");
            }
            match page["paging"]["nextPageToken"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => return all,
            }
        }
    }

    pub(crate) async fn status(self) -> Value {
        let answer = send(self.ops, "GET", "/status", &[], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// What the operator is answered, status and body.
    pub(crate) async fn operator(self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let headers = [("Content-Type", "application/json"), ("X-Stockbridge", "1")];
        let answer = send(self.ops, method, target, &headers, body.as_bytes()).await;
        let said = if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        };
        (answer.status, said)
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

    /// Waits until the status is as wanted. Polled, because a status is no event: what is
    /// waited for comes about in the service's own tasks or in another process.
    pub(crate) async fn until(self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "never came about: {what}\n{status:#}"
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the service has stopped taking new requests.
    pub(crate) async fn until_stopping(self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = send(self.ops, "GET", "/readyz", &[], b"").await;
            if answer.json()["state"] == "stopping" {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "it does not stop: {}",
                answer.text()
            );
            sleep(LOOK_EVERY).await;
        }
    }
}

/// The part of a status about one shop.
pub(crate) fn of<'a>(status: &'a Value, shop: &Shop) -> &'a Value {
    let shops = status["shops"].as_array().unwrap();
    shops
        .iter()
        .find(|entry| entry["name"] == shop.name.as_str())
        .unwrap()
}

/// The Market has all that it takes of this shop.
pub(crate) fn is_settled(status: &Value, shop: &Shop) -> bool {
    let shop = of(status, shop);
    if shop["migrate"] != "on" {
        return true;
    }
    let Some(dirty) = shop["dirty"].as_u64() else {
        return true;
    };
    let aside = shop["migrator"]["quarantined"]
        .as_array()
        .map_or(0, Vec::len) as u64;
    dirty == aside && shop["migrator"]["in_flight_requests"] == 0
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
pub(crate) fn dated(sku: &str, count: u32, updated_at: &str) -> String {
    json!({ "skus": [{ "sku": sku, "items": [{ "count": count, "updatedAt": updated_at }] }] })
        .to_string()
}

/// See the module. Needs a runtime of several threads, for its [`Drop`].
pub(crate) struct House {
    pub(crate) shops: Vec<Shop>,
    pub(crate) market: Market,
    pub(crate) market_url: String,
    pub(crate) directory: TempDir,
    across_the_street: Tasks,
    config: Config,
    clock: Clock,
    running: Option<Running>,
    // Shops that may end with something unsent, and why.
    excused: BTreeMap<String, &'static str>,
}

struct Running {
    doors: Doors,
    stop: CancellationToken,
    tasks: Tasks,
    done: oneshot::Receiver<anyhow::Result<()>>,
}

impl House {
    pub(crate) async fn with(shops: &[Shop]) -> Self {
        Self::beside(market(shops), shops).await
    }

    /// A house with this Market.
    pub(crate) async fn beside(market: Market, shops: &[Shop]) -> Self {
        Self::set_up(market, shops, "", Clock::wall()).await
    }

    /// The same with some settings at the top of the file, and a clock that may be wrong.
    pub(crate) async fn set_up(market: Market, shops: &[Shop], more: &str, clock: Clock) -> Self {
        let across_the_street = Tasks::new(Fuse::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = market.start(any, &across_the_street).await.unwrap();
        let market_url = format!("http://{address}");
        let (text, variables) = configuration(&market_url, shops);
        let market = (market, market_url, across_the_street);
        Self::read(&format!("{more}{text}"), variables, market, shops, clock).await
    }

    /// A house that forwards nothing, of a file.
    pub(crate) async fn of_file(text: &str, variables: Vec<(String, String)>) -> Self {
        let nobody = (market(&[]), String::new(), Tasks::new(Fuse::default()));
        Self::read(text, variables, nobody, &[], Clock::wall()).await
    }

    async fn read(
        text: &str,
        variables: Vec<(String, String)>,
        (market, market_url, across_the_street): (Market, String, Tasks),
        shops: &[Shop],
        clock: Clock,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let variables = variables.into_iter().collect();
        let config = Config::parse(text, variables, directory.path()).unwrap();
        let running = Some(Running::start(config.clone(), clock).await);
        Self {
            shops: shops.to_vec(),
            market,
            market_url,
            directory,
            across_the_street,
            config,
            clock,
            running,
            excused: BTreeMap::new(),
        }
    }

    pub(crate) fn doors(&self) -> Doors {
        self.running.as_ref().expect("the house is open").doors
    }

    /// The shop of a house with one.
    pub(crate) fn shop(&self) -> &Shop {
        &self.shops[0]
    }

    /// Waits until the Market has all it takes.
    pub(crate) async fn settle(&self) -> Value {
        let waiting: Vec<&Shop> = self
            .shops
            .iter()
            .filter(|shop| !self.excused.contains_key(&shop.name))
            .collect();
        let doors = self.doors();
        doors
            .until("everything is sent", |status| {
                waiting.iter().all(|shop| is_settled(status, shop))
            })
            .await
    }

    /// From now on this shop may end with something unsent.
    pub(crate) fn excuse(&mut self, shop: &Shop, why: &'static str) {
        self.excused.insert(shop.name.clone(), why);
    }

    /// Stops and starts again on the same directory and beside the same Market.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(Running::start(self.config.clone(), self.clock).await);
    }

    /// The same by another clock.
    pub(crate) async fn restart_by(&mut self, clock: Clock) {
        self.clock = clock;
        self.restart().await;
    }

    /// The same with another configuration.
    pub(crate) async fn restart_as(&mut self, shops: &[Shop], more: &str) {
        self.stop().await;
        let (text, variables) = configuration(&self.market_url, shops);
        let variables = variables.into_iter().collect();
        let text = format!("{more}{text}");
        self.config = Config::parse(&text, variables, self.directory.path()).unwrap();
        self.shops = shops.to_vec();
        self.running = Some(Running::start(self.config.clone(), self.clock).await);
    }

    /// Stops, and asserts order.
    async fn stop(&mut self) {
        self.settle().await;
        let mut memory = Vec::new();
        for shop in &self.shops {
            memory.push(self.doors().everything(shop, 100).await);
        }
        let running = self.running.take().expect("the house is open");
        running.stop().await;
        if !self.shops.is_empty() {
            self.compare(&memory).await;
        }
    }

    /// Tells the service to stop and does not wait.
    pub(crate) fn begin_to_stop(&self) {
        self.running
            .as_ref()
            .expect("the house is open")
            .stop
            .cancel();
    }

    /// Waits for a stop that was begun. What is in the store is not looked at.
    pub(crate) async fn until_stopped(mut self) {
        self.running.take().expect("the house is open").stop().await;
    }

    async fn compare(&self, memory: &[Everything]) {
        let keys: Vec<ShopKey> = self
            .shops
            .iter()
            .map(|shop| ShopKey {
                name: shop.name.clone(),
                target: format!("{} {}", self.market_url, shop.target()),
                warehouses: shop.warehouses.clone(),
            })
            .collect();
        let place = store::Config {
            path: self.config.store.clone(),
        };
        let disk = Store::open(&place, &keys).await.unwrap();
        disk.store.close().await.unwrap();
        for ((id, shop), memory) in disk.book.shops().zip(&self.shops).zip(memory) {
            let aside: HashSet<&str> = disk.quarantine[id.index()]
                .iter()
                .map(|row| row.sku.as_str())
                .collect();
            let is_excused = self.excused.contains_key(&shop.name) || !self.forwards(shop);
            let mut on_disk = Everything::new();
            disk.book.for_each(id, |sku, entry| {
                let level = entry.level();
                on_disk.insert(
                    sku.to_string(),
                    (level.count.get(), level.updated_at.to_string()),
                );
                let acked = disk.acked[id.index()].get(entry.id()).level();
                let is_explained = is_excused || aside.contains(sku.as_str());
                assert!(
                    is_explained || acked == Some(level),
                    "{sku} is unsent on disk: {acked:?} of {level:?}"
                );
            });
            assert_eq!(&on_disk, memory, "disk and memory of {}", shop.name);
            if !is_excused {
                let expected = memory
                    .iter()
                    .map(|(sku, (count, _))| (sku.as_str(), *count));
                let expected = expected.filter(|(sku, _)| !aside.contains(sku));
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
            report.broken_in_all(),
            0,
            "limits were broken: {:?}",
            report.examples
        );
    }

    fn forwards(&self, shop: &Shop) -> bool {
        self.config
            .shops
            .iter()
            .any(|config| config.name == shop.name && config.migrate == Mode::On)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if self.running.is_none() || std::thread::panicking() {
            return;
        }
        tokio::task::block_in_place(|| {
            Handle::current().block_on(async {
                self.stop().await;
                self.across_the_street.stop();
                self.across_the_street.ended().await;
                assert!(self.across_the_street.is_empty());
            });
        });
    }
}

impl Running {
    async fn start(config: Config, clock: Clock) -> Self {
        let app = App::build(config, clock, Claim::Respect).await.unwrap();
        let doors = Doors {
            public: app.public_addr(),
            ops: app.ops_addr(),
        };
        let (stop, tasks) = (CancellationToken::new(), Tasks::new(Fuse::default()));
        let (tell, done) = oneshot::channel();
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn_brief(async move {
            // A test that failed meanwhile does not listen any more.
            let _heard = tell.send(app.run(stopped).await);
        });
        Self {
            doors,
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
