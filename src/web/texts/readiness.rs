//! Checks, reasons and verdicts of the switch-over, in every language.

use super::skus;
use crate::i18n::Language;
use crate::ops::{ReadinessCheck, ReadinessReason};
use crate::web::visible::visible;

/// Condition that a check verifies.
pub(in crate::web) fn readiness_check(check: ReadinessCheck, language: Language) -> &'static str {
    language.choose(match check {
        ReadinessCheck::SendingOn => ["Sending is on", "Отправка включена", "发送已开启"],
        ReadinessCheck::StockKnown => [
            "The stock of the shop is known",
            "Остатки магазина известны",
            "店铺库存已知",
        ],
        ReadinessCheck::RequestsSeen => [
            "The Market has requested stock",
            "Маркет запрашивал остатки",
            "Market 请求过库存",
        ],
        ReadinessCheck::RequestsCovered => [
            "All recently requested SKUs have known stock",
            "У всех SKU из недавних запросов остаток известен",
            "最近请求的所有 SKU 库存均已知",
        ],
        ReadinessCheck::RequestsAcknowledged => [
            "The Market has accepted the stock of all requested SKUs",
            "Маркет принял остатки всех запрошенных SKU",
            "Market 已接受所有被请求 SKU 的库存",
        ],
        ReadinessCheck::EverythingSent => ["Everything is sent", "Всё отправлено", "全部已发送"],
        ReadinessCheck::NothingRejected => [
            "The Market rejects no SKU",
            "Маркет не отклоняет ни одного SKU",
            "Market 没有拒绝任何 SKU",
        ],
        ReadinessCheck::NotPaused => [
            "Sending is not paused",
            "Отправка не приостановлена",
            "发送未暂停",
        ],
        ReadinessCheck::NoDifference => [
            "No SKU differs on the Market without an explanation",
            "На Маркете нет необъяснённых расхождений",
            "Market 上没有无法解释的差异",
        ],
        ReadinessCheck::AllShown => [
            "The Market shows all accepted SKUs",
            "Маркет показывает все принятые SKU",
            "Market 显示所有已接受的 SKU",
        ],
        ReadinessCheck::RecentFullMatch => [
            "Full match of a read-back in the last 24 hours",
            "Сверка за последние 24 часа полностью совпала",
            "最近 24 小时内核对完全一致",
        ],
        ReadinessCheck::SourcesActive => [
            "Stock was stated recently",
            "Остатки передавались недавно",
            "最近提供过库存",
        ],
    })
}

/// Reason against switching off, or a remark, as a sentence without
/// [its detail](ReadinessReason::detail).
pub(in crate::web) fn readiness_reason(reason: &ReadinessReason, language: Language) -> String {
    let n = count(reason);
    let (number, skus) = (language.number(n), skus(n, language));
    language.choose(match reason {
        ReadinessReason::NotSending(_) => {
            ["Nothing is sent.", "Остатки не отправляются.", "未发送。"].map(str::to_owned)
        }
        ReadinessReason::ModeNotOn(mode) => [
            format!("Nothing is sent: migrate is \"{mode}\"."),
            format!("Остатки не отправляются: migrate = \"{mode}\"."),
            format!("未发送：migrate 为 {mode}。"),
        ],
        ReadinessReason::OtherReplica(name) => other_replica(name.as_deref()),
        ReadinessReason::NoStock => {
            ["No stock is known yet.", "Остатков ещё нет.", "尚无库存。"].map(str::to_owned)
        }
        ReadinessReason::NothingRequested => [
            "The Market has requested nothing yet, so it is unknown which SKUs it needs.",
            "Маркет ещё ничего не запрашивал, поэтому неизвестно, какие SKU ему нужны.",
            "Market 尚未请求库存，因此不知道它需要哪些 SKU。",
        ]
        .map(str::to_owned),
        ReadinessReason::MissingStock { asked, .. } => {
            let asked = language.number(*asked as u64);
            [
                format!("{number} of {asked} requested SKUs have no known stock."),
                format!("Нет остатка у {number} из {asked} запрошенных SKU."),
                format!("被请求的 {asked} 个 SKU 中有 {number} 个库存未知。"),
            ]
        }
        ReadinessReason::NotAcknowledged(_) => [
            format!("{skus}: the Market has not accepted the stock yet."),
            format!("Маркет ещё не принял остатки {skus}."),
            format!("Market 尚未接受 {skus} 的库存。"),
        ],
        ReadinessReason::RequestsForgotten => [
            "The Market requested more unknown SKUs than are remembered.",
            "Маркет запросил больше неизвестных SKU, чем запоминает сервис.",
            "Market 请求的未知 SKU 超过了服务能记住的数量。",
        ]
        .map(str::to_owned),
        ReadinessReason::WaitingToSend(_) => {
            let verb = language.plural(n, ["Ждёт", "Ждут", "Ждут"]);
            [
                format!("Still to be sent: {skus}."),
                format!("{verb} отправки {skus}."),
                format!("{skus} 待发送。"),
            ]
        }
        ReadinessReason::Rejected { sku, .. } => {
            let sku = visible(sku);
            [
                format!("The Market rejects {skus}, such as {sku}."),
                format!("Маркет отклоняет {skus}, например {sku}."),
                format!("Market 拒绝 {skus}，例如 {sku}。"),
            ]
        }
        ReadinessReason::Paused(_) => [
            "Sending is paused.",
            "Отправка приостановлена.",
            "发送已暂停。",
        ]
        .map(str::to_owned),
        ReadinessReason::Drifted(_) => {
            let verb = language.plural(n, ["расходится", "расходятся", "расходятся"]);
            [
                format!("Different on the Market: {skus}."),
                format!("На Маркете {verb} {skus}."),
                format!("Market 上有 {skus} 不一致。"),
            ]
        }
        ReadinessReason::NotShown(_) => [
            format!("Accepted, but not shown by the Market: {skus}."),
            format!("Приняты, но не показаны на Маркете: {skus}."),
            format!("{skus} 已接受，但 Market 未显示。"),
        ],
        ReadinessReason::FullMatchTooOld(_) => [
            format!("The last full match was {number} h ago: run stockbridge verify."),
            format!(
                "Последнее полное совпадение было {number} ч назад: запустите stockbridge verify."
            ),
            format!("最近一次完全一致在 {number} 小时前：请运行 stockbridge verify。"),
        ],
        ReadinessReason::NeverFullMatch => [
            "There was no full match yet: run stockbridge verify.",
            "Полного совпадения ещё не было: запустите stockbridge verify.",
            "还没有完全一致过：请运行 stockbridge verify。",
        ]
        .map(str::to_owned),
        ReadinessReason::NotOurs(_) => [
            format!("The Market shows stock that you never stated: {skus}."),
            format!("Маркет показывает остатки, которые вы не передавали: {skus}."),
            format!("Market 显示了 {number} 个您从未提供库存的 SKU。"),
        ],
        ReadinessReason::SourcesSilent(_) => [
            format!("No stock was stated for {number} h."),
            format!("Остатки не передавались {number} ч."),
            format!("已有 {number} 小时没有提供库存。"),
        ],
    })
}

