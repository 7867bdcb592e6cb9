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
    let environment = pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::parse(text, environment, Path::new("/etc/stockbridge")).map_err(|error| error.0)
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
    assert_eq!((config.shops[0].parallel, &config.shops[0].warehouses[..]), (1, &[1, 2][..]));
}

#[test]
fn every_fault_is_told_with_its_key_its_value_and_the_rule() {
    let text = "listen = \"nowhere\"\nlisen = 1\nlimit = 2\n[[shops]]\nname = \"Moscow!\"\n\
                warehouses = [0]\nparallel = 9\nlimit_share = 2.0\nunknown_sku = \"guess\"\n\
                base_path = \"/a//b\"\napi_key = \"canary-in-clear\"\n";
    let faults = parse(text, &[("STOCKBRIDGE_CUTOF", "never")]).unwrap_err().join("\n");
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
        "shops[0].api_key stands in the file in clear",
        "the variable STOCKBRIDGE_CUTOF is unknown",
    ] {
        assert!(faults.contains(expected), "{expected:?} is not told in:\n{faults}");
    }
    assert!(!faults.contains("canary"), "a secret was told:\n{faults}");
}

#[test]
fn shops_must_not_claim_the_same_warehouse_campaign_or_name() {
    let text = format!("{MINIMAL}{MINIMAL}");
    let faults = parse(&text, &[]).unwrap_err().join("\n");
    // The second table's secrets went to the first of that name.
    assert!(faults.contains("shops[1].push_token_file is missing"), "{faults}");
    let other = MINIMAL.replace("moscow", "other");
    let secrets: Vec<(String, &str)> =
        SECRETS.iter().map(|(name, value)| (name.replace("MOSCOW", "OTHER"), *value)).collect();
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let faults = parse(&format!("{MINIMAL}{other}"), &secrets).unwrap_err().join("\n");
    assert!(faults.contains("shops[1].warehouses holds 569667: shops[0]"), "{faults}");
    assert!(faults.contains("campaign or feed_campaigns holds 12345: shops[0]"), "{faults}");
    let elsewhere = format!("{}base_path = \"/b\"\n", other.replace("12345", "12346"));
    parse(&format!("{MINIMAL}{elsewhere}"), &secrets).unwrap();
}

#[test]
fn variables_of_shops_whose_names_begin_alike_are_told_apart() {
    let names = ["moscow", "moscow-2", "moscow-push"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let shop = |n: usize| {
            let (name, id) = (names[n], n + 1);
            format!("[[shops]]\nname = \"{name}\"\nwarehouses = [{id}]\ncampaign = {id}\n")
        };
        let text: String = order.into_iter().map(shop).collect();
        let variables = names.iter().flat_map(|name| {
            let place = format!("STOCKBRIDGE_SHOPS_{}_", name.to_uppercase().replace('-', "_"));
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
    for good in
        ["https://example.org/", "http://127.0.0.1:9", "http://[::1]:9", "http://localhost:9"]
    {
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
    assert_eq!(with("/market/api/Moscow").unwrap().shops[0].base_path, "/market/api/Moscow");
    assert_eq!(with("/").unwrap().shops[0].base_path, "");
    let ours = ["/v2/campaigns/1/offers", "/v3/businesses/1/offers"];
    for bad in ours.into_iter().chain(["market", "/a/", "/a/../b", "/{x}", "/a b"]) {
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
        assert!(shown.contains("***") && !shown.contains("canary"), "{shown}");
    }
    std::fs::write(dir.path().join("api"), "two\nlines\n").unwrap();
    std::fs::remove_file(dir.path().join("feed")).unwrap();
    let faults = Config::parse(&text, BTreeMap::new(), dir.path()).unwrap_err().0.join("\n");
    assert!(faults.contains("api_key_file") && faults.contains("one line"), "{faults}");
    assert!(faults.contains("feed_key_file") && faults.contains("cannot be read"), "{faults}");
    assert!(!faults.contains("two\n"), "{faults}");
}

#[test]
fn what_check_prints_is_read_back_the_same() {
    let config = parse(MINIMAL, &[]).unwrap();
    let printed: String = config
        .to_string()
        .lines()
        .filter(|line| !line.contains("***"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(parse(&printed, &[]).unwrap().to_string(), config.to_string());
}

#[test]
fn what_could_not_start_does_not_pass() {
    let text = format!(
        "listen = \"127.0.0.1:1\"\nops_listen = \"127.0.0.1:1\"\nca_file = \"no\"\n{MINIMAL}"
    );
    let faults = parse(&text, &[]).unwrap_err().join("\n");
    assert!(faults.contains("ops_listen is \"127.0.0.1:1\": listen has it already"), "{faults}");
    assert!(faults.contains("ca_file, /etc/stockbridge/no, cannot be read"), "{faults}");
}

#[test]
fn a_file_that_is_no_toml_is_told_by_line_and_not_by_its_words() {
    let faults = parse("listen = \"127.0.0.1:1\"\napi_key = ACMA:canary\n", &[]).unwrap_err();
    assert!(faults[0].starts_with("line 2: ") && !faults[0].contains("canary"), "{faults:?}");
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
