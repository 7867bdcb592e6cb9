//! Reads the settings of one `[[notify]]` table, and prints them for `check`.

use std::fmt;

use chrono::{FixedOffset, TimeDelta};
use reqwest::Url;
use strict_http::secret::Secret;

use super::effective::quoted;
use super::reader::SettingsReader;
use super::values::{
    in_range, is_loopback_host, parse_host, parse_market_url, parse_name, parse_time_zone,
};
use crate::i18n::Language;
use crate::notify::{
    ChannelConfig, ChannelKind, ChannelPolicy, DEFAULT_URGENT, EmailConfig, QuietHours, SmtpTls,
    TelegramConfig, WebhookConfig,
};
use crate::telemetry::AlarmKind;

/// Reads one channel, whose times are in the zone of the service unless it has its own. Returns
/// `None` after an error, which is then in `reader`.
pub(super) fn read_channel(
    reader: &mut SettingsReader<'_>,
    service_time_zone: Option<FixedOffset>,
) -> Option<ChannelConfig> {
    let name = reader.take("name", parse_name);
    let kind = reader.take("kind", |text| {
        ["webhook", "telegram", "email"]
            .into_iter()
            .find(|kind| *kind == text)
    });
    let Some(kind) = kind else {
        // The other keys cannot be checked without a kind.
        reader.ignore_remaining();
        return None;
    };
    let language = reader.take("language", Language::from_code);
    let policy = read_policy(reader, service_time_zone);
    let receiver = match kind {
        "webhook" => read_webhook(reader).map(ChannelKind::Webhook),
        "telegram" => read_telegram(reader).map(ChannelKind::Telegram),
        _ => read_email(reader).map(ChannelKind::Email),
    };
    let secret_files = reader.secret_files();
    Some(ChannelConfig {
        name: name?,
        language: language?,
        policy: policy?,
        kind: receiver?,
        secret_files,
    })
}

fn read_policy(
    reader: &mut SettingsReader<'_>,
    service_time_zone: Option<FixedOffset>,
) -> Option<ChannelPolicy> {
    let time_zone = reader.optional("time_zone", parse_time_zone);
    let alarms = reader.list("alarms", AlarmKind::from_name);
    let shops = reader.list("shops", parse_name);
    let quiet_hours = reader.optional("quiet_hours", QuietHours::parse);
    let urgent = if reader.is_unset("urgent") {
        Some(DEFAULT_URGENT.to_vec())
    } else {
        reader.list("urgent", AlarmKind::from_name)
    };
    let delay = reader.take("delay_seconds", in_range(0, 86_400));
    let repeat = reader.take("repeat_hours", in_range(0, 720));
    let reports_end = reader.take("cleared", |text| text.parse().ok());
    let repeat: i64 = repeat?.try_into().ok()?;
    Some(ChannelPolicy {
        alarms: alarms?,
        shops: shops?,
        quiet_hours,
        time_zone: time_zone.or(service_time_zone)?,
        urgent: urgent?,
        repeat: (repeat > 0).then(|| TimeDelta::hours(repeat)),
        reports_end: reports_end?,
        delay: TimeDelta::seconds(delay?.try_into().ok()?),
    })
}

fn read_webhook(reader: &mut SettingsReader<'_>) -> Option<WebhookConfig> {
    let url = reader.take("url", parse_webhook_url);
    let secret = reader.chosen_secrets(["secret"], false).pop();
    Some(WebhookConfig { url: url?, secret })
}

fn read_telegram(reader: &mut SettingsReader<'_>) -> Option<TelegramConfig> {
    let api_url = reader.take("api_url", parse_market_url);
    let chat = reader.take("chat", parse_chat);
    let token = reader.secrets(["token"], true).pop();
    let token = token.filter(|token| {
        let is_token = is_bot_token(token);
        if !is_token {
            reader.add_error(
                "token_file does not hold the token of a bot: @BotFather shows it, as digits, a \
                 colon, and letters",
            );
        }
        is_token
    });
    Some(TelegramConfig {
        api_url: api_url?,
        token: token?,
        chat: chat?,
    })
}