fn other_replica(name: Option<&str>) -> [String; 3] {
    match name {
        Some(name) => [
            format!("Replica {name} sends for this shop. Its page has the checks."),
            format!("Остатки этого магазина отправляет реплика {name}. Проверки — на её странице."),
            format!("由副本 {name} 发送该店铺的库存，检查结果在它的页面上。"),
        ],
        None => [
            "No replica sends for this shop at the moment.",
            "Сейчас ни одна реплика не отправляет остатки этого магазина.",
            "目前没有副本发送该店铺的库存。",
        ]
        .map(str::to_owned),
    }
}

/// Number of SKUs or hours in a reason; 0 without one.
fn count(reason: &ReadinessReason) -> u64 {
    match reason {
        ReadinessReason::MissingStock { missing: n, .. }
        | ReadinessReason::NotAcknowledged(n)
        | ReadinessReason::WaitingToSend(n)
        | ReadinessReason::Rejected { count: n, .. } => *n as u64,
        ReadinessReason::Drifted(n)
        | ReadinessReason::NotShown(n)
        | ReadinessReason::NotOurs(n) => *n,
        ReadinessReason::FullMatchTooOld(n) | ReadinessReason::SourcesSilent(n) => n.unsigned_abs(),
        ReadinessReason::NotSending(_)
        | ReadinessReason::ModeNotOn(_)
        | ReadinessReason::OtherReplica(_)
        | ReadinessReason::NoStock
        | ReadinessReason::NothingRequested
        | ReadinessReason::RequestsForgotten
        | ReadinessReason::Paused(_)
        | ReadinessReason::NeverFullMatch => 0,
    }
}

/// Verdict of one shop.
pub(in crate::web) fn shop_verdict(is_ready: bool, language: Language) -> &'static str {
    language.choose(if is_ready {
        ["READY", "ГОТОВО", "就绪"]
    } else {
        ["NOT YET", "ЕЩЁ РАНО", "尚未就绪"]
    })
}

/// Verdict of all shops. `first` is the first reason, `others` the number of further reasons.
pub(in crate::web) fn readiness_verdict(
    first: Option<&str>,
    others: u64,
    language: Language,
) -> String {
    let colon = language.choose([": ", ": ", "："]);
    let verdict = shop_verdict(first.is_none(), language);
    let Some(first) = first else {
        let consequence = language.choose([
            "the push API can be switched off.",
            "push API можно отключать.",
            "可以停用推送 API。",
        ]);
        return format!("{verdict}{colon}{consequence}");
    };
    let number = language.number(others);
    let more = match language {
        _ if others == 0 => String::new(),
        Language::English => {
            let noun = language.plural(others, ["other reason", "", "other reasons"]);
            format!(" And {number} {noun}.")
        }
        Language::Russian => {
            let noun = language.plural(others, ["причина", "причины", "причин"]);
            format!(" И ещё {number} {noun}.")
        }
        Language::Chinese => format!("另有 {number} 个原因。"),
    };
    format!("{verdict}{colon}{first}{more}")
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
            ReadinessReason::OtherReplica(Some("dc-2".to_owned())),
            ReadinessReason::OtherReplica(None),
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
            readiness_reason(&reasons[9], Language::Russian),
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
