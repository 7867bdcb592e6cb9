//! Actions of a shop's page: forms that change something, and the sentence about what happened.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::Config;
use super::language_choice::LanguageChoice;
use super::links::{encode, find_shop, shop_path};
use super::not_found;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::texts;
use crate::migrator::OperatorPauseError;
use crate::ops::Ops;

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
    /// The store could not persist the change.
    #[strum(serialize = "not-written")]
    NotPersisted,
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
            Self::NotForwarded | Self::UnknownSource => HealthLevel::Attention,
            Self::NotPersisted => HealthLevel::Trouble,
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

/// Sentence about an action.
pub(super) struct ActionNotice {
    pub(super) text: String,
    pub(super) severity: &'static str,
}

impl ActionQuery {
    /// Returns the sentence, unless the action is long ago.
    pub(super) fn notice(&self, context: PageContext) -> Option<ActionNotice> {
        let name = self.done.as_deref()?;
        let result: ActionResult = name.parse().ok()?;
        let at = DateTime::from_timestamp(self.at?, 0)?;
        let age = context.now - at;
        if age > SHOWN_FOR || age < -SHOWN_FOR {
            return None;
        }
        Some(ActionNotice {
            text: texts::action_result(result, &context.full(at), context.language),
            severity: result.severity().name(),
        })
    }
}

/// Redirects to the page of a shop, which shows the result.
fn redirect(shop: &str, result: ActionResult, now: DateTime<Utc>) -> Response {
    let (path, name, at) = (shop_path(shop), result.name(), now.timestamp());
    let address = format!("{path}?done={name}&at={at}");
    (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response()
}

/// Leads from the path of a form to the page of its shop.
pub(super) async fn page_of_form(Path(names): Path<Vec<String>>) -> Redirect {
    let shop = names.first().map_or("", String::as_str);
    Redirect::to(&shop_path(&encode(shop)))
}

/// Requests a read-back.
pub(super) async fn verify(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let Some((id, shop)) = find_shop(state, &name) else {
        return not_found::unknown_shop(&ops, (config, &choice), state, &name);
    };
    let result = if state.request_readback(id, shop) {
        ActionResult::ReadbackRequested
    } else {
        ActionResult::NotForwarded
    };
    redirect(&name, result, state.clock.now())
}

/// Pauses sending.
pub(super) async fn pause(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
) -> Response {
    set_paused(&ops, (config, &choice), &name, true).await
}

/// Resumes sending.
pub(super) async fn resume(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
) -> Response {
    set_paused(&ops, (config, &choice), &name, false).await
}

async fn set_paused(
    ops: &Ops,
    (config, choice): (Config, &LanguageChoice),
    name: &str,
    is_paused: bool,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let Some((id, shop)) = find_shop(state, name) else {
        return not_found::unknown_shop(ops, (config, choice), state, name);
    };
    let result = match state.set_sending_paused(id, shop, is_paused).await {
        Ok(Some(_)) => ActionResult::Paused,
        Ok(None) => ActionResult::Resumed,
        Err(OperatorPauseError::NotForwarded | OperatorPauseError::DryRun) => {
            ActionResult::NotForwarded
        }
        Err(OperatorPauseError::Persist(_)) => ActionResult::NotPersisted,
    };
    redirect(name, result, state.clock.now())
}

/// Polls a source now.
pub(super) async fn read_source(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path((name, source)): Path<(String, String)>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let Some((id, shop)) = find_shop(state, &name) else {
        return not_found::unknown_shop(&ops, (config, &choice), state, &name);
    };
    let pipeline = state.source_manager.pipeline(id);
    let result = match pipeline.and_then(|pipeline| pipeline.source_index(&source)) {
        Some(index) => {
            state.request_poll(id, &shop.name, (index, &source));
            ActionResult::PollRequested
        }
        None => ActionResult::UnknownSource,
    };
    redirect(&name, result, state.clock.now())
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

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
