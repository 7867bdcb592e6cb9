use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::given::Given;
use crate::clock::Clock;
use crate::rehearsal::catalogue::Product;
use crate::sources::rules::{Part, ShopRules, SourceRules, Steps, evaluate};
use crate::sources::{
    Absent, Config, Duplicates, Entry, Feed, Key, Quantity, Row, Rows, Taking, Variants,
    Warehouses, read_once,
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
                let Some(quantity) = line.quantity.filter(|_| !line.is_clash) else {
                    continue;
                };
                let itself = [(said.as_str(), 1)];
                let named = mapping
                    .get(said.as_str())
                    .map_or(&itself[..], Vec::as_slice);
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
        let takings = given
            .sources
            .iter()
            .map(|source| source.taking.clone())
            .collect();
        Ok(Self {
            stated,
            takings,
            rules: given.rules.clone(),
            rows,
        })
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
            Some(Product {
                sku: sku.as_str().to_owned(),
                count: result.count.get(),
            })
        };
        self.stated.iter().filter_map(product).collect()
    }

    /// What counts of what is stated of a SKU.
    fn parts(&self, stated: &[Stated], dates: &[Instant]) -> Vec<Part> {
        let mut parts = Vec::new();
        for (source, taking) in self.takings.iter().enumerate() {
            let own: Vec<&Stated> = stated.iter().filter(|it| it.source == source).collect();
            let here = own
                .iter()
                .filter(|it| is_chosen(&taking.warehouses, &it.place));
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
        Warehouses::Named(names) => names
            .iter()
            .any(|name| name.to_lowercase() == place.to_lowercase()),
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
    let (read, (lines, parts)) = tokio::join!(reading, gather(entries, config));
    read.map_err(|reason| anyhow!(reason))
        .with_context(|| format!("the source {name}"))?;
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
async fn gather(mut entries: mpsc::Receiver<Vec<Entry>>, config: &Config) -> (Lines, u32) {
    let duplicates = config.taking.duplicates;
    let now = Clock::wall().now();
    let mut heard = Heard {
        duplicates,
        ..Heard::default()
    };
    while let Some(entries) = entries.recv().await {
        entries.into_iter().for_each(|entry| heard.note(entry, now));
    }
    let Heard {
        mut lines,
        by_id,
        articles,
        part,
        faulty,
        ..
    } = heard;
    let shared = Shared::of(by_id.iter().map(|(id, ..)| id), &articles);
    // Where variants share a SKU, each of them has a number of its own.
    let mut variants: HashMap<String, Lines> = HashMap::new();
    for (id, place, line) in by_id {
        let Some(said) = said_of(&id, &articles) else {
            continue;
        };
        let lines = if shared.0.contains(&id) {
            variants.entry(said.to_owned()).or_default()
        } else {
            &mut lines
        };
        let name = if shared.0.contains(&id) {
            id.clone()
        } else {
            said.to_owned()
        };
        put(lines, (name, place), line, duplicates);
    }
    for (said, of_variants) in variants {
        let itself = lines.extract_if(|(known, _), _| *known == said).count();
        // Which of them is meant, only the setting tells; beside a number of the product, nothing.
        if config.reading.variants == Variants::Sum && itself == 0 {
            for ((_, place), line) in of_variants {
                add(&mut lines, (said.clone(), place), line);
            }
        }
    }
    // Beside a row that is not applied another one of the SKU may be a part of its stock only.
    let places: BTreeSet<&String> = lines.keys().map(|(_, place)| place).collect();
    if duplicates == Duplicates::Sum || places.len() <= 1 {
        for ((said, _), line) in &mut lines {
            line.is_clash |= faulty.get(said).is_some_and(|part| *part >= line.part);
        }
    }
    (lines, part)
}

/// The SKU of an id: its own, or that of its product.
fn said_of<'a>(id: &str, articles: &'a HashMap<String, String>) -> Option<&'a str> {
    let product = id.split_once('#').map_or(id, |(product, _)| product);
    articles
        .get(id)
        .or_else(|| articles.get(product))
        .map(String::as_str)
}

/// Variants whose SKU is their product's too, or that of another variant.
struct Shared(HashSet<String>);

impl Shared {
    fn of<'a>(
        ids: impl Iterator<Item = &'a String>,
        articles: &'a HashMap<String, String>,
    ) -> Self {
        let variants: HashSet<&String> = ids
            .chain(articles.keys())
            .filter(|id| id.contains('#'))
            .collect();
        let mut owners: HashMap<&str, HashSet<&str>> = HashMap::new();
        for id in &variants {
            let product = id
                .split_once('#')
                .map_or(id.as_str(), |(product, _)| product);
            if let Some(said) = said_of(id, articles) {
                owners.entry(said).or_default().insert(id);
            }
            if let Some(said) = articles.get(product) {
                owners.entry(said).or_default().insert(product);
            }
        }
        let shares = |id: &&String| {
            said_of(id, articles).is_some_and(|said| owners.get(said).is_some_and(|o| o.len() > 1))
        };
        Self(variants.into_iter().filter(shares).cloned().collect())
    }
}

/// Adds a variant to the others of its SKU.
fn add(lines: &mut Lines, key: (String, String), new: Line) {
    let Some(old) = lines.get_mut(&key) else {
        lines.insert(key, new);
        return;
    };
    let sum = |one: Option<Quantity>, other: Option<Quantity>| match (one, other) {
        (Some(one), Some(other)) => {
            Quantity::from_thousandths(one.thousandths() + other.thousandths())
        }
        (one, other) => one.or(other),
    };
    old.quantity = sum(old.quantity, new.quantity);
    old.reserve = sum(old.reserve, new.reserve);
    old.at = old.at.max(new.at);
    old.is_clash |= new.is_clash;
}

