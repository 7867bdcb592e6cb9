use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::{House, Ops, starting};
use crate::http::{Refusal, causes};
use crate::sources::formats::Format;
use crate::sources::{Fault, Import, Intake, IntakeError, Outcome, RULES, Receipt, Scope, Tally};
use crate::stock::ShopId;

/// Rows that are not applied, as far as they are shown; all of them are in the CSV.
const SHOWN: u32 = 20;

/// Rows that are not applied, as far as they are in the CSV.
const LISTED: u32 = 100_000;

/// The most that may be handed over by hand, in bytes.
const MAX_IMPORT: u64 = 4 * 1024 * 1024 * 1024;

/// What is asked and told about sources.
pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/sources", get(list))
        .route("/sources/rejected.csv", get(rejected))
        .route("/sources/read", post(read))
        .route("/accept", post(accept))
        .route("/import", post(import))
}

/// One source, as the operator sees it.
#[derive(Serialize)]
struct Shown {
    shop: String,
    source: String,
    kind: &'static str,
    /// `waiting` for its first delivery, `reading`, `ok`, `held`, `failed`, or `incomplete`: it was
    /// taken, and SKUs that it lacks keep their stock although `absent` is `zero`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_so_far: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The first rows that are not applied, rejected and suspicious.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<Row>,
}

/// A row somebody should look at.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    /// Where it stands.
    pub line: u64,
    /// Its beginning.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
    /// `rejected`, or `suspicious` where it can be read in two ways.
    #[serde(default)]
    pub kind: String,
}

impl From<&Fault> for Row {
    fn from(fault: &Fault) -> Self {
        Self {
            line: fault.line,
            text: fault.text.clone(),
            reason: fault.reason.clone(),
            kind: kind(fault).to_owned(),
        }
    }
}

fn kind(fault: &Fault) -> &'static str {
    if fault.is_suspicious {
        "suspicious"
    } else {
        "rejected"
    }
}

/// What became of a delivery, on the wire.
#[derive(Debug, Deserialize, Serialize)]
pub struct Told {
    /// `taken`, `looked` or `held`.
    pub outcome: String,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub doubt: Option<String>,
    /// `snapshot` or `delta`.
    pub scope: String,
    /// As of when it was stated.
    pub stated_at: DateTime<Utc>,
    /// Rows that could be taken.
    pub rows: u64,
    /// Rows that break a rule. They are not applied.
    pub rejected: u64,
    /// Rows that can be read in two ways. They are not applied either.
    pub suspicious: u64,
    /// SKUs heard of for the first time.
    pub new: u64,
    /// SKUs whose stock changes, or would.
    pub changed: u64,
    /// SKUs whose stock is as it was.
    pub unchanged: u64,
    /// SKUs of which something newer is known.
    pub outdated: u64,
    /// Those of the changed that turn from some to none.
    pub zeroed: u64,
    /// Why SKUs that the snapshot lacks keep their stock although `absent` is `zero`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence_untold: Option<String>,
    /// What the operator should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// The first of the rows that are not applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_rejected: Vec<Row>,
}

impl From<&Receipt> for Told {
    fn from(receipt: &Receipt) -> Self {
        let Tally {
            new,
            changed,
            unchanged,
            outdated,
            zeroed,
            in_stock: _,
        } = receipt.tally;
        let (outcome, doubt) = match &receipt.outcome {
            Outcome::Taken => ("taken", None),
            Outcome::Looked => ("looked", None),
            Outcome::Held(doubt) => ("held", Some(doubt.clone())),
        };
        Self {
            outcome: outcome.to_owned(),
            doubt,
            scope: receipt.scope.name().to_owned(),
            stated_at: receipt.at.to_utc(),
            rows: receipt.rows,
            rejected: receipt.rejected,
            suspicious: receipt.suspicious,
            new,
            changed,
            unchanged,
            outdated,
            zeroed,
            absence_untold: receipt.absence_untold.clone(),
            notices: receipt.notices.clone(),
            took_ms: receipt.took_ms,
            first_rejected: receipt.first_rejected.iter().map(Row::from).collect(),
        }
    }
}

