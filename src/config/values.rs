//! Types of single values, which carry the rules of the settings.

use std::num::NonZeroU64;
use std::path::PathBuf;

use axum::http::StatusCode;
use chrono::FixedOffset;
use connectors::moysklad;
use lettre::message::Mailbox;
use reqwest::Url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stock_import::formats::Format;
use strict_http::secret::Secret;

use super::IMPORT_SOURCE;
use crate::auth_failures::Network;
use crate::i18n::Language;
use crate::notify::QuietHours;
use crate::sources::RULES_NAME;
use crate::telemetry::{AlarmKind, parse_filter};

/// Defines types of values that are written as text: `Type(content) = parse, show`. Without `show`
/// the content is displayed.
macro_rules! text_types {
    (@show $content:expr) => { $content };
    (@show $content:expr, $show:expr) => { ($show)(&$content) };
    ($(
        $(#[$doc:meta])+
        $name:ident($content:ty) = $parse:expr $(, $show:expr)?;
    )+) => {$(
        $(#[$doc])+
        #[derive(Clone)]
        pub(super) struct $name(pub(super) $content);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
                let parse: fn(&str) -> Option<$content> = $parse;
                let value = toml::Value::deserialize(text)?;
                let is_single = !value.is_array() && !value.is_table();
                let parsed = is_single.then(|| parse(&value_text(&value))).flatten();
                parsed.map(Self).ok_or_else(|| D::Error::custom("breaks its rule"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&text_types!(@show self.0 $(, $show)?))
            }
        }
    )+};
}

text_types! {
    /// Name of a shop or a channel.
    TableName(String) = parse_name;
    /// Name of a source.
    SourceName(String) = |text| {
        parse_name(text).filter(|name| name != RULES_NAME && name != IMPORT_SOURCE)
    };
    /// Name of an installation; may be empty.
    InstanceName(String) = |text| {
        (text.len() <= 60 && text.chars().all(is_plain)).then(|| text.to_owned())
    };
    /// Name of a replica.
    ReplicaLabel(String) = |text| {
        let is_valid = (1..=60).contains(&text.len()) && text.chars().all(is_plain);
        is_valid.then(|| text.to_owned())
    };
    /// Host name or IP address, without a port.
    HostName(String) = parse_host;
    /// Path of a file or a directory.
    FilePath(PathBuf) = |text| (!text.is_empty()).then(|| text.into()), |path: &PathBuf| {
        path.display().to_string()
    };
    /// Token, key or password, printed as `***`.
    SecretText(Secret) = |text| Some(Secret::new(text)), |_| "***";
    /// Base URL to which a key may be sent.
    BaseUrl(String) = parse_market_url;
    /// URL of an export, an old handler or a program that receives messages.
    WebUrl(Url) = parse_web_url, shown_url;
    /// Path before `/stocks`; empty for the root.
    BasePath(String) = parse_base_path;
    /// Offset from UTC, such as `+03:00`. Without the length, chrono also takes other spellings.
    TimeZone(FixedOffset) = |text| text.parse().ok().filter(|_| text.len() == "+03:00".len());
    /// Proxies whose `X-Forwarded-For` is believed.
    ProxyNetwork(Network) = Network::parse;
    /// Levels of log lines.
    LogFilter(String) = |text| parse_filter(text).is_ok().then(|| text.to_owned());
    /// Status of a response while the shop has no stock.
    UnavailableStatus(StatusCode) = |text| {
        let status = StatusCode::from_bytes(text.as_bytes()).ok()?;
        [500, 503].contains(&status.as_u16()).then_some(status)
    }, StatusCode::as_str;
    /// Name of a warehouse of a source.
    TrimmedText(String) = |text| Some(text.trim().to_owned());
    /// Name of a column, an element or a key.
    FieldName(String) = |text| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    /// Format of a file.
    FileFormat(Format) = Format::from_name, |format: &Format| format.name();
    /// Encoding of a text file.
    TextEncoding(&'static encoding_rs::Encoding) = |text| {
        encoding_rs::Encoding::for_label(text.as_bytes())
    }, |encoding: &&'static encoding_rs::Encoding| encoding.name();
    /// Number of MoySklad that is read.
    MoySkladStock(moysklad::StockType) = moysklad::StockType::parse,
        |stock: &moysklad::StockType| stock.name();
    /// Login of a web server or of 1C.
    LoginName(String) = |text| {
        (!text.is_empty() && !text.contains(':')).then(|| text.to_owned())
    };
    /// Login of a mail server.
    MailLogin(String) = |text| {
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    };
    /// Mail address, also with a name.
    MailAddress(Mailbox) = |text| text.parse().ok();
    /// Number or `@name` of a chat.
    ChatId(String) = parse_chat;
    /// Language of messages.
    MessageLanguage(Language) = Language::from_code, |language: &Language| language.code();
    /// Name of an alarm.
    AlarmName(AlarmKind) = AlarmKind::from_name, |alarm: &AlarmKind| alarm.name();
    /// Hours in which messages wait.
    QuietPeriod(QuietHours) = QuietHours::parse;
}

/// Text of a value, without the quotes of a string.
pub(super) fn value_text(value: &toml::Value) -> String {
    let text = value.as_str().map(ToOwned::to_owned);
    text.unwrap_or_else(|| value.to_string())
}

/// Converts a value to the type of an example: variables of the environment are always texts, and
/// `parallel = "2"` in the file means 2.
pub(super) fn with_type_of(example: &toml::Value, value: toml::Value) -> toml::Value {
    use toml::Value::{Array, Boolean, Float, Integer, String, Table};
    match (example, value) {
        (Array(examples), Array(values)) => {
            let values = values.into_iter();
            values
                .map(|value| with_type_of(&examples[0], value))
                .collect::<Vec<_>>()
                .into()
        }
        (Array(_), single) => with_type_of(example, vec![single].into()),
        (_, Array(mut values)) if values.len() == 1 => with_type_of(example, values.remove(0)),
        (Table(_), value) | (_, value @ (Array(_) | Table(_))) => value,
        (String(_), value) => value_text(&value).into(),
        (_, value) => {
            let text = value_text(&value);
            let number = text
                .parse()
                .map(Integer)
                .or_else(|_| text.parse().map(Float));
            match (number, text.parse::<u64>()) {
                // Above the range of TOML's integers; as a float it would be another number.
                (Ok(Float(_)), Ok(_)) => text.into(),
                (number, _) => number
                    .or_else(|_| text.parse().map(Boolean))
                    .unwrap_or(value),
            }
        }
    }
}

/// Id that the Market has given. One above the range of TOML's integers is written as a text.
#[derive(Clone, Copy)]
pub(super) struct MarketId(NonZeroU64);

impl MarketId {
    pub(super) fn get(self) -> u64 {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for MarketId {
    fn deserialize<D: Deserializer<'de>>(id: D) -> Result<Self, D::Error> {
        let text = value_text(&toml::Value::deserialize(id)?);
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for MarketId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.get()) {
            Ok(number) => serializer.serialize_i64(number),
            Err(_) => serializer.collect_str(&self.0),
        }
    }
}

/// Whole number between two bounds.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(number: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(number)?;
        let is_valid = (MIN..=MAX).contains(&number);
        let parsed = is_valid.then_some(Self(number));
        parsed.ok_or_else(|| D::Error::custom("is out of range"))
    }
}

