//! What the handlers of the pages need of a request: the service, the language and the shop.

use axum::extract::{Extension, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use chrono::FixedOffset;
use serde::Deserialize;
use stock::ShopId;

use super::language_choice::LanguageChoice;
use super::layout::starting;
use super::links::find_shop;
use super::page_context::PageContext;
use super::texts::Text;
use super::{Config, not_found};
use crate::i18n::Language;
use crate::ops::{Ops, OpsShop, OpsState};

/// Request for a page. Until the store is read, it is answered with the page about the start.
#[derive(Clone, Debug)]
pub(super) struct PageRequest {
    pub(super) ops: Ops,
    pub(super) language: Language,
    pub(super) zone: FixedOffset,
    /// Path and query without the language, for the links of the switch.
    pub(super) address: String,
}

impl FromRequestParts<Ops> for PageRequest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, ops: &Ops) -> Result<Self, Response> {
        type Layers = (Extension<Config>, Extension<LanguageChoice>);
        let layers = Layers::from_request_parts(parts, ops).await;
        let (Extension(config), Extension(choice)) = layers.map_err(IntoResponse::into_response)?;
        if ops.state().is_none() {
            return Err(starting(choice.language));
        }
        Ok(Self {
            ops: ops.clone(),
            language: choice.language,
            zone: config.time_zone,
            address: choice.address,
        })
    }
}

impl PageRequest {
    pub(super) fn state(&self) -> &OpsState {
        let state = self.ops.state();
        state.expect("a request for a page is extracted after the start")
    }

    /// Returns the context of a page that is made now.
    pub(super) fn context(&self) -> PageContext {
        PageContext {
            now: self.state().clock.now(),
            language: self.language,
            zone: self.zone,
        }
    }

    pub(super) fn text(&self, text: Text) -> &'static str {
        text.in_language(self.language)
    }
}

/// Request for a page of a shop. An unknown name is answered with the page that lists the shops.
#[derive(Clone, Debug)]
pub(super) struct ShopRequest {
    pub(super) page: PageRequest,
    pub(super) id: ShopId,
}

/// Name of the shop in the path.
#[derive(Deserialize)]
struct ShopInPath {
    name: String,
}

impl FromRequestParts<Ops> for ShopRequest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, ops: &Ops) -> Result<Self, Response> {
        let page = PageRequest::from_request_parts(parts, ops).await?;
        let path = Path::<ShopInPath>::from_request_parts(parts, ops).await;
        let Path(ShopInPath { name }) = path.map_err(IntoResponse::into_response)?;
        match find_shop(page.state(), &name) {
            Some((id, _)) => Ok(Self { page, id }),
            None => Err(not_found::unknown_shop(&page, &name)),
        }
    }
}

impl ShopRequest {
    pub(super) fn shop(&self) -> &OpsShop {
        &self.page.state().shops[self.id.index()]
    }
}