async fn list(State(ops): State<Ops>) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    let mut shown = Vec::new();
    for (shop, intake) in house.feeds.intakes() {
        for (index, config) in house.feeds.configs(shop).enumerate() {
            shown.push(show(intake, index, config.feed.kind()).await);
        }
    }
    // Nobody asks about a door that nobody has used.
    shown.retain(|source| source.kind != "import" || source.state != "waiting");
    Json(shown).into_response()
}

async fn show(intake: &Intake, index: usize, kind: &'static str) -> Shown {
    let standing = intake.standing(index);
    let state = match &standing {
        it if it.reading_since.is_some() => "reading",
        it if it.failure.is_some() => "failed",
        it if !it.held.is_empty() => "held",
        it if it
            .last
            .as_ref()
            .is_some_and(|last| last.absence_untold.is_some()) =>
        {
            "incomplete"
        }
        it if it.last.is_some() => "ok",
        _ => "waiting",
    };
    // What cannot be read is told by the failure, and by the log.
    let rejected = intake.rejected(index, SHOWN).await.unwrap_or_default();
    Shown {
        shop: intake.shop().to_owned(),
        source: intake.taking(index).name.clone(),
        kind,
        state,
        rows_so_far: standing.reading_since.map(|_| standing.read_rows),
        last: standing.last.as_ref().map(Told::from),
        last_at: standing.last_at,
        held: standing.held.last().map(|held| held.doubt.clone()),
        failure: standing
            .failure
            .as_ref()
            .map(|(at, text)| format!("{at}: {text}")),
        rejected: rejected.iter().map(Row::from).collect(),
    }
}

/// Which source an operator means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    shop: Option<String>,
    source: Option<String>,
}

impl House {
    /// The source that is meant: the shop may be left out where only one has such a source.
    fn source(&self, which: &Which) -> Result<(ShopId, &Intake, usize), Refusal> {
        let refuse = |message: String| Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message);
        if let Some(shop) = &which.shop
            && !self
                .feeds
                .intakes()
                .any(|(_, intake)| intake.shop() == shop)
        {
            let known: Vec<&str> = self
                .feeds
                .intakes()
                .map(|(_, intake)| intake.shop())
                .collect();
            return Err(refuse(format!(
                "there is no shop '{shop}': there are {}",
                known.join(", ")
            )));
        }
        let name = which.source.as_deref().unwrap_or_default();
        let is_meant = |intake: &Intake| which.shop.as_deref().is_none_or(|it| it == intake.shop());
        let mut found = self
            .feeds
            .intakes()
            .filter(|(_, intake)| is_meant(intake))
            .filter_map(|(shop, intake)| Some((shop, intake, intake.find(name)?)));
        match (found.next(), found.next()) {
            (Some(source), None) => Ok(source),
            (Some(_), Some(_)) => Err(refuse(format!(
                "several shops have a source '{name}': say which with shop"
            ))),
            (None, _) => {
                let known: Vec<String> = self
                    .feeds
                    .intakes()
                    .flat_map(|(_, intake)| {
                        intake
                            .sources()
                            .map(|source| format!("{}/{source}", intake.shop()))
                    })
                    .collect();
                Err(refuse(format!(
                    "there is no source '{name}': there are {}",
                    known.join(", ")
                )))
            }
        }
    }
}

/// The rows of a source's last delivery that are not applied.
async fn rejected(State(ops): State<Ops>, Query(which): Query<Which>) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    let (_, intake, index) = match house.source(&which) {
        Ok(found) => found,
        Err(refusal) => return refusal.into_response(),
    };
    let rows = match intake.rejected(index, LISTED).await {
        Ok(rows) => rows,
        Err(error) => return failed(&error),
    };
    let mut csv = csv::WriterBuilder::new()
        .delimiter(b';')
        .from_writer(Vec::new());
    // In memory, and of texts: it cannot fail.
    let _infallible = csv.write_record(["line", "kind", "row", "reason"]);
    for row in rows {
        let line = row.line.to_string();
        let _infallible = csv.write_record([&line, kind(&row), &row.text, &row.reason]);
    }
    let body = csv.into_inner().unwrap_or_default();
    let name = format!(
        "attachment; filename=\"{}.rejected.csv\"",
        intake.taking(index).name
    );
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, name),
    ];
    (headers, body).into_response()
}

