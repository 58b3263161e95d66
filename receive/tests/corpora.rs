//! Runs the checks of the fuzz targets over their seeds and findings.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

#[path = "checks/header_section.rs"]
mod header_section;
#[path = "checks/hook_answers.rs"]
mod hook_answers;
#[path = "checks/milter.rs"]
mod milter;
#[path = "../../smtp/tests/checks/replay.rs"]
mod replay;
#[path = "checks/reports.rs"]
mod reports;
#[path = "checks/results.rs"]
mod results;
#[path = "checks/sieve.rs"]
mod sieve;
#[path = "checks/srs.rs"]
mod srs;
#[path = "checks/tokens.rs"]
mod tokens;

use replay::replay;

#[test]
fn header_sections() {
    replay("header_section", header_section::check);
}

#[test]
fn answers_of_hooks() {
    replay("hook_answers", hook_answers::check);
}

#[test]
fn replies_of_milters() {
    replay("milter", milter::check);
}

#[test]
fn fields_with_results() {
    replay("results", results::check);
}

#[test]
fn reports_that_come_in() {
    replay("reports", reports::check);
}

#[test]
fn scripts_of_users() {
    replay("sieve", sieve::check);
}

#[test]
fn rewritten_senders() {
    replay("srs", srs::check);
}

#[test]
fn words_of_messages() {
    replay("tokens", tokens::check);
}
