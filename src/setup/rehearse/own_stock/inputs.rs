//! Sources of a rehearsal with own stock: from the command line or from a configuration.
//!
//! Decides which source a file belongs to, and which SKUs are requested from an old handler.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use connectors::{EntrySender, files};
use lifecycle::Clock;
use stock::Sku;
use stock_import::formats::Format;
use stock_import::stock_rules::ShopRules;
use stock_import::{DeliveryEntry, ProductKey};
use strict_http::ClientConfig;

use super::OwnStockArgs;
use crate::config::{Config, ShopConfig};
use crate::setup::rehearse::{RehearsalMethod, any_port, service_config, service_secrets};
use crate::sources::{self, SourceKind, operator_files, read_once};

/// Poll interval of files. A file is read when two polls see the same size and time.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Settings of an old handler. With `--from` and `--from-handler`, all others belong to the file.
const HANDLER_SETTINGS: [&str; 4] = ["token_in", "ask_warehouse", "part_skus", "parallel"];

/// Sources and rules of one rehearsal.
pub(super) struct RehearsalInputs {
    pub(super) sources: Vec<sources::Config>,
    pub(super) rules: ShopRules,
    pub(super) ca_file: Option<PathBuf>,
}

impl RehearsalInputs {
    /// Loads the sources. `spool` is a directory for temporary files.
    pub(super) async fn load(args: &OwnStockArgs, spool: &Path) -> anyhow::Result<Self> {
        let mut inputs = match &args.config {
            Some(path) => Self::from_config(args, path)?,
            None => Self::from_args(args)?,
        };
        inputs.resolve_skus(args, spool).await?;
        for source in &mut inputs.sources {
            if let SourceKind::Files(_) = source.kind {
                source.poll_interval = POLL_INTERVAL;
            }
        }
        Ok(inputs)
    }

    /// Returns the number of SKUs requested from an old handler, if it is the only source.
    pub(super) fn handler_sku_count(&self) -> Option<usize> {
        match self.sources.as_slice() {
            [
                sources::Config {
                    kind: SourceKind::OldHandler { skus, .. },
                    ..
                },
            ] => Some(skus.len()),
            _ => None,
        }
    }

    /// Builds the source from `--from` or `--from-handler`, parsed as settings of a configuration.
    fn from_args(args: &OwnStockArgs) -> anyhow::Result<Self> {
        if args.from.is_none() && args.from_handler.is_none() {
            bail!(
                "no stock to rehearse with: give a file with --from, or a handler with \
                 --from-handler"
            );
        }
        let pairs = parse_pairs(&args.set)?;
        let is_handler_setting = |key: &str| {
            args.from.is_none() || HANDLER_SETTINGS.contains(&key) && args.from_handler.is_some()
        };
        let mut text = service_config(
            any_port(),
            any_port(),
            "http://127.0.0.1:9",
            RehearsalMethod::Campaign,
        );
        if let Some(path) = &args.from {
            let path = path.display().to_string();
            let own = [("name", "file"), ("kind", "file"), ("path", path.as_str())];
            let set = pairs
                .iter()
                .copied()
                .filter(|(key, _)| !is_handler_setting(key));
            text.push_str(&source_table(own.into_iter().chain(set))?);
        }
        if let (Some(url), Some(token)) = (&args.from_handler, &args.token_file) {
            let token = token.display().to_string();
            let own = [
                ("name", "handler"),
                ("kind", "legacy"),
                ("url", url.as_str()),
            ];
            let own = own.into_iter().chain([("token_file", token.as_str())]);
            let set = pairs
                .iter()
                .copied()
                .filter(|(key, _)| is_handler_setting(key));
            text.push_str(&source_table(own.chain(set))?);
        }
        // Paths on the command line are relative to the current directory.
        let current_dir = std::env::current_dir().context("find the current directory")?;
        let config = Config::parse(&text, service_secrets(), &current_dir)?;
        let shop = config.shops.into_iter().next().context("find the shop")?;
        Ok(Self {
            sources: shop.sources,
            rules: shop.rules,
            ca_file: None,
        })
    }

