//! Checks, reasons and verdicts of the switch-over, in every language.

use crate::i18n::Language;
use crate::ops::{ReadinessCheck, ReadinessReason};
use crate::web::visible::visible;

/// Condition that a check verifies.
pub(in crate::web) const fn readiness_check(
    check: ReadinessCheck,
    language: Language,
) -> &'static str {
    match language {
        Language::English => match check {
            ReadinessCheck::SendingOn => "Sending is on",
            ReadinessCheck::StockKnown => "The stock of the shop is known",
            ReadinessCheck::RequestsSeen => "The Market has requested stock",
            ReadinessCheck::RequestsCovered => "All recently requested SKUs have known stock",
            ReadinessCheck::RequestsAcknowledged => {
                "The Market has accepted the stock of all requested SKUs"
            }
            ReadinessCheck::EverythingSent => "Everything is sent",
            ReadinessCheck::NothingRejected => "The Market rejects no SKU",
            ReadinessCheck::NotPaused => "Sending is not paused",
            ReadinessCheck::NoDifference => "No SKU differs on the Market without an explanation",
            ReadinessCheck::AllShown => "The Market shows all accepted SKUs",
            ReadinessCheck::RecentFullMatch => "Full match of a read-back in the last 24 hours",
            ReadinessCheck::SourcesActive => "Stock was stated recently",
        },
        Language::Russian => match check {
            ReadinessCheck::SendingOn => "Отправка включена",
            ReadinessCheck::StockKnown => "Остатки магазина известны",
            ReadinessCheck::RequestsSeen => "Маркет запрашивал остатки",
            ReadinessCheck::RequestsCovered => "У всех SKU из недавних запросов остаток известен",
            ReadinessCheck::RequestsAcknowledged => "Маркет принял остатки всех запрошенных SKU",
            ReadinessCheck::EverythingSent => "Всё отправлено",
            ReadinessCheck::NothingRejected => "Маркет не отклоняет ни одного SKU",
            ReadinessCheck::NotPaused => "Отправка не приостановлена",
            ReadinessCheck::NoDifference => "На Маркете нет необъяснённых расхождений",
            ReadinessCheck::AllShown => "Маркет показывает все принятые SKU",
            ReadinessCheck::RecentFullMatch => "Сверка за последние 24 часа полностью совпала",
            ReadinessCheck::SourcesActive => "Остатки передавались недавно",
        },
        Language::Chinese => match check {
            ReadinessCheck::SendingOn => "发送已开启",
            ReadinessCheck::StockKnown => "店铺库存已知",
            ReadinessCheck::RequestsSeen => "Market 请求过库存",
            ReadinessCheck::RequestsCovered => "最近请求的所有 SKU 库存均已知",
            ReadinessCheck::RequestsAcknowledged => "Market 已接受所有被请求 SKU 的库存",
            ReadinessCheck::EverythingSent => "全部已发送",
            ReadinessCheck::NothingRejected => "Market 没有拒绝任何 SKU",
            ReadinessCheck::NotPaused => "发送未暂停",
            ReadinessCheck::NoDifference => "Market 上没有无法解释的差异",
            ReadinessCheck::AllShown => "Market 显示所有已接受的 SKU",
            ReadinessCheck::RecentFullMatch => "最近 24 小时内核对完全一致",
            ReadinessCheck::SourcesActive => "最近提供过库存",
        },
    }
}

/// Reason against switching off, or a remark, as a sentence without
/// [its detail](ReadinessReason::detail).
pub(in crate::web) fn readiness_reason(reason: &ReadinessReason, language: Language) -> String {
    match language {
        Language::English => english(reason),
        Language::Russian => russian(reason),
        Language::Chinese => chinese(reason),
    }
}

fn count(n: usize, language: Language) -> String {
    language.number(n as u64)
}

fn hours(n: i64, language: Language) -> String {
    language.number(n.unsigned_abs())
}

