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
    setting(
        "listen",
        Some("127.0.0.1:8080"),
        "an address and a port, such as 0.0.0.0:8080",
    ),
    setting(
        "ops_listen",
        Some("127.0.0.1:9090"),
        "an address and a port, such as 127.0.0.1:9090",
    ),
    setting(
        "ops_hosts",
        Some(""),
        "a list of names or IP addresses without a port under which ops_listen is called, besides \
         its own address and localhost",
    ),
    setting("store", Some("stockbridge-data"), "a directory"),
    setting(
        "market_url",
        Some("https://api.partner.market.yandex.ru"),
        "an https:// address without user, query or fragment; http:// only to this machine",
    ),
    setting(
        "ca_file",
        None,
        "a PEM file of further certificate authorities",
    ),
    setting(
        "instance",
        Some(""),
        "the name of this installation, 1 to 60 of a-z, 0-9, - and _; empty is the machine's own id",
    ),
    setting(
        "public_url",
        None,
        "the https:// address under which the Market reaches us",
    ),
    setting(
        "verify_hours",
        Some("6"),
        "a whole number between 0, never, and 168",
    ),
    setting(
        "grace_seconds",
        Some("900"),
        "a whole number between 0 and 86400",
    ),
    setting(
        "stale_hours",
        Some("24"),
        "a whole number between 1 and 720",
    ),
    setting("cutoff", Some("2026-12-31"), "a date, such as 2026-12-31"),
    setting(
        "max_connections",
        Some("10000"),
        "a whole number between 1 and 100000",
    ),
    setting(
        "max_connections_per_address",
        Some("0"),
        "a whole number between 0, no limit, and 100000",
    ),
    setting(
        "trusted_proxies",
        Some(""),
        "a list of IP addresses or networks, such as 10.0.0.0/8, of proxies whose X-Forwarded-For \
         is believed",
    ),
    setting("log_format", Some("auto"), "auto, json or text"),
    setting(
        "log_filter",
        Some("info"),
        "a level, and levels of modules: info,stockbridge::migrator=debug",
    ),
];

/// The settings of each `[[shops]]` table.
pub const SHOP_SETTINGS: &[Setting] = &[
    setting(
        "name",
        None,
        "1 to 40 of a-z, 0-9, - and _, beginning with a letter or a digit",
    ),
    setting(
        "warehouses",
        None,
        "a list of the Market's warehouse ids, whole numbers from 1",
    ),
    setting(
        "base_path",
        Some(""),
        "empty, or a path such as /market/api/Moscow of letters, digits and -._~ without the \
         segments campaigns and businesses",
    ),
    setting("campaign", None, "a campaign id, a whole number from 1"),
    setting(
        "feed_campaigns",
        Some(""),
        "a list of campaign ids, whole numbers from 1",
    ),
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
    setting(
        "push_token_file",
        None,
        "a file that holds the token the Market sends",
    ),
    setting(
        "push_token_2_file",
        None,
        "a file that holds a second token, for a change",
    ),
    setting(
        "feed_key_file",
        None,
        "a file that holds the key the seller's program sends us, at least 8 characters",
    ),
    setting(
        "feed_key_2_file",
        None,
        "a file that holds a second key, for a change, at least 8 characters",
    ),
    setting(
        "api_key_file",
        None,
        "a file that holds our Api-Key for the Market",
    ),
    setting(
        "api_key_2_file",
        None,
        "a file that holds a second Api-Key, tried if one is refused",
    ),
    setting("migrate", Some("on"), "on, dry-run or off"),
    setting("parallel", Some("2"), "a whole number between 1 and 4"),
    setting("limit_share", Some("1.0"), "a number between 0.01 and 1.0"),
    setting("unknown_sku", Some("omit"), "omit, zero or fail"),
    setting("unavailable_status", Some("503"), "500 or 503"),
    setting("combine", Some("latest"), "latest, sum, minimum or first"),
    setting(
        "buffer",
        Some("0"),
        "pieces kept back, a whole number up to 1000000",
    ),
    setting(
        "zero_below",
        Some("0"),
        "pieces, a whole number up to 1000000",
    ),
    setting("cap", None, "pieces, a whole number up to 2000000000"),
    setting(
        "overrides_file",
        None,
        "a CSV file with the columns sku, count, buffer, zero_below and cap",
    ),
];

