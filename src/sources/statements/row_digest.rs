//! Digest of a row of a delivery, by which a repeated delivery is recognised after a restart.

use super::staged_record::StagedRecord;

/// An odd number with about as many ones as zeros.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the digest of a row. It does not depend on the position and the date of the row.
pub(super) fn row_digest(name: &str, is_id: bool, row: &StagedRecord<'_>) -> u64 {
    let mut digest = DigestState(FACTOR);
    digest.text(name);
    digest.word(u64::from(is_id));
    digest.text(row.warehouse);
    for number in [row.quantity, row.reserve] {
        digest.word(number.unwrap_or(i64::MIN).cast_unsigned());
    }
    digest.0
}

/// Hash over words. It must stay the same in later releases: it is stored with held deliveries.
struct DigestState(u64);

impl DigestState {
    fn word(&mut self, word: u64) {
        // Each step can be undone, so two states that differ stay different.
        let product = (self.0 ^ word).wrapping_mul(FACTOR);
        self.0 = product ^ (product >> 29);
    }

    fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        let (words, rest) = text.as_bytes().as_chunks();
        words
            .iter()
            .for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(warehouse: &str, quantity: i64) -> StagedRecord<'_> {
        StagedRecord {
            warehouse,
            variant: "",
            part: 0,
            line: 1,
            quantity: Some(quantity),
            reserve: None,
            stated_at: None,
        }
    }

    #[test]
    fn digest_is_stable_across_releases() {
        let digest = row_digest("ART-00017", false, &row("Склад", 5_000));
        assert_eq!(format!("{digest:016x}"), "b4ca645938f18101");
    }

    #[test]
    fn every_field_changes_the_digest() {
        let mut rows = vec![row("", 1), row("", 2), row("w", 1)];
        rows.push(StagedRecord {
            reserve: Some(1),
            ..row("", 1)
        });
        rows.push(StagedRecord {
            quantity: None,
            ..row("", 1)
        });
        let mut digests: Vec<u64> = Vec::new();
        for name in ["A", "A\0", "B", "12345678", "123456789"] {
            for is_id in [false, true] {
                digests.extend(rows.iter().map(|row| row_digest(name, is_id, row)));
            }
        }
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }
}
