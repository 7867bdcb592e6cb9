//! Settings at the top of the file: listeners, store, Market, logs.

use super::Setting;

/// Settings at the top of the file.
pub const SETTINGS: &[Setting] = &[
    Setting::new("listen", "an address and a port, such as 0.0.0.0:8080")
        .default("127.0.0.1:8080")
        .effect(
            "Address of the public listener. The Market requests stock there and the seller's \
             programs update it. Keep the default if a reverse proxy runs on the same machine. In \
             a container set 0.0.0.0:8080.",
        )
        .example("\"0.0.0.0:8080\""),
    Setting::new("ops_listen", "an address and a port, such as 127.0.0.1:9090")
        .default("127.0.0.1:9090")
        .effect(
            "Address of the operator listener: health, status, metrics and the commands that act \
             on the running service, and the pages. An address other than loopback needs \
             ops_password_file. Never make it reachable from the internet without TLS.",
        )
        .example("\"127.0.0.1:9090\""),
    Setting::new(
        "ops_hosts",
        "a list of names or IP addresses without a port under which ops_listen is called, besides \
         its own address and localhost",
    )
    .default("")
    .effect(
        "Names by which the operator listener may be called. A request with another name in its \
         Host header gets 421, which stops web pages that attack local services. Add the name of \
         the container or service if Prometheus calls it by that name.",
    )
    .example("[\"stockbridge\"]"),
    Setting::new(
        "ops_password_file",
        "a file that holds the operator's password, at least 8 characters",
    )
    .effect(
        "Password for the pages and the commands. It is required if ops_listen is not a loopback \
         address. A browser asks for it once; programs send it as `Authorization: Bearer \
         PASSWORD`, and the commands read STOCKBRIDGE_OPS_PASSWORD_FILE.",
    )
    .example("\"secrets/ops_password\""),
    Setting::new("ops_protect_metrics", "true or false")
        .default("false")
        .effect(
            "The password is also needed for /metrics, /healthz and /readyz. Set it if others can \
             reach the listener. Prometheus then sends the password as its credentials.",
        )
        .example("true"),
    Setting::new("store", "a directory")
        .default("stockbridge-data")
        .effect(
            "Directory of everything that has to survive a restart: stock, what the Market has \
             acknowledged, and what sources have stated. It needs a local disk. Back it up as \
             docs/operations.md describes, and never run two services on one store.",
        )
        .example("\"/var/lib/stockbridge\""),
    Setting::new(
        "market_url",
        "an https:// address without user, query or fragment; http:// only to this machine",
    )
    .default("https://api.partner.market.yandex.ru")
    .effect(
        "Address of the Market's API. Change it only for tests against a simulator.",
    )
    .example("\"https://api.partner.market.yandex.ru\""),
    Setting::new("ca_file", "a PEM file of further certificate authorities")
        .effect(
            "Certificate authorities that are trusted in addition to the built-in ones when \
             the Market or a source is called. Set it if a company proxy inspects TLS.",
        )
        .example("\"company-ca.pem\""),
    Setting::new(
        "instance",
        "the name of this installation, 1 to 60 of a-z, 0-9, - and _; empty is the machine's own id",
    )
    .default("")
    .effect(
        "Name of this installation, written into the store. A store that is copied to an \
         installation with another name does not send, so a forgotten test copy cannot overwrite \
         the Market's stock. Set it in containers, which have no machine id.",
    )
    .example("\"production\""),
    Setting::new(
        "public_url",
        "the https:// address under which the Market reaches us",
    )
    .effect(
        "Public address of this service, without the base_path of a shop. Only `stockbridge \
         doctor` uses it: it calls every shop through the proxy as the Market would. Set it as \
         soon as the name exists in DNS.",
    )
    .example("\"https://shop.example\""),
    Setting::new(
        "page_url",
        "an https:// address without user, query or fragment; http:// only to this machine",
    )
    .effect(
        "Address under which operators open the pages of ops_listen in their browser. \
         Notifications contain a link to it. Set it if operators reach the pages through a proxy \
         or a tunnel.",
    )
    .example("\"https://stock.internal.example\""),
    Setting::new("verify_hours", "a whole number between 0, never, and 168")
        .default("6")
        .effect(
            "Hours between two read-backs of the Market's stock. Lower it to find differences \
             sooner; each read-back uses part of the Market's rate limit. 0 switches the \
             read-back off, and then nothing proves that the Market's stock is right.",
        )
        .example("12"),
    Setting::new("grace_seconds", "a whole number between 0 and 86400")
        .default("900")
        .effect(
            "Seconds that the Market may take to show a stock that it has accepted. A difference \
             within this time counts as pending and is not sent again. Raise it if `verify` \
             reports differences that disappear later.",
        )
        .example("1800"),
    Setting::new("stale_hours", "a whole number between 1 and 720")
        .default("24")
        .effect(
            "Hours after which the alarm source_silent is raised for a shop, if no program and no \
             source has stated any of its stock. Lower it to notice a stopped export sooner. Raise it for an export \
             that pauses at weekends.",
        )
        .example("72"),
    Setting::new("cutoff", "a date, such as 2026-12-31")
        .default("2026-12-31")
        .effect(
            "Date on which the Market stops calling POST /stocks. Only reports and reminders use \
             it. Change it if the Market announces another date.",
        )
        .example("\"2026-12-31\""),
    Setting::new("time_zone", "an offset from UTC, such as +03:00")
        .default("+03:00")
        .effect(
            "Zone of the times on the operator's pages and in notifications. The default is Moscow, \
             whose time the Market's cabinet shows.",
        )
        .example("\"+05:00\""),
    Setting::new("max_connections", "a whole number between 1 and 100000")
        .default("10000")
        .effect(
            "Connections of the public listener that are open at a time. A further one gets 503. \
             Lower it on a machine with little memory or few file handles.",
        )
        .example("2000"),
    Setting::new(
        "max_connections_per_address",
        "a whole number between 0, no limit, and 100000",
    )
    .default("0")
    .effect(
        "Connections that one client address may have open at a time, so that one client cannot \
         use all of max_connections. An IPv6 /64 network counts as one address. Leave it at 0 \
         behind a reverse proxy: there all connections come from the proxy's address.",
    )
    .example("100"),
    Setting::new(
        "trusted_proxies",
        "a list of IP addresses or networks, such as 10.0.0.0/8, of proxies whose X-Forwarded-For \
         is believed",
    )
    .default("")
    .effect(
        "Reverse proxies. For their requests the client is the last address in X-Forwarded-For \
         that is not a proxy itself. List your proxy, so that delays after wrong tokens and the \
         log concern the right client.",
    )
    .example("[\"127.0.0.1\", \"172.16.0.0/12\"]"),
    Setting::new("log_format", "auto, json or text")
        .default("auto")
        .effect(
            "Format of log lines on standard error. auto is text on a terminal and JSON \
             elsewhere.",
        )
        .example("\"json\""),
    Setting::new(
        "log_filter",
        "a level, and levels of modules: info,stockbridge::migrator=debug",
    )
    .default("info")
    .effect(
        "Log lines that are written: a level (error, warn, info, debug, trace), and other levels \
         for single modules. Use debug for a module while you search for a fault.",
    )
    .example("\"info,stockbridge::migrator=debug\""),
];
