//! The management API, called by schemathesis with what its description allows and with what it
//! does not allow.
//!
//! Schemathesis comes from its registry, into a temporary folder. Where that fails, the step is
//! skipped and says so.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::generators::install;
use super::steps::{Done, Steps, run_within};
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, present};
use crate::workspace::{Profile, build_postrider, serve};

/// The version decides what is tried, so it is fixed.
const PACKAGE: &str = "schemathesis==4.32.5";
/// A package that it needs. Later versions parse their own source when they are loaded, which fails
/// deep in a call of CPython 3.11.
const ANYIO: &str = "anyio==4.12.1";
/// What an answer must be like.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";
/// The time limit for all calls.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// The time limit for one call, in seconds. The server ends a call that reads after 30 seconds.
const CALL_LIMIT: &str = "40";
/// The time limit for an answer to a request of our own.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The type of an answer that is a stream. Some streams do not end, and schemathesis takes each
/// event for a whole answer. Tests of their own read them.
const STREAM: &str = "text/event-stream";

/// DNS servers are asked on loopback only, and nobody answers there.
const STATICS: &str = "hostname = \"mail.example.org\"\nuser = \"\"\nlog.level = \"warn\"\n\
    postmaster.account = \"app\"\nresolver.servers = [\"127.0.0.1:9\"]\n\
    resolver.timeout = \"100ms\"\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
