//! Sentences that explain how the sources and the rules lead to the stock of a SKU, in every
//! language.

use stock_import::Quantity;
use stock_import::stock_rules::{Combine, RuleStep, StatedPieces};

use super::{Text, labelled};
use crate::i18n::Language;
use crate::ops::StockSteps;
use crate::sources::{StatementStep, StockStep};
use crate::web::format::decimal_mark;
use crate::web::page_context::PageContext;
use crate::web::visible::visible;

/// Steps in sentences, or one sentence with the reason why they cannot be read.
pub(in crate::web) fn stock_steps(steps: &StockSteps, context: PageContext) -> Vec<String> {
    match &steps.0 {
        Ok(steps) => steps.iter().map(|step| sentence(step, context)).collect(),
        Err(error) => {
            let failure = [
                "The statements of the sources cannot be read: ",
                "Не удаётся прочитать данные источников: ",
                "无法读取来自数据源的库存数据：",
            ];
            vec![labelled(failure, &visible(error), context.language)]
        }
    }
}

fn sentence(step: &StockStep, context: PageContext) -> String {
    match step {
        StockStep::Statement(statement) => statement_sentence(statement, context),
        StockStep::RemovedSource => context.text(Text::REMOVED_SOURCE).to_owned(),
        StockStep::Rule(step) => rule_sentence(step, context.language),
        StockStep::Result { count, stated_at } => {
            let count = context.number(count.get());
            let result = labelled(["Result: ", "Итог: ", "结果："], &count, context.language);
            let as_of = [" as of ", " по состоянию на ", "，截至 "];
            let at = context.full(stated_at.to_utc());
            result + &labelled(as_of, &at, context.language)
        }
    }
}

fn statement_sentence(statement: &StatementStep, context: PageContext) -> String {
    let language = context.language;
    let source = visible(&statement.source);
    let sku = quoted(&statement.source_sku, language);
    let count = quantity(statement.quantity, language);
    let mut text = match language {
        Language::English => format!("{source}: {count} of {sku}"),
        Language::Russian => format!("{source}: {sku} — {count}"),
        Language::Chinese => format!("{source}：{sku}为 {count}"),
    };
    if !statement.variant.is_empty() {
        let variant = quoted(&statement.variant, language);
        text += &labelled([", variant ", ", вариант ", "，规格"], &variant, language);
    }
    text += &warehouse_part(&statement.warehouse, language);
    if let Some(at) = statement.stated_at {
        let as_of = [", as of ", ", по состоянию на ", "，截至 "];
        text += &labelled(as_of, &context.full(at.to_utc()), language);
    }
    if statement.is_absent {
        text += language.choose([
            "; its last snapshot lacks the product",
            "; в последнем снимке товара нет",
            "；最近一次快照中没有该商品",
        ]);
    }
    if statement.is_other_warehouse {
        text += language.choose([
            "; this warehouse does not feed the shop",
            "; этот склад не учитывается в магазине",
            "；该仓库不向此店铺供货",
        ]);
    }
    text
}

fn rule_sentence(step: &RuleStep, language: Language) -> String {
    match step {
        RuleStep::Stated(stated) => pieces_sentence(stated, language),
        RuleStep::Rows {
            combine,
            rows,
            pieces,
        } => {
            let units = language.choose(["rows", "строк", "行"]);
            combined(*combine, *rows, units, *pieces, language)
        }
        RuleStep::Sources {
            combine,
            sources,
            pieces,
        } => {
            let units = language.choose(["sources", "источников", "个数据源"]);
            combined(*combine, *sources, units, *pieces, language)
        }
        RuleStep::Buffer { buffer, pieces } => {
            let (buffer, pieces) = (language.number((*buffer).into()), signed(*pieces, language));
            language.choose([
                format!("Less the safety buffer {buffer}: {pieces}"),
                format!("За вычетом страхового запаса {buffer}: {pieces}"),
                format!("减去安全库存 {buffer}：{pieces}"),
            ])
        }
        RuleStep::ZeroBelow(limit) => {
            let limit = language.number((*limit).into());
            language.choose([
                format!("Less than {limit} counts as 0: 0"),
                format!("Меньше {limit} считается нулём: 0"),
                format!("少于 {limit} 视为 0：0"),
            ])
        }
        RuleStep::Cap(cap) => {
            let cap = signed(*cap, language);
            language.choose([
                format!("At most {cap}: {cap}"),
                format!("Не больше {cap}: {cap}"),
                format!("上限 {cap}：{cap}"),
            ])
        }
        RuleStep::Override(count) => {
            let set = [
                "Set for this SKU: ",
                "Задано для этого SKU: ",
                "为该 SKU 单独设定：",
            ];
            labelled(set, &language.number(count.get().into()), language)
        }
    }
}