fn english(reason: &ReadinessReason) -> String {
    let language = Language::English;
    let number = |n: usize| count(n, language);
    let skus = |n: usize| {
        let unit = language.plural(n as u64, ["SKU", "SKUs", "SKUs"]);
        format!("{} {unit}", number(n))
    };
    let skus_of = |n: u64| skus(usize::try_from(n).unwrap_or(usize::MAX));
    match reason {
        ReadinessReason::NotSending(_) => "Nothing is sent.".to_owned(),
        ReadinessReason::ModeNotOn(mode) => {
            format!("Nothing is sent: migrate is \"{mode}\".")
        }
        ReadinessReason::NoStock => "No stock is known yet.".to_owned(),
        ReadinessReason::NothingRequested => {
            "The Market has requested nothing yet, so it is unknown which SKUs it needs.".to_owned()
        }
        ReadinessReason::MissingStock { missing, asked, .. } => format!(
            "{} of {} requested SKUs have no known stock.",
            number(*missing),
            number(*asked)
        ),
        ReadinessReason::NotAcknowledged(n) => {
            format!("{}: the Market has not accepted the stock yet.", skus(*n))
        }
        ReadinessReason::RequestsForgotten => {
            "The Market requested more unknown SKUs than are remembered.".to_owned()
        }
        ReadinessReason::WaitingToSend(n) => format!("Still to be sent: {}.", skus(*n)),
        ReadinessReason::Rejected { count: n, sku, .. } => {
            format!("The Market rejects {}, such as {}.", skus(*n), visible(sku))
        }
        ReadinessReason::Paused(_) => "Sending is paused.".to_owned(),
        ReadinessReason::Drifted(n) => format!("Different on the Market: {}.", skus_of(*n)),
        ReadinessReason::NotShown(n) => {
            format!("Accepted, but not shown by the Market: {}.", skus_of(*n))
        }
        ReadinessReason::FullMatchTooOld(n) => format!(
            "The last full match was {} h ago: run stockbridge verify.",
            hours(*n, language)
        ),
        ReadinessReason::NeverFullMatch => {
            "There was no full match yet: run stockbridge verify.".to_owned()
        }
        ReadinessReason::NotOurs(n) => format!(
            "The Market shows stock that you never stated: {}.",
            skus_of(*n)
        ),
        ReadinessReason::SourcesSilent(n) => {
            format!("No stock was stated for {} h.", hours(*n, language))
        }
    }
}

fn russian(reason: &ReadinessReason) -> String {
    let language = Language::Russian;
    let number = |n: usize| count(n, language);
    match reason {
        ReadinessReason::NotSending(_) => "Остатки не отправляются.".to_owned(),
        ReadinessReason::ModeNotOn(mode) => {
            format!("Остатки не отправляются: migrate = \"{mode}\".")
        }
        ReadinessReason::NoStock => "Остатков ещё нет.".to_owned(),
        ReadinessReason::NothingRequested => {
            "Маркет ещё ничего не запрашивал, поэтому неизвестно, какие SKU ему нужны.".to_owned()
        }
        ReadinessReason::MissingStock { missing, asked, .. } => format!(
            "Нет остатка у {} из {} запрошенных SKU.",
            number(*missing),
            number(*asked)
        ),
        ReadinessReason::NotAcknowledged(n) => {
            format!("Маркет ещё не принял остатки {} SKU.", number(*n))
        }
        ReadinessReason::RequestsForgotten => {
            "Маркет запросил больше неизвестных SKU, чем запоминает сервис.".to_owned()
        }
        ReadinessReason::WaitingToSend(n) => {
            let verb = language.plural(*n as u64, ["Ждёт", "Ждут", "Ждут"]);
            format!("{verb} отправки {} SKU.", number(*n))
        }
        ReadinessReason::Rejected { count: n, sku, .. } => format!(
            "Маркет отклоняет {} SKU, например {}.",
            number(*n),
            visible(sku)
        ),
        ReadinessReason::Paused(_) => "Отправка приостановлена.".to_owned(),
        ReadinessReason::Drifted(n) => format!(
            "На Маркете {} {} SKU.",
            language.plural(*n, ["расходится", "расходятся", "расходятся"]),
            language.number(*n)
        ),
        ReadinessReason::NotShown(n) => {
            format!(
                "Приняты, но не показаны на Маркете: {} SKU.",
                language.number(*n)
            )
        }
        ReadinessReason::FullMatchTooOld(n) => format!(
            "Последнее полное совпадение было {} ч назад: запустите stockbridge verify.",
            hours(*n, language)
        ),
        ReadinessReason::NeverFullMatch => {
            "Полного совпадения ещё не было: запустите stockbridge verify.".to_owned()
        }
        ReadinessReason::NotOurs(n) => format!(
            "Маркет показывает остатки, которые вы не передавали: {} SKU.",
            language.number(*n)
        ),
        ReadinessReason::SourcesSilent(n) => {
            format!("Остатки не передавались {} ч.", hours(*n, language))
        }
    }
}

