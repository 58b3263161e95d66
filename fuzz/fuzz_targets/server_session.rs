//! See `smtp/tests/checks/server_session.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../smtp/tests/checks/server_session.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
