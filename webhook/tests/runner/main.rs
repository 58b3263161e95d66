//! The runner against receivers on loopback that follow a script.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

mod calls;
mod limits;
mod observed;
#[path = "../../../tests/it/support/patience.rs"]
#[allow(
    clippy::panic,
    unreachable_pub,
    reason = "the whole-server tests share it"
)]
mod patience;
mod retries;
mod stop;
mod support;
