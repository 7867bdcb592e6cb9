//! Sentences of the events, and names of the groups in the filter.

use super::{labelled, skus};
use crate::event_log::{EVENT_KINDS, EventCounts, OperatorAction, PreviousRun, ServiceEvent};
use crate::i18n::{Language, alarm_text};
use crate::telemetry::AlarmKind;

/// Group of kinds in the filter.
#[derive(
    Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr, strum::VariantArray, strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub(in crate::web) enum EventGroup {
    Alarms,
    Sources,
    Sending,
    Readback,
    Quarantine,
    Operator,
    Service,
}

impl EventGroup {
    pub(in crate::web) const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Name in the address.
    pub(in crate::web) fn name(self) -> &'static str {
        self.into()
    }

    pub(in crate::web) fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Kinds of the group, out of [`EVENT_KINDS`].
    pub(in crate::web) fn kinds(self) -> Vec<&'static str> {
        let kinds = EVENT_KINDS.iter().copied();
        kinds.filter(|kind| Self::of(kind) == self).collect()
    }

    fn of(kind: &str) -> Self {
        match kind.split('_').next().unwrap_or_default() {
            "alarm" => Self::Alarms,
            "delivery" | "rules" => Self::Sources,
            "sending" => Self::Sending,
            "readback" => Self::Readback,
            "quarantine" => Self::Quarantine,
            "operator" | "selftest" => Self::Operator,
            _ => Self::Service,
        }
    }
}

/// Name of a group.
pub(in crate::web) fn event_group(group: EventGroup, language: Language) -> &'static str {
    language.choose(match group {
        EventGroup::Alarms => ["Alarms", "Тревоги", "告警"],
        EventGroup::Sources => ["Sources", "Источники", "数据源"],
        EventGroup::Sending => ["Sending", "Отправка", "发送"],
        EventGroup::Readback => ["Read-back", "Сверка", "核对"],
        EventGroup::Quarantine => ["Quarantine", "Карантин", "隔离"],
        EventGroup::Operator => ["Actions", "Действия", "操作"],
        EventGroup::Service => ["Service", "Сервис", "服务"],
    })
}

/// Reason of an event in the service's own words, which are English; empty if there is none.
pub(in crate::web) fn event_reason(event: &ServiceEvent) -> &str {
    match event {
        ServiceEvent::AlarmRaised { reason, .. }
        | ServiceEvent::DeliveryHeld { reason, .. }
        | ServiceEvent::DeliveryFailed { reason }
        | ServiceEvent::SendingPaused { reason }
        | ServiceEvent::SendingDelayed { reason }
        | ServiceEvent::ReadbackFailed { reason }
        | ServiceEvent::QuarantineEntered { reason, .. }
        | ServiceEvent::FileReplaced { reason, .. }
        | ServiceEvent::ServiceStopped {
            failure: Some(reason),
        } => reason.as_str(),
        _ => "",
    }
}

/// Sentence about a reload. The names of settings are the same in all languages.
fn reload_sentence(applied: &str, needs_restart: &str, language: Language) -> String {
    let read = [
        "the configuration was read again",
        "конфигурация прочитана заново",
        "配置已重新读取",
    ];
    let parts = [
        (["; changed: ", "; изменено: ", "；已更改："], applied),
        (
            [
                "; wait for a restart: ",
                "; ждут перезапуска: ",
                "；需重启后生效：",
            ],
            needs_restart,
        ),
    ];
    let mut sentence = language.choose(read).to_owned();
    for (label, keys) in parts.iter().filter(|(_, keys)| !keys.is_empty()) {
        sentence += language.choose(*label);
        sentence += keys;
    }
    if applied.is_empty() && needs_restart.is_empty() {
        sentence += language.choose([
            ": no setting has changed",
            ": ни одна настройка не изменилась",
            "：没有设置被更改",
        ]);
    }
    sentence
}

