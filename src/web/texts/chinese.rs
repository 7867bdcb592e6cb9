//! Chinese texts of the pages.

use super::Text;

/// Returns a text in Chinese.
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AcknowledgedColumn => "最近确认",
        Text::Alarms => "告警",
        Text::CommandByApi => "您的程序调用合作伙伴 API",
        Text::CommandByFile => "一次性导入文件",
        Text::CommandBySource => "在配置中添加数据源",
        Text::ConnectionLive => "实时",
        Text::ConnectionLost => "正在重新连接；数据截至",
        Text::Consequence => "影响",
        Text::Detail => "详情",
        Text::DifferingColumn => "不一致",
        Text::FeedShop => "如何录入库存",
        Text::FeedShopLead => "这些店铺还没有库存，因此 Market 会收到 503。录入库存有三种方式：",
        Text::LanguageSwitch => "语言",
        Text::Login => "登录",
        Text::LoginLead => "本页显示您店铺的库存，需要运维密码（ops_password_file）。",
        Text::Logout => "退出",
        Text::MatchColumn => "最近完全一致",
        Text::ModeColumn => "发送",
        Text::Never => "从未",
        Text::NewData => "页面有新内容。",
        Text::NoAlarms => "当前没有告警。出现问题时，这里会说明影响和处理办法。",
        Text::Overview => "概览",
        Text::Password => "密码",
        Text::PushColumn => "Market 最近请求",
        Text::RejectedColumn => "被拒绝",
        Text::Reload => "刷新",
        Text::Remedy => "处理办法",
        Text::Shop => "店铺",
        Text::Shops => "所有店铺",
        Text::SkipToContent => "跳到正文",
        Text::SkusColumn => "SKU 数",
        Text::StartingLead => "服务正在读取存储。本页会自动刷新。",
        Text::StartingTitle => "服务正在启动",
        Text::StateColumn => "状态",
        Text::WaitingColumn => "待发送",
        Text::WholeService => "整个服务",
        Text::WrongPassword => "密码错误。",
    }
}
