//! The description of the webapi (OpenAPI) and the programs that make clients of it.
//!
//! Both programs come from their registries, into a temporary folder. Where that fails, a step is
//! skipped and says so.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::steps::{Done, Steps, run_command};
use crate::programs::present;
use crate::workspace::root;

/// The file that describes version 1 of the webapi, below the root of the workspace.
const DESCRIPTION: &str = "webapi/src/v1/openapi.json";
/// The version of a generator decides what it accepts, so each has one.
const PYTHON_PACKAGE: &str = "openapi-python-client==0.29.1";
const NODE_PACKAGES: &[&str] = &["openapi-typescript@7.13.0", "typescript@5.9.3"];

/// Imports each module of the package `client`, and fails if there is none.
const IMPORT_ALL: &str = "\
import importlib, pkgutil, client
names = [module.name for module in pkgutil.walk_packages(client.__path__, 'client.')]
for name in names:
    importlib.import_module(name)
print(len(names), 'modules import')
assert names
";

/// Generates a client with each program, and lets its language check the client.
pub(super) fn run(steps: &mut Steps) {
    steps.step("a client by openapi-python-client", python);
    steps.step("a client by openapi-typescript", typescript);
}

fn python() -> Result<Done> {
    if let Some(missing) = missing(&["python3"]) {
        return Ok(missing);
    }
    let folder = folder()?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "env"]);
    let bin = folder.path().join("env/bin");
    let mut pip = Command::new(bin.join("python"));
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", PYTHON_PACKAGE]);
    for command in [&mut venv, &mut pip] {
        if let Some(skipped) = install(command, folder.path()) {
            return Ok(skipped);
        }
    }
    let mut generate = Command::new(bin.join("openapi-python-client"));
    generate.args(["generate", "--meta=none", "--output-path=client"]);
    generate.arg("--fail-on-warning");
    generate.arg("--path").arg(root().join(DESCRIPTION));
    // The generator ends by calling ruff, which is beside it.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.clone()).chain(std::env::split_paths(&path));
    generate.env("PATH", std::env::join_paths(folders)?);
    run_command(generate.current_dir(folder.path()))?;
    let mut import = Command::new(bin.join("python"));
    run_command(import.args(["-c", IMPORT_ALL]).current_dir(folder.path()))
}

fn typescript() -> Result<Done> {
    if let Some(missing) = missing(&["node", "npm"]) {
        return Ok(missing);
    }
    let folder = folder()?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund"]);
    npm.arg("--prefix=.").args(NODE_PACKAGES);
    if let Some(skipped) = install(&mut npm, folder.path()) {
        return Ok(skipped);
    }
    let bin = folder.path().join("node_modules/.bin");
    let mut generate = Command::new(bin.join("openapi-typescript"));
    generate.arg(root().join(DESCRIPTION));
    generate.args(["--output", "client.ts"]);
    run_command(generate.current_dir(folder.path()))?;
    let mut check = Command::new(bin.join("tsc"));
    check.args(["--noEmit", "--strict", "client.ts"]);
    run_command(check.current_dir(folder.path()))
}

fn folder() -> Result<TempDir> {
    TempDir::new().context("failed to make a temporary folder")
}

/// The reason to skip a step if one of these programs is missing.
fn missing(programs: &[&str]) -> Option<Done> {
    let missing = programs.iter().find(|name| !present(name))?;
    Some(Done::Skipped(format!("there is no {missing}")))
}

/// Runs a command that needs a registry. The reason to skip the step if the command fails.
pub(crate) fn install(command: &mut Command, folder: &Path) -> Option<Done> {
    let result = run_command(command.current_dir(folder));
    let error = result.err()?;
    Some(Done::Skipped(format!(
        "the program can't be installed, perhaps without a network: {error:#}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_installation_skips_the_step_with_the_reason() {
        let dir = folder().unwrap();
        let Some(Done::Skipped(why)) = install(&mut Command::new("false"), dir.path()) else {
            panic!("not skipped");
        };
        assert!(why.contains("without a network"), "{why}");
        assert!(install(&mut Command::new("true"), dir.path()).is_none());
        assert!(missing(&["sh", "no-such-program"]).is_some());
        assert!(root().join(DESCRIPTION).exists());
    }
}
