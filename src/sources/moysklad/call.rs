//! One request at a time, asked again where that makes sense, and what comes back unpacked.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Access, DEADLINE, MAX_ANSWER_BYTES, MAX_TRIES, MoySklad, MoySkladError};
use crate::http::{AnswerCut, causes, read_answer};

/// Most bytes of an error that are unpacked.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Between the beginnings of two requests: 11 in 3 seconds, which is all that users' tokens get
/// from 2026-12-01 on; others get 45.
const APART: Duration = Duration::from_millis(300);

/// How long to wait when the service says that it is too much, but not for how long.
const LIMITED_PAUSE: Duration = Duration::from_secs(3);

/// The longest wait that is obeyed.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Most characters of what the service says of an error.
const SHOWN: usize = 200;

impl MoySklad {
    /// Asks, and asks again where that makes sense, until there is an answer to be read.
    pub(super) async fn get(&mut self, path: &str) -> Result<Packed, MoySkladError> {
        let url = format!("{}/{path}", self.config.base_url.trim_end_matches('/'));
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.get_once(&url).await;
            match judge(outcome, tries) {
                Verdict::Take(body) => return Ok(body),
                Verdict::Wait(pause) => sleep(pause).await,
                Verdict::Fail(error) => return Err(error),
            }
        }
    }

    async fn get_once(&mut self, url: &str) -> Outcome {
        if let Some(last) = self.last {
            sleep_until(last + APART).await;
        }
        self.last = Some(Instant::now());
        let request = self.http.get(url).timeout(DEADLINE);
        let request = match &self.config.access {
            Access::Token(token) => request.bearer_auth(token.expose()),
            Access::Password { login, password } => {
                request.basic_auth(login, Some(password.expose()))
            }
        };
        // The service refuses whoever does not take gzip.
        let request = request
            .header(ACCEPT, "application/json;charset=utf-8")
            .header(ACCEPT_ENCODING, "gzip");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Nothing(causes(&error.without_url())),
        };
        let (status, fields) = (response.status().as_u16(), response.headers().clone());
        match read_answer(response, MAX_ANSWER_BYTES).await {
            Ok(bytes) => Outcome::Answer {
                status,
                body: Packed::new(bytes, &fields),
                fields,
            },
            Err(AnswerCut::TooLarge { .. }) => Outcome::TooLarge,
            Err(cut @ AnswerCut::Transport(_)) => Outcome::Nothing(causes(&cut)),
        }
    }
}

/// How a request ended.
enum Outcome {
    Answer {
        status: u16,
        fields: HeaderMap,
        body: Packed,
    },
    TooLarge,
    Nothing(String),
}

/// What to do about it.
enum Verdict {
    Take(Packed),
    Wait(Duration),
    Fail(MoySkladError),
}

fn judge(outcome: Outcome, tries: u32) -> Verdict {
    let again = tries < MAX_TRIES;
    // 2, 4, 8 and 16 seconds.
    let growing = Duration::from_secs(1 << tries.min(5));
    let (status, fields, body) = match outcome {
        Outcome::Answer {
            status,
            fields,
            body,
        } => (status, fields, body),
        Outcome::TooLarge => return Verdict::Fail(MoySkladError::TooLarge),
        Outcome::Nothing(_) if again => return Verdict::Wait(growing),
        Outcome::Nothing(reason) => return Verdict::Fail(MoySkladError::Unreachable(reason)),
    };
    match status {
        200..=299 => Verdict::Take(body),
        429 if again => Verdict::Wait(asked_wait(&fields).unwrap_or(LIMITED_PAUSE)),
        429 => Verdict::Fail(MoySkladError::Limited),
        401 | 403 => Verdict::Fail(MoySkladError::Denied {
            status,
            said: body.said(),
        }),
        500..=599 if again => Verdict::Wait(growing),
        _ => Verdict::Fail(MoySkladError::Refused {
            status,
            said: body.said(),
        }),
    }
}

/// How long the service wants us to wait, at least a second: its own headers in milliseconds,
/// the standard one in seconds.
fn asked_wait(fields: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| fields.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let millis = |name: &str| number(name).filter(|n| *n > 0).map(Duration::from_millis);
    let wait = millis("x-lognex-retry-after")
        .or_else(|| number(RETRY_AFTER.as_str()).map(Duration::from_secs))
        .or_else(|| millis("x-lognex-retry-timeinterval"))?;
    Some(wait.clamp(Duration::from_secs(1), MAX_PAUSE))
}

/// A body as it came. A clone shares its bytes.
#[derive(Clone)]
pub(super) struct Packed {
    bytes: Bytes,
    coding: Option<String>,
}