/// Sentence about the conversion of a statement to pieces.
fn pieces_sentence(stated: &StatedPieces, language: Language) -> String {
    let mut text = match &stated.source_sku {
        Some(source_sku) => quoted(source_sku, language),
        None => language
            .choose(["In pieces", "В штуках", "件数"])
            .to_owned(),
    };
    text += &warehouse_part(&stated.warehouse, language);
    text += language.choose([": ", ": ", "："]);
    text += &quantity(stated.quantity, language);
    if let Some(reserve) = stated.reserve {
        let less = [" less the reserve ", " минус резерв ", " 减去预留 "];
        text += &labelled(less, &quantity(reserve, language), language);
    }
    if stated.pack_size > 1 {
        let size = signed(stated.pack_size, language);
        text += &match language {
            Language::English => format!(", {size} per pack"),
            Language::Russian => format!(", в упаковке {size}"),
            Language::Chinese => format!("，每包 {size} 件"),
        };
    }
    if stated.quantity.thousandths() != stated.pieces * 1_000 {
        let pieces = signed(stated.pieces, language);
        text += &match language {
            Language::English => format!("; in pieces: {pieces}"),
            Language::Russian => format!("; итого штук: {pieces}"),
            Language::Chinese => format!("，折合 {pieces} 件"),
        };
    }
    text
}

/// Sentence about the combination of several numbers.
fn combined(
    combine: Combine,
    count: usize,
    units: &str,
    pieces: i64,
    language: Language,
) -> String {
    let pieces = signed(pieces, language);
    let function = language.choose(match combine {
        Combine::Latest => ["Latest", "Последнее по дате", "最新值"],
        Combine::Sum => ["Sum", "Сумма", "合计"],
        Combine::Minimum => ["Smallest", "Наименьшее", "最小值"],
        Combine::First => ["First", "Первое по порядку в конфигурации", "第一个"],
    });
    match (language, combine) {
        (Language::English, _) => format!("{function} of {count} {units}: {pieces}"),
        (Language::Russian, _) => format!("{function} ({units}: {count}): {pieces}"),
        (Language::Chinese, Combine::First) => {
            format!("按配置顺序取 {count} {units}中的{function}：{pieces}")
        }
        (Language::Chinese, Combine::Sum) => format!("{count} {units}的{function}：{pieces}"),
        (Language::Chinese, Combine::Latest | Combine::Minimum) => {
            format!("{count} {units}中的{function}：{pieces}")
        }
    }
}

/// Part of a sentence that names the warehouse; empty without a warehouse.
fn warehouse_part(warehouse: &str, language: Language) -> String {
    if warehouse.is_empty() {
        return String::new();
    }
    let warehouse = quoted(warehouse, language);
    labelled([", warehouse ", ", склад ", "，仓库"], &warehouse, language)
}

fn quoted(text: &str, language: Language) -> String {
    let [open, close] = language.choose([["'", "'"], ["«", "»"], ["“", "”"]]);
    format!("{open}{}{close}", visible(text))
}

/// Number with a minus sign if it is negative.
fn signed(n: i64, language: Language) -> String {
    let number = language.number(n.unsigned_abs());
    if n < 0 {
        format!("−{number}")
    } else {
        number
    }
}

