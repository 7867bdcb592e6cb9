//! Stylesheet and script, compiled in. Their names contain a digest, so browsers keep them for ever.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::ops::Ops;

/// A file that is compiled in.
pub(super) struct Asset {
    content: &'static str,
    content_type: &'static str,
    /// Path with the digest of the content.
    pub(super) path: String,
    etag: String,
}

impl Asset {
    fn new(name: &str, ending: &str, content_type: &'static str, content: &'static str) -> Self {
        let digest = Sha256::digest(content.as_bytes());
        let mark: String = digest[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            content,
            content_type,
            path: format!("/assets/{name}-{mark}.{ending}"),
            etag: format!("\"{mark}\""),
        }
    }

    fn respond(&self, headers: &HeaderMap) -> Response {
        let fields = [
            (CACHE_CONTROL, "public, max-age=31536000, immutable"),
            (ETAG, self.etag.as_str()),
        ];
        if headers
            .get(IF_NONE_MATCH)
            .is_some_and(|known| known.as_bytes() == self.etag.as_bytes())
        {
            return (StatusCode::NOT_MODIFIED, fields).into_response();
        }
        (fields, [(CONTENT_TYPE, self.content_type)], self.content).into_response()
    }
}

/// Stylesheet of all pages.
pub(super) static STYLESHEET: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("static/style.css");
    Asset::new("style", "css", "text/css; charset=utf-8", content)
});

/// Script that keeps a page current.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("static/app.js");
    Asset::new("app", "js", "text/javascript; charset=utf-8", content)
});

/// Symbol in the tab of the browser.
pub(super) static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("static/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", content)
});

pub(super) fn routes() -> Router<Ops> {
    [&STYLESHEET, &SCRIPT, &ICON]
        .into_iter()
        .fold(Router::new(), |router, asset| {
            router.route(
                &asset.path,
                get(async |headers: HeaderMap| asset.respond(&headers)),
            )
        })
}
