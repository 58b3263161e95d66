//! Runs the checks of the fuzz targets over their seeds and findings.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

#[path = "checks/address.rs"]
mod address;
#[path = "checks/bdat.rs"]
mod bdat;
#[path = "checks/bounce.rs"]
mod bounce;
#[path = "checks/client_reply.rs"]
mod client_reply;
#[path = "checks/convert.rs"]
mod convert;
#[path = "checks/proxy.rs"]
mod proxy;
#[path = "checks/replay.rs"]
mod replay;
#[path = "checks/sasl.rs"]
mod sasl;
#[path = "checks/server_session.rs"]
mod server_session;

use replay::replay;

#[test]
fn addresses() {
    replay("address", address::check);
}

#[test]
fn replies_to_the_client() {
    replay("client_reply", client_reply::check);
}

#[test]
fn messages_in_another_form() {
    replay("convert", convert::check);
}

#[test]
fn sessions_of_the_server() {
    replay("server_session", server_session::check);
}

#[test]
fn texts_in_chunks() {
    replay("bdat", bdat::check);
}

#[test]
fn headers_of_proxies() {
    replay("proxy", proxy::check);
}

#[test]
fn mail_that_comes_back() {
    replay("bounce", bounce::check);
}

#[test]
fn exchanges_of_sasl() {
    replay("sasl", sasl::check);
}
