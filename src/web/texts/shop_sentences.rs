//! Sentences of a shop's page, in every language.

use super::skus;
use crate::i18n::Language;
use crate::web::shop_actions::ActionResult;

/// Heading of the page about a shop that does not exist.
pub(in crate::web) fn unknown_shop(name: &str, language: Language) -> String {
    match language {
        Language::English => format!("The shop “{name}” does not exist"),
        Language::Russian => format!("Магазина «{name}» нет"),
        Language::Chinese => format!("没有名为“{name}”的店铺"),
    }
}

/// Sentence about an action of the operator.
pub(in crate::web) fn action_result(result: ActionResult, at: &str, language: Language) -> String {
    let sentence = language.choose(match result {
        ActionResult::ReadbackRequested => [
            "The read-back has been requested. Its result appears below.",
            "Сверка запрошена. Результат появится ниже.",
            "已请求核对，结果将显示在下方。",
        ],
        ActionResult::Paused => [
            "Sending is paused. It stays paused until you resume it.",
            "Отправка приостановлена. Она не начнётся, пока вы её не возобновите.",
            "发送已暂停，直到您恢复为止。",
        ],
        ActionResult::Resumed => [
            "Sending is resumed. The waiting SKUs are sent now.",
            "Отправка возобновлена. Ожидавшие SKU отправляются.",
            "发送已恢复，正在发送等待中的 SKU。",
        ],
        ActionResult::PollRequested => [
            "The poll of the source has been requested. Its result appears below.",
            "Опрос источника запрошен. Результат появится ниже.",
            "已请求轮询该数据源，结果将显示在下方。",
        ],
        ActionResult::NotForwarded => [
            "Nothing was done: nothing is sent for this shop.",
            "Ничего не изменилось: остатки этого магазина не отправляются.",
            "未做任何更改：该店铺不发送库存。",
        ],
        ActionResult::OtherReplica => [
            "Nothing was done: another replica sends for this shop.",
            "Ничего не изменилось: остатки этого магазина отправляет другая реплика.",
            "未做任何更改：该店铺的库存由其他副本发送。",
        ],
        ActionResult::NotPersisted => [
            "Nothing was done: the change could not be written to disk. See the alarms.",
            "Ничего не изменилось: изменение не удалось записать на диск. Посмотрите тревоги.",
            "未做任何更改：更改无法写入磁盘。请查看告警。",
        ],
        ActionResult::Unconfirmed => [
            "The change is not confirmed, and may take effect later. See the alarms, and repeat it.",
            "Изменение не подтверждено и может вступить в силу позже. Посмотрите тревоги и повторите действие.",
            "该更改尚未得到确认，可能稍后生效。请查看告警并重试。",
        ],
        ActionResult::UnknownSource => [
            "Nothing was done: the shop has no such source.",
            "Ничего не изменилось: такого источника у магазина нет.",
            "未做任何更改：该店铺没有此数据源。",
        ],
    });
    format!("{at}{}{sentence}", language.choose([": ", ": ", "："]))
}

/// State of a shop whose sending the operator has paused, through this replica if it is known.
pub(in crate::web) fn paused_since(
    since: &str,
    through: Option<&str>,
    language: Language,
) -> String {
    match (language, through) {
        (Language::English, None) => format!("paused by the operator since {since}"),
        (Language::English, Some(name)) => {
            format!("paused by the operator since {since}, through replica {name}")
        }
        (Language::Russian, None) => format!("приостановлена оператором с {since}"),
        (Language::Russian, Some(name)) => {
            format!("приостановлена оператором с {since} через реплику {name}")
        }
        (Language::Chinese, None) => format!("自 {since} 起由操作员暂停"),
        (Language::Chinese, Some(name)) => format!("自 {since} 起由操作员通过副本 {name} 暂停"),
    }
}

/// State of a shop whose changes are being sent.
pub(in crate::web) fn sending_now(waiting: u64, language: Language) -> String {
    let verb = language.choose(["sending", "идёт, осталось", "正在发送"]);
    format!("{verb} {}", skus(waiting, language))
}

/// Time of the next request.
pub(in crate::web) fn next_try(distance: &str, full: &str, language: Language) -> String {
    match language {
        Language::English => format!("Next try {distance}, at {full}."),
        Language::Russian => format!("Следующая попытка {distance}, {full}."),
        Language::Chinese => format!("{distance}重试（{full}）。"),
    }
}

/// Effect of the button that pauses sending.
pub(in crate::web) fn effect_of_pausing(waiting: u64, language: Language) -> String {
    let (count, verb) = (skus(waiting, language), wait(waiting, language));
    match language {
        Language::English => format!(
            "If you pause, nothing is sent for this shop until you resume, also after a restart. \
             {count} {verb} now, and later changes wait too. The Market keeps the counts it has, \
             and read-backs continue."
        ),
        Language::Russian => format!(
            "После приостановки остатки магазина не отправляются, пока вы не возобновите отправку, \
             в том числе после перезапуска. Сейчас {verb} {count}; следующие изменения тоже будут \
             ждать. На Маркете останутся прежние остатки, сверка продолжается."
        ),
        Language::Chinese => format!(
            "暂停后，在您恢复之前不会发送该店铺的任何库存，重启后也一样。现在有 {count} {verb}，之后的\
             更改也会等待。Market 保留现有数量，核对继续进行。"
        ),
    }
}

