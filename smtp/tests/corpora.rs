//! Runs the checks of the fuzz targets over their seeds and findings.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{fs, path::Path};

#[path = "checks/address.rs"]
mod address;
#[path = "checks/bdat.rs"]
mod bdat;
#[path = "checks/bounce.rs"]
mod bounce;
#[path = "checks/client_reply.rs"]
mod client_reply;
#[path = "checks/proxy.rs"]
mod proxy;
#[path = "checks/sasl.rs"]
mod sasl;
#[path = "checks/server_session.rs"]
mod server_session;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/fuzz")
        .join(target);
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        check(&fs::read(path).unwrap());
        seen += 1;
    }
    assert!(seen > 0, "no corpus for {target}");
}

#[test]
fn addresses() {
    replay("address", address::check);
}

#[test]
fn replies_to_the_client() {
    replay("client_reply", client_reply::check);
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
