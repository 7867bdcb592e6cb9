//! Words of the notifications that are sent to people, in every language.

use super::Language;

/// Words around the texts of the alarms in one language.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotificationText {
    /// Heading of alarms that began.
    pub raised: &'static str,
    /// Heading of alarms that were sent before and are still active.
    pub repeated: &'static str,
    /// Heading of alarms that ended.
    pub cleared: &'static str,
    /// Heading of alarms that began and ended before they could be sent.
    pub passed: &'static str,
    /// Label before the remedy.
    pub remedy: &'static str,
    /// Label before the time at which an alarm began.
    pub since: &'static str,
    /// Name of the subject of an alarm that is about the whole service.
    pub whole_service: &'static str,
    /// End of a list that was cut; `{n}` is the number of missing entries.
    pub more: &'static str,
    /// First line of a test message.
    pub test_subject: &'static str,
    /// Text of a test message; `{name}` is the name of the channel.
    pub test_text: &'static str,
}

/// Returns the words of notifications in a language.
#[must_use]
pub const fn notification_text(language: Language) -> NotificationText {
    match language {
        Language::English => NotificationText {
            raised: "New alarms",
            repeated: "Still active",
            cleared: "Over",
            passed: "Began and ended meanwhile",
            remedy: "What to do:",
            since: "since",
            whole_service: "the whole service",
            more: "and {n} more",
            test_subject: "Test message of stockbridge",
            test_text: "The channel {name} works: alarms will arrive here.",
        },
        Language::Russian => NotificationText {
            raised: "Новые тревоги",
            repeated: "Не сняты",
            cleared: "Сняты",
            passed: "Сработали и уже сняты",
            remedy: "Что делать:",
            since: "с",
            whole_service: "весь сервис",
            more: "и ещё {n}",
            test_subject: "Проверочное сообщение stockbridge",
            test_text: "Канал {name} работает: тревоги будут приходить сюда.",
        },
        Language::Chinese => NotificationText {
            raised: "新告警",
            repeated: "仍未解除",
            cleared: "已解除",
            passed: "期间发生并已解除",
            remedy: "处理办法：",
            since: "开始于",
            whole_service: "整个服务",
            more: "另有 {n} 项",
            test_subject: "stockbridge 测试消息",
            test_text: "通知渠道 {name} 工作正常：告警将发送到这里。",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_exist_in_every_language() {
        for language in Language::ALL {
            let text = notification_text(language);
            assert!(text.more.contains("{n}"), "{language:?}");
            assert!(text.test_text.contains("{name}"), "{language:?}");
        }
    }
}
