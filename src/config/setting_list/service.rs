//! Settings at the top of the file: listeners, store, Market, logs.

use std::net::SocketAddr;

use chrono::NaiveDate;

use super::Setting;
use crate::config::reader::SettingsReader;
use crate::config::values::{
    BaseUrl, FilePath, HostName, InstanceName, LogFilter, ProxyNetwork, ReplicaLabel, SecretText,
    TimeZone, Whole,
};
use crate::telemetry::LogFormat;

settings! {
    /// Settings at the top of the file.
    SETTINGS for ServiceTable;

    /// Address of the public listener. The Market requests stock there and the seller's programs
    /// update it. Keep the default if a reverse proxy runs on the same machine. In a container set
    /// 0.0.0.0:8080.
    listen: SocketAddr, "an address and a port, such as 0.0.0.0:8080"
        .default("127.0.0.1:8080").example("\"0.0.0.0:8080\"").per_machine();
    /// Address of the operator listener: health, status, metrics and the commands that act on the
    /// running service, and the pages. An address other than loopback needs ops_password_file.
    /// Never make it reachable from the internet without TLS.
    ops_listen: SocketAddr, "an address and a port, such as 127.0.0.1:9090"
        .default("127.0.0.1:9090").example("\"127.0.0.1:9090\"").per_machine();
    /// Names by which the operator listener may be called. A request with another name in its Host
    /// header gets 421, which stops web pages that attack local services. Add the name of the
    /// container or service if Prometheus calls it by that name.
    ops_hosts: Vec<HostName>,
        "a list of names or IP addresses without a port under which ops_listen is called, \
        besides its own address and localhost".default("").example("[\"stockbridge\"]").per_machine();
    /// Password for the pages and the commands. It is required if ops_listen is not a loopback
    /// address. A browser asks for it once; programs send it as `Authorization: Bearer PASSWORD`,
    /// and the commands read STOCKBRIDGE_OPS_PASSWORD_FILE.
    ops_password_file: Option<SecretText>,
        "a file that holds the operator's password, at least 8 characters"
        .example("\"secrets/ops_password\"").chosen_secret().live();
    /// The password is also needed for /metrics, /healthz and /readyz. Set it if others can reach
    /// the listener. Prometheus then sends the password as its credentials.
    ops_protect_metrics: bool, "true or false".default("false").example("true").per_machine();
    /// Directory of everything that has to survive a restart: stock, what the Market has
    /// acknowledged, and what sources have stated. It needs a local disk. Back it up as
    /// docs/operations.md describes, and never run two services on one directory. With
    /// store_url_file the stock is in a database, and the rest is here.
    store: FilePath, "a directory".default("stockbridge-data").example("\"/var/lib/stockbridge\"").per_machine();
    /// Address of a PostgreSQL database that keeps the stock and what the Market has acknowledged,
    /// instead of a file in the directory of store. Other files stay in that directory: what sources
    /// have stated, events and the numbers of the charts. Set it if a database server is backed up
    /// and watched better than this machine's disk. It needs instance. See docs/replicas.md.
    store_url_file: Option<SecretText>,
        "a file that holds a postgres:// address with name and password"
        .example("\"secrets/store_url\"").secret();
    /// Second address of the same database, for notifications of other replicas. Set it if a pooler
    /// in transaction mode, which does not pass them on, is in between; it must lead to the server
    /// itself. Without it an update on such a database waits up to a second for the other replicas.
    store_listen_url_file: Option<SecretText>,
        "a file that holds a postgres:// address with name and password"
        .example("\"secrets/store_listen_url\"").secret();
    /// Name of this process among those that share the database of store_url_file. Set another name
    /// on each of them. Without a name, one process at a time uses the database. See
    /// docs/replicas.md.
    replica: Option<ReplicaLabel>, "the name of this replica, 1 to 60 of a-z, 0-9, - and _"
        .example("\"dc-2\"").per_machine();
    /// Replica that reads the sources of all shops, receives 1C and imports files. Without it, any
    /// replica does, and another one takes over when it fails. Set it if only one machine has the
    /// files or reaches the other side; the sources then stop while that replica does not run.
    sources_on: Option<ReplicaLabel>, "the name of a replica".example("\"dc-1\"");
    /// Address of the Market's API. Change it only for tests against a simulator.
    market_url: BaseUrl,
        "an https:// address without user, query or fragment; http:// only to this machine"
        .default("https://api.partner.market.yandex.ru")
        .example("\"https://api.partner.market.yandex.ru\"");
    /// Certificate authorities that are trusted in addition to the built-in ones when the Market or
    /// a source is called. Set it if a company proxy inspects TLS.
    ca_file: Option<FilePath>, "a PEM file of further certificate authorities"
        .example("\"company-ca.pem\"").per_machine();
    /// Name of this installation, written into the store. A store that is copied to an installation
    /// with another name does not send, so a forgotten test copy cannot overwrite the Market's
    /// stock. Set it in containers, which have no machine id.
    instance: InstanceName,
        "the name of this installation, 1 to 60 of a-z, 0-9, - and _; empty is the machine's \
        own id".default("").example("\"production\"");
    /// Public address of this service, without the base_path of a shop. Only `stockbridge doctor`
    /// uses it: it calls every shop through the proxy as the Market would. Set it as soon as the
    /// name exists in DNS.
    public_url: Option<BaseUrl>, "the https:// address under which the Market reaches us"
        .example("\"https://shop.example\"").per_machine();
    /// Address under which operators open the pages of ops_listen in their browser. Notifications
    /// contain a link to it. Set it if operators reach the pages through a proxy or a tunnel.
    page_url: Option<BaseUrl>,
        "an https:// address without user, query or fragment; http:// only to this machine"
        .example("\"https://stock.internal.example\"").per_machine();
    /// Hours between two read-backs of the Market's stock. Lower it to find differences sooner;
    /// each read-back uses part of the Market's rate limit. 0 switches the read-back off, and then
    /// nothing proves that the Market's stock is right.
    verify_hours: Whole<0, 168>, "a whole number between 0, never, and 168"
        .default("6").example("12");
    /// Seconds that the Market may take to show a stock that it has accepted. A difference within
    /// this time counts as pending and is not sent again. Raise it if `verify` reports differences
    /// that disappear later.
    grace_seconds: Whole<0, 86_400>, "a whole number between 0 and 86400"
        .default("900").example("1800");
    /// Hours after which the alarm source_silent is raised for a shop, if no program and no source
    /// has stated any of its stock. Lower it to notice a stopped export sooner. Raise it for an
    /// export that pauses at weekends.
    stale_hours: Whole<1, 720>, "a whole number between 1 and 720".default("24").example("72");
    /// Date on which the Market stops calling POST /stocks. Only reports and reminders use it.
    /// Change it if the Market announces another date.
    cutoff: NaiveDate, "a date, such as 2026-12-31".default("2026-12-31").example("\"2026-12-31\"");
    /// Zone of the times on the operator's pages and in notifications. The default is Moscow, whose
    /// time the Market's cabinet shows.
    time_zone: TimeZone, "an offset from UTC, such as +03:00"
        .default("+03:00").example("\"+05:00\"").per_machine();
    /// Connections of the public listener that are open at a time. A further one gets 503. Lower it
    /// on a machine with little memory or few file handles.
    max_connections: Whole<1, 100_000>, "a whole number between 1 and 100000"
        .default("10000").example("2000").per_machine();
    /// Connections that one client address may have open at a time, so that one client cannot use
    /// all of max_connections. An IPv6 /64 network counts as one address. Leave it at 0 behind a
    /// reverse proxy: there all connections come from the proxy's address.
    max_connections_per_address: Whole<0, 100_000>, "a whole number between 0, no limit, and 100000"
        .default("0").example("100").per_machine();
    /// Reverse proxies. For their requests the client is the last address in X-Forwarded-For that
    /// is not a proxy itself. List your proxy, so that delays after wrong tokens and the log
    /// concern the right client.
    trusted_proxies: Vec<ProxyNetwork>,
        "a list of IP addresses or networks, such as 10.0.0.0/8, of proxies whose \
        X-Forwarded-For is believed".default("").example("[\"127.0.0.1\", \"172.16.0.0/12\"]").per_machine();
    /// Format of log lines on standard error. auto is text on a terminal and JSON elsewhere.
    log_format: LogFormat, "auto, json or text".default("auto").example("\"json\"").per_machine();
    /// Log lines that are written: a level (error, warn, info, debug, trace), and other levels for
    /// single modules. Use debug for a module while you search for a fault.
    log_filter: LogFilter, "a level, and levels of modules: info,stockbridge::migrator=debug"
        .default("info").example("\"info,stockbridge::migrator=debug\"").live().per_machine();
}
