use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use super::exchange::{self, Imported, Upload};
use super::fetch::Remote;
use super::files::{self, Files, together};
use super::formats::Format;
use super::moysklad::MoySklad;
use super::rules::ShopRules;
use super::shape::Shape;
use super::{
    Completeness, Config, Context, Feed, Intake, IntakeError, Outcome, ReadReport, Reading,
    Receipt, Rows, Scope, Taking, pull, sql,
};
use crate::auth_failures::AuthFailures;
use crate::clock::Clock;
use crate::http::{self, ClientConfig, ClientError, causes};
use crate::legacy::client::{Client, HandlerError};
use crate::lifecycle::{Tasks, run_blocking};
use crate::stock::{Instant, ShopId, Sku};

/// How long the old handler may take over a question of the Market.
const HANDLER_MAY_TAKE: Duration = Duration::from_secs(8);

/// How long the question may wait in all, until what the handler said is in the book: what we
/// know already must not be late for what we do not.
pub const READ_THROUGH: Duration = Duration::from_secs(12);

/// How often MoySklad is read whole; in between it tells what has changed.
const WHOLE_EVERY: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// The SKUs that are known of a shop, from whatever side.
pub type KnownSkus = Arc<dyn Fn(ShopId) -> Vec<Sku> + Send + Sync>;

/// Why sources cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A server cannot be called.
    #[error("{about}: it cannot be called")]
    Client {
        /// Which source.
        about: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A handler cannot be asked.
    #[error("{about}: it cannot be asked")]
    Handler {
        /// Which source.
        about: String,
        /// Why.
        #[source]
        source: HandlerError,
    },
    /// What was stated cannot be kept.
    #[error("{about}: what its sources state cannot be kept")]
    Intake {
        /// Which shop.
        about: String,
        /// Why.
        #[source]
        source: Box<IntakeError>,
    },
}

/// A shop with what feeds it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which shop.
    pub shop: ShopId,
    /// Its name.
    pub name: String,
    /// Its sources, in the configuration's order.
    pub sources: Vec<Config>,
    /// What is made of what they say.
    pub rules: ShopRules,
}

/// All sources of all shops. Cheap to clone.
#[derive(Clone)]
pub struct Feeds(Arc<Inner>);

struct Inner {
    shops: Vec<Shop>,
    known: KnownSkus,
    clock: Clock,
}

struct Shop {
    id: ShopId,
    intake: Intake,
    sources: Vec<Source>,
}

struct Source {
    config: Config,
    // Old handlers only.
    handler: Option<Client>,
    nudge: Arc<Notify>,
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.shops.iter().map(|shop| shop.intake.shop()))
            .finish()
    }
}

impl Feeds {
    /// Opens what the sources have stated, and brings the book in line with it.
    ///
    /// Each shop has a directory of its name below `directory`. `outbound` is how servers are
    /// called; whose certificates are believed is found out source by source.
    ///
    /// # Errors
    /// A directory cannot be used, or somebody cannot be called at all.
    pub async fn open(
        directory: &Path,
        plans: Vec<Plan>,
        outbound: &ClientConfig,
        known: KnownSkus,
        context: &Context,
    ) -> Result<Self, FeedError> {
        let mut shops = Vec::new();
        for Plan {
            shop,
            name,
            sources,
            rules,
        } in plans
        {
            let takings = sources.iter().map(|source| source.taking.clone()).collect();
            let failed = |source| FeedError::Intake {
                about: name.clone(),
                source: Box::new(source),
            };
            let place = directory.join(&name);
            let opened = Intake::open(&place, (shop, &name), takings, rules, context.clone()).await;
            let intake = opened.map_err(failed)?;
            // A front door that is shut is knocked at again; what cannot be read is not.
            match intake.reckon().await {
                Ok(()) => {}
                Err(IntakeError::Ingest(error)) => {
                    warn!(
                        shop = name,
                        "what the sources of {name} have stated waits: {error}"
                    );
                }
                Err(error) => return Err(failed(error)),
            }
            let mut opened = Vec::new();
            for config in sources {
                let about = format!("{name}/{}", config.taking.name);
                let handler = handler(&config, outbound, &about)?;
                opened.push(Source {
                    config,
                    handler,
                    nudge: Arc::default(),
                });
            }
            shops.push(Shop {
                id: shop,
                intake,
                sources: opened,
            });
        }
        Ok(Self(Arc::new(Inner {
            shops,
            known,
            clock: context.clock,
        })))
    }

