//! See `smtp/tests/checks/convert.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../smtp/tests/checks/convert.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
