//! Authentication of 1C: Basic credentials, and a session cookie issued after them.
//!
//! Sessions are kept in memory only. After a restart 1C logs in again, or its Basic credentials
//! authenticate each request.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use parking_lot::Mutex;
use strict_http::secret::{Secret, TokenSet};
use tokio::time::Instant;

use super::ExchangeError;

/// Name of the session cookie.
const COOKIE_NAME: &str = "stockbridge_1c";

/// Lifetime of an unused session.
const SESSION_IDLE_TIMEOUT: Duration = Duration::from_hours(24);

/// Most sessions at a time; a new one replaces the one that was unused for longest.
const MAX_SESSIONS: usize = 32;

/// Identity of an authenticated client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ExchangeClient {
    /// By session cookie: one run of 1C's exchange.
    Session(u64),
    /// By name and password in the request itself.
    Login,
}

/// Credentials and active sessions of one endpoint.
pub(super) struct ExchangeSessions {
    login: TokenSet,
    table: Mutex<SessionTable>,
}

#[derive(Default)]
struct SessionTable {
    last_id: u64,
    active: Vec<ExchangeSession>,
}

struct ExchangeSession {
    id: u64,
    token: TokenSet,
    last_used: Instant,
}

impl ExchangeSessions {
    pub(super) fn new(login: &str, password: &Secret) -> Self {
        // A name cannot contain a colon, so comparing both as one text is exact.
        let credentials = Secret::new(format!("{login}:{}", password.expose()));
        Self {
            login: TokenSet::new([&credentials]),
            table: Mutex::default(),
        }
    }

    /// Opens a session and returns the name and the value of its cookie.
    ///
    /// # Errors
    /// Name or password is wrong or missing.
    pub(super) fn log_in(&self, head: &Parts) -> Result<(&'static str, String), ExchangeError> {
        self.check_login(head)?;
        let value = format!("{:032x}", rand::random::<u128>());
        let mut sessions = self.table.lock();
        let now = Instant::now();
        sessions
            .active
            .retain(|session| now.duration_since(session.last_used) < SESSION_IDLE_TIMEOUT);
        if sessions.active.len() >= MAX_SESSIONS {
            let oldest = sessions
                .active
                .iter()
                .enumerate()
                .min_by_key(|(_, session)| session.last_used);
            if let Some((index, _)) = oldest {
                sessions.active.swap_remove(index);
            }
        }
        sessions.last_id += 1;
        let id = sessions.last_id;
        let token = TokenSet::new([&Secret::new(value.as_str())]);
        sessions.active.push(ExchangeSession {
            id,
            token,
            last_used: now,
        });
        Ok((COOKIE_NAME, value))
    }

    /// Authenticates by cookie, or by name and password, which work also if the session has ended.
    ///
    /// # Errors
    /// Neither is valid.
    pub(super) fn authenticate(&self, head: &Parts) -> Result<ExchangeClient, ExchangeError> {
        let cookie = session_cookie(head);
        if let Some(id) = cookie.as_ref().and_then(|value| self.find_session(value)) {
            return Ok(ExchangeClient::Session(id));
        }
        match (self.check_login(head), cookie) {
            (Ok(()), _) => Ok(ExchangeClient::Login),
            (Err(_), Some(_)) => Err(ExchangeError::SessionEnded),
            (Err(error), None) => Err(error),
        }
    }

    fn find_session(&self, value: &Secret) -> Option<u64> {
        let mut sessions = self.table.lock();
        let now = Instant::now();
        let found = sessions
            .active
            .iter_mut()
            .find(|session| session.token.contains(value.expose()))?;
        if now.duration_since(found.last_used) >= SESSION_IDLE_TIMEOUT {
            return None;
        }
        found.last_used = now;
        Some(found.id)
    }

    fn check_login(&self, head: &Parts) -> Result<(), ExchangeError> {
        let credentials = basic_credentials(head).ok_or(ExchangeError::NoCredentials)?;
        if self.login.contains(credentials.expose()) {
            Ok(())
        } else {
            Err(ExchangeError::WrongLogin)
        }
    }
}

/// Returns the credentials of a request, valid or not.
pub(super) fn offered_credentials(head: &Parts) -> String {
    let exposed = |secret: Option<Secret>| secret.map(|secret| secret.expose().to_owned());
    let (credentials, cookie) = (
        exposed(basic_credentials(head)),
        exposed(session_cookie(head)),
    );
    format!(
        "{}\n{}",
        credentials.unwrap_or_default(),
        cookie.unwrap_or_default()
    )
}

/// Returns `name:password` of a request.
fn basic_credentials(head: &Parts) -> Option<Secret> {
    let field = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    decode_base64(encoded.trim()).map(|bytes| Secret::new(decode_text(bytes)))
}

/// Returns the value of the session cookie of a request.
fn session_cookie(head: &Parts) -> Option<Secret> {
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

/// Decodes UTF-8, or windows-1251, which some clients still send.
pub(super) fn decode_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| {
        let (text, _, _) = encoding_rs::WINDOWS_1251.decode(e.as_bytes());
        text.into_owned()
    })
}

/// Decodes base64 of RFC 4648, with or without padding.
fn decode_base64(encoded: &str) -> Option<Vec<u8>> {
    let encoded = encoded.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(encoded.len() * 3 / 4);
    let mut accumulator = 0_u32;
    let mut bits = 0;
    for character in encoded.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        accumulator = (accumulator << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((accumulator >> bits) & 0xff).ok()?);
        }
    }
    // A single last character has only six bits, which is not a byte.
    (bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_base64() {
        for (encoded, bytes) in [
            ("", "".as_bytes()),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm8", b"fo"),
            ("Zm9vYmFy", b"foobar"),
            ("0LDQtNC80LjQvQ==", "админ".as_bytes()),
            ("+/8=", &[0xfb, 0xff]),
        ] {
            assert_eq!(decode_base64(encoded).as_deref(), Some(bytes), "{encoded}");
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
    fn decodes_utf_8_and_windows_1251() {
        assert_eq!(decode_text("админ".as_bytes().to_vec()), "админ");
        assert_eq!(decode_text(vec![0xe0, 0xe4, 0xec, 0xe8, 0xed]), "админ");
    }
}
