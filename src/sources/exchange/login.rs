use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use tokio::time::Instant;

use super::Failure;
use crate::http::secret::{Locks, Secret};

/// The name of our cookie.
const COOKIE_NAME: &str = "stockbridge_1c";

/// How long a session lives unused.
const IDLE: Duration = Duration::from_hours(24);

/// Most sessions at a time; a newer one takes the place of that unused for longest.
const MAX_SESSIONS: usize = 32;

/// Who has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Guest {
    /// By a cookie of ours: one run of 1C's exchange.
    Session(u64),
    /// By name and password with this very request.
    Named,
}

/// Knows who may come in. Sessions are forgotten when the program stops.
pub(super) struct Reception {
    locks: Locks,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    last: u64,
    open: Vec<Session>,
}

struct Session {
    number: u64,
    lock: Locks,
    seen: Instant,
}

impl Reception {
    pub(super) fn new(login: &str, password: &Secret) -> Self {
        // A name cannot hold a colon, so the two together are as good as each of them.
        let pair = Secret::new(format!("{login}:{}", password.expose()));
        Self {
            locks: Locks::new([&pair]),
            sessions: Mutex::default(),
        }
    }

    /// Opens a session: the name and the value of its cookie.
    ///
    /// # Errors
    /// Name or password is wrong, or there is none.
    pub(super) fn open(&self, head: &Parts) -> Result<(&'static str, String), Failure> {
        self.check_name(head)?;
        let value = format!("{:032x}", rand::random::<u128>());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        sessions
            .open
            .retain(|session| now.duration_since(session.seen) < IDLE);
        if sessions.open.len() >= MAX_SESSIONS {
            let oldest = sessions
                .open
                .iter()
                .enumerate()
                .min_by_key(|(_, session)| session.seen);
            if let Some((index, _)) = oldest {
                sessions.open.swap_remove(index);
            }
        }
        sessions.last += 1;
        let number = sessions.last;
        let lock = Locks::new([&Secret::new(value.as_str())]);
        sessions.open.push(Session {
            number,
            lock,
            seen: now,
        });
        Ok((COOKIE_NAME, value))
    }

    /// By cookie, or by name and password, which also serve when we have forgotten the cookie.
    ///
    /// # Errors
    /// Neither is right.
    pub(super) fn admit(&self, head: &Parts) -> Result<Guest, Failure> {
        let cookie = cookie(head);
        if let Some(number) = cookie.as_ref().and_then(|value| self.session(value)) {
            return Ok(Guest::Session(number));
        }
        match (self.check_name(head), cookie) {
            (Ok(()), _) => Ok(Guest::Named),
            (Err(_), Some(_)) => Err(Failure::NoSession),
            (Err(failure), None) => Err(failure),
        }
    }

    fn session(&self, value: &Secret) -> Option<u64> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let found = sessions
            .open
            .iter_mut()
            .find(|session| session.lock.open_to(value.expose()))?;
        if now.duration_since(found.seen) >= IDLE {
            return None;
        }
        found.seen = now;
        Some(found.number)
    }

    fn check_name(&self, head: &Parts) -> Result<(), Failure> {
        let pair = named(head).ok_or(Failure::Anonymous)?;
        if self.locks.open_to(pair.expose()) {
            Ok(())
        } else {
            Err(Failure::WrongLogin)
        }
    }
}

/// What a request offers as credentials, right or wrong.
pub(super) fn offered(head: &Parts) -> String {
    let text = |secret: Option<Secret>| secret.map(|secret| secret.expose().to_owned());
    let (pair, cookie) = (text(named(head)), text(cookie(head)));
    format!(
        "{}\n{}",
        pair.unwrap_or_default(),
        cookie.unwrap_or_default()
    )
}

/// `name:password` of a request.
fn named(head: &Parts) -> Option<Secret> {
    let field = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, code) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    decode_base64(code.trim()).map(|bytes| Secret::new(text(bytes)))
}

/// Our cookie of a request.
fn cookie(head: &Parts) -> Option<Secret> {
    let fields = head
        .headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|field| field.to_str().ok());
    let mut pairs = fields
        .flat_map(|field| field.split(';'))
        .map(|pair| pair.trim().split_once('='));
    pairs
        .find_map(|pair| pair.filter(|(name, _)| *name == COOKIE_NAME))
        .map(|(_, v)| Secret::new(v))
}

/// Text of a client that may still think in windows-1251.
pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| {
        let (text, _, _) = encoding_rs::WINDOWS_1251.decode(e.as_bytes());
        text.into_owned()
    })
}

/// Bytes in the alphabet of RFC 4648, with or without the padding at their end.
fn decode_base64(code: &str) -> Option<Vec<u8>> {
    let code = code.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(code.len() * 3 / 4);
    let mut held = 0_u32;
    let mut bits = 0;
    for letter in code.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).ok()?);
        }
    }
    // Six bits alone are no byte.
    (bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_coded_is_read_as_it_was() {
        for (code, bytes) in [
            ("", "".as_bytes()),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm8", b"fo"),
            ("Zm9vYmFy", b"foobar"),
            ("0LDQtNC80LjQvQ==", "админ".as_bytes()),
            ("+/8=", &[0xfb, 0xff]),
        ] {
            assert_eq!(decode_base64(code).as_deref(), Some(bytes), "{code}");
        }
        assert_eq!(
            [
                decode_base64("Z"),
                decode_base64("Zg=a"),
                decode_base64("Z-_g")
            ],
            [None, None, None]
        );
    }

    #[test]
    fn a_name_in_windows_1251_is_read_too() {
        assert_eq!(text("админ".as_bytes().to_vec()), "админ");
        assert_eq!(text(vec![0xe0, 0xe4, 0xec, 0xe8, 0xed]), "админ");
    }
}
