//! The way by which the Market reaches us: name, certificate, proxy, path, token.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::tls::TlsInfo;
use serde::Deserialize;

use super::certificate;
use super::finding::Finding;
use super::service::ServiceProbe;
use crate::cli::account_probe::one_line;
use crate::config::{Config, ShopConfig};
use crate::http::{ClientConfig, Trust, client, read_response};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The Market connects within a second or not at all. Source: the push API pages.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A certificate that ends sooner is worth a warning.
const CERTIFICATE_WARNING: TimeDelta = TimeDelta::days(14);

/// What no shop has for a token.
const WRONG_TOKEN: &str = "stockbridge-doctor-knows-no-token";

/// Shops asked for at a time.
const PARALLEL: usize = 4;

/// Most bytes read of an answer: ours is a line, a proxy's error page a screen.
const MAX_BYTES: usize = 256 * 1024;

/// What came back.
#[derive(Debug, Default)]
struct ProbeResponse {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
    /// Until when the certificate is good.
    certificate_expiry: Option<DateTime<Utc>>,
}

/// Calls every shop as the Market would.
pub(super) async fn examine(
    config: &Config,
    service: &ServiceProbe,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let about = "public_url";
    let Some(url) = &config.public_url else {
        if config.cutoff < now.date_naive() {
            return Vec::new();
        }
        let what = "it is not set, so the way from the Market to us was not tried";
        return vec![Finding::warn(
            about,
            what,
            "set it to the address that the cabinet has for us",
        )];
    };
    // Without ca_file: the Market does not believe in it either.
    let outbound = ClientConfig {
        connect_timeout: CONNECT_TIMEOUT,
        total_timeout: TIMEOUT,
        trust: Trust::needed_for(url),
        show_certificate: true,
        ..ClientConfig::default()
    };
    let http = match client(&outbound) {
        Ok(http) => http,
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            return vec![Finding::fail(about, what, "mend the system's certificates")];
        }
    };
    let shops = config
        .shops
        .iter()
        .map(|shop| probe(&http, url, shop, service.has_no_stock(&shop.name)));
    let probes: Vec<EndpointProbe> = futures_util::stream::iter(shops)
        .buffered(PARALLEL)
        .collect()
        .await;
    let mut findings: Vec<Finding> = check_certificates(&probes, now).into_iter().collect();
    for (shop, probe) in config.shops.iter().zip(&probes) {
        findings.extend(check_endpoint(&format!("door of {}", shop.name), probe));
    }
    findings
}

// === Asking ===

/// Why nothing came back, in words.
#[derive(Debug)]
enum NoResponse {
    /// The certificate is not believed.
    Certificate(String),
    /// Anything else between here and there.
    Other(String),
}

/// One shop's door, tried twice.
struct EndpointProbe {
    wrong_token: Result<ProbeResponse, NoResponse>,
    right_token: Result<ProbeResponse, NoResponse>,
    /// Whether the shop was known to have no stock, and so was asked nothing.
    has_no_stock: bool,
}

