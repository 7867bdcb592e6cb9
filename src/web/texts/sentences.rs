//! Sentences with numbers and names, in every language.

use crate::i18n::Language;
use crate::web::shop_health::ShopCondition;

/// State of one shop in a few words.
pub(in crate::web) fn condition(condition: ShopCondition, language: Language) -> String {
    let number = |n: u64| language.number(n);
    let skus =
        |n: u64, forms: [&'static str; 3]| format!("{} {}", number(n), language.plural(n, forms));
    match language {
        Language::English => match condition {
            ShopCondition::InSync => "in sync".to_owned(),
            ShopCondition::NoStock => "no stock yet".to_owned(),
            ShopCondition::NotSending => "not sending: foreign store".to_owned(),
            ShopCondition::Paused => "sending is paused".to_owned(),
            ShopCondition::PausedByOperator => "sending is paused by the operator".to_owned(),
            ShopCondition::Off => "not sending: migrate is off".to_owned(),
            ShopCondition::DryRun => "not sending: dry run".to_owned(),
            ShopCondition::Rejected(n) => {
                format!("the Market rejects {}", skus(n, ["SKU", "SKUs", "SKUs"]))
            }
            ShopCondition::Differing(n) => {
                format!(
                    "{} on the Market",
                    skus(n, ["SKU differs", "", "SKUs differ"])
                )
            }
            ShopCondition::Sending(n) => format!("sending {}", skus(n, ["SKU", "SKUs", "SKUs"])),
            ShopCondition::NotVerified => "sent, not verified yet".to_owned(),
        },
        Language::Russian => match condition {
            ShopCondition::InSync => "остатки совпадают".to_owned(),
            ShopCondition::NoStock => "остатков ещё нет".to_owned(),
            ShopCondition::NotSending => "отправки нет: чужое хранилище".to_owned(),
            ShopCondition::Paused => "отправка приостановлена".to_owned(),
            ShopCondition::PausedByOperator => "отправку приостановил оператор".to_owned(),
            ShopCondition::Off => "отправка выключена".to_owned(),
            ShopCondition::DryRun => "пробный режим, отправки нет".to_owned(),
            ShopCondition::Rejected(n) => format!("Маркет отклоняет {} SKU", number(n)),
            ShopCondition::Differing(n) => format!(
                "на Маркете {} {} SKU",
                language.plural(n, ["расходится", "расходятся", "расходятся"]),
                number(n)
            ),
            ShopCondition::Sending(n) => format!(
                "{} {} SKU",
                language.plural(n, ["отправляется", "отправляются", "отправляются"]),
                number(n)
            ),
            ShopCondition::NotVerified => "отправлено, сверки ещё не было".to_owned(),
        },
        Language::Chinese => match condition {
            ShopCondition::InSync => "库存一致".to_owned(),
            ShopCondition::NoStock => "尚无库存".to_owned(),
            ShopCondition::NotSending => "未发送：存储属于其他安装".to_owned(),
            ShopCondition::Paused => "发送已暂停".to_owned(),
            ShopCondition::PausedByOperator => "发送已由操作员暂停".to_owned(),
            ShopCondition::Off => "未发送：migrate 为 off".to_owned(),
            ShopCondition::DryRun => "试运行，不发送".to_owned(),
            ShopCondition::Rejected(n) => format!("Market 拒绝 {} 个 SKU", number(n)),
            ShopCondition::Differing(n) => format!("Market 上有 {} 个 SKU 不一致", number(n)),
            ShopCondition::Sending(n) => format!("正在发送 {} 个 SKU", number(n)),
            ShopCondition::NotVerified => "已发送，尚未核对".to_owned(),
        },
    }
}

/// Number of shops in sync, as the first sentence of the overview.
pub(in crate::web) fn sync_verdict(in_sync: u64, all: u64, language: Language) -> String {
    let number = |n: u64| language.number(n);
    match language {
        Language::English if in_sync == all => match all {
            1 => "The shop is in sync.".to_owned(),
            _ => format!("All {} shops are in sync.", number(all)),
        },
        Language::English if all == 1 => "The shop is not in sync.".to_owned(),
        Language::English => {
            let verb = if in_sync == 1 { "is" } else { "are" };
            format!(
                "{} of {} shops {verb} in sync.",
                number(in_sync),
                number(all)
            )
        }
        Language::Russian if in_sync == all => match all {
            1 => "Остатки магазина совпадают с Маркетом.".to_owned(),
            _ => format!(
                "Остатки совпадают с Маркетом во всех магазинах ({}).",
                number(all)
            ),
        },
        Language::Russian if all == 1 => {
            "Остатки магазина пока не совпадают с Маркетом.".to_owned()
        }
        Language::Russian => format!(
            "Остатки совпадают с Маркетом в {} из {} магазинов.",
            number(in_sync),
            number(all)
        ),
        Language::Chinese if in_sync == all => match all {
            1 => "店铺库存与 Market 一致。".to_owned(),
            _ => format!("全部 {} 家店铺的库存与 Market 一致。", number(all)),
        },
        Language::Chinese if all == 1 => "店铺库存与 Market 尚不一致。".to_owned(),
        Language::Chinese => format!(
            "{} 家店铺中有 {} 家的库存与 Market 一致。",
            number(all),
            number(in_sync)
        ),
    }
}

/// Number of active alarms; empty without any.
pub(in crate::web) fn alarm_count(alarms: u64, language: Language) -> String {
    let number = language.number(alarms);
    match language {
        _ if alarms == 0 => String::new(),
        Language::English => format!(
            "{number} {}.",
            language.plural(alarms, ["alarm", "", "alarms"])
        ),
        Language::Russian => format!("Тревог: {number}."),
        Language::Chinese => format!("{number} 个告警。"),
    }
}

/// Joins sentences as the language does; empty ones are left out.
pub(in crate::web) fn join(sentences: &[String], language: Language) -> String {
    let sentences: Vec<&str> = sentences
        .iter()
        .map(String::as_str)
        .filter(|sentence| !sentence.is_empty())
        .collect();
    let space = if language == Language::Chinese {
        ""
    } else {
        " "
    };
    sentences.join(space)
}

/// Days until the push API ends, or a sentence that it ends today or has ended.
pub(in crate::web) fn days_left(days: i64, date: &str, language: Language) -> String {
    let count = u64::try_from(days).unwrap_or(0);
    let number = language.number(count);
    match language {
        Language::English if days < 0 => format!("The push API ended on {date}."),
        Language::English if days == 0 => format!("The push API ends today, on {date}."),
        Language::English => format!(
            "The push API ends in {number} {}, on {date}.",
            language.plural(count, ["day", "days", "days"])
        ),
        Language::Russian if days < 0 => format!("Push API отключён {date}."),
        Language::Russian if days == 0 => format!("Push API отключается сегодня ({date})."),
        Language::Russian => format!(
            "До отключения push API {} {number} {} ({date}).",
            language.plural(count, ["остался", "осталось", "осталось"]),
            language.plural(count, ["день", "дня", "дней"])
        ),
        Language::Chinese if days < 0 => format!("推送 API 已于 {date} 停用。"),
        Language::Chinese if days == 0 => format!("推送 API 今天（{date}）停用。"),
        Language::Chinese => format!("推送 API 将在 {number} 天后（{date}）停用。"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_agree_with_their_numbers() {
        for (sentence, expected) in [
            (
                sync_verdict(3, 3, Language::English),
                "All 3 shops are in sync.",
            ),
            (
                sync_verdict(1, 3, Language::English),
                "1 of 3 shops is in sync.",
            ),
            (
                sync_verdict(0, 1, Language::English),
                "The shop is not in sync.",
            ),
            (alarm_count(1, Language::English), "1 alarm."),
            (alarm_count(0, Language::Russian), ""),
            (
                join(
                    &[
                        sync_verdict(1, 1, Language::English),
                        alarm_count(2, Language::English),
                    ],
                    Language::English,
                ),
                "The shop is in sync. 2 alarms.",
            ),
            (
                days_left(1, "31 Dec 2026", Language::English),
                "The push API ends in 1 day, on 31 Dec 2026.",
            ),
            (
                days_left(0, "31 Dec 2026", Language::English),
                "The push API ends today, on 31 Dec 2026.",
            ),
            (
                days_left(0, "31.12.2026", Language::Russian),
                "Push API отключается сегодня (31.12.2026).",
            ),
            (
                days_left(0, "2026-12-31", Language::Chinese),
                "推送 API 今天（2026-12-31）停用。",
            ),
            (
                days_left(33, "31.12.2026", Language::Russian),
                "До отключения push API осталось 33 дня (31.12.2026).",
            ),
            (
                days_left(21, "31.12.2026", Language::Russian),
                "До отключения push API остался 21 день (31.12.2026).",
            ),
            (
                days_left(-1, "2026-12-31", Language::Chinese),
                "推送 API 已于 2026-12-31 停用。",
            ),
            (
                condition(ShopCondition::Sending(1_240), Language::Russian),
                "отправляются 1\u{a0}240 SKU",
            ),
            (
                condition(ShopCondition::Rejected(1), Language::English),
                "the Market rejects 1 SKU",
            ),
            (
                condition(ShopCondition::Differing(1), Language::English),
                "1 SKU differs on the Market",
            ),
        ] {
            assert_eq!(sentence, expected);
        }
    }
}
