//! Russian texts of the pages.

use super::Text;

/// Returns a text in Russian.
#[expect(
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "one arm for each text, in the order of the names"
)]
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AbsenceNotApplied => "Отсутствующие SKU не обнулены",
        Text::AbsenceWouldNotApply => "После подтверждения отсутствующие SKU не будут обнулены",
        Text::AcceptDelivery => "Подтвердить и применить",
        Text::AcceptLead => {
            "После подтверждения этот список будет применён. Остатки, переданные позже, сохранятся. Отменить нельзя: ошибку исправит только следующая выгрузка. Если список неверный, не подтверждайте: его заменит следующая правильная выгрузка."
        }
        Text::AcceptRulesLead => {
            "После подтверждения изменённые правила применяются ко всем остаткам из источников. Если правила неверные, исправьте конфигурацию и перезапустите сервис."
        }
        Text::AcknowledgedColumn => "Последний приём",
        Text::AcknowledgedSkus => "Принято с запуска",
        Text::AddSource => "Как добавить источник",
        Text::AfterColumn => "Станет",
        Text::Alarms => "Тревоги",
        Text::All => "все",
        Text::AllRowsCsv => "Все строки в CSV",
        Text::AllSources => "Все источники",
        Text::AttemptsColumn => "Попытки",
        Text::ChangedColumn => "Изменены",
        Text::ChartDirtySkus => "SKU, остатки которых Маркет ещё не принял",
        Text::ChartHighest => "Максимум",
        Text::ChartLimit => "лимит",
        Text::ChartLowest => "Минимум",
        Text::ChartMarketRequests => "Запросов Маркета в минуту",
        Text::ChartPeriodSwitch => "Период графиков",
        Text::ChartRequestsSent => "Отправлено запросов в минуту",
        Text::ChartResponseMax => "Время ответа Маркета",
        Text::ChartResponseMean => "среднее",
        Text::ChartSkusSent => "Принято SKU в минуту",
        Text::ChartTable => "Значения таблицей",
        Text::Charts => "Графики",
        Text::ChartsEmpty => "Первые значения появятся через минуту после запуска.",
        Text::ChartsOfDay => "24 часа",
        Text::ChartsOfWeek => "7 дней",
        Text::CheckNotChecked => "ещё не проверено: не пройдена более ранняя проверка",
        Text::ClassColumn => "Класс",
        Text::CommandByApi => "Ваша программа вызывает партнёрский API",
        Text::CommandByFile => "Загрузить файл один раз",
        Text::CommandBySource => "Источник в конфигурации",
        Text::ComputeAgain => "Проверить заново",
        Text::ConnectionLive => "обновляется",
        Text::ConnectionLost => "нет связи; данные на",
        Text::Consequence => "Что это значит",
        Text::CountColumn => "Количество",
        Text::Coverage => "Запрошено Маркетом",
        Text::CoverageAcknowledged => "из них принято",
        Text::CoverageKnown => "из них известно",
        Text::DeliveryAccepted => "Подтверждено. Выгрузка применена.",
        Text::DeliveryChanged => {
            "Теперь подтверждения ждёт другая выгрузка, поэтому ничего не применено. Здесь показана новая."
        }
        Text::Detail => "Подробности",
        Text::DifferingColumn => "Расходятся",
        Text::DirtySkus => "Не принято",
        Text::Duration => "Длительность",
        Text::EventKind => "Вид",
        Text::EventQuarantined => "Маркет отклонил SKU. Он в карантине.",
        Text::EventReleased => "SKU вышел из карантина.",
        Text::Events => "События",
        Text::EventsUnreadable => "События не удалось прочитать: см. журнал сервиса.",
        Text::Examples => "SKU, которые не совпадают",
        Text::Failure => "Ошибка",
        Text::FeedShop => "Как передать остатки",
        Text::FeedShopLead => {
            "Пока у магазина нет остатков, Маркет получает статус 503. Передать остатки можно тремя способами:"
        }
        Text::Filter => "Показать",
        Text::Find => "Найти",
        Text::HeldFile => "Файл",
        Text::HeldLink => "посмотреть отложенную выгрузку",
        Text::HeldSince => "Источник ждёт с",
        Text::HeldTimes => "Повторов",
        Text::HeldTitle => "Ждёт подтверждения",
        Text::HigherKind => "больше",
        Text::InFlightSkus => "Отправляются",
        Text::KindColumn => "Вид",
        Text::LanguageSwitch => "Язык",
        Text::LastDelivery => "Последняя выгрузка",
        Text::LastDeliveryColumn => "Последняя выгрузка",
        Text::LastPoll => "Последний опрос",
        Text::LimitRequests => "Лимит, запросов в минуту",
        Text::LimitSkus => "Лимит, SKU в минуту",
        Text::LineColumn => "Строка",
        Text::Login => "Войти",
        Text::LoginLead => "Здесь остатки ваших магазинов. Нужен пароль оператора.",
        Text::Logout => "Выйти",
        Text::LowerKind => "меньше",
        Text::MarketsColumn => "На Маркете",
        Text::MatchColumn => "Полное совпадение",
        Text::MeaningColumn => "Значение",
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
        Text::NextPollColumn => "Следующий опрос",
        Text::NextTryColumn => "Следующая попытка",
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
        Text::NothingHeld => "Ничего не ждёт подтверждения.",
        Text::Notices => "Примечания",
        Text::NowColumn => "Сейчас",
        Text::Numbers => "Показатели",
        Text::Older => "более старые",
        Text::OpenEvents => "Открыть события",
        Text::OpenShop => "Открыть магазин",
        Text::OpenSource => "Открыть источник",
        Text::OtherShops => "Этот же SKU в других магазинах",
        Text::OursColumn => "В сервисе",
        Text::OutcomeApplied => "применена",
        Text::OutcomeHeld => "ждёт подтверждения",
        Text::OutdatedColumn => "Устарели",
        Text::Overview => "Обзор",
        Text::Password => "Пароль",
        Text::PauseSending => "Приостановить отправку",
        Text::PollRuns => "сейчас",
        Text::PreviousPage => "Предыдущая страница",
        Text::PushColumn => "Последний запрос Маркета",
        Text::Quarantine => "Карантин",
        Text::QuarantineEmpty => {
            "Карантин пуст. Здесь появятся SKU, которые отклонит Маркет, с указанием причины."
        }
        Text::QuarantineLead => {
            "Маркет отклоняет эти SKU, поэтому они отправляются отдельно и реже. Устраните причину в кабинете Маркета или в каталоге; изменённый остаток отправляется сразу."
        }
        Text::ReadNow => "Опросить сейчас",
        Text::ReadNowEffect => {
            "«Опросить сейчас» сразу опрашивает источник. Новая выгрузка проверяется и применяется так же, как после опроса по расписанию."
        }
        Text::ReadRequested => "Источник опрашивается. Результат появится здесь.",
        Text::Readback => "Сверка",
        Text::ReadbackDiffers => "последняя сверка нашла расхождения",
        Text::ReadbackFailed => "последняя сверка не удалась",
        Text::ReadbackImpossible => "сервис не обращается к Маркету по этому магазину",
        Text::ReadbackMatches => "остатки на Маркете такие, как нужно",
        Text::ReadbackNever => "сверки ещё не было",
        Text::ReadbackRunning => "идёт сверка",
        Text::ReadinessPending => "Готовность проверяется.",
        Text::ReasonColumn => "Причина",
        Text::RejectedColumn => "Отклонены",
        Text::Reload => "Обновить",
        Text::Remarks => "Примечания",
        Text::Remedy => "Что делать",
        Text::ReservedColumn => "В резерве",
        Text::ResumeSending => "Возобновить отправку",
        Text::RowColumn => "Содержание",
        Text::RowRejected => "отклонена",
        Text::RowSuspicious => "сомнительная",
        Text::RowsColumn => "Строки",
        Text::RowsNotApplied => "Строки, которые не применены",
        Text::RuleSteps => "Как из источников получается остаток",
        Text::RuleStepsEmpty => {
            "Ни один источник не передавал этот SKU. Его остаток передан через партнёрский API или неизвестен."
        }
        Text::RulesAccepted => "Подтверждено. Изменённые правила применены.",
        Text::RulesHeld => "Изменённые правила",
        Text::RulesHeldFirst => {
            "Изменённые правила этого магазина тоже ждут подтверждения. Сначала примите решение по ним: выгрузка применяется вместе с ними."
        }
        Text::RulesHeldLead => {
            "Правила в конфигурации изменены и обнулили бы слишком много остатков. Пока вы их не подтвердите, остатки не меняются."
        }
        Text::Scope => "Полнота",
        Text::ScopeDelta => "изменения",
        Text::ScopeSnapshot => "все товары (снимок)",
        Text::Search => "Поиск SKU",
        Text::SearchTips => {
            "Введите SKU целиком или его начало. 0557722 и 557722 — два разных SKU."
        }
        Text::SeeChanges => "Посмотреть, что изменится",
        Text::Sending => "Отправка",
        Text::Shop => "Магазин",
        Text::Shops => "Магазины",
        Text::SimilarSkus => "Возможно, вы имели в виду",
        Text::SinceColumn => "С какого времени",
        Text::SkipToContent => "К содержанию",
        Text::SkuAcknowledged => "Принято Маркетом",
        Text::SkuColumn => "SKU",
        Text::SkuDueAgain => "будет отправлен ещё раз",
        Text::SkuInBook => "Передано продавцом",
        Text::SkuNotAcknowledged => "не принято",
        Text::SkuNotReadBack => "сверки ещё не было",
        Text::SkuNotShown => "не показывается",
        Text::SkuNotStated => "не передавалось",
        Text::SkuOnMarket => "Показывает Маркет",
        Text::SkuRequested => "Последний запрос Маркета",
        Text::SkusAlike => "SKU, с которыми его легко перепутать",
        Text::SkusColumn => "SKU",
        Text::SourceColumn => "Источник",
        Text::SourceKind => "Тип",
        Text::SourcePolledNow => "сейчас",
        Text::SourceSendsItself => "присылает сам",
        Text::Sources => "Источники",
        Text::SourcesEmpty => {
            "У магазина нет источников. Остатки передаются через партнёрский API. Здесь появятся источники из конфигурации и их выгрузки."
        }
        Text::StartingLead => "Сервис читает хранилище. Страница обновится сама.",
        Text::StartingTitle => "Сервис запускается",
        Text::StateColumn => "Состояние",
        Text::StockDate => "Дата остатков",
        Text::SuspiciousColumn => "Сомнительные",
        Text::SwitchOver => "Переход",
        Text::TickLead => {
            "Отмечайте то, что проверили сами. Отметки хранятся в этом браузере и печатаются вместе со страницей."
        }
        Text::TimeColumn => "Время",
        Text::TimeLine => "Что произошло",
        Text::UnchangedColumn => "Без изменений",
        Text::UnknownPath => "По этому адресу страницы нет.",
        Text::UnknownShopLead => "В конфигурации есть такие магазины:",
        Text::UnknownSkuAdvice => "Что делать",
        Text::UnknownSkuCheck => "Сравните написание с каталогом: регистр и нули в начале важны.",
        Text::UnknownSkuFeed => {
            "Передайте его остаток через источник или партнёрский API. Через несколько секунд он появится здесь."
        }
        Text::UnknownSkuSource => {
            "Если SKU верный, посмотрите строки источника, которые не удалось применить."
        }
        Text::VerifyEffect => {
            "Остатки на Маркете будут прочитаны и сопоставлены с отправленными. SKU, обновление которых потерялось, будут отправлены ещё раз; больше ничего не изменится."
        }
        Text::VerifyNow => "Сверить сейчас",
        Text::WaitingColumn => "Ждут отправки",
        Text::Warehouses => "склад",
        Text::WholeService => "весь сервис",
        Text::WorkerDryRun => "пробный режим: ничего не отправляется",
        Text::WorkerIdle => "всё отправлено",
        Text::WorkerPaused => "приостановлена, пока причина не устранена",
        Text::WorkerWaiting => "ожидание, действий не требуется",
        Text::WrongPassword => "Пароль неверный.",
        Text::ZeroKind => "обнулятся",
        Text::ZeroMark => "станет 0",
        Text::ZeroedColumn => "Обнулены",
    }
}
