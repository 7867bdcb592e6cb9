//! Our requests, and the responses of the simulator and of our partner API, compared with the
//! Market's OpenAPI description.

mod description;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use market_api::partner::client::{CallOutcome, MarketClient};
use market_api::partner::readback_page::{OfferList, ReadbackQuery, ReadbackSelection};
use market_api::partner::wire::{self, MarketAddress, business};
use market_sim::{Availability, Placement, SimulatorConfig};
use serde_json::{Value, json};
use stock::Sku;
use strict_http::secret::Secret;
use strict_http::{ClientConfig, HttpServer, ServerLimits, Trust, client};

use self::description::{OpenApiDescription, RecordedExchange};
use crate::harness::{TestService, TestShop, configuration, is_settled, market_for, shop_status};
use crate::wire::send;

const KEY: &str = "api-moscow";
const FEED_KEY: &str = "feed-moscow";
const CAMPAIGN: u64 = 12_345;
const BUSINESS: u64 = 7;
const WAREHOUSE: u64 = 569_667;

type RecordedExchanges = Arc<Mutex<Vec<RecordedExchange>>>;

/// A server on a port of its own whose exchanges are recorded.
struct RecordingServer {
    address: SocketAddr,
    exchanges: RecordedExchanges,
    tasks: Tasks,
}

impl RecordingServer {
    fn start(router: Router) -> Self {
        let exchanges = RecordedExchanges::default();
        let log = Arc::clone(&exchanges);
        let record = move |request: Request, next: Next| record(Arc::clone(&log), request, next);
        let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), ServerLimits::default()).unwrap();
        let address = server.local_addr().unwrap();
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn(
            "recorder",
            server.run(router.layer(from_fn(record)), tasks.clone()),
        );
        Self {
            address,
            exchanges,
            tasks,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn take(&self) -> Vec<RecordedExchange> {
        std::mem::take(&mut *self.exchanges.lock().unwrap())
    }
}

