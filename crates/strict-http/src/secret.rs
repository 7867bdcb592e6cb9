//! Tokens and keys: hidden when printed, compared in constant time.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Token or key. Printed as `***`.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a token or key.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for use in the request header or query.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Set of valid tokens, stored as SHA-256 digests. Clones share it, so that
/// [`replace`](Self::replace) reaches every user of the set.
///
/// Digests are compared in constant time and every digest is compared, so the duration reveals
/// neither a token nor its length.
#[derive(Clone)]
pub struct TokenSet(Arc<RwLock<Vec<[u8; 32]>>>);

impl TokenSet {
    /// Creates a set of these tokens.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(Arc::new(RwLock::new(digests(secrets))))
    }

    /// Replaces all tokens by these.
    pub fn replace<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>) {
        let new = digests(secrets);
        *self.0.write() = new;
    }

    /// Returns true if the text is one of the tokens.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.contains_digest(&TokenDigest::of(text))
    }

    /// Returns true if it is the digest of one of the tokens.
    #[must_use]
    pub fn contains_digest(&self, candidate: &TokenDigest) -> bool {
        let has_digest = |found, stored: &[u8; 32]| found | stored.ct_eq(&candidate.0);
        let tokens = self.0.read();
        tokens.iter().fold(Choice::from(0), has_digest).into()
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.read().len())
    }
}

/// Digest of a text that may be a token, to be compared with several sets.
#[derive(Clone, Eq, PartialEq)]
pub struct TokenDigest([u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl TokenDigest {
    /// Computes the digest.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(digest(text))
    }
}

fn digests<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Vec<[u8; 32]> {
    let secrets = secrets.into_iter();
    secrets.map(|secret| digest(secret.expose())).collect()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_only_exact_tokens() {
        let tokens = TokenSet::new(&[Secret::new("first"), Secret::new("second")]);
        assert!(tokens.contains("first") && tokens.contains("second"));
        for wrong in ["", "First", "firs", "first ", "third"] {
            assert!(!tokens.contains(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn does_not_print_secrets() {
        assert_eq!(format!("{:?}", Secret::new("y0_canary")), "***");
    }
}
