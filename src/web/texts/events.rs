//! Sentences of the events, and names of the groups in the filter.

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
pub(in crate::web) const fn event_group(group: EventGroup, language: Language) -> &'static str {
    let [english, russian, chinese] = match group {
        EventGroup::Alarms => ["Alarms", "Тревоги", "告警"],
        EventGroup::Sources => ["Sources", "Источники", "数据源"],
        EventGroup::Sending => ["Sending", "Отправка", "发送"],
        EventGroup::Readback => ["Read-back", "Сверка", "核对"],
        EventGroup::Quarantine => ["Quarantine", "Карантин", "隔离"],
        EventGroup::Operator => ["Actions", "Действия", "操作"],
        EventGroup::Service => ["Service", "Сервис", "服务"],
    };
    match language {
        Language::English => english,
        Language::Russian => russian,
        Language::Chinese => chinese,
    }
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
        ServiceEvent::ServiceStarted { .. }
        | ServiceEvent::ServiceStopped { failure: None }
        | ServiceEvent::AlarmCleared { .. }
        | ServiceEvent::DeliveryApplied(_)
        | ServiceEvent::DeliveryApproved(_)
        | ServiceEvent::DeliveryReplaced { .. }
        | ServiceEvent::RulesApproved
        | ServiceEvent::SendingResumed
        | ServiceEvent::ReadbackEqual { .. }
        | ServiceEvent::ReadbackDifferent { .. }
        | ServiceEvent::QuarantineLeft { .. }
        | ServiceEvent::SelftestStarted { .. }
        | ServiceEvent::SelftestEnded { .. }
        | ServiceEvent::OperatorAction { .. }
        | ServiceEvent::EventsLost { .. }
        | ServiceEvent::Unknown => "",
    }
}

/// Sentence about an event, without its [`event_reason`].
pub(in crate::web) fn event_sentence(event: &ServiceEvent, language: Language) -> String {
    match language {
        Language::English => english(event),
        Language::Russian => russian(event),
        Language::Chinese => chinese(event),
    }
}

fn alarm_title(name: &str, language: Language) -> String {
    AlarmKind::from_name(name).map_or_else(
        || name.to_owned(),
        |kind| alarm_text(kind, language).title.to_owned(),
    )
}

fn english(event: &ServiceEvent) -> String {
    match event {
        ServiceEvent::ServiceStopped { .. } => "the service stopped".to_owned(),
        ServiceEvent::AlarmRaised { alarm, .. } => alarm_title(alarm, Language::English),
        ServiceEvent::AlarmCleared { alarm, .. } => {
            format!("alarm cleared: {}", alarm_title(alarm, Language::English))
        }
        ServiceEvent::DeliveryHeld { counts, .. } => format!("held for approval, {counts}"),
        ServiceEvent::DeliveryFailed { .. } => {
            "the delivery failed; the stock is unchanged".to_owned()
        }
        ServiceEvent::SendingPaused { .. } => {
            "sending is paused until its cause is removed".to_owned()
        }
        ServiceEvent::SendingDelayed { .. } => "sending is delayed".to_owned(),
        ServiceEvent::ReadbackFailed { .. } => "read-back failed".to_owned(),
        ServiceEvent::QuarantineEntered { skus, example, .. } => {
            let noun = Language::English.plural(*skus, ["SKU", "SKUs", "SKUs"]);
            let number = Language::English.number(*skus);
            format!("{number} {noun} entered the quarantine, such as '{example}'")
        }
        ServiceEvent::FileReplaced { file, .. } => format!(
            "{file} was damaged: it was renamed to {file}.damaged, and a new file was begun"
        ),
        other => other.to_string(),
    }
}

