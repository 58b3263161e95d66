//! Real mail filters take the server for theirs.

use anyhow::Result;

use super::steps::{Done, Steps, run_command};
use crate::hooked::{PYTHON, has_python_milter};
use crate::peers::install_packages;
use crate::workspace::cargo;

/// Asks OpenDKIM, OpenDMARC, rspamd, and a filter made with python3-milter.
pub(super) fn run(steps: &mut Steps) {
    steps.step("OpenDKIM, OpenDMARC, rspamd and python3-milter", filters);
}

fn filters() -> Result<Done> {
    let mut programs = vec!["opendkim", "opendmarc", "rspamd"];
    if !has_python_milter() {
        programs.push("python3-milter");
    }
    let packages = ["opendkim", "opendmarc", "rspamd", "python3-milter"];
    match install_packages(&programs, &packages)? {
        Done::Passed => {}
        skipped => return Ok(skipped),
    }
    let mut test = cargo();
    test.env("POSTRIDER_PYTHON", PYTHON);
    test.args(["test", "--locked", "--package=postrider-receive", "--lib"]);
    run_command(test.args(["hooks::milter::programs", "--", "--ignored"]))
}
