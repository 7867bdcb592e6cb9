//! A shop's own old handler, asked for every SKU it is known to have.
//!
//! In parts, because it was written for the Market's questions of at most a thousand SKUs, and
//! some ask their database with a limit of 500 and answer 0 for all beyond.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::quantity::{DecimalMark, NumberStyle};
use super::row::{Entry, Fault, GivenUp, Key, Reading, Row, RowProblem, Rows};
use crate::legacy::client::{AskError, Client};
use crate::legacy::wire::lenient::{Item, Reply, Said, Spoiled};
use crate::stock::Sku;

/// How long after a failure a part is asked for once more.
const PAUSE: Duration = Duration::from_secs(2);

/// How far ahead of our clock a date may be before it is passed over.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What became of a pull.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// SKUs that were asked for.
    pub asked: usize,
    /// SKUs that were answered with an item that could be read.
    pub answered: usize,
    /// SKUs that were left out of the answers: of them nothing is said.
    pub left_out: usize,
    /// Items that were set aside.
    pub faults: usize,
    /// Items about SKUs that were not asked for.
    pub strangers: usize,
    /// Items that state a count.
    pub stated: usize,
    /// Items whose date is ahead of our clock. They are taken as of now.
    pub ahead: usize,
}

impl Summary {
    fn add(&mut self, part: Self) {
        self.asked += part.asked;
        self.answered += part.answered;
        self.left_out += part.left_out;
        self.faults += part.faults;
        self.strangers += part.strangers;
        self.stated += part.stated;
        self.ahead += part.ahead;
    }
}

/// Why a pull is not whole.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A part was not answered, and not when it was asked for once more.
    #[error("the handler did not answer for skus {first} to {last}")]
    Part {
        /// The number of its first SKU, from 1.
        first: usize,
        /// The number of its last one.
        last: usize,
        /// What happened the last time.
        #[source]
        source: AskError,
    },
    /// Every SKU is answered without a count.
    #[error(
        "the handler answered {answered} skus and states no count for any of them: skus[].items[] \
         must have the member count"
    )]
    NoCounts {
        /// How many it answered.
        answered: usize,
    },
    /// Nobody wants the rest.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
}

/// Asks for all these SKUs, each of which should stand there once, and puts a row for each that
/// is answered. The row's number is that of the SKU among those asked for.
///
/// A part that fails is asked for once more after a short pause; if it fails again the whole
/// pull does. Rows of other parts have then been put already: the stage drops them with the
/// delivery, so that half an answer is never taken for a whole one.
///
/// Only SKUs that were asked for are taken. One that a spreadsheet or a float has spoilt on its way
/// through the handler is read if that is certain, else suspicious.
///
/// # Errors
/// A part was not answered, no SKU has a count, or nobody wants the rest.
pub async fn pull(
    client: &Client,
    skus: &[Sku],
    reading: &Reading,
    now: DateTime<Utc>,
    rows: &mut Rows,
) -> Result<Summary, PullError> {
    let questions: Vec<_> = parts(client, skus)
        .into_iter()
        .map(|part| async move { (part, ask_twice(client, part.skus).await) }.boxed())
        .collect();
    let mut asking = stream::iter(questions).buffer_unordered(client.handler().parallel.max(1));
    let mut summary = Summary::default();
    while let Some((part, reply)) = asking.next().await {
        let reply = reply.map_err(|source| PullError::Part {
            first: part.offset + 1,
            last: part.offset + part.skus.len(),
            source,
        })?;
        let (entries, of_part) = part.read(reply, reading, now);
        summary.add(of_part);
        for entry in entries {
            rows.put(entry).await?;
        }
    }
    rows.flush().await?;
    if summary.answered > 0 && summary.stated + summary.faults == 0 && !reading.zeroes_empties {
        return Err(PullError::NoCounts {
            answered: summary.answered,
        });
    }
    Ok(summary)
}

/// What was learned within a deadline.
#[derive(Debug, Default)]
pub struct Asked {
    /// Rows and faults, of the parts that were answered.
    pub entries: Vec<Entry>,
    /// The same in figures, and how many SKUs those parts had.
    pub summary: Summary,
    /// Why a part was not answered, of the first that was not. Of its SKUs nothing is known.
    pub failed: Option<AskError>,
}

