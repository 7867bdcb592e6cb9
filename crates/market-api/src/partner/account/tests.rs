//! Tests of account queries against the documented samples and a local server.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use lifecycle::{CrashSignal, Tasks};
use strict_http::{ClientConfig, HttpServer, ServerLimits, Trust, client};

use super::*;
use crate::partner::client::RequestTimes;

const TOKEN: &str = include_str!("../../../../../fixtures/partner/auth-token.json");
const CAMPAIGNS: &str = include_str!("../../../../../fixtures/partner/campaigns.json");
const WAREHOUSES: &str = include_str!("../../../../../fixtures/partner/warehouses.json");
const PARTNER: &str = include_str!("../../../../../fixtures/partner/partner-warehouses.json");

fn response(status: u16, body: &str) -> MarketResponse {
    let headers = reqwest::header::HeaderMap::new();
    let times = RequestTimes {
        sent_at: DateTime::UNIX_EPOCH,
        head_at: DateTime::UNIX_EPOCH,
    };
    MarketResponse::read(status, &headers, body.to_owned().into(), times)
}

#[test]
fn parses_the_documented_samples() {
    let token: ResultEnvelope<TokenResult> = parse(&response(200, TOKEN)).unwrap();
    assert_eq!(token.result.api_key.auth_scopes.len(), 2);
    let campaigns: MarketCampaignsResponse = parse(&response(200, CAMPAIGNS)).unwrap();
    let [first, .., last] = &campaigns.campaigns[..] else {
        panic!("there are several")
    };
    assert_eq!((first.id, first.business_id()), (21_234_567, Some(781_000)));
    assert_eq!(first.sending_obstacle(), None);
    assert!(last.sending_obstacle().unwrap().contains("FBY"));
    let page: ResultEnvelope<WarehousePage<MarketWarehouse>> =
        parse(&response(200, WAREHOUSES)).unwrap();
    let warehouses = page.result.warehouses;
    assert_eq!(warehouses[0].group(), Some(4_100));
    assert_eq!(
        (warehouses[2].group(), warehouses[2].is_disabled()),
        (None, true)
    );
    let page: ResultEnvelope<WarehousePage<MarketPartnerWarehouse>> =
        parse(&response(200, PARTNER)).unwrap();
    let partner = page.result.warehouses;
    assert_eq!(partner[0].id, 90_001);
}

