//! Instruction counts of the three things the service does most, compared with stored ones.
//!
//! `benches/instructions/run` builds and runs it; docs/figures.md describes it. The modules of the
//! service are compiled into this program instead of being linked as a library, because a program
//! has machine code only for what it calls: that takes a third of the time of an optimised library.
#![expect(dead_code, reason = "of the service's modules only a part is called")]

// The names by which the service's modules and the benchmarks call them.
extern crate self as stockbridge;

#[path = "../../../src/auth_failures/mod.rs"]
pub mod auth_failures;
#[path = "../../../src/event_log/mod.rs"]
pub mod event_log;
#[path = "../../../src/ingest/mod.rs"]
pub mod ingest;
#[path = "../../../src/operator_database.rs"]
pub mod operator_database;
#[path = "../../../src/partner_api/mod.rs"]
pub mod partner_api;
#[path = "../../../src/push_api/mod.rs"]
pub mod push_api;
#[path = "../../../src/replicas/mod.rs"]
pub mod replicas;
#[path = "../../../src/sources/mod.rs"]
pub mod sources;
#[path = "../../../src/store/mod.rs"]
pub mod store;
#[path = "../../../src/telemetry/mod.rs"]
pub mod telemetry;

#[path = "../../yardstick/figure.rs"]
mod figure;
#[path = "../../yardstick/goods.rs"]
mod goods;
#[path = "../../yardstick/import_service.rs"]
mod import_service;
#[path = "../../yardstick/in_process.rs"]
mod in_process;
#[path = "../../yardstick/market.rs"]
mod market;
#[path = "../../yardstick/rows.rs"]
mod rows;
#[path = "../../yardstick/stock_service.rs"]
mod stock_service;
#[path = "../../yardstick/valgrind.rs"]
mod valgrind;

mod baseline;
mod workload;

use std::process::ExitCode;

use baseline::Baseline;
use figure::argument;
use workload::Workload;

fn main() -> anyhow::Result<ExitCode> {
    if let Some(name) = argument("--in-process") {
        let size = argument("--size").map_or(Ok(0), |n| n.parse())?;
        workload::run(&name, size)?;
        return Ok(ExitCode::SUCCESS);
    }
    let counted = Baseline {
        compiler: argument("--compiler").unwrap_or_default(),
        instructions: workload::ALL
            .iter()
            .map(|workload: &Workload| {
                // Rounded, so that a stored change can be read.
                let count = (workload.count()? * 10.0).round() / 10.0;
                Ok((workload.name.to_owned(), count))
            })
            .collect::<anyhow::Result<_>>()?,
    };
    if std::env::args().any(|argument| argument == "--store") {
        counted.store()?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if Baseline::read()?.accepts(&counted) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