/// Part of a whole: at most 1, and at least this number of hundredths.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Share<const MIN_PERCENT: u32>(pub(super) f64);

impl<'de, const MIN_PERCENT: u32> Deserialize<'de> for Share<MIN_PERCENT> {
    fn deserialize<D: Deserializer<'de>>(number: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(number)?;
        let is_valid = (f64::from(MIN_PERCENT) / 100.0..=1.0).contains(&number);
        let parsed = is_valid.then_some(Self(number));
        parsed.ok_or_else(|| D::Error::custom("is out of range"))
    }
}

/// Delimiter of a CSV file.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[repr(u8)]
#[serde(rename_all = "lowercase")]
pub(super) enum CsvDelimiter {
    Semicolon = b';',
    Comma = b',',
    Tab = b'\t',
    Bar = b'|',
}

/// Defines types of settings with two words.
macro_rules! word_pairs {
    ($($name:ident { $first:ident, $second:ident })+) => {$(
        #[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(rename_all = "lowercase")]
        pub(super) enum $name { $first, $second }
    )+};
}

word_pairs! {
    CampaignOrBusiness { Campaign, Business }
    EachOrTogether { Each, Together }
    KeepOrZero { Keep, Zero }
    RejectOrFloor { Reject, Floor }
    RejectOrTake { Reject, Take }
    RejectOrZero { Reject, Zero }
    SumOrMinimum { Sum, Minimum }
}

fn parse_name(text: &str) -> Option<String> {
    let is_valid = (1..=40).contains(&text.len())
        && text.chars().all(is_plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_valid.then(|| text.to_owned())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

fn parse_host(text: &str) -> Option<String> {
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

/// Parses an HTTP or HTTPS URL without user and fragment.
fn parse_web_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_valid = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    is_valid.then_some(url)
}

/// Text of a URL without its query, which may hold a token.
fn shown_url(url: &Url) -> Url {
    let mut url = url.clone();
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url
}

fn parse_chat(text: &str) -> Option<String> {
    let is_name = text.strip_prefix('@').is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    let is_number = text.parse::<i64>().is_ok_and(|number| number != 0);
    (is_name || is_number).then(|| text.to_owned())
}