/// Sentence about an event, without its [`event_reason`].
#[expect(
    clippy::too_many_lines,
    reason = "one exhaustive match shows the compiler what is missing"
)]
pub(in crate::web) fn event_sentence(event: &ServiceEvent, language: Language) -> String {
    let number = |n: u64| language.number(n);
    language.choose(match event {
        ServiceEvent::ServiceStopped { .. } => {
            ["the service stopped", "сервис остановлен", "服务已停止"].map(str::to_owned)
        }
        ServiceEvent::AlarmRaised { alarm, .. } => return alarm_title(alarm, language),
        ServiceEvent::AlarmCleared { alarm, .. } => {
            let cleared = ["alarm cleared: ", "тревога снята: ", "告警解除："];
            return labelled(cleared, &alarm_title(alarm, language), language);
        }
        ServiceEvent::DeliveryHeld { counts, .. } => {
            let counts = delivery_counts(counts, language);
            [
                format!("held for approval, {counts}"),
                format!("выгрузка отложена до подтверждения, {counts}"),
                format!("数据待批准，{counts}"),
            ]
        }
        ServiceEvent::DeliveryFailed { .. } => [
            "the delivery failed; the stock is unchanged",
            "выгрузка не удалась, остатки не изменились",
            "数据处理失败，库存未变",
        ]
        .map(str::to_owned),
        ServiceEvent::SendingPaused { .. } => [
            "sending is paused until its cause is removed",
            "отправка приостановлена до устранения причины",
            "发送已暂停，直到原因消除",
        ]
        .map(str::to_owned),
        ServiceEvent::SendingDelayed { .. } => {
            ["sending is delayed", "отправка отложена", "发送已延后"].map(str::to_owned)
        }
        ServiceEvent::ReadbackFailed { .. } => {
            ["read-back failed", "сверка не удалась", "核对失败"].map(str::to_owned)
        }
        ServiceEvent::QuarantineEntered {
            skus: n, example, ..
        } => {
            let skus = skus(*n, language);
            let verb = language.plural(*n, ["попал", "попали", "попало"]);
            [
                format!("{skus} entered the quarantine, such as '{example}'"),
                format!("в карантин {verb} {skus}, например '{example}'"),
                format!("{skus} 被隔离，例如 '{example}'"),
            ]
        }
        ServiceEvent::FileReplaced { file, .. } => [
            format!(
                "{file} was damaged: it was renamed to {file}.damaged, and a new file was begun"
            ),
            format!("файл {file} повреждён: он переименован в {file}.damaged, начат новый"),
            format!("文件 {file} 已损坏：已重命名为 {file}.damaged，并新建文件"),
        ],
        // The other English sentences have no reason, so they are those of the event itself.
        ServiceEvent::ServiceStarted { version, previous } => {
            let [russian, again] = match previous {
                PreviousRun::None => ["", ""],
                PreviousRun::Stopped | PreviousRun::Crashed => ["снова ", "再次"],
            };
            let [crash, chinese_crash] = match previous {
                PreviousRun::None | PreviousRun::Stopped => ["", ""],
                PreviousRun::Crashed => [
                    "; прошлый запуск завершился аварийно",
                    "；上一次运行未正常停止",
                ],
            };
            [
                event.to_string(),
                format!("сервис {russian}запущен, версия {version}{crash}"),
                format!("服务已{again}启动，版本 {version}{chinese_crash}"),
            ]
        }
        ServiceEvent::DeliveryApplied(counts) => {
            let counts = delivery_counts(counts, language);
            [
                event.to_string(),
                format!("выгрузка применена, {counts}"),
                format!("数据已应用，{counts}"),
            ]
        }
        ServiceEvent::DeliveryApproved(counts) => {
            let counts = delivery_counts(counts, language);
            [
                event.to_string(),
                format!("отложенная выгрузка подтверждена, {counts}"),
                format!("待批准的数据已批准，{counts}"),
            ]
        }
        ServiceEvent::DeliveryReplaced { deliveries } => {
            let deliveries = number(*deliveries);
            [
                event.to_string(),
                format!("следующая выгрузка заменила отложенные: {deliveries}"),
                format!("较新的数据取代了 {deliveries} 批待批准的数据"),
            ]
        }
        ServiceEvent::ConfigReloaded {
            applied,
            needs_restart,
        } => return reload_sentence(applied.as_str(), needs_restart.as_str(), language),
        ServiceEvent::RulesApproved => [
            event.to_string(),
            "отложенные правила подтверждены".to_owned(),
            "待批准的规则已批准".to_owned(),
        ],
        ServiceEvent::SendingResumed => [
            event.to_string(),
            "отправка возобновлена".to_owned(),
            "发送已恢复".to_owned(),
        ],
        ServiceEvent::ReadbackEqual { listed } => {
            let listed = number(*listed);
            [
                event.to_string(),
                format!("сверка завершена: расхождений без объяснения нет, прочитано {listed}"),
                format!("核对完成：没有无法解释的差异，已读取 {listed} 项"),
            ]
        }
        ServiceEvent::ReadbackDifferent {
            listed,
            different,
            resent,
        } => {
            let [listed, resent] = [*listed, *resent].map(number);
            let different = skus(*different, language);
            [
                event.to_string(),
                format!(
                    "сверка завершена: расходится {different}, отправляется снова {resent}, \
                     прочитано {listed}"
                ),
                format!("核对完成：{different} 不一致，重新发送 {resent} 个，已读取 {listed} 项"),
            ]
        }
        ServiceEvent::QuarantineLeft { skus: n } => {
            let skus = skus(*n, language);
            let verb = language.plural(*n, ["вышел", "вышли", "вышло"]);
            [
                event.to_string(),
                format!("из карантина {verb} {skus}"),
                format!("{skus} 解除隔离"),
            ]
        }
        ServiceEvent::SelftestStarted { sku } => [
            event.to_string(),
            format!("самопроверка товара '{sku}' начата"),
            format!("商品 '{sku}' 的自检开始"),
        ],
        ServiceEvent::SelftestEnded { sku, passed } => {
            let [russian, chinese] = if *passed {
                ["пройдена", "通过"]
            } else {
                ["не пройдена", "未通过"]
            };
            [
                event.to_string(),
                format!("самопроверка товара '{sku}' {russian}"),
                format!("商品 '{sku}' 的自检{chinese}"),
            ]
        }
        ServiceEvent::OperatorAction { action, object } => {
            let [russian, chinese] = operator_action(*action);
            let object = object.as_str();
            let object = if object.is_empty() {
                String::new()
            } else {
                format!(": {object}")
            };
            [
                event.to_string(),
                format!("оператор {russian}{object}"),
                format!("操作员{chinese}{object}"),
            ]
        }
        ServiceEvent::EventsLost { events } => {
            let events = number(*events);
            [
                event.to_string(),
                format!(
                    "не записано событий: {events}, потому что диск был заполнен или не успевал"
                ),
                format!("有 {events} 个事件因磁盘已满或过慢而未记录"),
            ]
        }
        ServiceEvent::Unknown => [
            event.to_string(),
            "событие более новой версии".to_owned(),
            "较新版本的事件".to_owned(),
        ],
    })
}

