//! Calls of the API, from the HTTP request to what is queued.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

mod http;
mod large;
mod methods;
mod send;
mod support;
mod v1;
