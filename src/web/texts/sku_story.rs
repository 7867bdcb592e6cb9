//! Sentences about one SKU and about the search, in every language.

use chrono::{DateTime, Utc};
use stock::SkuError;

use super::match_class::class_name;
use super::{Text, skus};
use crate::i18n::Language;
use crate::ingest::Origin;
use crate::migrator::Mode;
use crate::migrator::readback::MatchClass;
use crate::ops::{SendingMode, SentState, ShownState, SkuSummary};
use crate::web::page_context::PageContext;
use crate::web::shop_health::HealthLevel;

/// Name of an origin.
pub(in crate::web) fn origin_name(origin: Origin, language: Language) -> &'static str {
    language.choose(match origin {
        Origin::CampaignPut | Origin::BusinessPost => {
            ["partner API", "партнёрский API", "合作伙伴 API"]
        }
        Origin::File => ["file", "файл", "文件"],
        Origin::OldHandler => ["old handler", "старый обработчик", "旧处理程序"],
        Origin::Exchange => ["1C exchange", "обмен с 1С", "1C 数据交换"],
        Origin::MoySklad => ["MoySklad", "МойСклад", "MoySklad"],
        Origin::Sql => ["database", "база данных", "数据库"],
        Origin::Import => ["import by hand", "загрузка вручную", "手动导入"],
    })
}

/// Level of the summary.
pub(in crate::web) const fn sku_severity(summary: &SkuSummary) -> HealthLevel {
    match summary {
        SkuSummary::Unknown => HealthLevel::Attention,
        SkuSummary::OnlyRequested { .. } => HealthLevel::Trouble,
        SkuSummary::Stated {
            sent,
            shown,
            sending,
            is_paused,
            ..
        } => match (sent, shown) {
            (SentState::Rejected, _)
            | (
                _,
                Some(ShownState::Shown {
                    class: MatchClass::Drifted,
                    is_before_sending: false,
                    ..
                }),
            ) => HealthLevel::Trouble,
            (_, Some(ShownState::Missing)) => HealthLevel::Attention,
            (SentState::Acknowledged, _) => HealthLevel::Good,
            (SentState::AcknowledgedOnly(_) | SentState::NotAcknowledged, _) => match sending {
                SendingMode::Mode(Mode::On) if !*is_paused => HealthLevel::Waiting,
                SendingMode::Mode(_) | SendingMode::ForeignStore => HealthLevel::Attention,
            },
        },
    }
}

/// Summary of a SKU in one or two sentences.
pub(in crate::web) fn sku_summary(summary: &SkuSummary, context: PageContext) -> String {
    let language = context.language;
    match summary {
        SkuSummary::Unknown => context.text(Text::UNKNOWN_SKU).to_owned(),
        SkuSummary::OnlyRequested { hour } => {
            let hour = context.short_time(*hour);
            match language {
                Language::English => format!(
                    "The Market requests this SKU (last in the hour of {hour}), but the seller \
                     never stated its stock."
                ),
                Language::Russian => format!(
                    "Маркет запрашивает этот SKU (последний раз в течение часа с {hour}), но \
                     продавец не передавал его остаток."
                ),
                Language::Chinese => format!(
                    "Market 请求该 SKU（最近一次在 {hour} 起的一小时内），但卖家从未提供其库存。"
                ),
            }
        }
        SkuSummary::Stated {
            count,
            updated_at,
            sent,
            shown,
            sending,
            is_paused,
        } => {
            let (number, at) = (context.number(*count), context.full(*updated_at));
            let first = match language {
                Language::English => format!("The seller has {number} as of {at}; "),
                Language::Russian => format!("У продавца {number} на {at}; "),
                Language::Chinese => format!("截至 {at}，卖家有 {number} 件；"),
            };
            let sent = sent_state(*sent, language);
            let shown = shown.map_or_else(String::new, |shown| shown_state(shown, language));
            let end = language.choose([".", ".", "。"]);
            let obstacle = obstacle(*sending, *is_paused, language);
            format!("{first}{sent}{shown}{end}{obstacle}")
        }
    }
}

