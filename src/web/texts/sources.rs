//! Words and sentences about sources and held deliveries, in every language.

use stock_import::delivery_guard::HoldReason;

use super::skus;
use crate::i18n::Language;
use crate::sources::{SourceKindName, SourceState};
use crate::web::held_view::AbsenceEffect;
use crate::web::visible::visible;

/// State of a source in words; `rows_so_far` of the delivery that is read.
pub(in crate::web) fn source_state(
    state: SourceState,
    rows_so_far: Option<u64>,
    language: Language,
) -> String {
    let text = match state {
        SourceState::Reading => return reading(rows_so_far.unwrap_or_default(), language),
        SourceState::Failed => ["failed", "ошибка", "失败"],
        SourceState::Held => ["held for approval", "ждёт подтверждения", "待批准"],
        SourceState::Incomplete => [
            "applied, but absent SKUs keep their stock",
            "выгрузка применена, но отсутствующие SKU не обнулены",
            "已应用，但缺少的 SKU 未归零",
        ],
        SourceState::Ok => ["applied", "выгрузка применена", "已应用"],
        SourceState::Waiting => [
            "waits for the first delivery",
            "ждёт первой выгрузки",
            "等待第一批数据",
        ],
    };
    language.choose(text).to_owned()
}

fn reading(count: u64, language: Language) -> String {
    let rows = language.number(count);
    match language {
        Language::English => {
            let noun = language.plural(count, ["row", "", "rows"]);
            format!("reading, {rows} {noun} so far")
        }
        Language::Russian => format!("читается, строк: {rows}"),
        Language::Chinese => format!("正在读取，已读 {rows} 行"),
    }
}

/// Progress of a comparison of a held delivery with the stock: compared SKUs, of about so many.
pub(in crate::web) fn comparing(n: u64, of: Option<u64>, language: Language) -> String {
    let (number, skus) = (language.number(n), skus(n, language));
    let so_far = match of.map(|of| language.number(of)) {
        Some(of) => language.choose([
            format!("{number} of about {of} SKUs"),
            format!("{number} SKU из примерно {of}"),
            format!("已比较 {number} 个 SKU，共约 {of} 个"),
        ]),
        None => language.choose([
            format!("{skus} so far"),
            skus.clone(),
            format!("已比较 {skus}"),
        ]),
    };
    language.choose([
        format!("Comparing with the stock: {so_far}. The page loads itself again."),
        format!("Идёт сравнение с остатками: {so_far}. Страница обновится сама."),
        format!("正在与库存比较：{so_far}。页面会自动刷新。"),
    ])
}

/// Effect of an approval on the SKUs that the delivery lacks.
pub(in crate::web) fn absence(effect: AbsenceEffect, language: Language) -> String {
    let text = match effect {
        AbsenceEffect::BecomeZero { absent: 0, .. } => [
            "The delivery is a complete list and lacks no SKU that is in stock",
            "Это полный список, и в нём есть все SKU, у которых сейчас есть остаток",
            "这是完整列表，当前有库存的 SKU 都在其中",
        ],
        AbsenceEffect::BecomeZero { absent, zeros } => {
            return absent_zeros(absent, zeros, language);
        }
        AbsenceEffect::KeptByDelta => [
            "The delivery is a list of changes: an approval leaves the stock of SKUs that it lacks \
             unchanged",
            "Это список изменений: остатки SKU, которых в нём нет, после подтверждения не изменятся",
            "这是变更列表：批准后，其中没有的 SKU 库存不变",
        ],
        AbsenceEffect::KeptBySetting => [
            "An approval leaves the stock of SKUs that the delivery lacks unchanged, because absent \
             is keep for this source",
            "Остатки SKU, которых нет в выгрузке, после подтверждения не изменятся: для источника \
             задано absent = keep",
            "批准后，这批数据中没有的 SKU 库存不变，因为该数据源的 absent 为 keep",
        ],
        AbsenceEffect::NotApplied => [
            "An approval leaves the stock of absent SKUs unchanged",
            "После подтверждения отсутствующие SKU не будут обнулены",
            "批准后，缺少的 SKU 也不会归零",
        ],
    };
    language.choose(text).to_owned()
}

