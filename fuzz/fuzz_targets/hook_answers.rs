//! See `receive/tests/checks/hook_answers.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../receive/tests/checks/hook_answers.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