fn sent_state(sent: SentState, language: Language) -> String {
    let text = match sent {
        SentState::Rejected => [
            "the Market rejects it",
            "Маркет его отклоняет",
            "Market 拒绝该数量",
        ],
        SentState::Acknowledged => [
            "the Market has acknowledged it",
            "Маркет его принял",
            "Market 已确认",
        ],
        SentState::NotAcknowledged => [
            "the Market has not acknowledged it",
            "Маркет его ещё не принял",
            "Market 尚未确认",
        ],
        SentState::AcknowledgedOnly(count) => {
            let number = language.number(count.into());
            return language.choose([
                format!("the Market has acknowledged only {number}"),
                format!("Маркет принял только {number}"),
                format!("Market 只确认了 {number} 件"),
            ]);
        }
    };
    language.choose(text).to_owned()
}

fn shown_state(shown: ShownState, language: Language) -> String {
    let ShownState::Shown {
        available,
        class,
        is_before_sending,
    } = shown
    else {
        let missing = [", but does not show it", ", но не показывает", "，但不显示"];
        return language.choose(missing).to_owned();
    };
    let number = language.number(available.into());
    let class = class_name(class, language);
    let before = language.choose([
        ", before this value was sent",
        ", до отправки этого значения",
        "，在发送该值之前",
    ]);
    let before = if is_before_sending { before } else { "" };
    match language {
        Language::English => format!(", and showed {number} ({class}{before})"),
        Language::Russian => format!(" и показывал {number} ({class}{before})"),
        Language::Chinese => format!("，显示 {number} 件（{class}{before}）"),
    }
}

/// Sentence about the reason why nothing is sent; empty if sending is on.
fn obstacle(sending: SendingMode, is_paused: bool, language: Language) -> &'static str {
    language.choose(match sending {
        SendingMode::Mode(Mode::On) if is_paused => [
            " Sending is paused by the operator.",
            " Отправку приостановил оператор.",
            "发送已由操作员暂停。",
        ],
        SendingMode::Mode(Mode::On) => [""; 3],
        SendingMode::Mode(Mode::DryRun) => [
            " Nothing is sent: migrate is dry-run.",
            " Пробный режим: ничего не отправляется.",
            "不发送：migrate 为 dry-run。",
        ],
        SendingMode::Mode(Mode::Off) => [
            " Nothing is sent: migrate is off.",
            " Отправка выключена: migrate = off.",
            "不发送：migrate 为 off。",
        ],
        SendingMode::ForeignStore => [
            " Nothing is sent: the store belongs to another installation.",
            " Ничего не отправляется: хранилище принадлежит другой установке.",
            "不发送：存储属于其他安装。",
        ],
    })
}

/// Event: the seller stated a new count.
pub(in crate::web) fn stated(count: u32, origin: Option<Origin>, language: Language) -> String {
    let stated = language.choose(["Stated: ", "Передано: ", "提供："]);
    stated_by(stated, count, origin, language)
}

/// Event: the seller repeated the known count.
pub(in crate::web) fn repeated(count: u32, origin: Option<Origin>, language: Language) -> String {
    let repeated = language.choose(["Stated again: ", "Передано ещё раз: ", "再次提供："]);
    stated_by(repeated, count, origin, language)
}

fn stated_by(event: &str, count: u32, origin: Option<Origin>, language: Language) -> String {
    let pieces = language.choose(["", "", " 件"]);
    let number = language.number(count.into());
    let by = origin.map_or_else(String::new, |origin| {
        let [open, close] = language.choose([[" (", ")"], [" (", ")"], ["（", "）"]]);
        format!("{open}{}{close}", origin_name(origin, language))
    });
    format!("{event}{number}{pieces}{by}")
}