    /// The sources of each shop that has any, or had something handed over by hand.
    pub fn intakes(&self) -> impl Iterator<Item = (ShopId, &Intake)> {
        self.0.shops.iter().map(|shop| (shop.id, &shop.intake))
    }

    /// The sources of that shop.
    #[must_use]
    pub fn intake(&self, shop: ShopId) -> Option<&Intake> {
        self.shop(shop).map(|shop| &shop.intake)
    }

    fn shop(&self, shop: ShopId) -> Option<&Shop> {
        self.0.shops.iter().find(|known| known.id == shop)
    }

    /// The sources of a shop as they are configured.
    pub fn configs(&self, shop: ShopId) -> impl Iterator<Item = &Config> {
        self.shop(shop)
            .into_iter()
            .flat_map(|shop| shop.sources.iter().map(|it| &it.config))
    }

    /// Has a source looked at now.
    pub fn nudge(&self, shop: ShopId, source: usize) {
        if let Some(source) = self.shop(shop).and_then(|shop| shop.sources.get(source)) {
            source.nudge.notify_one();
        }
    }

    /// Starts looking at every source.
    ///
    /// # Errors
    /// A server cannot be called at all.
    pub fn start(&self, outbound: &ClientConfig, tasks: &Tasks) -> Result<(), FeedError> {
        for (at, shop) in self.0.shops.iter().enumerate() {
            for (index, source) in shop.sources.iter().enumerate() {
                let about = format!("{}/{}", shop.intake.shop(), source.config.taking.name);
                let reader = reader(source, outbound, &about)?;
                let round = Round {
                    feeds: self.clone(),
                    at,
                    index,
                    reader,
                };
                tasks.spawn("source", round.run(tasks.clone()));
            }
        }
        Ok(())
    }

    /// The doors by which 1C comes.
    pub fn router(&self, tasks: &Tasks, auth_failures: &AuthFailures) -> Router {
        let mut router = Router::new();
        for shop in &self.0.shops {
            let feeds = self.clone();
            let id = shop.id;
            let context = exchange::Context {
                deliver: Arc::new(move |upload: Upload| {
                    let feeds = feeds.clone();
                    Box::pin(async move { feeds.take_upload(id, upload).await })
                }),
                tasks: tasks.clone(),
                clock: self.0.clock,
                auth_failures: auth_failures.clone(),
            };
            let doors = shop
                .sources
                .iter()
                .enumerate()
                .filter_map(|(index, source)| {
                    let Feed::Exchange(door) = &source.config.feed else {
                        return None;
                    };
                    let name = &source.config.taking.name;
                    let spool = shop.intake.directory().join(format!("exchange-{name}"));
                    Some(door.open(index, name, spool))
                });
            router = router.merge(exchange::router(&context, doors.collect()));
        }
        router
    }

    /// Takes a file that 1C has sent.
    async fn take_upload(&self, shop: ShopId, upload: Upload) -> Result<Imported, String> {
        let Some(shop) = self.shop(shop) else {
            return Err("there is no such shop".to_owned());
        };
        let reading = &shop.sources[upload.source].config.reading;
        let now = Instant::from(self.0.clock.now());
        let (intake, name) = (&shop.intake, upload.name.clone());
        let is_numbered = name.contains(|c: char| c.is_ascii_digit());
        let delivered = intake.deliver(upload.source, now, true, async |rows: &mut Rows| {
            let file = std::fs::File::open(&upload.path).map_err(|e| e.to_string())?;
            let from = (reading, intake.directory());
            let format = Some(Format::CommerceMl);
            let endings = files::read_apart(name, file, format, from, rows).await?;
            // Of several files of one exchange none is all there is.
            let says = together(&endings);
            Ok(ReadReport::of_files(
                Completeness::Exchanged { says, is_numbered },
                endings,
            ))
        });
        match delivered.await {
            Ok(Receipt {
                outcome: Outcome::Held(doubt),
                ..
            }) => Err(format!(
                "{} is held, the stock stays as it was: {doubt}",
                upload.name
            )),
            Ok(Receipt {
                rows,
                rejected,
                suspicious,
                tally,
                ..
            }) => Ok(Imported {
                message: format!(
                    "{rows} rows taken, {} changed, {rejected} rejected, {suspicious} suspicious",
                    tally.new + tally.changed
                ),
            }),
            Err(error) => Err(causes(&error)),
        }
    }

