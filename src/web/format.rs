//! Times and durations as a reader of the page's language writes them.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};

use crate::i18n::{Language, zone_name};

/// Time of day to the second.
pub(super) fn clock(at: DateTime<Utc>, zone: FixedOffset) -> String {
    at.with_timezone(&zone).format("%H:%M:%S").to_string()
}

/// Date and time with the zone, for the title of a relative time.
pub(super) fn full(at: DateTime<Utc>, zone: FixedOffset, language: Language) -> String {
    format!("{} {}", language.date_time(at, zone), zone_name(zone))
}

/// Age in one unit, such as `5 min ago`.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>, language: Language) -> String {
    let age = now - at;
    let (number, [english, russian, chinese]) = if age < TimeDelta::minutes(1) {
        return match language {
            Language::English => "just now",
            Language::Russian => "только что",
            Language::Chinese => "刚刚",
        }
        .to_owned();
    } else if age < TimeDelta::hours(2) {
        (age.num_minutes(), ["min", "мин", "分钟"])
    } else if age < TimeDelta::days(2) {
        (age.num_hours(), ["h", "ч", "小时"])
    } else {
        (age.num_days(), ["d", "дн.", "天"])
    };
    match language {
        Language::English => format!("{number}\u{a0}{english} ago"),
        Language::Russian => format!("{number}\u{a0}{russian} назад"),
        Language::Chinese => format!("{number}{chinese}前"),
    }
}

/// Time until a moment in one unit, such as `in 5 min`.
pub(super) fn ahead(at: DateTime<Utc>, now: DateTime<Utc>, language: Language) -> String {
    let rest = at - now;
    let (number, [english, russian, chinese]) = if rest < TimeDelta::minutes(1) {
        return match language {
            Language::English => "in less than a minute",
            Language::Russian => "меньше чем через минуту",
            Language::Chinese => "不到 1 分钟后",
        }
        .to_owned();
    } else if rest < TimeDelta::hours(2) {
        (rest.num_minutes(), ["min", "мин", "分钟"])
    } else if rest < TimeDelta::days(2) {
        (rest.num_hours(), ["h", "ч", "小时"])
    } else {
        (rest.num_days(), ["d", "дн.", "天"])
    };
    match language {
        Language::English => format!("in {number}\u{a0}{english}"),
        Language::Russian => format!("через {number}\u{a0}{russian}"),
        Language::Chinese => format!("{number}{chinese}后"),
    }
}

/// Duration in milliseconds or seconds.
pub(super) fn duration(milliseconds: i64, language: Language) -> String {
    let is_short = milliseconds < 1_000;
    let number = if is_short {
        milliseconds.max(0).to_string()
    } else {
        format!("{}.{}", milliseconds / 1_000, milliseconds % 1_000 / 100)
    };
    match language {
        Language::English if is_short => format!("{number}\u{a0}ms"),
        Language::English => format!("{number}\u{a0}s"),
        Language::Russian if is_short => format!("{number}\u{a0}мс"),
        Language::Russian => format!("{}\u{a0}с", number.replace('.', ",")),
        Language::Chinese if is_short => format!("{number}毫秒"),
        Language::Chinese => format!("{number}秒"),
    }
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