fn chinese(reason: &ReadinessReason) -> String {
    let language = Language::Chinese;
    let number = |n: usize| count(n, language);
    match reason {
        ReadinessReason::NotSending(_) => "未发送。".to_owned(),
        ReadinessReason::ModeNotOn(mode) => format!("未发送：migrate 为 {mode}。"),
        ReadinessReason::NoStock => "尚无库存。".to_owned(),
        ReadinessReason::NothingRequested => {
            "Market 尚未请求库存，因此不知道它需要哪些 SKU。".to_owned()
        }
        ReadinessReason::MissingStock { missing, asked, .. } => format!(
            "被请求的 {} 个 SKU 中有 {} 个库存未知。",
            number(*asked),
            number(*missing)
        ),
        ReadinessReason::NotAcknowledged(n) => {
            format!("Market 尚未接受 {} 个 SKU 的库存。", number(*n))
        }
        ReadinessReason::RequestsForgotten => {
            "Market 请求的未知 SKU 超过了服务能记住的数量。".to_owned()
        }
        ReadinessReason::WaitingToSend(n) => format!("{} 个 SKU 待发送。", number(*n)),
        ReadinessReason::Rejected { count: n, sku, .. } => {
            format!("Market 拒绝 {} 个 SKU，例如 {}。", number(*n), visible(sku))
        }
        ReadinessReason::Paused(_) => "发送已暂停。".to_owned(),
        ReadinessReason::Drifted(n) => {
            format!("Market 上有 {} 个 SKU 不一致。", language.number(*n))
        }
        ReadinessReason::NotShown(n) => {
            format!("{} 个 SKU 已接受，但 Market 未显示。", language.number(*n))
        }
        ReadinessReason::FullMatchTooOld(n) => format!(
            "最近一次完全一致在 {} 小时前：请运行 stockbridge verify。",
            hours(*n, language)
        ),
        ReadinessReason::NeverFullMatch => {
            "还没有完全一致过：请运行 stockbridge verify。".to_owned()
        }
        ReadinessReason::NotOurs(n) => format!(
            "Market 显示了 {} 个您从未提供库存的 SKU。",
            language.number(*n)
        ),
        ReadinessReason::SourcesSilent(n) => {
            format!("已有 {} 小时没有提供库存。", hours(*n, language))
        }
    }
}

/// Verdict of one shop.
pub(in crate::web) const fn shop_verdict(is_ready: bool, language: Language) -> &'static str {
    match (is_ready, language) {
        (true, Language::English) => "READY",
        (false, Language::English) => "NOT YET",
        (true, Language::Russian) => "ГОТОВО",
        (false, Language::Russian) => "ЕЩЁ РАНО",
        (true, Language::Chinese) => "就绪",
        (false, Language::Chinese) => "尚未就绪",
    }
}