/// Asks for the SKUs of one question of the Market, while it waits. Nothing is asked twice.
///
/// What is learned is a [`Scope::Delta`](super::Scope::Delta), so a part that fails spoils no
/// other.
pub async fn ask_one(
    client: &Client,
    skus: &[Sku],
    reading: &Reading,
    now: DateTime<Utc>,
    deadline: Duration,
) -> Asked {
    let end = Instant::now() + deadline;
    let questions: Vec<_> = parts(client, skus)
        .into_iter()
        .map(|part| {
            async move {
                let left = end.saturating_duration_since(Instant::now());
                let left = left.min(client.handler().deadline);
                (part, client.ask(part.skus, left).await)
            }
            .boxed()
        })
        .collect();
    let mut asking = stream::iter(questions).buffer_unordered(client.handler().parallel.max(1));
    let mut asked = Asked::default();
    while let Some((part, reply)) = asking.next().await {
        match reply {
            Ok(reply) => {
                let (entries, of_part) = part.read(reply, reading, now);
                asked.entries.extend(entries);
                asked.summary.add(of_part);
            }
            Err(error) => {
                asked.failed.get_or_insert(error);
            }
        }
    }
    asked
}

/// SKUs that are asked for together.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// How many come before them.
    offset: usize,
    skus: &'a [Sku],
}

fn parts<'a>(client: &Client, skus: &'a [Sku]) -> Vec<Part<'a>> {
    let size = client.handler().skus_at_a_time();
    let offsets = (0..).step_by(size);
    skus.chunks(size)
        .zip(offsets)
        .map(|(skus, offset)| Part { offset, skus })
        .collect()
}

async fn ask_twice(client: &Client, skus: &[Sku]) -> Result<Reply, AskError> {
    let deadline = client.handler().deadline;
    match client.ask(skus, deadline).await {
        Err(error) if error.may_pass() => {
            sleep(PAUSE).await;
            client.ask(skus, deadline).await
        }
        settled => settled,
    }
}

/// How the items of a part are read.
struct ItemReading<'a> {
    /// The settings, for texts.
    of_text: &'a Reading,
    /// What the texts of the part prove of their marks.
    style: NumberStyle,
    /// The same settings for number literals, whose mark is the point.
    of_number: Reading,
    /// A later date is passed over.
    latest: DateTime<Utc>,
}

