//! Runs the checks of the fuzz targets over their seeds and findings.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests; a panic is how it fails"
)]

#[path = "../../smtp/tests/checks/replay.rs"]
mod replay;
#[path = "checks/sts_policy.rs"]
mod sts_policy;

use replay::replay;

#[test]
fn policies_of_mta_sts() {
    replay("sts_policy", sts_policy::check);
}