#[test]
fn ignores_missing_and_unknown_members() {
    let warehouse: MarketWarehouse =
        serde_json::from_str(r#"{"id":1,"groupInfo":null,"express":null,"new":[1]}"#).unwrap();
    assert_eq!((warehouse.group(), warehouse.name()), (None, ""));
    let campaign: MarketCampaign = serde_json::from_str(r#"{"id":2}"#).unwrap();
    assert_eq!(
        (campaign.business_id(), campaign.sending_obstacle()),
        (None, None)
    );
}

#[test]
fn scopes_decide_the_rights_of_a_key() {
    let key_with = |scope: &str| ApiKeyInfo {
        name: String::new(),
        scopes: vec![normalize_scope(scope)],
    };
    assert!(key_with("all-methods").may_send() && key_with("ALL_METHODS").may_list_warehouses());
    let sends_only = key_with("OFFERS_AND_CARDS_MANAGEMENT");
    assert!(sends_only.may_send() && !sends_only.may_list_warehouses());
    let reads_only = key_with("all-methods:read-only");
    assert!(!reads_only.may_send() && reads_only.may_readback());
    assert!(reads_only.may_list_warehouses());
    assert!(!key_with("PRICING").may_readback());
}

#[test]
fn errors_repeat_the_message_of_the_market() {
    let no = r#"{"status":"ERROR","errors":[{"code":"FORBIDDEN","message":"Access denied"}]}"#;
    let rejected = response_error(&response(403, no)).unwrap();
    assert!(rejected.is_key_rejected());
    assert_eq!(
        rejected.to_string(),
        "the Market rejected the request with status 403: Access denied"
    );
    assert!(
        response_error(&response(200, no)).is_some(),
        "an error body is an error under any status"
    );
    let page = response_error(&response(502, "<html>\n  <b>Bad</b>\n"))
        .unwrap()
        .to_string();
    assert_eq!(
        page,
        "the Market rejected the request with status 502: <html> <b>Bad</b>"
    );
    assert!(
        response_error(&response(302, ""))
            .unwrap()
            .to_string()
            .ends_with("302: no details")
    );
    assert!(response_error(&response(200, CAMPAIGNS)).is_none());
}

/// Starts a server that answers by `script`, and returns a client for it.
fn scripted_market(
    tasks: &Tasks,
    script: fn(&str, Option<&str>) -> (StatusCode, String),
) -> MarketClient {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(any_port, ServerLimits::default()).unwrap();
    let address = server.local_addr().unwrap();
    let router = Router::new().fallback(async move |request: Request| {
        let key = request
            .headers()
            .get("Api-Key")
            .and_then(|key| key.to_str().ok());
        let (status, body) = script(&request.uri().to_string(), key);
        (status, [("date", "Sat, 21 Nov 2026 10:00:00 GMT")], body)
    });
    tasks.spawn("market", server.run(router, tasks.clone()));
    let config = ClientConfig {
        trust: Trust::PlainHttpOnly,
        ..ClientConfig::default()
    };
    MarketClient::new(client(&config).unwrap(), &format!("http://{address}"))
}

fn list_of_one(id: u32, next: &str) -> (StatusCode, String) {
    let paging = format!(r#"{{"nextPageToken":"{next}"}}"#);
    let list = format!(r#""warehouses":[{{"id":{id}}}],"paging":{paging}"#);
    (
        StatusCode::OK,
        format!(r#"{{"status":"OK","result":{{{list}}}}}"#),
    )
}

#[tokio::test]
async fn reads_all_pages_and_the_date() {
    let tasks = Tasks::new(CrashSignal::default());
    let market = scripted_market(&tasks, |target, key| {
        assert_eq!(key, Some("key"));
        match target {
            "/v2/auth/token" => (StatusCode::OK, TOKEN.to_owned()),
            "/v2/businesses/5/warehouses?limit=30" => list_of_one(1, "a+b"),
            "/v2/businesses/5/warehouses?limit=30&pageToken=a%2Bb" => list_of_one(2, ""),
            other => panic!("{other}"),
        }
    });
    let key = Secret::new("key");
    let warehouses = market.warehouses(&key, 5).await.unwrap();
    assert_eq!(warehouses.iter().map(|w| w.id).collect::<Vec<_>>(), [1, 2]);
    let (_, date) = market.token_scopes(&key).await.unwrap();
    assert_eq!(date, Some("2026-11-21T10:00:00Z".parse().unwrap()));
    tasks.stop();
}

#[tokio::test]
async fn rejects_lists_that_do_not_end() {
    let tasks = Tasks::new(CrashSignal::default());
    let market = scripted_market(&tasks, |_, _| list_of_one(1, "again"));
    let error = market
        .partner_warehouses(&Secret::new("key"), 5)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("repeat"), "{error}");
    tasks.stop();
}

#[tokio::test]
async fn errors_have_kinds_and_do_not_show_the_key() {
    let tasks = Tasks::new(CrashSignal::default());
    let key = Secret::new("canary-key");
    let market = scripted_market(&tasks, |target, _| match target {
        "/v2/auth/token" => (StatusCode::UNAUTHORIZED, String::new()),
        _ => (StatusCode::OK, "[]".to_owned()),
    });
    let rejected = market.token_scopes(&key).await.unwrap_err();
    assert!(rejected.is_key_rejected(), "{rejected}");
    let unreadable = market.campaigns(&key).await.unwrap_err();
    assert!(
        matches!(unreadable, AccountError::Unreadable(_)),
        "{unreadable}"
    );
    tasks.stop();
    tasks.ended().await;
    let unreachable = market.campaigns(&key).await.unwrap_err();
    assert!(
        matches!(unreachable, AccountError::Unreachable(_)),
        "{unreachable}"
    );
    for error in [rejected, unreadable, unreachable] {
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
