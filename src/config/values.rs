//! Rules of single values.

use std::time::Duration;

use chrono::FixedOffset;

/// Reads an offset from UTC, such as `+03:00`.
pub(super) fn parse_time_zone(text: &str) -> Option<FixedOffset> {
    // Without the length, chrono also takes other spellings.
    text.parse().ok().filter(|_| text.len() == "+03:00".len())
}

pub(super) fn parse_positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n| *n > 0)
}

pub(super) fn in_range(min: usize, max: usize) -> impl Fn(&str) -> Option<usize> {
    move |text| text.parse().ok().filter(|n| (min..=max).contains(n))
}

pub(super) fn hours_to_duration(hours: usize) -> Duration {
    Duration::from_secs(hours as u64 * 3600)
}

pub(super) fn parse_name(text: &str) -> Option<String> {
    let is_valid = (1..=40).contains(&text.len())
        && text.chars().all(is_plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_valid.then(|| text.to_owned())
}

pub(super) fn parse_instance(text: &str) -> Option<String> {
    (text.len() <= 60 && text.chars().all(is_plain)).then(|| text.to_owned())
}

pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

/// A host name or an IP address, without a port.
pub(super) fn parse_host(text: &str) -> Option<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_name = (1..=253).contains(&text.len()) && text.chars().all(is_plain);
    (bare.parse::<std::net::IpAddr>().is_ok() || is_name).then(|| bare.to_ascii_lowercase())
}

pub(super) fn parse_base_path(text: &str) -> Option<String> {
    if text.is_empty() || text == "/" {
        return Some(String::new());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let segments: Vec<&str> = text.strip_prefix('/')?.split('/').collect();
    let is_valid = segments.iter().all(|segment| {
        !segment.is_empty() && segment.chars().all(is_plain) && *segment != "." && *segment != ".."
    });
    // The partner API that we serve owns the paths `…/campaigns/1/offers…`.
    let is_partner_api_path = segments.contains(&"campaigns") || segments.contains(&"businesses");
    (is_valid && !is_partner_api_path).then(|| text.to_owned())
}

/// Parses a base URL to which a key may be sent: HTTPS, or HTTP to this machine.
///
/// The simulator has no certificate. On a network the key must be encrypted.
#[must_use]
pub fn parse_market_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let is_loopback = is_loopback_host(url.host_str()?);
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    (is_bare && is_safe).then(|| text.trim_end_matches('/').to_owned())
}

/// Returns true for a name or an address of this machine.
pub(super) fn is_loopback_host(host: &str) -> bool {
    match host.trim_matches(['[', ']']) {
        "localhost" => true,
        host => host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
    }
}