async fn probe(
    http: &reqwest::Client,
    url: &str,
    shop: &ShopConfig,
    has_no_stock: bool,
) -> EndpointProbe {
    let url = format!("{url}{}/stocks", shop.base_path);
    let warehouse = shop.warehouses.first().copied().unwrap_or_default();
    let body_with_no_skus = format!(r#"{{"warehouseId":{warehouse},"skus":[]}}"#);
    let wrong_token = post(http, &url, WRONG_TOKEN, body_with_no_skus.clone()).await;
    // A question that a shop without stock must refuse would raise its alarm: instead
    // something that is refused for itself, after the token.
    let body = if has_no_stock {
        "{}".to_owned()
    } else {
        body_with_no_skus
    };
    let right_token = match shop.push_tokens.first() {
        Some(token) => post(http, &url, token.expose(), body).await,
        None => Err(NoResponse::Other("the shop has no token".to_owned())),
    };
    EndpointProbe {
        wrong_token,
        right_token,
        has_no_stock,
    }
}

async fn post(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    body: String,
) -> Result<ProbeResponse, NoResponse> {
    let call = async {
        let request = http
            .post(url)
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/json;charset=utf-8")
            .body(body);
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let location = header(LOCATION).map(one_line);
        let certificate = response
            .extensions()
            .get::<TlsInfo>()
            .and_then(TlsInfo::peer_certificate);
        let certificate_expiry = certificate.and_then(certificate::not_after);
        let status = response.status().as_u16();
        let body = read_response(response, MAX_BYTES).await?.to_vec();
        anyhow::Ok(ProbeResponse {
            status,
            location,
            body,
            certificate_expiry,
        })
    };
    call.await
        .map_err(|error: anyhow::Error| match certificate_error(&error) {
            Some(reason) => NoResponse::Certificate(one_line(&reason.to_string())),
            None => NoResponse::Other(one_line(&format!("{error:#}"))),
        })
}

/// What is wrong with the certificate, if it is that.
fn certificate_error(error: &anyhow::Error) -> Option<&rustls::Error> {
    let is_certificate_error =
        |error: &&rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    error
        .chain()
        .find_map(find_tls_error)
        .filter(is_certificate_error)
}

/// An error of TLS travels inside one of input and output, and that in another one.
fn find_tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    find_tls_error(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

// === Judging ===

/// One finding for all doors, which stand behind one name: the worst of what they showed.
fn check_certificates(probes: &[EndpointProbe], now: DateTime<Utc>) -> Option<Finding> {
    let results = || {
        probes
            .iter()
            .flat_map(|probe| [&probe.wrong_token, &probe.right_token])
    };
    let rejected = results().find_map(|result| match result {
        Err(NoResponse::Certificate(reason)) => Some(reason),
        Err(NoResponse::Other(_)) | Ok(_) => None,
    });
    if let Some(reason) = rejected {
        let todo = "have the proxy show a certificate in force for this very name, from a public \
                    authority, with all certificates between (the full chain)";
        return Some(Finding::fail("certificate", reason.clone(), todo));
    }
    let expiry = results()
        .filter_map(|result| result.as_ref().ok()?.certificate_expiry)
        .min()?;
    Some(check_certificate(expiry, now))
}

fn check_certificate(expiry: DateTime<Utc>, now: DateTime<Utc>) -> Finding {
    let about = "certificate";
    let what = format!(
        "believed, and good until {}, days left: {}",
        expiry.format("%Y-%m-%d"),
        (expiry - now).num_days()
    );
    let todo = "renew it, and see why that does not happen by itself";
    if expiry < now {
        Finding::fail(
            about,
            format!("it ended on {}", expiry.format("%Y-%m-%d")),
            todo,
        )
    } else if expiry - now < CERTIFICATE_WARNING {
        Finding::warn(about, what, todo)
    } else {
        Finding::ok(about, what)
    }
}

/// What is wrong with both is told once.
fn check_endpoint(about: &str, probe: &EndpointProbe) -> Vec<Finding> {
    let wrong_token = match &probe.wrong_token {
        Ok(response) => response,
        // Told for all doors.
        Err(NoResponse::Certificate(_)) => return Vec::new(),
        Err(NoResponse::Other(reason)) => return vec![unreachable(about, reason)],
    };
    let wrong_token_finding = check_wrong_token(about, wrong_token);
    match &probe.right_token {
        Ok(right_token)
            if wrong_token.status != 403 && right_token.status == wrong_token.status =>
        {
            vec![wrong_token_finding]
        }
        Ok(right_token) => vec![
            wrong_token_finding,
            check_right_token(about, right_token, probe.has_no_stock),
        ],
        Err(NoResponse::Certificate(reason) | NoResponse::Other(reason)) => {
            vec![wrong_token_finding, unreachable(about, reason)]
        }
    }
}

/// A wrong token must be refused with 403: the Market tries that on purpose.
fn check_wrong_token(about: &str, response: &ProbeResponse) -> Finding {
    if response.status == 403 {
        return Finding::ok(about, "a wrong token is refused with 403");
    }
    let (meaning, todo) = explain_status(response);
    let status = response.status;
    let what = format!("a wrong token must be 403, and {status} came: {meaning}");
    Finding::fail(about, what, todo)
}

/// With the right one we must be heard.
fn check_right_token(about: &str, response: &ProbeResponse, has_no_stock: bool) -> Finding {
    let code = error_code(&response.body);
    let no_stock_yet = || {
        let what = "the right token is taken, but there is no stock yet";
        Finding::warn(about, what, "feed the shop before the Market asks")
    };
    match (response.status, code.as_deref()) {
        (200, _) if is_stocks_response(&response.body) => {
            Finding::ok(about, "the right token is answered")
        }
        (503 | 500, Some("NO_STOCK_YET")) => no_stock_yet(),
        (400, Some("BAD_REQUEST")) if has_no_stock => no_stock_yet(),
        (403, Some("FORBIDDEN")) => Finding::fail(
            about,
            "our own token is refused: the running service has another one, or none reached it",
            "restart the service after a change, and let the proxy pass Authorization on",
        ),
        (503 | 500, Some("UNKNOWN_WAREHOUSE")) => Finding::fail(
            about,
            "the running service does not know the shop's warehouse",
            "restart the service: its configuration is an older one",
        ),
        (status, _) => {
            let (meaning, todo) = explain_status(response);
            let what = format!("the right token must be 200, and {status} came: {meaning}");
            Finding::fail(about, what, todo)
        }
    }
}

fn unreachable(about: &str, reason: &str) -> Finding {
    let todo = "see to the name in DNS, the proxy and its firewall; and whether this machine may \
                call its own public address";
    Finding::fail(about, format!("the Market cannot reach us: {reason}"), todo)
}

/// What a status means that is not ours.
fn explain_status(response: &ProbeResponse) -> (String, &'static str) {
    let has_error_code = error_code(&response.body).is_some();
    let (meaning, todo) = match response.status {
        300..=399 => {
            let location = response.location.as_deref().unwrap_or("nowhere");
            let meaning = format!("a redirect to {location}, which the Market does not follow");
            return (
                meaning,
                "put the final address into public_url and the cabinet",
            );
        }
        200 => (
            "somebody else answers at this path",
            "send POST of this very path to listen",
        ),
        401 => {
            let meaning = "the proxy asks for a password of its own";
            (meaning, "let POST of this very path through without one")
        }
        403 => {
            let meaning = "something before us refuses, a firewall perhaps";
            (meaning, "let POST of this very path through")
        }
        404 if has_error_code => {
            let meaning = "it reaches us, but the running service has no shop at this path";
            (
                meaning,
                "set base_path to what the cabinet has, and restart the service",
            )
        }
        404 => {
            let meaning = "the proxy, or the shop's own program, has nothing at this path";
            (
                meaning,
                "send POST of base_path and /stocks to listen, the path unchanged",
            )
        }
        405 => ("the proxy lets no POST through", "allow POST for this path"),
        413 => (
            "the proxy takes no such body",
            "allow bodies up to 2 MiB for this path",
        ),
        502 | 504 => (
            "the proxy does not reach us",
            "start the service, and let the proxy call listen",
        ),
        503 => {
            let meaning = "the proxy, or a service that is starting, has nobody to answer";
            (meaning, "start the service, and let the proxy call listen")
        }
        _ => (
            "that is no answer of ours",
            "send POST of this very path to listen",
        ),
    };
    (meaning.to_owned(), todo)
}

#[derive(Deserialize)]
struct PushErrorBody {
    error: PushErrorCode,
}

#[derive(Deserialize)]
struct PushErrorCode {
    code: String,
}

/// The code of our own way to refuse, if it is that.
fn error_code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<PushErrorBody>(body)
        .ok()
        .map(|parsed| parsed.error.code)
}

fn is_stocks_response(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct StocksResponseBody {
        skus: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<StocksResponseBody>(body)
        .is_ok_and(|response| response.skus.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn response(status: u16, body: &str) -> ProbeResponse {
        ProbeResponse {
            status,
            body: body.as_bytes().to_vec(),
            ..ProbeResponse::default()
        }
    }

    fn error_body(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#)
    }

    fn check_right(response: &ProbeResponse, has_no_stock: bool) -> Finding {
        check_right_token("door", response, has_no_stock)
    }

    #[test]
    fn what_came_instead_of_403_tells_of_the_proxy() {
        assert_eq!(
            check_wrong_token("door", &response(403, "")).level,
            Severity::Ok
        );
        for (status, body, expected) in [
            (
                404,
                "<html>",
                "the proxy, or the shop's own program, has nothing at this path",
            ),
            (
                404,
                &*error_body("NOT_FOUND"),
                "the running service has no shop at this path",
            ),
            (502, "", "the proxy does not reach us"),
            (200, "{}", "somebody else answers"),
            (418, "", "no answer of ours"),
        ] {
            let finding = check_wrong_token("door", &response(status, body));
            assert!(
                finding.level == Severity::Fail && finding.what.contains(expected),
                "{finding}"
            );
        }
        let redirect = ProbeResponse {
            status: 301,
            location: Some("https://b/".into()),
            ..ProbeResponse::default()
        };
        let finding = check_wrong_token("door", &redirect);
        assert!(
            finding.what.contains("a redirect to https://b/"),
            "{finding}"
        );
    }

    fn endpoint_probe(
        wrong_token: Result<ProbeResponse, NoResponse>,
        right_token: Result<ProbeResponse, NoResponse>,
    ) -> EndpointProbe {
        EndpointProbe {
            wrong_token,
            right_token,
            has_no_stock: false,
        }
    }

    #[test]
    fn one_cause_is_told_once() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let both = |status| endpoint_probe(Ok(response(status, "")), Ok(response(status, "")));
        assert_eq!(check_endpoint("door", &both(502)).len(), 1);
        assert_eq!(check_endpoint("door", &both(403)).len(), 2);
        let no_connection = || Err(NoResponse::Other("refused".to_owned()));
        assert_eq!(
            check_endpoint("door", &endpoint_probe(no_connection(), no_connection())).len(),
            1
        );
        let bad_certificate = || Err(NoResponse::Certificate("expired".to_owned()));
        let all = [
            endpoint_probe(bad_certificate(), bad_certificate()),
            endpoint_probe(bad_certificate(), bad_certificate()),
        ];
        let finding = check_certificates(&all, now).unwrap();
        assert_eq!((finding.level, &*finding.what), (Severity::Fail, "expired"));
        assert!(
            all.iter()
                .all(|probe| check_endpoint("door", probe).is_empty())
        );
        // In clear, on this machine, there is none.
        assert_eq!(check_certificates(&[both(403)], now), None);
    }

    #[test]
    fn the_right_token_is_answered_in_our_shape_or_the_shop_is_cold() {
        assert_eq!(
            check_right(&response(200, r#"{"skus":[]}"#), false).level,
            Severity::Ok
        );
        assert_eq!(
            check_right(&response(200, "<html>"), false).level,
            Severity::Fail
        );
        assert_eq!(
            check_right(&response(503, &error_body("NO_STOCK_YET")), false).level,
            Severity::Warn
        );
        assert_eq!(
            check_right(&response(400, &error_body("BAD_REQUEST")), true).level,
            Severity::Warn
        );
        assert_eq!(
            check_right(&response(400, &error_body("BAD_REQUEST")), false).level,
            Severity::Fail
        );
        assert_eq!(
            check_right(&response(503, "<html>"), false).level,
            Severity::Fail
        );
        let finding = check_right(&response(403, &error_body("FORBIDDEN")), false);
        assert!(
            finding
                .to_string()
                .contains("let the proxy pass Authorization on"),
            "{finding}"
        );
        assert!(
            check_right(&response(403, "<html>"), false)
                .what
                .contains("a firewall perhaps")
        );
    }

    #[test]
    fn a_certificate_that_is_refused_is_told_from_a_line_that_is_cut() {
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let inner = std::io::Error::new(std::io::ErrorKind::InvalidData, expired);
        let error = anyhow::Error::from(std::io::Error::other(inner)).context("connect");
        assert!(
            certificate_error(&error)
                .unwrap()
                .to_string()
                .contains("Expired")
        );
        let cut_connection = anyhow::Error::from(std::io::Error::other("cut"));
        assert_eq!(certificate_error(&cut_connection), None);
    }

    #[test]
    fn a_certificate_is_counted_in_days() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let judge = |until: &str| check_certificate(until.parse().unwrap(), now);
        assert_eq!(judge("2027-01-01T00:00:00Z").level, Severity::Ok);
        assert_eq!(judge("2026-12-05T09:59:59Z").level, Severity::Warn);
        assert!(
            judge("2026-12-05T09:59:59Z")
                .what
                .ends_with("days left: 13")
        );
        assert_eq!(judge("2026-11-21T09:59:59Z").level, Severity::Fail);
    }
}