/// Quantity with the decimal mark of the language.
fn quantity(quantity: Quantity, language: Language) -> String {
    let thousandths = quantity.thousandths();
    let whole = language.number(thousandths.unsigned_abs() / 1_000);
    let sign = if thousandths < 0 { "−" } else { "" };
    let fraction = thousandths.unsigned_abs() % 1_000;
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let mark = decimal_mark(language);
    let digits = format!("{fraction:03}");
    format!("{sign}{whole}{mark}{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset};
    use stock::{Count, Timestamp};

    use super::*;

    fn context(language: Language) -> PageContext {
        PageContext {
            now: DateTime::UNIX_EPOCH,
            language,
            zone: FixedOffset::east_opt(3 * 3600).unwrap(),
        }
    }

    fn thousandths(n: i64) -> Quantity {
        Quantity::from_thousandths(n).unwrap()
    }

    fn statement() -> StatementStep {
        StatementStep {
            source: "erp".to_owned(),
            source_sku: "0042".to_owned(),
            variant: String::new(),
            warehouse: String::new(),
            quantity: thousandths(5_000),
            stated_at: Timestamp::from_micros(0),
            is_absent: false,
            is_other_warehouse: false,
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn each_step_is_one_sentence_in_each_language() {
        let full_statement = StatementStep {
            variant: "red\u{202e}".to_owned(),
            warehouse: "Msk".to_owned(),
            quantity: thousandths(-1_234_500),
            stated_at: None,
            is_absent: true,
            is_other_warehouse: true,
            ..statement()
        };
        let pieces = RuleStep::Stated(StatedPieces {
            source_sku: None,
            warehouse: String::new(),
            quantity: thousandths(5_000),
            reserve: None,
            pack_size: 1,
            pieces: 5,
        });
        let packs = RuleStep::Stated(StatedPieces {
            source_sku: Some("0042".to_owned()),
            warehouse: "Msk".to_owned(),
            quantity: thousandths(29_050),
            reserve: Some(thousandths(40_000)),
            pack_size: 10,
            pieces: -2,
        });
        let rows = RuleStep::Rows {
            combine: Combine::Minimum,
            rows: 3,
            pieces: 1_000,
        };
        let sources = |combine| RuleStep::Sources {
            combine,
            sources: 2,
            pieces: 7,
        };
        let buffer = RuleStep::Buffer {
            buffer: 2,
            pieces: 28,
        };
        let result = StockStep::Result {
            count: Count::try_from(5_i64).unwrap(),
            stated_at: Timestamp::from_micros(0).unwrap(),
        };
        for (step, english, russian, chinese) in [
            (
                StockStep::Statement(statement()),
                "erp: 5 of '0042', as of 1 Jan 1970 03:00:00 UTC+3",
                "erp: «0042» — 5, по состоянию на 01.01.1970 03:00:00 UTC+3",
                "erp：“0042”为 5，截至 1970-01-01 03:00:00 UTC+3",
            ),
            (
                StockStep::Statement(full_statement),
                "erp: −1,234.5 of '0042', variant 'red⟨U+202E⟩', warehouse 'Msk'; its last \
                 snapshot lacks the product; this warehouse does not feed the shop",
                "erp: «0042» — −1\u{a0}234,5, вариант «red⟨U+202E⟩», склад «Msk»; в последнем \
                 снимке товара нет; этот склад не учитывается в магазине",
                "erp：“0042”为 −1,234.5，规格“red⟨U+202E⟩”，仓库“Msk”；最近一次快照中没有该商品；\
                 该仓库不向此店铺供货",
            ),
            (
                StockStep::Rule(pieces),
                "In pieces: 5",
                "В штуках: 5",
                "件数：5",
            ),
            (
                StockStep::Rule(packs),
                "'0042', warehouse 'Msk': 29.05 less the reserve 40, 10 per pack; in pieces: −2",
                "«0042», склад «Msk»: 29,05 минус резерв 40, в упаковке 10; итого штук: −2",
                "“0042”，仓库“Msk”：29.05 减去预留 40，每包 10 件，折合 −2 件",
            ),
            (
                StockStep::Rule(rows),
                "Smallest of 3 rows: 1,000",
                "Наименьшее (строк: 3): 1\u{a0}000",
                "3 行中的最小值：1,000",
            ),
            (
                StockStep::Rule(sources(Combine::Latest)),
                "Latest of 2 sources: 7",
                "Последнее по дате (источников: 2): 7",
                "2 个数据源中的最新值：7",
            ),
            (
                StockStep::Rule(sources(Combine::First)),
                "First of 2 sources: 7",
                "Первое по порядку в конфигурации (источников: 2): 7",
                "按配置顺序取 2 个数据源中的第一个：7",
            ),
            (
                StockStep::Rule(buffer),
                "Less the safety buffer 2: 28",
                "За вычетом страхового запаса 2: 28",
                "减去安全库存 2：28",
            ),
            (
                StockStep::Rule(RuleStep::ZeroBelow(5)),
                "Less than 5 counts as 0: 0",
                "Меньше 5 считается нулём: 0",
                "少于 5 视为 0：0",
            ),
            (
                StockStep::Rule(RuleStep::Cap(20)),
                "At most 20: 20",
                "Не больше 20: 20",
                "上限 20：20",
            ),
            (
                result,
                "Result: 5 as of 1 Jan 1970 03:00:00 UTC+3",
                "Итог: 5 по состоянию на 01.01.1970 03:00:00 UTC+3",
                "结果：5，截至 1970-01-01 03:00:00 UTC+3",
            ),
        ] {
            for (language, expected) in [
                (Language::English, english),
                (Language::Russian, russian),
                (Language::Chinese, chinese),
            ] {
                let steps = StockSteps(Ok(vec![step.clone()]));
                assert_eq!(stock_steps(&steps, context(language)), [expected]);
            }
        }
    }
}
