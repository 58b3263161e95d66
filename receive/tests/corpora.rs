//! Runs the checks of the fuzz targets over their seeds and findings.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{fs, path::Path};

#[path = "checks/header_section.rs"]
mod header_section;
#[path = "checks/results.rs"]
mod results;
#[path = "checks/srs.rs"]
mod srs;
#[path = "checks/tokens.rs"]
mod tokens;

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
fn header_sections() {
    replay("header_section", header_section::check);
}

#[test]
fn fields_with_results() {
    replay("results", results::check);
}

#[test]
fn rewritten_senders() {
    replay("srs", srs::check);
}

#[test]
fn words_of_messages() {
    replay("tokens", tokens::check);
}