impl Packed {
    fn new(bytes: Bytes, fields: &HeaderMap) -> Self {
        let coding = fields.get(CONTENT_ENCODING).map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .trim()
                .to_ascii_lowercase()
        });
        Self {
            bytes,
            coding: coding.filter(|coding| !coding.is_empty() && coding != "identity"),
        }
    }

    /// The body, unpacked as it is read, no further than the limit.
    pub(super) fn unpack(self, limit: usize) -> Result<impl Read, MoySkladError> {
        let bytes = io::Cursor::new(self.bytes);
        let read: Box<dyn Read + Send> = match self.coding.as_deref() {
            None => Box::new(bytes),
            Some("gzip" | "x-gzip") => Box::new(MultiGzDecoder::new(bytes)),
            Some(other) => {
                let reason = format!("it came in {other}, only gzip was asked for");
                return Err(MoySkladError::Broken(reason));
            }
        };
        Ok(BufReader::new(Capped {
            inner: read,
            left: limit,
        }))
    }

    /// What the service says of an error, shortly.
    fn said(self) -> String {
        let mut text = Vec::new();
        if let Ok(read) = self.unpack(MAX_ERROR_BYTES) {
            // As far as it could be unpacked it may still say something.
            let _cut = read.take(MAX_ERROR_BYTES as u64).read_to_end(&mut text);
        }
        let said = serde_json::from_slice::<Errors>(&text).map_or_else(
            |_| String::from_utf8_lossy(&text).into_owned(),
            |Errors { errors }| {
                let errors: Vec<_> = errors.iter().map(OneError::words).collect();
                errors.join("; ")
            },
        );
        let words: Vec<_> = said.split_whitespace().take(SHOWN).collect();
        let said: String = words.join(" ").chars().take(SHOWN).collect();
        if said.is_empty() {
            "no more is said".to_owned()
        } else {
            said
        }
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: Option<i64>,
}

impl OneError {
    fn words(&self) -> String {
        match self.code {
            Some(code) => format!("{} ({code})", self.error),
            None => self.error.clone(),
        }
    }
}

/// Reads so far and no further: a small answer can be packed from a large one.
struct Capped<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
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

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
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

    fn verdict(status: u16, headers: &[(&'static str, &'static str)], tries: u32) -> String {
        let body = Packed::new(Bytes::from_static(b"no\n json"), &fields(&[]));
        match judge(
            Outcome::Answer {
                status,
                fields: fields(headers),
                body,
            },
            tries,
        ) {
            Verdict::Take(_) => "take".to_owned(),
            Verdict::Wait(pause) => format!("wait {} ms", pause.as_millis()),
            Verdict::Fail(error) => error.to_string(),
        }
    }

    #[test]
    fn a_limit_is_waited_out_as_long_as_asked_and_no_longer_than_a_minute() {
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
            assert_eq!(verdict(429, headers, 1), wait, "{headers:?}");
        }
        assert_eq!(
            verdict(429, &[], MAX_TRIES),
            "moysklad limited a request 5 times"
        );
    }

    #[test]
    fn what_may_pass_is_asked_again_and_what_will_not_is_told() {
        assert_eq!(verdict(200, &[], 1), "take");
        assert_eq!(verdict(502, &[], 1), "wait 2000 ms");
        assert_eq!(verdict(503, &[], 4), "wait 16000 ms");
        assert_eq!(verdict(503, &[], 5), "moysklad answered 503: no json");
        assert_eq!(verdict(404, &[], 1), "moysklad answered 404: no json");
        assert_eq!(verdict(308, &[], 1), "moysklad answered 308: no json");
        let denied = "moysklad answered 403, the token or the user may not do this: no json";
        assert_eq!(verdict(403, &[], 1), denied);
        let gone = |tries| judge(Outcome::Nothing("reset".to_owned()), tries);
        assert!(matches!(gone(1), Verdict::Wait(_)));
        assert!(matches!(
            gone(5),
            Verdict::Fail(MoySkladError::Unreachable(_))
        ));
    }

    #[test]
    fn the_services_own_errors_are_told_shortly() {
        let body = include_bytes!("../../../fixtures/sources/moysklad-denied.json");
        let said = "Ошибка аутентификации: Неправильный пароль или имя пользователя или ключ \
                    авторизации (1056)";
        let plain = Packed::new(Bytes::from_static(body), &fields(&[]));
        assert_eq!(plain.said(), said);
        let packed = Packed::new(gzip(body), &fields(&[("content-encoding", "GZIP")]));
        assert_eq!(packed.said(), said);
        let long = Packed::new(vec![b'a'; 1_000_000].into(), &fields(&[]));
        assert_eq!(long.said().len(), SHOWN);
        assert_eq!(
            Packed::new(Bytes::new(), &fields(&[])).said(),
            "no more is said"
        );
    }

    #[test]
    fn a_small_answer_does_not_become_a_large_one() {
        let bomb = gzip(&vec![b'7'; 1_000_000]);
        assert!(bomb.len() < 2_000);
        let read = |limit| {
            let fields = fields(&[("content-encoding", "gzip")]);
            let mut read = Packed::new(bomb.clone(), &fields).unpack(limit).unwrap();
            io::copy(&mut read, &mut io::sink()).map_err(|error| error.kind())
        };
        assert_eq!(read(1_000_000), Ok(1_000_000));
        assert_eq!(read(999_999), Err(io::ErrorKind::FileTooLarge));
    }

    #[test]
    fn a_coding_nobody_asked_for_is_told() {
        let packed = Packed::new(Bytes::new(), &fields(&[("content-encoding", "br")]));
        let error = packed.unpack(10).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("it came in br"), "{error}");
    }
}
