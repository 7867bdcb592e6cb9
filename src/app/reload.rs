//! Reload of the configuration while the service runs.
//!
//! A new configuration that is invalid changes nothing and raises an alarm. Of a valid one,
//! secrets, lists, rules of stock and the log filter are used at once; the report names the other
//! changed settings, which need a restart.

use lifecycle::Tasks;
use strict_http::causes;
use strict_http::secret::{Secret, TokenSet};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::{Config, ConfigDifference, ShopConfig};
use crate::migrator::Migrator;
use crate::ops::{Login, ReloadRefused, ReloadReport, ReloadRequest};
use crate::sources::SourceManager;
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
    pub(super) log_filter: Option<LogFilter>,
}

impl Reloader {
    pub(super) async fn run(mut self, tasks: Tasks) {
        loop {
            let request = tokio::select! {
                () = tasks.stopping() => return,
                Some(request) = self.requests.recv() => request,
            };
            let result = self.reload().await;
            // The caller may have gone.
            let _gone = request.send(result);
        }
    }

    async fn reload(&mut self) -> Result<ReloadReport, ReloadRefused> {
        let new = match self.at_start.read_again() {
            Ok(new) => new,
            Err(error) => {
                let text = error.to_string();
                // Without the excerpts of the file, because an alarm is one line.
                let faults = text.lines().filter(|line| !line.starts_with(' '));
                let faults = faults.collect::<Vec<_>>().join("; ");
                let text = format!(
                    "the new configuration is invalid, so the service keeps the old one; correct \
                     it and reload: {faults}"
                );
                self.alarms
                    .raise(AlarmKind::ConfigRejected, "", text.clone());
                return Err(ReloadRefused(text));
            }
        };
        let changed = ConfigDifference::between(&self.current, &new).live;
        let report = ReloadReport {
            applied: changed,
            needs_restart: ConfigDifference::between(&self.at_start, &new).needs_restart,
        };
        self.apply(&new).await.map_err(ReloadRefused)?;
        self.current = new;
        self.alarms.clear(AlarmKind::ConfigRejected, "");
        info!(applied = ?report.applied, "the configuration was read again");
        if !report.needs_restart.is_empty() {
            let keys = report.needs_restart.join(", ");
            warn!("these settings have changed and keep their old value until a restart: {keys}");
        }
        Ok(report)
    }

    fn current_keys(&self, name: &str) -> Option<&Vec<Secret>> {
        let shop = self.current.shops.iter().find(|shop| shop.name == name);
        shop.map(|shop| &shop.api_keys)
    }

    /// Applies the settings that need no restart. All steps can be repeated, so a failed one is
    /// corrected by the next reload.
    async fn apply(&self, new: &Config) -> Result<(), String> {
        if let Some(password) = &new.ops_password
            && self.current.ops_password.as_ref() != Some(password)
        {
            self.login.replace_password(password);
        }
        if let Some(log_filter) = &self.log_filter {
            log_filter.replace(&new.log_filter)?;
        }
        let shops = (0..).map(ShopId).zip(&self.at_start.shops);
        for ((id, old), credentials) in shops.zip(&self.credentials) {
            let Some(shop) = new.shops.iter().find(|new| new.name == old.name) else {
                continue;
            };
            credentials.push_tokens.replace(&shop.push_tokens);
            credentials.feed_keys.replace(&shop.feed_keys);
            if self.current_keys(&old.name) != Some(&shop.api_keys) {
                self.migrator.replace_keys(id, &shop.api_keys);
            }
            self.source_manager
                .replace_settings(id, &shop.sources, shop.rules.clone())
                .await
                .map_err(|error| {
                    let name = &old.name;
                    format!(
                        "the rules of {name} are not applied: {}. Reload again",
                        causes(&error)
                    )
                })?;
        }
        Ok(())
    }
}
