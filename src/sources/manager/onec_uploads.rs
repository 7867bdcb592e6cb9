//! Endpoints for uploads by 1C, and the delivery of uploaded files.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use connectors::files::{self, combined_scope};
use connectors::onec_exchange::{self, ExchangeEndpoint, ImportedFile, RecordRefusedLogin, Upload};
use connectors::{Completeness, EntrySender, ReadReport};
use lifecycle::Tasks;
use stock::{ShopId, Timestamp};
use stock_import::formats::Format;
use strict_http::causes;

use super::{SourceLeader, SourceManager};
use crate::auth_failures::{AuthFailures, Credential};
use crate::sources::{DeliveryOutcome, DeliveryReport, PipelineError, SourceKind};

/// Counts wrong logins of 1C, and delays their responses.
fn record_refused_login(auth_failures: &AuthFailures) -> RecordRefusedLogin {
    let auth_failures = auth_failures.clone();
    Arc::new(move |refused| {
        let auth_failures = auth_failures.clone();
        Box::pin(async move {
            let name = format!("1C exchange {}", refused.path);
            auth_failures
                .penalize(
                    Credential::ExchangeLogin,
                    &name,
                    &refused.offered,
                    &refused.head,
                )
                .await;
        })
    })
}

impl SourceManager {
    /// Returns the endpoints for uploads by 1C.
    pub fn router(&self, tasks: &Tasks, auth_failures: &AuthFailures) -> Router {
        let mut router = Router::new();
        for shop in &self.0.shops {
            let manager = self.clone();
            let id = shop.id;
            let context = onec_exchange::Context {
                deliver: Arc::new(move |upload: Upload| {
                    let manager = manager.clone();
                    Box::pin(async move { manager.receive_upload(id, upload).await })
                }),
                tasks: tasks.clone(),
                clock: self.0.context.clock,
                record_refused_login: record_refused_login(auth_failures),
            };
            let endpoints = shop
                .sources
                .iter()
                .enumerate()
                .filter_map(|(index, source)| {
                    let SourceKind::Exchange(exchange) = &source.config.kind else {
                        return None;
                    };
                    let name = &source.config.policy.name;
                    let spool = shop.directory.join(format!("exchange-{name}"));
                    Some(ExchangeEndpoint {
                        source_index: index,
                        name: name.clone(),
                        config: exchange.clone(),
                        spool,
                    })
                });
            let endpoints: Vec<_> = endpoints.collect();
            if endpoints.is_empty() {
                continue;
            }
            let own = onec_exchange::router(&context, endpoints);
            let manager = self.clone();
            let refuse_elsewhere = from_fn(move |request: Request, next: Next| {
                let refusal = manager.exchange_refusal(id);
                async move {
                    match refusal {
                        Some(refusal) => refusal,
                        None => next.run(request).await,
                    }
                }
            });
            router = router.merge(own.route_layer(refuse_elsewhere));
        }
        router
    }

    /// Returns the response to 1C while another process reads the sources of a shop.
    fn exchange_refusal(&self, shop: ShopId) -> Option<Response> {
        match self.leader(shop)? {
            SourceLeader::This => None,
            SourceLeader::Replica(replica) => {
                Some(onec_exchange::elsewhere_response(Some(&replica)))
            }
            SourceLeader::Vacant => Some(onec_exchange::elsewhere_response(None)),
        }
    }

    /// Delivers a file that 1C has uploaded.
    async fn receive_upload(&self, shop: ShopId, upload: Upload) -> Result<ImportedFile, String> {
        let Some(shop) = self.shop(shop) else {
            return Err("this shop is not configured".to_owned());
        };
        let Some(pipeline) = shop.pipeline.read().clone() else {
            return Err(PipelineError::NotLeading.to_string());
        };
        let read_settings = &shop.sources[upload.source_index].config.read_settings;
        let now = Timestamp::from(self.0.context.clock.now());
        let name = upload.name.clone();
        let is_numbered = name.contains(|c: char| c.is_ascii_digit());
        let delivered = pipeline.ingest_delivery(
            upload.source_index,
            now,
            true,
            async |rows: &mut EntrySender| {
                let file = std::fs::File::open(&upload.path).map_err(|e| e.to_string())?;
                let settings_and_directory = (read_settings, pipeline.directory());
                let format = Some(Format::CommerceMl);
                let summaries = files::read_on_blocking_thread(
                    name,
                    file,
                    format,
                    settings_and_directory,
                    rows,
                )
                .await?;
                // An exchange may have several files, so a single file is not certainly complete.
                let declared = combined_scope(&summaries);
                Ok(ReadReport::from_files(
                    Completeness::ExchangeFile {
                        declared,
                        is_numbered,
                    },
                    summaries,
                ))
            },
        );
        match delivered.await {
            Ok(DeliveryReport {
                outcome: DeliveryOutcome::Held(reason),
                ..
            }) => Err(format!(
                "{} is held, the stock stays as it was: {reason}",
                upload.name
            )),
            Ok(DeliveryReport {
                rows,
                rejected,
                suspicious,
                changes,
                ..
            }) => Ok(ImportedFile {
                message: format!(
                    "{rows} rows taken, {} changed, {rejected} rejected, {suspicious} suspicious",
                    changes.new + changes.changed
                ),
            }),
            Err(error) => Err(causes(&error)),
        }
    }
}
