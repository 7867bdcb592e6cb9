//! Checks before a method runs: authentication, scopes, locked campaigns, parallel requests, body
//! size and content type.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::MarketSimulator;
use super::request_trace::RequestTrace;
use super::simulator_config::{Availability, SimKeyScope};
use crate::quota::{QuotaOwner, QuotaTracker};
use crate::registry::{SimBusiness, SimCampaign};
use crate::responses::{self, RateLimitHeaders, SimErrorResponse};
use crate::simulator_report::MarketViolation;

impl MarketSimulator {
    /// Returns the caller's key if it is known and not revoked, otherwise a 401.
    pub(super) fn authenticate<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Result<&'a str, SimErrorResponse> {
        let key = api_key(headers)?;
        if self.state.revoked_keys.lock().contains(key) {
            return Err(SimErrorResponse::new(401, "Api-Key token is revoked"));
        }
        if !self.state.registry.knows_key(key) {
            return Err(SimErrorResponse::new(401, "Api-Key token is invalid"));
        }
        Ok(key)
    }

    /// Returns the campaign if the key has access to it, even if the campaign is disabled.
    pub(super) fn find_campaign(
        &self,
        id: &str,
        key: &str,
    ) -> Result<Arc<SimCampaign>, SimErrorResponse> {
        let id: u64 = id
            .parse()
            .map_err(|_| SimErrorResponse::new(400, "Illegal input at 'campaignId'"))?;
        let campaign = self
            .campaign(id)
            .ok_or_else(|| SimErrorResponse::new(404, "Campaign not found"))?;
        if !campaign.accepts_key(key) {
            return Err(SimErrorResponse::new(403, "Access denied"));
        }
        Ok(Arc::clone(campaign))
    }

    /// Returns the campaign if the caller's key has one of the `needed` scopes for it, and the
    /// campaign is neither disabled nor locked.
    pub(super) fn authorize_campaign(
        &self,
        id: &str,
        headers: &HeaderMap,
        needed: &[SimKeyScope],
    ) -> Result<Arc<SimCampaign>, SimErrorResponse> {
        let key = self.authenticate(headers)?;
        let campaign = self.find_campaign(id, key)?;
        self.require_scope(key, needed)?;
        require_available(&campaign)?;
        if self.current_plan().is_locked(self.now()) {
            return Err(SimErrorResponse::new(
                423,
                format!("Campaign {id} is in migration"),
            ));
        }
        Ok(campaign)
    }

    /// Returns the business and the caller's key if the key has one of the `needed` scopes for it,
    /// and the simulator is not locked.
    pub(super) fn authorize_business<'a>(
        &self,
        id: &str,
        headers: &'a HeaderMap,
        needed: &[SimKeyScope],
    ) -> Result<(&SimBusiness, &'a str), SimErrorResponse> {
        let key = self.authenticate(headers)?;
        let id: u64 = id
            .parse()
            .map_err(|_| SimErrorResponse::new(400, "Illegal input at 'businessId'"))?;
        let business = self.state.registry.businesses.get(&id);
        let business = business.ok_or_else(|| SimErrorResponse::new(404, "Business not found"))?;
        if !business.accepts_key(key) {
            return Err(SimErrorResponse::new(403, "Access denied"));
        }
        self.require_scope(key, needed)?;
        if self.current_plan().is_locked(self.now()) {
            return Err(SimErrorResponse::new(
                423,
                format!("Business {id} is in migration"),
            ));
        }
        Ok((business, key))
    }

    /// Returns the campaign through which a key has access to a warehouse of a business, or an
    /// error if there is none.
    ///
    /// `None` means that the business has no such warehouse.
    pub(super) fn authorize_warehouse(
        business: &SimBusiness,
        warehouse: u64,
        key: &str,
    ) -> Option<Result<Arc<SimCampaign>, SimErrorResponse>> {
        let mut error = None;
        for campaign in business.selling_from(warehouse) {
            match require_available(campaign) {
                _ if !campaign.accepts_key(key) => {}
                Ok(()) => return Some(Ok(Arc::clone(campaign))),
                Err(disabled) => error = Some(disabled),
            }
        }
        business.selling_from(warehouse).next()?;
        Some(Err(error.unwrap_or_else(|| {
            SimErrorResponse::new(403, "Access denied")
        })))
    }

    fn require_scope(&self, key: &str, needed: &[SimKeyScope]) -> Result<(), SimErrorResponse> {
        let scopes = self.state.config.scopes_of(key);
        if scopes.iter().any(|scope| needed.contains(scope)) {
            return Ok(());
        }
        let needed = needed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        Err(SimErrorResponse::new(
            403,
            format!("Token does not have any of the scopes [{needed}]"),
        ))
    }

    /// Takes a slot for the request and reads its body.
    pub(super) async fn acquire_slot_and_read(
        &self,
        quota: &Arc<QuotaTracker>,
        body: Body,
        trace: &mut RequestTrace,
    ) -> Result<Vec<u8>, SimErrorResponse> {
        let limit = self.state.config.max_parallel;
        trace.slot = Some(quota.acquire_slot().ok_or_else(|| {
            let owner = quota.owner;
            let describe = || format!("{owner}: more than {limit} parallel requests");
            self.record_violation(MarketViolation::Parallel, 1, describe);
            SimErrorResponse::parallel_limit(limit, owner)
        })?);
        self.read_limited_body(quota.owner, body, trace).await
    }

    pub(super) async fn read_limited_body(
        &self,
        owner: QuotaOwner,
        body: Body,
        trace: &mut RequestTrace,
    ) -> Result<Vec<u8>, SimErrorResponse> {
        let limit = self.state.config.max_body_bytes;
        let (bytes, length) = read_body(body, limit)
            .await
            .map_err(|_| SimErrorResponse::new(400, "Illegal input: the body ended early"))?;
        if length <= limit {
            trace.entry.bytes = bytes.len();
            return Ok(bytes);
        }
        self.record_violation(MarketViolation::BodySize, 1, || {
            format!("{owner}: the body has {length} bytes, the limit is {limit}")
        });
        Err(SimErrorResponse::new(
            400,
            format!("The request is too big: {length}, the limit is {limit}"),
        ))
    }

    /// Returns the limit of updates in any 60 seconds: SKUs of a campaign, requests of a business.
    pub(super) fn update_limit(&self, owner: QuotaOwner) -> usize {
        let config = &self.state.config;
        let configured = match owner {
            QuotaOwner::Campaign(_) => config.skus_per_minute,
            QuotaOwner::Business(_) => config.business_updates_per_minute,
        };
        self.current_plan()
            .announced_limit()
            .map_or(configured, |limit| limit.min(configured))
    }

    /// Creates a 420 with the time to wait, and records that the client must wait.
    pub(super) fn rate_limited(
        &self,
        quota: &QuotaTracker,
        limit: usize,
        wait: Duration,
        wrong_weekday: bool,
    ) -> SimErrorResponse {
        quota.request_wait(Instant::now(), wait);
        let until = responses::round_up_to_seconds(self.now() + wait);
        SimErrorResponse::volume_limit(
            limit,
            quota.owner,
            Some(RateLimitHeaders {
                limit,
                until,
                wrong_weekday,
            }),
        )
    }

    pub(super) fn reject_over_limit(
        &self,
        quota: &QuotaTracker,
        amount: usize,
        limit: usize,
        wait: Duration,
    ) -> SimErrorResponse {
        self.record_violation(MarketViolation::Volume, 1, || {
            let owner = quota.owner;
            format!("{owner}: {amount} more exceeds {limit} within 60 s, {wait:?} too early")
        });
        self.rate_limited(quota, limit, wait, false)
    }
}