/// Actions of an operator, in Russian and Chinese.
const fn operator_action(action: OperatorAction) -> [&'static str; 2] {
    match action {
        OperatorAction::Verify => ["запустил сверку", "请求核对"],
        OperatorAction::Poll => ["запустил опрос источника", "请求轮询数据源"],
        OperatorAction::Import => ["загрузил файл", "导入了文件"],
        OperatorAction::ImportPreview => ["проверил файл без применения", "检查了文件但未应用"],
        OperatorAction::Approve => ["подтвердил отложенное", "批准了待批准的内容"],
        OperatorAction::Selftest => ["запустил самопроверку", "请求自检"],
        OperatorAction::Pause => ["приостановил отправку", "暂停了发送"],
        OperatorAction::Resume => ["возобновил отправку", "恢复了发送"],
    }
}

fn delivery_counts(counts: &EventCounts, language: Language) -> String {
    let [rows, new, changed, zeroed, rejected, suspicious] = [
        counts.rows,
        counts.new,
        counts.changed,
        counts.zeroed,
        counts.rejected,
        counts.suspicious,
    ]
    .map(|n| language.number(n));
    match language {
        Language::English => counts.to_string(),
        Language::Russian => format!(
            "строк {rows}: новых {new}, изменено {changed} (стало нулём {zeroed}), отклонено \
             {rejected}, сомнительных {suspicious}"
        ),
        Language::Chinese => format!(
            "共 {rows} 行：新增 {new}，变更 {changed}（变为零 {zeroed}），拒绝 {rejected}，可疑 \
             {suspicious}"
        ),
    }
}

fn alarm_title(name: &str, language: Language) -> String {
    AlarmKind::from_name(name).map_or_else(
        || name.to_owned(),
        |kind| alarm_text(kind, language).title.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_one_group() {
        let grouped: Vec<&str> = EventGroup::ALL
            .iter()
            .copied()
            .flat_map(EventGroup::kinds)
            .collect();
        assert_eq!(grouped.len(), EVENT_KINDS.len());
        for &group in EventGroup::ALL {
            assert!(!group.kinds().is_empty(), "{group:?}");
            assert_eq!(EventGroup::from_name(group.name()), Some(group));
        }
    }

    #[test]
    fn sentences_name_the_alarm_in_the_language() {
        let event = ServiceEvent::AlarmCleared {
            alarm: "source_held".to_owned(),
            since: chrono::DateTime::UNIX_EPOCH,
        };
        for language in Language::ALL {
            let title = alarm_text(AlarmKind::SourceHeld, language).title;
            assert!(event_sentence(&event, language).contains(title));
        }
    }

    #[test]
    fn russian_verbs_agree_with_the_number_of_skus() {
        for (skus, entered, left) in [
            (1, "попал 1 SKU", "вышел 1 SKU"),
            (22, "попали 22 SKU", "вышли 22 SKU"),
            (1_200, "попало 1\u{a0}200 SKU", "вышло 1\u{a0}200 SKU"),
        ] {
            let event = ServiceEvent::QuarantineEntered {
                skus,
                example: "A".into(),
                reason: "x".into(),
            };
            let sentence = event_sentence(&event, Language::Russian);
            assert_eq!(sentence, format!("в карантин {entered}, например 'A'"));
            let event = ServiceEvent::QuarantineLeft { skus };
            let sentence = event_sentence(&event, Language::Russian);
            assert_eq!(sentence, format!("из карантина {left}"));
        }
    }
}
