//! Fuzzing of everything that reads bytes from outside: sellers' files, requests, responses.
//!
//! `fuzz/run SECONDS` builds this program, creates seed inputs from `fixtures`, and runs each target
//! for that time. `FUZZ_TARGET` selects the target. A run ends at a panic, a failed assertion, an
//! arithmetic overflow, a hang, or an allocation beyond [`MAX_BYTES`]. The input is kept in
//! `fuzz/artifacts` and becomes a test beside the reader.
#![no_main]

mod files;
mod requests;
mod responses;
mod values;

use std::alloc::System;
use std::sync::OnceLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;

/// Most allocated bytes, without those of the fuzzer itself in C++. Inputs have at most 8 KiB; the
/// documented bounds of the readers apply to each element of an input.
const MAX_BYTES: usize = 48 * 1024 * 1024;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

type FuzzTarget = fn(&[u8]);

/// Targets by name. `fuzz/run` reads the names from these lines.
const TARGETS: &[(&str, FuzzTarget)] = &[
    ("csv", files::csv),
    ("sheet", files::sheet),
    ("xlsx", files::xlsx),
    ("yml", files::yml),
    ("commerceml", files::commerceml),
    ("json", files::json),
    ("container", files::container),
    ("quantity", values::quantity),
    ("sku", values::sku),
    ("http_head", requests::http_head),
    ("http_chunks", requests::http_chunks),
    ("stocks_request", requests::stocks_request),
    ("stock_update", requests::stock_update),
    ("stocks_response", responses::stocks_response),
    ("market_page", responses::market_page),
    ("moysklad", responses::moysklad),
];

static TARGET: OnceLock<FuzzTarget> = OnceLock::new();

fn select_target() {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(name, _)| *name == wanted) else {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!(
            "FUZZ_TARGET is '{wanted}', it must be one of: {}",
            names.join(", ")
        );
    };
    TARGET.get_or_init(|| *target);
    let abort_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The workbook libraries panic on some inputs. The service catches that and rejects the file
        // as broken.
        let is_in_library = |library: &str| {
            panic
                .location()
                .is_some_and(|at| at.file().contains(library))
        };
        if !["/calamine-", "/cfb-"].into_iter().any(is_in_library) {
            // A backtrace needs more memory than any reader, so the limit is removed.
            let _ignored = ALLOCATOR.set_limit(usize::MAX);
            abort_hook(panic);
        }
    }));
    ALLOCATOR
        .set_limit(MAX_BYTES)
        .expect("the limit is above the memory allocated so far");
}

fuzz_target!(init: select_target(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(bytes);
    }
});
