//! Requests to MoySklad: rate limit, retries with backoff, and decoding of bodies.
//!
//! [`decide`] is the pure decision after each attempt: temporary failures and rate limiting are
//! retried, everything else fails at once.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use strict_http::{ReadResponseError, causes, read_response};
use tokio::time::{Instant, sleep, sleep_until};

use super::{MAX_TRIES, MoySklad, MoySkladCredentials, MoySkladError, REQUEST_TIMEOUT};

/// Most bytes of a response as received, all of which are in memory.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Most bytes of an unpacked error response.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Interval between the starts of two requests: at most 11 in 3 seconds, the limit of users'
/// tokens from 2026-12-01 on. Other tokens have a limit of 45.
const REQUEST_INTERVAL: Duration = Duration::from_millis(300);

/// Pause after a 429 without a usable header.
const DEFAULT_RATE_LIMIT_PAUSE: Duration = Duration::from_secs(3);

/// Longest pause, also if the service demands a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Most characters of an error message of the service.
const MAX_MESSAGE_CHARS: usize = 200;

impl MoySklad {
    /// Sends a request, with retries, and returns the body of the successful response.
    pub(super) async fn get(&mut self, path: &str) -> Result<EncodedBody, MoySkladError> {
        let url = format!("{}/{path}", self.config.base_url.trim_end_matches('/'));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let outcome = self.get_once(&url).await;
            match decide(outcome, attempt) {
                RetryDecision::Accept(body) => return Ok(body),
                RetryDecision::Retry(pause) => sleep(pause).await,
                RetryDecision::Fail(error) => return Err(error),
            }
        }
    }

    async fn get_once(&mut self, url: &str) -> MoySkladOutcome {
        if let Some(last) = self.last_request_at {
            sleep_until(last + REQUEST_INTERVAL).await;
        }
        self.last_request_at = Some(Instant::now());
        let request = self.http.get(url).timeout(REQUEST_TIMEOUT);
        let request = match &self.config.credentials {
            MoySkladCredentials::Token(token) => request.bearer_auth(token.expose()),
            MoySkladCredentials::Password { login, password } => {
                request.basic_auth(login, Some(password.expose()))
            }
        };
        // The service rejects requests that do not accept gzip.
        let request = request
            .header(ACCEPT, "application/json;charset=utf-8")
            .header(ACCEPT_ENCODING, "gzip");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return MoySkladOutcome::NoResponse(causes(&error.without_url())),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        match read_response(response, MAX_RESPONSE_BYTES).await {
            Ok(bytes) => MoySkladOutcome::Response {
                status,
                body: EncodedBody::new(bytes, &headers),
                headers,
            },
            Err(ReadResponseError::TooLarge { .. }) => MoySkladOutcome::TooLarge,
            Err(error @ ReadResponseError::Transport(_)) => {
                MoySkladOutcome::NoResponse(causes(&error))
            }
        }
    }
}

/// Outcome of one attempt.
enum MoySkladOutcome {
    Response {
        status: u16,
        headers: HeaderMap,
        body: EncodedBody,
    },
    TooLarge,
    NoResponse(String),
}

/// Decision after one attempt.
enum RetryDecision {
    Accept(EncodedBody),
    Retry(Duration),
    Fail(MoySkladError),
}

fn decide(outcome: MoySkladOutcome, attempt: u32) -> RetryDecision {
    let may_retry = attempt < MAX_TRIES;
    // 2, 4, 8 and 16 seconds.
    let backoff = Duration::from_secs(1 << attempt.min(5));
    let (status, headers, body) = match outcome {
        MoySkladOutcome::Response {
            status,
            headers,
            body,
        } => (status, headers, body),
        MoySkladOutcome::TooLarge => return RetryDecision::Fail(MoySkladError::TooLarge),
        MoySkladOutcome::NoResponse(_) if may_retry => return RetryDecision::Retry(backoff),
        MoySkladOutcome::NoResponse(reason) => {
            return RetryDecision::Fail(MoySkladError::Unreachable(reason));
        }
    };
    match status {
        200..=299 => RetryDecision::Accept(body),
        429 if may_retry => {
            RetryDecision::Retry(retry_after(&headers).unwrap_or(DEFAULT_RATE_LIMIT_PAUSE))
        }
        429 => RetryDecision::Fail(MoySkladError::RateLimited),
        401 | 403 => RetryDecision::Fail(MoySkladError::Denied {
            status,
            message: body.error_text(),
        }),
        500..=599 if may_retry => RetryDecision::Retry(backoff),
        _ => RetryDecision::Fail(MoySkladError::ErrorStatus {
            status,
            message: body.error_text(),
        }),
    }
}

