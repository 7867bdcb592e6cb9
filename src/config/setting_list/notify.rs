//! Settings of each `[[notify]]` table.

use super::Setting;

const ALL_KINDS: &[&str] = &["webhook", "telegram", "email"];

/// Settings of each `[[notify]]` table.
pub const NOTIFY_SETTINGS: &[Setting] = &[
    Setting::new("name", "1 to 40 of a-z, 0-9, - and _")
        .effect(
            "Name of the channel in logs, in the alarm notify_failed and in the store. Under a new \
             name it is a new channel: active alarms are sent to it once more.",
        )
        .example("\"ops\"")
        .kinds(ALL_KINDS),
    Setting::new("kind", "webhook, telegram or email")
        .effect(
            "Receiver of the messages: a program (webhook), a chat (telegram) or mail addresses \
             (email).",
        )
        .example("\"telegram\"")
        .kinds(ALL_KINDS),
    // Receivers.
    Setting::new(
        "url",
        "an http:// or https:// address without user and fragment",
    )
    .effect(
        "Address of the program that receives a POST request with JSON for each message. \
         Redirects are not followed.",
    )
    .example("\"https://alerts.example/stockbridge\"")
    .kinds(&["webhook"]),
    Setting::new(
        "secret_file",
        "a file that holds a key of at least 8 characters",
    )
    .effect(
        "Key of the signature (HMAC-SHA256) in the header X-Stockbridge-Signature, by which the \
         receiver recognises our messages. Without it messages are not signed.",
    )
    .example("\"secrets/webhook_secret\"")
    .kinds(&["webhook"]),
    Setting::new(
        "token_file",
        "a file that holds the token of a bot, such as 123456:ABC",
    )
    .effect("Token of the bot, as @BotFather shows it.")
    .example("\"secrets/telegram_token\"")
    .kinds(&["telegram"]),
    Setting::new("chat", "the number of a chat, or @name of a public channel")
        .effect(
            "Chat that receives the messages. The number of a group is negative. The bot must be a \
             member, and a person must have written to it first.",
        )
        .example("-1001234567890")
        .kinds(&["telegram"]),
    Setting::new(
        "api_url",
        "an https:// address without user, query or fragment; http:// only to this machine",
    )
    .default("https://api.telegram.org")
    .effect("Address of the Telegram Bot API. Change it for a Bot API server of your own.")
    .example("\"https://telegram.shop.example\"")
    .kinds(&["telegram"]),
    Setting::new("server", "the name or IP address of an SMTP server")
        .effect("SMTP server of the sender. Its certificate must have this name.")
        .example("\"localhost\"")
        .kinds(&["email"]),
    Setting::new("port", "a whole number between 1 and 65535")
        .effect("Port of the SMTP server. The default depends on tls: implicit 465, starttls 587, none 25.")
        .example("465")
        .kinds(&["email"]),
    Setting::new("tls", "implicit, starttls or none; none only to this machine")
        .default("implicit")
        .effect(
            "Encryption of the connection: from its beginning (implicit), after the command \
             STARTTLS, which is then required (starttls), or none for a mail server on this \
             machine.",
        )
        .example("\"starttls\"")
        .kinds(&["email"]),
    Setting::new("login", "a user name")
        .effect("Login at the SMTP server, with password_file.")
        .example("\"stock@shop.example\"")
        .kinds(&["email"]),
    Setting::new("password_file", "a file that holds the password")
        .effect("Password that belongs to login. Most providers need a password for programs.")
        .example("\"secrets/mail_password\"")
        .kinds(&["email"]),
    Setting::new("from", "a mail address, also with a name: Stock <stock@shop.example>")
        .effect("Sender of the messages. Many servers require the address of login.")
        .example("\"stock@shop.example\"")
        .kinds(&["email"]),
    Setting::new("to", "a list of mail addresses, at least one")
        .effect("Recipients of the messages.")
        .example("[\"ops@shop.example\"]")
        .kinds(&["email"]),
    // Contents and times.
    Setting::new("language", "ru, en or zh")
        .default("ru")
        .effect("Language of the messages. Descriptions with details are in English.")
        .example("\"en\"")
        .kinds(ALL_KINDS),
    Setting::new("time_zone", "an offset from UTC, such as +03:00")
        .effect(
            "Time zone of quiet_hours and of the times in messages. Without it the service's \
             time_zone applies.",
        )
        .example("\"+05:00\"")
        .kinds(ALL_KINDS),
    Setting::new("alarms", "a list of names of alarms")
        .default("")
        .effect("Alarms that are sent. Without it all are.")
        .example("[\"source_held\", \"source_failed\"]")
        .kinds(ALL_KINDS),
    Setting::new("shops", "a list of names of shops")
        .default("")
        .effect(
            "Shops whose alarms are sent. Without it all are. Alarms that are about no single shop \
             are always sent.",
        )
        .example("[\"moscow\"]")
        .kinds(ALL_KINDS),
    Setting::new("quiet_hours", "two different times, such as 22:00-08:00")
        .effect(
            "Hours in which messages wait. At their end, one message reports everything that has \
             changed. Alarms in urgent do not wait.",
        )
        .example("\"22:00-08:00\"")
        .kinds(ALL_KINDS),
    Setting::new("urgent", "a list of names of alarms")
        .default(
            "[\"batch_refused\", \"campaign_paused\", \"clone_guard\", \"cold_shop_asked\", \
             \"nothing_acknowledged\", \"store_failed\"]",
        )
        .effect(
            "Alarms that are sent during quiet_hours too. The default has those that affect orders \
             or updates at once. With an empty list all alarms wait.",
        )
        .example("[\"store_failed\", \"source_held\"]")
        .kinds(ALL_KINDS),
    Setting::new("delay_seconds", "a whole number between 0 and 86400")
        .default("60")
        .effect(
            "Seconds that an alarm must be active before it is sent, and inactive before its end \
             is sent, so that an alarm that comes and goes sends nothing. With 0 each change is \
             sent at once.",
        )
        .example("300")
        .kinds(ALL_KINDS),
    Setting::new("repeat_hours", "a whole number between 0, never, and 720")
        .default("24")
        .effect("Hours after which an alarm that is still active is sent again.")
        .example("8")
        .kinds(ALL_KINDS),
    Setting::new("cleared", "true or false")
        .default("true")
        .effect("True if the end of an alarm is sent too.")
        .example("false")
        .kinds(ALL_KINDS),
];