fn absent_zeros(absent: u64, zeros: u64, language: Language) -> String {
    let (skus, number, all) = (
        skus(absent, language),
        language.number(absent),
        language.number(zeros),
    );
    match language {
        Language::English => {
            let verb = language.plural(absent, ["becomes", "", "become"]);
            let pronoun = language.plural(absent, ["it", "", "them"]);
            format!(
                "{skus} {verb} zero because the complete list lacks {pronoun} (of {all} that become \
                 zero)"
            )
        }
        Language::Russian => {
            let verb = language.plural(absent, ["Обнулится", "Обнулятся", "Обнулятся"]);
            let pronoun = language.plural(absent, ["которого", "которых", "которых"]);
            format!("{verb} {number} SKU, {pronoun} нет в полном списке (всего обнулений: {all})")
        }
        Language::Chinese => {
            format!("{skus} 因完整列表中没有而归零（归零总数：{all}）")
        }
    }
}

/// Kind of a source.
pub(in crate::web) fn source_kind(kind: SourceKindName, language: Language) -> &'static str {
    language.choose(match kind {
        SourceKindName::File => ["file", "файл", "文件"],
        SourceKindName::Legacy => ["old handler", "старый обработчик", "旧处理程序"],
        SourceKindName::Exchange => ["1C", "1С", "1C"],
        SourceKindName::MoySklad => ["MoySklad", "МойСклад", "MoySklad"],
        SourceKindName::Sql => ["SQL database", "база данных SQL", "SQL 数据库"],
        SourceKindName::Import => ["import by hand", "загрузка вручную", "手动导入"],
    })
}

/// Reasons why a delivery is held.
pub(in crate::web) fn hold_reasons(reasons: &[HoldReason], language: Language) -> Vec<String> {
    reasons
        .iter()
        .map(|reason| hold_reason(reason, language))
        .collect()
}

fn hold_reason(reason: &HoldReason, language: Language) -> String {
    let number = |n: u64| language.number(n);
    language.choose(match reason {
        HoldReason::Empty => [
            "The complete list is empty.",
            "Снимок пустой.",
            "完整快照是空的。",
        ]
        .map(str::to_owned),
        HoldReason::TooFewRows(impact) => {
            let [rows, before] = [impact.rows, impact.rows_before].map(number);
            [
                format!("It has {rows} rows, the last complete list had {before}."),
                format!("Строк: {rows}, а в прошлом снимке было {before}."),
                format!("只有 {rows} 行，上一次快照有 {before} 行。"),
            ]
        }
        HoldReason::TooManyZeroed(impact) => {
            let [zeroed, in_stock] = [impact.zeroed, impact.in_stock].map(number);
            [
                format!("It would turn {zeroed} of {in_stock} SKUs in stock to zero."),
                format!("Обнулились бы {zeroed} из {in_stock} SKU с остатком."),
                format!("{in_stock} 个有库存的 SKU 中有 {zeroed} 个会归零。"),
            ]
        }
        HoldReason::TooManyRejected(impact) => {
            let all = impact.rejected + impact.rows;
            let [rejected, all] = [impact.rejected, all].map(number);
            [
                format!("{rejected} of {all} rows are rejected or suspicious."),
                format!("Отклонены или сомнительны {rejected} из {all} строк."),
                format!("{all} 行中有 {rejected} 行被拒绝或可疑。"),
            ]
        }
        HoldReason::ShapeChanged(difference) => {
            let difference = visible(difference);
            [
                format!("It is read differently from the last accepted one: {difference}"),
                format!("Читается не так, как последняя принятая выгрузка: {difference}"),
                format!("读取方式与上一批已接受的数据不同：{difference}"),
            ]
        }
    })
}

/// Time and duration of a comparison.
pub(in crate::web) fn compared(at: &str, duration: &str, language: Language) -> String {
    match language {
        Language::English => format!("Compared with the stock of {at}, in {duration}."),
        Language::Russian => format!("Сравнение с остатками на {at}, заняло {duration}."),
        Language::Chinese => format!("与 {at} 的库存比较，用时 {duration}。"),
    }
}

/// Number of SKUs that a held delivery would change.
pub(in crate::web) fn stock_changes(n: u64, language: Language) -> String {
    let skus = skus(n, language);
    match language {
        Language::English => format!("{skus} would change"),
        Language::Russian => {
            let verb = language.plural(n, ["Изменится", "Изменятся", "Изменятся"]);
            format!("{verb} {skus}")
        }
        Language::Chinese => format!("{skus} 将发生变化"),
    }
}

/// Position of a page among all.
pub(in crate::web) fn page_of(page: u64, pages: u64, language: Language) -> String {
    let (page, pages) = (language.number(page), language.number(pages));
    match language {
        Language::English => format!("Page {page} of {pages}"),
        Language::Russian => format!("Страница {page} из {pages}"),
        Language::Chinese => format!("第 {page} 页，共 {pages} 页"),
    }
}

