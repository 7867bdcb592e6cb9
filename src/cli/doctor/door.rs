//! The way by which the Market reaches us: name, certificate, proxy, path, token.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::tls::TlsInfo;
use serde::Deserialize;

use super::certificate;
use super::finding::Finding;
use super::service::Service;
use crate::cli::survey::one_line;
use crate::config::{Config, ShopConfig};
use crate::http::{ClientConfig, Trust, client, read_answer};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The Market connects within a second or not at all. Source: the push API pages.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// A certificate that ends sooner is worth a warning.
const CERTIFICATE_NEAR: TimeDelta = TimeDelta::days(14);

/// What no shop has for a token.
const WRONG_TOKEN: &str = "stockbridge-doctor-knows-no-token";

/// Shops asked for at a time.
const PARALLEL: usize = 4;

/// Most bytes read of an answer: ours is a line, a proxy's error page a screen.
const MAX_BYTES: usize = 256 * 1024;

/// What came back.
#[derive(Debug, Default)]
struct Seen {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
    /// Until when the certificate is good.
    certified_until: Option<DateTime<Utc>>,
}

/// Calls every shop as the Market would.
pub(super) async fn examine(
    config: &Config,
    service: &Service,
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
        connect_timeout: CONNECT_PATIENCE,
        total_timeout: PATIENCE,
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
        .map(|shop| knock(&http, url, shop, service.is_cold(&shop.name)));
    let knocks: Vec<Knocks> = futures_util::stream::iter(shops)
        .buffered(PARALLEL)
        .collect()
        .await;
    let mut findings: Vec<Finding> = judge_certificates(&knocks, now).into_iter().collect();
    for (shop, knocks) in config.shops.iter().zip(&knocks) {
        findings.extend(judge_door(&format!("door of {}", shop.name), knocks));
    }
    findings
}

// === Asking ===

/// Why nothing came back, in words.
#[derive(Debug)]
enum Silence {
    /// The certificate is not believed.
    Certificate(String),
    /// Anything else between here and there.
    Other(String),
}

/// One shop's door, tried twice.
struct Knocks {
    wrong: Result<Seen, Silence>,
    right: Result<Seen, Silence>,
    /// Whether the shop was known to have no stock, and so was asked nothing.
    is_cold: bool,
}

