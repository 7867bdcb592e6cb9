//! Makes the configuration of a channel from its `[[notify]]` table.

use chrono::TimeDelta;

use super::reader::SettingsReader;
use super::setting_list::{ChannelKindName, ChannelTable};
use super::values::{TableName, TimeZone, is_loopback_host};
use crate::notify::{
    ChannelConfig, ChannelKind, ChannelPolicy, EmailConfig, SmtpTls, TelegramConfig, WebhookConfig,
};
use strict_http::secret::Secret;

/// Reads one channel, whose times are in the zone of the service unless it has its own. Returns
/// `None` after a fault, which is then in `reader`.
pub(super) fn read_channel(
    reader: &mut SettingsReader<'_>,
    service_time_zone: &TimeZone,
) -> Option<ChannelConfig> {
    let kind = reader.read_kind::<TableName, ChannelKindName>()?;
    reader.limit_to(kind.into_str(), Vec::new());
    let mut table = ChannelTable::read(reader);
    let time_zone = table.time_zone.get_or_insert(service_time_zone.clone()).0;
    if let Some(tls) = table.tls {
        let usual_port = tls
            .default_port()
            .try_into()
            .expect("the usual port is not 0");
        table.port.get_or_insert(usual_port);
    }
    reader.show(&table, None);
    let policy = ChannelPolicy {
        alarms: table.alarms.iter().map(|alarm| alarm.0).collect(),
        shops: table.shops.iter().map(|shop| shop.0.clone()).collect(),
        quiet_hours: table.quiet_hours.as_ref().map(|hours| hours.0),
        time_zone,
        urgent: table.urgent.iter().map(|alarm| alarm.0).collect(),
        repeat: (table.repeat_hours.0 > 0).then(|| TimeDelta::hours(table.repeat_hours.0.into())),
        reports_end: table.cleared,
        delay: TimeDelta::seconds(table.delay_seconds.0.into()),
    };
    let (name, language) = (table.name.0.clone(), table.language.0);
    let receiver = match kind {
        ChannelKindName::Webhook => ChannelKind::Webhook(WebhookConfig {
            url: reader.needed("url", table.url)?.0,
            secret: table.secret_file.map(|secret| secret.0),
        }),
        ChannelKindName::Telegram => ChannelKind::Telegram(read_telegram(reader, table)?),
        ChannelKindName::Email => ChannelKind::Email(read_email(reader, table)?),
    };
    Some(ChannelConfig {
        name,
        language,
        policy,
        kind: receiver,
    })
}

fn read_telegram(reader: &mut SettingsReader<'_>, table: ChannelTable) -> Option<TelegramConfig> {
    let chat = reader.needed("chat", table.chat);
    let token = reader.needed("token_file", table.token_file)?.0;
    if !is_bot_token(&token) {
        reader.fault(
            "token_file",
            " does not hold the token of a bot: @BotFather shows it, as digits, a colon, and \
             letters",
        );
    }
    Some(TelegramConfig {
        api_url: table.api_url?.0,
        token,
        chat: chat?.0,
    })
}

fn read_email(reader: &mut SettingsReader<'_>, table: ChannelTable) -> Option<EmailConfig> {
    let server = reader.needed("server", table.server);
    let from = reader.needed("from", table.from);
    let to = reader.needed("to", table.to);
    let login = match (table.login, table.password_file) {
        (Some(login), Some(password)) => Some((login.0, password.0)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let text = " and password_file belong together: set both or neither";
            reader.fault("login", text);
            None
        }
    };
    let (server, tls) = (server?.0, table.tls?);
    if tls == SmtpTls::None && !is_loopback_host(&server) {
        let text = format!(
            " is \"none\": the connection to {server} must be encrypted, so set \"implicit\" or \
             \"starttls\""
        );
        reader.fault("tls", &text);
    }
    Some(EmailConfig {
        server,
        port: table.port?.get(),
        tls,
        login,
        from: from?.0,
        to: to?.into_iter().map(|to| to.0).collect(),
    })
}

/// Returns true for digits, a colon and letters. Other characters could change the URL.
fn is_bot_token(token: &Secret) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    token.expose().split_once(':').is_some_and(|(id, key)| {
        let is_number = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
        is_number && !key.is_empty() && key.chars().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Config;
    use crate::i18n::Language;
    use crate::telemetry::AlarmKind;

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
        let config = parse(EMAIL, &[]).unwrap();
        assert_eq!(
            config.notify[0].policy.urgent,
            [
                AlarmKind::BatchRefused,
                AlarmKind::CampaignPaused,
                AlarmKind::CloneGuard,
                AlarmKind::ColdShopAsked,
                AlarmKind::NothingAcknowledged,
                AlarmKind::StoreFailed,
            ]
        );
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