    /// Loads the sources of a shop of the configuration.
    fn from_config(args: &OwnStockArgs, path: &Path) -> anyhow::Result<Self> {
        let config = Config::load(path)?;
        let ca_file = config.ca_file.clone();
        let ShopConfig {
            name,
            mut sources,
            rules,
            ..
        } = choose_shop(config.shops, args)?;
        if let Some(wanted) = &args.source {
            let known = join_names(sources.iter().map(|source| &source.policy.name));
            sources.retain(|source| source.policy.name == *wanted);
            if sources.is_empty() {
                bail!("the shop {name} has no source '{wanted}', its sources are: {known}");
            }
        }
        match (sources.as_mut_slice(), &args.from) {
            ([], _) => bail!("the shop {name} has no sources: use --from without --config"),
            ([source], Some(file)) => read_file_instead(source, file)?,
            (several, Some(_)) => {
                let known = join_names(several.iter().map(|source| &source.policy.name));
                bail!(
                    "the shop has several sources, name the source of the file with --source: \
                     {known}"
                );
            }
            (sources, None) => {
                for source in sources {
                    let source_name = &source.policy.name;
                    if let SourceKind::Exchange(_) = source.kind {
                        bail!(
                            "the source {source_name} cannot be polled, because 1C connects to it: \
                             give a file of 1C with --from, and --source {source_name}"
                        );
                    }
                }
            }
        }
        Ok(Self {
            sources,
            rules,
            ca_file,
        })
    }

    /// Sets the SKUs to request from an old handler.
    async fn resolve_skus(&mut self, args: &OwnStockArgs, spool: &Path) -> anyhow::Result<()> {
        let is_handler =
            |source: &sources::Config| matches!(source.kind, SourceKind::OldHandler { .. });
        if !self.sources.iter().any(is_handler) {
            return Ok(());
        }
        let mut skus_to_ask = match &args.skus_file {
            Some(path) => operator_files::read_skus(path).map_err(anyhow::Error::msg)?,
            None => Vec::new(),
        };
        let (handlers, others) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(is_handler);
        self.sources = others;
        let outbound = ClientConfig {
            extra_ca_file: self.ca_file.clone(),
            ..ClientConfig::default()
        };
        for source in &self.sources {
            skus_to_ask.extend(read_skus(source, &outbound, spool).await?);
        }
        if args.from_handler.is_some() {
            // The file is only the list of SKUs. Their counts come from the handler.
            self.sources.clear();
        }
        for mut source in handlers {
            if let SourceKind::OldHandler { skus, .. } = &mut source.kind {
                skus.extend(skus_to_ask.iter().cloned());
                skus.sort_unstable();
                skus.dedup();
                if skus.is_empty() {
                    bail!(
                        "there are no SKUs to request from the handler: give a list with \
                         --skus-file, or a file that has them with --from"
                    );
                }
            }
            self.sources.push(source);
        }
        Ok(())
    }
}

/// Reads the SKUs that a source has rows about.
async fn read_skus(
    source: &sources::Config,
    outbound: &ClientConfig,
    spool: &Path,
) -> anyhow::Result<Vec<Sku>> {
    let policy = &source.policy;
    let mut mapping: HashMap<&str, Vec<&str>> = HashMap::new();
    for (source_sku, sku, _) in &policy.mapping {
        mapping.entry(source_sku).or_default().push(sku);
    }
    let (mut rows, mut entries) = EntrySender::channel();
    let reading = async {
        let read = read_once(source, outbound, spool, Clock::wall().now(), &mut rows).await;
        drop(rows);
        read
    };
    let collecting = async {
        let mut skus = Vec::new();
        while let Some(entries) = entries.recv().await {
            for entry in entries {
                let source_sku = match entry {
                    DeliveryEntry::Article { sku, .. } => sku,
                    DeliveryEntry::Row(row) => match row.key {
                        ProductKey::Sku(sku) => sku,
                        ProductKey::Id(_) => continue,
                    },
                    DeliveryEntry::PartBoundary
                    | DeliveryEntry::Rejected(_)
                    | DeliveryEntry::Suspicious(_) => continue,
                };
                let unmapped = [source_sku.as_str()];
                let mapped = mapping.get(source_sku.as_str());
                let mapped = mapped.map_or(&unmapped[..], Vec::as_slice);
                skus.extend(mapped.iter().filter_map(|sku| Sku::parse(sku).ok()));
            }
        }
        skus
    };
    let (read, skus) = tokio::join!(reading, collecting);
    read.map_err(anyhow::Error::msg)
        .with_context(|| format!("the source {}", policy.name))?;
    Ok(skus)
}