fn russian(event: &ServiceEvent) -> String {
    let number = |n: u64| Language::Russian.number(n);
    let counts = |counts: &EventCounts| {
        format!(
            "строк {}: новых {}, изменено {} (стало нулём {}), отклонено {}, сомнительных {}",
            number(counts.rows),
            number(counts.new),
            number(counts.changed),
            number(counts.zeroed),
            number(counts.rejected),
            number(counts.suspicious)
        )
    };
    match event {
        ServiceEvent::ServiceStarted { version, previous } => match previous {
            PreviousRun::None => format!("сервис запущен, версия {version}"),
            PreviousRun::Stopped => format!("сервис снова запущен, версия {version}"),
            PreviousRun::Crashed => format!(
                "сервис снова запущен, версия {version}; прошлый запуск завершился аварийно"
            ),
        },
        ServiceEvent::ServiceStopped { .. } => "сервис остановлен".to_owned(),
        ServiceEvent::AlarmRaised { alarm, .. } => alarm_title(alarm, Language::Russian),
        ServiceEvent::AlarmCleared { alarm, .. } => {
            format!("тревога снята: {}", alarm_title(alarm, Language::Russian))
        }
        ServiceEvent::DeliveryApplied(it) => format!("выгрузка применена, {}", counts(it)),
        ServiceEvent::DeliveryHeld { counts: it, .. } => {
            format!("выгрузка отложена до подтверждения, {}", counts(it))
        }
        ServiceEvent::DeliveryFailed { .. } => {
            "выгрузка не удалась, остатки не изменились".to_owned()
        }
        ServiceEvent::DeliveryApproved(it) => {
            format!("отложенная выгрузка подтверждена, {}", counts(it))
        }
        ServiceEvent::DeliveryReplaced { deliveries } => format!(
            "следующая выгрузка заменила отложенные: {}",
            number(*deliveries)
        ),
        ServiceEvent::RulesApproved => "отложенные правила подтверждены".to_owned(),
        ServiceEvent::SendingPaused { .. } => {
            "отправка приостановлена до устранения причины".to_owned()
        }
        ServiceEvent::SendingDelayed { .. } => "отправка отложена".to_owned(),
        ServiceEvent::SendingResumed => "отправка возобновлена".to_owned(),
        ServiceEvent::ReadbackEqual { listed } => format!(
            "сверка завершена: расхождений без объяснения нет, прочитано {}",
            number(*listed)
        ),
        ServiceEvent::ReadbackDifferent {
            listed,
            different,
            resent,
        } => format!(
            "сверка завершена: расходится {} SKU, отправляется снова {}, прочитано {}",
            number(*different),
            number(*resent),
            number(*listed)
        ),
        ServiceEvent::ReadbackFailed { .. } => "сверка не удалась".to_owned(),
        ServiceEvent::QuarantineEntered { skus, example, .. } => format!(
            "в карантин {} {} SKU, например '{example}'",
            Language::Russian.plural(*skus, ["попал", "попали", "попало"]),
            number(*skus)
        ),
        ServiceEvent::QuarantineLeft { skus } => {
            let verb = Language::Russian.plural(*skus, ["вышел", "вышли", "вышло"]);
            format!("из карантина {verb} {} SKU", number(*skus))
        }
        ServiceEvent::SelftestStarted { sku } => format!("самопроверка товара '{sku}' начата"),
        ServiceEvent::SelftestEnded { sku, passed: true } => {
            format!("самопроверка товара '{sku}' пройдена")
        }
        ServiceEvent::SelftestEnded { sku, passed: false } => {
            format!("самопроверка товара '{sku}' не пройдена")
        }
        ServiceEvent::OperatorAction { action, object } => {
            let what = match action {
                OperatorAction::Verify => "оператор запустил сверку",
                OperatorAction::Poll => "оператор запустил опрос источника",
                OperatorAction::Import => "оператор загрузил файл",
                OperatorAction::ImportPreview => "оператор проверил файл без применения",
                OperatorAction::Approve => "оператор подтвердил отложенное",
                OperatorAction::Selftest => "оператор запустил самопроверку",
                OperatorAction::Pause => "оператор приостановил отправку",
                OperatorAction::Resume => "оператор возобновил отправку",
            };
            with_object(what, object.as_str())
        }
        ServiceEvent::EventsLost { events } => format!(
            "не записано событий: {}, потому что диск был заполнен или не успевал",
            number(*events)
        ),
        ServiceEvent::FileReplaced { file, .. } => {
            format!("файл {file} повреждён: он переименован в {file}.damaged, начат новый")
        }
        ServiceEvent::Unknown => "событие более новой версии".to_owned(),
    }
}

