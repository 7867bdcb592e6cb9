//! Sentences that explain how the sources and the rules lead to the stock of a SKU, in every
//! language.

use stock_import::Quantity;
use stock_import::stock_rules::{Combine, RuleStep, StatedPieces};

use crate::i18n::Language;
use crate::ops::StockSteps;
use crate::sources::{StatementStep, StockStep};
use crate::web::page_context::PageContext;
use crate::web::visible::visible;

/// Steps in sentences, or one sentence with the reason why they cannot be read.
pub(in crate::web) fn stock_steps(steps: &StockSteps, context: PageContext) -> Vec<String> {
    match &steps.0 {
        Ok(steps) => steps.iter().map(|step| sentence(step, context)).collect(),
        Err(error) => {
            let error = visible(error);
            vec![match context.language {
                Language::English => {
                    format!("The statements of the sources cannot be read: {error}")
                }
                Language::Russian => format!("Не удаётся прочитать данные источников: {error}"),
                Language::Chinese => format!("无法读取来自数据源的库存数据：{error}"),
            }]
        }
    }
}

fn sentence(step: &StockStep, context: PageContext) -> String {
    let language = context.language;
    match step {
        StockStep::Statement(statement) => statement_sentence(statement, context),
        StockStep::RemovedSource => match language {
            Language::English => "A source that was removed from the configuration does not count",
            Language::Russian => "Источник удалён из конфигурации и не учитывается",
            Language::Chinese => "已从配置中删除的数据源不计入",
        }
        .to_owned(),
        StockStep::Rule(step) => rule_sentence(step, language),
        StockStep::Result { count, stated_at } => {
            let count = context.number(count.get().into());
            let at = context.full(stated_at.to_utc());
            match language {
                Language::English => format!("Result: {count} as of {at}"),
                Language::Russian => format!("Итог: {count} по состоянию на {at}"),
                Language::Chinese => format!("结果：{count}，截至 {at}"),
            }
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
        text += &match language {
            Language::English => format!(", variant {variant}"),
            Language::Russian => format!(", вариант {variant}"),
            Language::Chinese => format!("，规格{variant}"),
        };
    }
    text += &warehouse_part(&statement.warehouse, language);
    if let Some(at) = statement.stated_at {
        let at = context.full(at.to_utc());
        text += &match language {
            Language::English => format!(", as of {at}"),
            Language::Russian => format!(", по состоянию на {at}"),
            Language::Chinese => format!("，截至 {at}"),
        };
    }
    if statement.is_absent {
        text += match language {
            Language::English => "; its last snapshot lacks the product",
            Language::Russian => "; в последнем снимке товара нет",
            Language::Chinese => "；最近一次快照中没有该商品",
        };
    }
    if statement.is_other_warehouse {
        text += match language {
            Language::English => "; this warehouse does not feed the shop",
            Language::Russian => "; этот склад не учитывается в магазине",
            Language::Chinese => "；该仓库不向此店铺供货",
        };
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
            let units = match language {
                Language::English => "rows",
                Language::Russian => "строк",
                Language::Chinese => "行",
            };
            combined(*combine, *rows, units, *pieces, language)
        }
        RuleStep::Sources {
            combine,
            sources,
            pieces,
        } => {
            let units = match language {
                Language::English => "sources",
                Language::Russian => "источников",
                Language::Chinese => "个数据源",
            };
            combined(*combine, *sources, units, *pieces, language)
        }
        RuleStep::Buffer { buffer, pieces } => {
            let (buffer, pieces) = (language.number((*buffer).into()), signed(*pieces, language));
            match language {
                Language::English => format!("Less the safety buffer {buffer}: {pieces}"),
                Language::Russian => format!("За вычетом страхового запаса {buffer}: {pieces}"),
                Language::Chinese => format!("减去安全库存 {buffer}：{pieces}"),
            }
        }
        RuleStep::ZeroBelow(limit) => {
            let limit = language.number((*limit).into());
            match language {
                Language::English => format!("Less than {limit} counts as 0: 0"),
                Language::Russian => format!("Меньше {limit} считается нулём: 0"),
                Language::Chinese => format!("少于 {limit} 视为 0：0"),
            }
        }
        RuleStep::Cap(cap) => {
            let cap = signed(*cap, language);
            match language {
                Language::English => format!("At most {cap}: {cap}"),
                Language::Russian => format!("Не больше {cap}: {cap}"),
                Language::Chinese => format!("上限 {cap}：{cap}"),
            }
        }
        RuleStep::Override(count) => {
            let count = language.number(count.get().into());
            match language {
                Language::English => format!("Set for this SKU: {count}"),
                Language::Russian => format!("Задано для этого SKU: {count}"),
                Language::Chinese => format!("为该 SKU 单独设定：{count}"),
            }
        }
    }
}

/// Sentence about the conversion of a statement to pieces.
fn pieces_sentence(stated: &StatedPieces, language: Language) -> String {
    let mut text = match (&stated.source_sku, language) {
        (Some(source_sku), language) => quoted(source_sku, language),
        (None, Language::English) => "In pieces".to_owned(),
        (None, Language::Russian) => "В штуках".to_owned(),
        (None, Language::Chinese) => "件数".to_owned(),
    };
    text += &warehouse_part(&stated.warehouse, language);
    text += match language {
        Language::English | Language::Russian => ": ",
        Language::Chinese => "：",
    };
    text += &quantity(stated.quantity, language);
    if let Some(reserve) = stated.reserve {
        let reserve = quantity(reserve, language);
        text += &match language {
            Language::English => format!(" less the reserve {reserve}"),
            Language::Russian => format!(" минус резерв {reserve}"),
            Language::Chinese => format!(" 减去预留 {reserve}"),
        };
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
    match language {
        Language::English => {
            let function = match combine {
                Combine::Latest => "Latest",
                Combine::Sum => "Sum",
                Combine::Minimum => "Smallest",
                Combine::First => "First",
            };
            format!("{function} of {count} {units}: {pieces}")
        }
        Language::Russian => {
            let function = match combine {
                Combine::Latest => "Последнее по дате",
                Combine::Sum => "Сумма",
                Combine::Minimum => "Наименьшее",
                Combine::First => "Первое по порядку в конфигурации",
            };
            format!("{function} ({units}: {count}): {pieces}")
        }
        Language::Chinese => match combine {
            Combine::Latest => format!("{count} {units}中的最新值：{pieces}"),
            Combine::Sum => format!("{count} {units}的合计：{pieces}"),
            Combine::Minimum => format!("{count} {units}中的最小值：{pieces}"),
            Combine::First => format!("按配置顺序取 {count} {units}中的第一个：{pieces}"),
        },
    }
}

/// Part of a sentence that names the warehouse; empty without a warehouse.
fn warehouse_part(warehouse: &str, language: Language) -> String {
    if warehouse.is_empty() {
        return String::new();
    }
    let warehouse = quoted(warehouse, language);
    match language {
        Language::English => format!(", warehouse {warehouse}"),
        Language::Russian => format!(", склад {warehouse}"),
        Language::Chinese => format!("，仓库{warehouse}"),
    }
}

fn quoted(text: &str, language: Language) -> String {
    let text = visible(text);
    match language {
        Language::English => format!("'{text}'"),
        Language::Russian => format!("«{text}»"),
        Language::Chinese => format!("“{text}”"),
    }
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
    let mark = match language {
        Language::English | Language::Chinese => '.',
        Language::Russian => ',',
    };
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