/// Verdict of all shops. `first` is the first reason, `others` the number of further reasons.
pub(in crate::web) fn readiness_verdict(
    first: Option<&str>,
    others: u64,
    language: Language,
) -> String {
    let Some(first) = first else {
        return match language {
            Language::English => "READY: the push API can be switched off.",
            Language::Russian => "ГОТОВО: push API можно отключать.",
            Language::Chinese => "就绪：可以停用推送 API。",
        }
        .to_owned();
    };
    let number = language.number(others);
    let more = match language {
        _ if others == 0 => String::new(),
        Language::English => format!(
            " And {number} {}.",
            language.plural(others, ["other reason", "", "other reasons"])
        ),
        Language::Russian => format!(
            " И ещё {number} {}.",
            language.plural(others, ["причина", "причины", "причин"])
        ),
        Language::Chinese => format!("另有 {number} 个原因。"),
    };
    match language {
        Language::English => format!("NOT YET: {first}{more}"),
        Language::Russian => format!("ЕЩЁ РАНО: {first}{more}"),
        Language::Chinese => format!("尚未就绪：{first}{more}"),
    }
}

/// Time of a report.
pub(in crate::web) fn as_of(time: &str, language: Language) -> String {
    match language {
        Language::English => format!("As of {time}."),
        Language::Russian => format!("По данным на {time}."),
        Language::Chinese => format!("截至 {time}。"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrator::Mode;

    #[test]
    fn reasons_are_sentences_in_every_language() {
        let reasons = [
            ReadinessReason::NotSending("x".to_owned()),
            ReadinessReason::ModeNotOn(Mode::DryRun),
            ReadinessReason::NoStock,
            ReadinessReason::NothingRequested,
            ReadinessReason::MissingStock {
                missing: 1_240,
                asked: 9_000,
                examples: Vec::new(),
            },
            ReadinessReason::NotAcknowledged(1_240),
            ReadinessReason::RequestsForgotten,
            ReadinessReason::WaitingToSend(1_240),
            ReadinessReason::Rejected {
                count: 1_240,
                sku: "A\u{202e}".to_owned(),
                message: "<b>".to_owned(),
            },
            ReadinessReason::Paused(Some("x".to_owned())),
            ReadinessReason::Paused(None),
            ReadinessReason::Drifted(1_240),
            ReadinessReason::NotShown(1_240),
            ReadinessReason::FullMatchTooOld(49),
            ReadinessReason::NeverFullMatch,
            ReadinessReason::NotOurs(1_240),
            ReadinessReason::SourcesSilent(30),
        ];
        for language in Language::ALL {
            for reason in &reasons {
                let text = readiness_reason(reason, language);
                assert!(!text.contains('\u{202e}'), "{text}");
                let english = readiness_reason(reason, Language::English);
                let is_other = language != Language::English;
                assert_eq!(text != english, is_other, "{text}");
                if reason.to_string().contains("1240") {
                    assert!(text.contains(&language.number(1_240)), "{text}");
                }
            }
        }
        assert_eq!(
            readiness_reason(&reasons[7], Language::Russian),
            "Ждут отправки 1\u{a0}240 SKU."
        );
    }

    #[test]
    fn the_verdict_counts_further_reasons() {
        for (first, others, language, expected) in [
            (
                None,
                0,
                Language::English,
                "READY: the push API can be switched off.",
            ),
            (Some("A."), 0, Language::English, "NOT YET: A."),
            (
                Some("A."),
                1,
                Language::English,
                "NOT YET: A. And 1 other reason.",
            ),
            (
                Some("A."),
                3,
                Language::Russian,
                "ЕЩЁ РАНО: A. И ещё 3 причины.",
            ),
            (
                Some("A。"),
                2,
                Language::Chinese,
                "尚未就绪：A。另有 2 个原因。",
            ),
        ] {
            assert_eq!(readiness_verdict(first, others, language), expected);
        }
    }
}
