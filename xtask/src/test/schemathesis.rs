//! The management API, called by schemathesis with what its description allows and with what it
//! does not allow.
//!
//! Schemathesis comes from its registry, into a temporary folder. Where that fails, the step is
//! skipped and says so.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::generators::install;
use super::steps::{Done, Steps, run_within};
use crate::ports::{free_port, wait_for_port};
use crate::programs::present;
use crate::workspace::{Profile, build_postrider};

/// The version decides what is tried, so it is fixed.
const PACKAGE: &str = "schemathesis==4.32.5";
/// What an answer must be like.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";
/// The time limit for all calls.
const LIMIT: Duration = Duration::from_secs(20 * 60);

const STATICS: &str = "hostname = \"mail.example.org\"\nuser = \"\"\nlog.level = \"warn\"\n\
    postmaster.account = \"app\"\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
const DYNAMICS: &str = "[domains.\"example.org\"]\n[domains.\"a.test\"]\n\
    [accounts.app]\ndomain = \"example.org\"\ndestinations.\"app@example.org\" = {}\n\
    [accounts.ann]\ndomain = \"a.test\"\ndestinations.\"ann@a.test\" = {}\n";

/// Calls every operation of the management API.
pub(super) fn run(steps: &mut Steps) {
    steps.step(
        "every operation of the management API by schemathesis",
        check,
    );
}

fn check() -> Result<Done> {
    if !present("python3") {
        return Ok(Done::Skipped("there is no python3".to_owned()));
    }
    let folder = TempDir::new().context("failed to make a temporary folder")?;
    let bin = folder.path().join("env/bin");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "env"]);
    let mut pip = Command::new(bin.join("python"));
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", PACKAGE]);
    for command in [&mut venv, &mut pip] {
        if let Some(skipped) = install(command, folder.path()) {
            return Ok(skipped);
        }
    }
    let server = Server::start(folder.path())?;
    let key = server.key()?;
    let mut calls = Command::new(bin.join("schemathesis"));
    calls.args([
        "run",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=25",
    ]);
    calls.arg(format!("--checks={CHECKS}"));
    calls.arg(format!("--header=Authorization: Bearer {key}"));
    calls.arg(format!("http://127.0.0.1:{}/api/openapi.json", server.port));
    run_within(LIMIT, calls.current_dir(folder.path()))
}

/// A server of the management API. It delivers nothing, and is killed when the value is dropped.
struct Server<'a> {
    folder: &'a Path,
    binary: std::path::PathBuf,
    port: u16,
    child: Child,
}

impl<'a> Server<'a> {
    fn start(folder: &'a Path) -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let port = free_port()?;
        let config = folder.join("config");
        fs::create_dir(&config)?;
        let statics = format!("{STATICS}admin_http = {{ port = {port} }}\n");
        fs::write(config.join("postrider.conf"), statics)?;
        fs::write(config.join("domains.conf"), DYNAMICS)?;
        let child = Command::new(&binary)
            .arg("--config")
            .arg(config.join("postrider.conf"))
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to run {binary:?}"))?;
        let server = Self {
            folder,
            binary,
            port,
            child,
        };
        wait_for_port(port)?;
        Ok(server)
    }

    /// The text of a key for all calls.
    fn key(&self) -> Result<String> {
        let made = Command::new(&self.binary)
            .arg("--config")
            .arg(self.folder.join("config/postrider.conf"))
            .args([
                "apikey",
                "add",
                "schemathesis",
                "--scope=manage",
                "--account=app",
            ])
            .output()?;
        ensure!(made.status.success(), "postrider apikey add failed");
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
