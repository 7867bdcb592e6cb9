//! A store is one installation's: its copy elsewhere must not send.

use std::path::Path;

use crate::harness::{Doors, House, Shop, configuration, is_settled, of};
use crate::program::{Place, Served, ask, program};

const CAMPAIGN: u64 = 12_345;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Another configuration beside the first: its own name, the other store.
fn write(place: &Place, shop: &Shop, instance: &str) -> std::path::PathBuf {
    let (text, _) = configuration(&place.market_url, std::slice::from_ref(shop));
    let text = text.replace("store = \"store\"", "store = \"copy\"");
    let file = place.directory.path().join(format!("{instance}.toml"));
    std::fs::write(&file, format!("instance = \"{instance}\"\n{text}")).unwrap();
    file
}

fn serve(place: &Place, file: &Path, more: &[&str]) -> Served {
    let mut command = program();
    command
        .arg("serve")
        .arg("--config")
        .arg(file)
        .args(more)
        .envs(place.variables.iter().cloned());
    Served::start(&mut command)
}

async fn is_held(doors: Doors, by: &str) {
    let status = doors.status().await;
    let held = status["held"]
        .as_str()
        .unwrap_or_else(|| panic!("{status:#}"));
    assert!(held.contains(by), "{held}");
    assert_eq!(
        doors.alarms().await,
        [("clone_guard".to_owned(), String::new())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_answers_and_is_fed_and_sends_nothing_until_it_is_adopted() {
    let shop = Shop::moscow();
    let place = Place::for_shops(std::slice::from_ref(&shop), "instance = \"one\"\n").await;
    let settled = |status: &serde_json::Value| is_settled(status, &shop);
    let mut served = place.serve();
    served.doors.feed(&shop, &[("A", 1)]).await;
    served.doors.until("it is sent", settled).await;
    served.tell("-TERM");
    assert_eq!(served.ended().await.code(), Some(0));
    let at = |name: &str| place.directory.path().join(name);
    copy(&at("store"), &at("copy"));

    let (requests, asides) = (place.market.report().requests, place.market.report().asides);
    let (one, two) = (write(&place, &shop, "one"), write(&place, &shop, "two"));
    let mut served = serve(&place, &two, &[]);
    let doors = served.doors;
    is_held(
        doors,
        "written by the installation 'one', and this one is 'two'",
    )
    .await;
    assert_eq!(doors.counts(&shop, &["A"]).await, [("A".to_owned(), 1)]);
    doors.feed(&shop, &[("A", 2), ("B", 3)]).await;
    assert_eq!(doors.counts(&shop, &["A"]).await, [("A".to_owned(), 2)]);
    let (code, stdout, _) = ask(doors, &["ready"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("NOT YET  this store was written by the installation 'one'"),
        "{stdout}"
    );
    for words in [
        vec!["verify"],
        vec!["selftest", "--shop", "moscow", "--sku", "A", "--yes"],
    ] {
        let (code, _, stderr) = ask(doors, &words);
        assert_eq!(code, Some(1));
        assert!(
            stderr.contains("migrate is off, or the store is"),
            "{stderr}"
        );
    }
    served.tell("-TERM");
    assert_eq!(served.ended().await.code(), Some(0));
    let report = place.market.report();
    assert_eq!(
        (report.requests, report.asides, report.read_backs),
        (requests, asides, 0)
    );

    let mut served = serve(&place, &two, &["--adopt"]);
    let status = served.doors.until("the rest is sent", settled).await;
    assert!(status["held"].is_null(), "{status:#}");
    assert_eq!(served.doors.alarms().await, []);
    assert_eq!(place.market.get(CAMPAIGN, "A").unwrap().count, 2);
    assert_eq!(place.market.get(CAMPAIGN, "B").unwrap().count, 3);
    served.tell("-TERM");
    assert_eq!(served.ended().await.code(), Some(0));

    // It is the other's for good: the first one is held on it, the second free again.
    let requests = place.market.report().requests;
    let mut served = serve(&place, &one, &[]);
    is_held(
        served.doors,
        "written by the installation 'two', and this one is 'one'",
    )
    .await;
    served.tell("-TERM");
    assert_eq!(served.ended().await.code(), Some(0));
    let served = serve(&place, &two, &[]);
    served.doors.feed(&shop, &[("A", 4)]).await;
    served.doors.until("it sends", settled).await;
    assert_eq!(place.market.report().requests, requests + 1);
    place.across_the_street.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_nobody_has_claimed_is_claimed_and_its_owner_restarts_freely() {
    let shops = [Shop::moscow()];
    let mut house = House::with(&shops).await;
    house.doors().feed(&shops[0], &[("A", 1)]).await;
    for instance in ["one", "one"] {
        house
            .restart_as(&shops, &format!("instance = \"{instance}\"\n"))
            .await;
        assert!(house.doors().status().await["held"].is_null());
        assert_eq!(house.doors().alarms().await, []);
    }
    house.doors().feed(&shops[0], &[("A", 2)]).await;
    house.restart_as(&shops, "instance = \"two\"\n").await;
    is_held(house.doors(), "'one'").await;
    assert!(of(&house.doors().status().await, &shops[0])["migrator"].is_null());
    // Back home nothing is lost of what was said in between.
    house.doors().feed(&shops[0], &[("A", 3)]).await;
    house.excuse(&shops[0], "it is held");
    house.restart_as(&shops, "instance = \"one\"\n").await;
    let settled = |status: &serde_json::Value| is_settled(status, &shops[0]);
    house.doors().until("it is sent", settled).await;
    assert_eq!(house.market.get(CAMPAIGN, "A").unwrap().count, 3);
}
