//! Reload of the configuration while the service runs.
//!
//! A new configuration that is invalid changes nothing and raises an alarm. Of a valid one, the
//! tokens and keys of shops, the operator's password, the rules of stock with their lists, and the
//! log filter are used at once; the report names the other changed settings, which need a restart.

use lifecycle::{Tasks, run_blocking};
use strict_http::causes;
use strict_http::secret::TokenSet;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::settings_publisher::SettingsPublisher;
use crate::config::{Config, ConfigDifference, ShopConfig, holds_back};
use crate::event_log::{EventLog, ServiceEvent};
use crate::migrator::Migrator;
use crate::ops::{Login, ReloadRefused, ReloadReport, ReloadRequest};
use crate::sources::{self, SourceManager};
use crate::telemetry::{AlarmKind, Alarms, LogFilter};
use stock::ShopId;

/// Secrets of one shop that its callers send.
#[derive(Clone, Debug)]
pub(super) struct ShopCredentials {
    /// Tokens of the Market.
    pub(super) push_tokens: TokenSet,
    /// Keys of the seller's programs.
    pub(super) feed_keys: TokenSet,
}

impl ShopCredentials {
    pub(super) fn new(shop: &ShopConfig) -> Self {
        Self {
            push_tokens: TokenSet::new(&shop.push_tokens),
            feed_keys: TokenSet::new(&shop.feed_keys),
        }
    }
}

/// Task that applies new configurations.
pub(super) struct Reloader {
    /// Configuration of the start, from which settings that need a restart differ.
    pub(super) at_start: Config,
    /// Configuration whose other settings are in use.
    pub(super) current: Config,
    pub(super) requests: mpsc::Receiver<ReloadRequest>,
    // By shop, in the order of `at_start`.
    pub(super) credentials: Vec<ShopCredentials>,
    pub(super) login: Login,
    pub(super) source_manager: SourceManager,
    pub(super) migrator: Migrator,
    pub(super) alarms: Alarms,
    pub(super) events: EventLog,
    pub(super) log_filter: Option<LogFilter>,
    pub(super) settings: SettingsPublisher,
}

impl Reloader {
    pub(super) async fn run(mut self, tasks: Tasks) {
        loop {
            let request = tokio::select! {
                () = tasks.stopping() => return,
                Some(request) = self.requests.recv() => request,
            };
            // A stop does not wait for a long evaluation of the rules: the start repeats it.
            let result = tokio::select! {
                () = tasks.stopping() => return,
                result = self.reload() => result,
            };
            // The caller may have gone.
            let _gone = request.send(result);
        }
    }

    async fn reload(&mut self) -> Result<ReloadReport, ReloadRefused> {
        // Lists may be long, so they are read outside the threads that serve the Market.
        let Some(path) = self.at_start.path.clone() else {
            let text = "the configuration was not read from a file, so it cannot be reloaded";
            return Err(ReloadRefused(text.to_owned()));
        };
        let new = match run_blocking(move || Config::load(&path)).await {
            Ok(new) => new,
            Err(error) => {
                let text = format!(
                    "the new configuration is invalid, so the service keeps the old one; correct \
                     it and reload: {}",
                    error.summary()
                );
                return Err(self.refuse(text));
            }
        };
        let from_start = ConfigDifference::between(&self.at_start, &new);
        let mut applied = ConfigDifference::between(&self.current, &new).live;
        let waits = |key: &String| {
            let waiting = &from_start.needs_restart;
            waiting.contains(key) || waiting.iter().any(|waiting| holds_back(waiting, key))
        };
        applied.retain(|key| !waits(key));
        let report = ReloadReport {
            applied,
            needs_restart: from_start.needs_restart,
        };
        if let Err(text) = self.apply(&new, &report.needs_restart).await {
            return Err(self.refuse(text));
        }
        self.settings
            .publish_after_reload(&self.at_start, &new, &report.needs_restart);
        self.current = new;
        self.alarms.clear(AlarmKind::ConfigRejected, "");
        self.events.record(ServiceEvent::ConfigReloaded {
            applied: report.applied.join(", ").into(),
            needs_restart: report.needs_restart.join(", ").into(),
        });
        info!(applied = ?report.applied, "the configuration was read again");
        if !report.needs_restart.is_empty() {
            let keys = report.needs_restart.join(", ");
            warn!("these settings have changed and keep their old value until a restart: {keys}");
        }
        Ok(report)
    }

    fn refuse(&self, text: String) -> ReloadRefused {
        self.alarms
            .raise(AlarmKind::ConfigRejected, "", text.clone());
        ReloadRefused(text)
    }

    /// Applies the settings that need no restart: first the secrets of all shops, then the rules. All
    /// steps can be repeated, so a failed one is corrected by the next reload.
    async fn apply(&self, new: &Config, needs_restart: &[String]) -> Result<(), String> {
        if let Some(password) = &new.ops_password
            && self.current.ops_password.as_ref() != Some(password)
        {
            self.login.replace_password(password);
        }
        let find = |name: &str| new.shops.iter().find(|new| new.name == name);
        let shops = || (0..).map(ShopId).zip(&self.at_start.shops);
        for ((id, old), credentials) in shops().zip(&self.credentials) {
            let Some(shop) = find(&old.name) else {
                continue;
            };
            let token = format!("shops.{}.push_token", shop.name);
            if needs_restart
                .iter()
                .any(|waiting| holds_back(waiting, &token))
            {
                continue;
            }
            credentials.push_tokens.replace(&shop.push_tokens);
            credentials.feed_keys.replace(&shop.feed_keys);
            if !shop.api_keys.is_empty() {
                self.migrator.replace_keys(id, &shop.api_keys);
            }
        }
        if let Some(log_filter) = &self.log_filter {
            log_filter.replace(&new.log_filter)?;
        }
        let mut failures = Vec::new();
        for (id, old) in shops() {
            let Some(shop) = find(&old.name) else {
                continue;
            };
            let can_be_applied = |source: &&sources::Config| {
                let pack = format!("shops.{}.sources.{}.pack", shop.name, source.policy.name);
                !needs_restart
                    .iter()
                    .any(|waiting| holds_back(waiting, &pack))
            };
            let sources: Vec<_> = shop.sources.iter().filter(can_be_applied).collect();
            let replaced = self
                .source_manager
                .replace_settings(id, &sources, shop.rules.clone());
            if let Err(error) = replaced.await {
                let (name, error) = (&old.name, causes(&error));
                failures.push(format!("the rules of {name} are not applied: {error}"));
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(format!(
            "secrets are replaced, but {}; reload again",
            failures.join("; ")
        ))
    }
}
