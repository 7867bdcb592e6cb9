//! Writers and readers that never stop during the faults, each in a thread of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::complete_list::{LISTED_SKUS, count_in_list, listed_sku, write_list};
use super::stock_model::{Dates, PutOutcome, ReadBound, StockModel};
use crate::service_process::{CAMPAIGN, WAREHOUSE, exchange};

/// Number of writers. Each has SKUs of its own.
const WRITERS: u64 = 4;

/// Number of readers.
const READERS: u64 = 2;

/// SKUs of each writer and of each kind of dates.
const SKUS_PER_WRITER: u64 = 6;

/// SKU that is requested but was never updated.
pub(super) const UNKNOWN_SKU: &str = "UNKNOWN";

/// Time after which a client gives up. An update waits at most 6 s for a replica that is stopped.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(8);

/// Pause between two looks at the stock of a list.
const LIST_PAUSE: Duration = Duration::from_millis(200);

/// Pause of a writer or a reader between two requests, so that the faults find the machine neither
/// idle nor overloaded.
const PAUSE: Duration = Duration::from_millis(10);

/// Named address that accepts updates and requests.
pub(super) type Entry = (String, SocketAddr);

/// Running writers and readers.
pub(super) struct SellerLoad {
    model: Arc<Mutex<StockModel>>,
    entries: Arc<Vec<Entry>>,
    failed_at_first: Arc<AtomicU64>,
    is_ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl SellerLoad {
    /// Starts writers and readers that use all these addresses, and rewrites the list at this path.
    pub(super) fn start(entries: Vec<Entry>, list: PathBuf, seed: u64) -> Self {
        let mut workload = Self {
            model: Arc::default(),
            entries: Arc::new(entries),
            failed_at_first: Arc::default(),
            is_ending: Arc::default(),
            threads: Vec::new(),
        };
        for writer in 0..WRITERS {
            let skus = workload.add_skus(writer);
            let rng = StdRng::seed_from_u64(seed.wrapping_add(writer));
            workload.spawn(Client::new(&workload, rng), PAUSE, move |client| {
                client.write(&skus);
            });
        }
        for number in 0..LISTED_SKUS {
            let mut model = workload.model.lock();
            model.add_sku(&listed_sku(number), Dates::OfList(number));
        }
        let client = Client::new(&workload, StdRng::seed_from_u64(0));
        workload.spawn(client, LIST_PAUSE, move |client| client.rewrite(&list));
        for reader in 0..READERS {
            let rng = StdRng::seed_from_u64(seed.wrapping_sub(reader + 1));
            workload.spawn(Client::new(&workload, rng), PAUSE, Client::read);
        }
        workload
    }

    pub(super) fn model(&self) -> &Mutex<StockModel> {
        &self.model
    }

    /// Returns the number of requests to the load balancer that were not successful.
    pub(super) fn failed_at_first_entry(&self) -> u64 {
        self.failed_at_first.load(Ordering::Acquire)
    }

    /// Ends all writers and readers. Requests in progress are completed.
    pub(super) fn stop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    /// Updates every SKU once more, until each update is acknowledged by the given address.
    pub(super) fn write_last(&self, entry: &Entry) {
        let mut client = Client::new(self, StdRng::seed_from_u64(0));
        let skus = self.model.lock().updated_skus();
        while client.put(entry, &skus) != PutOutcome::Acknowledged {}
    }

    /// Requests every SKU at one address. Returns the counts, or the status of an error.
    pub(super) fn read_all(&self, entry: &Entry) -> Result<BTreeMap<String, u32>, u16> {
        let client = Client::new(self, StdRng::seed_from_u64(0));
        let skus = self.model.lock().skus();
        client.get(entry, &skus)
    }

    /// Returns the number of the last list if every replica answers with its stock.
    pub(super) fn confirmed_list(&self) -> Option<u32> {
        Client::new(self, StdRng::seed_from_u64(0)).confirm_list()
    }

    fn add_skus(&self, writer: u64) -> Vec<String> {
        let mut model = self.model.lock();
        let mut skus = Vec::new();
        for number in 0..SKUS_PER_WRITER {
            for (kind, dates) in [("DATED", Dates::Own), ("UNDATED", Dates::OfArrival)] {
                let sku = format!("{kind}-{writer}-{number}");
                model.add_sku(&sku, dates);
                skus.push(sku);
            }
        }
        skus
    }

    fn spawn(
        &mut self,
        mut client: Client,
        pause: Duration,
        step: impl Fn(&mut Client) + Send + 'static,
    ) {
        let is_ending = Arc::clone(&self.is_ending);
        self.threads.push(std::thread::spawn(move || {
            while !is_ending.load(Ordering::Acquire) {
                step(&mut client);
                #[expect(
                    clippy::disallowed_methods,
                    reason = "this thread is not of the runtime"
                )]
                std::thread::sleep(pause);
            }
        }));
    }
}

/// Writer or reader.
struct Client {
    model: Arc<Mutex<StockModel>>,
    entries: Arc<Vec<Entry>>,
    failed_at_first: Arc<AtomicU64>,
    rng: StdRng,
    last_date: DateTime<Utc>,
}