impl Part<'_> {
    fn read(self, reply: Reply, reading: &Reading, now: DateTime<Utc>) -> (Vec<Entry>, Summary) {
        let mut summary = Summary {
            asked: self.skus.len(),
            ..Summary::default()
        };
        let (reply, unclear) = self.with_spoilt_skus(reply, reading);
        let Reply {
            items,
            spoiled,
            left_out,
            strange: _,
            strangers,
        } = reply;
        (summary.left_out, summary.strangers) = (left_out, strangers);
        let mut style = NumberStyle::default();
        let latest = now + AHEAD;
        for (_, Item { said, at, .. }) in &items {
            if let Said::Text(text) = said {
                style.learn(text);
            }
            summary.ahead += usize::from(at.is_some_and(|at| at.to_utc() > latest));
        }
        let of_number = Reading {
            decimal: Some(DecimalMark::Point),
            ..reading.clone()
        };
        let reading = ItemReading {
            of_text: reading,
            style,
            of_number,
            latest,
        };
        let items = items
            .into_iter()
            .map(|(place, item)| self.read_item(place, item, &reading));
        let spoiled = spoiled
            .into_iter()
            .map(|(place, item)| self.set_aside(place, item));
        let entries: Vec<Entry> = items.chain(spoiled).chain(unclear).collect();
        for entry in &entries {
            match entry {
                Entry::Row(row) => {
                    summary.answered += 1;
                    summary.stated += usize::from(row.quantity.is_some());
                }
                Entry::Rejected(_) | Entry::Suspicious(_) => summary.faults += 1,
                Entry::Article { .. } | Entry::NextPart => {}
            }
        }
        (entries, summary)
    }

    /// Finds the SKUs that were asked for among those that the answer spells in another way. One
    /// that may be any of those left out is suspicious: they are not certainly absent.
    fn with_spoilt_skus(self, mut reply: Reply, reading: &Reading) -> (Reply, Vec<Entry>) {
        let mut unclear = Vec::new();
        if reply.left_out == 0 || reply.strange.is_empty() {
            return (reply, unclear);
        }
        let places: HashMap<&str, usize> = self.skus.iter().map(Sku::as_str).zip(0..).collect();
        let spoiled = reply.spoiled.iter().filter_map(|(place, _)| *place);
        let mut answered: HashSet<usize> = reply
            .items
            .iter()
            .map(|(place, _)| *place)
            .chain(spoiled)
            .collect();
        for item in std::mem::take(&mut reply.strange) {
            match reading.sku(&item.sku) {
                Ok(sku) => {
                    if let Some(place) = places.get(sku.as_str())
                        && answered.insert(*place)
                    {
                        reply.items.push((*place, item));
                        reply.left_out -= 1;
                        reply.strangers -= 1;
                    }
                }
                Err(problem @ RowProblem::Suspicious(_)) => {
                    unclear.push(problem.into_entry(0, &item.sku, None));
                }
                Err(RowProblem::Rejected(_)) => {}
            }
        }
        if reply.left_out == 0 {
            unclear.clear();
        }
        (reply, unclear)
    }

    fn read_item(self, place: usize, item: Item, reading: &ItemReading<'_>) -> Entry {
        let Item { sku, said, at } = item;
        let sku = self
            .skus
            .get(place)
            .map_or(sku, |asked| asked.as_str().to_owned());
        let line = self.line(place);
        let quantity = match said {
            Said::Nothing => reading.of_text.quantity(""),
            Said::Number(text) => reading.of_number.quantity(&text),
            Said::Text(text) => reading.of_text.quantity_in(&text, reading.style),
        };
        match quantity {
            Ok(quantity) => {
                let key = Key::Sku(sku);
                let at = at.filter(|at| at.to_utc() <= reading.latest);
                Entry::Row(Row {
                    line,
                    key,
                    place: None,
                    quantity,
                    reserve: None,
                    at,
                })
            }
            Err(rule) => {
                let problem = RowProblem::from(rule).of_field(&format!("sku '{sku}'"));
                problem.into_entry(line, &sku, Some(sku.clone()))
            }
        }
    }

    fn set_aside(self, place: Option<usize>, item: Spoiled) -> Entry {
        // An item that names no SKU is told by where it stands in its answer.
        let line = self.line(place.unwrap_or(item.number.saturating_sub(1)));
        let sku = place.and_then(|place| self.skus.get(place));
        let reason = match sku {
            Some(sku) => format!("sku '{}': {}", sku.as_str(), item.reason),
            None => item.reason,
        };
        let mut fault = Fault::new(line, &item.text, reason);
        fault.sku = sku.map(ToString::to_string);
        Entry::Rejected(fault)
    }

    fn line(self, place: usize) -> u64 {
        u64::try_from(self.offset + place)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::http::scripted::{Scripted, plain_client, serve};
    use crate::http::secret::Secret;
    use crate::legacy::client::Handler;

    fn skus(n: usize) -> Vec<Sku> {
        (1..=n)
            .map(|n| Sku::parse(&format!("S-{n}")).unwrap())
            .collect()
    }

    type Say = Arc<dyn Fn(usize, Vec<String>) -> Response + Send + Sync>;

    /// A handler that is told how often it was asked before and for what.
    async fn shop(say: Say) -> (Scripted, Arc<Mutex<Vec<usize>>>) {
        let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let router = Router::new().fallback(async move |body: String| {
            let question: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(question["warehouseId"], 7);
            let skus: Vec<String> = serde_json::from_value(question["skus"].clone()).unwrap();
            let before = {
                let mut asked = noted.lock().unwrap();
                asked.push(skus.len());
                asked.len() - 1
            };
            say(before, skus)
        });
        (serve(router).await, asked)
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn client(server: &Scripted, max_skus: usize) -> Client {
        let handler = Handler::new(&server.url, Secret::new("token"), 7);
        Client::new(
            plain_client(),
            Handler {
                max_skus,
                ..handler
            },
        )
        .unwrap()
    }

    fn items(of: impl Iterator<Item = (String, Value)>) -> Response {
        let items: Vec<_> = of
            .map(|(sku, count)| {
                let stock = json!({ "count": count, "type": "FIT" });
                json!({ "sku": sku, "warehouseId": 7, "items": [stock] })
            })
            .collect();
        axum::Json(json!({ "skus": items })).into_response()
    }

    /// The handler whose database is asked with a limit: beyond it, everything is 0.
    fn limited(limit: usize) -> Say {
        Arc::new(move |_, skus| {
            let count = |place| if place < limit { json!(5) } else { json!(0) };
            items(
                skus.into_iter()
                    .enumerate()
                    .map(|(place, sku)| (sku, count(place))),
            )
        })
    }

    async fn read(mut stage: mpsc::Receiver<Vec<Entry>>) -> Vec<Entry> {
        let mut all = Vec::new();
        while let Some(batch) = stage.recv().await {
            all.extend(batch);
        }
        all
    }

    async fn pulled(
        client: &Client,
        skus: &[Sku],
        reading: &Reading,
    ) -> (Result<Summary, PullError>, Vec<Entry>) {
        let (mut rows, stage) = Rows::channel();
        let pulling = async move { pull(client, skus, reading, now(), &mut rows).await };
        futures_util::future::join(pulling, read(stage)).await
    }

    fn row(entry: &Entry) -> (u64, String, String) {
        match entry {
            Entry::Row(Row {
                line,
                key: Key::Sku(sku),
                quantity,
                ..
            }) => {
                let quantity = quantity.map_or("-".to_owned(), |quantity| quantity.to_string());
                (*line, sku.clone(), quantity)
            }
            Entry::Rejected(fault) | Entry::Suspicious(fault) => {
                (fault.line, fault.text.clone(), fault.reason.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn parts_find_out_what_a_handler_with_a_limit_would_deny() {
        let (server, asked) = shop(limited(500)).await;
        let skus = skus(1_201);
        let (summary, entries) = pulled(&client(&server, 500), &skus, &Reading::default()).await;
        assert_eq!(
            summary.unwrap(),
            Summary {
                asked: 1_201,
                answered: 1_201,
                stated: 1_201,
                ..Summary::default()
            }
        );
        let mut rows: Vec<_> = entries.iter().map(row).collect();
        rows.sort();
        assert_eq!(rows.len(), 1_201);
        assert!(rows.iter().zip(1..).all(|((line, sku, quantity), n)| {
            (*line, sku, quantity.as_str()) == (n, &format!("S-{n}"), "5")
        }));
        let mut sizes = asked.lock().unwrap().clone();
        sizes.sort_unstable();
        assert_eq!(sizes, [201, 500, 500]);
    }

    #[tokio::test]
    async fn of_what_is_left_out_nothing_is_said_and_a_bad_item_spoils_no_other() {
        let (server, _) = shop(Arc::new(|_, skus| {
            let counts = [
                json!("7,00"),
                json!("много"),
                json!(-2),
                json!(1.5),
                json!(null),
            ];
            items(
                skus.into_iter()
                    .zip(counts)
                    .chain([("X".to_owned(), json!(1))]),
            )
        }))
        .await;
        let (summary, entries) = pulled(&client(&server, 500), &skus(6), &Reading::default()).await;
        assert_eq!(
            summary.unwrap(),
            Summary {
                asked: 6,
                answered: 2,
                left_out: 1,
                faults: 3,
                strangers: 1,
                stated: 1,
                ahead: 0
            }
        );
        let told: Vec<_> = entries.iter().map(row).collect();
        let told: Vec<_> = told
            .iter()
            .map(|(line, text, said)| (*line, text.as_str(), said.as_str()))
            .collect();
        let words = "sku 'S-2': quantity is 'много', it must be a number, or a word that the \
                     setting words knows";
        assert_eq!(
            told,
            [
                (1, "S-1", "7"),
                (2, "S-2", words),
                (
                    3,
                    "S-3",
                    "sku 'S-3': quantity is '-2', it must not be negative, or set negative = \"zero\""
                ),
                (
                    4,
                    "S-4",
                    "sku 'S-4': quantity is '1.5', it must be whole, or set fraction = \"floor\""
                ),
                (5, "S-5", "-"),
            ]
        );
        let lenient = Reading {
            floors_fractions: true,
            zeroes_negatives: true,
            words: vec![(
                "много".to_owned(),
                super::super::Quantity::from_pieces(10).unwrap(),
            )],
            ..Reading::default()
        };
        let (summary, entries) = pulled(&client(&server, 500), &skus(6), &lenient).await;
        assert_eq!(
            (summary.unwrap().faults, row(&entries[1]).2.as_str()),
            (0, "10")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_once_is_asked_for_again_after_a_pause() {
        let (server, asked) = shop(Arc::new(|before, skus| match before {
            0 => (StatusCode::BAD_GATEWAY, "later").into_response(),
            _ => items(skus.into_iter().map(|sku| (sku, json!(3)))),
        }))
        .await;
        let before = Instant::now();
        let (summary, entries) = pulled(&client(&server, 2), &skus(3), &Reading::default()).await;
        assert_eq!((summary.unwrap().answered, entries.len()), (3, 3));
        assert_eq!(asked.lock().unwrap().len(), 3);
        assert_eq!(before.elapsed().as_secs(), PAUSE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_twice_fails_the_whole_and_a_refusal_does_at_once() {
        for (status, times) in [(StatusCode::BAD_GATEWAY, 3), (StatusCode::FORBIDDEN, 2)] {
            let say: Say = Arc::new(move |_, skus| match skus.len() {
                1 => status.into_response(),
                _ => items(skus.into_iter().map(|sku| (sku, json!(3)))),
            });
            let (server, asked) = shop(say).await;
            let (summary, _) = pulled(&client(&server, 2), &skus(3), &Reading::default()).await;
            let error = summary.unwrap_err();
            assert_eq!(
                error.to_string(),
                "the handler did not answer for skus 3 to 3"
            );
            let PullError::Part {
                source: AskError::Status { status: told, .. },
                ..
            } = error
            else {
                panic!("{error:?}")
            };
            assert_eq!(
                (told, asked.lock().unwrap().len()),
                (status.as_u16(), times)
            );
        }
    }

    #[tokio::test]
    async fn a_stage_that_gives_up_ends_the_pull() {
        let (server, _) = shop(limited(500)).await;
        let (mut rows, stage) = Rows::channel();
        drop(stage);
        let pulled = pull(
            &client(&server, 500),
            &skus(2),
            &Reading::default(),
            now(),
            &mut rows,
        )
        .await;
        assert!(
            matches!(pulled, Err(PullError::GivenUp(GivenUp))),
            "{pulled:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_is_asked_in_parts_within_its_deadline_and_never_twice() {
        let (server, asked) = shop(Arc::new(|_, skus| {
            if skus[0] == "S-3" {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            items(skus.into_iter().map(|sku| (sku, json!(3))))
        }))
        .await;
        let second = Duration::from_secs(1);
        let client = client(&server, 2);
        let told = ask_one(&client, &skus(5), &Reading::default(), now(), second).await;
        assert_eq!((told.summary.asked, told.entries.len()), (3, 3));
        assert!(matches!(
            told.failed,
            Some(AskError::Status { status: 502, .. })
        ));
        assert_eq!(asked.lock().unwrap().len(), 3);

        let silent = serve(Router::new().fallback(async || std::future::pending::<()>().await));
        let silent = silent.await;
        let handler = Handler::new(&silent.url, Secret::new("token"), 7);
        let handler = Handler {
            max_skus: 2,
            parallel: 1,
            ..handler
        };
        let client = Client::new(plain_client(), handler).unwrap();
        let before = Instant::now();
        let told = ask_one(&client, &skus(5), &Reading::default(), now(), second).await;
        // All parts share the one deadline, though one waits for the other.
        assert_eq!(before.elapsed().as_secs(), 1);
        assert!(told.entries.is_empty() && matches!(told.failed, Some(AskError::Late { .. })));
    }

    /// What a handler says of one SKU that states these counts.
    async fn told(counts: &[Value], reading: &Reading) -> Vec<String> {
        let (asked, counts) = (skus(counts.len()), counts.to_vec());
        let say: Say = Arc::new(move |_, skus| items(skus.into_iter().zip(counts.clone())));
        let (server, _) = shop(say).await;
        let (_, entries) = pulled(&client(&server, 500), &asked, reading).await;
        entries
            .iter()
            .map(|entry| match entry {
                Entry::Suspicious(fault) => {
                    format!("suspicious {}", fault.sku.as_deref().unwrap_or("nobody's"))
                }
                Entry::Rejected(fault) => {
                    format!("rejected {}", fault.sku.as_deref().unwrap_or("nobody's"))
                }
                entry => row(entry).2,
            })
            .collect()
    }

    #[tokio::test]
    async fn a_text_with_two_readings_is_suspicious_and_a_literal_is_not() {
        let (ambiguous, literal) = (json!("2,000"), json!(2.000));
        let alone = told(&[ambiguous.clone(), literal.clone()], &Reading::default()).await;
        assert_eq!(alone, ["suspicious S-1", "2"]);
        // A neighbour proves the mark of the texts, and the setting decides for texts only.
        let proven = told(&[ambiguous.clone(), json!("0,500")], &Reading::default()).await;
        assert_eq!(proven, ["2", "rejected S-2"]);
        let by_comma = Reading {
            decimal: Some(DecimalMark::Comma),
            ..Reading::default()
        };
        assert_eq!(told(&[ambiguous, literal], &by_comma).await, ["2", "2"]);
    }

    #[tokio::test]
    async fn fractions_of_any_length_are_cut_where_that_is_set() {
        let floors = Reading {
            floors_fractions: true,
            ..Reading::default()
        };
        let counts = [
            json!(7.123_456_789_01),
            json!("7.1234567890"),
            json!(0.3e-12),
            json!(1.5E1),
        ];
        let cut = told(&counts, &floors).await;
        assert_eq!(cut, ["7.123", "7.123", "0", "15"]);
        let kept = told(&counts, &Reading::default()).await;
        assert_eq!(kept[..2], ["rejected S-1", "rejected S-2"]);
    }

    #[tokio::test]
    async fn an_answer_without_any_count_is_refused() {
        let nulls =
            |_: usize, skus: Vec<String>| items(skus.into_iter().map(|it| (it, json!(null))));
        let (server, _) = shop(Arc::new(nulls)).await;
        let (summary, _) = pulled(&client(&server, 500), &skus(2), &Reading::default()).await;
        let error = summary.unwrap_err().to_string();
        assert!(
            error.contains("2 skus") && error.contains("count"),
            "{error}"
        );
        let zeroes = Reading {
            zeroes_empties: true,
            ..Reading::default()
        };
        let (summary, entries) = pulled(&client(&server, 500), &skus(2), &zeroes).await;
        assert_eq!(
            (summary.unwrap().stated, row(&entries[0]).2.as_str()),
            (2, "0")
        );
    }

    #[tokio::test]
    async fn dates_ahead_of_our_clock_are_passed_over() {
        let (server, _) = shop(Arc::new(|_, skus| {
            let dates = [
                "2026-11-22T13:00:00Z",
                "2026-11-22T10:04:59Z",
                "2026-11-22T09:00:00Z",
            ];
            let items = skus.iter().zip(dates).map(|(sku, at)| {
                json!({ "sku": sku, "items": [{ "count": 3, "type": "FIT", "updatedAt": at }] })
            });
            axum::Json(json!({ "skus": items.collect::<Vec<_>>() })).into_response()
        }))
        .await;
        let (summary, entries) = pulled(&client(&server, 500), &skus(3), &Reading::default()).await;
        let summary = summary.unwrap();
        assert_eq!((summary.stated, summary.ahead, summary.faults), (3, 1, 0));
        let dates: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Row(row) => row.at.map(|at| at.to_string()),
                other => panic!("{other:?}"),
            })
            .collect();
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(
            dates,
            [None, at("2026-11-22T10:04:59Z"), at("2026-11-22T09:00:00Z")]
        );
    }

    #[tokio::test]
    async fn a_spoilt_sku_is_read_if_certain_else_suspicious() {
        let (server, _) = shop(Arc::new(|_, _| {
            let skus = ["=\"S-1\"", "5.57722E+05", "X-9"];
            items(skus.map(|sku| (sku.to_owned(), json!(3))).into_iter())
        }))
        .await;
        let asked = [Sku::parse("557722").unwrap(), Sku::parse("S-1").unwrap()];
        let client = client(&server, 500);
        let (summary, entries) = pulled(&client, &asked, &Reading::default()).await;
        let summary = summary.unwrap();
        assert_eq!(
            (summary.left_out, summary.strangers, summary.faults),
            (1, 2, 1)
        );
        assert_eq!(row(&entries[0]), (2, "S-1".to_owned(), "3".to_owned()));
        // Which SKU the other one is cannot be known, so none of those left out is absent.
        let Entry::Suspicious(fault) = &entries[1] else {
            panic!("{entries:?}")
        };
        assert!(
            fault.sku.is_none() && fault.reason.contains("5.57722E+05"),
            "{fault:?}"
        );
        // Where every SKU is answered, nothing depends on the others.
        let (summary, _) = pulled(&client, &asked[1..], &Reading::default()).await;
        assert_eq!(summary.unwrap().faults, 0);
    }

    #[tokio::test]
    async fn nothing_to_ask_is_asked_of_nobody() {
        let (server, asked) = shop(limited(500)).await;
        let (summary, entries) = pulled(&client(&server, 500), &[], &Reading::default()).await;
        assert_eq!((summary.unwrap(), entries.len()), (Summary::default(), 0));
        assert!(asked.lock().unwrap().is_empty());
    }
}
