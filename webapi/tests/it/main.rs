//! Calls of the webapi, from the HTTP request to the queued message.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

mod http;
mod large;
mod methods;
#[path = "../../../tests/it/support/patience.rs"]
#[allow(
    clippy::panic,
    unreachable_pub,
    reason = "the whole-server tests share it"
)]
mod patience;
mod send;
mod support;
mod v1;