async fn knock(http: &reqwest::Client, url: &str, shop: &ShopConfig, is_cold: bool) -> Knocks {
    let url = format!("{url}{}/stocks", shop.base_path);
    let warehouse = shop.warehouses.first().copied().unwrap_or_default();
    let question = format!(r#"{{"warehouseId":{warehouse},"skus":[]}}"#);
    let wrong = post(http, &url, WRONG_TOKEN, question.clone()).await;
    // A question that a shop without stock must refuse would raise its alarm: instead
    // something that is refused for itself, after the token.
    let body = if is_cold { "{}".to_owned() } else { question };
    let right = match shop.push_tokens.first() {
        Some(token) => post(http, &url, token.expose(), body).await,
        None => Err(Silence::Other("the shop has no token".to_owned())),
    };
    Knocks {
        wrong,
        right,
        is_cold,
    }
}

async fn post(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    body: String,
) -> Result<Seen, Silence> {
    let call = async {
        let request = http
            .post(url)
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/json;charset=utf-8")
            .body(body);
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        let text = |name| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let location = text(LOCATION).map(one_line);
        let certificate = answer
            .extensions()
            .get::<TlsInfo>()
            .and_then(TlsInfo::peer_certificate);
        let certified_until = certificate.and_then(certificate::not_after);
        let status = answer.status().as_u16();
        let body = read_answer(answer, MAX_BYTES).await?.to_vec();
        anyhow::Ok(Seen {
            status,
            location,
            body,
            certified_until,
        })
    };
    call.await
        .map_err(|error: anyhow::Error| match refused_certificate(&error) {
            Some(reason) => Silence::Certificate(one_line(&reason.to_string())),
            None => Silence::Other(one_line(&format!("{error:#}"))),
        })
}

/// What is wrong with the certificate, if it is that.
fn refused_certificate(error: &anyhow::Error) -> Option<&rustls::Error> {
    let is_it = |error: &&rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    error.chain().find_map(of_tls).filter(is_it)
}

/// An error of TLS travels inside one of input and output, and that in another one.
fn of_tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    of_tls(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

// === Judging ===

/// One finding for all doors, which stand behind one name: the worst of what they showed.
fn judge_certificates(knocks: &[Knocks], now: DateTime<Utc>) -> Option<Finding> {
    let all = || {
        knocks
            .iter()
            .flat_map(|knocks| [&knocks.wrong, &knocks.right])
    };
    let refused = all().find_map(|knock| match knock {
        Err(Silence::Certificate(reason)) => Some(reason),
        Err(Silence::Other(_)) | Ok(_) => None,
    });
    if let Some(reason) = refused {
        let todo = "have the proxy show a certificate in force for this very name, from a public \
                    authority, with all certificates between (the full chain)";
        return Some(Finding::fail("certificate", reason.clone(), todo));
    }
    let until = all()
        .filter_map(|knock| knock.as_ref().ok()?.certified_until)
        .min()?;
    Some(judge_certificate(until, now))
}

fn judge_certificate(until: DateTime<Utc>, now: DateTime<Utc>) -> Finding {
    let about = "certificate";
    let what = format!(
        "believed, and good until {}, days left: {}",
        until.format("%Y-%m-%d"),
        (until - now).num_days()
    );
    let todo = "renew it, and see why that does not happen by itself";
    if until < now {
        Finding::fail(
            about,
            format!("it ended on {}", until.format("%Y-%m-%d")),
            todo,
        )
    } else if until - now < CERTIFICATE_NEAR {
        Finding::warn(about, what, todo)
    } else {
        Finding::ok(about, what)
    }
}

/// What is wrong with both is told once.
fn judge_door(about: &str, knocks: &Knocks) -> Vec<Finding> {
    let wrong = match &knocks.wrong {
        Ok(seen) => seen,
        // Told for all doors.
        Err(Silence::Certificate(_)) => return Vec::new(),
        Err(Silence::Other(reason)) => return vec![unreachable(about, reason)],
    };
    let first = judge_wrong(about, wrong);
    match &knocks.right {
        Ok(right) if wrong.status != 403 && right.status == wrong.status => vec![first],
        Ok(right) => vec![first, judge_right(about, right, knocks.is_cold)],
        Err(Silence::Certificate(reason) | Silence::Other(reason)) => {
            vec![first, unreachable(about, reason)]
        }
    }
}

/// A wrong token must be refused with 403: the Market tries that on purpose.
fn judge_wrong(about: &str, seen: &Seen) -> Finding {
    if seen.status == 403 {
        return Finding::ok(about, "a wrong token is refused with 403");
    }
    let (meaning, todo) = meaning(seen);
    let status = seen.status;
    let what = format!("a wrong token must be 403, and {status} came: {meaning}");
    Finding::fail(about, what, todo)
}

/// With the right one we must be heard.
fn judge_right(about: &str, seen: &Seen, is_cold: bool) -> Finding {
    let code = our_code(&seen.body);
    let cold = || {
        let what = "the right token is taken, but there is no stock yet";
        Finding::warn(about, what, "feed the shop before the Market asks")
    };
    match (seen.status, code.as_deref()) {
        (200, _) if is_our_answer(&seen.body) => Finding::ok(about, "the right token is answered"),
        (503 | 500, Some("NO_STOCK_YET")) => cold(),
        (400, Some("BAD_REQUEST")) if is_cold => cold(),
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
            let (meaning, todo) = meaning(seen);
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
fn meaning(seen: &Seen) -> (String, &'static str) {
    let is_ours = our_code(&seen.body).is_some();
    let (meaning, todo) = match seen.status {
        300..=399 => {
            let location = seen.location.as_deref().unwrap_or("nowhere");
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
        404 if is_ours => {
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
struct Refused {
    error: Code,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

/// The code of our own way to refuse, if it is that.
fn our_code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Refused>(body)
        .ok()
        .map(|refused| refused.error.code)
}

fn is_our_answer(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        skus: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Answer>(body).is_ok_and(|answer| answer.skus.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn seen(status: u16, body: &str) -> Seen {
        Seen {
            status,
            body: body.as_bytes().to_vec(),
            ..Seen::default()
        }
    }

    fn refused(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#)
    }

    fn right(knock: &Seen, is_cold: bool) -> Finding {
        judge_right("door", knock, is_cold)
    }

    #[test]
    fn what_came_instead_of_403_tells_of_the_proxy() {
        assert_eq!(judge_wrong("door", &seen(403, "")).level, Level::Ok);
        for (status, body, said) in [
            (
                404,
                "<html>",
                "the proxy, or the shop's own program, has nothing at this path",
            ),
            (
                404,
                &*refused("NOT_FOUND"),
                "the running service has no shop at this path",
            ),
            (502, "", "the proxy does not reach us"),
            (200, "{}", "somebody else answers"),
            (418, "", "no answer of ours"),
        ] {
            let finding = judge_wrong("door", &seen(status, body));
            assert!(
                finding.level == Level::Fail && finding.what.contains(said),
                "{finding}"
            );
        }
        let redirect = Seen {
            status: 301,
            location: Some("https://b/".into()),
            ..Seen::default()
        };
        let finding = judge_wrong("door", &redirect);
        assert!(
            finding.what.contains("a redirect to https://b/"),
            "{finding}"
        );
    }

    fn knocks(wrong: Result<Seen, Silence>, right: Result<Seen, Silence>) -> Knocks {
        Knocks {
            wrong,
            right,
            is_cold: false,
        }
    }

    #[test]
    fn one_cause_is_told_once() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let both = |status| knocks(Ok(seen(status, "")), Ok(seen(status, "")));
        assert_eq!(judge_door("door", &both(502)).len(), 1);
        assert_eq!(judge_door("door", &both(403)).len(), 2);
        let cut = || Err(Silence::Other("refused".to_owned()));
        assert_eq!(judge_door("door", &knocks(cut(), cut())).len(), 1);
        let bad = || Err(Silence::Certificate("expired".to_owned()));
        let all = [knocks(bad(), bad()), knocks(bad(), bad())];
        let finding = judge_certificates(&all, now).unwrap();
        assert_eq!((finding.level, &*finding.what), (Level::Fail, "expired"));
        assert!(
            all.iter()
                .all(|knocks| judge_door("door", knocks).is_empty())
        );
        // In clear, on this machine, there is none.
        assert_eq!(judge_certificates(&[both(403)], now), None);
    }

    #[test]
    fn the_right_token_is_answered_in_our_shape_or_the_shop_is_cold() {
        assert_eq!(right(&seen(200, r#"{"skus":[]}"#), false).level, Level::Ok);
        assert_eq!(right(&seen(200, "<html>"), false).level, Level::Fail);
        assert_eq!(
            right(&seen(503, &refused("NO_STOCK_YET")), false).level,
            Level::Warn
        );
        assert_eq!(
            right(&seen(400, &refused("BAD_REQUEST")), true).level,
            Level::Warn
        );
        assert_eq!(
            right(&seen(400, &refused("BAD_REQUEST")), false).level,
            Level::Fail
        );
        assert_eq!(right(&seen(503, "<html>"), false).level, Level::Fail);
        let finding = right(&seen(403, &refused("FORBIDDEN")), false);
        assert!(
            finding
                .to_string()
                .contains("let the proxy pass Authorization on"),
            "{finding}"
        );
        assert!(
            right(&seen(403, "<html>"), false)
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
            refused_certificate(&error)
                .unwrap()
                .to_string()
                .contains("Expired")
        );
        let cut = anyhow::Error::from(std::io::Error::other("cut"));
        assert_eq!(refused_certificate(&cut), None);
    }

    #[test]
    fn a_certificate_is_counted_in_days() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let judge = |until: &str| judge_certificate(until.parse().unwrap(), now);
        assert_eq!(judge("2027-01-01T00:00:00Z").level, Level::Ok);
        assert_eq!(judge("2026-12-05T09:59:59Z").level, Level::Warn);
        assert!(
            judge("2026-12-05T09:59:59Z")
                .what
                .ends_with("days left: 13")
        );
        assert_eq!(judge("2026-11-21T09:59:59Z").level, Level::Fail);
    }
}
