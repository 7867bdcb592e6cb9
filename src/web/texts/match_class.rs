//! Names and meanings of the classes of a read-back, in every language.

use crate::i18n::Language;
use crate::migrator::readback::MatchClass;

/// Name and meaning of a class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::web) struct MatchClassText {
    pub(in crate::web) name: &'static str,
    pub(in crate::web) meaning: &'static str,
}

/// Returns the name of a class.
pub(in crate::web) const fn class_name(class: MatchClass, language: Language) -> &'static str {
    match_class_text(class, language).name
}

/// Returns the name and the meaning of a class.
pub(in crate::web) const fn match_class_text(
    class: MatchClass,
    language: Language,
) -> MatchClassText {
    let (name, meaning) = match language {
        Language::English => english(class),
        Language::Russian => russian(class),
        Language::Chinese => chinese(class),
    };
    MatchClassText { name, meaning }
}

const fn english(class: MatchClass) -> (&'static str, &'static str) {
    match class {
        MatchClass::Equal => ("equal", "The Market shows the count that was sent."),
        MatchClass::Explained => (
            "explained",
            "The Market shows fewer: the rest is reserved, or the Market changed it later.",
        ),
        MatchClass::Pending => (
            "pending",
            "It was sent a short time ago, and the Market may not show it yet.",
        ),
        MatchClass::Archived => ("archived", "The product is in the Market’s archive."),
        MatchClass::NotOurs => (
            "not ours",
            "The Market shows it, but the seller never stated its stock.",
        ),
        MatchClass::Unsent => ("unsent", "The last change is not acknowledged yet."),
        MatchClass::Rejected => ("rejected", "The Market rejects it, so it is in quarantine."),
        MatchClass::Unknown => (
            "unknown",
            "The Market acknowledged it but does not show it. Perhaps it is not in the catalogue.",
        ),
        MatchClass::Drifted => (
            "drifted",
            "The Market shows another count, and neither an order nor a delay explains it.",
        ),
    }
}

const fn russian(class: MatchClass) -> (&'static str, &'static str) {
    match class {
        MatchClass::Equal => ("совпадает", "Маркет показывает отправленный остаток."),
        MatchClass::Explained => (
            "объяснено",
            "Маркет показывает меньше: разница в резерве, или Маркет изменил остаток позже.",
        ),
        MatchClass::Pending => (
            "ожидается",
            "Отправлен недавно, Маркет может ещё не показывать его.",
        ),
        MatchClass::Archived => ("в архиве", "Товар в архиве Маркета."),
        MatchClass::NotOurs => (
            "не наш",
            "У Маркета есть остаток этого SKU, но продавец его никогда не передавал.",
        ),
        MatchClass::Unsent => ("не отправлен", "Маркет ещё не принял последнее изменение."),
        MatchClass::Rejected => ("отклонён", "Маркет отклоняет его, поэтому он в карантине."),
        MatchClass::Unknown => (
            "неизвестен",
            "Принят, но Маркет его не показывает. Возможно, его нет в каталоге.",
        ),
        MatchClass::Drifted => (
            "расходится",
            "Маркет показывает другой остаток, и ни заказ, ни задержка этого не объясняют.",
        ),
    }
}

const fn chinese(class: MatchClass) -> (&'static str, &'static str) {
    match class {
        MatchClass::Equal => ("一致", "Market 显示的数量与已发送的相同。"),
        MatchClass::Explained => (
            "可解释",
            "Market 显示的数量较少：差额已预留，或 Market 之后更改过。",
        ),
        MatchClass::Pending => ("待显示", "刚刚发送，Market 可能尚未显示。"),
        MatchClass::Archived => ("已归档", "商品在 Market 的归档中。"),
        MatchClass::NotOurs => ("非本店提供", "Market 显示该 SKU，但卖家从未提供其库存。"),
        MatchClass::Unsent => ("未发送", "最近的更改尚未得到确认。"),
        MatchClass::Rejected => ("被拒绝", "Market 拒绝该 SKU，因此已隔离。"),
        MatchClass::Unknown => ("未知", "Market 已确认但不显示，可能不在商品目录中。"),
        MatchClass::Drifted => ("偏差", "Market 显示其他数量，订单和延迟都无法解释。"),
    }
}
