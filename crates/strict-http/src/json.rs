//! Strict JSON reading without copies, and JSON content types.
//!
//! An array is not accepted as an object, and the whole body must be UTF-8.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use axum::http::HeaderValue;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// JSON object of type `T`. An array is rejected.
///
/// serde's derive also accepts an array for a struct, member by member. Such a body has an
/// unclear meaning, and stock must not be guessed.
#[derive(Clone, Copy, Debug)]
pub struct StrictObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for StrictObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = StrictObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(StrictObject)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// JSON string, borrowed from the body unless it contains escapes.
///
/// `Vec<Cow<str>>` would copy every string: serde borrows only where a field itself is a `Cow`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JsonText<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for JsonText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = JsonText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(JsonText(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(JsonText(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads a whole body, which must be UTF-8 throughout, unknown members included.
///
/// One check of the whole body is faster than a check of each string.
///
/// # Errors
/// A sentence with the broken rule and its position.
pub fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body)
        .map_err(|e| format!("it is not UTF-8 from byte {} on", e.valid_up_to()))?;
    serde_json::from_str(text).map_err(|e| truncate_middle(e.to_string()))
}

/// Longest error message about a body, in characters. serde repeats a value of a wrong type whole.
const MAX_MESSAGE_CHARS: usize = 500;

/// Removes the middle of a message that is too long. Its end names the position of the error.
fn truncate_middle(message: String) -> String {
    let length = message.chars().count();
    if length <= MAX_MESSAGE_CHARS {
        return message;
    }
    let half = MAX_MESSAGE_CHARS / 2;
    let start: String = message.chars().take(half).collect();
    let end: String = message.chars().skip(length - half).collect();
    format!("{start}…{end}")
}

/// Largest exponent that is expanded. No stock quantity needs a larger one.
const MAX_EXPONENT: i32 = 40;

/// Returns a JSON number in plain digits without loss of precision: `1.5E+2` becomes `150`.
///
/// Returns `None` if the text is not a JSON number or its exponent is outside ±40.
#[must_use]
pub fn expand_exponent(number: &str) -> Option<Cow<'_, str>> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return Some(Cow::Borrowed(number));
    };
    let exponent: i32 = exponent.parse().ok()?;
    if !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
        return None;
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or_default());
    let length = i32::try_from(digits.len()).ok()?;
    Some(Cow::Owned(match usize::try_from(point) {
        Ok(split_index) if point < length => {
            let (whole, fraction) = digits.split_at(split_index);
            format!("{sign}0{whole}.{fraction}")
        }
        Ok(_) => format!("{sign}{digits}{}", zeros(point - length)),
        Err(_) => format!("{sign}0.{}{digits}", zeros(-point)),
    }))
}

/// Returns true if a `Content-Type` is `application/json` and its charset, if any, is UTF-8.
#[must_use]
pub fn is_json(content_type: &HeaderValue) -> bool {
    let Ok(content_type) = content_type.to_str() else {
        return false;
    };
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let is_json = media_type.eq_ignore_ascii_case("application/json");
    let is_utf8 = |part: &str| match part.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    };
    is_json && parts.all(is_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct SingleMemberObject {
        a: u8,
    }

    #[test]
    fn rejects_an_array_instead_of_an_object() {
        assert_eq!(
            serde_json::from_str::<StrictObject<SingleMemberObject>>(r#"{"a":1}"#)
                .unwrap()
                .0
                .a,
            1
        );
        assert!(serde_json::from_str::<StrictObject<SingleMemberObject>>("[1]").is_err());
        assert!(
            serde_json::from_str::<StrictObject<SingleMemberObject>>(r#"{"a":1,"a":2}"#).is_err()
        );
    }

    #[test]
    fn recognizes_json_content_types() {
        let is_json_type =
            |content_type: &'static str| is_json(&HeaderValue::from_static(content_type));
        for good in [
            "application/json",
            "application/json;charset=utf-8",
            "Application/JSON; charset=\"UTF-8\"",
            "application/json; odd",
        ] {
            assert!(is_json_type(good), "{good}");
        }
        for bad in [
            "text/plain",
            "application/json; charset=windows-1251",
            "application/jsonp",
            "",
        ] {
            assert!(!is_json_type(bad), "{bad}");
        }
    }

    #[test]
    fn rejects_bodies_that_are_not_utf8() {
        let read = |body: &'static [u8]| {
            read_json::<StrictObject<SingleMemberObject>>(body).map(|o| o.0.a)
        };
        assert_eq!(read(b"{\"a\":1}"), Ok(1));
        assert_eq!(
            read(b"{\"b\":\"\xff\",\"a\":1}").unwrap_err(),
            "it is not UTF-8 from byte 6 on"
        );
    }

    #[test]
    fn expands_exponents_exactly() {
        for (number, plain) in [
            ("46.50", Some("46.50")),
            ("1E+2", Some("100")),
            ("1.5e2", Some("150")),
            ("-1.25e1", Some("-012.5")),
            ("5e-4", Some("0.0005")),
            ("12e-1", Some("01.2")),
            ("1e0", Some("1")),
            ("1e41", None),
            ("1e99999999999", None),
            ("e5", None),
            ("яe5", None),
        ] {
            assert_eq!(expand_exponent(number).as_deref(), plain, "{number}");
        }
    }

    #[test]
    fn strings_are_borrowed_unless_escaped() {
        let texts: Vec<JsonText<'_>> = serde_json::from_str(r#"["я","\u044f"]"#).unwrap();
        assert!(matches!(texts[0].0, Cow::Borrowed("я")));
        assert!(matches!(&texts[1].0, Cow::Owned(s) if s == "я"));
    }
}