const DYNAMICS: &str = r#"
[domains."example.org"]
[domains."a.test"]
[domains."spare.test"]
[domains."example.org".aliases.team]
addresses = ["app@example.org", "ann@a.test"]
[accounts.app]
domain = "example.org"
destinations."app@example.org" = {}
keep_retired_message_period = "1h"
keep_retired_webhook_period = "1h"
outgoing_webhook.url = "http://127.0.0.1:9/"
[accounts.ann]
domain = "a.test"
destinations."ann@a.test" = {}
[accounts.spare]
domain = "spare.test"
destinations."info@spare.test" = {}
"#;
/// The names of things that exist. Half of the requests use them, so that not all end with 404.
const NAMES: &str = r#"
[dictionaries.principals]
values = ["app", "ann", "spare", "team@example.org", "spare.test", "ann@a.test"]
[dictionaries.domains]
values = ["example.org", "a.test", "spare.test"]
[dictionaries.numbers]
values = ["1", "2", "3", "4"]
[dictionaries.keys]
values = ["one._domainkey.spare.test", "accounts.ann.description"]
[dictionaries.addresses]
values = ["x@remote.test", "y@remote.test"]
[dictionaries.names]
values = ["new", "new.test"]
[dictionaries.types]
values = ["individual", "list", "domain", "apiKey"]
[dictionaries.algorithms]
values = ["Ed25519"]
[parameters]
"path.principal" = { dictionary = "principals", probability = 0.5 }
"path.domain" = { dictionary = "domains", probability = 0.5 }
"path.id" = { dictionary = "numbers", probability = 0.5 }
"path.key" = { dictionary = "keys", probability = 0.5 }
"path.account" = { dictionary = "principals", probability = 0.5 }
"path.address" = { dictionary = "addresses", probability = 0.5 }
"body.domain" = { dictionary = "domains", probability = 0.5 }
"body.account" = { dictionary = "principals", probability = 0.5 }
"body.address" = { dictionary = "addresses", probability = 0.5 }
"body.name" = { dictionary = "names", probability = 0.5 }
"body.type" = { dictionary = "types", probability = 0.5 }
"body.algorithm" = { dictionary = "algorithms", probability = 0.5 }
"#;

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
    pip.args(["--disable-pip-version-check", PACKAGE, ANYIO]);
    for command in [&mut venv, &mut pip] {
        if let Some(skipped) = install(command, folder.path()) {
            return Ok(skipped);
        }
    }
    let server = Server::start(folder.path())?;
    server.fill()?;
    fs::write(folder.path().join("schemathesis.toml"), NAMES)?;
    let streams = server.streams()?;
    let begun = Instant::now();
    // The calls about the caller's own account need a key with an account. The others could
    // suspend the account, and so the key: their key has none.
    let key = server.key(&["--scope=manage", "--account=app"])?;
    let whole = server.key(&["--scope=manage"])?;
    for (key, operations) in [
        (&key, "--include-tag=account"),
        (&whole, "--exclude-tag=account"),
    ] {
        let mut calls = Command::new(bin.join("schemathesis"));
        calls.args(["run", "--phases=coverage,fuzzing", "--max-examples=25"]);
        calls.args(["--workers=2", "--no-color", "--continue-on-failure"]);
        calls.arg(format!("--request-timeout={CALL_LIMIT}"));
        calls.args(streams.iter().map(|path| format!("--exclude-path={path}")));
        calls.arg(format!("--checks={CHECKS}"));
        calls.arg(format!("--header=Authorization: Bearer {key}"));
        calls.arg(operations);
        calls.arg(server.url("/api/openapi.json"));
        let left = LIMIT.saturating_sub(begun.elapsed());
        run_within(left, calls.current_dir(folder.path()))?;
        // If a call took the key away, those after it showed nothing.
        server.answers(key)?;
    }
    Ok(Done::Passed)
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
        let statics = format!(
            "{STATICS}admin_http = {{ port = {port} }}\nwebapi_http = {{ port = {port} }}\n"
        );
        fs::write(config.join("postrider.conf"), statics)?;
        fs::write(config.join("domains.conf"), DYNAMICS)?;
        let child = serve(&binary, &config.join("postrider.conf"))
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

    /// Makes things to ask for: messages in the queue and in the history, a call of a webhook, a
    /// rule, a suppression and a key for DKIM. Nothing is delivered.
    fn fill(&self) -> Result<()> {
        self.run(&["queue", "stop"])?;
        let key = self.key(&["--scope=send", "--account=app"])?;
        for _ in 0..4 {
            let form = "request={\"From\":[{\"Address\":\"app@example.org\"}],\
                \"To\":[{\"Address\":\"x@remote.test\"}],\"Text\":\"t\"}";
            self.call("POST /webapi/v0/Send", &key, form)?;
        }
        for arguments in [
            &["queue", "drop", "--ids", "4"][..],
            &["queue", "hold-rules", "add", "--account", "ann"],
            &["queue", "suppress", "add", "app", "x@remote.test"],
            &[
                "config",
                "dkim",
                "add",
                "spare.test",
                "one",
                "--algorithm",
                "ed25519",
            ],
        ] {
            self.run(arguments)?;
        }
        Ok(())
    }

    /// Runs a command of the program, and gives what it prints.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(self.folder.join("config/postrider.conf"))
            .args(arguments);
        Ok(String::from_utf8(finish(&mut command)?.stdout)?)
    }

    /// The text of a new key.
    fn key(&self, arguments: &[&str]) -> Result<String> {
        let made = self.run(&[&["apikey", "add", "schemathesis"], arguments].concat())?;
        Ok(made.trim().to_owned())
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The key is still a good one.
    fn answers(&self, key: &str) -> Result<()> {
        self.call("GET /api/queue/status", key, "").map(drop)
    }

    /// The paths whose answers are streams.
    fn streams(&self) -> Result<Vec<String>> {
        let answer = self.call("GET /api/openapi.json", "", "")?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let description: Value = serde_json::from_str(body)?;
        let paths = description.get("paths").and_then(Value::as_object);
        let paths = paths.context("the description has no paths")?.iter();
        let has_stream = |path: &Value| path.to_string().contains(STREAM);
        let streams = paths.filter(|(_, path)| has_stream(path));
        Ok(streams.map(|(path, _)| path.clone()).collect())
    }

    /// Sends a request with a form as its body. The answer must have status 200.
    fn call(&self, request: &str, key: &str, form: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let length = form.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(
            answer.starts_with("HTTP/1.1 200 "),
            "{request} was answered with {answer}"
        );
        Ok(answer)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