    /// Asks a shop's old handler what the Market asks us, as long as nothing whole has come from
    /// it yet. `None` if nobody is to be asked.
    #[must_use]
    pub fn read_through(
        &self,
        shop: ShopId,
        skus: Vec<Sku>,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let known = self.shop(shop)?;
        let index = known
            .sources
            .iter()
            .position(|source| source.handler.is_some())?;
        if known.intake.is_filled(index) {
            return None;
        }
        let feeds = self.clone();
        Some(async move { feeds.ask_now(shop, index, &skus).await })
    }

    async fn ask_now(&self, shop: ShopId, index: usize, skus: &[Sku]) {
        let Some(shop) = self.shop(shop) else { return };
        let source = &shop.sources[index];
        let Some(client) = &source.handler else {
            return;
        };
        let now = self.0.clock.now();
        let reading = &source.config.reading;
        let asked = pull::ask_one(client, skus, reading, now, HANDLER_MAY_TAKE).await;
        if let Some(error) = &asked.failed {
            shop.intake.note_failure(index, &causes(error));
        }
        if asked.entries.is_empty() {
            return;
        }
        let now = Instant::from(self.0.clock.now());
        let delivered = shop
            .intake
            .deliver(index, now, true, async |rows: &mut Rows| {
                for entry in asked.entries {
                    rows.put(entry).await.map_err(|error| error.to_string())?;
                }
                Ok(Completeness::Sure(Scope::Delta))
            });
        // What came of it is noted with the source.
        let _told = delivered.await;
    }

    /// Takes a file that somebody hands over by hand, as that source of the shop would.
    ///
    /// # Errors
    /// It cannot be read or taken; nothing has changed.
    pub async fn import(&self, import: Import) -> Result<Receipt, IntakeError> {
        let Import {
            shop,
            source,
            file,
            name,
            format,
            scope,
            is_meant,
        } = import;
        let known = self
            .shop(shop)
            .ok_or_else(|| IntakeError::NothingHeld(name.clone()))?;
        let config = &known.sources[source].config;
        if matches!(config.feed, Feed::Import) && !known.intake.takes_latest() {
            let text = "this shop combines its sources: say as which of them it is to be taken";
            return Err(IntakeError::Unfit(text.to_owned()));
        }
        let now = Instant::from(self.0.clock.now());
        let from = (&config.reading, known.intake.directory());
        let read = async |rows: &mut Rows| {
            let endings = files::read_apart(name, file, format, from, rows).await?;
            let is_complete = scope.map_or_else(|| together(&endings).into(), Completeness::Sure);
            Ok(ReadReport::of_files(is_complete, endings))
        };
        known.intake.deliver(source, now, is_meant, read).await
    }
}

/// A file that is handed over by hand.
#[derive(Debug)]
pub struct Import {
    /// For which shop.
    pub shop: ShopId,
    /// As which of its sources.
    pub source: usize,
    /// The file itself.
    pub file: std::fs::File,
    /// Its name, for people.
    pub name: String,
    /// What it is; found out if not said.
    pub format: Option<Format>,
    /// Whether it is complete, if that is said.
    pub scope: Option<Scope>,
    /// It is to be taken, and not only looked at.
    pub is_meant: bool,
}

pub(super) fn handler(
    config: &Config,
    outbound: &ClientConfig,
    about: &str,
) -> Result<Option<Client>, FeedError> {
    let Feed::OldHandler { handler, .. } = &config.feed else {
        return Ok(None);
    };
    let about = || about.to_owned();
    let wanted = ClientConfig {
        extra_ca_file: outbound.extra_ca_file.clone(),
        ..handler.client_config()
    };
    let client = http::client(&wanted).map_err(|source| FeedError::Client {
        about: about(),
        source,
    })?;
    let client = Client::new(client, handler.clone());
    let client = client.map_err(|source| FeedError::Handler {
        about: about(),
        source,
    })?;
    Ok(Some(client))
}