impl Drop for RecordingServer {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn record(exchanges: RecordedExchanges, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let request = to_bytes(body, usize::MAX).await.unwrap();
    let (method, target) = (head.method.to_string(), head.uri.to_string());
    let response = next
        .run(Request::from_parts(head, Body::from(request.clone())))
        .await;
    let (head, body) = response.into_parts();
    let response = to_bytes(body, usize::MAX).await.unwrap();
    exchanges.lock().unwrap().push(RecordedExchange {
        method,
        target,
        request: request.to_vec(),
        status: head.status.as_u16(),
        response: response.to_vec(),
    });
    Response::from_parts(head, Body::from(response))
}

/// The simulator of one shop, whose campaign belongs to a business.
fn simulator() -> RecordingServer {
    let shop = TestShop::moscow().by_business(BUSINESS);
    RecordingServer::start(market_for(&[shop]).router())
}

/// Asserts that request and response match the description.
fn assert_as_described(description: &OpenApiDescription, exchange: &RecordedExchange) {
    let about = format!(
        "{} {} {}",
        exchange.method, exchange.target, exchange.status
    );
    assert_eq!(description.check_request(exchange), [""; 0], "{about}");
    assert_eq!(description.check_response(exchange), [""; 0], "{about}");
}

/// Calls every method of our client.
async fn call_everything(url: &str) {
    let http = client(&ClientConfig {
        trust: Trust::PlainHttpOnly,
        ..ClientConfig::default()
    })
    .unwrap();
    let (market, key, now) = (
        MarketClient::new(http, url),
        Secret::new(KEY),
        Clock::wall().now(),
    );
    let sku = Sku::parse("Чайник «Лён» 1,7 л").unwrap();
    let ok = |reply: CallOutcome| match reply {
        CallOutcome::Response(response) => assert_eq!(response.status, 200, "{:?}", response.body),
        CallOutcome::NoResponse(reason) => panic!("{reason}"),
    };
    for address in [
        MarketAddress::Campaign { id: CAMPAIGN },
        MarketAddress::Business {
            id: BUSINESS,
            warehouses: vec![WAREHOUSE],
        },
    ] {
        for part in [
            ReadbackSelection::List {
                list: OfferList::Active,
                token: None,
            },
            ReadbackSelection::List {
                list: OfferList::Archived,
                token: Some("41".to_owned()),
            },
            ReadbackSelection::Skus(vec![sku.to_string()]),
        ] {
            let query = ReadbackQuery {
                warehouses: vec![WAREHOUSE],
                selection: part,
            };
            ok(market.readback(&address, &key, &query, now).await);
        }
    }
    ok(market
        .set_offer_hidden(CAMPAIGN, &key, &sku, true, now)
        .await);
    ok(market.get_hidden_offers(CAMPAIGN, &key, &sku, now).await);
    ok(market
        .set_offer_hidden(CAMPAIGN, &key, &sku, false, now)
        .await);
    market.token_scopes(&key).await.unwrap();
    market.campaigns(&key).await.unwrap();
    market.warehouses(&key, BUSINESS).await.unwrap();
    market.partner_warehouses(&key, BUSINESS).await.unwrap();
}

/// Feeds a service with both methods until its stock is forwarded and read back.
async fn forward(shops: &[TestShop], url: &str) {
    let (text, variables) = configuration(url, shops);
    let service = TestService::from_config(&text, variables).await;
    let endpoints = service.endpoints();
    for shop in shops {
        endpoints
            .feed(
                shop,
                &[
                    ("A", 5),
                    ("Чайник «Лён» 1,7 л", 0),
                    ("6\" ½\t½", 2_000_000_000),
                ],
            )
            .await;
    }
    let all = |has_status: fn(&Value, &TestShop) -> bool| {
        move |status: &Value| shops.iter().all(|shop| has_status(status, shop))
    };
    endpoints
        .wait_for_status("everything is sent", all(is_settled))
        .await;
    assert_eq!(endpoints.ops_request("POST", "/verify", "").await.0, 202);
    let is_read =
        |status: &Value, shop: &TestShop| shop_status(status, shop)["survey"]["state"] == "done";
    endpoints
        .wait_for_status("it is read back", all(is_read))
        .await;
}

/// Every exchange of our own with the simulator.
async fn our_exchanges() -> Vec<RecordedExchange> {
    let simulator = simulator();
    call_everything(&simulator.url()).await;
    let mut exchanges = simulator.take();
    let shops = [
        TestShop::moscow(),
        TestShop::new("omsk", 2, 22).by_business(BUSINESS),
    ];
    let simulator = RecordingServer::start(market_for(&shops).router());
    forward(&shops, &simulator.url()).await;
    exchanges.extend(simulator.take());
    exchanges
}

#[test]
fn the_description_has_no_unknown_keyword() {
    assert_eq!(
        OpenApiDescription::of_the_market().unknown_keywords(),
        [""; 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_responses_match_the_openapi() {
    let description = OpenApiDescription::of_the_market();
    let exchanges = our_exchanges().await;
    for exchange in &exchanges {
        assert_as_described(&description, exchange);
    }
    let called = |exchange: &RecordedExchange| {
        let path = exchange.target.split('?').next().unwrap();
        let parts = path.split('/');
        let numbered = parts.map(|part| {
            if part.parse::<u64>().is_ok() {
                "{}"
            } else {
                part
            }
        });
        format!(
            "{} {}",
            exchange.method,
            numbered.collect::<Vec<_>>().join("/")
        )
    };
    let called: BTreeSet<String> = exchanges.iter().map(called).collect();
    assert_eq!(
        called.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "GET /v2/campaigns",
            "GET /v2/campaigns/{}/hidden-offers",
            "POST /v2/auth/token",
            "POST /v2/businesses/{}/warehouses",
            "POST /v2/campaigns/{}/hidden-offers",
            "POST /v2/campaigns/{}/hidden-offers/delete",
            "POST /v2/campaigns/{}/offers/stocks",
            "POST /v3/businesses/{}/offers/stocks",
            "POST /v3/businesses/{}/offers/stocks/update",
            "POST /v3/businesses/{}/warehouses",
            "PUT /v2/campaigns/{}/offers/stocks",
        ]
    );
    for exchange in &exchanges {
        assert_changes_are_found(&description, exchange);
    }
}

/// Every value of a checked exchange is replaced by one of another type, and every object gets a
/// further member: each time the check must fail.
fn assert_changes_are_found(description: &OpenApiDescription, exchange: &RecordedExchange) {
    for (what, body) in [
        ("request", &exchange.request),
        ("response", &exchange.response),
    ] {
        if body.is_empty() {
            continue;
        }
        let value: Value = serde_json::from_slice(body).unwrap();
        for pointer in pointers(&value) {
            let mut changed = value.clone();
            let target_value = changed.pointer_mut(&pointer).unwrap();
            if let Some(object) = target_value.as_object_mut() {
                object.insert("unheard-of".to_owned(), json!(1));
            } else {
                *target_value = json!({ "unheard-of": 1 });
            }
            let body = changed.to_string().into_bytes();
            let mut exchange = exchange.clone();
            let faults = if what == "request" {
                exchange.request = body;
                description.check_request(&exchange)
            } else {
                exchange.response = body;
                description.check_response(&exchange)
            };
            assert!(
                !faults.is_empty(),
                "{what} of {}: {pointer}",
                exchange.target
            );
        }
    }
    let joint = if exchange.target.contains('?') {
        '&'
    } else {
        '?'
    };
    for (method, target) in [
        ("PATCH", exchange.target.clone()),
        (exchange.method.as_str(), format!("/v9{}", exchange.target)),
        (
            exchange.method.as_str(),
            format!("{}{joint}unheard-of=1", exchange.target),
        ),
    ] {
        let changed = RecordedExchange {
            method: method.to_owned(),
            target,
            ..exchange.clone()
        };
        assert!(
            !description.check_request(&changed).is_empty(),
            "{method} {}",
            changed.target
        );
    }
    let changed = RecordedExchange {
        status: 299,
        ..exchange.clone()
    };
    assert!(!description.check_response(&changed).is_empty());
}

/// Pointers to every value in a value, itself included.
fn pointers(value: &Value) -> Vec<String> {
    let below = |name: String, value: &Value| {
        let name = name.replace('~', "~0").replace('/', "~1");
        pointers(value)
            .into_iter()
            .map(move |rest| format!("/{name}{rest}"))
            .collect::<Vec<_>>()
    };
    let mut all = vec![String::new()];
    match value {
        Value::Object(map) => all.extend(map.iter().flat_map(|(k, v)| below(k.clone(), v))),
        Value::Array(items) => {
            all.extend(
                items
                    .iter()
                    .enumerate()
                    .flat_map(|(i, v)| below(i.to_string(), v)),
            );
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

impl RecordedExchange {
    /// Offers in a page of a read-back by either method.
    fn offers(&self) -> usize {
        let body: Value = serde_json::from_slice(&self.response).unwrap();
        let result = &body["result"];
        let warehouses = result["warehouses"].as_array().into_iter().flatten();
        let all = warehouses
            .chain([result])
            .filter_map(|list| list["offers"].as_array());
        all.map(Vec::len).sum()
    }
}

// === What is served ===

/// A server of the Market's methods: the simulator or the drop-in.
struct MarketApiServer {
    name: &'static str,
    address: SocketAddr,
    key: &'static str,
}

impl MarketApiServer {
    async fn request(&self, method: &str, target: &str, body: &str) -> RecordedExchange {
        self.request_with_key(self.key, method, target, body).await
    }

    async fn request_with_key(
        &self,
        key: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> RecordedExchange {
        let headers = [("Api-Key", key), ("Content-Type", "application/json")];
        let headers = if body.is_empty() {
            &headers[..1]
        } else {
            &headers[..]
        };
        let response = send(self.address, method, target, headers, body.as_bytes()).await;
        RecordedExchange {
            method: method.to_owned(),
            target: target.to_owned(),
            request: body.as_bytes().to_vec(),
            status: response.status,
            response: response.body,
        }
    }

    /// The body of a good request.
    fn valid_body(&self, target: &str) -> String {
        let item = |member: &str| json!({ "sku": "A", member: 1 });
        let body = if target.ends_with("/update") {
            let mut item = item("count");
            item["partnerWarehouseId"] = WAREHOUSE.into();
            json!({ "skuItems": [item] })
        } else if target.starts_with("/v3") && target.ends_with("/offers/stocks") {
            json!({ "partnerWarehouseId": WAREHOUSE })
        } else if target.contains("hidden-offers") {
            json!({ "hiddenOffers": [{ "offerId": "A" }] })
        } else {
            json!({})
        };
        body.to_string()
    }
}

const STOCK_UPDATE_BODY: &str = r#"{"skus":[{"sku":"A","items":[{"count":1}]}]}"#;

fn with_ids(path: &str) -> String {
    let path = path.replace("{campaignId}", &CAMPAIGN.to_string());
    path.replace("{businessId}", &BUSINESS.to_string())
}

/// The simulator and our partner API for the same shop, with what both need to run.
async fn servers() -> (RecordingServer, TestService, [MarketApiServer; 2]) {
    let simulator = simulator();
    let shop = TestShop::moscow()
        .by_business(BUSINESS)
        .set("migrate = \"off\"");
    let (text, variables) = configuration("http://127.0.0.1:1", &[shop]);
    let service = TestService::from_config(&text, variables).await;
    let servers = [
        MarketApiServer {
            name: "simulator",
            address: simulator.address,
            key: KEY,
        },
        MarketApiServer {
            name: "drop-in",
            address: service.endpoints().public,
            key: FEED_KEY,
        },
    ];
    (simulator, service, servers)
}

/// Described operations that the drop-in leaves to the Market.
const NOT_SERVED_BY_PARTNER_API: &[&str] = &[
    "hidden-offers",
    "/v2/auth/token",
    "/v2/businesses/",
    "/v3/businesses/{businessId}/warehouses",
];

#[tokio::test(flavor = "multi_thread")]
async fn serves_or_rejects_every_described_operation() {
    let description = OpenApiDescription::of_the_market();
    let (_simulator, _house, servers) = servers().await;
    for server in &servers {
        for (method, path) in description.operations() {
            let target = with_ids(&path);
            let body = match method.as_str() {
                "PUT" => STOCK_UPDATE_BODY.to_owned(),
                "GET" => String::new(),
                _ if path == "/v2/auth/token" => String::new(),
                _ => server.valid_body(&target),
            };
            let about = format!("{}: {method} {path}", server.name);
            let good = server.request(&method, &target, &body).await;
            let is_left_out = match server.name {
                "simulator" => method == "GET" && path.ends_with("/warehouses"),
                _ => NOT_SERVED_BY_PARTNER_API
                    .iter()
                    .any(|part| path.contains(part)),
            };
            assert_eq!(description.check_request(&good), [""; 0], "{about}");
            assert_eq!(description.check_response(&good), [""; 0], "{about}");
            assert_eq!(good.status == 200, !is_left_out, "{about}: {}", good.status);
            assert_changes_are_found(&description, &good);
            // Every rejection has the shape of an error.
            let elsewhere = target.replace("12345", "99").replace("/7/", "/99/");
            for (what, bad) in [
                (
                    "key",
                    server
                        .request_with_key("wrong", &method, &target, &body)
                        .await,
                ),
                ("body", server.request(&method, &target, "[").await),
                ("number", server.request(&method, &elsewhere, &body).await),
                (
                    "limit",
                    server
                        .request(&method, &format!("{target}?limit=0"), &body)
                        .await,
                ),
                ("method", server.request("DELETE", &target, "").await),
            ] {
                assert_eq!(description.check_response(&bad), [""; 0], "{about}: {what}");
            }
        }
    }
}

/// Pages of a server with more than enough offers have the length that the description states.
async fn assert_page_lengths(
    server: &MarketApiServer,
    (method, target, body): (&str, &str, &str),
    default: u64,
    most: u64,
) {
    for (query, length) in [
        (String::new(), default),
        (format!("?limit={most}"), most),
        (format!("?limit={}", most + 1), most),
        (format!("?limit={}", most * 2 + 1), most),
    ] {
        let page = server
            .request(method, &format!("{target}{query}"), body)
            .await;
        assert_eq!(
            page.offers() as u64,
            length,
            "{}: {target}{query}",
            server.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_limits_are_the_described_ones() {
    let description = OpenApiDescription::of_the_market();
    let (_simulator, _house, servers) = servers().await;
    for server in &servers {
        let mut checked = 0;
        let item = |n: usize| json!({ "sku": n.to_string(), "items": [{ "count": 1 }] });
        let body = json!({ "skus": (0..500).map(item).collect::<Vec<_>>() }).to_string();
        let stocks = format!("/v2/campaigns/{CAMPAIGN}/offers/stocks");
        assert_eq!(server.request("PUT", &stocks, &body).await.status, 200);
        for (method, path) in description.operations() {
            let operation = description.at(&format!(
                "/paths/{}/{}",
                path.replace('/', "~1"),
                method.to_lowercase()
            ));
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let mut parameters = parameters.map(|parameter| {
                description.at(parameter["$ref"].as_str().unwrap().trim_start_matches('#'))
            });
            let Some(limit) = parameters.find(|parameter| parameter["name"] == "limit") else {
                continue;
            };
            let is_drop_in = server.name == "drop-in";
            if is_drop_in
                && NOT_SERVED_BY_PARTNER_API
                    .iter()
                    .any(|part| path.contains(part))
            {
                continue;
            }
            let number = |name: &str| limit["schema"][name].as_u64().unwrap();
            let most = number("maximum");
            let is_cut = limit["x-transform"] == "truncateLimit";
            let over = if is_cut { 200 } else { 400 };
            let target = with_ids(&path);
            let body = if method == "GET" {
                String::new()
            } else {
                server.valid_body(&target)
            };
            for (limit_value, status) in [(0, 400), (1, 200), (most, 200), (most + 1, over)] {
                let response = server
                    .request(&method, &format!("{target}?limit={limit_value}"), &body)
                    .await;
                let about = format!("{}: {method} {target} limit {limit_value}", server.name);
                assert_eq!(response.status, status, "{about}");
            }
            if is_cut {
                let request = (method.as_str(), target.as_str(), body.as_str());
                assert_page_lengths(server, request, number("default"), most).await;
            }
            checked += 1;
        }
        assert_eq!(
            checked,
            if server.name == "simulator" { 6 } else { 3 },
            "{}",
            server.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one sequence of steps")]
async fn sizes_of_bodies_are_the_described_ones() {
    let description = OpenApiDescription::of_the_market();
    let (_simulator, _house, servers) = servers().await;
    let schema = |pointer: &str| description.at(&format!("/components/schemas/{pointer}"));
    let bound = |pointer: &str| usize::try_from(schema(pointer).as_u64().unwrap()).unwrap();
    let skus = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
    let campaign = format!("/v2/campaigns/{CAMPAIGN}");
    let business = format!("/v3/businesses/{BUSINESS}");
    let update = |skus: &[String], count: usize| {
        let item = |sku: &String| json!({ "sku": sku, "items": [{ "count": count }] });
        json!({ "skus": skus.iter().map(item).collect::<Vec<_>>() })
    };
    let business_update = |skus: &[String]| {
        let item =
            |sku: &String| json!({ "sku": sku, "partnerWarehouseId": WAREHOUSE, "count": 1 });
        json!({ "skuItems": skus.iter().map(item).collect::<Vec<_>>() })
    };
    let hidden = |skus: &[String]| {
        let item = |sku: &String| json!({ "offerId": sku });
        json!({ "hiddenOffers": skus.iter().map(item).collect::<Vec<_>>() })
    };
    let most_skus = bound("UpdateStocksRequest/properties/skus/maxItems");
    let most_items = bound("UpdateStocksOnWarehousesRequest/properties/skuItems/maxItems");
    let most_named = bound("GetWarehouseStocksRequest/properties/offerIds/maxItems");
    let most_named_v3 = bound("GetStocksOnPartnerWarehousesRequest/properties/offerIds/maxItems");
    let most_hidden = bound("AddHiddenOffersRequest/properties/hiddenOffers/maxItems");
    let most_shown = bound("DeleteHiddenOffersRequest/properties/hiddenOffers/maxItems");
    let most_count = bound("UpdateStockItemDTO/properties/count/maximum");
    let longest = bound("ShopSku/maxLength");
    for server in &servers {
        let mut cases = Vec::new();
        for (extra, status) in [(0, 200), (1, 400)] {
            let stocks = format!("{campaign}/offers/stocks");
            cases.extend([
                (
                    "PUT",
                    stocks.clone(),
                    update(&skus(most_skus + extra), 1),
                    status,
                ),
                (
                    "PUT",
                    stocks.clone(),
                    update(&skus(1), most_count + extra),
                    status,
                ),
                (
                    "PUT",
                    stocks.clone(),
                    update(&["a".repeat(longest + extra)], 1),
                    status,
                ),
                (
                    "POST",
                    stocks,
                    json!({ "offerIds": skus(most_named + extra) }),
                    status,
                ),
                (
                    "POST",
                    format!("{business}/offers/stocks/update"),
                    business_update(&skus(most_items + extra)),
                    status,
                ),
                (
                    "POST",
                    format!("{business}/offers/stocks"),
                    json!({
                        "partnerWarehouseId": WAREHOUSE, "offerIds": skus(most_named_v3 + extra),
                    }),
                    status,
                ),
            ]);
            if server.name == "simulator" {
                let (hide, show) = (skus(most_hidden + extra), skus(most_shown + extra));
                cases.extend([
                    (
                        "POST",
                        format!("{campaign}/hidden-offers"),
                        hidden(&hide),
                        status,
                    ),
                    (
                        "POST",
                        format!("{campaign}/hidden-offers/delete"),
                        hidden(&show),
                        status,
                    ),
                ]);
            }
        }
        for (method, target, body, status) in cases {
            let response = server.request(method, &target, &body.to_string()).await;
            let about = format!("{}: {method} {target}", server.name);
            assert_eq!(
                response.status,
                status,
                "{about}: {:.200}",
                body.to_string()
            );
            // What is taken is as described, and what is refused is not.
            let is_described = description.check_request(&response).is_empty();
            assert_eq!(is_described, status == 200, "{about}");
        }
    }
}

/// Numbers and words of ours that the description has too: where it has them, and ours.
fn described_constants() -> Vec<(&'static str, Value)> {
    let market = SimulatorConfig::new(Clock::wall());
    let placements = [
        Placement::Fbs,
        Placement::Fby,
        Placement::Dbs,
        Placement::Laas,
    ];
    let availabilities = [
        Availability::Available,
        Availability::DisabledByInactivity,
        Availability::DisabledByNoActiveContract,
        Availability::ManuallyDisabled,
        Availability::DisabledByNoPlacementType,
    ];
    let words = |all: &[&dyn ToString]| all.iter().map(|word| word.to_string()).collect::<Value>();
    let [a, b, c, d] = &placements;
    let [e, f, g, h, i] = &availabilities;
    vec![
        (
            "/components/schemas/UpdateStocksRequest/properties/skus/maxItems",
            wire::MAX_SKUS_PER_UPDATE.into(),
        ),
        (
            "/components/schemas/UpdateStocksOnWarehousesRequest/properties/skuItems/maxItems",
            wire::MAX_SKUS_PER_UPDATE.into(),
        ),
        (
            "/components/schemas/GetWarehouseStocksRequest/properties/offerIds/maxItems",
            wire::MAX_OFFER_IDS.into(),
        ),
        (
            "/components/schemas/GetStocksOnPartnerWarehousesRequest/properties/offerIds/maxItems",
            wire::MAX_OFFER_IDS.into(),
        ),
        (
            "/components/parameters/PageLimit100Truncate/schema/maximum",
            wire::MAX_PAGE_SIZE.into(),
        ),
        (
            "/components/parameters/PageLimit100Truncate/schema/default",
            wire::DEFAULT_PAGE_SIZE.into(),
        ),
        (
            "/paths/~1v2~1campaigns~1{campaignId}~1offers~1stocks/put/x-resource-limit-config/none",
            json!({ "amount": wire::SKUS_PER_MINUTE, "period": "minutes", "period-duration": 1 }),
        ),
        (
            "/paths/~1v2~1campaigns~1{campaignId}~1offers~1stocks/post/x-resource-limit-config/none",
            json!({ "amount": market.skus_per_minute, "period": "minutes", "period-duration": 1 }),
        ),
        (
            "/paths/~1v3~1businesses~1{businessId}~1offers~1stocks~1update/post\
             /x-resource-limit-config/none/amount",
            wire::UPDATES_PER_MINUTE.into(),
        ),
        (
            "/paths/~1v3~1businesses~1{businessId}~1offers~1stocks~1update/post\
             /x-resource-limit-config/medium/amount",
            market.business_updates_per_minute.into(),
        ),
        (
            "/paths/~1v3~1businesses~1{businessId}~1offers~1stocks/post\
             /x-resource-limit-config/none/amount",
            business::READBACKS_PER_MINUTE.into(),
        ),
        (
            "/paths/~1v3~1businesses~1{businessId}~1offers~1stocks/post\
             /x-resource-limit-config/medium/amount",
            market.business_readbacks_per_minute.into(),
        ),
        (
            "/components/schemas/PlacementType/enum",
            words(&[a, b, c, d]),
        ),
        (
            "/components/schemas/ApiAvailabilityStatusType/enum",
            words(&[e, f, g, h, i]),
        ),
        (
            "/components/schemas/WarehouseProgramType/enum",
            json!(["FBS", "DBS", "EXPRESS"]),
        ),
        (
            "/components/schemas/ApiResponseStatusType/enum",
            json!(["OK", "ERROR"]),
        ),
    ]
}

/// Facts of ours that differ from the description's.
fn differing_constants(description: &OpenApiDescription) -> BTreeMap<&'static str, Value> {
    let differs = |(pointer, ours): &(&'static str, Value)| {
        let theirs = description.at(pointer);
        let sorted = |value: &Value| {
            let mut words: Vec<String> = value
                .as_array()
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect();
            words.sort();
            words
        };
        if ours.is_array() {
            sorted(theirs) != sorted(ours)
        } else {
            theirs != ours
        }
    };
    described_constants().into_iter().filter(differs).collect()
}

#[test]
fn our_numbers_are_the_described_ones() {
    let description = OpenApiDescription::of_the_market();
    assert_eq!(differing_constants(&description), BTreeMap::new());
    for (pointer, _) in described_constants() {
        let mut changed = description.clone();
        let target_value = changed.root.pointer_mut(pointer).unwrap();
        *target_value = match &*target_value {
            Value::Array(words) => words[1..].iter().cloned().collect(),
            Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
            _ => Value::Null,
        };
        let different: Vec<_> = differing_constants(&changed).into_keys().collect();
        assert_eq!(different, [pointer]);
    }
}