/// Returns the pause that the service demands, at least one second. Its own headers are in
/// milliseconds, `Retry-After` is in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let millis = |name: &str| number(name).filter(|n| *n > 0).map(Duration::from_millis);
    let wait = millis("x-lognex-retry-after")
        .or_else(|| number(RETRY_AFTER.as_str()).map(Duration::from_secs))
        .or_else(|| millis("x-lognex-retry-timeinterval"))?;
    Some(wait.clamp(Duration::from_secs(1), MAX_PAUSE))
}

/// Response body as received, perhaps compressed. Clones share the bytes.
#[derive(Clone)]
pub(super) struct EncodedBody {
    bytes: Bytes,
    encoding: Option<String>,
}

impl EncodedBody {
    fn new(bytes: Bytes, headers: &HeaderMap) -> Self {
        let encoding = headers.get(CONTENT_ENCODING).map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .trim()
                .to_ascii_lowercase()
        });
        Self {
            bytes,
            encoding: encoding.filter(|encoding| !encoding.is_empty() && encoding != "identity"),
        }
    }

    /// Returns a reader of the decompressed body; it fails beyond `limit` bytes.
    pub(super) fn decode(self, limit: usize) -> Result<impl Read, MoySkladError> {
        let bytes = io::Cursor::new(self.bytes);
        let reader: Box<dyn Read + Send> = match self.encoding.as_deref() {
            None => Box::new(bytes),
            Some("gzip" | "x-gzip") => Box::new(MultiGzDecoder::new(bytes)),
            Some(other) => {
                let reason = format!("its encoding is {other}, only gzip was requested");
                return Err(MoySkladError::InvalidResponse(reason));
            }
        };
        Ok(BufReader::new(LimitedReader {
            inner: reader,
            remaining: limit,
        }))
    }

    /// Returns the error message of the service, shortened to [`MAX_MESSAGE_CHARS`].
    fn error_text(self) -> String {
        let mut text = Vec::new();
        if let Ok(reader) = self.decode(MAX_ERROR_BYTES) {
            // The part before a decompression error may still contain a message.
            let _incomplete = reader.take(MAX_ERROR_BYTES as u64).read_to_end(&mut text);
        }
        let message = serde_json::from_slice::<MoySkladErrors>(&text).map_or_else(
            |_| String::from_utf8_lossy(&text).into_owned(),
            |MoySkladErrors { errors }| {
                let errors: Vec<_> = errors.iter().map(MoySkladErrorItem::describe).collect();
                errors.join("; ")
            },
        );
        let words: Vec<_> = message.split_whitespace().take(MAX_MESSAGE_CHARS).collect();
        let message: String = words.join(" ").chars().take(MAX_MESSAGE_CHARS).collect();
        if message.is_empty() {
            "no message".to_owned()
        } else {
            message
        }
    }
}

#[derive(Deserialize)]
struct MoySkladErrors {
    errors: Vec<MoySkladErrorItem>,
}

#[derive(Deserialize)]
struct MoySkladErrorItem {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: Option<i64>,
}

impl MoySkladErrorItem {
    fn describe(&self) -> String {
        match self.code {
            Some(code) => format!("{} ({code})", self.error),
            None => self.error.clone(),
        }
    }
}

/// Reader with a limit, because a small compressed response can have a very large body.
struct LimitedReader<R> {
    inner: R,
    remaining: usize,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.remaining = self
            .remaining
            .checked_sub(read)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn header_map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn decision(status: u16, headers: &[(&'static str, &'static str)], tries: u32) -> String {
        let body = EncodedBody::new(Bytes::from_static(b"no\n json"), &header_map(&[]));
        match decide(
            MoySkladOutcome::Response {
                status,
                headers: header_map(headers),
                body,
            },
            tries,
        ) {
            RetryDecision::Accept(_) => "accept".to_owned(),
            RetryDecision::Retry(pause) => format!("wait {} ms", pause.as_millis()),
            RetryDecision::Fail(error) => error.to_string(),
        }
    }