fn read_email(reader: &mut SettingsReader<'_>) -> Option<EmailConfig> {
    let server = reader.take("server", parse_host);
    let tls = reader.take("tls", |text| {
        [SmtpTls::Implicit, SmtpTls::StartTls, SmtpTls::None]
            .into_iter()
            .find(|tls| tls.name() == text)
    });
    let port = reader.optional("port", |text| text.parse().ok().filter(|port| *port > 0));
    let login = reader.optional("login", |text| {
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    });
    let password = reader.optional_secret("password");
    let from = reader.take("from", |text| text.parse().ok());
    let to = reader.list("to", |text| text.parse().ok());
    let login = match (login, password) {
        (Some(login), Some(password)) => Some((login, password)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            reader.add_error("login and password_file belong together: set both or neither");
            return None;
        }
    };
    let (server, tls) = (server?, tls?);
    if tls == SmtpTls::None && !is_loopback_host(&server) {
        reader.add_error(&format!(
            "tls is \"none\": the connection to {server} must be encrypted, so set \"implicit\" or \
             \"starttls\""
        ));
        return None;
    }
    Some(EmailConfig {
        server,
        port: port.unwrap_or(tls.default_port()),
        tls,
        login,
        from: from?,
        to: to?,
    })
}

fn parse_webhook_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_valid = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    is_valid.then_some(url)
}

fn parse_chat(text: &str) -> Option<String> {
    let is_name = text.strip_prefix('@').is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    let is_number = text.parse::<i64>().is_ok_and(|number| number != 0);
    (is_name || is_number).then(|| text.to_owned())
}

/// Returns true for digits, a colon and letters. Other characters could change the URL.
fn is_bot_token(token: &Secret) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    token.expose().split_once(':').is_some_and(|(id, key)| {
        let is_number = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
        is_number && !key.is_empty() && key.chars().all(is_plain)
    })
}

