//! Short texts without parameters: headings, labels and buttons.

use super::Text;

impl Text {
    pub(crate) const ACKNOWLEDGED_COLUMN: Self =
        Self(["Last acknowledgement", "Последний приём", "最近确认"]);
    pub(crate) const AFTER_COLUMN: Self = Self(["After", "Станет", "批准后"]);
    pub(crate) const ALARMS: Self = Self(["Alarms", "Тревоги", "告警"]);
    pub(crate) const ALL: Self = Self(["all", "все", "全部"]);
    pub(crate) const ALL_ROWS_CSV: Self =
        Self(["All rows as CSV", "Все строки в CSV", "全部行（CSV）"]);
    pub(crate) const ALL_SOURCES: Self = Self(["All sources", "Все источники", "全部数据源"]);
    pub(crate) const ATTEMPTS_COLUMN: Self = Self(["Attempts", "Попытки", "尝试次数"]);
    pub(crate) const CHANGED_COLUMN: Self = Self(["Changed", "Изменены", "有变化"]);
    pub(crate) const CHART_HIGHEST: Self = Self(["Highest", "Максимум", "最高"]);
    pub(crate) const CHART_LIMIT: Self = Self(["limit", "лимит", "限额"]);
    pub(crate) const CHART_LOWEST: Self = Self(["Lowest", "Минимум", "最低"]);
    pub(crate) const CHART_PERIOD_SWITCH: Self =
        Self(["Period of the charts", "Период графиков", "图表时段"]);
    pub(crate) const CHART_RESPONSE_MEAN: Self = Self(["mean", "среднее", "平均"]);
    pub(crate) const CHART_TABLE: Self =
        Self(["Values as a table", "Значения таблицей", "以表格显示"]);
    pub(crate) const CHARTS: Self = Self(["Charts", "Графики", "图表"]);
    pub(crate) const CHARTS_OF_DAY: Self = Self(["24 hours", "24 часа", "24 小时"]);
    pub(crate) const CHARTS_OF_WEEK: Self = Self(["7 days", "7 дней", "7 天"]);
    pub(crate) const CLASS_COLUMN: Self = Self(["Class", "Класс", "分类"]);
    pub(crate) const COMPUTE_AGAIN: Self = Self(["Compute again", "Проверить заново", "重新检查"]);
    pub(crate) const CONNECTION_LIVE: Self = Self(["live", "обновляется", "实时"]);
    pub(crate) const CONSEQUENCE: Self = Self(["What it means", "Что это значит", "影响"]);
    pub(crate) const COUNT_COLUMN: Self = Self(["Count", "Количество", "数量"]);
    pub(crate) const COVERAGE_ACKNOWLEDGED: Self =
        Self(["of these acknowledged", "из них принято", "其中已确认"]);
    pub(crate) const COVERAGE_KNOWN: Self = Self(["of these known", "из них известно", "其中已知"]);
    pub(crate) const DETAIL: Self = Self(["Detail", "Подробности", "详情"]);
    pub(crate) const DIFFERING_COLUMN: Self = Self(["Differing", "Расходятся", "不一致"]);
    pub(crate) const DIRTY_SKUS: Self = Self(["Not acknowledged", "Не принято", "尚未确认"]);
    pub(crate) const DURATION: Self = Self(["Duration", "Длительность", "用时"]);
    pub(crate) const EVENT_KIND: Self = Self(["Kind", "Вид", "类别"]);
    pub(crate) const EVENTS: Self = Self(["Events", "События", "事件记录"]);
    pub(crate) const FAILURE: Self = Self(["Failure", "Ошибка", "失败原因"]);
    pub(crate) const FILTER: Self = Self(["Show", "Показать", "显示"]);
    pub(crate) const FIND: Self = Self(["Find", "Найти", "查找"]);
    pub(crate) const HELD_FILE: Self = Self(["Held file", "Файл", "待批准数据的文件"]);
    pub(crate) const HELD_TIMES: Self = Self(["Repeated", "Повторов", "重复次数"]);
    pub(crate) const HELD_TITLE: Self = Self(["Held for approval", "Ждёт подтверждения", "待批准"]);
    pub(crate) const HIGHER_KIND: Self = Self(["higher", "больше", "增加"]);
    pub(crate) const IN_FLIGHT_SKUS: Self = Self(["In flight", "Отправляются", "发送中"]);
    pub(crate) const KIND_COLUMN: Self = Self(["Kind", "Вид", "类型"]);
    pub(crate) const LANGUAGE_SWITCH: Self = Self(["Language", "Язык", "语言"]);
    pub(crate) const LAST_DELIVERY: Self =
        Self(["Last delivery", "Последняя выгрузка", "最近一批数据"]);
    pub(crate) const LAST_POLL: Self = Self(["Last poll", "Последний опрос", "最近轮询"]);
    pub(crate) const LINE_COLUMN: Self = Self(["Line", "Строка", "行号"]);
    pub(crate) const LOGIN: Self = Self(["Log in", "Войти", "登录"]);
    pub(crate) const LOGOUT: Self = Self(["Log out", "Выйти", "退出"]);
    pub(crate) const LOWER_KIND: Self = Self(["lower", "меньше", "减少"]);
    pub(crate) const MARKETS_COLUMN: Self = Self(["On the Market", "На Маркете", "Market 上"]);
    pub(crate) const MATCH_COLUMN: Self =
        Self(["Last full match", "Полное совпадение", "最近完全一致"]);
    pub(crate) const MEANING_COLUMN: Self = Self(["Meaning", "Значение", "含义"]);
    pub(crate) const MODE_COLUMN: Self = Self(["Sending", "Отправка", "发送"]);
    pub(crate) const MODE_DRY_RUN: Self = Self(["dry run", "пробный режим", "试运行"]);
    pub(crate) const MODE_OFF: Self = Self(["off", "выключена", "关闭"]);
    pub(crate) const MODE_ON: Self = Self(["on", "включена", "开启"]);
    pub(crate) const NEVER: Self = Self(["never", "не было", "从未"]);
    pub(crate) const NEW_COLUMN: Self = Self(["New", "Новые", "新增"]);
    pub(crate) const NEW_KIND: Self = Self(["new", "новые", "新增"]);
    pub(crate) const NEWEST: Self = Self(["newest", "самые новые", "最新"]);
    pub(crate) const NEXT_PAGE: Self = Self(["Next page", "Следующая страница", "下一页"]);
    pub(crate) const NEXT_POLL: Self = Self(["Next poll", "Следующий опрос", "下次轮询"]);
    pub(crate) const NEXT_TRY_COLUMN: Self = Self(["Next try", "Следующая попытка", "下次尝试"]);
    pub(crate) const NOTICES: Self = Self(["Notices", "Примечания", "提示"]);
    pub(crate) const NOW_COLUMN: Self = Self(["Now", "Сейчас", "当前"]);
    pub(crate) const NUMBERS: Self = Self(["Numbers", "Показатели", "指标"]);
    pub(crate) const OLDER: Self = Self(["older", "более старые", "更早"]);
    pub(crate) const OPEN_EVENTS: Self = Self(["Open the events", "Открыть события", "查看事件"]);
    pub(crate) const OPEN_SHOP: Self = Self(["Open the shop", "Открыть магазин", "查看店铺"]);
    pub(crate) const OPEN_SOURCE: Self =
        Self(["Open the source", "Открыть источник", "查看数据源"]);
    pub(crate) const OURS_COLUMN: Self = Self(["In the service", "В сервисе", "服务中"]);
    pub(crate) const OUTCOME_APPLIED: Self = Self(["applied", "применена", "已应用"]);
    pub(crate) const OUTCOME_HELD: Self =
        Self(["held for approval", "ждёт подтверждения", "待批准"]);
    pub(crate) const OUTDATED_COLUMN: Self = Self(["Older than known", "Устарели", "早于已知"]);
    pub(crate) const OVERVIEW: Self = Self(["Overview", "Обзор", "概览"]);
    pub(crate) const PASSWORD: Self = Self(["Password", "Пароль", "密码"]);
    pub(crate) const PAUSE_SENDING: Self =
        Self(["Pause sending", "Приостановить отправку", "暂停发送"]);
    pub(crate) const POLL_RUNS: Self = Self(["now", "сейчас", "正在进行"]);
    pub(crate) const PREVIOUS_PAGE: Self = Self(["Previous page", "Предыдущая страница", "上一页"]);
    pub(crate) const QUARANTINE: Self = Self(["Quarantine", "Карантин", "隔离"]);
    pub(crate) const READ_NOW: Self = Self(["Read now", "Опросить сейчас", "立即读取"]);
    pub(crate) const READBACK: Self = Self(["Read-back", "Сверка", "核对"]);
    pub(crate) const READBACK_NEVER: Self =
        Self(["not read back yet", "сверки ещё не было", "尚未核对"]);
    pub(crate) const READBACK_RUNNING: Self =
        Self(["a read-back is running", "идёт сверка", "正在核对"]);
    pub(crate) const REASON_COLUMN: Self = Self(["Reason", "Причина", "原因"]);
    pub(crate) const REJECTED_COLUMN: Self = Self(["Rejected", "Отклонены", "被拒绝"]);
    pub(crate) const RELOAD: Self = Self(["Reload", "Обновить", "刷新"]);
    pub(crate) const REMARKS: Self = Self(["Remarks", "Примечания", "备注"]);
    pub(crate) const REMEDY: Self = Self(["What to do", "Что делать", "处理办法"]);
    pub(crate) const RESERVED_COLUMN: Self = Self(["Reserved", "В резерве", "已预留"]);
    pub(crate) const RESUME_SENDING: Self =
        Self(["Resume sending", "Возобновить отправку", "恢复发送"]);
    pub(crate) const ROW_COLUMN: Self = Self(["Row", "Содержание", "内容"]);
    pub(crate) const ROW_REJECTED: Self = Self(["rejected", "отклонена", "被拒绝"]);
    pub(crate) const ROW_SUSPICIOUS: Self = Self(["suspicious", "сомнительная", "可疑"]);
    pub(crate) const ROWS_COLUMN: Self = Self(["Rows", "Строки", "行数"]);
    pub(crate) const RULES_HELD: Self =
        Self(["Changed rules", "Изменённые правила", "改动过的规则"]);
    pub(crate) const SCOPE: Self = Self(["Completeness", "Полнота", "完整性"]);
    pub(crate) const SCOPE_DELTA: Self = Self(["changes (delta)", "изменения", "部分数据（增量）"]);
    pub(crate) const SEARCH: Self = Self(["Search for a SKU", "Поиск SKU", "查找 SKU"]);
    pub(crate) const SENDING: Self = Self(["Sending", "Отправка", "发送"]);
    pub(crate) const SHOP: Self = Self(["Shop", "Магазин", "店铺"]);
    pub(crate) const SHOPS: Self = Self(["Shops", "Магазины", "所有店铺"]);
    pub(crate) const SIMILAR_SKUS: Self =
        Self(["Did you mean", "Возможно, вы имели в виду", "您是否要找"]);
    pub(crate) const SINCE_COLUMN: Self = Self(["Since", "С какого времени", "起始时间"]);
    pub(crate) const SKIP_TO_CONTENT: Self =
        Self(["Skip to the content", "К содержанию", "跳到正文"]);
    pub(crate) const SKU_COLUMN: Self = Self(["SKU", "SKU", "SKU"]);
    pub(crate) const SKU_DUE_AGAIN: Self =
        Self(["is sent again", "будет отправлен ещё раз", "将再次发送"]);
    pub(crate) const SKU_IN_BOOK: Self =
        Self(["Stated by the seller", "Передано продавцом", "卖家提供"]);
    pub(crate) const SKU_NOT_ACKNOWLEDGED: Self =
        Self(["not acknowledged", "не принято", "未确认"]);
    pub(crate) const SKU_NOT_READ_BACK: Self =
        Self(["not read back yet", "сверки ещё не было", "尚未核对"]);
    pub(crate) const SKU_NOT_SHOWN: Self = Self(["not shown", "не показывается", "未显示"]);
    pub(crate) const SKU_NOT_STATED: Self = Self(["never stated", "не передавалось", "从未提供"]);
    pub(crate) const SKU_ON_MARKET: Self =
        Self(["Shown by the Market", "Показывает Маркет", "Market 显示"]);
    pub(crate) const SKUS_COLUMN: Self = Self(["SKUs", "SKU", "SKU 数"]);
    pub(crate) const SOURCE_COLUMN: Self = Self(["Source", "Источник", "数据源"]);
    pub(crate) const SOURCE_KIND: Self = Self(["Kind", "Тип", "类型"]);
    pub(crate) const SOURCE_POLLED_NOW: Self = Self(["now", "сейчас", "现在"]);
    pub(crate) const SOURCE_SENDS_ITSELF: Self =
        Self(["sends by itself", "присылает сам", "自行推送"]);
    pub(crate) const SOURCES: Self = Self(["Sources", "Источники", "数据源"]);
    pub(crate) const STATE_COLUMN: Self = Self(["State", "Состояние", "状态"]);
    pub(crate) const STOCK_DATE: Self = Self(["Date of the stock", "Дата остатков", "库存日期"]);
    pub(crate) const SUSPICIOUS_COLUMN: Self = Self(["Suspicious", "Сомнительные", "可疑"]);
    pub(crate) const SWITCH_OVER: Self = Self(["Switch-over", "Переход", "切换"]);
    pub(crate) const TIME_COLUMN: Self = Self(["Time", "Время", "时间"]);
    pub(crate) const TIME_LINE: Self = Self(["What happened", "Что произошло", "时间线"]);
    pub(crate) const UNCHANGED_COLUMN: Self = Self(["Unchanged", "Без изменений", "无变化"]);
    pub(crate) const UNKNOWN_SKU_ADVICE: Self = Self(["What to do", "Что делать", "处理办法"]);
    pub(crate) const VERIFY_NOW: Self = Self(["Verify now", "Сверить сейчас", "立即核对"]);
    pub(crate) const WAITING_COLUMN: Self = Self(["Waiting to be sent", "Ждут отправки", "待发送"]);
    pub(crate) const WAREHOUSES: Self = Self(["warehouse", "склад", "仓库"]);
    pub(crate) const WHOLE_SERVICE: Self = Self(["whole service", "весь сервис", "整个服务"]);
    pub(crate) const WORKER_IDLE: Self =
        Self(["everything is sent", "всё отправлено", "已全部发送"]);
    pub(crate) const ZERO_KIND: Self = Self(["to zero", "обнулятся", "归零"]);
    pub(crate) const ZERO_MARK: Self = Self(["becomes 0", "станет 0", "归零"]);
    pub(crate) const ZEROED_COLUMN: Self = Self(["To zero", "Обнулены", "归零"]);
    pub(crate) const LAG_COLUMN: Self =
        Self(["Changes behind", "Отстаёт на изменений", "落后的更改"]);
    pub(crate) const OPEN_REPLICAS: Self =
        Self(["See the replicas", "Посмотреть реплики", "查看副本"]);
    pub(crate) const READS_SOURCES_COLUMN: Self =
        Self(["Reads sources of", "Читает источники", "读取数据源"]);
    pub(crate) const RENEWED_COLUMN: Self = Self(["Last seen", "Была на связи", "最近在线"]);
    pub(crate) const REPLICA_BEHIND: Self = Self([
        "cannot follow the others",
        "не видит изменений других",
        "无法跟上其他副本",
    ]);
    pub(crate) const REPLICA_COLUMN: Self = Self(["Replica", "Реплика", "副本"]);
    pub(crate) const REPLICA_LIVE: Self = Self(["live", "работает", "在线"]);
    pub(crate) const REPLICA_NOT_LIVE: Self = Self(["not live", "не работает", "离线"]);
    pub(crate) const REPLICA_UNKNOWN: Self = Self(["not known", "неизвестно", "未知"]);
    pub(crate) const REPLICAS: Self = Self(["Replicas", "Реплики", "副本"]);
    pub(crate) const SENDS_FOR_COLUMN: Self = Self(["Sends for", "Отправляет остатки", "负责发送"]);
    pub(crate) const THIS_REPLICA: Self = Self(["this page", "эта страница", "本页"]);
}
