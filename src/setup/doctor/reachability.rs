//! Checks of the way from the Market to the service: DNS, certificate, proxy, path and token.
//!
//! Each shop is called at `public_url` as the Market would, once with a wrong token and once with
//! the right one. A wrong token must get 403, the right one a response in the service's own format.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::tls::TlsInfo;
use serde::Deserialize;
use strict_http::{ClientConfig, Trust, client, read_response};

use super::certificate;
use super::finding::Finding;
use super::service::ServiceProbe;
use crate::config::{Config, ShopConfig};
use crate::setup::account_probe::one_line;

/// Timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of the Market for a connection. Source: the push API pages.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Remaining validity of a certificate below which a warning is given.
const CERTIFICATE_WARNING: TimeDelta = TimeDelta::days(14);

/// Token that no shop has.
const WRONG_TOKEN: &str = "stockbridge-doctor-knows-no-token";

/// Maximum number of shops that are called in parallel.
const PARALLEL: usize = 4;

/// Maximum size of a response. The service's own is one line, a proxy's error page may be larger.
const MAX_BYTES: usize = 256 * 1024;

/// Response to one request.
#[derive(Debug, Default)]
struct ProbeResponse {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
    /// End of the certificate's validity, if the connection used TLS.
    certificate_expiry: Option<DateTime<Utc>>,
}

/// Calls every shop and evaluates the responses.
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
        let what = "not set, so the way from the Market to the service was not checked";
        return vec![Finding::warn(
            about,
            what,
            "set public_url to the address that is set in the cabinet, without the path",
        )];
    };
    // Without ca_file, because the Market does not trust these authorities either.
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
            return vec![Finding::fail(
                about,
                what,
                "install the CA certificates of this system (package ca-certificates)",
            )];
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
        findings.extend(check_endpoint(
            &format!("push endpoint of {}", shop.name),
            probe,
        ));
    }
    findings
}

// === Requests ===

/// Reason why there was no response.
#[derive(Debug)]
enum NoResponse {
    /// The certificate is not trusted.
    Certificate(String),
    /// Any other error of the connection.
    Other(String),
}

