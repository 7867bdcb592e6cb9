//! The expiry date of an X.509 certificate.
//!
//! Parses only as much DER as leads to `validity.notAfter`. The signature and the chain are not
//! verified here, because rustls has already accepted the certificate.

use chrono::{DateTime, NaiveDateTime, Utc};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// Explicit tag of `version`, which X.509 version 1 omits.
const VERSION: u8 = 0xa0;

/// Returns the end of a certificate's validity, or `None` if the bytes are not a certificate.
///
/// Source: RFC 5280, sections 4.1 and 4.1.2.5.
pub(super) fn not_after(der: &[u8]) -> Option<DateTime<Utc>> {
    let mut certificate = DerReader(DerReader(der).expect_tag(SEQUENCE)?);
    let mut signed = DerReader(certificate.expect_tag(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.expect_tag(VERSION)?;
    }
    signed.expect_tag(INTEGER)?; // serialNumber
    signed.expect_tag(SEQUENCE)?; // signature
    signed.expect_tag(SEQUENCE)?; // issuer
    let mut validity = DerReader(signed.expect_tag(SEQUENCE)?);
    validity.element()?; // notBefore
    let (tag, text) = validity.element()?;
    parse_time(tag, std::str::from_utf8(text).ok()?)
}

/// Parses a time. Two-digit years are from 1950 to 2049.
fn parse_time(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let full = match tag {
        GENERALIZED_TIME => text.to_owned(),
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => return None,
    };
    Some(
        NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%SZ")
            .ok()?
            .and_utc(),
    )
}

/// Reader of consecutive DER elements.
struct DerReader<'a>(&'a [u8]);

impl<'a> DerReader<'a> {
    /// Returns the tag and the contents of the next element.
    fn element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if length < 0x80 {
            (usize::from(length), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            // Three bytes of length allow 16 MiB, more than any certificate has.
            if bytes.is_empty() || bytes.len() > 3 {
                return None;
            }
            (
                bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                rest,
            )
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    fn expect_tag(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element()
            .filter(|(found, _)| *found == tag)
            .map(|(_, contents)| contents)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn reads_the_end_of_validity() {
        let pem = include_bytes!("../../../fixtures/doctor/certificate.pem");
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        let until = not_after(&certificate).unwrap();
        assert_eq!(until.to_rfc3339(), "2036-11-19T00:36:08+00:00");
        for length in 0..certificate.len() {
            assert_eq!(not_after(&certificate[..length]), None, "cut at {length}");
        }
        assert_eq!(not_after(b"not a certificate"), None);
    }

    #[test]
    fn two_digit_years_span_1950_to_2049() {
        for (tag, text, expected) in [
            (UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59+00:00")),
            (UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00+00:00")),
            (
                GENERALIZED_TIME,
                "20500101000000Z",
                Some("2050-01-01T00:00:00+00:00"),
            ),
            (UTC_TIME, "20500101000000Z", None),
            (INTEGER, "491231235959Z", None),
            (UTC_TIME, "№", None),
        ] {
            let found = parse_time(tag, text).map(|time| time.to_rfc3339());
            assert_eq!(found.as_deref(), expected, "{tag}: {text}");
        }
    }
}
