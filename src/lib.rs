//! Carries a seller's stock across the end of Yandex Market's push API.
//!
//! # Bird's eye
//!
//! ```text
//!                 the seller                                  Yandex Market
//!                     │ …/offers/stocks                       POST {base}/stocks │
//!                     ▼                                                          ▼
//!  http::server ─► partner::server          http::server ─► legacy::server ─── answers
//!                     │                                          ▲
//!  sources ──────────►│                                          │ from memory alone
//!  files, 1C, SQL …   ▼                                          │
//!                  ingest ──► store (disk, first) ──► stock::StockBook (memory, then)
//!                     │                                          │
//!                     ╰─ nudge ─► migrator ◄── compares ─────────╯
//!                                    │   ledger: what the Market has acknowledged
//!                                    ▼
//!                            partner::client ──► PUT …/offers/stocks ──► Yandex Market
//!                                    ▲                                       │
//!                                    ╰──── read back, page by page ◄─────────╯
//! ```
//!
//! Before the push API ends the Market asks and is answered; the migrator forwards the same
//! stock to the new API all the while. After it ends, only the lower half is left, and nothing
//! has to be changed.
//!
//! # Words
//!
//! A **shop** is one stock list of the seller: the warehouses that share it, the path and tokens
//! under which the Market asks, the keys that feed it, and the one address it is forwarded to: a
//! campaign, or a business with its warehouses. The **book** is all shops' stock in memory. The
//! **ledger** is what the Market has acknowledged, SKU by SKU. A SKU is **dirty** while book and
//! ledger differ. What the seller says of a SKU, new or not, is an **assertion**; when it was last
//! asserted, and when the Market last asked for it, are its **marks**. What the Market showed of
//! it when its copy was last read back is a **sighting**. A **source** is whatever states stock
//! besides the drop-in; what it states at a time is a **delivery**, all there is (a
//! **snapshot**) or some of it (a **delta**).
//!
//! # Map
//!
//! The modules below stand in reading order, the ground floor first. Which room may name which
//! is held by a test, `tests/it/tidy.rs`.
//!
//! # Invariants, stated as absences
//!
//! 1. [`stock`] does no I/O and cannot fail except in parsing.
//! 2. Nothing but [`ingest`] writes the book, and never before the store has it.
//! 3. No room but [`config`] reads the environment, none but [`clock`] the wall clock, and none
//!    keeps anything in a static.
//! 4. No task is spawned outside [`lifecycle`].
//! 5. The [`migrator`] keeps no queue of payloads: what is to be sent is what book and ledger
//!    disagree on, so a crash or a lost nudge costs time, never data.
//! 6. The path of `POST {base}/stocks` waits for nothing: no disk, no writer's lock held over
//!    work, no other server. The one exception is a shop with an old handler that has not told
//!    everything yet: until then that one is asked.
//! 7. Nothing invents a zero: 0 is said only if the seller said 0, the seller's own rules make
//!    it so, a snapshot taken as complete has a SKU no more, or the operator chose
//!    `unknown_sku = "zero"`.
//! 8. No delivery of [`sources`] is taken by halves: it is kept whole or not at all, and what is
//!    kept is in the book within seconds, at the latest before the first question after a start.

pub mod stock;

pub mod clock;
pub mod lifecycle;
pub mod telemetry;

pub mod http;
pub mod store;

pub mod auth_failures;
pub mod history;
pub mod ingest;
pub mod partner_api;
pub mod push_api;

pub mod migrator;
pub mod sources;

pub mod ops;

pub mod app;
pub mod config;

pub mod market_sim;

pub mod cli;
