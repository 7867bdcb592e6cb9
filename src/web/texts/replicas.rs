//! Sentences about replicas, in every language.

use crate::i18n::Language;

/// Age in seconds.
pub(in crate::web) fn seconds_ago(seconds: u64, language: Language) -> String {
    language.choose([
        format!("{seconds}\u{a0}s ago"),
        format!("{seconds}\u{a0}с назад"),
        format!("{seconds}秒前"),
    ])
}

/// Names of shops, and the number of those that are not named.
pub(in crate::web) fn names(shown: &[&str], rest: u64, language: Language) -> String {
    let shown = shown.join(language.choose([", ", ", ", "、"]));
    let number = language.number(rest);
    match language {
        _ if rest == 0 => shown,
        Language::English => format!("{shown} and {number} more"),
        Language::Russian => format!("{shown} и ещё {number}"),
        Language::Chinese => format!("{shown}等，另有 {number} 个"),
    }
}

/// Verdict about shops for which other replicas send; empty without any.
pub(in crate::web) fn sent_elsewhere_verdict(shops: u64, language: Language) -> String {
    let number = language.number(shops);
    match language {
        _ if shops == 0 => String::new(),
        Language::English if shops == 1 => {
            "Another replica sends for 1 shop. Its page has the state.".to_owned()
        }
        Language::English => {
            format!("Other replicas send for {number} shops. Their pages have the state.")
        }
        Language::Russian => {
            let of = language.plural(shops, ["магазина", "магазинов", "магазинов"]);
            format!("Остатки {number} {of} отправляет другая реплика, состояние — на её странице.")
        }
        Language::Chinese => format!("{number} 家店铺由其他副本发送，状态见该副本的页面。"),
    }
}

/// State of a shop for which another replica sends.
pub(in crate::web) fn sender_state(name: &str, language: Language) -> String {
    language.choose([
        format!("replica {name} sends"),
        format!("отправляет реплика {name}"),
        format!("由副本 {name} 发送"),
    ])
}

/// Sentence about the replica that sends for a shop.
pub(in crate::web) fn sent_by_other(name: &str, language: Language) -> String {
    language.choose([
        format!(
            "Replica {name} sends for this shop. Open its page for the state of the sending, \
             read-backs and the quarantine."
        ),
        format!(
            "Остатки этого магазина отправляет реплика {name}. Состояние отправки, сверка и \
             карантин — на её странице."
        ),
        format!("由副本 {name} 发送该店铺的库存。发送状态、核对和隔离请在它的页面上查看。"),
    ])
}

/// Sentence about shops for which nothing is sent for the moment.
pub(in crate::web) fn no_sender(shops: &str, language: Language) -> String {
    language.choose([
        format!(
            "No replica sends for {shops} at the moment. After a crash of the one that sent, another \
             one begins within 100 seconds."
        ),
        format!(
            "Сейчас ни одна реплика не отправляет остатки: {shops}. После сбоя отправлявшей реплики \
             другая начнёт не позже чем через 100 секунд."
        ),
        format!("目前没有副本发送：{shops}。发送的副本崩溃后，另一个会在 100 秒内接替。"),
    ])
}

/// Sentence about shops whose sending begins after requests of another process have ended.
pub(in crate::web) fn taking_over(shops: &str, language: Language) -> String {
    language.choose([
        format!(
            "This replica takes over the sending for {shops}. It waits for about a minute, because \
             requests of the one before may be on their way."
        ),
        format!(
            "Эта реплика начинает отправлять остатки: {shops}. Она ждёт около минуты: запросы \
             прежней реплики могли ещё не дойти."
        ),
        format!("本副本正在接管发送：{shops}。先等待约一分钟，因为之前的副本可能还有请求在途。"),
    ])
}

/// Sentence about shops whose sources no live replica reads.
pub(in crate::web) fn sources_not_read(shops: &str, language: Language) -> String {
    language.choose([
        format!(
            "No live replica reads the sources of {shops}: this stock stays as it is. Another replica \
             takes over, unless sources_on names one that does not run."
        ),
        format!(
            "Ни одна работающая реплика не читает источники: {shops}. Эти остатки не изменятся. Чтение \
             начнёт другая реплика, если в sources_on не задана та, что не работает."
        ),
        format!(
            "目前没有在线的副本读取数据源：{shops}。这些库存保持不变。其他副本会接替，除非 sources_on 指定了未运行的副本。"
        ),
    ])
}

/// Sentence about a replica with other settings, in these parts of the configuration.
pub(in crate::web) fn other_settings(name: &str, parts: &str, language: Language) -> String {
    language.choose([
        format!(
            "Replica {name} has other settings than this one ({parts}). Use the same configuration on \
             all machines, and reload or restart each replica."
        ),
        format!(
            "Настройки реплики {name} отличаются от настроек этой реплики ({parts}). Сделайте \
             конфигурацию на всех машинах одинаковой, затем перечитайте её или перезапустите каждую \
             реплику."
        ),
        format!(
            "副本 {name} 的设置与本副本不同（{parts}）。请在所有机器上使用相同的配置，并重新加载或重启每个副本。"
        ),
    ])
}

/// Sentence about a list of replicas that could not be read for some time.
pub(in crate::web) fn old_list(ago: &str, language: Language) -> String {
    language.choose([
        format!("The list was last read {ago}. This replica cannot reach the database."),
        format!("Список прочитан {ago}. Этой реплике недоступна база данных."),
        format!("该列表{ago}读取。本副本无法访问数据库。"),
    ])
}

/// Sentence about the replica that reads the sources of shops.
pub(in crate::web) fn sources_on_other(name: &str, shops: &str, language: Language) -> String {
    language.choose([
        format!(
            "Replica {name} reads the sources of {shops}. Open its page for deliveries and approvals."
        ),
        format!(
            "Источники ({shops}) читает реплика {name}. Выгрузки и подтверждения — на её странице."
        ),
        format!("数据源（{shops}）由副本 {name} 读取。各批数据和批准请在它的页面上查看。"),
    ])
}

/// Replica by which the page is served.
pub(in crate::web) fn served_by(name: &str, language: Language) -> String {
    language.choose([
        format!("This page is served by replica {name}"),
        format!("Эту страницу показывает реплика {name}"),
        format!("本页由副本 {name} 提供"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_agree_with_their_numbers() {
        for (shops, language, expected) in [
            (0, Language::Russian, ""),
            (
                1,
                Language::English,
                "Another replica sends for 1 shop. Its page has the state.",
            ),
            (
                21,
                Language::Russian,
                "Остатки 21 магазина отправляет другая реплика, состояние — на её странице.",
            ),
            (
                5,
                Language::Russian,
                "Остатки 5 магазинов отправляет другая реплика, состояние — на её странице.",
            ),
        ] {
            assert_eq!(sent_elsewhere_verdict(shops, language), expected);
        }
        assert_eq!(names(&["a", "b"], 0, Language::Chinese), "a、b");
        assert_eq!(names(&["a"], 2, Language::Russian), "a и ещё 2");
    }

    #[test]
    fn each_sentence_names_what_it_is_about() {
        for sentence in [
            sender_state,
            sent_by_other,
            no_sender,
            taking_over,
            sources_not_read,
            old_list,
            |name: &str, language| sources_on_other(name, "moscow", language),
            |name: &str, language| other_settings(name, "service", language),
            served_by,
        ] {
            let all = Language::ALL.map(|language| sentence("dc-2", language));
            assert!(all.iter().all(|text| text.contains("dc-2")), "{all:?}");
            assert!(all[0] != all[1] && all[1] != all[2], "{all:?}");
        }
    }
}
