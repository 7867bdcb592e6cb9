//! Actions of a shop's page: forms that change something, and the sentence about what happened.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Redirect, Response};
use chrono::{DateTime, TimeDelta};
use serde::Deserialize;

use super::cell::Cell;
use super::links::{encode, shop_path};
use super::page_context::PageContext;
use super::page_request::ShopRequest;
use super::shop_health::HealthLevel;
use super::sources_page;
use super::texts;
use crate::migrator::OperatorPauseError;

/// Time in which the page repeats the result of an action.
const SHOWN_FOR: TimeDelta = TimeDelta::minutes(5);

/// Result of an action. The page gets its name in the query and shows a fixed text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr, strum::EnumString)]
#[cfg_attr(test, derive(strum::VariantArray))]
#[strum(serialize_all = "kebab-case")]
pub(super) enum ActionResult {
    #[strum(serialize = "verify")]
    ReadbackRequested,
    Paused,
    Resumed,
    #[strum(serialize = "read")]
    PollRequested,
    /// The Market is not called for this shop.
    NotForwarded,
    /// Another replica calls the Market for this shop.
    OtherReplica,
    /// The store could not persist the change.
    #[strum(serialize = "not-written")]
    NotPersisted,
    /// The store has not confirmed the change, which may take effect later.
    Unconfirmed,
    /// The shop has no such source.
    UnknownSource,
}

impl ActionResult {
    fn name(self) -> &'static str {
        self.into()
    }

    const fn severity(self) -> HealthLevel {
        match self {
            Self::ReadbackRequested | Self::Paused | Self::Resumed | Self::PollRequested => {
                HealthLevel::Good
            }
            Self::NotForwarded | Self::OtherReplica | Self::UnknownSource => HealthLevel::Attention,
            Self::NotPersisted | Self::Unconfirmed => HealthLevel::Trouble,
        }
    }
}

/// Query of the page after an action.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ActionQuery {
    /// Name of the [`ActionResult`].
    done: Option<String>,
    /// Time of the action in Unix seconds.
    at: Option<i64>,
}

impl ActionQuery {
    /// Returns the sentence, unless the action is long ago.
    pub(super) fn notice(&self, context: PageContext) -> Option<Cell> {
        let name = self.done.as_deref()?;
        let result: ActionResult = name.parse().ok()?;
        let at = DateTime::from_timestamp(self.at?, 0)?;
        let age = context.now - at;
        if age > SHOWN_FOR || age < -SHOWN_FOR {
            return None;
        }
        let text = texts::action_result(result, &context.full(at), context.language);
        Some(Cell::new("", text).with_severity(result.severity()))
    }
}

/// Redirects to the page of a shop, which shows the result.
fn redirect(request: &ShopRequest, result: ActionResult) -> Redirect {
    let (path, name) = (shop_path(&request.shop().name), result.name());
    let at = request.page.state().clock.now().timestamp();
    Redirect::to(&format!("{path}?done={name}&at={at}"))
}

/// Leads from the path of a form to the page of its shop.
pub(super) async fn page_of_form(Path(names): Path<Vec<String>>) -> Redirect {
    let shop = names.first().map_or("", String::as_str);
    Redirect::to(&shop_path(&encode(shop)))
}

/// Requests a read-back.
pub(super) async fn verify(request: ShopRequest) -> Redirect {
    let state = request.page.state();
    let result = if state.request_readback(request.id, request.shop()) {
        ActionResult::ReadbackRequested
    } else if state
        .sender(request.id)
        .is_some_and(|sender| !sender.is_this())
    {
        ActionResult::OtherReplica
    } else {
        ActionResult::NotForwarded
    };
    redirect(&request, result)
}

/// Pauses sending.
pub(super) async fn pause(request: ShopRequest) -> Redirect {
    set_paused(&request, true).await
}

/// Resumes sending.
pub(super) async fn resume(request: ShopRequest) -> Redirect {
    set_paused(&request, false).await
}

async fn set_paused(request: &ShopRequest, is_paused: bool) -> Redirect {
    let (state, id, shop) = (request.page.state(), request.id, request.shop());
    let result = match state.set_sending_paused(id, shop, is_paused).await {
        Ok(Some(_)) => ActionResult::Paused,
        Ok(None) => ActionResult::Resumed,
        Err(OperatorPauseError::NotForwarded | OperatorPauseError::DryRun) => {
            ActionResult::NotForwarded
        }
        Err(OperatorPauseError::Persist(_)) => ActionResult::NotPersisted,
        Err(OperatorPauseError::Unconfirmed(_)) => ActionResult::Unconfirmed,
    };
    redirect(request, result)
}

/// Polls a source now.
pub(super) async fn read_source(
    request: ShopRequest,
    Path((_, source)): Path<(String, String)>,
) -> Response {
    let (state, id) = (request.page.state(), request.id);
    if state.require_sources(Some(&request.shop().name)).is_err() {
        return sources_page::respond_read_elsewhere(&request.page).await;
    }
    let pipeline = state.source_manager.pipeline(id);
    let result = match pipeline.and_then(|pipeline| pipeline.source_index(&source)) {
        Some(index) => {
            state.request_poll(id, &request.shop().name, (index, &source));
            ActionResult::PollRequested
        }
        None => ActionResult::UnknownSource,
    };
    redirect(&request, result).into_response()
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;
    use crate::i18n::Language;

    #[test]
    fn results_are_shown_for_five_minutes() {
        let now: DateTime<Utc> = "2026-11-29T12:00:00Z".parse().unwrap();
        let context = PageContext {
            now,
            language: Language::English,
            zone: FixedOffset::east_opt(0).unwrap(),
        };
        let shown = |done: &str, seconds: i64| {
            let query = ActionQuery {
                done: Some(done.to_owned()),
                at: Some(now.timestamp() - seconds),
            };
            query.notice(context).is_some()
        };
        for &result in <ActionResult as strum::VariantArray>::VARIANTS {
            assert!(shown(result.name(), 0), "{result:?}");
            assert!(shown(result.name(), 300), "{result:?}");
            assert!(!shown(result.name(), 301), "{result:?}");
            assert!(!shown(result.name(), -301), "{result:?}");
        }
        assert!(!shown("<script>", 0));
        assert!(!shown("verify", i64::MAX - now.timestamp()));
        assert!(ActionQuery::default().notice(context).is_none());
    }
}
