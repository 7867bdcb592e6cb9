//! Tests of parsing, conflicts and the effective configuration.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const SECRETS: [(&str, &str); 3] = [
    ("STOCKBRIDGE_SHOPS_MOSCOW_PUSH_TOKEN", "canary-push"),
    ("STOCKBRIDGE_SHOPS_MOSCOW_FEED_KEY", "canary-feed"),
    ("STOCKBRIDGE_SHOPS_MOSCOW_API_KEY", "canary-api"),
];

const MINIMAL: &str = "[[shops]]\nname = \"moscow\"\nwarehouses = [569667]\ncampaign = 12345\n";

fn parse(text: &str, more: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let pairs = SECRETS.iter().chain(more);
    let environment = pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Config::parse(text, environment, Path::new("/etc/stockbridge"))
        .map_err(|error| error.messages())
}

#[test]
fn a_minimal_file_gets_the_defaults() {
    let config = parse(MINIMAL, &[]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert!(config.ops_listen.ip().is_loopback());
    assert_eq!(config.store, Path::new("/etc/stockbridge/stockbridge-data"));
    assert_eq!(config.market_url, "https://api.partner.market.yandex.ru");
    assert_eq!(config.shops[0].parallel, 2);
    assert_eq!(config.shops[0].push_tokens, [Secret::new("canary-push")]);
}

#[test]
fn the_environment_overrides_the_file() {
    let text = format!("listen = \"127.0.0.1:1\"\n{MINIMAL}parallel = 4\n");
    let more = [
        ("STOCKBRIDGE_LISTEN", "0.0.0.0:80"),
        ("STOCKBRIDGE_SHOPS_MOSCOW_PARALLEL", "1"),
        ("STOCKBRIDGE_SHOPS_MOSCOW_WAREHOUSES", "1, 2"),
    ];
    let config = parse(&text, &more).unwrap();
    assert_eq!(config.listen, "0.0.0.0:80".parse().unwrap());
    assert_eq!(
        (config.shops[0].parallel, &config.shops[0].warehouses[..]),
        (1, &[1, 2][..])
    );
}

#[test]
fn reports_all_errors_with_key_value_and_rule() {
    let text = "listen = \"nowhere\"\nlisen = 1\nlimit = 2\n[[shops]]\nname = \"Moscow!\"\n\
                warehouses = [0]\nparallel = 9\nlimit_share = 2.0\nunknown_sku = \"guess\"\n\
                base_path = \"/a//b\"\napi_key = \"canary-in-clear\"\n";
    let errors = parse(text, &[("STOCKBRIDGE_CUTOF", "never")])
        .unwrap_err()
        .join("\n");
    for expected in [
        "listen is \"nowhere\": it must be an address and a port",
        "lisen is unknown",
        "limit is unknown",
        "shops[0].name is \"Moscow!\": it must be 1 to 40 of a-z",
        "shops[0].warehouses is [0]: it must be a list of the Market's warehouse ids",
        "shops[0].campaign is missing: it must be a campaign id",
        "shops[0].parallel is 9: it must be a whole number between 1 and 4",
        "shops[0].limit_share is 2.0: it must be a number between 0.01 and 1.0",
        "shops[0].unknown_sku is \"guess\": it must be omit, zero or fail",
        "shops[0].base_path is \"/a//b\": it must be empty, or a path",
        "shops[0].push_token_file is missing",
        "shops[0].feed_key_file is missing",
        "shops[0].api_key must not be in the configuration file",
        "the variable STOCKBRIDGE_CUTOF is unknown",
    ] {
        assert!(
            errors.contains(expected),
            "{expected:?} is missing in:\n{errors}"
        );
    }
    assert!(
        !errors.contains("canary"),
        "a secret was printed:\n{errors}"
    );
}

#[test]
fn rejects_ids_and_names_that_two_shops_share() {
    let text = format!("{MINIMAL}{MINIMAL}");
    let errors = parse(&text, &[]).unwrap_err().join("\n");
    // The second table's secrets went to the first of that name.
    assert!(
        errors.contains("shops[1].push_token_file is missing"),
        "{errors}"
    );
    let other = MINIMAL.replace("moscow", "other");
    let secrets: Vec<(String, &str)> = SECRETS
        .iter()
        .map(|(name, value)| (name.replace("MOSCOW", "OTHER"), *value))
        .collect();
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let errors = parse(&format!("{MINIMAL}{other}"), &secrets)
        .unwrap_err()
        .join("\n");
    assert!(
        errors.contains("shops[1].warehouses holds 569667: shops[0]"),
        "{errors}"
    );
    assert!(
        errors.contains("campaign or feed_campaigns holds 12345: shops[0]"),
        "{errors}"
    );
    let elsewhere = format!("{}base_path = \"/b\"\n", other.replace("12345", "12346"));
    parse(&format!("{MINIMAL}{elsewhere}"), &secrets).unwrap();
}

#[test]
fn variables_go_to_the_shop_with_the_longest_name() {
    let names = ["moscow", "moscow-2", "moscow-push"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let shop = |n: usize| {
            let (name, id) = (names[n], n + 1);
            format!("[[shops]]\nname = \"{name}\"\nwarehouses = [{id}]\ncampaign = {id}\n")
        };
        let text: String = order.into_iter().map(shop).collect();
        let variables = names.iter().flat_map(|name| {
            let place = format!(
                "STOCKBRIDGE_SHOPS_{}_",
                name.to_uppercase().replace('-', "_")
            );
            ["PUSH_TOKEN", "FEED_KEY", "API_KEY", "PUSH_TOKEN_2"]
                .map(|key| (format!("{place}{key}"), format!("{key}-of-{name}")))
        });
        let config = Config::parse(&text, variables.collect(), Path::new("")).unwrap();
        for shop in &config.shops {
            let tokens: Vec<&str> = shop.push_tokens.iter().map(Secret::expose).collect();
            let expected =
                ["PUSH_TOKEN", "PUSH_TOKEN_2"].map(|key| format!("{key}-of-{}", shop.name));
            assert_eq!(tokens, expected);
        }
    }
}

#[test]
fn the_market_is_called_in_clear_only_on_this_machine() {
    let with = |url: &str| parse(&format!("market_url = \"{url}\"\n{MINIMAL}"), &[]);
    for good in [
        "https://example.org/",
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost:9",
    ] {
        with(good).unwrap();
    }
    for bad in [
        "http://example.org",
        "https://user:pass@example.org",
        "https://example.org/?a=1",
        "ftp://example.org",
        "http://127.0.0.1.example.org",
        "example.org",
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_base_path_cannot_hide_the_drop_in() {
    let with = |path: &str| parse(&format!("{MINIMAL}base_path = \"{path}\"\n"), &[]);
    assert_eq!(
        with("/market/api/Moscow").unwrap().shops[0].base_path,
        "/market/api/Moscow"
    );
    assert_eq!(with("/").unwrap().shops[0].base_path, "");
    let ours = ["/v2/campaigns/1/offers", "/v3/businesses/1/offers"];
    for bad in ours
        .into_iter()
        .chain(["market", "/a/", "/a/../b", "/{x}", "/a b"])
    {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn secrets_come_from_files_and_print_as_stars() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["push", "push2", "feed", "api"] {
        std::fs::write(dir.path().join(name), format!("canary-{name}\n")).unwrap();
    }
    let text = format!(
        "{MINIMAL}push_token_file = \"push\"\npush_token_2_file = \"push2\"\n\
         feed_key_file = \"feed\"\napi_key_file = \"api\"\n"
    );
    let config = Config::parse(&text, BTreeMap::new(), dir.path()).unwrap();
    assert_eq!(config.shops[0].push_tokens[1].expose(), "canary-push2");
    for shown in [config.to_string(), format!("{config:?}")] {
        assert!(
            shown.contains("***") && !shown.contains("canary"),
            "{shown}"
        );
    }
    std::fs::write(dir.path().join("api"), "two\nlines\n").unwrap();
    std::fs::remove_file(dir.path().join("feed")).unwrap();
    let errors = Config::parse(&text, BTreeMap::new(), dir.path())
        .unwrap_err()
        .messages()
        .join("\n");
    assert!(
        errors.contains("api_key_file") && errors.contains("one line"),
        "{errors}"
    );
    assert!(
        errors.contains("feed_key_file") && errors.contains("cannot be read"),
        "{errors}"
    );
    assert!(!errors.contains("two\n"), "{errors}");
}

#[test]
fn the_effective_configuration_parses_to_itself() {
    let config = parse(MINIMAL, &[]).unwrap();
    let printed: String = config
        .to_string()
        .lines()
        .filter(|line| !line.contains("***"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(
        parse(&printed, &[]).unwrap().to_string(),
        config.to_string()
    );
}

#[test]
fn rejects_what_could_not_start() {
    let text = format!(
        "listen = \"127.0.0.1:1\"\nops_listen = \"127.0.0.1:1\"\nca_file = \"no\"\n{MINIMAL}"
    );
    let errors = parse(&text, &[]).unwrap_err().join("\n");
    assert!(
        errors.contains("ops_listen is \"127.0.0.1:1\": listen has it already"),
        "{errors}"
    );
    assert!(
        errors.contains("ca_file, /etc/stockbridge/no, cannot be read"),
        "{errors}"
    );
}

#[test]
fn variables_of_an_orchestrator_are_not_ours() {
    let more = [
        ("STOCKBRIDGE_PORT_8080_TCP", "tcp://1"),
        ("STOCKBRIDGE_SERVICE_HOST", "x"),
        ("STOCKBRIDGE_OPS_SERVICE_HOST", "x"),
        ("STOCKBRIDGE_OPS_PORT", "tcp://1"),
    ];
    parse(MINIMAL, &more).unwrap();
}

// === Sources ===

/// The shop, with a source of that kind.
fn with_source(lines: &str) -> String {
    format!("{MINIMAL}[[shops.sources]]\n{lines}\n")
}

const PASSWORD: (&str, &str) = (
    "STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_PASSWORD",
    "canary-erp",
);
const TOKEN: (&str, &str) = ("STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_TOKEN", "canary-token");
const DATABASE: (&str, &str) = (
    "STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_DATABASE",
    "postgres://anna:canary-db@db/shop",
);

/// A source of each kind that says no more than it must, and the secret it needs.
const KINDS: [(&str, Option<(&str, &str)>); 6] = [
    (
        "name = \"erp\"\nkind = \"file\"\npath = \"stock.csv\"",
        None,
    ),
    (
        "name = \"erp\"\nkind = \"file\"\nurl = \"https://erp.example/stock.csv\"",
        None,
    ),
    (
        "name = \"erp\"\nkind = \"legacy\"\nurl = \"https://shop.example/api\"",
        Some(TOKEN),
    ),
    (
        "name = \"erp\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"1c\"",
        Some(PASSWORD),
    ),
    ("name = \"erp\"\nkind = \"moysklad\"", Some(TOKEN)),
    (
        "name = \"erp\"\nkind = \"sql\"\nquery = \"SELECT sku, stock FROM goods\"",
        Some(DATABASE),
    ),
];

#[test]
fn settings_of_reading_have_a_digest() {
    let digest = |(lines, secret): (&str, Option<(&str, &str)>), more: &str| {
        let lines = format!("{lines}\n{more}");
        let config = parse(&with_source(&lines), secret.as_slice()).unwrap();
        config.shops[0].sources[0].read_digest.clone()
    };
    let [file, _, _, _, moysklad, sql] = KINDS;
    for (kind, more) in [
        (file, "duplicates = \"sum\""),
        (file, "scope = \"snapshot\""),
        (file, "warehouses = [\"*\"]"),
        (file, "files = \"together\""),
        (file, "quantity = \"Доступно\""),
        (file, "negative = \"zero\""),
        (file, "words = { \"нет\" = 0 }"),
        (moysklad, "stock = \"quantity\""),
    ] {
        assert_ne!(digest(kind, more), digest(kind, ""), "{more}");
    }
    for more in [
        "buffer = 2",
        "guard_rows = 0.1",
        "every_seconds = 60",
        "negative = \"reject\"",
        "duplicates = \"reject\"",
    ] {
        assert_eq!(digest(file, more), digest(file, ""), "{more}");
    }
    // The password of the database may change, but not the database.
    let database = |address| digest((sql.0, Some((DATABASE.0, address))), "");
    let here = database("postgres://reader:one@db.shop/stock");
    assert_eq!(database("postgres://reader:two@db.shop/stock"), here);
    assert_ne!(database("postgres://reader:one@db.shop/other"), here);
}

#[test]
fn a_source_of_each_kind_gets_the_defaults() {
    let every = [5, 300, 900, 300, 300, 300];
    for ((lines, secret), every) in KINDS.into_iter().zip(every) {
        let config = parse(&with_source(lines), secret.as_slice()).unwrap();
        let source = &config.shops[0].sources[0];
        assert_eq!(source.poll_interval, Duration::from_secs(every), "{lines}");
        let policy = &source.policy;
        assert_eq!((policy.name.as_str(), policy.rules.pack_size), ("erp", 1));
        assert_eq!(
            policy.limits,
            stock_import::delivery_guard::GuardLimits::default()
        );
        assert_eq!(policy.absent, crate::sources::AbsentPolicy::Keep);
        assert_eq!(policy.warehouses, crate::sources::SourceWarehouses::Unset);
        assert_eq!(source.read_settings, stock_import::ReadSettings::default());
    }
    let config = parse(&with_source(KINDS[2].0), &[TOKEN]).unwrap();
    let crate::sources::SourceKind::OldHandler { handler, .. } = &config.shops[0].sources[0].kind
    else {
        panic!("{config}")
    };
    assert_eq!(
        (
            handler.warehouse_id,
            handler.max_skus,
            handler.parallel_requests
        ),
        (569_667, 500, 2)
    );
    let config = parse(&with_source(KINDS[0].0), &[]).unwrap();
    assert!(
        config
            .to_string()
            .contains("path = \"/etc/stockbridge/stock.csv\""),
        "{config}"
    );
}

#[test]
fn a_shop_with_sources_needs_no_feed_key() {
    let secrets = SECRETS.iter().filter(|(name, _)| !name.contains("FEED"));
    let secrets: BTreeMap<String, String> = secrets
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let base = Path::new("");
    Config::parse(MINIMAL, secrets.clone(), base).unwrap_err();
    let config = Config::parse(&with_source(KINDS[0].0), secrets, base).unwrap();
    assert!(config.shops[0].feed_keys.is_empty());
}

#[test]
fn reports_all_errors_of_a_source() {
    let file = "name = \"a\"\nkind = \"file\"\npath = \"a.csv\"";
    let text = format!(
        "{MINIMAL}combine = \"most\"\nbuffer = -1\noverrides_file = \"none.csv\"\n\
         [[shops.sources]]\n{file}\n[[shops.sources]]\n{}",
        "name = \"Erp\"\nkind = \"file\"\nscope = \"all\"\nabsent = \"gone\"\nplaces = \"most\"\n\
         pack = 0\nevery_seconds = 0\nformat = \"doc\"\ndelimiter = \";\"\nencoding = \"latin-99\"\n\
         fraction = \"round\"\nguard_zeros = 1.5\nguard_repeats = 1001\nwords = { \"нет\" = \"none\" }\n\
         mapping_file = \"none.csv\"\nquantety = \"Остаток\"\n",
    );
    let errors = parse(&text, &[]).unwrap_err().join("\n");
    for expected in [
        "shops[0].combine is \"most\": it must be latest, sum, minimum or first",
        "shops[0].buffer is -1: it must be pieces kept back",
        "shops[0].overrides_file: /etc/stockbridge/none.csv cannot be read",
        "shops[0].sources[1].name is \"Erp\": it must be 1 to 40 of a-z",
        "shops[0].sources[1].scope is \"all\": it must be snapshot or delta",
        "shops[0].sources[1].absent is \"gone\": it must be keep or zero",
        "shops[0].sources[1].places is \"most\": it must be sum or minimum",
        "shops[0].sources[1].pack is 0: it must be a whole number between 1 and 1000000",
        "shops[0].sources[1].every_seconds is 0: it must be a whole number between 1 and 86400",
        "shops[0].sources[1].format is \"doc\": it must be csv, sheet",
        "shops[0].sources[1].delimiter is \";\": it must be semicolon",
        "shops[0].sources[1].encoding is \"latin-99\": it must be the name of an encoding",
        "shops[0].sources[1].fraction is \"round\": it must be reject or floor",
        "shops[0].sources[1].guard_zeros is 1.5: it must be a number between 0 and 1",
        "shops[0].sources[1].guard_repeats is 1001: it must be a whole number up to 1000",
        "shops[0].sources[1].words.\"нет\" is \"none\": it must be a table of words",
        "shops[0].sources[1].mapping_file: /etc/stockbridge/none.csv cannot be read",
        "shops[0].sources[1].path is missing",
        "shops[0].sources[1].quantety is unknown: no setting has this name",
    ] {
        assert!(
            errors.contains(expected),
            "{expected:?} is missing in:\n{errors}"
        );
    }
    assert!(!errors.contains("sources[0]"), "{errors}");
}

#[test]
fn rejects_a_source_without_its_required_settings() {
    for (lines, expected) in [
        (
            "kind = \"file\"\npath = \"a\"",
            "sources[0].name is missing",
        ),
        (
            "name = \"erp\"",
            "sources[0].kind is missing: it must be file, legacy, 1c",
        ),
        (
            "name = \"erp\"\nkind = \"excel\"\npath = \"a\"",
            "sources[0].kind is \"excel\": it must be file",
        ),
        (
            "name = \"erp\"\nkind = \"file\"",
            "sources[0].path is missing",
        ),
        (
            "name = \"erp\"\nkind = \"file\"\npath = \"a\"\nurl = \"https://a.example\"",
            "sources[0].path and url are both set: a source has one of them",
        ),
        (
            "name = \"erp\"\nkind = \"legacy\"",
            "sources[0].url is missing",
        ),
        (
            "name = \"erp\"\nkind = \"legacy\"\nurl = \"https://a.example\"",
            "sources[0].token_file is missing: it must be a file that holds the token, or set \
             STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_TOKEN",
        ),
        (
            "name = \"erp\"\nkind = \"1c\"\npath = \"/1c\"",
            "sources[0].login is missing",
        ),
        (
            "name = \"erp\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"1c\"",
            "sources[0].password_file is missing",
        ),
        (
            "name = \"erp\"\nkind = \"moysklad\"\nstock = \"stock\"",
            "moysklad needs token_file, or login and",
        ),
        (
            "name = \"erp\"\nkind = \"sql\"",
            "sources[0].database_file is missing",
        ),
        (
            "name = \"erp\"\nkind = \"sql\"",
            "sources[0].query is missing",
        ),
    ] {
        let errors = parse(&with_source(lines), &[]).unwrap_err().join("\n");
        assert!(
            errors.contains(expected),
            "{lines}\n{expected:?} is missing in:\n{errors}"
        );
        assert!(!errors.contains("unknown"), "{errors}");
    }
}

#[test]
fn a_setting_of_another_kind_is_refused() {
    for (kind, line) in [
        (0, "query = \"SELECT 1\""),
        (0, "login = \"anna\""),
        (0, "part_skus = 5"),
        (1, "files = \"together\""),
        (2, "sheet = \"Лист1\""),
        (2, "scope = \"snapshot\""),
        (3, "url = \"https://a.example\""),
        (3, "encoding = \"utf-8\""),
        (4, "timeout_seconds = 5"),
        (4, "scope = \"snapshot\""),
        (5, "path = \"a.csv\""),
        (5, "unended_row = \"take\""),
    ] {
        let (lines, secret) = KINDS[kind];
        let key = line.split(' ').next().unwrap_or_default();
        let text = with_source(&format!("{lines}\n{line}"));
        let errors = parse(&text, secret.as_slice()).unwrap_err().join("\n");
        let expected = format!(
            "shops[0].sources[0].{key} is not valid here: it belongs to another kind or needs another setting"
        );
        assert_eq!(errors, expected, "{lines}\n{line}");
    }
    let watched = "watermark = \"changed\"\nscope = \"snapshot\"";
    let text = with_source(&format!("{}\n{watched}", KINDS[5].0));
    let errors = parse(&text, &[DATABASE]).unwrap_err().join("\n");
    assert!(
        errors.contains("sources[0].scope is snapshot: a query with watermark reads only changes"),
        "{errors}"
    );
}

#[test]
fn absence_needs_a_source_that_tells_all_there_is() {
    let file = "name = \"erp\"\nkind = \"file\"\npath = \"a.csv\"\nabsent = \"zero\"";
    let errors = parse(&with_source(file), &[]).unwrap_err().join("\n");
    assert!(
        errors.contains("sources[0].absent is \"zero\": only a snapshot tells"),
        "{errors}"
    );
    for more in ["scope = \"snapshot\"", "format = \"commerceml\""] {
        parse(&with_source(&format!("{file}\n{more}")), &[]).unwrap();
    }
}

#[test]
fn hides_secrets_inside_addresses() {
    for url in [
        "http://anna:canary@127.0.0.1/x",
        "ftp://127.0.0.1/x?token=canary",
    ] {
        let file = format!("name = \"erp\"\nkind = \"file\"\nurl = \"{url}\"");
        let errors = parse(&with_source(&file), &[]).unwrap_err().join("\n");
        assert!(
            errors.contains("url is ***") && !errors.contains("canary"),
            "{errors}"
        );
    }
}

#[test]
fn rejects_names_and_paths_used_twice() {
    let file = |name: &str| format!("name = \"{name}\"\nkind = \"file\"\npath = \"a.csv\"");
    for name in ["rules", "import"] {
        let errors = parse(&with_source(&file(name)), &[])
            .unwrap_err()
            .join("\n");
        assert!(
            errors.contains(&format!("sources[0].name is \"{name}\"")),
            "{errors}"
        );
    }
    let twice = format!("{}\n[[shops.sources]]\n{}", file("erp"), file("erp"));
    let errors = parse(&with_source(&twice), &[]).unwrap_err().join("\n");
    let expected = "shops[0].sources[1].name is 'erp': another one has that name already";
    assert!(errors.contains(expected), "{errors}");
    for path in [
        "/stocks",
        "/moscow/stocks",
        "",
        "/",
        "1c",
        "/v2/campaigns/1/offers",
        "/a b",
    ] {
        let exchange = KINDS[3].0.replace("/1c", path);
        let errors = parse(&with_source(&exchange), &[PASSWORD])
            .unwrap_err()
            .join("\n");
        assert!(errors.contains("sources[0].path"), "{path:?}: {errors}");
    }
}

#[test]
fn two_shops_cannot_share_a_door_for_1c() {
    let other = MINIMAL
        .replace("moscow", "omsk")
        .replace("569667", "2")
        .replace("12345", "6")
        .replace("campaign", "base_path = \"/omsk\"\ncampaign");
    let exchange_source =
        |path: &str| format!("[[shops.sources]]\n{}\n", KINDS[3].0.replace("/1c", path));
    let with = |path: &str| {
        format!(
            "{MINIMAL}{}{other}{}",
            exchange_source("/1c"),
            exchange_source(path)
        )
    };
    let more: Vec<(String, &str)> = SECRETS
        .iter()
        .chain([&PASSWORD])
        .map(|(name, text)| (name.replace("MOSCOW", "OMSK"), *text))
        .collect();
    let more: Vec<(&str, &str)> = more
        .iter()
        .map(|(name, text)| (name.as_str(), *text))
        .chain([PASSWORD])
        .collect();
    parse(&with("/1c-omsk"), &more).unwrap();
    let errors = parse(&with("/1c"), &more).unwrap_err().join("\n");
    assert_eq!(
        errors,
        "shops[1].sources holds the path /1c: shops[0] has it already"
    );
}

#[test]
fn secrets_of_sources_are_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "canary-file\n").unwrap();
    std::fs::write(
        dir.path().join("database"),
        "mysql://anna:canary-my@db/shop\n",
    )
    .unwrap();
    let places = [
        None,
        None,
        Some("token"),
        Some("password"),
        Some("token"),
        Some("database"),
    ];
    for ((lines, secret), key) in KINDS.into_iter().zip(places) {
        let Some(key) = key else { continue };
        let by_variable = parse(&with_source(lines), secret.as_slice()).unwrap();
        let file = if key == "database" {
            "database"
        } else {
            "secret"
        };
        let text = with_source(&format!("{lines}\n{key}_file = \"{file}\""));
        let environment = SECRETS.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let by_file = Config::parse(&text, environment, dir.path()).unwrap();
        for config in [by_variable, by_file] {
            let shown = format!("{config}{config:?}");
            assert!(
                shown.contains("***") && !shown.contains("canary"),
                "{shown}"
            );
        }
        let in_clear = with_source(&format!("{lines}\n{key} = \"canary-clear\""));
        let errors = parse(&in_clear, secret.as_slice()).unwrap_err().join("\n");
        assert!(errors.contains(&format!(
            "sources[0].{key} must not be in the configuration file"
        )));
        assert!(!errors.contains("canary"), "{errors}");
    }
    // A token in the address of a file is not shown either; an old handler's has no place there.
    let url = KINDS[1].0.replace("stock.csv", "stock.csv?key=canary");
    let shown = parse(&with_source(&url), &[]).unwrap().to_string();
    assert!(
        shown.contains("stock.csv?***") && !shown.contains("canary"),
        "{shown}"
    );
    let url = KINDS[2].0.replace("/api", "/api?key=1");
    let errors = parse(&with_source(&url), &[TOKEN]).unwrap_err().join("\n");
    assert!(
        errors.contains("url has a query: remove it, and put a token into token_file"),
        "{errors}"
    );
    let broken = (
        "STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_DATABASE",
        "oracle://anna:canary@db/x",
    );
    let errors = parse(&with_source(KINDS[5].0), &[broken])
        .unwrap_err()
        .join("\n");
    assert!(
        errors.contains("sources[0].database") && !errors.contains("canary"),
        "{errors}"
    );
}

#[test]
fn effective_sources_parse_to_themselves() {
    let full = "name = \"erp\"\nkind = \"file\"\npath = \"in/*.csv\"\nformat = \"csv\"\n\
                files = \"together\"\nevery_seconds = 7\nscope = \"snapshot\"\nabsent = \"zero\"\n\
                warehouses = [\"Мск\", \"Спб\"]\nsku = \"Код \\\"1\\\"\"\nquantity = \"Остаток\"\n\
                reserve = \"Резерв\"\nwarehouse = \"Склад\"\nupdated_at = \"Дата\"\n\
                sheet = \"Лист 1\"\ndelimiter = \"bar\"\nencoding = \"cp1251\"\n\
                words = { \"много\" = \"10\", \">\u{a0}5\" = 5, \"пол\" = \"0.5\" }\n\
                fraction = \"floor\"\nnegative = \"zero\"\nunavailable = \"zero\"\n\
                unended_row = \"take\"\nplaces = \"minimum\"\npack = 6\nbuffer = 1\n\
                zero_below = 2\ncap = 3\nguard_rows = 0.25\nguard_zeros = 0.5\n\
                guard_bad_rows = 0.125\nguard_repeats = 3";
    let all = "name = \"erp\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"1c\"\nwarehouses = \"*\"";
    let more = [(full, None), (all, Some(PASSWORD))];
    for (lines, secret) in KINDS.into_iter().chain(more) {
        let shop = MINIMAL.to_owned() + "combine = \"sum\"\nbuffer = 4\ncap = 9\n";
        let text = format!("{shop}[[shops.sources]]\n{lines}\n");
        let config = parse(&text, secret.as_slice()).unwrap();
        let printed: Vec<String> = config
            .to_string()
            .lines()
            .filter(|line| !line.contains("***"))
            .map(|line| format!("{line}\n"))
            .collect();
        let again = parse(&printed.concat(), secret.as_slice()).unwrap();
        assert_eq!(again.to_string(), config.to_string());
        let (one, other) = (&config.shops[0].sources[0], &again.shops[0].sources[0]);
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "{config}");
    }
}

#[test]
fn secrets_that_can_be_guessed_are_refused() {
    let short = [
        ("STOCKBRIDGE_SHOPS_MOSCOW_FEED_KEY", "canary1"),
        ("STOCKBRIDGE_SHOPS_MOSCOW_FEED_KEY_2", "x"),
        ("STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_PASSWORD", "canary1"),
        ("STOCKBRIDGE_SHOPS_MOSCOW_PUSH_TOKEN", "short"),
    ];
    let errors = parse(&with_source(KINDS[3].0), &short).unwrap_err();
    let text = errors.join("\n");
    for expected in [
        "shops[0].feed_key has 7 characters: it must have at least 8",
        "shops[0].feed_key_2 has 1 characters: it must have at least 8",
        "sources[0].password has 7 characters: it must have at least 8",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    // The Market makes the push token, so its length is not the seller's choice.
    assert_eq!(errors.len(), 3, "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn hosts_and_proxies_are_checked_and_shown() {
    let shop = with_source(KINDS[0].0);
    let text = format!(
        "ops_hosts = [\"Stockbridge\", \"[fd00::1]\"]\ntrusted_proxies = [\"10.0.0.0/8\", \
         \"127.0.0.1\"]\n{shop}"
    );
    let config = parse(&text, &[]).unwrap();
    assert_eq!(config.ops_hosts, ["stockbridge", "fd00::1"]);
    let shown = config.to_string();
    for line in [
        "ops_hosts = [\"stockbridge\", \"fd00::1\"]\n",
        "trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.1/32\"]\n",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    for (line, expected) in [
        (
            "ops_hosts = [\"stockbridge:9090\"]",
            "ops_hosts is [\"stockbridge:9090\"]",
        ),
        ("ops_hosts = [\"http://stockbridge\"]", "ops_hosts is "),
        ("ops_hosts = [\"*\"]", "ops_hosts is [\"*\"]"),
        (
            "trusted_proxies = [\"proxy\"]",
            "trusted_proxies is [\"proxy\"]",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/33\"]",
            "trusted_proxies is [\"10.0.0.0/33\"]",
        ),
    ] {
        let errors = parse(&format!("{line}\n{shop}"), &[])
            .unwrap_err()
            .join("\n");
        assert!(errors.contains(expected), "{expected} is not in\n{errors}");
    }
}

#[test]
fn a_comma_in_a_variable_separates_only_the_values_of_a_list() {
    let query = (
        "STOCKBRIDGE_SHOPS_MOSCOW_SOURCES_ERP_QUERY",
        "SELECT sku, quantity FROM stock",
    );
    let config = parse(&with_source(KINDS[5].0), &[DATABASE, query]).unwrap();
    assert!(config.to_string().contains(query.1), "{config}");
}

#[test]
fn a_value_of_another_type_is_refused_or_converted() {
    let quoted = format!("{MINIMAL}parallel = \"3\"\nlimit_share = 1\n");
    let shop = &parse(&quoted, &[]).unwrap().shops[0];
    assert_eq!((shop.parallel, shop.limit_share), (3, 1.0));
    for line in [
        "base_path = [\"/a\", \"/b\"]",
        "base_path = { a = 1 }",
        "parallel = 2.5",
        "parallel = []",
        "feed_campaigns = [1, \"b\"]",
    ] {
        let errors = parse(&format!("{MINIMAL}{line}\n"), &[]).unwrap_err();
        let key = line.split(' ').next().unwrap_or_default();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(&format!("shops[0].{key} is ")));
    }
    let largest = MINIMAL.replace("12345", "\"18446744073709551615\"");
    let config = parse(&largest, &[]).unwrap();
    assert_eq!(config.shops[0].campaign, u64::MAX);
    assert!(
        config
            .to_string()
            .contains("campaign = \"18446744073709551615\"")
    );
    // A second token that is not read would be missed only when the first one is replaced.
    let errors = parse(
        &format!("{MINIMAL}push_token_2_file = [\"a\", \"b\"]\n"),
        &[],
    );
    let errors = errors.unwrap_err();
    assert!(
        errors[0].starts_with("shops[0].push_token_2_file, "),
        "{errors:?}"
    );
}

#[test]
fn a_fault_is_reported_once_and_hides_no_other() {
    let source = "name = \"erp\"\nkind = \"sql\"\ndatabase_file = \"none\"\nscope = \"all\"\n\
                  watermark = \"changed\"\npack = 0\n";
    let errors = parse(&with_source(source), &[]).unwrap_err();
    let keys: Vec<&str> = errors
        .iter()
        .filter_map(|error| {
            error
                .strip_prefix("shops[0].sources[0].")?
                .split([' ', ','])
                .next()
        })
        .collect();
    assert_eq!(
        keys,
        ["scope", "pack", "database_file", "query"],
        "{errors:?}"
    );
}

#[test]
fn the_effective_configuration_has_the_order_of_the_settings() {
    let printed = parse(MINIMAL, &[]).unwrap().to_string();
    let (service, shop) = printed.split_once("\n[[shops]]\n").unwrap();
    for (lines, settings) in [(service, SETTINGS), (shop, SHOP_SETTINGS)] {
        let keys: Vec<&str> = lines
            .lines()
            .filter_map(|line| Some(line.split_once(" = ")?.0))
            .collect();
        let in_order = settings.iter().map(Setting::bare_key);
        let expected: Vec<&str> = in_order.filter(|key| keys.contains(key)).collect();
        assert_eq!(keys, expected);
        assert!(keys.len() > 14, "{keys:?}");
    }
}

#[test]
fn stock_in_a_database_needs_an_address_and_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let parse = |address: &str, settings: &str| {
        std::fs::write(directory.path().join("address"), address).unwrap();
        let shop = "[[shops]]\nname = \"a\"\nwarehouses = [1]\ncampaign = 1\nmigrate = \"off\"\n";
        let text = format!("store_url_file = \"address\"\n{settings}{shop}");
        let secrets = [("PUSH_TOKEN", "push-token"), ("FEED_KEY", "feed-key-of-a")];
        let secrets =
            secrets.map(|(key, text)| (format!("STOCKBRIDGE_SHOPS_A_{key}"), text.to_owned()));
        Config::parse(&text, secrets.into(), directory.path()).map_err(|error| error.to_string())
    };
    let address = "postgres://stock:canary@db.example/shop";
    let config = parse(address, "instance = \"production\"\n").unwrap();
    assert_eq!(
        config.store_url.as_ref().unwrap().to_string(),
        "postgres://db.example:5432/shop"
    );
    assert!(!config.to_string().contains("canary") && !format!("{config:?}").contains("canary"));
    let listen = "instance = \"production\"\nstore_listen_url_file = \"listen\"\n";
    std::fs::write(directory.path().join("listen"), address).unwrap();
    let config = parse(address, listen).unwrap();
    assert!(config.store_url.as_ref().unwrap().has_listen_url());
    std::fs::write(directory.path().join("listen"), "redis://canary@db").unwrap();
    let error = parse(address, listen).unwrap_err();
    assert!(
        error.contains("store_listen_url_file: the file must hold an address")
            && !error.contains("canary"),
        "{error}"
    );
    let error = parse(address, "").unwrap_err();
    assert!(
        error.starts_with("1:1: instance is empty: with store_url_file"),
        "{error}"
    );
    let error = parse("mysql://stock:canary@db/shop", "instance = \"a\"\n").unwrap_err();
    assert!(error.contains("postgres://name:password@host"), "{error}");
    assert!(!error.contains("canary"), "{error}");
    let address = "postgres://stock:canary@db.example/shop?sslmode=verifyfull";
    let error = parse(address, "instance = \"a\"\n").unwrap_err();
    assert!(
        error.starts_with(
            "1:1: store_url_file: the file has an unknown sslmode: it must be disable"
        ),
        "{error}"
    );
}

#[test]
fn replicas_name_the_one_that_reads_the_sources() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("address"),
        "postgres://db.example/shop",
    )
    .unwrap();
    let parse = |settings: &str| {
        let shop = "[[shops]]\nname = \"a\"\nwarehouses = [1]\ncampaign = 1\nmigrate = \"off\"\n";
        let text =
            format!("store_url_file = \"address\"\ninstance = \"production\"\n{settings}\n{shop}");
        let secrets = [("PUSH_TOKEN", "push-token"), ("FEED_KEY", "feed-key-of-a")];
        let secrets =
            secrets.map(|(key, text)| (format!("STOCKBRIDGE_SHOPS_A_{key}"), text.to_owned()));
        Config::parse(&text, secrets.into(), directory.path()).map_err(|error| error.to_string())
    };
    assert_eq!(parse("").unwrap().sources_elsewhere(), None);
    let other = parse("replica = \"two\"\nsources_on = \"one\"").unwrap();
    assert_eq!(other.sources_elsewhere(), Some("one"));
    let own = parse("replica = \"one\"\nsources_on = \"one\"").unwrap();
    assert_eq!(own.sources_elsewhere(), None);
    let any = parse("replica = \"one\"").unwrap();
    assert_eq!(any.sources_elsewhere(), None);
    let error = parse("replica = \"Zwei!\"\nsources_on = \"one\"").unwrap_err();
    assert!(error.contains("1 to 60 of a-z"), "{error}");
}

#[test]
fn replica_needs_a_database() {
    let errors = |settings: &str| {
        let text = format!("{settings}\n{MINIMAL}");
        let secrets = SECRETS.map(|(key, text)| (key.to_owned(), text.to_owned()));
        let read = Config::parse(&text, secrets.into(), Path::new(""));
        read.unwrap_err().to_string()
    };
    let error = errors("\nreplica = \"dc-4\"\nsources_on = \"dc-1\"");
    assert_eq!(
        error,
        "2:11: replica is \"dc-4\", but replicas share a database: set store_url_file, or remove \
         replica\n    replica = \"dc-4\"\n              ^^^^^^"
    );
    let error = errors("sources_on = \"dc-1\"");
    assert!(
        error.starts_with("1:14: sources_on is \"dc-1\", but this process has no name"),
        "{error}"
    );
    assert_eq!(error.matches("1:14").count(), 1, "{error}");
}
