//! HTTP with raw sockets, so that a test controls every byte.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No response of ours takes longer, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A response as received.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl RawResponse {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let is_match = |(field_name, _): &&(String, String)| field_name.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(is_match)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// One connection.
pub(crate) struct RawConnection(TcpStream);

impl RawConnection {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// The same, but the peer may be gone.
    pub(crate) async fn try_connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).await.ok().map(Self)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The same, but the peer may be gone.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next answer, or why there is none.
    pub(crate) async fn read_response(&mut self) -> Result<RawResponse, String> {
        timeout(TIMEOUT, self.read_next())
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    async fn read_next(&mut self) -> Result<RawResponse, String> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.read_more(&mut bytes).await?;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).map_err(|e| e.to_string())?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no status in {first:?}"))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut response = RawResponse {
            status,
            headers,
            body: bytes.split_off(end + 4),
        };
        let length = response
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let length: usize = length.ok_or_else(|| format!("no length in {head:?}"))?;
        while response.body.len() < length {
            self.read_more(&mut response.body).await?;
        }
        Ok(response)
    }

    async fn read_more(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        match self.0.read_buf(bytes).await {
            Ok(0) => Err("the connection was closed".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The bytes of a request; its length is added, and `Host: localhost` if no host is given.
pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let fields: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = if method == "GET" {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let is_host = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("host");
    let host = if headers.iter().any(is_host) {
        ""
    } else {
        "Host: localhost\r\n"
    };
    let head = format!("{method} {target} HTTP/1.1\r\n{host}{fields}{length}\r\n");
    [head.as_bytes(), body].concat()
}

/// One request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> RawResponse {
    let mut connection = RawConnection::connect(address).await;
    connection
        .write(&request(method, target, headers, body))
        .await;
    connection.read_response().await.unwrap()
}
