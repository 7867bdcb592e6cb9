//! `POST /stocks` without a server: the router is called directly.

use std::sync::Arc;

use anyhow::ensure;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use stock::{ShopId, StockBook};
use tower::ServiceExt as _;

use crate::goods;
use crate::market::{self, SHOPS};

/// Returns a book of ten shops with SKUs and levels of [`goods`].
pub(crate) fn book(skus_per_shop: u64) -> Arc<StockBook> {
    let capacity = usize::try_from(skus_per_shop).unwrap_or_default();
    let book = StockBook::new((0..SHOPS).map(|_| capacity));
    for number in 0..skus_per_shop * u64::from(SHOPS) {
        let shop = u16::try_from(number / skus_per_shop).unwrap_or_default();
        book.apply(
            ShopId(shop),
            &goods::sku(number),
            goods::level(goods::mix(number)),
        );
    }
    Arc::new(book)
}

/// Sends requests for 1000 SKUs each, from a hundred different bodies.
pub(crate) fn answer(requests: u64, skus_per_shop: u64) -> anyhow::Result<()> {
    let router = market::push_router(book(skus_per_shop));
    // A clone of `Bytes` copies nothing.
    let bodies: Vec<Bytes> = (0..100)
        .map(|seed| market::stocks_body(seed, skus_per_shop).into())
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for body in bodies.iter().cycle().take(usize::try_from(requests)?) {
            let request = market::stocks_request(body.len()).body(Body::from(body.clone()))?;
            exchange(&router, request).await?;
        }
        Ok(())
    })
}

/// Sends a request, whose response must be a 200, and reads the response.
pub(crate) async fn exchange(router: &Router, request: Request<Body>) -> anyhow::Result<()> {
    let response = router.clone().oneshot(request).await?;
    ensure!(
        response.status() == StatusCode::OK,
        "expected 200, got {}",
        response.status()
    );
    to_bytes(response.into_body(), usize::MAX).await?;
    Ok(())
}