impl Client {
    fn new(workload: &SellerLoad, rng: StdRng) -> Self {
        Self {
            model: Arc::clone(&workload.model),
            entries: Arc::clone(&workload.entries),
            failed_at_first: Arc::clone(&workload.failed_at_first),
            rng,
            last_date: DateTime::UNIX_EPOCH,
        }
    }

    /// Updates some of its SKUs once.
    fn write(&mut self, skus: &[String]) {
        let entry = self.choose_entry();
        let first = self.rng.random_range(0..skus.len());
        let count = self.rng.random_range(1..=skus.len() - first);
        // The model knows the outcome.
        let _outcome = self.put(&entry, &skus[first..first + count]);
    }

    /// Requests all SKUs once.
    fn read(&mut self) {
        let entry = self.choose_entry();
        let skus = self.model.lock().skus();
        // An error is a right response while a replica is behind.
        let _answered = self.get(&entry, &skus);
    }

    /// Writes the next list if every replica answers with the stock of the last one.
    fn rewrite(&mut self, path: &Path) {
        let Some(last) = self.confirm_list() else {
            return;
        };
        // A replica may read it at once.
        self.model.lock().issue_list(last + 1);
        write_list(path, last + 1);
    }

    /// Returns the number of the last list if every replica answers with its stock.
    fn confirm_list(&self) -> Option<u32> {
        let (skus, list) = {
            let model = self.model.lock();
            (model.listed_skus(), model.list())
        };
        let right = |list| -> BTreeMap<String, u32> {
            (0..LISTED_SKUS)
                .map(|number| (listed_sku(number), count_in_list(number, list)))
                .collect()
        };
        let has_list = |entry| list == 0 || self.get(entry, &skus) == Ok(right(list));
        // The load balancer, which is the first one, is not a replica.
        self.entries[1..].iter().all(has_list).then(|| {
            self.model.lock().confirm_list(list);
            list
        })
    }

    fn exchange(&self, address: SocketAddr, request: (&str, &str, &str, &str)) -> (u16, String) {
        let response = exchange(address, CLIENT_TIMEOUT, request);
        if response.0 != 200 && address == self.entries[0].1 {
            self.failed_at_first.fetch_add(1, Ordering::AcqRel);
        }
        response
    }

    fn choose_entry(&mut self) -> Entry {
        // The load balancer, which is the first one, gets half of all requests.
        let number = self.rng.random_range(0..2 * (self.entries.len() - 1));
        let number = number.saturating_sub(self.entries.len() - 2);
        self.entries[number].clone()
    }

    fn put(&mut self, (_, address): &Entry, skus: &[String]) -> PutOutcome {
        // Dates rise, also within one tick of the clock.
        self.last_date = Utc::now().max(self.last_date + TimeDelta::microseconds(1));
        let date = self.last_date.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut counts = Vec::new();
        let mut items = Vec::new();
        {
            let mut model = self.model.lock();
            for sku in skus {
                let count = model.issue(sku);
                let mut item = json!({ "count": count });
                if model.dates(sku) == Dates::Own {
                    item["updatedAt"] = json!(date);
                }
                items.push(json!({ "sku": sku, "items": [item] }));
                counts.push(count);
            }
        }
        let body = json!({ "skus": items }).to_string();
        let target = format!("/v2/campaigns/{CAMPAIGN}/offers/stocks");
        let request = ("PUT", target.as_str(), "Api-Key: feed-key", body.as_str());
        let (status, _) = self.exchange(*address, request);
        let outcome = match status {
            200 => PutOutcome::Acknowledged,
            400..=499 => PutOutcome::Refused,
            _ => PutOutcome::Unknown,
        };
        let mut model = self.model.lock();
        for (sku, count) in skus.iter().zip(counts) {
            model.record_write(sku, count, outcome);
        }
        outcome
    }

    /// Requests SKUs and one that was never updated, and checks the response.
    fn get(&self, (name, address): &Entry, skus: &[String]) -> Result<BTreeMap<String, u32>, u16> {
        let skus = skus.iter().map(String::as_str).chain([UNKNOWN_SKU]);
        let bound: ReadBound = self.model.lock().bound(skus);
        let body = json!({ "warehouseId": WAREHOUSE, "skus": bound.skus() }).to_string();
        let header = "Authorization: push-token";
        let request = ("POST", "/stocks", header, body.as_str());
        let (status, text) = self.exchange(*address, request);
        if status != 200 {
            return Err(status);
        }
        // A process that was killed may have sent a part of its response.
        let counts = parse_counts(&text).ok_or(0_u16)?;
        self.model.lock().check_read(name, &bound, &counts);
        Ok(counts)
    }
}

/// Returns the counts of a response to the Market; `None` if it is incomplete.
fn parse_counts(text: &str) -> Option<BTreeMap<String, u32>> {
    let response: Value = serde_json::from_str(text).ok()?;
    let items = response["skus"].as_array().unwrap().iter();
    let count = |item: &Value| {
        let count = item["items"][0]["count"].as_u64().unwrap();
        let sku = item["sku"].as_str().unwrap().to_owned();
        (sku, u32::try_from(count).unwrap())
    };
    Some(items.map(count).collect())
}
