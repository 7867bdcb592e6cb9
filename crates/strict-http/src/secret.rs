//! Tokens and keys: hidden when printed, compared in constant time.

use std::fmt;

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

/// Set of valid tokens, stored as SHA-256 digests.
///
/// Digests are compared in constant time and every digest is compared, so the duration reveals
/// neither a token nor its length.
#[derive(Clone)]
pub struct TokenSet(Vec<[u8; 32]>);

impl TokenSet {
    /// Creates a set of these tokens.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let secrets = secrets.into_iter();
        Self(secrets.map(|secret| digest(secret.expose())).collect())
    }

    /// Returns true if the text is one of the tokens.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let candidate = digest(text);
        let equal = self.0.iter().map(|stored| stored.ct_eq(&candidate));
        equal
            .fold(Choice::from(0), |found, is_equal| found | is_equal)
            .into()
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
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