/// Failure of a comparison or an approval.
pub(in crate::web) fn held_failure(error: &str, language: Language) -> String {
    let error = visible(error);
    match language {
        Language::English => format!("Failed to compare or approve: {error}"),
        Language::Russian => format!("Не удалось сравнить или подтвердить: {error}"),
        Language::Chinese => format!("比较或批准失败：{error}"),
    }
}

#[cfg(test)]
mod tests {
    use stock_import::delivery_guard::DeliveryImpact;

    use super::*;

    #[test]
    fn reasons_name_their_numbers() {
        let impact = DeliveryImpact {
            rows: 1_000,
            rows_before: 4_000,
            rejected: 50,
            in_stock: 300,
            zeroed: 299,
        };
        let reasons = [
            HoldReason::Empty,
            HoldReason::TooFewRows(impact),
            HoldReason::TooManyZeroed(impact),
            HoldReason::TooManyRejected(impact),
            HoldReason::ShapeChanged("\u{202e}<b>".to_owned()),
        ];
        let english = hold_reasons(&reasons, Language::English);
        assert_eq!(
            english,
            [
                "The complete list is empty.",
                "It has 1,000 rows, the last complete list had 4,000.",
                "It would turn 299 of 300 SKUs in stock to zero.",
                "50 of 1,050 rows are rejected or suspicious.",
                "It is read differently from the last accepted one: ⟨U+202E⟩<b>",
            ]
        );
        for language in Language::ALL {
            let texts = hold_reasons(&reasons, language);
            assert!(texts[2].contains("299") && texts[2].contains("300"));
            assert!(texts[4].ends_with("⟨U+202E⟩<b>"));
        }
    }

    #[test]
    fn every_state_and_kind_has_words() {
        for language in Language::ALL {
            for kind in <SourceKindName as strum::VariantArray>::VARIANTS {
                assert!(!source_kind(*kind, language).is_empty());
            }
        }
        let reading = source_state(SourceState::Reading, Some(1_240), Language::Russian);
        assert_eq!(reading, "читается, строк: 1\u{a0}240");
        for (rows, expected) in [(1, "reading, 1 row so far"), (2, "reading, 2 rows so far")] {
            let reading = source_state(SourceState::Reading, Some(rows), Language::English);
            assert_eq!(reading, expected);
        }
    }

    #[test]
    fn absence_agrees_with_its_numbers() {
        let zero = |absent| AbsenceEffect::BecomeZero {
            absent,
            zeros: 1_240,
        };
        for (effect, language, expected) in [
            (
                zero(1),
                Language::English,
                "1 SKU becomes zero because the complete list lacks it (of 1,240 that become zero)",
            ),
            (
                zero(21),
                Language::Russian,
                "Обнулится 21 SKU, которого нет в полном списке (всего обнулений: 1\u{a0}240)",
            ),
            (
                zero(55),
                Language::Russian,
                "Обнулятся 55 SKU, которых нет в полном списке (всего обнулений: 1\u{a0}240)",
            ),
            (
                zero(55),
                Language::Chinese,
                "55 个 SKU 因完整列表中没有而归零（归零总数：1,240）",
            ),
        ] {
            assert_eq!(absence(effect, language), expected);
        }
        let mut sentences: Vec<String> = [
            zero(0),
            AbsenceEffect::KeptByDelta,
            AbsenceEffect::KeptBySetting,
            AbsenceEffect::NotApplied,
        ]
        .iter()
        .flat_map(|effect| Language::ALL.map(|language| absence(*effect, language)))
        .collect();
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), 12, "two effects have one sentence");
    }

    #[test]
    fn progress_names_what_is_known() {
        for (of, language, expected) in [
            (
                Some(1_000_000),
                Language::English,
                "Comparing with the stock: 1,240 of about 1,000,000 SKUs. The page loads itself again.",
            ),
            (
                None,
                Language::English,
                "Comparing with the stock: 1,240 SKUs so far. The page loads itself again.",
            ),
            (
                Some(1_000_000),
                Language::Russian,
                "Идёт сравнение с остатками: 1\u{a0}240 SKU из примерно 1\u{a0}000\u{a0}000. \
                 Страница обновится сама.",
            ),
        ] {
            assert_eq!(comparing(1_240, of, language), expected);
        }
    }
}
