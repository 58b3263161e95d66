//! See `smtp/tests/checks/proxy.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../smtp/tests/checks/proxy.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
