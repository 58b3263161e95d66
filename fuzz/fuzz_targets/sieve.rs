//! See `receive/tests/checks/sieve.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../receive/tests/checks/sieve.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
