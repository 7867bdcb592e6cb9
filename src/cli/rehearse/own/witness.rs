use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::given::Given;
use crate::clock::Clock;
use crate::rehearsal::catalogue::Product;
use crate::sources::rules::{Part, ShopRules, SourceRules, Steps, evaluate};
use crate::sources::{
    Absent, Config, Entry, Feed, Key, Quantity, Row, Rows, Taking, Warehouses, read_once,
};
use crate::stock::{Instant, Sku};

/// How far in the future a row may be; later ones are set aside.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// Somebody who has read the sources too, and reckons in memory what they come to.
///
/// It shares the readers and the arithmetic with the service, and nothing of how statements are
/// staged, kept, joined and brought into the book.
pub(super) struct Witness {
    // SKU by SKU, in the order of the sources.
    stated: BTreeMap<String, Vec<Stated>>,
    takings: Vec<Taking>,
    rules: ShopRules,
    rows: usize,
}

/// What is stated of a SKU at one place.
struct Stated {
    source: usize,
    said: String,
    place: String,
    quantity: Quantity,
    reserve: Option<Quantity>,
    pack: u32,
    at: Option<Instant>,
}

impl Witness {
    /// Has every source tell all it has. `spool` is a directory for files on their way in.
    pub(super) async fn hear(given: &Given, spool: &Path) -> anyhow::Result<Self> {
        let mut stated: BTreeMap<String, Vec<Stated>> = BTreeMap::new();
        let mut rows = 0;
        for (source, config) in given.sources.iter().enumerate() {
            let heard = hear(config, given, spool).await?;
            rows += heard.len();
            let mut mapping: HashMap<&str, Vec<(&str, u32)>> = HashMap::new();
            for (said, sku, pack) in &config.taking.mapping {
                mapping.entry(said).or_default().push((sku, *pack));
            }
            for ((said, place), line) in heard {
                let Some(quantity) = line.quantity.filter(|_| !line.is_clash) else { continue };
                let itself = [(said.as_str(), 1)];
                let named = mapping.get(said.as_str()).map_or(&itself[..], Vec::as_slice);
                for (sku, pack) in named {
                    stated.entry((*sku).to_owned()).or_default().push(Stated {
                        source,
                        said: said.clone(),
                        place: place.clone(),
                        quantity,
                        reserve: line.reserve,
                        pack: *pack,
                        at: line.at,
                    });
                }
            }
        }
        let takings = given.sources.iter().map(|source| source.taking.clone()).collect();
        Ok(Self { stated, takings, rules: given.rules.clone(), rows })
    }

    /// How many rows there are, about.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Every SKU of which there is stock, or none.
    pub(super) fn skus(&self) -> impl Iterator<Item = String> {
        let epoch = vec![Instant::from(chrono::DateTime::UNIX_EPOCH); self.takings.len()];
        self.shelf(&epoch).into_iter().map(|product| product.sku)
    }

    /// What the shop has, if the sources have stated it on these dates.
    pub(super) fn shelf(&self, dates: &[Instant]) -> Vec<Product> {
        let rules: Vec<SourceRules> = self.takings.iter().map(|taking| taking.rules).collect();
        let product = |(sku, stated): (&String, &Vec<Stated>)| {
            let sku = Sku::parse(sku).ok()?;
            let parts = self.parts(stated, dates);
            let result = evaluate(&sku, &parts, &rules, &self.rules, &mut Steps::none())?;
            Some(Product { sku: sku.as_str().to_owned(), count: result.count.get() })
        };
        self.stated.iter().filter_map(product).collect()
    }

    /// What counts of what is stated of a SKU.
    fn parts(&self, stated: &[Stated], dates: &[Instant]) -> Vec<Part> {
        let mut parts = Vec::new();
        for (source, taking) in self.takings.iter().enumerate() {
            let own: Vec<&Stated> = stated.iter().filter(|it| it.source == source).collect();
            let here = own.iter().filter(|it| is_chosen(&taking.warehouses, &it.place));
            let part = |it: &Stated| Part {
                source,
                said: Some(it.said.clone()),
                place: it.place.clone(),
                quantity: it.quantity,
                reserve: it.reserve,
                pack: it.pack,
                at: it.at.unwrap_or(dates[source]),
            };
            // Of what lies elsewhere only, nobody has said how much is here.
            parts.extend(here.map(|it| part(it)));
        }
        parts
    }
}

fn is_chosen(warehouses: &Warehouses, place: &str) -> bool {
    match warehouses {
        Warehouses::Unsaid | Warehouses::All => true,
        Warehouses::Named(names) => {
            names.iter().any(|name| name.to_lowercase() == place.to_lowercase())
        }
    }
}

/// A row, until another one says something else of the same product at the same place.
struct Line {
    part: u32,
    quantity: Option<Quantity>,
    reserve: Option<Quantity>,
    at: Option<Instant>,
    // Two rows that cannot be told apart say different things.
    is_clash: bool,
}

/// What one source says, by its own word for the product and by the place.
type Lines = HashMap<(String, String), Line>;

