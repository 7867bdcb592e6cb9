//! Stock service that carries a seller across the end of Yandex Market's push API.
//!
//! # Purpose
//!
//! Until the push API ends, the Market requests the stock of each shop with
//! `POST {base}/stocks`, and this service answers from memory. The [`migrator`] forwards the same
//! stock to the new partner API all the while. After the push API has ended, only the forwarding
//! is left; no setting has to be changed on that day.
//!
//! # Data flow
//!
//! ```text
//!                 the seller                                  Yandex Market
//!                     │ …/offers/stocks                       POST {base}/stocks │
//!                     ▼                                                          ▼
//!  strict_http ─► partner_api            strict_http ─► push_api ──────────── responses
//!                     │                                          ▲
//!  sources ──────────►│                                          │ from memory alone
//!  files, 1C, SQL …   ▼                                          │
//!                  ingest ──► store (disk, first) ──► stock::StockBook (memory, then)
//!                     │                                          │
//!                     ╰─ wakes ─► migrator ◄── compares ─────────╯
//!                                    │   ledger: what the Market has acknowledged
//!                                    ▼
//!                       market_api (client) ───► PUT …/offers/stocks ──► Yandex Market
//!                                    ▲                                       │
//!                                    ╰──── read-back, page by page ◄─────────╯
//! ```
//!
//! # Terms
//!
//! - **Shop**: one stock list of the seller. It has the warehouses that share the list, the path
//!   and tokens of the Market's requests, the keys of the seller's program, and one target: a
//!   campaign, or a business with its warehouses.
//! - **Book**: the stock of all shops in memory.
//! - **Ledger**: the stock that the Market has acknowledged, per SKU. A SKU is **dirty** while
//!   book and ledger differ.
//! - **Activity**: per SKU, when the seller last stated its stock and when the Market last
//!   requested it.
//! - **Observation**: what the Market showed of a SKU at the last read-back.
//! - **Source**: any supplier of stock except the partner API. One **delivery** of a source is
//!   either its complete list (a **snapshot**) or some of its rows (a **delta**).
//!
//! # Crates and modules, in reading order
//!
//! | crate or module | job |
//! |---|---|
//! | crate [`stock`] | domain types and the book; no I/O |
//! | crate [`lifecycle`] | tasks: start, crash detection, shutdown; the only reader of the wall clock |
//! | crate [`market_api`] | push API and partner API: wire formats and clients |
//! | crate [`stock_import`] | readers of files, rules of the sources, guard; no runtime |
//! | crate [`strict_http`] | HTTP/1.1 server with timeouts and limits; outbound client |
//! | crate [`connectors`] | files, downloads, 1C, MoySklad, SQL, old handler: from a place to rows |
//! | crate [`market_sim`] | stateful Market simulator for rehearsals and tests |
//! | [`telemetry`] | logging and alarms |
//! | [`i18n`] | languages of the texts for operators, texts of the alarms |
//! | [`store`] | persistence in one SQLite file, or in a PostgreSQL database |
//! | [`replicas`] | several processes on one database: following, permit to answer, leases |
//! | [`auth_failures`] | delay, log and alarm for wrong credentials |
//! | [`history`] | recent events per SKU, for the operator |
//! | [`operator_database`] | SQLite files that the service can work without |
//! | [`event_log`] | durable log of what happened, for the operator |
//! | [`chart_history`] | durable history of numbers, for the operator's charts |
//! | [`ingest`] | the only writer of the book |
//! | [`partner_api`] | partner API: server for the seller |
//! | [`push_api`] | push API: server for the Market |
//! | [`migrator`] | sends dirty SKUs to the Market and reads the Market's copy back |
//! | [`sources`] | polls of the connectors, statements of the sources, from rows to stock updates |
//! | [`notify`] | sends alarms to people: webhook, Telegram, email |
//! | [`ops`] | operator's listener: health, status, metrics, explanations |
//! | [`web`] | pages for the operator on the operator's listener |
//! | [`app`] | composition root: builds and runs the service, reloads the configuration |
//! | [`config`] | settings from file and environment |
//! | `setup` | commands that prepare a shop: discover, doctor, rehearse |
//! | `command` | what all commands share: printing, progress, client of a running service |
//! | [`cli`] | the other commands, one file each |
//!
//! A test, `tests/it/dependency_rules.rs`, lists the dependencies that each module may have.
//!
//! # Invariants
//!
//! 1. [`stock`] does no I/O and fails only in parsing.
//! 2. Only [`ingest`] writes the book, and only after the store has persisted the change.
//! 3. Only [`config`] reads the environment and only [`lifecycle`] the wall clock. No module keeps
//!    state in a static.
//! 4. Every task is spawned through [`lifecycle`].
//! 5. The [`migrator`] keeps no queue of payloads. Work to send is the difference between book and
//!    ledger, so a crash or a lost wake-up costs time, never data.
//! 6. `POST {base}/stocks` waits for no disk, for no other server, and for no lock that a writer
//!    holds during work. One exception: until the old handler of a shop has delivered a full
//!    snapshot, unknown SKUs are requested from it.
//! 7. No zero is invented. A count is 0 only if the seller stated 0, the seller's rules result in
//!    0, an accepted snapshot lacks the SKU, or the operator set `unknown_sku = "zero"`.
//! 8. A delivery of [`sources`] is persisted completely or not at all. The book has it within
//!    seconds, at the latest before the first request after a restart.

// Tests outside the crate name it, and some of their files are part of its own tests, too.
#[cfg(test)]
extern crate self as stockbridge;

pub mod telemetry;

pub mod store;

pub mod replicas;

pub mod i18n;

pub mod operator_database;

pub mod auth_failures;
pub mod chart_history;
pub mod event_log;
pub mod history;
pub mod ingest;
pub mod partner_api;
pub mod push_api;

pub mod migrator;
pub mod sources;

pub mod notify;
pub mod ops;
pub mod web;

pub mod app;
pub mod config;

pub mod cli;
mod command;
mod setup;