/// The settings of each `[[shops.sources]]` table.
pub const SOURCE_SETTINGS: &[Setting] = &[
    setting(
        "name",
        None,
        "1 to 40 of a-z, 0-9, - and _, not rules and not import",
    ),
    setting("kind", None, "file, legacy, 1c, moysklad or sql"),
    setting(
        "path",
        None,
        "file: a file, a directory or a pattern; 1c: the path of its URL",
    ),
    setting(
        "url",
        None,
        "an http:// or https:// address without user and fragment",
    ),
    setting("every_seconds", None, "a whole number between 1 and 86400"),
    // What a delivery is.
    setting("scope", None, "snapshot or delta"),
    setting("absent", Some("keep"), "keep or zero"),
    setting(
        "warehouses",
        Some(""),
        "a list of names or ids the source uses, or \"*\" for all",
    ),
    // How it is read.
    setting(
        "format",
        None,
        "csv, sheet (or xlsx, xls), yml, commerceml or json",
    ),
    setting("files", None, "each or together"),
    setting("sku", None, "the name of a column, an element or a key"),
    setting(
        "quantity",
        None,
        "the name of a column, an element or a key",
    ),
    setting("reserve", None, "the name of a column, an element or a key"),
    setting(
        "warehouse",
        None,
        "the name of a column, an element or a key",
    ),
    setting(
        "updated_at",
        None,
        "the name of a column, an element or a key",
    ),
    setting("sheet", None, "the name of a sheet"),
    setting(
        "list",
        None,
        "json: the path of the list of products, such as result.items",
    ),
    setting("delimiter", None, "semicolon, comma, tab or bar"),
    setting(
        "encoding",
        None,
        "the name of an encoding, such as windows-1251",
    ),
    setting("fraction", Some("reject"), "reject or floor"),
    setting("negative", Some("reject"), "reject or zero"),
    setting(
        "words",
        None,
        "a table of words and the quantities they stand for",
    ),
    setting("unavailable", Some("keep"), "keep or zero"),
    setting("unended_row", Some("reject"), "reject or take"),
    setting("empty", Some("keep"), "keep or zero"),
    setting("decimal", None, "comma or point"),
    setting("duplicates", None, "reject, same or sum"),
    setting("suspicious_sku", Some("reject"), "reject or take"),
    setting("single_page", Some("reject"), "reject or take"),
    setting("variants", Some("reject"), "reject or sum"),
    // What is made of it.
    setting("places", Some("sum"), "sum or minimum"),
    setting("pack", Some("1"), "a whole number between 1 and 1000000"),
    setting(
        "buffer",
        Some("0"),
        "pieces kept back, a whole number up to 1000000",
    ),
    setting(
        "zero_below",
        Some("0"),
        "pieces, a whole number up to 1000000",
    ),
    setting("cap", None, "pieces, a whole number up to 2000000000"),
    setting(
        "mapping_file",
        None,
        "a CSV file with the columns said, sku and pack",
    ),
    // When it is not believed.
    setting("guard_rows", Some("0.5"), "a number between 0 and 1"),
    setting("guard_zeros", Some("0.3"), "a number between 0 and 1"),
    setting("guard_bad_rows", Some("0.01"), "a number between 0 and 1"),
    setting(
        "guard_repeats",
        Some("0"),
        "a whole number up to 1000; 0 means never",
    ),
    // How it is reached.
    setting("login", None, "a name without a colon"),
    setting(
        "password_file",
        None,
        "a file that holds the password; at least 8 characters for the kind 1c",
    ),
    setting("token_file", None, "a file that holds the token"),
    setting("token_in", Some("header"), "header or query"),
    setting(
        "ask_warehouse",
        None,
        "the Market's id of the warehouse to ask about; the shop's first if not said",
    ),
    setting(
        "part_skus",
        Some("500"),
        "a whole number between 1 and 1000",
    ),
    setting("parallel", Some("2"), "a whole number between 1 and 8"),
    setting("skus_file", None, "a text file with one SKU a line"),
    setting("stock", Some("freeStock"), "freeStock, quantity or stock"),
    setting(
        "database_file",
        None,
        "a file that holds a postgres:// or mysql:// address with name and password",
    ),
    setting("query", None, "one SELECT with named columns"),
    setting("watermark", None, "the name of a column"),
    setting(
        "timeout_seconds",
        Some("300"),
        "a whole number between 1 and 86400",
    ),
    setting(
        "max_mib",
        Some("1024"),
        "a whole number between 1 and 65536",
    ),
];

pub(super) fn find_setting(key: &str, settings: &'static [Setting]) -> &'static Setting {
    settings
        .iter()
        .find(|setting| setting.key == key)
        .expect("every setting is in its list")
}