async fn hear(config: &Config, given: &Given, spool: &Path) -> anyhow::Result<Lines> {
    let name = &config.taking.name;
    let (mut rows, entries) = Rows::channel();
    let outbound = given.outbound();
    let reading = async {
        let read = read_once(config, &outbound, spool, Clock::wall().now(), &mut rows).await;
        drop(rows);
        read
    };
    let (read, (lines, parts)) = tokio::join!(reading, gather(entries));
    read.map_err(|reason| anyhow!(reason)).with_context(|| format!("the source {name}"))?;
    // Each of them is a delivery by itself, and what the last one lacks is absent: which that
    // is depends on more than their rows.
    if matches!(&config.feed, Feed::Files(files) if !files.is_one)
        && config.taking.absent == Absent::Zero
        && parts > 1
    {
        bail!(
            "the source {name} has several files, each of them for itself, and absent = \"zero\": \
             rehearse with the last one alone, --from FILE"
        );
    }
    Ok(lines)
}

/// All that is said, and how many parts follow the first.
async fn gather(mut entries: mpsc::Receiver<Vec<Entry>>) -> (Lines, u32) {
    let now = Clock::wall().now();
    let mut heard = Heard::default();
    while let Some(entries) = entries.recv().await {
        entries.into_iter().for_each(|entry| heard.note(entry, now));
    }
    let Heard { mut lines, by_id, articles, part } = heard;
    for (id, place, line) in by_id {
        // A variant without an article of its own goes by its product's.
        let product = id.split_once('#').map_or(id.as_str(), |(product, _)| product);
        if let Some(said) = articles.get(&id).or_else(|| articles.get(product)) {
            put(&mut lines, (said.clone(), place), line);
        }
    }
    (lines, part)
}

/// What was said so far.
#[derive(Default)]
struct Heard {
    lines: Lines,
    // Id, place and row: which products they speak of is known at the end.
    by_id: Vec<(String, String, Line)>,
    articles: HashMap<String, String>,
    part: u32,
}

impl Heard {
    fn note(&mut self, entry: Entry, now: DateTime<Utc>) {
        match entry {
            Entry::NextPart => self.part += 1,
            Entry::Article { id, sku } => {
                if let Ok(sku) = Sku::parse(&sku) {
                    self.articles.insert(id, sku.as_str().to_owned());
                }
            }
            Entry::Row(row) => self.note_row(row, now),
            // Neither changes any stock.
            Entry::Rejected(_) | Entry::Suspicious(_) => {}
        }
    }

    fn note_row(&mut self, row: Row, now: DateTime<Utc>) {
        let Row { key, place, quantity, reserve, at, .. } = row;
        if at.is_some_and(|at| at > Instant::from(now + AHEAD)) {
            return;
        }
        let at = at.map(|at| at.min(Instant::from(now)));
        let place = place.as_deref().map(str::trim).unwrap_or_default().to_owned();
        let line = Line { part: self.part, quantity, reserve, at, is_clash: false };
        match key {
            Key::Id(id) => self.by_id.push((id, place, line)),
            Key::Sku(text) => {
                if let Ok(sku) = Sku::parse(&text) {
                    put(&mut self.lines, (sku.as_str().to_owned(), place), line);
                }
            }
        }
    }
}

/// Of two rows the later part holds, then the later date; otherwise they must agree.
fn put(lines: &mut Lines, key: (String, String), new: Line) {
    let Some(old) = lines.get_mut(&key) else {
        lines.insert(key, new);
        return;
    };
    let dates = new.at.zip(old.at);
    let is_told_apart = new.part > old.part || dates.is_some_and(|(new, old)| new != old);
    let holds = new.part > old.part || dates.is_some_and(|(new, old)| new > old);
    let agrees = new.quantity == old.quantity && new.reserve == old.reserve;
    let is_clash = !is_told_apart && (old.is_clash || !agrees);
    if holds {
        *old = Line { is_clash, ..new };
    } else {
        old.is_clash = is_clash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(part: u32, pieces: i64, seconds: Option<i64>) -> Line {
        let at = seconds.and_then(|seconds| Instant::from_micros(seconds * 1_000_000));
        Line { part, quantity: Quantity::from_pieces(pieces), reserve: None, at, is_clash: false }
    }

    /// What holds of one product at one place; nothing if it cannot be told.
    fn holds(said: impl IntoIterator<Item = Line>) -> Option<i64> {
        let mut lines = Lines::new();
        let key = || ("A".to_owned(), String::new());
        said.into_iter().for_each(|line| put(&mut lines, key(), line));
        lines[&key()].quantity.filter(|_| !lines[&key()].is_clash).map(Quantity::pieces)
    }

    #[test]
    fn two_rows_that_differ_hold_nothing_unless_a_part_or_a_date_tells_them_apart() {
        assert_eq!(holds([line(0, 1, None), line(0, 1, None)]), Some(1));
        assert_eq!(holds([line(0, 1, None), line(0, 2, None)]), None);
        assert_eq!(holds([line(0, 1, None), line(0, 2, None), line(0, 1, None)]), None);
        assert_eq!(holds([line(0, 1, None), line(0, 2, None), line(1, 3, None)]), Some(3));
        assert_eq!(holds([line(0, 1, Some(20)), line(0, 2, Some(10))]), Some(1));
        assert_eq!(holds([line(0, 1, Some(10)), line(0, 2, Some(20))]), Some(2));
        assert_eq!(holds([line(0, 1, Some(10)), line(0, 2, Some(10))]), None);
    }
}