/// Event: a request with the SKU ended. `request` has its number of SKUs and its milliseconds.
pub(in crate::web) fn sent(
    count: u32,
    request: Option<(u64, u128)>,
    is_accepted: bool,
    language: Language,
) -> String {
    let number = language.number(count.into());
    let sent = match language {
        Language::English => format!("Sent: {number}. "),
        Language::Russian => format!("Отправлено: {number}. "),
        Language::Chinese => format!("已发送：{number} 件，"),
    };
    let outcome = language.choose(if is_accepted {
        [
            "The Market acknowledged it",
            "Маркет принял",
            "Market 已确认",
        ]
    } else {
        [
            "The Market did not accept it",
            "Маркет не принял",
            "Market 未接受",
        ]
    });
    let request = request.map_or_else(String::new, |(n, milliseconds)| {
        let skus = skus(n, language);
        match language {
            Language::English => format!(" ({skus} in the request, {milliseconds} ms)"),
            Language::Russian => format!(" ({skus} в запросе, {milliseconds} мс)"),
            Language::Chinese => format!("（请求中有 {skus}，{milliseconds} 毫秒）"),
        }
    });
    format!("{sent}{outcome}{request}")
}

/// Fact: the Market acknowledged a count.
pub(in crate::web) fn acknowledged(count: u32, language: Language) -> String {
    sent(count, None, true, language)
}

/// Event: a read-back showed the SKU.
pub(in crate::web) fn shown(count: Option<u32>, class: &str, language: Language) -> String {
    match count {
        Some(count) => {
            let number = language.number(count.into());
            match language {
                Language::English => format!("The Market showed {number} ({class})"),
                Language::Russian => format!("Маркет показал {number} ({class})"),
                Language::Chinese => format!("Market 显示 {number} 件（{class}）"),
            }
        }
        None => match language {
            Language::English => format!("The Market did not show it ({class})"),
            Language::Russian => format!("Маркет его не показал ({class})"),
            Language::Chinese => format!("Market 未显示（{class}）"),
        },
    }
}

/// Fact: the Market requested the SKU for a warehouse, in the hour that begins then.
pub(in crate::web) fn requested(warehouse: u64, language: Language) -> String {
    match language {
        Language::English => format!("The Market requested it in this hour, warehouse {warehouse}"),
        Language::Russian => format!("В этот час Маркет запросил остаток, склад {warehouse}"),
        Language::Chinese => format!("Market 在这一小时内请求了库存，仓库 {warehouse}"),
    }
}

/// Sentence about the time from which the events are complete.
pub(in crate::web) fn events_since(since: Option<DateTime<Utc>>, context: PageContext) -> String {
    let Some(since) = since else {
        return context.text(Text::EVENTS_SINCE_START).to_owned();
    };
    let since = context.full(since);
    match context.language {
        Language::English => format!("Events are complete since {since}."),
        Language::Russian => format!("События сохранены полностью с {since}."),
        Language::Chinese => format!("自 {since} 起的事件是完整的。"),
    }
}

/// Rule that a text in the search field breaks.
pub(in crate::web) fn sku_error(error: &SkuError, language: Language) -> String {
    let limit = stock::MAX_SKU_LENGTH;
    language.choose(match error {
        SkuError::Empty => ["Enter a SKU.", "Введите SKU.", "请输入 SKU。"].map(str::to_owned),
        SkuError::Control(code) => [
            format!("A SKU has no control characters; this text has U+{code:04X}."),
            format!("В SKU нет управляющих символов, а в этом тексте есть U+{code:04X}."),
            format!("SKU 不含控制字符，而该文本含有 U+{code:04X}。"),
        ],
        SkuError::TooLong(length) => [
            format!("A SKU has at most {limit} characters; this text has {length}."),
            format!("В SKU не больше {limit} символов, а в этом тексте {length}."),
            format!("SKU 最多 {limit} 个字符，而该文本有 {length} 个。"),
        ],
    })
}

/// Heading of the search.
pub(in crate::web) fn search_heading(text: &str, language: Language) -> String {
    match language {
        Language::English => format!("SKUs that begin with “{text}”"),
        Language::Russian => format!("SKU, которые начинаются с «{text}»"),
        Language::Chinese => format!("以“{text}”开头的 SKU"),
    }
}

