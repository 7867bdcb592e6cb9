//! Words and sentences about sources and held deliveries, in every language.

use stock_import::delivery_guard::HoldReason;

use super::skus;
use crate::i18n::Language;
use crate::sources::SourceState;
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

/// Progress of a comparison of a held delivery with the stock.
pub(in crate::web) fn comparing(n: u64, language: Language) -> String {
    let (number, skus) = (language.number(n), skus(n, language));
    language.choose([
        format!("Comparing with the stock: {skus} so far. The page loads itself again."),
        format!("Идёт сравнение с остатками, сравнено SKU: {number}. Страница обновится сама."),
        format!("正在与库存比较，已比较 {skus}。页面会自动刷新。"),
    ])
}

/// Kind of a source, by its name in the setting `kind`.
pub(in crate::web) fn source_kind(kind: &'static str, language: Language) -> &'static str {
    language.choose(match kind {
        "file" => ["file", "файл", "文件"],
        "legacy" => ["old handler", "старый обработчик", "旧处理程序"],
        "1c" => ["1C", "1С", "1C"],
        "moysklad" => ["MoySklad", "МойСклад", "MoySklad"],
        "sql" => ["SQL database", "база данных SQL", "SQL 数据库"],
        "import" => ["import by hand", "загрузка вручную", "手动导入"],
        other => [other; 3],
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
            for kind in ["file", "legacy", "1c", "moysklad", "sql", "import"] {
                assert!(!source_kind(kind, language).is_empty());
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