/// Has a source looked at now.
async fn read(State(ops): State<Ops>, Query(which): Query<Which>) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    match house.source(&which) {
        Ok((shop, _, index)) => {
            house.feeds.nudge(shop, index);
            StatusCode::ACCEPTED.into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets through what is held of a source, or of the rules.
async fn accept(State(ops): State<Ops>, Query(which): Query<Which>) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    if which.source.as_deref() == Some(RULES) {
        return accept_rules(house, &which).await;
    }
    let (_, intake, index) = match house.source(&which) {
        Ok(found) => found,
        Err(refusal) => return refusal.into_response(),
    };
    let name = intake.taking(index).name.clone();
    match intake.accept(&name).await {
        Ok(receipt) => Json(Told::from(&receipt)).into_response(),
        Err(error) => failed(&error),
    }
}

async fn accept_rules(house: &House, which: &Which) -> Response {
    let chosen = house.feeds.intakes().filter(|(_, intake)| {
        which
            .shop
            .as_deref()
            .is_none_or(|shop| shop == intake.shop())
    });
    let mut accepted = Vec::new();
    for (_, intake) in chosen {
        match intake.accept_rules().await {
            Ok(()) => accepted.push(intake.shop().to_owned()),
            Err(IntakeError::NothingHeld(_)) => {}
            Err(error) => return failed(&error),
        }
    }
    if accepted.is_empty() {
        return failed(&IntakeError::NothingHeld(RULES.to_owned()));
    }
    Json(accepted).into_response()
}

/// How a file is handed over by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    shop: String,
    source: Option<String>,
    name: Option<String>,
    format: Option<String>,
    scope: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// Takes a file that is handed over by hand.
async fn import(State(ops): State<Ops>, Query(how): Query<How>, body: Body) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    match import_inner(house, how, body).await {
        Ok(receipt) => Json(Told::from(&receipt)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn import_inner(house: &House, how: How, body: Body) -> Result<Receipt, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    let source = how.source.unwrap_or_else(|| "import".to_owned());
    let which = Which {
        shop: Some(how.shop),
        source: Some(source),
    };
    let (shop, intake, index) = house.source(&which)?;
    let format = how.format.map(|name| {
        let rule = "it must be csv, sheet, yml, commerceml or json";
        Format::from_name(&name).ok_or_else(|| bad(format!("format is '{name}', {rule}")))
    });
    let scope = how.scope.map(|name| match name.as_str() {
        "snapshot" => Ok(Scope::Snapshot),
        "delta" => Ok(Scope::Delta),
        _ => Err(bad(format!(
            "scope is '{name}', it must be snapshot or delta"
        ))),
    });
    let (format, scope) = (format.transpose()?, scope.transpose()?);
    let file = save(body, intake.directory()).await.map_err(bad)?;
    let name = how.name.unwrap_or_else(|| "import".to_owned());
    let import = Import {
        shop,
        source: index,
        file,
        name,
        format,
        scope,
        is_meant: !how.dry_run,
    };
    house
        .feeds
        .import(import)
        .await
        .map_err(|error| refusal(&error))
}

/// Puts a request's body on disk.
async fn save(mut body: Body, directory: &Path) -> Result<File, String> {
    let unwritable = |error: std::io::Error| format!("the file cannot be kept: {error}");
    let mut file = tempfile::tempfile_in(directory).map_err(unwritable)?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the file did not arrive: {error}"))?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        length += piece.len() as u64;
        if length > MAX_IMPORT {
            return Err(format!("the file is longer than {MAX_IMPORT} bytes"));
        }
        // Some kilobytes, which the system takes into its memory.
        file.write_all(piece).map_err(unwritable)?;
    }
    file.rewind().map_err(unwritable)?;
    Ok(file)
}

fn failed(error: &IntakeError) -> Response {
    refusal(error).into_response()
}

fn refusal(error: &IntakeError) -> Refusal {
    let (status, code) = match error {
        IntakeError::Unread(_) | IntakeError::Unfit(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "CANNOT_TAKE")
        }
        IntakeError::NothingHeld(_) => (StatusCode::NOT_FOUND, "NOTHING_HELD"),
        IntakeError::Stated(_) | IntakeError::Staging(_) | IntakeError::Ingest(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP")
        }
    };
    Refusal::new(status, code, causes(error))
}
