//! Connection to a service that is kept open, for updates and requests of the Market.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::service_process::{CAMPAIGN, WAREHOUSE};

/// Open connection.
pub(crate) struct FeedConnection {
    stream: BufReader<TcpStream>,
}

impl FeedConnection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Updates the stock. Returns the status of the response.
    pub(crate) fn update(&mut self, items: &[(String, u32)]) -> u16 {
        let mut body = String::from("{\"skus\":[");
        for (number, (sku, count)) in items.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(
                body,
                "{comma}{{\"sku\":\"{sku}\",\"items\":[{{\"count\":{count}}}]}}"
            )
            .unwrap();
        }
        body.push_str("]}");
        let target = format!("PUT /v2/campaigns/{CAMPAIGN}/offers/stocks");
        self.exchange(&target, "Api-Key: feed-key", &body).0
    }

    /// Requests stock as the Market does. Returns status and body of the response.
    pub(crate) fn request(&mut self, skus: &[&str]) -> (u16, Vec<u8>) {
        let skus = skus.join("\",\"");
        let body = format!("{{\"warehouseId\":{WAREHOUSE},\"skus\":[\"{skus}\"]}}");
        self.exchange("POST /stocks", "Authorization: push-token", &body)
    }

    /// Returns the status 0 if the connection was closed.
    fn exchange(&mut self, target: &str, header: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = self.stream.get_mut().write_all(request.as_bytes());
        let Some(status) = sent.ok().and_then(|()| self.read_line()) else {
            return (0, Vec::new());
        };
        let status = status.split(' ').nth(1).and_then(|it| it.parse().ok());
        let mut length = 0;
        while let Some(line) = self.read_line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        match self.stream.read_exact(&mut body) {
            Ok(()) => (status.unwrap_or(0), body),
            Err(_) => (0, Vec::new()),
        }
    }

    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    }
}
