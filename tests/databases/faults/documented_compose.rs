//! The documented compose file: its services with local processes instead of containers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::load_balancer::{LoadBalancer, config_file, haproxy};
use crate::postgres_store::new_database;
use crate::process::program;
use crate::server::{DatabaseServer, free_port};
use crate::service_process::{CAMPAIGN, Market, Service, WAREHOUSE, exchange, wait_until};

const COMPOSE_FILE: &str = "docs/replicas.compose.yml";

/// Time after which a request has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Services of the compose file, with the values that `<<` refers to.
struct Compose {
    services: BTreeMap<String, Value>,
    secrets: Vec<String>,
}

impl Compose {
    fn read() -> Self {
        let text = std::fs::read_to_string(in_repository(COMPOSE_FILE)).unwrap();
        let document: Value = serde_yaml_ng::from_str(&text).unwrap();
        let names = |key: &str| {
            let entries = document[key].as_object().unwrap().iter();
            entries.map(|(name, value)| (name.clone(), merged(value)))
        };
        Self {
            services: names("services").collect(),
            secrets: names("secrets").map(|(name, _)| name).collect(),
        }
    }

    /// Returns the variables of a service.
    fn environment(&self, service: &str) -> BTreeMap<String, String> {
        let variables = self.services[service]["environment"].as_object().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        variables
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    }

    /// Returns the services that run stockbridge.
    fn replicas(&self) -> Vec<&str> {
        let services = self.services.iter();
        let replicas = services.filter(|(_, it)| it["image"].as_str() == Some("stockbridge"));
        replicas.map(|(name, _)| name.as_str()).collect()
    }
}

/// Returns a value with what the key `<<` of a map refers to.
fn merged(value: &Value) -> Value {
    let Some(map) = value.as_object() else {
        return value.clone();
    };
    let mut all = Map::new();
    if let Some(Value::Object(base)) = map.get("<<").map(merged) {
        all.extend(base);
    }
    for (key, value) in map.iter().filter(|(key, _)| *key != "<<") {
        all.insert(key.clone(), merged(value));
    }
    Value::Object(all)
}

/// Files of the directory of the compose file, and a directory in the place of `/run/secrets`.
struct ComposeDirectory {
    directory: TempDir,
}

impl ComposeDirectory {
    fn new(compose: &Compose, database_url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let this = Self { directory };
        std::fs::create_dir(this.path("secrets")).unwrap();
        for name in &compose.secrets {
            let text = match name.as_str() {
                "store_url" => database_url.to_owned(),
                // The key of the test's Market.
                "api_key" => "api".to_owned(),
                name => format!("{name}-of-the-test-0123456789"),
            };
            std::fs::write(this.path("secrets").join(name), text).unwrap();
        }
        let config = documented_block("docs/containers.md", "```toml config\n");
        std::fs::write(this.path("config.toml"), this.localized(&config)).unwrap();
        std::fs::write(this.path("Caddyfile"), caddyfile()).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the directory in which containers have their secrets.
    fn localized(&self, text: &str) -> String {
        let secrets = self.path("secrets");
        text.replace("/run/secrets", &secrets.display().to_string())
    }

    fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("secrets").join(name)).unwrap()
    }

    /// Returns a command of the program with the variables of a service of the compose file.
    fn stockbridge(&self, name: &str, environment: &BTreeMap<String, String>) -> Command {
        let mut command = program();
        command
            .arg(name)
            .arg("--config")
            .arg(self.path("config.toml"));
        for (name, value) in environment {
            command.env(name, self.localized(value));
        }
        command
    }
}

