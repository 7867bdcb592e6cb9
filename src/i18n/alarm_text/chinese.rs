//! Texts of the alarms in Simplified Chinese.

use super::AlarmText;
use crate::telemetry::AlarmKind;

/// Returns the text of an alarm in Simplified Chinese.
#[expect(clippy::too_many_lines, reason = "one entry for each alarm")]
pub(super) const fn alarm_text(kind: AlarmKind) -> AlarmText {
    match kind {
        AlarmKind::AbsenceNotApplied => AlarmText {
            title: "快照中缺少的 SKU 未归零",
            consequence: "最近一次快照中没有的 SKU 保留旧库存而不是 0，Market 可能会卖出您没有的商品；快照中能读取的行已经应用。",
            remedy: "请修正读不出 SKU 的那一行，然后重新提供快照。告警中写明了是哪一行。",
        },
        AlarmKind::AuthFailures => AlarmText {
            title: "大量请求的密钥错误",
            consequence: "使用错误密钥的程序无法提供库存，Market 的推送令牌错误时也得不到库存；密钥正确的请求仍然会被接受。",
            remedy: "请修正仍在发送旧推送令牌、旧的库存提供密钥或旧 1C 登录信息的程序。如果这些请求不是您发出的，请在本服务之前拦截其地址。",
        },
        AlarmKind::BatchRefused => AlarmText {
            title: "Market 拒绝所有批次",
            consequence: "这家店铺的新库存无法通过新 API 送达 Market；新库存已保存，稍后会发送，Market 的请求仍会得到正常应答。",
            remedy: "请阅读告警中 Market 给出的原因，并检查设置 method、仓库编号和本机时钟。运行 stockbridge doctor。",
        },
        AlarmKind::CampaignPaused => AlarmText {
            title: "已暂停向 Market 发送",
            consequence: "Market 拒绝 API 密钥，或者不接受这家店铺的库存，因此新库存正在等待；稍后会发送，Market 的请求仍会得到正常应答。",
            remedy: "请更换 API 密钥并重新加载配置，或者在卖家后台确认店铺没有被停用。运行 stockbridge doctor。",
        },
        AlarmKind::CloneGuard => AlarmText {
            title: "存储属于另一个安装",
            consequence: "所有店铺的库存都不会发送到 Market；本安装仍然接收库存，并应答 Market 的请求。",
            remedy: "如果另一个安装已不再运行，请加上 --adopt 重启一次。如果这是用于测试的副本，请为它设置单独的存储。",
        },
        AlarmKind::ClockJumped => AlarmText {
            title: "时钟或库存日期有误",
            consequence: "以日期最新的库存为准，因此错误的日期可能使服务保留较旧的数量；接收、发送和应答仍在继续。",
            remedy: "请检查本机（使用多个副本时为数据库服务器）以及提供库存的程序所在机器的时间服务（NTP）。最后一次报告之后 24 小时，告警解除。",
        },
        AlarmKind::ColdShopAsked => AlarmText {
            title: "Market 请求的库存未知",
            consequence: "服务中没有这家店铺的库存，因此 Market 收到错误状态，并保留它已有的数量；不会有任何数量变为 0。",
            remedy: "请通过您的程序、数据源或 stockbridge import 提供店铺的全部库存。",
        },
        AlarmKind::ConfigRejected => AlarmText {
            title: "新配置未应用",
            consequence: "服务仍使用旧配置，新的密钥、列表和规则尚未生效；接收、发送和应答仍在继续。",
            remedy: "请更正告警中指出的错误，然后重新加载配置。请先运行 stockbridge check。",
        },
        AlarmKind::DatabaseLostChanges => AlarmText {
            title: "数据库丢失了已确认的变更",
            consequence: "服务已从内存中重新写入这些变更，因此库存没有丢失；Market 在这段时间内确认的库存会再发送一次。",
            remedy: "请查明数据库为何回到较早的状态，常见原因是切换到了落后的备库。请设置 synchronous_standby_names，避免再次发生。",
        },
        AlarmKind::Drift => AlarmText {
            title: "Market 上的数量不一致",
            consequence: "部分 SKU 在 Market 上显示的数量与已发送的不同，因此可能多卖或少卖；发送和应答仍在继续。",
            remedy: "请运行 stockbridge verify 列出这些 SKU，再对其中一个运行 stockbridge explain SKU。请查找是否有另一个程序也在发送这家店铺的库存。",
        },
        AlarmKind::NothingAcknowledged => AlarmText {
            title: "Market 没有接受任何库存",
            consequence: "已有 15 分钟或更长时间，这家店铺的新库存没有通过新 API 送达 Market；新库存已保存，稍后会发送，Market 的请求仍会得到正常应答。",
            remedy: "请运行 stockbridge doctor：它会检查与 Market 的连接、API 密钥和店铺。",
        },
        AlarmKind::NotifyFailed => AlarmText {
            title: "通知无法送达",
            consequence: "该渠道无法发送告警，故障可能无人察觉；其他渠道和库存传输不受影响。",
            remedy: "请查看下方原因，修正该渠道的设置，然后运行 stockbridge notify --test。",
        },
        AlarmKind::Quarantine => AlarmText {
            title: "Market 拒绝部分 SKU",
            consequence: "这些 SKU 已被隔离，在 Market 上保留旧数量；其他 SKU 的库存照常发送。",
            remedy: "请在您的程序或 Market 的商品目录中修正这些 SKU：Market 对每个 SKU 都给出了原因。服务会在 1 到 24 小时后重新发送，数量变化时会立即发送。",
        },
        AlarmKind::ReadbackFailed => AlarmText {
            title: "无法核对 Market 的库存",
            consequence: "服务无法得知 Market 显示的数量是否正确；发送和应答仍在继续。",
            remedy: "请阅读告警中的原因，并运行 stockbridge doctor：常见的原因是 API 密钥缺少权限。服务会在一小时内重试。",
        },
        AlarmKind::ReplicaBehind => AlarmText {
            title: "此副本没有跟上其他副本",
            consequence: "它无法从数据库读取其他副本的变更，因此对 Market 返回状态 503，并视为未就绪；其他副本正常工作。",
            remedy: "请检查数据库以及它与此副本之间的网络。副本会自行恢复。",
        },
        AlarmKind::ReplicasDiffer => AlarmText {
            title: "各副本的设置不同",
            consequence: "库存和响应取决于由哪个副本读取数据源、发送或应答；接收、发送和应答照常进行。",
            remedy: "告警中列出了不同的副本和配置部分。请在所有机器上使用相同的配置，并重新加载或重启每个副本。",
        },
        AlarmKind::SelftestHidden => AlarmText {
            title: "自检后有商品仍被隐藏",
            consequence: "买家在 Market 上看不到这件商品，也无法购买；所有商品的库存照常发送。",
            remedy: "请等待，服务会再次尝试显示该商品。如果店铺已改名或删除，请恢复它的名称，或者在卖家后台显示该商品。",
        },
        AlarmKind::SourceFailed => AlarmText {
            title: "数据源无法读取或应用",
            consequence: "来自这个数据源的库存保持不变，会逐渐过时；其他数据源和程序仍然可以更新这家店铺。",
            remedy: "请阅读告警中的原因，并修正文件、连接或登录信息，然后再次轮询该数据源。",
        },
        AlarmKind::SourceHeld => AlarmText {
            title: "一批数据待批准",
            consequence: "一批数据或改动过的规则看起来有误，会清空店铺，因此没有应用，库存保持不变。",
            remedy: "请在“数据源”页面查看会有哪些变化。如果文件有误，请提供正确的文件；如果无误，请在该页面批准，或运行 stockbridge accept SOURCE --shop NAME（规则：stockbridge accept rules --shop NAME）。",
        },
        AlarmKind::SourceSilent => AlarmText {
            title: "店铺没有收到新库存",
            consequence: "Market 请求时仍然得到最后已知的数量，但这些数量可能已经过时，也不再每天发送到 Market。",
            remedy: "请检查为这家店铺提供库存的程序或数据源。下一次提供库存后告警即解除，即使数量没有变化。",
        },
        AlarmKind::SourcesUnread => AlarmText {
            title: "没有副本读取数据源",
            consequence: "来自该店铺数据源的库存保持不变，会逐渐过时；程序仍然可以更新店铺，库存照常发送。",
            remedy: "请阅读告警中的原因。启动 sources_on 指定的副本，或者在所有副本上删除该设置，由另一个副本接管。",
        },
        AlarmKind::StoreFailed => AlarmText {
            title: "磁盘无法写入",
            consequence: "新库存会被拒绝并返回状态 503，因此数量会过时；Market 仍然得到已知的库存。",
            remedy: "请释放磁盘空间，或者修复磁盘。服务每 5 秒重试一次；程序必须重新发送被拒绝的更新。",
        },
        AlarmKind::UnmappedWarehouse => AlarmText {
            title: "Market 请求了未知的仓库",
            consequence: "Market 对这个仓库收到错误状态，并保留它已有的数量；对其他仓库的请求仍然正常应答。",
            remedy: "请把仓库编号加入所属店铺的设置 warehouses，然后重启服务。运行 stockbridge discover 可以列出编号。",
        },
    }
}