/// What was said so far.
#[derive(Default)]
struct Heard {
    lines: Lines,
    // Id, place and row: which products they speak of is known at the end.
    by_id: Vec<(String, String, Line)>,
    articles: HashMap<String, String>,
    // SKUs with a row that is not applied, and the last part that has one.
    faulty: HashMap<String, u32>,
    duplicates: Duplicates,
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
            Entry::Rejected(fault) | Entry::Suspicious(fault) => {
                if let Some(Ok(sku)) = fault.sku.as_deref().map(Sku::parse) {
                    self.faulty.insert(sku.as_str().to_owned(), self.part);
                }
            }
        }
    }

    fn note_row(&mut self, row: Row, now: DateTime<Utc>) {
        let Row {
            key,
            place,
            quantity,
            reserve,
            at,
            ..
        } = row;
        if at.is_some_and(|at| at > Instant::from(now + AHEAD)) {
            return;
        }
        let at = at.map(|at| at.min(Instant::from(now)));
        let place = place
            .as_deref()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        let line = Line {
            part: self.part,
            quantity,
            reserve,
            at,
            is_clash: false,
        };
        match key {
            Key::Id(id) => self.by_id.push((id, place, line)),
            Key::Sku(text) => {
                if let Ok(sku) = Sku::parse(&text) {
                    let key = (sku.as_str().to_owned(), place);
                    put(&mut self.lines, key, line, self.duplicates);
                }
            }
        }
    }
}

/// Of two rows the later part holds, then the later date; otherwise the setting decides.
fn put(lines: &mut Lines, key: (String, String), new: Line, duplicates: Duplicates) {
    let Some(old) = lines.get_mut(&key) else {
        lines.insert(key, new);
        return;
    };
    let dates = new.at.zip(old.at);
    let is_later = new.part > old.part || dates.is_some_and(|(new, old)| new > old);
    let is_earlier = new.part < old.part || dates.is_some_and(|(new, old)| new < old);
    if is_later {
        *old = new;
        return;
    }
    if is_earlier {
        return;
    }
    match (duplicates, old.quantity, new.quantity) {
        (Duplicates::Reject | Duplicates::Sum, None, None) => {}
        (Duplicates::Same, one, other) => {
            old.is_clash |= one != other || new.reserve != old.reserve;
        }
        (Duplicates::Sum, Some(one), Some(other)) => {
            let sum = Quantity::from_thousandths(one.thousandths() + other.thousandths());
            old.is_clash |= sum.is_none();
            old.quantity = sum.or(Some(one));
            old.reserve = match (old.reserve, new.reserve) {
                (Some(one), Some(other)) => {
                    Quantity::from_thousandths(one.thousandths() + other.thousandths())
                }
                (one, other) => one.or(other),
            };
        }
        (Duplicates::Reject | Duplicates::Sum, _, _) => old.is_clash = true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(part: u32, pieces: i64, seconds: Option<i64>) -> Line {
        let at = seconds.and_then(|seconds| Instant::from_micros(seconds * 1_000_000));
        Line {
            part,
            quantity: Quantity::from_pieces(pieces),
            reserve: None,
            at,
            is_clash: false,
        }
    }

    /// What holds of one product at one place; nothing if it cannot be told.
    fn holds(said: impl IntoIterator<Item = Line>) -> Option<i64> {
        holds_by(Duplicates::Same, said)
    }

    fn holds_by(duplicates: Duplicates, said: impl IntoIterator<Item = Line>) -> Option<i64> {
        let mut lines = Lines::new();
        let key = || ("A".to_owned(), String::new());
        said.into_iter()
            .for_each(|line| put(&mut lines, key(), line, duplicates));
        lines[&key()]
            .quantity
            .filter(|_| !lines[&key()].is_clash)
            .map(Quantity::pieces)
    }

    #[test]
    fn two_rows_that_differ_hold_nothing_unless_a_part_or_a_date_tells_them_apart() {
        assert_eq!(holds([line(0, 1, None), line(0, 1, None)]), Some(1));
        assert_eq!(holds([line(0, 1, None), line(0, 2, None)]), None);
        assert_eq!(
            holds([line(0, 1, None), line(0, 2, None), line(0, 1, None)]),
            None
        );
        assert_eq!(
            holds([line(0, 1, None), line(0, 2, None), line(1, 3, None)]),
            Some(3)
        );
        assert_eq!(holds([line(0, 1, Some(20)), line(0, 2, Some(10))]), Some(1));
        assert_eq!(holds([line(0, 1, Some(10)), line(0, 2, Some(20))]), Some(2));
        assert_eq!(holds([line(0, 1, Some(10)), line(0, 2, Some(10))]), None);
    }

    #[test]
    fn duplicates_are_read_as_the_setting_says() {
        let twice = || [line(0, 5, None), line(0, 5, None)];
        assert_eq!(holds_by(Duplicates::Reject, twice()), None);
        assert_eq!(holds_by(Duplicates::Same, twice()), Some(5));
        assert_eq!(holds_by(Duplicates::Sum, twice()), Some(10));
        assert_eq!(
            holds_by(Duplicates::Sum, [line(0, 5, Some(1)), line(0, 3, Some(2))]),
            Some(3)
        );
    }
}
