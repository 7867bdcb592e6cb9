//! The Market as a client of the push API: shops, request bodies and blocking connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use lifecycle::Clock;
use market_api::push::wire::MAX_REQUEST_BYTES;
use stock::{Activity, ShopId, StockBook};
use stockbridge::auth_failures::AuthFailures;
use stockbridge::push_api::stocks_handler::{self as push_api, LastRequests, UnknownSku};
use stockbridge::replicas::ServingPermit;
use stockbridge::telemetry::Alarms;
use strict_http::read_body;
use strict_http::secret::{Secret, TokenSet};

use crate::goods;

pub(crate) const SHOPS: u16 = 10;
pub(crate) const SKUS_PER_REQUEST: u64 = 1000;

pub(crate) const TOKEN: &str = "B0000015B1ED5B63";

/// Returns the warehouse id of a shop, which has six digits.
pub(crate) fn warehouse(shop: u16) -> u64 {
    569_000 + u64::from(shop)
}

/// Returns the service's own router of `POST /stocks` for all shops.
pub(crate) fn push_router(book: Arc<StockBook>) -> Router {
    let warehouses = (0..SHOPS).map(|index| vec![warehouse(index)]).collect();
    let context = push_api::Context {
        activity: Arc::new(Activity::new(&book, warehouses)),
        book,
        last_requests: LastRequests::new(SHOPS.into()),
        permit: ServingPermit::unlimited(),
        clock: Clock::wall(),
        alarms: Alarms::new(Clock::wall()),
        metrics: push_api::Metrics::default(),
        auth_failures: AuthFailures::new(
            Clock::wall(),
            Alarms::new(Clock::wall()),
            Vec::new(),
            10_000,
        ),
        read_through: None,
    };
    let shop = |index| push_api::PushShop {
        id: ShopId(index),
        name: format!("shop-{index}"),
        base_path: String::new(),
        tokens: TokenSet::new([&Secret::new(TOKEN)]),
        warehouses: vec![warehouse(index)],
        unknown_sku: UnknownSku::Omit,
        unavailable_status: StatusCode::SERVICE_UNAVAILABLE,
    };
    push_api::router(&context, (0..SHOPS).map(shop).collect())
}

/// Returns the baseline router, which reads the body and sends a prepared response.
pub(crate) fn baseline_router(response: Bytes) -> Router {
    async fn baseline(State(response): State<Bytes>, request: Request) -> Response {
        match read_body(request.into_body(), MAX_REQUEST_BYTES).await {
            Ok(_) => Body::from(response).into_response(),
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        }
    }
    Router::new()
        .route("/stocks", post(baseline))
        .with_state(response)
}

/// Returns a request body with random SKUs of one shop, which has `skus_per_shop`.
pub(crate) fn stocks_body(seed: u64, skus_per_shop: u64) -> String {
    let shop = u16::try_from(seed % u64::from(SHOPS)).unwrap_or_default();
    let first = u64::from(shop) * skus_per_shop;
    let skus: Vec<String> = (0..SKUS_PER_REQUEST)
        .map(|n| goods::mix(seed * SKUS_PER_REQUEST + n) % skus_per_shop)
        .map(|n| format!("\"{}\"", goods::sku(first + n)))
        .collect();
    format!(
        r#"{{"warehouseId":{},"skus":[{}]}}"#,
        warehouse(shop),
        skus.join(",")
    )
}

pub(crate) fn stocks_request(body_bytes: usize) -> axum::http::request::Builder {
    Request::post("/stocks")
        .header("host", "127.0.0.1")
        .header("authorization", TOKEN)
        .header("content-type", "application/json")
        .header("content-length", body_bytes)
}

/// Returns the bytes of a request as sent over the wire.
pub(crate) fn raw_request(
    request: axum::http::request::Builder,
    body: &str,
) -> anyhow::Result<Vec<u8>> {
    let (head, ()) = request.body(())?.into_parts();
    let mut raw = format!("{} {} HTTP/1.1\r\n", head.method, head.uri).into_bytes();
    for (name, value) in &head.headers {
        raw.extend_from_slice(format!("{name}: ").as_bytes());
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(body.as_bytes());
    Ok(raw)
}

/// Blocking connection, which costs the client the least CPU time.
pub(crate) struct BlockingClient {
    stream: TcpStream,
    buffer: Vec<u8>,
    find_body: FindBody,
}

/// Function that returns the start and end of the body of a response, or `None` while its end is
/// not known.
pub(crate) type FindBody = fn(&[u8]) -> anyhow::Result<Option<(usize, usize)>>;

impl BlockingClient {
    pub(crate) fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        Self::connect_with(addr, body_extent)
    }

    /// Connects for another protocol than HTTP.
    pub(crate) fn connect_with(addr: SocketAddr, find_body: FindBody) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).context("connect to the server")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 256 * 1024],
            find_body,
        })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).context("send a request")
    }

    /// Reads a response, which must be a success, and returns its body.
    pub(crate) fn receive(&mut self) -> anyhow::Result<&[u8]> {
        let mut filled = 0;
        let mut body_range = None;
        while body_range.is_none_or(|(_, end)| filled < end) {
            let read = self
                .stream
                .read(&mut self.buffer[filled..])
                .context("read a response")?;
            if read == 0 {
                bail!("the server closed the connection after {filled} bytes of a response");
            }
            filled += read;
            if body_range.is_none() {
                body_range = (self.find_body)(&self.buffer[..filled])?;
            }
        }
        let (start, end) = body_range.context("the response has no end")?;
        Ok(&self.buffer[start..end])
    }
}

/// Finds the body of an HTTP response, which must be a 200.
fn body_extent(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(start) = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
    else {
        return Ok(None);
    };
    let head = str::from_utf8(&bytes[..start])?.to_lowercase();
    if !head.starts_with("http/1.1 200") {
        bail!("expected 200, got: {}", String::from_utf8_lossy(bytes));
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .context("the response has no Content-Length")?
        .trim()
        .parse()?;
    Ok(Some((start, start + length)))
}
