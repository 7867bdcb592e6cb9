//! Digests of the settings that all replicas must have in common, one for each part of the
//! configuration, as a replica writes them into its row.

use std::collections::BTreeMap;
use std::fmt;

/// Digest of each part of a configuration: of the service, of each shop and of each source.
///
/// Its text is `service=1f9ab27c shop:moscow=90d1e0a4 source:moscow/erp=77c20b1e`. Names of shops and
/// sources contain neither blanks nor `=`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SettingsDigest(BTreeMap<String, String>);

impl SettingsDigest {
    /// Creates the digest of a configuration from those of its parts.
    #[must_use]
    pub fn new(parts: BTreeMap<String, String>) -> Self {
        Self(parts)
    }

    /// Returns the parts in which another replica, whose row has this release and these digests, has
    /// other settings.
    ///
    /// Nothing is compared with another release, which may have other settings and defaults.
    #[must_use]
    pub fn differing_parts(&self, release: &str, settings: &str) -> Vec<String> {
        if release != env!("CARGO_PKG_VERSION") || settings.is_empty() {
            return Vec::new();
        }
        let other: BTreeMap<&str, &str> = settings
            .split(' ')
            .filter_map(|part| part.split_once('='))
            .collect();
        let own: BTreeMap<&str, &str> = self.0.iter().map(|(k, v)| (&**k, &**v)).collect();
        let mut parts: Vec<&str> = own.keys().chain(other.keys()).copied().collect();
        parts.sort_unstable();
        parts.dedup();
        parts.retain(|part| own.get(part) != other.get(part));
        parts.into_iter().map(str::to_owned).collect()
    }
}

impl fmt::Display for SettingsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (part, digest)) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{part}={digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_differ_are_named() {
        let parts = ["service=1", "shop:a=2", "source:a/erp=3"];
        let parts = parts.map(|part| part.split_once('=').unwrap());
        let own = parts.map(|(part, digest)| (part.to_owned(), digest.to_owned()));
        let own = SettingsDigest::new(own.into());
        let text = own.to_string();
        assert_eq!(text, "service=1 shop:a=2 source:a/erp=3");
        let this = env!("CARGO_PKG_VERSION");
        for (release, settings, expected) in [
            (this, &*text, &[][..]),
            (this, "service=1 shop:a=9 source:a/erp=3", &["shop:a"]),
            (this, "service=1 shop:a=2", &["source:a/erp"]),
            (
                this,
                "service=0 shop:a=2 shop:b=4 source:a/erp=3",
                &["service", "shop:b"],
            ),
            // Replicas of other releases, and of one without digests.
            ("0.0.1", "service=0", &[]),
            (this, "", &[]),
            ("", "", &[]),
        ] {
            let differing = own.differing_parts(release, settings);
            assert_eq!(differing, expected, "{release} {settings}");
        }
    }
}
