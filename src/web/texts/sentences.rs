//! Sentences with numbers and names, in every language.

use super::skus;
use crate::i18n::Language;
use crate::web::shop_health::ShopCondition;

/// State of one shop in a few words.
pub(in crate::web) fn condition(condition: ShopCondition, language: Language) -> String {
    let text = match condition {
        ShopCondition::InSync => ["in sync", "остатки совпадают", "库存一致"],
        ShopCondition::NoStock => ["no stock yet", "остатков ещё нет", "尚无库存"],
        ShopCondition::NotSending => [
            "not sending: foreign store",
            "отправки нет: чужое хранилище",
            "未发送：存储属于其他安装",
        ],
        ShopCondition::Paused => ["sending is paused", "отправка приостановлена", "发送已暂停"],
        ShopCondition::PausedByOperator => [
            "sending is paused by the operator",
            "отправку приостановил оператор",
            "发送已由操作员暂停",
        ],
        ShopCondition::Off => [
            "not sending: migrate is off",
            "отправка выключена",
            "未发送：migrate 为 off",
        ],
        ShopCondition::SentElsewhere => [
            "another replica sends",
            "отправляет другая реплика",
            "由其他副本发送",
        ],
        ShopCondition::DryRun => [
            "not sending: dry run",
            "пробный режим, отправки нет",
            "试运行，不发送",
        ],
        ShopCondition::NotVerified => [
            "sent, not verified yet",
            "отправлено, сверки ещё не было",
            "已发送，尚未核对",
        ],
        ShopCondition::Rejected(n) => {
            let verb = language.choose(["the Market rejects", "Маркет отклоняет", "Market 拒绝"]);
            return format!("{verb} {}", skus(n, language));
        }
        ShopCondition::Differing(n) => return differing(n, language),
        ShopCondition::Sending(n) => {
            let russian = ["отправляется", "отправляются", "отправляются"];
            let verb = language.choose(["sending", language.plural(n, russian), "正在发送"]);
            return format!("{verb} {}", skus(n, language));
        }
    };
    language.choose(text).to_owned()
}

fn differing(n: u64, language: Language) -> String {
    let skus = skus(n, language);
    match language {
        Language::English => {
            let verb = language.plural(n, ["differs", "", "differ"]);
            format!("{skus} {verb} on the Market")
        }
        Language::Russian => {
            let verb = language.plural(n, ["расходится", "расходятся", "расходятся"]);
            format!("на Маркете {verb} {skus}")
        }
        Language::Chinese => format!("Market 上有 {skus} 不一致"),
    }
}

/// Number of shops in sync, as the first sentence of the overview.
pub(in crate::web) fn sync_verdict(in_sync: u64, all: u64, language: Language) -> String {
    let (number, of) = (language.number(in_sync), language.number(all));
    let verb = language.plural(in_sync, ["is", "", "are"]);
    language.choose(match (in_sync == all, all) {
        (true, 1) => [
            "The shop is in sync.".to_owned(),
            "Остатки магазина совпадают с Маркетом.".to_owned(),
            "店铺库存与 Market 一致。".to_owned(),
        ],
        (false, 1) => [
            "The shop is not in sync.".to_owned(),
            "Остатки магазина пока не совпадают с Маркетом.".to_owned(),
            "店铺库存与 Market 尚不一致。".to_owned(),
        ],
        (true, _) => [
            format!("All {of} shops are in sync."),
            format!("Остатки совпадают с Маркетом во всех магазинах ({of})."),
            format!("全部 {of} 家店铺的库存与 Market 一致。"),
        ],
        (false, _) => [
            format!("{number} of {of} shops {verb} in sync."),
            format!("Остатки совпадают с Маркетом в {number} из {of} магазинов."),
            format!("{of} 家店铺中有 {number} 家的库存与 Market 一致。"),
        ],
    })
}

/// Number of active alarms; empty without any.
pub(in crate::web) fn alarm_count(alarms: u64, language: Language) -> String {
    let number = language.number(alarms);
    match language {
        _ if alarms == 0 => String::new(),
        Language::English => {
            let noun = language.plural(alarms, ["alarm", "", "alarms"]);
            format!("{number} {noun}.")
        }
        Language::Russian => format!("Тревог: {number}."),
        Language::Chinese => format!("{number} 个告警。"),
    }
}

/// Number of alarms that a card does not name; empty without any.
pub(in crate::web) fn other_alarms(n: u64, language: Language) -> String {
    let number = language.number(n);
    match language {
        _ if n == 0 => String::new(),
        Language::English => format!("and {number} more"),
        Language::Russian => format!("и ещё {number}"),
        Language::Chinese => format!("另有 {number} 个"),
    }
}

/// Joins sentences as the language does; empty ones are left out.
pub(in crate::web) fn join(sentences: &[String], language: Language) -> String {
    let sentences = sentences.iter().map(String::as_str);
    let sentences: Vec<&str> = sentences.filter(|it| !it.is_empty()).collect();
    sentences.join(language.choose([" ", " ", ""]))
}

/// Days until the push API ends, or a sentence that it ends today or has ended.
pub(in crate::web) fn days_left(days: i64, date: &str, language: Language) -> String {
    let count = u64::try_from(days).unwrap_or(0);
    let number = language.number(count);
    match language {
        Language::English if days < 0 => format!("The push API ended on {date}."),
        Language::English if days == 0 => format!("The push API ends today, on {date}."),
        Language::English => {
            let noun = language.plural(count, ["day", "", "days"]);
            format!("The push API ends in {number} {noun}, on {date}.")
        }
        Language::Russian if days < 0 => format!("Push API отключён {date}."),
        Language::Russian if days == 0 => format!("Push API отключается сегодня ({date})."),
        Language::Russian => {
            let verb = language.plural(count, ["остался", "осталось", "осталось"]);
            let noun = language.plural(count, ["день", "дня", "дней"]);
            format!("До отключения push API {verb} {number} {noun} ({date}).")
        }
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
            (other_alarms(0, Language::Russian), ""),
            (other_alarms(80, Language::Russian), "и ещё 80"),
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