/// Who reads a source, turn by turn.
enum Reader {
    Files(Files),
    Remote(Box<Remote>),
    OldHandler(Client, Vec<Sku>),
    MoySklad(Box<MoySklad>),
    Sql(sql::Config),
    /// It comes by itself.
    Nobody,
}

fn reader(source: &Source, outbound: &ClientConfig, about: &str) -> Result<Reader, FeedError> {
    let config = &source.config;
    let call = |wanted: ClientConfig| {
        let wanted = ClientConfig {
            extra_ca_file: outbound.extra_ca_file.clone(),
            ..wanted
        };
        let about = about.to_owned();
        http::client(&wanted).map_err(|source| FeedError::Client { about, source })
    };
    Ok(match &config.feed {
        Feed::Files(files) => Reader::Files(Files::new(files.clone(), config.reading.clone())),
        Feed::Remote(remote) => {
            let clients = remote.clients(call)?;
            let remote = Remote::new(remote.clone(), config.reading.clone(), clients);
            Reader::Remote(Box::new(remote))
        }
        Feed::OldHandler { skus, .. } => match &source.handler {
            Some(client) => Reader::OldHandler(client.clone(), skus.clone()),
            None => Reader::Nobody,
        },
        Feed::MoySklad(moysklad) => {
            let client = call(moysklad.client_config())?;
            Reader::MoySklad(Box::new(MoySklad::new(client, moysklad.clone())))
        }
        Feed::Sql(sql) => Reader::Sql(sql.clone()),
        Feed::Exchange(_) | Feed::Import => Reader::Nobody,
    })
}

/// One source, looked at again and again.
struct Round {
    feeds: Feeds,
    at: usize,
    index: usize,
    reader: Reader,
}

impl Round {
    async fn run(mut self, tasks: Tasks) {
        loop {
            let (every, nudge) = {
                let source = self.source();
                (source.config.every, Arc::clone(&source.nudge))
            };
            tokio::select! {
                // What is under way is not whole yet: it is begun anew at the next start.
                () = tasks.stopping() => return,
                () = self.turn() => {}
            }
            tokio::select! {
                () = tasks.stopping() => return,
                () = sleep(every) => {}
                () = nudge.notified() => {}
            }
        }
    }

    fn shop(&self) -> &Shop {
        &self.feeds.0.shops[self.at]
    }

    fn source(&self) -> &Source {
        &self.shop().sources[self.index]
    }

    async fn turn(&mut self) {
        let intake = self.shop().intake.clone();
        if intake.is_behind(self.index)
            && let Err(error) = intake.reckon().await
        {
            intake.note_failure(self.index, &causes(&error));
            return;
        }
        // What became of it stands with the source, and in the log.
        match self.read(&intake).await {
            Ok(()) | Err(Told::Already) => {}
            Err(Told::Now(text)) => intake.note_failure(self.index, &text),
        }
    }

    async fn read(&mut self, intake: &Intake) -> Result<(), Told> {
        let index = self.index;
        let reading = self.source().config.reading.clone();
        let shop = self.shop().id;
        let known = Arc::clone(&self.feeds.0.known);
        let now = self.feeds.0.clock.now();
        match &mut self.reader {
            Reader::Nobody => Ok(()),
            Reader::Files(files) => {
                files
                    .look(intake, index)
                    .await
                    .map(drop)
                    .map_err(Told::now)?;
                intake.note_reached(index);
                Ok(())
            }
            Reader::Remote(remote) => remote
                .look(intake, index)
                .await
                .map(drop)
                .map_err(Told::now),
            Reader::OldHandler(client, more) => {
                let more = more.clone();
                // A million SKUs take a moment to gather.
                let skus = run_blocking(move || {
                    let mut skus = known(shop);
                    skus.extend(more);
                    skus.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
                    skus.dedup();
                    skus
                })
                .await;
                if skus.is_empty() {
                    info!(
                        shop = intake.shop(),
                        "no SKU is known to ask the old handler for"
                    );
                    return Ok(());
                }
                let delivered =
                    intake.deliver(index, Instant::from(now), true, async |rows: &mut Rows| {
                        let pulled = pull::pull(client, &skus, &reading, now, rows).await;
                        let pulled = pulled.map_err(|e| causes(&e))?;
                        if pulled.ahead > 0 {
                            warn!(
                                shop = intake.shop(),
                                skus = pulled.ahead,
                                "the old handler dates {} skus ahead of our clock: they are taken \
                                 as of now, check its clock and time zone",
                                pulled.ahead
                            );
                        }
                        Ok(Completeness::Sure(Scope::Snapshot))
                    });
                delivered.await.map(drop).map_err(Told::already)
            }
            Reader::MoySklad(moysklad) => {
                read_moysklad(moysklad, intake, index, &reading, now).await
            }
            Reader::Sql(sql) => read_sql(sql, intake, index, &reading, now).await,
        }
    }
}