    #[test]
    fn pauses_as_demanded_up_to_one_minute() {
        for (headers, wait) in [
            (
                &[("x-lognex-retry-after", "2500"), ("retry-after", "9")][..],
                "wait 2500 ms",
            ),
            (
                &[("x-lognex-retry-after", "0"), ("retry-after", "9")],
                "wait 9000 ms",
            ),
            (&[("x-lognex-retry-timeinterval", "3000")], "wait 3000 ms"),
            (&[("x-lognex-retry-timeinterval", "soon")], "wait 3000 ms"),
            (&[("x-lognex-retry-after", "86400000")], "wait 60000 ms"),
            (&[("retry-after", "0")], "wait 1000 ms"),
            (&[], "wait 3000 ms"),
        ] {
            assert_eq!(decision(429, headers, 1), wait, "{headers:?}");
        }
        assert_eq!(
            decision(429, &[], MAX_TRIES),
            "moysklad answered 429 Too Many Requests 5 times"
        );
    }

    #[test]
    fn retries_temporary_errors_only() {
        assert_eq!(decision(200, &[], 1), "accept");
        assert_eq!(decision(502, &[], 1), "wait 2000 ms");
        assert_eq!(decision(503, &[], 4), "wait 16000 ms");
        assert_eq!(decision(503, &[], 5), "moysklad answered 503: no json");
        assert_eq!(decision(404, &[], 1), "moysklad answered 404: no json");
        assert_eq!(decision(308, &[], 1), "moysklad answered 308: no json");
        let denied = "moysklad answered 403: the token or the user lacks the permission: no json";
        assert_eq!(decision(403, &[], 1), denied);
        let no_response = |tries| decide(MoySkladOutcome::NoResponse("reset".to_owned()), tries);
        assert!(matches!(no_response(1), RetryDecision::Retry(_)));
        assert!(matches!(
            no_response(5),
            RetryDecision::Fail(MoySkladError::Unreachable(_))
        ));
    }

    #[test]
    fn shortens_error_messages_of_the_service() {
        let body = include_bytes!("../../../../fixtures/sources/moysklad-denied.json");
        let message = "Ошибка аутентификации: Неправильный пароль или имя пользователя или ключ \
                    авторизации (1056)";
        let plain = EncodedBody::new(Bytes::from_static(body), &header_map(&[]));
        assert_eq!(plain.error_text(), message);
        let compressed = EncodedBody::new(gzip(body), &header_map(&[("content-encoding", "GZIP")]));
        assert_eq!(compressed.error_text(), message);
        let long = EncodedBody::new(vec![b'a'; 1_000_000].into(), &header_map(&[]));
        assert_eq!(long.error_text().len(), MAX_MESSAGE_CHARS);
        assert_eq!(
            EncodedBody::new(Bytes::new(), &header_map(&[])).error_text(),
            "no message"
        );
    }

    #[test]
    fn limits_the_decompressed_size() {
        let bomb = gzip(&vec![b'7'; 1_000_000]);
        assert!(bomb.len() < 2_000);
        let decode_with = |limit| {
            let headers = header_map(&[("content-encoding", "gzip")]);
            let mut reader = EncodedBody::new(bomb.clone(), &headers)
                .decode(limit)
                .unwrap();
            io::copy(&mut reader, &mut io::sink()).map_err(|error| error.kind())
        };
        assert_eq!(decode_with(1_000_000), Ok(1_000_000));
        assert_eq!(decode_with(999_999), Err(io::ErrorKind::FileTooLarge));
    }

    #[test]
    fn rejects_unrequested_encodings() {
        let body = EncodedBody::new(Bytes::new(), &header_map(&[("content-encoding", "br")]));
        let error = body.decode(10).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("its encoding is br"), "{error}");
    }
}