/// Result of the search.
pub(in crate::web) fn search_result(count: u64, is_cut: bool, language: Language) -> String {
    let number = language.number(count);
    if count == 0 && !is_cut {
        return Text::NO_SUCH_SKU.in_language(language).to_owned();
    }
    let begin = language.plural(count, ["SKU begins", "", "SKUs begin"]);
    language.choose(if is_cut {
        [
            format!(
                "More than {number} SKUs begin with this text; {number} of them are shown. \
                 Enter more characters."
            ),
            format!(
                "Таких SKU больше {number}, показаны {number} из них. Введите больше символов."
            ),
            format!("超过 {number} 个 SKU，仅显示其中 {number} 个。请输入更多字符。"),
        ]
    } else {
        [
            format!("No SKU has exactly this spelling. {number} {begin} with it."),
            format!("Точно такого SKU нет. Так начинаются SKU: {number}."),
            format!("没有完全相同的 SKU。有 {number} 个以此开头。"),
        ]
    })
}

/// Time that is known to the hour. `start` is the beginning of the hour.
pub(in crate::web) fn in_hour(start: &str, language: Language) -> String {
    match language {
        Language::English => format!("in the hour from {start}"),
        Language::Russian => format!("в течение часа с {start}"),
        Language::Chinese => format!("{start} 起一小时内"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;

    fn context(language: Language) -> PageContext {
        PageContext {
            now: "2026-11-29T12:00:00Z".parse().unwrap(),
            language,
            zone: FixedOffset::east_opt(3 * 3_600).unwrap(),
        }
    }

    fn summary(sent: SentState, shown: Option<ShownState>) -> SkuSummary {
        SkuSummary::Stated {
            count: 5,
            updated_at: "2026-11-29T09:00:00Z".parse().unwrap(),
            sent,
            shown,
            sending: SendingMode::Mode(Mode::On),
            is_paused: false,
        }
    }

    #[test]
    fn facts_become_a_sentence_of_each_language() {
        let shown = Some(ShownState::Shown {
            available: 3,
            class: MatchClass::Explained,
            is_before_sending: true,
        });
        let facts = summary(SentState::AcknowledgedOnly(2), shown);
        for (language, expected) in [
            (
                Language::English,
                "The seller has 5 as of 29 Nov 2026 12:00:00 UTC+3; the Market has acknowledged \
                 only 2, and showed 3 (explained, before this value was sent).",
            ),
            (
                Language::Russian,
                "У продавца 5 на 29.11.2026 12:00:00 UTC+3; Маркет принял только 2 и показывал 3 \
                 (объяснено, до отправки этого значения).",
            ),
            (
                Language::Chinese,
                "截至 2026-11-29 12:00:00 UTC+3，卖家有 5 件；Market 只确认了 2 件，显示 3 件\
                 （可解释，在发送该值之前）。",
            ),
        ] {
            assert_eq!(sku_summary(&facts, context(language)), expected);
        }
    }

    #[test]
    fn the_worst_fact_gives_the_severity() {
        let drifted = Some(ShownState::Shown {
            available: 3,
            class: MatchClass::Drifted,
            is_before_sending: false,
        });
        for (facts, severity) in [
            (SkuSummary::Unknown, HealthLevel::Attention),
            (summary(SentState::Rejected, None), HealthLevel::Trouble),
            (
                summary(SentState::Acknowledged, drifted),
                HealthLevel::Trouble,
            ),
            (
                summary(SentState::Acknowledged, Some(ShownState::Missing)),
                HealthLevel::Attention,
            ),
            (summary(SentState::Acknowledged, None), HealthLevel::Good),
            (
                summary(SentState::NotAcknowledged, None),
                HealthLevel::Waiting,
            ),
        ] {
            assert_eq!(sku_severity(&facts), severity, "{facts:?}");
        }
    }
}
