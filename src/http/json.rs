//! JSON read strictly, without guessing and without copying.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use axum::http::HeaderValue;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// A JSON object, and nothing else in its place.
///
/// serde's derive also takes an array for a struct, member by member. On a wire that is a
/// guess about what somebody meant, and we do not guess about stock.
#[derive(Clone, Copy, Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyObjects<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyObjects<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(OnlyObjects(PhantomData))
    }
}

/// A JSON string, borrowed from the body unless it holds escapes.
///
/// `Vec<Cow<str>>` would copy every string: serde borrows only where a field itself is a `Cow`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;

        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowing)
    }
}

/// Reads a whole body that must be UTF-8 throughout, in members nobody asks for too.
///
/// Checked as a whole, its texts need not be checked one by one, which would take as long as
/// reading them.
///
/// # Errors
/// A sentence that says what is wrong and where.
pub fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body)
        .map_err(|e| format!("it is not UTF-8 from byte {} on", e.valid_up_to()))?;
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// Whether a `Content-Type` is `application/json`, in UTF-8 if it says in what.
#[must_use]
pub fn is_json(kind: &HeaderValue) -> bool {
    let Ok(kind) = kind.to_str() else { return false };
    let mut parts = kind.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
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
    struct Pair {
        a: u8,
    }

    #[test]
    fn an_array_does_not_pass_for_an_object() {
        assert_eq!(serde_json::from_str::<Object<Pair>>(r#"{"a":1}"#).unwrap().0.a, 1);
        assert!(serde_json::from_str::<Object<Pair>>("[1]").is_err());
        assert!(serde_json::from_str::<Object<Pair>>(r#"{"a":1,"a":2}"#).is_err());
    }

    #[test]
    fn json_is_told_from_other_types_and_charsets() {
        let is = |kind: &'static str| is_json(&HeaderValue::from_static(kind));
        for good in [
            "application/json",
            "application/json;charset=utf-8",
            "Application/JSON; charset=\"UTF-8\"",
            "application/json; odd",
        ] {
            assert!(is(good), "{good}");
        }
        for bad in ["text/plain", "application/json; charset=windows-1251", "application/jsonp", ""]
        {
            assert!(!is(bad), "{bad}");
        }
    }

    #[test]
    fn a_body_is_utf8_throughout_or_refused() {
        let read = |body: &'static [u8]| read_json::<Object<Pair>>(body).map(|o| o.0.a);
        assert_eq!(read(b"{\"a\":1}"), Ok(1));
        assert_eq!(
            read(b"{\"b\":\"\xff\",\"a\":1}").unwrap_err(),
            "it is not UTF-8 from byte 6 on"
        );
    }

    #[test]
    fn strings_are_borrowed_unless_escaped() {
        let texts: Vec<Text<'_>> = serde_json::from_str(r#"["я","\u044f"]"#).unwrap();
        assert!(matches!(texts[0].0, Cow::Borrowed("я")));
        assert!(matches!(&texts[1].0, Cow::Owned(s) if s == "я"));
    }
}
