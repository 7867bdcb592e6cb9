//! Names and meanings of the classes of a read-back, in every language.

use crate::i18n::Language;
use crate::migrator::readback::MatchClass;

/// Returns the name of a class.
pub(in crate::web) fn class_name(class: MatchClass, language: Language) -> &'static str {
    language.choose(match class {
        MatchClass::Equal => ["equal", "совпадает", "一致"],
        MatchClass::Explained => ["explained", "объяснено", "可解释"],
        MatchClass::Pending => ["pending", "ожидается", "待显示"],
        MatchClass::Archived => ["archived", "в архиве", "已归档"],
        MatchClass::NotOurs => ["not ours", "не наш", "非本店提供"],
        MatchClass::Unsent => ["unsent", "не отправлен", "未发送"],
        MatchClass::Rejected => ["rejected", "отклонён", "被拒绝"],
        MatchClass::Unknown => ["unknown", "неизвестен", "未知"],
        MatchClass::Drifted => ["drifted", "расходится", "偏差"],
    })
}

/// Returns the meaning of a class.
pub(in crate::web) fn class_meaning(class: MatchClass, language: Language) -> &'static str {
    language.choose(match class {
        MatchClass::Equal => [
            "The Market shows the count that was sent.",
            "Маркет показывает отправленный остаток.",
            "Market 显示的数量与已发送的相同。",
        ],
        MatchClass::Explained => [
            "The Market shows fewer: the rest is reserved, or the Market changed it later.",
            "Маркет показывает меньше: разница в резерве, или Маркет изменил остаток позже.",
            "Market 显示的数量较少：差额已预留，或 Market 之后更改过。",
        ],
        MatchClass::Pending => [
            "It was sent a short time ago, and the Market may not show it yet.",
            "Отправлен недавно, Маркет может ещё не показывать его.",
            "刚刚发送，Market 可能尚未显示。",
        ],
        MatchClass::Archived => [
            "The product is in the Market’s archive.",
            "Товар в архиве Маркета.",
            "商品在 Market 的归档中。",
        ],
        MatchClass::NotOurs => [
            "The Market shows it, but the seller never stated its stock.",
            "У Маркета есть остаток этого SKU, но продавец его никогда не передавал.",
            "Market 显示该 SKU，但卖家从未提供其库存。",
        ],
        MatchClass::Unsent => [
            "The last change is not acknowledged yet.",
            "Маркет ещё не принял последнее изменение.",
            "最近的更改尚未得到确认。",
        ],
        MatchClass::Rejected => [
            "The Market rejects it, so it is in quarantine.",
            "Маркет отклоняет его, поэтому он в карантине.",
            "Market 拒绝该 SKU，因此已隔离。",
        ],
        MatchClass::Unknown => [
            "The Market acknowledged it but does not show it. Perhaps it is not in the catalogue.",
            "Принят, но Маркет его не показывает. Возможно, его нет в каталоге.",
            "Market 已确认但不显示，可能不在商品目录中。",
        ],
        MatchClass::Drifted => [
            "The Market shows another count, and neither an order nor a delay explains it.",
            "Маркет показывает другой остаток, и ни заказ, ни задержка этого не объясняют.",
            "Market 显示其他数量，订单和延迟都无法解释。",
        ],
    })
}
