//! Router for the Market and the seller: push API, partner API and 1C exchange on one listener.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, Request, StatusCode, Uri};
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use lifecycle::Tasks;
use prometheus_client::registry::Registry;
use strict_http::ErrorResponse;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use tracing::{Span, debug_span};

use super::reload::ShopCredentials;
use super::services::Services;
use super::wiring;
use crate::auth_failures::AuthFailures;
use crate::config::Config;
use crate::ingest::Ingest;
use crate::partner_api;
use crate::push_api::stocks_handler::{self as push_api, LastRequests, ReadThrough};
use crate::replicas::ServingPermit;
use crate::sources::{self, SourceManager};

impl Services {
    /// Builds the router for the Market and the seller. Returns the metrics of the push API too.
    pub(super) fn routes(
        &self,
        (config, credentials): (&Config, &[ShopCredentials]),
        ingest: Ingest,
        (source_manager, source_tasks): (&SourceManager, &Tasks),
        (auth_failures, last_requests, permit): (AuthFailures, Arc<LastRequests>, ServingPermit),
        registry: &mut Registry,
    ) -> (Router, push_api::Metrics) {
        let exchange = source_manager.router(source_tasks, &auth_failures);
        let push_context = push_api::Context {
            book: Arc::clone(&self.data.book),
            activity: Arc::clone(&self.data.activity),
            last_requests,
            permit: permit.clone(),
            clock: self.clock,
            alarms: self.alarms.clone(),
            metrics: push_api::Metrics::default(),
            auth_failures: auth_failures.clone(),
            read_through: Some(read_through(source_manager.clone(), source_tasks.clone())),
        };
        push_context.metrics.register(registry);
        let partner_context = partner_api::Context {
            ingest,
            book: Arc::clone(&self.data.book),
            permit,
            clock: self.clock,
            metrics: partner_api::Metrics::default(),
            auth_failures,
        };
        partner_context.metrics.register(registry);
        let stocks_paths: Arc<[String]> = config
            .shops
            .iter()
            .map(|shop| format!("{}/stocks", shop.base_path))
            .collect();
        let not_found = async move |uri: Uri| {
            if partner_api::is_partner_path(uri.path()) {
                return partner_api::not_found();
            }
            let message = match push_api::intended_path(uri.path(), &stocks_paths) {
                Some(path) => format!(
                    "there is nothing at this path, the stock is at '{path}': remove the slashes \
                     that are too many"
                ),
                None => "there is nothing at this path".to_owned(),
            };
            ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
        };
        let layers = ServiceBuilder::new()
            // No span and no log line shows these headers.
            .layer(SetSensitiveRequestHeadersLayer::new([
                AUTHORIZATION,
                HeaderName::from_static("api-key"),
            ]))
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            // Errors are logged with their cause where they are handled.
            .layer(
                TraceLayer::new_for_http()
                    .make_span_with(span)
                    .on_failure(()),
            )
            .layer(PropagateRequestIdLayer::x_request_id());
        let router = push_api::router(&push_context, wiring::push_shops(config, credentials))
            .merge(partner_api::router(
                partner_context,
                wiring::partner_shops(config, credentials),
            ))
            .merge(exchange)
            .fallback(not_found)
            .layer(layers);
        (router, push_context.metrics)
    }
}

/// Returns the function that fetches unknown SKUs from a shop's old handler. A result that arrives
/// too late for the request is kept for the next one.
fn read_through(source_manager: SourceManager, tasks: Tasks) -> ReadThrough {
    ReadThrough(Arc::new(move |shop, skus| {
        let fetch = source_manager.read_through(shop, skus)?;
        let (done, ended) = oneshot::channel();
        let tasks = tasks.clone();
        let waiting: BoxFuture<'static, ()> = Box::pin(async move {
            tasks.spawn_short_lived(async move {
                fetch.await;
                // The request may already have been answered without the result.
                let _gone = done.send(());
            });
            let _late = timeout(sources::READ_THROUGH_TIMEOUT, ended).await;
        });
        Some(waiting)
    }))
}

/// Creates the span of a request. It has no query, because the query may contain a token.
fn span(request: &Request<Body>) -> Span {
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok());
    let (method, path) = (request.method(), request.uri().path());
    debug_span!("request", %method, path, request.id = id)
}