/// Whether a failure is known where it should be.
enum Told {
    Already,
    Now(String),
}

impl Told {
    fn already(_: IntakeError) -> Self {
        Self::Already
    }

    /// Of a look that may have failed before anything was delivered.
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    fn now(error: IntakeError) -> Self {
        Self::Now(causes(&error))
    }
}

/// What is remembered of MoySklad, over a restart: when it was last read whole, and when at all.
async fn read_moysklad(
    moysklad: &mut MoySklad,
    intake: &Intake,
    index: usize,
    reading: &Reading,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), Told> {
    let noted = intake.reader(index).await.map_err(Told::now)?;
    let mut times = noted.split_whitespace().map(|text| text.parse().ok());
    let (whole, last): (Option<chrono::DateTime<chrono::Utc>>, Option<_>) =
        (times.next().flatten(), times.next().flatten());
    let since = last.filter(|_| whole.is_some_and(|whole| now - whole < WHOLE_EVERY));
    let delivered = intake.deliver(index, Instant::from(now), true, async |rows: &mut Rows| {
        let read = match since {
            Some(since) => moysklad.changes(since, now, reading, rows).await,
            None => moysklad.full(reading, rows).await,
        };
        let summary = read.map_err(|error| causes(&error))?;
        let scope = if since.is_some() {
            Scope::Delta
        } else {
            Scope::Snapshot
        };
        let report = ReadReport::from(Completeness::Sure(scope));
        Ok(ReadReport {
            notices: summary.notices,
            ..report
        })
    });
    let receipt = delivered.await.map_err(Told::already)?;
    // What is held was not taken: it is read anew until somebody has decided.
    if receipt.outcome != Outcome::Taken {
        return Ok(());
    }
    moysklad.taken();
    let whole = if since.is_some() {
        whole.unwrap_or(now)
    } else {
        now
    };
    let noted = format!("{} {}", whole.to_rfc3339(), now.to_rfc3339());
    intake.remember(index, &noted).await.map_err(Told::now)
}

/// What is remembered of a database is the watermark.
async fn read_sql(
    sql: &sql::Config,
    intake: &Intake,
    index: usize,
    reading: &Reading,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), Told> {
    let noted = intake.reader(index).await.map_err(Told::now)?;
    let since = Some(noted.as_str()).filter(|noted| !noted.is_empty());
    let mut watermark = None;
    let delivered = intake.deliver(index, Instant::from(now), true, async |rows: &mut Rows| {
        let read = sql::read(sql, reading, since, rows).await;
        let outcome = read.map_err(|error| causes(&error))?;
        watermark = outcome.watermark;
        let report = ReadReport::from(Completeness::Sure(outcome.scope));
        let shapes = outcome.shape.iter().map(Shape::from).collect();
        Ok(ReadReport { shapes, ..report })
    });
    let receipt = delivered.await.map_err(Told::already)?;
    // What is held was not taken: it is asked for again, until somebody has decided.
    if let (Some(watermark), Outcome::Taken) = (watermark, receipt.outcome) {
        intake
            .remember(index, &watermark)
            .await
            .map_err(Told::now)?;
    }
    Ok(())
}

/// The source by which files are taken that are handed over by hand.
#[must_use]
pub fn import_source(taking: Taking) -> Config {
    Config {
        taking,
        reading: Reading::default(),
        every: Duration::from_secs(3_600),
        feed: Feed::Import,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_before_the_listener_gives_up() {
        assert!(HANDLER_MAY_TAKE < READ_THROUGH);
        assert!(READ_THROUGH < http::Limits::default().handler);
    }
}
