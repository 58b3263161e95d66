//! See `queue/tests/checks/sts_policy.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../queue/tests/checks/sts_policy.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
