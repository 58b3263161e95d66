//! Real mail filters take the server for theirs.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::steps::{Done, Steps, run_command};
use crate::peers::install_packages;
use crate::workspace::cargo;

/// Debian's Python: its packages of libraries are for no other one.
const PYTHON: &str = "/usr/bin/python3";

/// Asks OpenDKIM, OpenDMARC, rspamd, and a filter made with python3-milter.
pub(super) fn run(steps: &mut Steps) {
    steps.step("OpenDKIM, OpenDMARC, rspamd and python3-milter", filters);
}

fn filters() -> Result<Done> {
    let mut programs = vec!["opendkim", "opendmarc", "rspamd"];
    if !python_has_milter() {
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

/// Whether the library of the filter in Python is there. It is no program.
fn python_has_milter() -> bool {
    let mut python = Command::new(PYTHON);
    python.args(["-c", "import Milter"]).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}
