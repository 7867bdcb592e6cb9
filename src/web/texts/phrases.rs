//! Longer texts without parameters.

use super::Text;

impl Text {
    pub(crate) const ABSENCE_NOT_APPLIED: Self = Self([
        "Absent SKUs keep their stock",
        "Отсутствующие SKU не обнулены",
        "缺少的 SKU 未归零",
    ]);
    pub(crate) const ABSENT_MARK: Self =
        Self(["not in the delivery", "нет в выгрузке", "数据中没有"]);
    pub(crate) const ACCEPT_DELIVERY: Self =
        Self(["Accept and apply", "Подтвердить и применить", "批准并应用"]);
    pub(crate) const ACCEPT_LEAD: Self = Self([
        "Accepting applies this list. Stock that was stated later stays. This cannot be undone: a wrong list is corrected by the next delivery. If the list is wrong, accept nothing: the next correct delivery replaces it.",
        "После подтверждения этот список будет применён. Остатки, переданные позже, сохранятся. Отменить нельзя: ошибку исправит только следующая выгрузка. Если список неверный, не подтверждайте: его заменит следующая правильная выгрузка.",
        "批准后将应用此列表。之后提供的库存保持不变。批准无法撤销：错误只能由下一批数据更正。如果列表有误，请不要批准：下一批正确的数据会取代它。",
    ]);
    pub(crate) const ACCEPT_RULES_LEAD: Self = Self([
        "Accepting applies the changed rules to all stock of the sources. If the rules are wrong, correct them in the configuration and restart.",
        "После подтверждения изменённые правила применяются ко всем остаткам из источников. Если правила неверные, исправьте конфигурацию и перезапустите сервис.",
        "批准后，改动过的规则将应用于数据源的全部库存。如果规则有误，请修正配置并重启服务。",
    ]);
    pub(crate) const ACKNOWLEDGED_SKUS: Self = Self([
        "Acknowledged since the start",
        "Принято с запуска",
        "启动以来已确认",
    ]);
    pub(crate) const ADD_SOURCE: Self = Self([
        "How to add a source",
        "Как добавить источник",
        "如何添加数据源",
    ]);
    pub(crate) const CHART_DIRTY_SKUS: Self = Self([
        "SKUs that differ from the acknowledged stock",
        "SKU, остатки которых Маркет ещё не принял",
        "与已确认库存不同的 SKU",
    ]);
    pub(crate) const CHART_MARKET_REQUESTS: Self = Self([
        "Requests of the Market a minute",
        "Запросов Маркета в минуту",
        "Market 每分钟的请求数",
    ]);
    pub(crate) const CHART_REQUESTS_SENT: Self = Self([
        "Update requests sent a minute",
        "Отправлено запросов в минуту",
        "每分钟发送的更新请求",
    ]);
    pub(crate) const CHART_RESPONSE_MAX: Self = Self([
        "Response times of the Market",
        "Время ответа Маркета",
        "Market 的响应时间",
    ]);
    pub(crate) const CHART_SKUS_SENT: Self = Self([
        "SKUs acknowledged a minute",
        "Принято SKU в минуту",
        "每分钟确认的 SKU",
    ]);
    pub(crate) const CHARTS_EMPTY: Self = Self([
        "The first values appear a minute after the start.",
        "Первые значения появятся через минуту после запуска.",
        "启动一分钟后显示首批数值。",
    ]);
    pub(crate) const CHECK_NOT_CHECKED: Self = Self([
        "not checked yet: an earlier check has not passed",
        "ещё не проверено: не пройдена более ранняя проверка",
        "尚未检查：前面的检查未通过",
    ]);
    pub(crate) const COMMAND_BY_API: Self = Self([
        "Your program calls the partner API",
        "Ваша программа вызывает партнёрский API",
        "您的程序调用合作伙伴 API",
    ]);
    pub(crate) const COMMAND_BY_FILE: Self = Self([
        "Send a file once",
        "Загрузить файл один раз",
        "一次性导入文件",
    ]);
    pub(crate) const COMMAND_BY_SOURCE: Self = Self([
        "A source in the configuration",
        "Источник в конфигурации",
        "在配置中添加数据源",
    ]);
    pub(crate) const CONNECTION_LOST: Self = Self([
        "reconnecting; as of",
        "нет связи; данные на",
        "正在重新连接；数据截至",
    ]);
    pub(crate) const COVERAGE: Self = Self([
        "Requested by the Market",
        "Запрошено Маркетом",
        "Market 请求的 SKU",
    ]);
    pub(crate) const DELIVERY_ACCEPTED: Self = Self([
        "Accepted. The delivery is applied.",
        "Подтверждено. Выгрузка применена.",
        "已批准，这批数据已应用。",
    ]);
    pub(crate) const DELIVERY_CHANGED: Self = Self([
        "Another delivery is held by now, so nothing was applied. This page shows the new one.",
        "Теперь подтверждения ждёт другая выгрузка, поэтому ничего не применено. Здесь показана новая.",
        "现在待批准的是另一批数据，因此没有应用任何内容。本页显示新的一批。",
    ]);
    pub(crate) const EVENTS_SINCE_START: Self = Self([
        "Events since the start of the service; of earlier ones, the last fact of each kind.",
        "События с запуска сервиса; из более ранних — последний факт каждого вида.",
        "服务启动以来的事件；更早的只显示每类的最后一项。",
    ]);
    pub(crate) const EVENT_QUARANTINED: Self = Self([
        "The Market rejected the SKU. It is in quarantine.",
        "Маркет отклонил SKU. Он в карантине.",
        "Market 拒绝该 SKU，已隔离。",
    ]);
    pub(crate) const EVENT_RELEASED: Self = Self([
        "The SKU left quarantine.",
        "SKU вышел из карантина.",
        "该 SKU 已解除隔离。",
    ]);
    pub(crate) const EVENTS_UNREADABLE: Self = Self([
        "The events cannot be read: see the log of the service.",
        "События не удалось прочитать: см. журнал сервиса.",
        "无法读取事件：请查看服务日志。",
    ]);
    pub(crate) const EXAMPLES: Self = Self([
        "SKUs that are not equal",
        "SKU, которые не совпадают",
        "不一致的 SKU",
    ]);
    pub(crate) const FEED_SHOP: Self =
        Self(["How to feed a shop", "Как передать остатки", "如何提供库存"]);
    pub(crate) const FEED_SHOP_LEAD: Self = Self([
        "As long as a shop has no stock, the Market gets status 503. There are three ways to state its stock:",
        "Пока у магазина нет остатков, Маркет получает статус 503. Передать остатки можно тремя способами:",
        "店铺没有库存时，Market 会收到状态 503。提供库存有三种方式：",
    ]);
    pub(crate) const HELD_LINK: Self = Self([
        "look at the held delivery",
        "посмотреть отложенную выгрузку",
        "查看待批准的数据",
    ]);
    pub(crate) const HELD_SINCE: Self =
        Self(["Source on hold since", "Источник ждёт с", "数据源待批准自"]);
    pub(crate) const LIMIT_REQUESTS: Self = Self([
        "Limit, requests a minute",
        "Лимит, запросов в минуту",
        "限额（请求/分钟）",
    ]);
    pub(crate) const LIMIT_SKUS: Self = Self([
        "Limit, SKUs a minute",
        "Лимит, SKU в минуту",
        "限额（SKU/分钟）",
    ]);
    pub(crate) const LOGIN_LEAD: Self = Self([
        "This page shows the stock of your shops and needs the operator password.",
        "Здесь остатки ваших магазинов. Нужен пароль оператора.",
        "本页显示您店铺的库存，需要操作员密码。",
    ]);
    pub(crate) const NEW_DATA: Self = Self([
        "The page has new parts.",
        "На странице есть изменения.",
        "页面有新内容。",
    ]);
    pub(crate) const NO_ALARMS: Self = Self([
        "No alarm is active. If something goes wrong, this place says what it means and what to do.",
        "Тревог нет. Если что-то пойдёт не так, здесь появится, что это значит и что делать.",
        "当前没有告警。出现问题时，这里会说明影响和处理办法。",
    ]);
    pub(crate) const NO_DELIVERY: Self = Self([
        "No delivery since the start of the service.",
        "С запуска сервиса выгрузок не было.",
        "服务启动以来没有收到数据。",
    ]);
    pub(crate) const NO_EVENTS: Self = Self([
        "No events yet. Starts, alarms, deliveries, pauses and actions appear here as they happen.",
        "Событий пока нет. Здесь появляются запуски, тревоги, выгрузки, паузы и действия.",
        "暂无事件。启动、告警、数据、暂停和操作会在发生时显示在这里。",
    ]);
    pub(crate) const NO_SOURCES: Self = Self([
        "No source is configured",
        "Источники не настроены",
        "尚未配置数据源",
    ]);
    pub(crate) const NO_SOURCES_LEAD: Self = Self([
        "If your program calls the partner API, nothing is needed here. Otherwise add a table for each source to the configuration, such as this one for a file, and restart the service:",
        "Если ваша программа вызывает партнёрский API, здесь ничего не нужно. Иначе добавьте в конфигурацию таблицу для каждого источника, например такую для файла, и перезапустите сервис:",
        "如果您的程序调用合作伙伴 API，这里无需任何设置。否则请在配置中为每个数据源添加一个表，例如下面的文件数据源，然后重启服务：",
    ]);
    pub(crate) const NO_STOCK_CHANGES: Self = Self([
        "No stock changes.",
        "Остатки не изменятся.",
        "库存不会有变化。",
    ]);
    pub(crate) const NOT_POLLED: Self = Self([
        "not polled: it sends its data itself",
        "не опрашивается: передаёт данные сам",
        "不轮询：由其主动发送数据",
    ]);
    pub(crate) const NOTHING_HELD: Self = Self([
        "Nothing is held for approval.",
        "Ничего не ждёт подтверждения.",
        "没有待批准的数据。",
    ]);
    pub(crate) const NO_SUCH_SKU: Self = Self([
        "No SKU has this spelling, and none begins with it.",
        "Такого SKU нет, и ни один SKU так не начинается.",
        "没有这样的 SKU，也没有以此开头的 SKU。",
    ]);
    pub(crate) const OTHER_SHOPS: Self = Self([
        "The same SKU in other shops",
        "Этот же SKU в других магазинах",
        "其他店铺中的同一 SKU",
    ]);
    pub(crate) const PUSH_COLUMN: Self = Self([
        "Last request of the Market",
        "Последний запрос Маркета",
        "Market 最近请求",
    ]);
    pub(crate) const QUARANTINE_EMPTY: Self = Self([
        "The quarantine is empty. SKUs that the Market rejects appear here with its reason.",
        "Карантин пуст. Здесь появятся SKU, которые отклонит Маркет, с указанием причины.",
        "隔离区为空。被 Market 拒绝的 SKU 及其原因会显示在这里。",
    ]);
    pub(crate) const QUARANTINE_LEAD: Self = Self([
        "The Market rejects these SKUs, so they are sent alone and less often. Correct the cause in the Market’s cabinet or in the catalogue; a changed count is sent at once.",
        "Маркет отклоняет эти SKU, поэтому они отправляются отдельно и реже. Устраните причину в кабинете Маркета или в каталоге; изменённый остаток отправляется сразу.",
        "Market 拒绝这些 SKU，因此它们单独发送且间隔更长。请在 Market 卖家后台或商品目录中排除原因；数量变化后会立即发送。",
    ]);
    pub(crate) const READ_NOW_EFFECT: Self = Self([
        "“Read now” polls the source at once. A new delivery is checked and applied as after a scheduled poll.",
        "«Опросить сейчас» сразу опрашивает источник. Новая выгрузка проверяется и применяется так же, как после опроса по расписанию.",
        "“立即读取”会马上轮询该数据源。新的一批数据与定时轮询后一样检查并应用。",
    ]);
    pub(crate) const READ_REQUESTED: Self = Self([
        "The source is read now. The result appears here.",
        "Источник опрашивается. Результат появится здесь.",
        "正在读取该数据源，结果会显示在这里。",
    ]);
    pub(crate) const READBACK_DIFFERS: Self = Self([
        "the last read-back found differences",
        "последняя сверка нашла расхождения",
        "最近一次核对发现差异",
    ]);
    pub(crate) const READBACK_FAILED: Self = Self([
        "the last read-back failed",
        "последняя сверка не удалась",
        "最近一次核对失败",
    ]);
    pub(crate) const READBACK_IMPOSSIBLE: Self = Self([
        "the Market is not called for this shop",
        "сервис не обращается к Маркету по этому магазину",
        "不为该店铺调用 Market",
    ]);
    pub(crate) const READBACK_MATCHES: Self = Self([
        "the Market’s stock is as it should be",
        "остатки на Маркете такие, как нужно",
        "Market 上的库存正确",
    ]);
    pub(crate) const READINESS_PENDING: Self = Self([
        "The readiness is being computed.",
        "Готовность проверяется.",
        "正在检查是否可以切换。",
    ]);
    pub(crate) const REMOVED_SOURCE: Self = Self([
        "A source that was removed from the configuration does not count",
        "Источник удалён из конфигурации и не учитывается",
        "已从配置中删除的数据源不计入",
    ]);
    pub(crate) const ROWS_NOT_APPLIED: Self = Self([
        "Rows that are not applied",
        "Строки, которые не применены",
        "未应用的行",
    ]);
    pub(crate) const RULE_STEPS: Self = Self([
        "How the sources lead to the count",
        "Как из источников получается остаток",
        "数量如何由数据源得出",
    ]);
    pub(crate) const RULE_STEPS_EMPTY: Self = Self([
        "No source has stated this SKU. Its stock comes from the partner API, or it is not known.",
        "Ни один источник не передавал этот SKU. Его остаток передан через партнёрский API или неизвестен.",
        "没有数据源提供过该 SKU 的库存。其库存来自合作伙伴 API，或尚不可知。",
    ]);
    pub(crate) const RULES_ACCEPTED: Self = Self([
        "Accepted. The changed rules are applied.",
        "Подтверждено. Изменённые правила применены.",
        "已批准，改动过的规则已应用。",
    ]);
    pub(crate) const RULES_HELD_FIRST: Self = Self([
        "Changed rules of this shop are held too. Decide about them first: the delivery is applied together with them.",
        "Изменённые правила этого магазина тоже ждут подтверждения. Сначала примите решение по ним: выгрузка применяется вместе с ними.",
        "该店铺改动过的规则也待批准。请先处理规则：这批数据会与规则一起应用。",
    ]);
    pub(crate) const RULES_HELD_LEAD: Self = Self([
        "The rules in the configuration have changed, and they would turn too much stock to zero. Until you accept them, the stock stays as it was.",
        "Правила в конфигурации изменены и обнулили бы слишком много остатков. Пока вы их не подтвердите, остатки не меняются.",
        "配置中的规则已改动，会使过多库存归零。在您批准之前，库存保持不变。",
    ]);
    pub(crate) const SCOPE_SNAPSHOT: Self = Self([
        "complete list (snapshot)",
        "все товары (снимок)",
        "完整列表（快照）",
    ]);
    pub(crate) const SEARCH_TIPS: Self = Self([
        "Enter the whole SKU or its beginning. 0557722 and 557722 are two SKUs.",
        "Введите SKU целиком или его начало. 0557722 и 557722 — два разных SKU.",
        "请输入完整的 SKU 或其开头。0557722 和 557722 是两个 SKU。",
    ]);
    pub(crate) const SEE_CHANGES: Self = Self([
        "See what would change",
        "Посмотреть, что изменится",
        "查看将发生的变化",
    ]);
    pub(crate) const SKU_ACKNOWLEDGED: Self = Self([
        "Acknowledged by the Market",
        "Принято Маркетом",
        "Market 已确认",
    ]);
    pub(crate) const SKU_REQUESTED: Self = Self([
        "Last requested by the Market",
        "Последний запрос Маркета",
        "Market 最近请求",
    ]);
    pub(crate) const SKUS_ALIKE: Self = Self([
        "SKUs that are easily confused with it",
        "SKU, с которыми его легко перепутать",
        "容易混淆的 SKU",
    ]);
    pub(crate) const SOURCES_EMPTY: Self = Self([
        "This shop has no source. Its stock comes through the partner API. A source in the configuration appears here with its deliveries.",
        "У магазина нет источников. Остатки передаются через партнёрский API. Здесь появятся источники из конфигурации и их выгрузки.",
        "该店铺没有数据源，库存通过合作伙伴 API 提供。配置中的数据源及其各批数据会显示在这里。",
    ]);
    pub(crate) const STARTING_LEAD: Self = Self([
        "The service reads its store. This page reloads by itself.",
        "Сервис читает хранилище. Страница обновится сама.",
        "服务正在读取存储。本页会自动刷新。",
    ]);
    pub(crate) const SOON: Self = Self([
        "in less than a minute",
        "меньше чем через минуту",
        "不到 1 分钟后",
    ]);
    pub(crate) const STARTING_TITLE: Self = Self([
        "The service is starting",
        "Сервис запускается",
        "服务正在启动",
    ]);
    pub(crate) const TICK_LEAD: Self = Self([
        "Tick what you have checked yourself. The ticks are kept in this browser and are printed with the page.",
        "Отмечайте то, что проверили сами. Отметки хранятся в этом браузере и печатаются вместе со страницей.",
        "请勾选您亲自检查过的项目。勾选保存在此浏览器中，并随页面一起打印。",
    ]);
    pub(crate) const UNKNOWN_PATH: Self = Self([
        "This address has no page.",
        "По этому адресу страницы нет.",
        "此地址没有页面。",
    ]);
    pub(crate) const UNKNOWN_SHOP_LEAD: Self = Self([
        "The configuration has these shops:",
        "В конфигурации есть такие магазины:",
        "配置中有以下店铺：",
    ]);
    pub(crate) const UNKNOWN_SKU: Self = Self([
        "Neither the seller nor the Market has named this SKU.",
        "Ни продавец, ни Маркет не называли этот SKU.",
        "卖家和 Market 都没有提到过该 SKU。",
    ]);
    pub(crate) const UNKNOWN_SKU_CHECK: Self = Self([
        "Compare the spelling with the catalogue: case and leading zeros count.",
        "Сравните написание с каталогом: регистр и нули в начале важны.",
        "请与商品目录对照写法：大小写和前导零都有区别。",
    ]);
    pub(crate) const UNKNOWN_SKU_FEED: Self = Self([
        "State its stock through a source or the partner API. It then appears here within seconds.",
        "Передайте его остаток через источник или партнёрский API. Через несколько секунд он появится здесь.",
        "通过数据源或合作伙伴 API 提供库存，几秒后即会显示在这里。",
    ]);
    pub(crate) const UNKNOWN_SKU_SOURCE: Self = Self([
        "If the SKU is right, look at the rows that its source could not apply.",
        "Если SKU верный, посмотрите строки источника, которые не удалось применить.",
        "如果 SKU 正确，请查看数据源中未能应用的行。",
    ]);
    pub(crate) const VERIFY_EFFECT: Self = Self([
        "The Market’s stock will be read and compared with what was sent. SKUs whose update was lost will be sent again; nothing else changes.",
        "Остатки на Маркете будут прочитаны и сопоставлены с отправленными. SKU, обновление которых потерялось, будут отправлены ещё раз; больше ничего не изменится.",
        "将读取 Market 上的库存并与已发送的数据比对。更新丢失的 SKU 会再次发送，其他内容不变。",
    ]);
    pub(crate) const WORKER_DRY_RUN: Self = Self([
        "dry run: nothing is sent",
        "пробный режим: ничего не отправляется",
        "试运行：不发送",
    ]);
    pub(crate) const WORKER_PAUSED: Self = Self([
        "paused until the cause is fixed",
        "приостановлена, пока причина не устранена",
        "已暂停，直到原因排除",
    ]);
    pub(crate) const WORKER_WAITING: Self = Self([
        "waiting; no action is needed",
        "ожидание, действий не требуется",
        "等待中，无需操作",
    ]);
    pub(crate) const WRONG_PASSWORD: Self =
        Self(["This password is wrong.", "Пароль неверный.", "密码错误。"]);
    pub(crate) const REPLICA_CHARTS: Self = Self([
        "The charts have only what this replica has sent and answered.",
        "На графиках — только то, что отправила и на что ответила эта реплика.",
        "图表只包含本副本发送和响应的内容。",
    ]);
    pub(crate) const REPLICA_EVENTS: Self = Self([
        "These are the events of this replica. Each replica keeps its own.",
        "Здесь события этой реплики. Каждая хранит только свои.",
        "这里是本副本的事件。每个副本只保存自己的事件。",
    ]);
}
