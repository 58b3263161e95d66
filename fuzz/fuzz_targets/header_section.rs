//! See `receive/tests/checks/header_section.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../receive/tests/checks/header_section.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