fn require_available(campaign: &SimCampaign) -> Result<(), SimErrorResponse> {
    let reason = match campaign.config.availability {
        Availability::Available => return Ok(()),
        disabled @ (Availability::DisabledByInactivity
        | Availability::DisabledByNoActiveContract
        | Availability::ManuallyDisabled
        | Availability::DisabledByNoPlacementType) => disabled,
    };
    let id = campaign.id();
    Err(SimErrorResponse::new(
        403,
        format!("API for campaign {id} is disabled: {reason}"),
    ))
}

pub(super) fn api_key(headers: &HeaderMap) -> Result<&str, SimErrorResponse> {
    let header_text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    header_text("api-key")
        .or_else(|| header_text("authorization")?.strip_prefix("Bearer "))
        .filter(|key| !key.is_empty())
        .ok_or_else(|| SimErrorResponse::new(401, "Api-Key token is not specified"))
}

pub(super) fn require_json(headers: &HeaderMap) -> Result<(), SimErrorResponse> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(SimErrorResponse::new(
            415,
            format!("Content type '{media_type}' not supported"),
        ))
    }
}

/// Same as [`require_json`] for an optional body.
pub(super) fn require_json_unless_empty(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), SimErrorResponse> {
    if body.is_empty() {
        Ok(())
    } else {
        require_json(headers)
    }
}

/// Reads a body to the end and returns it with its length. A body above the limit is incomplete.
///
/// The part beyond the limit is read too, because a client that is still sending would not see the
/// error response.
async fn read_body(mut body: Body, limit: usize) -> Result<(Vec<u8>, usize), axum::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            length += data.len();
            if length <= limit {
                kept.extend_from_slice(&data);
            }
        }
    }
    Ok((kept, length))
}
