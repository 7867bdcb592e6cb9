//! Settings of each `[[notify]]` table.

use std::num::NonZeroU16;

use super::Setting;
use crate::config::reader::SettingsReader;
use crate::config::values::{
    AlarmName, BaseUrl, ChatId, HostName, MailAddress, MailLogin, MessageLanguage, QuietPeriod,
    SecretText, TableName, TimeZone, WebUrl, Whole,
};
use crate::notify::SmtpTls;

const WEBHOOK: &str = ChannelKindName::Webhook.into_str();
const TELEGRAM: &str = ChannelKindName::Telegram.into_str();
const EMAIL: &str = ChannelKindName::Email.into_str();
const ALL: &[&str] = &[WEBHOOK, TELEGRAM, EMAIL];

/// Kind of channel in the setting `kind`.
#[derive(Clone, Copy, serde::Deserialize, serde::Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub(in crate::config) enum ChannelKindName {
    Webhook,
    Telegram,
    Email,
}

settings! {
    /// Settings of each `[[notify]]` table.
    NOTIFY_SETTINGS for ChannelTable;

    /// Name of the channel in logs, in the alarm notify_failed and in the store. Under a new name
    /// it is a new channel: active alarms are sent to it once more.
    name: TableName, "1 to 40 of a-z, 0-9, - and _".example("\"ops\"").kinds(ALL);
    /// Receiver of the messages: a program (webhook), a chat (telegram) or mail addresses (email).
    kind: ChannelKindName, "webhook, telegram or email".example("\"telegram\"").kinds(ALL);
    // Receivers.
    /// Address of the program that receives a POST request with JSON for each message. Redirects
    /// are not followed.
    url: Option<WebUrl>, "an http:// or https:// address without user and fragment"
        .example("\"https://alerts.example/stockbridge\"").kinds(&[WEBHOOK]);
    /// Key of the signature (HMAC-SHA256) in the header X-Stockbridge-Signature, by which the
    /// receiver recognises our messages. Without it messages are not signed.
    secret_file: Option<SecretText>, "a file that holds a key of at least 8 characters"
        .example("\"secrets/webhook_secret\"").kinds(&[WEBHOOK]).chosen_secret();
    /// Token of the bot, as @BotFather shows it.
    token_file: Option<SecretText>, "a file that holds the token of a bot, such as 123456:ABC"
        .example("\"secrets/telegram_token\"").kinds(&[TELEGRAM]).secret();
    /// Chat that receives the messages. The number of a group is negative. The bot must be a
    /// member, and a person must have written to it first.
    chat: Option<ChatId>, "the number of a chat, or @name of a public channel"
        .example("-1001234567890").kinds(&[TELEGRAM]);
    /// Address of the Telegram Bot API. Change it for a Bot API server of your own.
    api_url: Option<BaseUrl>,
        "an https:// address without user, query or fragment; http:// only to this machine"
        .default("https://api.telegram.org").example("\"https://telegram.shop.example\"")
        .kinds(&[TELEGRAM]);
    /// SMTP server of the sender. Its certificate must have this name.
    server: Option<HostName>, "the name or IP address of an SMTP server"
        .example("\"localhost\"").kinds(&[EMAIL]);
    /// Port of the SMTP server. The default depends on tls: implicit 465, starttls 587, none 25.
    port: Option<NonZeroU16>, "a whole number between 1 and 65535".example("465").kinds(&[EMAIL]);
    /// Encryption of the connection: from its beginning (implicit), after the command STARTTLS,
    /// which is then required (starttls), or none for a mail server on this machine.
    tls: Option<SmtpTls>, "implicit, starttls or none; none only to this machine"
        .default("implicit").example("\"starttls\"").kinds(&[EMAIL]);
    /// Login at the SMTP server, with password_file.
    login: Option<MailLogin>, "a user name".example("\"stock@shop.example\"").kinds(&[EMAIL]);
    /// Password that belongs to login. Most providers need a password for programs.
    password_file: Option<SecretText>, "a file that holds the password"
        .example("\"secrets/mail_password\"").kinds(&[EMAIL]).secret();
    /// Sender of the messages. Many servers require the address of login.
    from: Option<MailAddress>, "a mail address, also with a name: Stock <stock@shop.example>"
        .example("\"stock@shop.example\"").kinds(&[EMAIL]);
    /// Recipients of the messages.
    to: Option<Vec<MailAddress>>, "a list of mail addresses, at least one"
        .example("[\"ops@shop.example\"]").kinds(&[EMAIL]);
    // Contents and times.
    /// Language of the messages. Descriptions with details are in English.
    language: MessageLanguage, "ru, en or zh".default("ru").example("\"en\"").kinds(ALL);
    /// Time zone of quiet_hours and of the times in messages. Without it the service's time_zone
    /// applies.
    time_zone: Option<TimeZone>, "an offset from UTC, such as +03:00"
        .example("\"+05:00\"").kinds(ALL);
    /// Alarms that are sent. Without it all are.
    alarms: Vec<AlarmName>, "a list of names of alarms"
        .default("").example("[\"source_held\", \"source_failed\"]").kinds(ALL);
    /// Shops whose alarms are sent. Without it all are. Alarms that are about no single shop are
    /// always sent.
    shops: Vec<TableName>, "a list of names of shops"
        .default("").example("[\"moscow\"]").kinds(ALL);
    /// Hours in which messages wait. At their end, one message reports everything that has changed.
    /// Alarms in urgent do not wait.
    quiet_hours: Option<QuietPeriod>, "two different times, such as 22:00-08:00"
        .example("\"22:00-08:00\"").kinds(ALL);
    /// Alarms that are sent during quiet_hours too. The default has those that affect orders or
    /// updates at once. With an empty list all alarms wait.
    urgent: Vec<AlarmName>, "a list of names of alarms"
        .default(
            "[\"batch_refused\", \"campaign_paused\", \"clone_guard\", \"cold_shop_asked\", \
            \"nothing_acknowledged\", \"store_failed\"]"
        )
        .example("[\"store_failed\", \"source_held\"]").kinds(ALL);
    /// Seconds that an alarm must be active before it is sent, and inactive before its end is sent,
    /// so that an alarm that comes and goes sends nothing. With 0 each change is sent at once.
    delay_seconds: Whole<0, 86_400>, "a whole number between 0 and 86400"
        .default("60").example("300").kinds(ALL);
    /// Hours after which an alarm that is still active is sent again.
    repeat_hours: Whole<0, 720>, "a whole number between 0, never, and 720"
        .default("24").example("8").kinds(ALL);
    /// True if the end of an alarm is sent too.
    cleared: bool, "true or false".default("true").example("false").kinds(ALL);
}
