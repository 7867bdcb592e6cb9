//! Times and durations as a reader of the page's language writes them.

use chrono::{DateTime, TimeDelta, Utc};

use super::texts::Text;
use crate::i18n::Language;

/// Age in one unit, such as `5 min ago`.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>, language: Language) -> String {
    let Some(age) = in_one_unit(now - at, language) else {
        return language
            .choose(["just now", "только что", "刚刚"])
            .to_owned();
    };
    match language {
        Language::English => format!("{age} ago"),
        Language::Russian => format!("{age} назад"),
        Language::Chinese => format!("{age}前"),
    }
}

/// Time until a moment in one unit, such as `in 5 min`.
pub(super) fn ahead(at: DateTime<Utc>, now: DateTime<Utc>, language: Language) -> String {
    let Some(rest) = in_one_unit(at - now, language) else {
        return Text::SOON.in_language(language).to_owned();
    };
    match language {
        Language::English => format!("in {rest}"),
        Language::Russian => format!("через {rest}"),
        Language::Chinese => format!("{rest}后"),
    }
}

/// Formats a distance in whole minutes, hours or days; `None` if it is less than a minute.
fn in_one_unit(distance: TimeDelta, language: Language) -> Option<String> {
    let (number, unit) = if distance < TimeDelta::minutes(1) {
        return None;
    } else if distance < TimeDelta::hours(2) {
        (distance.num_minutes(), ["min", "мин", "分钟"])
    } else if distance < TimeDelta::days(2) {
        (distance.num_hours(), ["h", "ч", "小时"])
    } else {
        (distance.num_days(), ["d", "дн.", "天"])
    };
    Some(with_unit(&number.to_string(), unit, language))
}

/// Duration in milliseconds or seconds.
pub(super) fn duration(milliseconds: i64, language: Language) -> String {
    if milliseconds < 1_000 {
        let number = milliseconds.max(0).to_string();
        return with_unit(&number, ["ms", "мс", "毫秒"], language);
    }
    let mark = decimal_mark(language);
    let number = format!(
        "{}{mark}{}",
        milliseconds / 1_000,
        milliseconds % 1_000 / 100
    );
    with_unit(&number, ["s", "с", "秒"], language)
}

/// Mark before the decimals of a number.
pub(super) fn decimal_mark(language: Language) -> char {
    language.choose(['.', ',', '.'])
}

fn with_unit(number: &str, unit: [&str; 3], language: Language) -> String {
    let space = language.choose(["\u{a0}", "\u{a0}", ""]);
    format!("{number}{space}{}", language.choose(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let now: DateTime<Utc> = "2026-11-29T12:00:00Z".parse().unwrap();
        for (at, english, russian, chinese) in [
            ("2026-11-29T12:00:01Z", "just now", "только что", "刚刚"),
            ("2026-11-29T11:59:01Z", "just now", "только что", "刚刚"),
            (
                "2026-11-29T11:59:00Z",
                "1\u{a0}min ago",
                "1\u{a0}мин назад",
                "1分钟前",
            ),
            (
                "2026-11-29T10:01:00Z",
                "119\u{a0}min ago",
                "119\u{a0}мин назад",
                "119分钟前",
            ),
            (
                "2026-11-29T10:00:00Z",
                "2\u{a0}h ago",
                "2\u{a0}ч назад",
                "2小时前",
            ),
            (
                "2026-11-27T12:00:00Z",
                "2\u{a0}d ago",
                "2\u{a0}дн. назад",
                "2天前",
            ),
        ] {
            let at = at.parse().unwrap();
            assert_eq!(ago(at, now, Language::English), english);
            assert_eq!(ago(at, now, Language::Russian), russian);
            assert_eq!(ago(at, now, Language::Chinese), chinese);
        }
    }

    #[test]
    fn times_ahead_have_one_unit() {
        let now: DateTime<Utc> = "2026-11-29T12:00:00Z".parse().unwrap();
        for (seconds, english, russian, chinese) in [
            (
                -5,
                "in less than a minute",
                "меньше чем через минуту",
                "不到 1 分钟后",
            ),
            (
                59,
                "in less than a minute",
                "меньше чем через минуту",
                "不到 1 分钟后",
            ),
            (60, "in 1\u{a0}min", "через 1\u{a0}мин", "1分钟后"),
            (7_200, "in 2\u{a0}h", "через 2\u{a0}ч", "2小时后"),
            (172_800, "in 2\u{a0}d", "через 2\u{a0}дн.", "2天后"),
        ] {
            let at = now + TimeDelta::seconds(seconds);
            assert_eq!(ahead(at, now, Language::English), english);
            assert_eq!(ahead(at, now, Language::Russian), russian);
            assert_eq!(ahead(at, now, Language::Chinese), chinese);
        }
    }
}
