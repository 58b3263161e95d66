//! See `smtp/tests/checks/client_reply.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../smtp/tests/checks/client_reply.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