/// Writes the table of one channel. Secrets are `***`.
pub(super) fn write_channel(f: &mut fmt::Formatter<'_>, channel: &ChannelConfig) -> fmt::Result {
    let ChannelConfig {
        name,
        language,
        policy,
        kind,
        secret_files: _,
    } = channel;
    writeln!(f, "\n[[notify]]\nname = {}", quoted(name))?;
    writeln!(f, "kind = \"{}\"", kind.name())?;
    match kind {
        ChannelKind::Webhook(webhook) => {
            // A query may hold a token.
            let mut url = webhook.url.clone();
            if url.query().is_some() {
                url.set_query(Some("***"));
            }
            writeln!(f, "url = {}", quoted(url.as_str()))?;
            if let Some(secret) = &webhook.secret {
                writeln!(f, "secret = \"{secret:?}\"")?;
            }
        }
        ChannelKind::Telegram(telegram) => {
            writeln!(f, "token = \"{:?}\"", telegram.token)?;
            writeln!(f, "chat = {}", quoted(&telegram.chat))?;
            writeln!(f, "api_url = {}", quoted(&telegram.api_url))?;
        }
        ChannelKind::Email(email) => {
            writeln!(
                f,
                "server = {}\nport = {}",
                quoted(&email.server),
                email.port
            )?;
            writeln!(f, "tls = \"{}\"", email.tls.name())?;
            if let Some((login, password)) = &email.login {
                writeln!(f, "login = {}\npassword = \"{password:?}\"", quoted(login))?;
            }
            writeln!(f, "from = {}", quoted(&email.from.to_string()))?;
            let to = email.to.iter().map(|to| quoted(&to.to_string()));
            writeln!(f, "to = [{}]", to.collect::<Vec<_>>().join(", "))?;
        }
    }
    writeln!(f, "language = \"{}\"", language.code())?;
    writeln!(f, "time_zone = \"{}\"", policy.time_zone)?;
    let names = |kinds: &[AlarmKind]| -> Vec<&str> { kinds.iter().map(|k| k.name()).collect() };
    writeln!(f, "alarms = {:?}", names(&policy.alarms))?;
    writeln!(f, "shops = {:?}", policy.shops)?;
    if let Some(quiet) = &policy.quiet_hours {
        writeln!(f, "quiet_hours = \"{quiet}\"")?;
    }
    writeln!(f, "urgent = {:?}", names(&policy.urgent))?;
    writeln!(f, "delay_seconds = {}", policy.delay.num_seconds())?;
    let repeat = policy.repeat.map_or(0, |repeat| repeat.num_hours());
    writeln!(
        f,
        "repeat_hours = {repeat}\ncleared = {}",
        policy.reports_end
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Config;

    const SHOP: &str = "[[shops]]\nname = \"moscow\"\nwarehouses = [1]\ncampaign = 1\n";
    const TOKEN: &str = "123456:canary-token";

    fn parse(channels: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let shop = [
            ("PUSH_TOKEN", "push"),
            ("FEED_KEY", "feed-key"),
            ("API_KEY", "api"),
        ];
        let shop = shop.map(|(key, text)| (format!("STOCKBRIDGE_SHOPS_MOSCOW_{key}"), text));
        let own = variables
            .iter()
            .map(|(key, text)| (format!("STOCKBRIDGE_NOTIFY_{key}"), *text));
        let environment: BTreeMap<String, String> = own
            .chain(shop)
            .map(|(key, text)| (key, text.to_owned()))
            .collect();
        Config::parse(&format!("{SHOP}{channels}"), environment, "".as_ref())
            .map_err(|error| error.to_string())
    }

    const TELEGRAM: &str = "[[notify]]\nname = \"ops\"\nkind = \"telegram\"\nchat = -100\n";
    const EMAIL: &str = "[[notify]]\nname = \"mail\"\nkind = \"email\"\nserver = \"smtp.example\"\n\
                         from = \"a@b.example\"\nto = [\"c@d.example\", \"E <e@d.example>\"]\n";

    #[test]
    fn reads_channels_with_defaults_and_variables() {
        let text = format!("{TELEGRAM}{EMAIL}");
        let variables = [
            ("OPS_TOKEN", TOKEN),
            ("OPS_LANGUAGE", "zh"),
            ("MAIL_LOGIN", "a@b.example"),
            ("MAIL_PASSWORD", "canary"),
        ];
        let config = parse(&text, &variables).unwrap();
        let [telegram, email] = config.notify.as_slice() else {
            panic!("{:?}", config.notify);
        };
        assert_eq!(telegram.language, Language::Chinese);
        assert_eq!(email.language, Language::Russian);
        assert_eq!(email.policy.delay, TimeDelta::seconds(60));
        assert_eq!(email.policy.repeat, Some(TimeDelta::hours(24)));
        assert_eq!(email.policy.urgent, DEFAULT_URGENT);
        let ChannelKind::Email(settings) = &email.kind else {
            panic!("{email:?}");
        };
        assert_eq!((settings.port, settings.to.len()), (465, 2));
        // The printed settings are valid, and print as the same text.
        let printed = config.to_string();
        assert!(!printed.contains("canary"), "{printed}");
        let (_, channels) = printed.split_once("\n[[notify]]").unwrap();
        let channels = channels
            .lines()
            .filter(|line| !line.contains("***"))
            .collect::<Vec<_>>()
            .join("\n");
        let again = parse(&format!("[[notify]]{channels}"), &variables).unwrap();
        assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn the_default_of_urgent_is_the_documented_one() {
        let setting = super::super::NOTIFY_SETTINGS
            .iter()
            .find(|setting| setting.key == "urgent")
            .unwrap();
        let names = DEFAULT_URGENT.map(AlarmKind::name);
        assert_eq!(setting.default, Some(format!("{names:?}").as_str()));
    }

    #[test]
    fn errors_name_the_setting_and_the_rule() {
        let webhook = "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\n";
        for (text, expected) in [
            (
                format!("{TELEGRAM}alarms = [\"dirft\"]\n"),
                "notify[0].alarms is",
            ),
            (
                format!("{TELEGRAM}shops = [\"kazan\"]\n"),
                "notify[0].shops holds kazan",
            ),
            (format!("{TELEGRAM}quiet_hours = \"22-8\"\n"), "22:00-08:00"),
            (format!("{TELEGRAM}time_zone = \"MSK\"\n"), "such as +03:00"),
            (
                format!("{TELEGRAM}url = \"https://a.example\"\n"),
                "notify[0].url is not valid here",
            ),
            (format!("{EMAIL}{EMAIL}"), "notify[1].name is 'mail'"),
            (
                format!("{webhook}url = \"ftp://a.example\"\n"),
                "notify[0].url is",
            ),
            (webhook.to_owned(), "notify[0].url is missing"),
            (format!("{EMAIL}tls = \"none\"\n"), "must be encrypted"),
            (format!("{EMAIL}login = \"a\"\n"), "belong together"),
            (
                "[[notify]]\nname = \"a\"\nkind = \"pager\"\n".to_owned(),
                "notify[0].kind is",
            ),
        ] {
            let error = parse(&text, &[("OPS_TOKEN", TOKEN)]).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn wrong_tokens_are_not_printed() {
        for token in ["canary", "12:", ":canary", "12:canary/../x", "12:canary?x"] {
            let error = parse(TELEGRAM, &[("OPS_TOKEN", token)]).unwrap_err();
            assert!(error.contains("@BotFather"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn plain_smtp_is_for_this_machine() {
        for (server, is_valid) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            let text = EMAIL.replace("smtp.example", server);
            let parsed = parse(&format!("{text}tls = \"none\"\n"), &[]);
            assert_eq!(parsed.is_ok(), is_valid, "{server}");
        }
    }
}
