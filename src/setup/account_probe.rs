//! Read-only requests to the Market about an Api-Key and its cabinets, each with a timeout.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Clock;
use market_api::partner::account::{
    AccountError, ApiKeyInfo, MarketCampaign, MarketPartnerWarehouse, MarketWarehouse,
};
use market_api::partner::client::MarketClient;
use strict_http::secret::Secret;
use tokio::time::timeout;

/// Timeout of one list, including all its pages.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Remedy for a token that may not send stock. The Russian names are those of the cabinet.
///
/// Source: `ApiKeyScopeType`, OpenAPI of 2026-07-17.
pub(super) const GRANT_SEND_HINT: &str = "in the cabinet, Настройки → API и модули, grant the \
     token «управление товарами и карточками» (OFFERS_AND_CARDS_MANAGEMENT) or «полное управление \
     кабинетом» (ALL_METHODS); the change takes effect within ten minutes";

/// Remedy for a token that may not list warehouses.
pub(super) const GRANT_LIST_HINT: &str = "in the cabinet, Настройки → API и модули, grant the \
     token «просмотр информации о заказах» (INVENTORY_AND_ORDER_PROCESSING_READ_ONLY), «обработка \
     заказов и учет товаров» (INVENTORY_AND_ORDER_PROCESSING), or a permission for all methods \
     (ALL_METHODS, ALL_METHODS_READ_ONLY); the change takes effect within ten minutes";

/// Permissions and campaigns of one key.
#[derive(Debug)]
pub(super) struct KeyProbe {
    pub(super) key: Result<ApiKeyInfo, AccountError>,
    pub(super) campaigns: Result<Vec<MarketCampaign>, AccountError>,
    /// Difference between our clock and the Market's; positive if ours is ahead.
    pub(super) skew: Option<TimeDelta>,
}

/// Warehouses of one cabinet.
#[derive(Debug)]
pub(super) struct AccountProbe {
    pub(super) warehouses: Result<Vec<MarketWarehouse>, AccountError>,
    /// Warehouses in the numbering of the methods by business. Requested only for a cabinet without
    /// groups.
    pub(super) partner: Option<Result<Vec<MarketPartnerWarehouse>, AccountError>>,
}

impl KeyProbe {
    /// Requests the permissions and the campaigns of a key.
    pub(super) async fn fetch(market: &MarketClient, key: &Secret, clock: Clock) -> Self {
        let sent_at = clock.now();
        let info = with_timeout(market.token_scopes(key)).await;
        let received_at = clock.now();
        let date = info.as_ref().ok().and_then(|(_, date)| *date);
        Self {
            key: info.map(|(key, _)| key),
            campaigns: with_timeout(market.campaigns(key)).await,
            skew: date.map(|date| clock_skew(sent_at, received_at, date)),
        }
    }

    /// Returns the campaigns; empty if the request failed.
    pub(super) fn campaigns(&self) -> &[MarketCampaign] {
        self.campaigns.as_deref().unwrap_or_default()
    }
}

impl AccountProbe {
    /// Requests the warehouses of a cabinet.
    pub(super) async fn fetch(market: &MarketClient, key: &Secret, business: u64) -> Self {
        let warehouses = with_timeout(market.warehouses(key, business)).await;
        let has_no_groups = warehouses
            .as_ref()
            .is_ok_and(|list| list.iter().all(|w| w.group_info.is_none()));
        let partner = if has_no_groups {
            Some(with_timeout(market.partner_warehouses(key, business)).await)
        } else {
            None
        };
        Self {
            warehouses,
            partner,
        }
    }

    /// Returns the warehouses; empty if the request failed.
    pub(super) fn warehouses(&self) -> &[MarketWarehouse] {
        self.warehouses.as_deref().unwrap_or_default()
    }

    /// Returns the warehouses in the numbering by business; empty if they are unknown.
    pub(super) fn partner(&self) -> &[MarketPartnerWarehouse] {
        match &self.partner {
            Some(Ok(list)) => list,
            Some(Err(_)) | None => &[],
        }
    }

    /// Returns true if any warehouse is a member of a group.
    pub(super) fn has_groups(&self) -> bool {
        self.warehouses()
            .iter()
            .any(|warehouse| warehouse.group_info.is_some())
    }
}

async fn with_timeout<T>(
    request: impl Future<Output = Result<T, AccountError>>,
) -> Result<T, AccountError> {
    timeout(TIMEOUT, request).await.unwrap_or_else(|_| {
        Err(AccountError::Unreachable(format!(
            "no response within {} s",
            TIMEOUT.as_secs()
        )))
    })
}

/// Returns the smallest clock skew that explains the date of a response.
///
/// The Market wrote `date`, which is cut to seconds, between `sent_at` and `received_at`. A date in
/// this range needs no skew.
fn clock_skew(
    sent_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    date: DateTime<Utc>,
) -> TimeDelta {
    let latest = date + TimeDelta::seconds(1);
    if sent_at > latest {
        sent_at - latest
    } else if received_at < date {
        received_at - date
    } else {
        TimeDelta::zero()
    }
}

/// Puts a text of another server on one line, so that it cannot end a comment or a sentence.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Formats an id with its name, if it has one: `12345 «Shop»`.
pub(super) fn id_with_name(id: u64, name: &str) -> String {
    match one_line(name) {
        name if name.is_empty() => id.to_string(),
        name => format!("{id} «{name}»"),
    }
}

/// Returns the id and the name of a warehouse in the numbering by business.
pub(super) fn partner_name(warehouse: &MarketPartnerWarehouse) -> (u64, &str) {
    (warehouse.id, warehouse.name.as_deref().unwrap_or_default())
}

/// Formats ids with their names as a list.
pub(super) fn join_named<'a>(items: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let each = items.into_iter().map(|(id, name)| id_with_name(id, name));
    each.collect::<Vec<_>>().join(", ")
}

/// Returns the permissions of a key as a list.
pub(super) fn permissions(info: &ApiKeyInfo) -> String {
    if info.scopes.is_empty() {
        return "no permissions".to_owned();
    }
    info.scopes.join(", ")
}

/// Formats ids as a list: `1, 2, 3`.
pub(super) fn join_ids(ids: impl IntoIterator<Item = u64>) -> String {
    ids.into_iter()
        .map(|id| id.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_not_skew() {
        let at = |text: &str| format!("2026-11-21T10:00:{text}Z").parse().unwrap();
        let skew = |sent, received, date| clock_skew(at(sent), at(received), at(date));
        assert_eq!(
            skew("10.9", "12.1", "10"),
            TimeDelta::zero(),
            "cut to seconds"
        );
        assert_eq!(
            skew("10.0", "19.0", "18"),
            TimeDelta::zero(),
            "a slow response"
        );
        assert_eq!(skew("15.0", "15.5", "10"), TimeDelta::seconds(4));
        assert_eq!(skew("10.0", "10.5", "13"), TimeDelta::milliseconds(-2_500));
    }

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(
            id_with_name(1, "a\n[[shops]]\u{0}\r b"),
            "1 «a [[shops]] b»"
        );
        assert_eq!(id_with_name(1, " "), "1");
    }
}