/// Both requests to the push endpoint of one shop.
struct EndpointProbe {
    wrong_token: Result<ProbeResponse, NoResponse>,
    right_token: Result<ProbeResponse, NoResponse>,
    /// True if the shop was known to have no stock, so that the right token was sent with an
    /// invalid request.
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
    // A valid request to a shop without stock raises its alarm. An invalid one is rejected with 400
    // after the token is checked, which is enough here.
    let body = if has_no_stock {
        "{}".to_owned()
    } else {
        body_with_no_skus
    };
    let right_token = match shop.push_tokens.first() {
        Some(token) => post(http, &url, token.expose(), body).await,
        None => Err(NoResponse::Other("the shop has no push token".to_owned())),
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

/// Returns the error of the certificate, if that is the cause.
fn certificate_error(error: &anyhow::Error) -> Option<&rustls::Error> {
    let is_certificate_error =
        |error: &&rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    error
        .chain()
        .find_map(find_tls_error)
        .filter(is_certificate_error)
}

/// Finds the TLS error, which is wrapped in I/O errors, possibly more than once.
fn find_tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    find_tls_error(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

// === Evaluation ===

/// Returns one finding for all shops, because they have the same host name: the worst one.
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
        let todo = "configure the proxy with a valid certificate for exactly this host name, from \
                    a public authority, with all intermediate certificates (the full chain)";
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
        "valid until {}, days left: {}",
        expiry.format("%Y-%m-%d"),
        (expiry - now).num_days()
    );
    let todo = "renew the certificate and check the automatic renewal";
    if expiry < now {
        Finding::fail(
            about,
            format!("expired on {}", expiry.format("%Y-%m-%d")),
            todo,
        )
    } else if expiry - now < CERTIFICATE_WARNING {
        Finding::warn(about, what, todo)
    } else {
        Finding::ok(about, what)
    }
}

/// Evaluates both responses. A problem that both have is reported once.
fn check_endpoint(about: &str, probe: &EndpointProbe) -> Vec<Finding> {
    let wrong_token = match &probe.wrong_token {
        Ok(response) => response,
        // Already reported for all shops.
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

/// Checks that a wrong token is rejected with 403. The Market tests this on purpose.
fn check_wrong_token(about: &str, response: &ProbeResponse) -> Finding {
    if response.status == 403 {
        return Finding::ok(about, "a wrong token is rejected with 403");
    }
    let (meaning, todo) = explain_status(response);
    let status = response.status;
    let what = format!("expected 403 for a wrong token, got {status}: {meaning}");
    Finding::fail(about, what, todo)
}

/// Checks that the right token gets the service's own response.
fn check_right_token(about: &str, response: &ProbeResponse, has_no_stock: bool) -> Finding {
    let code = error_code(&response.body);
    let no_stock_yet = || {
        let what = "the right token is accepted, but the shop has no stock yet";
        Finding::warn(
            about,
            what,
            "feed the shop before the Market asks for stock",
        )
    };
    match (response.status, code.as_deref()) {
        (200, _) if is_stocks_response(&response.body) => {
            Finding::ok(about, "the right token gets a valid response")
        }
        (503 | 500, Some("NO_STOCK_YET")) => no_stock_yet(),
        (400, Some("BAD_REQUEST")) if has_no_stock => no_stock_yet(),
        (403, Some("FORBIDDEN")) => Finding::fail(
            about,
            "the right token is rejected: the running service has another one, or it did not \
             receive the token",
            "restart the service after a change of the token, and let the proxy forward the \
             Authorization header",
        ),
        (503 | 500, Some("UNKNOWN_WAREHOUSE")) => Finding::fail(
            about,
            "the running service does not know the shop's warehouse",
            "restart the service, its configuration is older",
        ),
        (status, _) => {
            let (meaning, todo) = explain_status(response);
            let what = format!("expected 200 for the right token, got {status}: {meaning}");
            Finding::fail(about, what, todo)
        }
    }
}

fn unreachable(about: &str, reason: &str) -> Finding {
    let todo = "check DNS, the proxy and its firewall, and that this machine can connect to its \
                own public address";
    Finding::fail(
        about,
        format!("the Market cannot reach the service: {reason}"),
        todo,
    )
}

/// Returns the meaning of an unexpected status, and the remedy.
fn explain_status(response: &ProbeResponse) -> (String, &'static str) {
    let forward_post = "forward POST of exactly this path to listen";
    let start_service = "start the service, and forward the requests to its listen address";
    let has_error_code = error_code(&response.body).is_some();
    let meaning = match response.status {
        300..=399 => {
            let location = response.location.as_deref().unwrap_or("an unknown address");
            let meaning = format!("a redirect to {location}. The Market does not follow redirects");
            let todo = "set the final address in public_url and in the cabinet";
            return (meaning, todo);
        }
        200 => "another program responds at this path",
        401 => "the proxy requires its own password",
        403 => "something in front of the service rejects the request, possibly a firewall",
        404 if has_error_code => "the request reaches the service, but no shop has this path",
        404 => "the proxy, or the shop's own program, does not know this path",
        405 => "the proxy does not allow POST",
        413 => "the proxy rejects the size of the body",
        502 | 504 => "the proxy cannot reach the service",
        503 => "the service is starting, or the proxy has no server for this path",
        _ => "this is not a response of the service",
    };
    let todo = match response.status {
        401 => "allow POST for exactly this path without a password",
        403 => "allow POST for exactly this path",
        404 if has_error_code => {
            "set base_path to the path in the cabinet, and restart the service"
        }
        404 => "forward POST of base_path + /stocks to listen, with the path unchanged",
        405 => "allow POST for this path",
        413 => "allow bodies up to 2 MiB for this path",
        502..=504 => start_service,
        _ => forward_post,
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

/// Returns the error code, if the body is an error of the service.
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
        check_right_token("endpoint", response, has_no_stock)
    }

    #[test]
    fn explains_each_status_of_a_proxy() {
        assert_eq!(
            check_wrong_token("endpoint", &response(403, "")).level,
            Severity::Ok
        );
        for (status, body, expected) in [
            (
                404,
                "<html>",
                "the proxy, or the shop's own program, does not know this path",
            ),
            (
                404,
                &*error_body("NOT_FOUND"),
                "reaches the service, but no shop has this path",
            ),
            (502, "", "the proxy cannot reach the service"),
            (200, "{}", "another program responds"),
            (418, "", "not a response of the service"),
        ] {
            let finding = check_wrong_token("endpoint", &response(status, body));
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
        let finding = check_wrong_token("endpoint", &redirect);
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
    fn reports_one_cause_once() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let both = |status| endpoint_probe(Ok(response(status, "")), Ok(response(status, "")));
        assert_eq!(check_endpoint("endpoint", &both(502)).len(), 1);
        assert_eq!(check_endpoint("endpoint", &both(403)).len(), 2);
        let no_connection = || Err(NoResponse::Other("refused".to_owned()));
        assert_eq!(
            check_endpoint(
                "endpoint",
                &endpoint_probe(no_connection(), no_connection())
            )
            .len(),
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
                .all(|probe| check_endpoint("endpoint", probe).is_empty())
        );
        // Plain HTTP has no certificate.
        assert_eq!(check_certificates(&[both(403)], now), None);
    }

    #[test]
    fn right_token_gets_stock_or_no_stock_yet() {
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
                .contains("let the proxy forward the Authorization header"),
            "{finding}"
        );
        assert!(
            check_right(&response(403, "<html>"), false)
                .what
                .contains("possibly a firewall")
        );
    }

    #[test]
    fn detects_rejected_certificate() {
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
    fn counts_days_to_the_expiry() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let check = |until: &str| check_certificate(until.parse().unwrap(), now);
        assert_eq!(check("2027-01-01T00:00:00Z").level, Severity::Ok);
        assert_eq!(check("2026-12-05T09:59:59Z").level, Severity::Warn);
        assert!(
            check("2026-12-05T09:59:59Z")
                .what
                .ends_with("days left: 13")
        );
        assert_eq!(check("2026-11-21T09:59:59Z").level, Severity::Fail);
    }
}