/// Returns the text of the first fenced block of a document that begins with this line.
fn documented_block(document: &str, begin: &str) -> String {
    let text = std::fs::read_to_string(in_repository(document)).unwrap();
    let (_, rest) = text.split_once(begin).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Returns the documented Caddyfile, as the installed Caddy understands it.
fn caddyfile() -> String {
    let text = documented_block("docs/proxies.md", "```caddy\n");
    let output = block_in_place(|| Command::new("caddy").arg("version").output());
    let version = output.expect("caddy must be installed: apt-get install caddy");
    let is_renamed = String::from_utf8_lossy(&version.stdout).contains("2.6.2");
    let lines = text
        .lines()
        .map(|line| match line.split_once("request_buffers") {
            Some((before, _)) if is_renamed => format!("{before}buffer_requests\n"),
            _ => format!("{line}\n"),
        });
    lines.collect()
}

fn in_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs a program that checks a configuration, and requires that it accepts it.
fn accepts(command: &mut Command) {
    let text = format!("{command:?}");
    let output = block_in_place(|| command.output());
    let Output { status, stderr, .. } = output.unwrap_or_else(|error| {
        panic!("{text}: {error}; install it with apt-get install haproxy caddy")
    });
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{text}: {stderr}");
}

/// Running Caddy, killed when it is dropped.
struct Caddy(Child);

impl Caddy {
    fn start(directory: &ComposeDirectory, environment: &BTreeMap<String, String>) -> Self {
        // Two of them on one machine would share a port for commands.
        let text = std::fs::read_to_string(directory.path("Caddyfile")).unwrap();
        let local = text.replacen("{\n", "{\n\tadmin off\n", 1);
        let file = directory.path("Caddyfile.local");
        std::fs::write(&file, local).unwrap();
        let mut command = caddy(directory, environment);
        command.args(["run", "--adapter", "caddyfile", "--config"]);
        let child = command
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("caddy must be installed: apt-get install caddy"))
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        // It may have ended.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

fn caddy(directory: &ComposeDirectory, environment: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new("caddy");
    command.envs(environment);
    command.env("HOME", directory.directory.path());
    command.env("XDG_DATA_HOME", directory.directory.path());
    command.env("XDG_CONFIG_HOME", directory.directory.path());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_compose_is_accepted() {
    let compose = Compose::read();
    let url = "postgres://stockbridge:password@postgres:5432/stockbridge?sslmode=disable";
    let directory = ComposeDirectory::new(&compose, url);
    let replicas = compose.replicas();
    assert_eq!(replicas, ["dc-1", "dc-2", "dc-3"]);
    for name in &replicas {
        let environment = compose.environment(name);
        assert_eq!(environment["STOCKBRIDGE_REPLICA"], *name);
        accepts(&mut directory.stockbridge("check", &environment));
        let service = &compose.services[*name];
        let secrets = service["secrets"].as_array().unwrap().iter();
        for secret in secrets {
            let secret = secret.as_str().unwrap();
            assert!(compose.secrets.iter().any(|it| it == secret), "{secret}");
        }
        let volumes = service["volumes"].as_array().unwrap();
        assert_eq!(volumes[0].as_str(), Some(format!("{name}:/data").as_str()));
    }
    let mut command = haproxy();
    command.envs(compose.environment("haproxy"));
    accepts(command.arg("-c").arg("-f").arg(config_file()));
    let mut command = caddy(&directory, &compose.environment("caddy"));
    command.args(["validate", "--adapter", "caddyfile", "--config"]);
    accepts(command.arg(directory.path("Caddyfile")));
    // Without it Caddy cuts off a response that comes while it waits for the end of the request.
    let text = documented_block("docs/proxies.md", "```caddy\n");
    let count = |word| text.matches(word).count();
    assert_eq!(count("request_buffers "), count("reverse_proxy {"));
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_compose_serves_with_local_processes() {
    let compose = Compose::read();
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "compose").await;
    let directory = ComposeDirectory::new(&compose, &url);
    let mut services = BTreeMap::new();
    let mut ports = Vec::new();
    for name in compose.replicas() {
        let mut environment = compose.environment(name);
        let (port, ops_port) = (free_port(), free_port());
        let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
        // The image sets the first two.
        set(
            "STOCKBRIDGE_STORE",
            directory.path(name).display().to_string(),
        );
        set("STOCKBRIDGE_LISTEN", format!("127.0.0.1:{port}"));
        set("STOCKBRIDGE_OPS_LISTEN", format!("127.0.0.1:{ops_port}"));
        set(
            "STOCKBRIDGE_MARKET_URL",
            format!("http://{}", market.address()),
        );
        set("STOCKBRIDGE_LOG_FORMAT", "json".to_owned());
        let service = Service::start(&mut directory.stockbridge("serve", &environment));
        services.insert(name, service);
        ports.push((port, ops_port));
    }
    let balancer = LoadBalancer::start(&ports.try_into().unwrap()).await;
    let mut environment = compose.environment("caddy");
    let site = SocketAddr::from(([127, 0, 0, 1], free_port()));
    environment.insert("SITE".to_owned(), format!(":{}", site.port()));
    let set = environment.insert("STOCKBRIDGE".to_owned(), balancer.address().to_string());
    assert_eq!(set.as_deref(), Some("haproxy:8000"));
    let _caddy = Caddy::start(&directory, &environment);
    let feed_key = format!("Api-Key: {}", directory.secret("feed_key"));
    let target = format!("/v2/campaigns/{CAMPAIGN}/offers/stocks");
    let body = json!({ "skus": [{ "sku": "A", "items": [{ "count": 7 }] }] }).to_string();
    let put = ("PUT", target.as_str(), feed_key.as_str(), body.as_str());
    wait_until("haproxy forwards updates", async || {
        block_in_place(|| exchange(balancer.address(), LIMIT, put)).0 == 200
    })
    .await;
    wait_until("the Market has the stock", async || {
        market.counts(&["A"]) == [Some(7)]
    })
    .await;
    let token = format!("Authorization: {}", directory.secret("push_token"));
    let body = json!({ "warehouseId": WAREHOUSE, "skus": ["A"] }).to_string();
    let push = (
        "POST",
        "/market/api/Moscow/stocks",
        token.as_str(),
        body.as_str(),
    );
    let is_answered = || {
        let (status, text) = block_in_place(|| exchange(site, LIMIT, push));
        status == 200 && text.contains("\"count\":7")
    };
    wait_until("Caddy forwards requests", async || is_answered()).await;
    // haproxy sends a request again to another replica, so no request fails.
    services.get_mut("dc-1").unwrap().kill();
    for _ in 0..20 {
        assert!(is_answered(), "{}", balancer.log());
    }
}
