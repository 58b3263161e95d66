//! See `receive/tests/checks/reports.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../receive/tests/checks/reports.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
