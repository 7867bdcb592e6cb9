//! Russian texts of the pages.

use super::Text;

/// Returns a text in Russian.
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AbsenceNotApplied => "Отсутствующие SKU не обнулены",
        Text::AcceptDelivery => "Подтвердить и применить",
        Text::AcceptLead => {
            "После подтверждения этот список будет применён. Остатки, переданные позже, сохранятся. Отменить нельзя: ошибку исправит только следующая выгрузка. Если список неверный, не подтверждайте: его заменит следующая правильная выгрузка."
        }
        Text::AcceptRulesLead => {
            "После подтверждения изменённые правила применяются ко всем остаткам из источников. Если правила неверные, исправьте конфигурацию и перезапустите сервис."
        }
        Text::AcknowledgedColumn => "Последний приём",
        Text::AfterColumn => "Станет",
        Text::Alarms => "Тревоги",
        Text::All => "все",
        Text::AllRowsCsv => "Все строки в CSV",
        Text::AllSources => "Все источники",
        Text::ChangedColumn => "Изменены",
        Text::CheckNotChecked => "ещё не проверено: сначала нужны предыдущие условия",
        Text::CommandByApi => "Ваша программа вызывает партнёрский API",
        Text::CommandByFile => "Загрузить файл один раз",
        Text::CommandBySource => "Источник в конфигурации",
        Text::ComputeAgain => "Проверить заново",
        Text::ConnectionLive => "обновляется",
        Text::ConnectionLost => "нет связи; данные на",
        Text::Consequence => "Что это значит",
        Text::Coverage => "Запросил Маркет",
        Text::CoverageAcknowledged => "из них приняты",
        Text::CoverageKnown => "из них известны",
        Text::DeliveryAccepted => "Подтверждено. Выгрузка применена.",
        Text::DeliveryChanged => {
            "Теперь подтверждения ждёт другая выгрузка, поэтому ничего не применено. Здесь показана новая."
        }
        Text::Detail => "Подробности",
        Text::DifferingColumn => "Расходятся",
        Text::Duration => "Длительность",
        Text::EventColumn => "Событие",
        Text::EventKind => "Вид",
        Text::Events => "События",
        Text::EventsUnreadable => "События не удалось прочитать: см. журнал сервиса.",
        Text::Failure => "Ошибка",
        Text::FeedShop => "Как передать остатки",
        Text::FeedShopLead => {
            "У этих магазинов ещё нет остатков, поэтому Маркет получает ответ 503. Передать остатки можно тремя способами:"
        }
        Text::Filter => "Показать",
        Text::HeldFile => "Файл",
        Text::HeldSince => "Отложена с",
        Text::HeldTimes => "Повторов",
        Text::HeldTitle => "Ждёт подтверждения",
        Text::HigherKind => "больше",
        Text::KindColumn => "Вид",
        Text::LanguageSwitch => "Язык",
        Text::LastDelivery => "Последняя выгрузка",
        Text::LastPoll => "Последний опрос",
        Text::LineColumn => "Строка",
        Text::Login => "Войти",
        Text::LoginLead => {
            "Здесь остатки ваших магазинов. Нужен пароль оператора (ops_password_file)."
        }
        Text::Logout => "Выйти",
        Text::LowerKind => "меньше",
        Text::MatchColumn => "Полное совпадение",
        Text::ModeColumn => "Отправка",
        Text::ModeDryRun => "пробный режим",
        Text::ModeOff => "выключена",
        Text::ModeOn => "включена",
        Text::Never => "не было",
        Text::NewColumn => "Новые",
        Text::NewData => "На странице есть изменения.",
        Text::NewKind => "новые",
        Text::Newest => "самые новые",
        Text::NextPage => "Следующая страница",
        Text::NextPoll => "Следующий опрос",
        Text::NoAlarms => {
            "Тревог нет. Если что-то пойдёт не так, здесь появится, что это значит и что делать."
        }
        Text::NoDelivery => "С запуска сервиса выгрузок не было.",
        Text::NoEvents => {
            "Событий пока нет. Здесь появляются запуски, тревоги, выгрузки, паузы и действия."
        }
        Text::NoSources => "Источники не настроены",
        Text::NoSourcesLead => {
            "Если ваша программа вызывает партнёрский API, здесь ничего не нужно. Иначе добавьте в конфигурацию таблицу для каждого источника, например такую для файла, и перезапустите сервис:"
        }
        Text::NoStockChanges => "Остатки не изменятся.",
        Text::NotPolled => "не опрашивается: передаёт данные сам",
        Text::NothingHeld => "Подтверждения ничего не ждёт.",
        Text::Notices => "Примечания",
        Text::NowColumn => "Сейчас",
        Text::Older => "более старые",
        Text::OutcomeApplied => "применена",
        Text::OutcomeHeld => "ждёт подтверждения",
        Text::OutdatedColumn => "Устарели",
        Text::Overview => "Обзор",
        Text::Password => "Пароль",
        Text::PollRuns => "сейчас",
        Text::PreviousPage => "Предыдущая страница",
        Text::PushColumn => "Последний запрос Маркета",
        Text::ReadNow => "Опросить сейчас",
        Text::ReadRequested => "Источник опрашивается. Результат появится здесь.",
        Text::ReadinessPending => "Готовность проверяется.",
        Text::ReasonColumn => "Причина",
        Text::RejectedColumn => "Отклонены",
        Text::Reload => "Обновить",
        Text::Remarks => "Примечания",
        Text::Remedy => "Что делать",
        Text::RowColumn => "Содержание",
        Text::RowRejected => "отклонена",
        Text::RowSuspicious => "сомнительная",
        Text::RowsColumn => "Строки",
        Text::RowsNotApplied => "Строки, которые не применены",
        Text::RulesAccepted => "Подтверждено. Изменённые правила применены.",
        Text::RulesHeld => "Изменённые правила",
        Text::RulesHeldFirst => {
            "Изменённые правила этого магазина тоже ждут подтверждения. Сначала решите с ними: выгрузка применяется вместе с ними."
        }
        Text::RulesHeldLead => {
            "Правила в конфигурации изменены и обнулили бы слишком много остатков. Пока вы их не подтвердите, остатки не меняются."
        }
        Text::Scope => "Полнота",
        Text::ScopeDelta => "изменения",
        Text::ScopeSnapshot => "все товары (снимок)",
        Text::SeeChanges => "Посмотреть, что изменится",
        Text::Shop => "Магазин",
        Text::Shops => "Магазины",
        Text::SkipToContent => "К содержанию",
        Text::SkuColumn => "SKU",
        Text::SkusColumn => "SKU",
        Text::SourceKind => "Тип",
        Text::Sources => "Источники",
        Text::StartingLead => "Сервис читает хранилище. Страница обновится сама.",
        Text::StartingTitle => "Сервис запускается",
        Text::StateColumn => "Состояние",
        Text::StockDate => "Дата остатков",
        Text::SuspiciousColumn => "Сомнительные",
        Text::SwitchOver => "Переход",
        Text::Time => "Время",
        Text::UnchangedColumn => "Без изменений",
        Text::WaitingColumn => "Ждут отправки",
        Text::WholeService => "весь сервис",
        Text::WrongPassword => "Пароль неверный.",
        Text::ZeroKind => "обнулятся",
        Text::ZeroMark => "станет 0",
        Text::ZeroedColumn => "Обнулены",
    }
}