fn chinese(event: &ServiceEvent) -> String {
    let number = |n: u64| Language::Chinese.number(n);
    let counts = |counts: &EventCounts| {
        format!(
            "共 {} 行：新增 {}，变更 {}（变为零 {}），拒绝 {}，可疑 {}",
            number(counts.rows),
            number(counts.new),
            number(counts.changed),
            number(counts.zeroed),
            number(counts.rejected),
            number(counts.suspicious)
        )
    };
    match event {
        ServiceEvent::ServiceStarted { version, previous } => match previous {
            PreviousRun::None => format!("服务已启动，版本 {version}"),
            PreviousRun::Stopped => format!("服务已再次启动，版本 {version}"),
            PreviousRun::Crashed => {
                format!("服务已再次启动，版本 {version}；上一次运行未正常停止")
            }
        },
        ServiceEvent::ServiceStopped { .. } => "服务已停止".to_owned(),
        ServiceEvent::AlarmRaised { alarm, .. } => alarm_title(alarm, Language::Chinese),
        ServiceEvent::AlarmCleared { alarm, .. } => {
            format!("告警解除：{}", alarm_title(alarm, Language::Chinese))
        }
        ServiceEvent::DeliveryApplied(it) => format!("数据已应用，{}", counts(it)),
        ServiceEvent::DeliveryHeld { counts: it, .. } => {
            format!("数据待批准，{}", counts(it))
        }
        ServiceEvent::DeliveryFailed { .. } => "数据处理失败，库存未变".to_owned(),
        ServiceEvent::DeliveryApproved(it) => format!("待批准的数据已批准，{}", counts(it)),
        ServiceEvent::DeliveryReplaced { deliveries } => {
            format!("较新的数据取代了 {} 批待批准的数据", number(*deliveries))
        }
        ServiceEvent::RulesApproved => "待批准的规则已批准".to_owned(),
        ServiceEvent::SendingPaused { .. } => "发送已暂停，直到原因消除".to_owned(),
        ServiceEvent::SendingDelayed { .. } => "发送已延后".to_owned(),
        ServiceEvent::SendingResumed => "发送已恢复".to_owned(),
        ServiceEvent::ReadbackEqual { listed } => {
            format!(
                "核对完成：没有无法解释的差异，已读取 {} 项",
                number(*listed)
            )
        }
        ServiceEvent::ReadbackDifferent {
            listed,
            different,
            resent,
        } => format!(
            "核对完成：{} 个 SKU 不一致，重新发送 {} 个，已读取 {} 项",
            number(*different),
            number(*resent),
            number(*listed)
        ),
        ServiceEvent::ReadbackFailed { .. } => "核对失败".to_owned(),
        ServiceEvent::QuarantineEntered { skus, example, .. } => {
            format!("{} 个 SKU 被隔离，例如 '{example}'", number(*skus))
        }
        ServiceEvent::QuarantineLeft { skus } => format!("{} 个 SKU 解除隔离", number(*skus)),
        ServiceEvent::SelftestStarted { sku } => format!("商品 '{sku}' 的自检开始"),
        ServiceEvent::SelftestEnded { sku, passed: true } => format!("商品 '{sku}' 的自检通过"),
        ServiceEvent::SelftestEnded { sku, passed: false } => {
            format!("商品 '{sku}' 的自检未通过")
        }
        ServiceEvent::OperatorAction { action, object } => {
            let what = match action {
                OperatorAction::Verify => "操作员请求核对",
                OperatorAction::Poll => "操作员请求轮询数据源",
                OperatorAction::Import => "操作员导入了文件",
                OperatorAction::ImportPreview => "操作员检查了文件但未应用",
                OperatorAction::Approve => "操作员批准了待批准的内容",
                OperatorAction::Selftest => "操作员请求自检",
                OperatorAction::Pause => "操作员暂停了发送",
                OperatorAction::Resume => "操作员恢复了发送",
            };
            with_object(what, object.as_str())
        }
        ServiceEvent::EventsLost { events } => {
            format!("有 {} 个事件因磁盘已满或过慢而未记录", number(*events))
        }
        ServiceEvent::FileReplaced { file, .. } => {
            format!("文件 {file} 已损坏：已重命名为 {file}.damaged，并新建文件")
        }
        ServiceEvent::Unknown => "较新版本的事件".to_owned(),
    }
}

fn with_object(what: &str, object: &str) -> String {
    if object.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {object}")
    }
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
