//! Addresses of shops and SKUs. A SKU may contain any character but control characters.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use stock::ShopId;

use super::visible::visible;
use crate::ops::{OpsShop, OpsState};
use crate::sources::{DeliveryPipeline, RULES_NAME};

/// Characters that are encoded in an address: all but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Link to a page with the cause of something.
pub(super) struct PageLink {
    pub(super) text: String,
    pub(super) address: String,
    pub(super) is_sku: bool,
}

impl PageLink {
    pub(super) fn new(text: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            address: address.into(),
            is_sku: false,
        }
    }

    pub(super) fn to_sku(shop: &str, sku: &str) -> Self {
        Self {
            is_sku: true,
            ..Self::new(visible(sku), sku_path(shop, sku))
        }
    }
}

/// Returns the shop with this name.
pub(super) fn find_shop<'a>(state: &'a OpsState, name: &str) -> Option<(ShopId, &'a OpsShop)> {
    state.shops_with_ids().find(|(_, shop)| shop.name == name)
}

/// Returns the shop and its pipeline, if the shop has this source. Every shop has the one of the rules.
pub(super) fn find_source(
    state: &OpsState,
    shop: &str,
    source: &str,
) -> Option<(ShopId, DeliveryPipeline)> {
    let mut pipelines = state.source_manager.pipelines();
    let found = pipelines.find(|(_, pipeline)| pipeline.shop_name() == shop)?;
    let is_known = source == RULES_NAME || found.1.source_index(source).is_some();
    is_known.then_some(found)
}

/// Returns the path of a shop. Names of shops need no encoding.
pub(super) fn shop_path(shop: &str) -> String {
    format!("/shops/{shop}")
}

/// Returns the path of a SKU.
///
/// Browsers resolve the segments `.` and `..`, also encoded ones, so these two SKUs are in the
/// query.
pub(super) fn sku_path(shop: &str, sku: &str) -> String {
    let encoded = encode(sku);
    if matches!(sku, "." | "..") {
        format!("/shops/{shop}/skus?sku={encoded}")
    } else {
        format!("/shops/{shop}/skus/{encoded}")
    }
}

/// Encodes a value of a query or a segment of a path.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::{Path, Query};
    use axum::http::Request;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;
    use reqwest::Url;
    use stock::Sku;
    use tower::ServiceExt as _;

    use super::*;
    use crate::web::sku::{SkuInPath, SkuInQuery};

    /// Follows a link as a browser does, and returns the SKU that the handlers see.
    async fn sku_behind(link: &str) -> String {
        let page = Url::parse("http://localhost:9090/shops/moscow").unwrap();
        let url = page.join(link).unwrap();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let in_path = async |Path(path): Path<SkuInPath>| path.sku;
        let in_query = async |Query(query): Query<SkuInQuery>| query.sku.unwrap_or_default();
        let router: Router = Router::new()
            .route("/shops/{name}/skus/{*sku}", get(in_path))
            .route("/shops/{name}/skus", get(in_query));
        let request = Request::get(target).body(Body::empty()).unwrap();
        let body = router.oneshot(request).await.unwrap().into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn follow(sku: &Sku) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(sku_behind(&sku_path("moscow", sku.as_str())))
    }

    #[test]
    fn links_of_strange_skus_lead_back() {
        for text in [
            "557722",
            ".",
            "..",
            "...",
            "/",
            "//",
            "a/b",
            "/a/",
            "a/../b",
            "a/./b",
            "%",
            "%2F",
            "%2e%2e",
            "?",
            "#",
            "a b",
            "a+b",
            "a\tb",
            "&sku=x",
            "\u{202e}x",
            "БОЛТ М5",
            "😀",
            "\\",
            "<script>",
            "'\"",
            "skus",
            "a;b",
            "{*sku}",
        ] {
            let sku = Sku::parse(text).unwrap();
            assert_eq!(follow(&sku), sku.as_str(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn links_of_all_skus_lead_back(text in "[^\\x00-\\x08\\x0A-\\x1f\\x7f]{1,60}") {
            if let Ok(sku) = Sku::parse(&text) {
                prop_assert_eq!(follow(&sku), sku.as_str());
            }
        }
    }
}
