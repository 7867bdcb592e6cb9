//! Russian texts of the pages.

use super::Text;

/// Returns a text in Russian.
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AcknowledgedColumn => "Последний приём",
        Text::Alarms => "Тревоги",
        Text::All => "все",
        Text::CommandByApi => "Ваша программа вызывает партнёрский API",
        Text::CommandByFile => "Загрузить файл один раз",
        Text::CommandBySource => "Источник в конфигурации",
        Text::ConnectionLive => "обновляется",
        Text::ConnectionLost => "нет связи; данные на",
        Text::Consequence => "Что это значит",
        Text::Detail => "Подробности",
        Text::DifferingColumn => "Расходятся",
        Text::EventColumn => "Событие",
        Text::EventKind => "Вид",
        Text::Events => "События",
        Text::EventsUnreadable => "События не удалось прочитать: см. журнал сервиса.",
        Text::FeedShop => "Как передать остатки",
        Text::FeedShopLead => {
            "У этих магазинов ещё нет остатков, поэтому Маркет получает ответ 503. Передать остатки можно тремя способами:"
        }
        Text::Filter => "Показать",
        Text::LanguageSwitch => "Язык",
        Text::Login => "Войти",
        Text::LoginLead => {
            "Здесь остатки ваших магазинов. Нужен пароль оператора (ops_password_file)."
        }
        Text::Logout => "Выйти",
        Text::MatchColumn => "Полное совпадение",
        Text::ModeColumn => "Отправка",
        Text::ModeDryRun => "пробный режим",
        Text::ModeOff => "выключена",
        Text::ModeOn => "включена",
        Text::Never => "не было",
        Text::NewData => "На странице есть изменения.",
        Text::Newest => "самые новые",
        Text::NoAlarms => {
            "Тревог нет. Если что-то пойдёт не так, здесь появится, что это значит и что делать."
        }
        Text::NoEvents => {
            "Событий пока нет. Здесь появляются запуски, тревоги, выгрузки, паузы и действия."
        }
        Text::Older => "более старые",
        Text::Overview => "Обзор",
        Text::Password => "Пароль",
        Text::PushColumn => "Последний запрос Маркета",
        Text::RejectedColumn => "Отклонены",
        Text::Reload => "Обновить",
        Text::Remedy => "Что делать",
        Text::Shop => "Магазин",
        Text::Shops => "Магазины",
        Text::SkipToContent => "К содержанию",
        Text::SkusColumn => "SKU",
        Text::StartingLead => "Сервис читает хранилище. Страница обновится сама.",
        Text::StartingTitle => "Сервис запускается",
        Text::StateColumn => "Состояние",
        Text::Time => "Время",
        Text::WaitingColumn => "Ждут отправки",
        Text::WholeService => "весь сервис",
        Text::WrongPassword => "Пароль неверный.",
    }
}
