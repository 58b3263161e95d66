//! Second opinions: other programs sign and verify the same messages as we do.
//!
//! The programs come from their registry, into a temporary folder. Where that fails, the step is
//! skipped and says so.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::generators::install;
use super::steps::{Done, Steps, run_command};
use crate::peers::install_packages;
use crate::programs::present;
use crate::workspace::cargo;

/// The versions decide what is compared, so they are fixed.
const PACKAGES: &[&str] = &["dkimpy[ARC,ed25519]==1.1.8", "authheaders==0.16.3"];

/// Compares DKIM and ARC.
pub(super) fn run(steps: &mut Steps) {
    steps.step("dkimpy and authheaders agree about DKIM and ARC", dkimpy);
    steps.step("OpenDKIM agrees about DKIM", opendkim);
}

fn opendkim() -> Result<Done> {
    if !present("python3") {
        return Ok(Done::Skipped("there is no python3".to_owned()));
    }
    match install_packages(&["opendkim"], &["opendkim"])? {
        Done::Passed => compare(Path::new("python3"), "opendkim_agrees"),
        skipped => Ok(skipped),
    }
}

/// Runs the tests whose names begin so, with this Python.
fn compare(python: &Path, tests: &str) -> Result<Done> {
    let mut test = cargo();
    test.env("POSTRIDER_PYTHON", python);
    test.args(["test", "--locked", "--package=postrider-receive", "--lib"]);
    let filter = format!("checks::opinions::{tests}");
    run_command(test.args([&filter, "--", "--ignored"]))
}

fn dkimpy() -> Result<Done> {
    if !present("python3") {
        return Ok(Done::Skipped("there is no python3".to_owned()));
    }
    let folder = TempDir::new().context("failed to make a temporary folder")?;
    let python = folder.path().join("env/bin/python");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "env"]);
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.arg("--disable-pip-version-check").args(PACKAGES);
    for command in [&mut venv, &mut pip] {
        if let Some(skipped) = install(command, folder.path()) {
            return Ok(skipped);
        }
    }
    compare(&python, "others_agree")
}
