//! Words and sentences about sources and held deliveries, in every language.

use stock_import::delivery_guard::HoldReason;

use crate::i18n::Language;
use crate::sources::{SourceKindName, SourceState};
use crate::web::visible::visible;

/// State of a source in words; `rows_so_far` of the delivery that is read.
pub(in crate::web) fn source_state(
    state: SourceState,
    rows_so_far: Option<u64>,
    language: Language,
) -> String {
    let count = rows_so_far.unwrap_or_default();
    let rows = language.number(count);
    match language {
        Language::English => match state {
            SourceState::Reading => format!(
                "reading, {rows} {} so far",
                language.plural(count, ["row", "rows", "rows"])
            ),
            SourceState::Failed => "failed".to_owned(),
            SourceState::Held => "held for approval".to_owned(),
            SourceState::Incomplete => "applied, but absent SKUs keep their stock".to_owned(),
            SourceState::Ok => "applied".to_owned(),
            SourceState::Waiting => "waits for the first delivery".to_owned(),
        },
        Language::Russian => match state {
            SourceState::Reading => format!("читается, строк: {rows}"),
            SourceState::Failed => "ошибка".to_owned(),
            SourceState::Held => "ждёт подтверждения".to_owned(),
            SourceState::Incomplete => {
                "выгрузка применена, но отсутствующие SKU не обнулены".to_owned()
            }
            SourceState::Ok => "выгрузка применена".to_owned(),
            SourceState::Waiting => "ждёт первой выгрузки".to_owned(),
        },
        Language::Chinese => match state {
            SourceState::Reading => format!("正在读取，已读 {rows} 行"),
            SourceState::Failed => "失败".to_owned(),
            SourceState::Held => "待批准".to_owned(),
            SourceState::Incomplete => "已应用，但缺少的 SKU 未归零".to_owned(),
            SourceState::Ok => "已应用".to_owned(),
            SourceState::Waiting => "等待第一批数据".to_owned(),
        },
    }
}

/// Progress of a comparison of a held delivery with the stock.
pub(in crate::web) fn comparing(skus: u64, language: Language) -> String {
    let number = language.number(skus);
    match language {
        Language::English => format!(
            "Comparing with the stock: {number} {} so far. The page loads itself again.",
            language.plural(skus, ["SKU", "SKUs", "SKUs"])
        ),
        Language::Russian => {
            format!("Идёт сравнение с остатками, сравнено SKU: {number}. Страница обновится сама.")
        }
        Language::Chinese => format!("正在与库存比较，已比较 {number} 个 SKU。页面会自动刷新。"),
    }
}

/// Kind of a source.
pub(in crate::web) fn source_kind(kind: SourceKindName, language: Language) -> &'static str {
    use SourceKindName::{Exchange, File, Import, Legacy, MoySklad, Sql};
    match (kind, language) {
        (File, Language::English) => "file",
        (File, Language::Russian) => "файл",
        (File, Language::Chinese) => "文件",
        (Legacy, Language::English) => "old handler",
        (Legacy, Language::Russian) => "старый обработчик",
        (Legacy, Language::Chinese) => "旧处理程序",
        (Exchange, Language::English | Language::Chinese) => "1C",
        (Exchange, Language::Russian) => "1С",
        (MoySklad, Language::English | Language::Chinese) => "MoySklad",
        (MoySklad, Language::Russian) => "МойСклад",
        (Sql, Language::English) => "SQL database",
        (Sql, Language::Russian) => "база данных SQL",
        (Sql, Language::Chinese) => "SQL 数据库",
        (Import, Language::English) => "import by hand",
        (Import, Language::Russian) => "загрузка вручную",
        (Import, Language::Chinese) => "手动导入",
    }
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
    match language {
        Language::English => match reason {
            HoldReason::Empty => "The complete list is empty.".to_owned(),
            HoldReason::TooFewRows(impact) => format!(
                "It has {} rows, the last complete list had {}.",
                number(impact.rows),
                number(impact.rows_before)
            ),
            HoldReason::TooManyZeroed(impact) => format!(
                "It would turn {} of {} SKUs in stock to zero.",
                number(impact.zeroed),
                number(impact.in_stock)
            ),
            HoldReason::TooManyRejected(impact) => format!(
                "{} of {} rows are rejected or suspicious.",
                number(impact.rejected),
                number(impact.rejected + impact.rows)
            ),
            HoldReason::ShapeChanged(difference) => format!(
                "It is read differently from the last accepted one: {}",
                visible(difference)
            ),
        },
        Language::Russian => match reason {
            HoldReason::Empty => "Снимок пустой.".to_owned(),
            HoldReason::TooFewRows(impact) => format!(
                "Строк: {}, а в прошлом снимке было {}.",
                number(impact.rows),
                number(impact.rows_before)
            ),
            HoldReason::TooManyZeroed(impact) => format!(
                "Обнулились бы {} из {} SKU с остатком.",
                number(impact.zeroed),
                number(impact.in_stock)
            ),
            HoldReason::TooManyRejected(impact) => format!(
                "Отклонены или сомнительны {} из {} строк.",
                number(impact.rejected),
                number(impact.rejected + impact.rows)
            ),
            HoldReason::ShapeChanged(difference) => format!(
                "Читается не так, как последняя принятая выгрузка: {}",
                visible(difference)
            ),
        },
        Language::Chinese => match reason {
            HoldReason::Empty => "完整快照是空的。".to_owned(),
            HoldReason::TooFewRows(impact) => format!(
                "只有 {} 行，上一次快照有 {} 行。",
                number(impact.rows),
                number(impact.rows_before)
            ),
            HoldReason::TooManyZeroed(impact) => format!(
                "{} 个有库存的 SKU 中有 {} 个会归零。",
                number(impact.in_stock),
                number(impact.zeroed)
            ),
            HoldReason::TooManyRejected(impact) => format!(
                "{} 行中有 {} 行被拒绝或可疑。",
                number(impact.rejected + impact.rows),
                number(impact.rejected)
            ),
            HoldReason::ShapeChanged(difference) => {
                format!("读取方式与上一批已接受的数据不同：{}", visible(difference))
            }
        },
    }
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
    let number = language.number(n);
    match language {
        Language::English => format!(
            "{number} {} would change",
            language.plural(n, ["SKU", "SKUs", "SKUs"])
        ),
        Language::Russian => format!(
            "{} {number} SKU",
            language.plural(n, ["Изменится", "Изменятся", "Изменятся"])
        ),
        Language::Chinese => format!("{number} 个 SKU 将发生变化"),
    }
}

/// Name of the list with all kinds of changes.
pub(in crate::web) const fn all_kinds(language: Language) -> &'static str {
    match language {
        Language::English => "all",
        Language::Russian => "все",
        Language::Chinese => "全部",
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
}
