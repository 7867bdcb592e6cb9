//! Tests of the whole service and rules for the tree. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod harness;
#[path = "../process/mod.rs"]
mod process;
mod wire;

mod activity;
mod auth_failures;
mod contract;
mod convergence;
mod dashboards;
mod dependency_rules;
mod docs;
mod docs_commands;
mod event_log;
mod instance_guard;
mod notify;
mod operator_access;
mod operator_login;
mod ops;
mod packaging;
mod partner_api;
mod plain_words;
mod program;
mod push_api;
mod rehearse;
mod reload;
mod replay;
mod selftest;
mod setup;
mod sources;
mod sync;
mod web_ready;
mod web_shop;
mod web_sources;
