//! Tokens and keys, kept from being printed and compared without telling anything.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A token or key. Shown as `***` wherever it is printed.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into custody.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one header it is meant for.
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

/// What is kept of secrets that are only ever compared: their SHA-256.
///
/// Comparing digests in constant time tells a guesser nothing, neither by how long it takes
/// nor by the length of the secret. Every lock is tried whatever the first one says.
#[derive(Clone)]
pub struct TokenSet(Vec<[u8; 32]>);

impl TokenSet {
    /// Locks that open to any of these secrets.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(
            secrets
                .into_iter()
                .map(|secret| digest(secret.expose()))
                .collect(),
        )
    }

    /// Whether this text is one of the secrets.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let candidate = digest(text);
        self.0
            .iter()
            .fold(Choice::from(0), |found, stored| {
                found | stored.ct_eq(&candidate)
            })
            .into()
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} locks", self.0.len())
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_secret_opens() {
        let tokens = TokenSet::new(&[Secret::new("first"), Secret::new("second")]);
        assert!(tokens.contains("first") && tokens.contains("second"));
        for wrong in ["", "First", "firs", "first ", "third"] {
            assert!(!tokens.contains(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("y0_canary")), "***");
    }
}