/// Effect of the button that resumes sending.
pub(in crate::web) fn effect_of_resuming(waiting: u64, language: Language) -> String {
    let (count, verb) = (skus(waiting, language), wait(waiting, language));
    match language {
        Language::English => format!(
            "Sending is paused: {count} {verb}. If you resume, they are sent at once, within the \
             Market's limit."
        ),
        Language::Russian => format!(
            "Отправка приостановлена: {verb} {count}. После возобновления всё, что ждёт, будет \
             сразу отправлено в пределах лимита Маркета."
        ),
        Language::Chinese => {
            format!("发送已暂停：有 {count} {verb}。恢复后会在 Market 的限额内立即发送。")
        }
    }
}

/// Effect of the button that pauses or resumes sending, on a replica that does not send.
pub(in crate::web) fn effect_elsewhere(is_paused: bool, language: Language) -> &'static str {
    language.choose(if is_paused {
        [
            "Sending is paused on all replicas. If you resume, all that waits is sent within the \
             Market's limit.",
            "Отправка приостановлена на всех репликах. После возобновления всё, что ждёт, будет \
             отправлено в пределах лимита Маркета.",
            "所有副本都已暂停发送。恢复后会在 Market 的限额内发送等待中的库存。",
        ]
    } else {
        [
            "If you pause, no replica sends anything for this shop until you resume, also after a \
             restart. The Market keeps the counts it has, and read-backs continue.",
            "После приостановки ни одна реплика не отправляет остатки магазина, пока вы не возобновите \
             отправку, в том числе после перезапуска. На Маркете останутся прежние остатки, сверка \
             продолжается.",
            "暂停后，在您恢复之前任何副本都不会发送该店铺的库存，重启后也一样。Market 保留现有数量，\
             核对继续进行。",
        ]
    })
}

fn wait(skus: u64, language: Language) -> &'static str {
    match language {
        Language::English => language.plural(skus, ["waits", "", "wait"]),
        Language::Russian => language.plural(skus, ["ждёт", "ждут", "ждут"]),
        Language::Chinese => "在等待",
    }
}

/// Sentence about rows that are not shown.
pub(in crate::web) fn more_rows(n: u64, language: Language) -> String {
    let number = language.number(n);
    match language {
        Language::English => format!("And {number} more, which are not shown. Search for a SKU."),
        Language::Russian => format!("И ещё {number}, они не показаны. Найдите SKU через поиск."),
        Language::Chinese => format!("另有 {number} 个未显示，请使用查找。"),
    }
}

/// Counts of a delivery.
pub(in crate::web) fn delivery_counts(rows: u64, changed: u64, language: Language) -> String {
    let (number, changed) = (language.number(rows), language.number(changed));
    match language {
        Language::English => {
            let noun = language.plural(rows, ["row", "", "rows"]);
            format!("{number} {noun}, {changed} changed")
        }
        Language::Russian => {
            let noun = language.plural(rows, ["строка", "строки", "строк"]);
            format!("{number} {noun}, изменений: {changed}")
        }
        Language::Chinese => format!("{number} 行，{changed} 处更改"),
    }
}

/// End of the last complete read-back.
pub(in crate::web) fn readback_ended(
    ago: &str,
    full: &str,
    resent: u64,
    language: Language,
) -> String {
    let number = language.number(resent);
    language.choose([
        format!("Last complete read-back {ago} ({full}). SKUs sent again: {number}."),
        format!("Последняя полная сверка {ago} ({full}). Отправлено ещё раз: {number} SKU."),
        format!("最近一次完整核对：{ago}（{full}）。再次发送 {number} 个 SKU。"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_agree_with_their_numbers() {
        for (sentence, part) in [
            (effect_of_pausing(1, Language::English), "1 SKU waits now"),
            (
                effect_of_pausing(1_240, Language::English),
                "1,240 SKUs wait now",
            ),
            (
                effect_of_resuming(0, Language::English),
                "paused: 0 SKUs wait.",
            ),
            (
                effect_of_pausing(21, Language::Russian),
                "Сейчас ждёт 21 SKU;",
            ),
            (
                effect_of_resuming(1_240, Language::Russian),
                "ждут 1\u{a0}240 SKU.",
            ),
            (
                effect_of_resuming(5, Language::Chinese),
                "：有 5 个 SKU 在等待。",
            ),
            (
                effect_of_pausing(5, Language::Chinese),
                "现在有 5 个 SKU 在等待，",
            ),
            (sending_now(5, Language::Chinese), "正在发送 5 个 SKU"),
            (delivery_counts(1, 0, Language::English), "1 row, 0 changed"),
            (
                delivery_counts(22, 3, Language::Russian),
                "22 строки, изменений: 3",
            ),
        ] {
            assert!(sentence.contains(part), "{part} is not in {sentence}");
        }
    }
}
