/// One setting: what the README's table says of it, and what a refusal says.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file; upper-cased, the end of its name in the environment.
    pub key: &'static str,
    /// What holds if nothing is said; `None` if something must be said or nothing is meant.
    pub default: Option<&'static str>,
    /// What a value must be.
    pub rule: &'static str,
}

const fn setting(key: &'static str, default: Option<&'static str>, rule: &'static str) -> Setting {
    Setting { key, default, rule }
}

/// The settings at the top of the file.
pub const SETTINGS: &[Setting] = &[
    setting("listen", Some("127.0.0.1:8080"), "an address and a port, such as 0.0.0.0:8080"),
    setting("ops_listen", Some("127.0.0.1:9090"), "an address and a port, such as 127.0.0.1:9090"),
    setting("store", Some("stockbridge-data"), "a directory"),
    setting(
        "market_url",
        Some("https://api.partner.market.yandex.ru"),
        "an https:// address without user, query or fragment; http:// only to this machine",
    ),
    setting("ca_file", None, "a PEM file of further certificate authorities"),
    setting(
        "instance",
        Some(""),
        "the name of this installation, 1 to 60 of a-z, 0-9, - and _; empty is the machine's own id",
    ),
    setting("public_url", None, "the https:// address under which the Market reaches us"),
    setting("verify_hours", Some("6"), "a whole number between 0, never, and 168"),
    setting("grace_seconds", Some("900"), "a whole number between 0 and 86400"),
    setting("stale_hours", Some("24"), "a whole number between 1 and 720"),
    setting("cutoff", Some("2026-12-31"), "a date, such as 2026-12-31"),
    setting("max_connections", Some("10000"), "a whole number between 1 and 100000"),
    setting("log_format", Some("auto"), "auto, json or text"),
    setting("log_filter", Some("info"), "a filter in the syntax of RUST_LOG"),
];

/// The settings of each `[[shops]]` table.
pub const SHOP_SETTINGS: &[Setting] = &[
    setting("name", None, "1 to 40 of a-z, 0-9, - and _, beginning with a letter or a digit"),
    setting("warehouses", None, "a list of the Market's warehouse ids, whole numbers from 1"),
    setting(
        "base_path",
        Some(""),
        "empty, or a path such as /market/api/Moscow of letters, digits and -._~ without the \
         segments campaigns and businesses",
    ),
    setting("campaign", None, "a campaign id, a whole number from 1"),
    setting("feed_campaigns", Some(""), "a list of campaign ids, whole numbers from 1"),
    setting("method", Some("campaign"), "campaign or business"),
    setting(
        "business",
        None,
        "a business id, a whole number from 1; needed by the method business",
    ),
    setting(
        "partner_warehouses",
        Some(""),
        "a list of the ids the method business uses, whole numbers from 1; empty means as warehouses",
    ),
    setting("push_token_file", None, "a file that holds the token the Market sends"),
    setting("push_token_2_file", None, "a file that holds a second token, for a change"),
    setting("feed_key_file", None, "a file that holds the key the seller's program sends us"),
    setting("feed_key_2_file", None, "a file that holds a second key, for a change"),
    setting("api_key_file", None, "a file that holds our Api-Key for the Market"),
    setting("api_key_2_file", None, "a file that holds a second Api-Key, tried if one is refused"),
    setting("migrate", Some("on"), "on, dry-run or off"),
    setting("parallel", Some("2"), "a whole number between 1 and 4"),
    setting("limit_share", Some("1.0"), "a number between 0.01 and 1.0"),
    setting("unknown_sku", Some("omit"), "omit, zero or fail"),
    setting("unavailable_status", Some("503"), "500 or 503"),
];

pub(super) fn find(key: &str, is_shop: bool) -> &'static Setting {
    let list = if is_shop { SHOP_SETTINGS } else { SETTINGS };
    list.iter().find(|setting| setting.key == key).expect("every setting is in its list")
}