/// Builds a file source from a path and the settings of `--set`.
pub(crate) fn file_source(path: &Path, set: &[String]) -> anyhow::Result<sources::Config> {
    let mut text = service_config(
        any_port(),
        any_port(),
        "http://127.0.0.1:9",
        RehearsalMethod::Campaign,
    );
    let path = path.display().to_string();
    let own = [("name", "file"), ("kind", "file"), ("path", path.as_str())];
    text.push_str(&source_table(own.into_iter().chain(parse_pairs(set)?))?);
    let current_dir = std::env::current_dir().context("find the current directory")?;
    let config = Config::parse(&text, service_secrets(), &current_dir)?;
    let shop = config.shops.into_iter().next().context("find the shop")?;
    shop.sources.into_iter().next().context("find the source")
}

fn parse_pairs(set: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    let check_pair = |pair: &'_ String| -> anyhow::Result<()> {
        pair.split_once('=')
            .map(drop)
            .ok_or_else(|| anyhow!("--set {pair}: must be KEY=VALUE, such as quantity=Остаток"))
    };
    set.iter().try_for_each(check_pair)?;
    Ok(set.iter().filter_map(|pair| pair.split_once('=')).collect())
}

/// Returns a `[[shops.sources]]` table. Values are strings, unless they start like a list or a
/// table.
fn source_table<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> anyhow::Result<String> {
    let mut text = String::from("[[shops.sources]]\n");
    for (key, value) in pairs {
        if key.is_empty() || !key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_') {
            bail!("--set {key}={value}: the key must consist of a-z and _");
        }
        let value = if value.starts_with(['[', '{']) {
            let parsed = format!("value = {value}").parse::<toml::Table>();
            parsed.with_context(|| format!("--set {key}"))?["value"].clone()
        } else {
            toml::Value::String(value.to_owned())
        };
        // `Display` of a TOML value never contains a line break.
        let _infallible = writeln!(text, "{key} = {value}");
    }
    Ok(text)
}

fn choose_shop(mut shops: Vec<ShopConfig>, args: &OwnStockArgs) -> anyhow::Result<ShopConfig> {
    let known = join_names(shops.iter().map(|shop| &shop.name));
    if let Some(wanted) = &args.shop {
        shops.retain(|shop| shop.name == *wanted);
    }
    match (shops.len(), shops.pop()) {
        (1, Some(shop)) => Ok(shop),
        (0, _) => bail!("the configuration has no shop with this name, its shops are: {known}"),
        (_, _) => bail!("the configuration has several shops, select one with --shop: {known}"),
    }
}

fn join_names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Replaces the input of a source by this file. Its other settings stay.
fn read_file_instead(source: &mut sources::Config, file: &Path) -> anyhow::Result<()> {
    let format = match &source.kind {
        SourceKind::Files(config) => config.format,
        SourceKind::RemoteFile(config) => config.format,
        SourceKind::Exchange(_) => Some(Format::CommerceMl),
        SourceKind::Import => None,
        SourceKind::OldHandler { .. } | SourceKind::MoySklad(_) | SourceKind::Sql(_) => {
            let (name, kind) = (&source.policy.name, source.kind.name());
            bail!(
                "the source {name} has the kind {kind}, which does not read files: use --from \
                 without --config"
            );
        }
    };
    let is_single_delivery = matches!(format, Some(Format::CommerceMl));
    source.kind = SourceKind::Files(files::Config {
        path: file.to_owned(),
        format,
        is_one_delivery: is_single_delivery,
    });
    Ok(())
}
