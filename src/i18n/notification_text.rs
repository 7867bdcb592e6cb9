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
pub fn notification_text(language: Language) -> NotificationText {
    NotificationText {
        raised: language.choose(["New alarms", "Новые тревоги", "新告警"]),
        repeated: language.choose(["Still active", "Не сняты", "仍未解除"]),
        cleared: language.choose(["Over", "Сняты", "已解除"]),
        passed: language.choose([
            "Began and ended meanwhile",
            "Сработали и уже сняты",
            "期间发生并已解除",
        ]),
        remedy: language.choose(["What to do:", "Что делать:", "处理办法："]),
        since: language.choose(["since", "с", "开始于"]),
        whole_service: language.choose(["the whole service", "весь сервис", "整个服务"]),
        more: language.choose(["and {n} more", "и ещё {n}", "另有 {n} 项"]),
        test_subject: language.choose([
            "Test message of stockbridge",
            "Проверочное сообщение stockbridge",
            "stockbridge 测试消息",
        ]),
        test_text: language.choose([
            "The channel {name} works: alarms will arrive here.",
            "Канал {name} работает: тревоги будут приходить сюда.",
            "通知渠道 {name} 工作正常：告警将发送到这里。",
        ]),
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
