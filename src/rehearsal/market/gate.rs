use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::config::{Availability, Scope};
use super::visit::Visit;
use super::{Market, lock};
use crate::rehearsal::answers::{self, Refusal, Wait};
use crate::rehearsal::cabinet::{Business, Campaign};
use crate::rehearsal::meter::{Meter, Whose};
use crate::rehearsal::report::Broken;

/// What every method asks of a request: who is it, may they, and is there room?
impl Market {
    /// Who calls, if it is anybody this Market knows.
    pub(super) fn caller<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        let key = key(headers)?;
        if lock(&self.inner.revoked).contains(key) {
            return Err(Refusal::new(401, "Api-Key token is revoked"));
        }
        if !self.inner.registry.knows_key(key) {
            return Err(Refusal::new(401, "Api-Key token is invalid"));
        }
        Ok(key)
    }

    /// The campaign that is meant, if the caller may see it.
    pub(super) fn find_campaign(&self, id: &str, key: &str) -> Result<Arc<Campaign>, Refusal> {
        let id: u64 = id
            .parse()
            .map_err(|_| Refusal::new(400, "Illegal input at 'campaignId'"))?;
        let campaign = self
            .campaign(id)
            .ok_or_else(|| Refusal::new(404, "Campaign not found"))?;
        if !campaign.opens_to(key) {
            return Err(Refusal::new(403, "Access denied"));
        }
        Ok(Arc::clone(campaign))
    }

    /// The campaign that is meant, if the caller may do this with it now.
    pub(super) fn admit(
        &self,
        id: &str,
        headers: &HeaderMap,
        needed: &[Scope],
    ) -> Result<Arc<Campaign>, Refusal> {
        let key = self.caller(headers)?;
        let campaign = self.find_campaign(id, key)?;
        self.require_scope(key, needed)?;
        require_available(&campaign)?;
        if self.plan().is_locked(self.now()) {
            return Err(Refusal::new(423, format!("Campaign {id} is in migration")));
        }
        Ok(campaign)
    }

    /// The business that is meant, if the caller may do this with it now; and the caller's key.
    pub(super) fn admit_to_business<'a>(
        &self,
        id: &str,
        headers: &'a HeaderMap,
        needed: &[Scope],
    ) -> Result<(&Business, &'a str), Refusal> {
        let key = self.caller(headers)?;
        let id: u64 = id
            .parse()
            .map_err(|_| Refusal::new(400, "Illegal input at 'businessId'"))?;
        let business = self.inner.registry.businesses.get(&id);
        let business = business.ok_or_else(|| Refusal::new(404, "Business not found"))?;
        if !business.opens_to(key) {
            return Err(Refusal::new(403, "Access denied"));
        }
        self.require_scope(key, needed)?;
        if self.plan().is_locked(self.now()) {
            return Err(Refusal::new(423, format!("Business {id} is in migration")));
        }
        Ok((business, key))
    }

    /// The campaign through which a caller may speak for a warehouse of a business.
    ///
    /// `None` is a warehouse the business does not have.
    pub(super) fn admit_to_warehouse(
        business: &Business,
        warehouse: u64,
        key: &str,
    ) -> Option<Result<Arc<Campaign>, Refusal>> {
        let mut refusal = None;
        for campaign in business.selling_from(warehouse) {
            match require_available(campaign) {
                _ if !campaign.opens_to(key) => {}
                Ok(()) => return Some(Ok(Arc::clone(campaign))),
                Err(disabled) => refusal = Some(disabled),
            }
        }
        business.selling_from(warehouse).next()?;
        Some(Err(
            refusal.unwrap_or_else(|| Refusal::new(403, "Access denied"))
        ))
    }

    fn require_scope(&self, key: &str, needed: &[Scope]) -> Result<(), Refusal> {
        let scopes = self.inner.config.scopes_of(key);
        if scopes.iter().any(|scope| needed.contains(scope)) {
            return Ok(());
        }
        let needed = needed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        Err(Refusal::new(
            403,
            format!("Token does not have any of the scopes [{needed}]"),
        ))
    }

    /// A place among the requests in flight, and the body.
    pub(super) async fn receive(
        &self,
        meter: &Arc<Meter>,
        body: Body,
        visit: &mut Visit,
    ) -> Result<Vec<u8>, Refusal> {
        let limit = self.inner.config.parallel;
        visit.seat = Some(meter.seat().ok_or_else(|| {
            let whose = meter.whose;
            let words = || format!("{whose}: more than {limit} requests at a time");
            self.broken(Broken::Parallel, 1, words);
            Refusal::parallel(limit, whose)
        })?);
        self.read(meter.whose, body, visit).await
    }

    pub(super) async fn read(
        &self,
        whose: Whose,
        body: Body,
        visit: &mut Visit,
    ) -> Result<Vec<u8>, Refusal> {
        let limit = self.inner.config.max_body_bytes;
        let (bytes, length) = read_body(body, limit)
            .await
            .map_err(|_| Refusal::new(400, "Illegal input: the body ended early"))?;
        if length <= limit {
            visit.logged.bytes = bytes.len();
            return Ok(bytes);
        }
        self.broken(Broken::BodySize, 1, || {
            format!("{whose}: a body of {length} bytes, the limit is {limit}")
        });
        Err(Refusal::new(
            400,
            format!("The request is too big: {length}, the limit is {limit}"),
        ))
    }

    /// Updates in any 60 seconds: the SKUs of a campaign, the requests of a business.
    pub(super) fn update_limit(&self, whose: Whose) -> usize {
        let config = &self.inner.config;
        let usual = match whose {
            Whose::Campaign(_) => config.skus_per_minute,
            Whose::Business(_) => config.business_updates_per_minute,
        };
        self.plan().limit().map_or(usual, |limit| limit.min(usual))
    }

    /// A 420 that says how long to wait, the date rounded up to its whole seconds.
    pub(super) fn limited(
        &self,
        meter: &Meter,
        limit: usize,
        wait: Duration,
        wrong_weekday: bool,
    ) -> Refusal {
        meter.tell_to_wait(Instant::now(), wait);
        let until = answers::whole_seconds(self.now() + wait);
        Refusal::volume(
            limit,
            meter.whose,
            Some(Wait {
                limit,
                until,
                wrong_weekday,
            }),
        )
    }

    pub(super) fn over_the_limit(
        &self,
        meter: &Meter,
        amount: usize,
        limit: usize,
        wait: Duration,
    ) -> Refusal {
        self.broken(Broken::Volume, 1, || {
            let whose = meter.whose;
            format!("{whose}: {amount} more than {limit} within 60 s, {wait:?} too soon")
        });
        self.limited(meter, limit, wait, false)
    }
}

fn require_available(campaign: &Campaign) -> Result<(), Refusal> {
    let reason = match campaign.config.availability {
        Availability::Available => return Ok(()),
        disabled @ (Availability::DisabledByInactivity
        | Availability::DisabledByNoActiveContract
        | Availability::ManuallyDisabled
        | Availability::DisabledByNoPlacementType) => disabled,
    };
    let id = campaign.id();
    Err(Refusal::new(
        403,
        format!("API for campaign {id} is disabled: {reason}"),
    ))
}

pub(super) fn key(headers: &HeaderMap) -> Result<&str, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("api-key")
        .or_else(|| text("authorization")?.strip_prefix("Bearer "))
        .filter(|key| !key.is_empty())
        .ok_or_else(|| Refusal::new(401, "Api-Key token is not specified"))
}

pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim();
    if media.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Refusal::new(
            415,
            format!("Content type '{media}' not supported"),
        ))
    }
}

/// As [`require_json`], of a body that may be left out.
pub(super) fn require_json_if_any(headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    if body.is_empty() {
        Ok(())
    } else {
        require_json(headers)
    }
}

/// Reads a body, of which it keeps no more than the limit, and says how long it was.
///
/// To the end, even beyond the limit: a client still sending would not hear the refusal.
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
