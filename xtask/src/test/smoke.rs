//! Short runs of the load drivers. They judge no figure: each message must arrive, and nothing
//! else.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::steps::{Done, Steps, run_command};
use crate::compare::Work;
use crate::postrider::{Instance, LOGIN_AND_PASSWORD, Running, Setup};
use crate::sink::SinkProcess;
use crate::workspace::{Profile, build_postrider};

/// How many messages each driver sends.
const MESSAGES: u64 = 2000;

/// A server that runs, and the sink to which it relays.
struct Relay {
    sink: SinkProcess,
    instance: Instance,
    running: Running,
}

impl Relay {
    fn start(binary: &Path) -> Result<Self> {
        let sink = SinkProcess::start(false)?;
        let setup = Setup {
            hook: None,
            work: Work::Relay,
            relay: sink.port,
            tls: false,
            relay_tls: false,
            dkim: None,
            resolver: None,
        };
        let instance = Instance::create(&std::env::temp_dir(), binary, setup)?;
        let running = instance.start()?;
        instance.set_password()?;
        Ok(Self {
            sink,
            instance,
            running,
        })
    }

    /// Runs the load driver, and waits until the sink has each message once.
    fn load(&self, driver: &[&str]) -> Result<Done> {
        self.sink.ask("/reset")?;
        let (login, password) = LOGIN_AND_PASSWORD;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").args(driver).stdin(Stdio::null());
        command.args(["--login", login, "--password", password]);
        command.arg(format!("--messages={MESSAGES}"));
        let done = run_command(&mut command)?;
        self.sink.wait_for(MESSAGES)?;
        let count: Value = serde_json::from_str(&self.sink.ask("/count")?)?;
        ensure!(
            count.get("distinct").and_then(Value::as_u64) == Some(MESSAGES),
            "not every message arrived: {count}"
        );
        Ok(done)
    }
}

pub(super) fn run(steps: &mut Steps) {
    let mut relay = None;
    let started = steps.step("start a server and a sink", || {
        relay = Some(Relay::start(&build_postrider(Profile::Dev)?)?);
        Ok(Done::Passed)
    });
    let Some(relay) = relay.filter(|_| started) else {
        return;
    };
    let port = format!("--port={}", relay.instance.port);
    let from = format!("--from={}", LOGIN_AND_PASSWORD.0);
    let url = format!("--url=http://127.0.0.1:{}/webapi/v0/", relay.instance.http);
    steps.step("load over SMTP", || {
        relay.load(&["smtp", &port, &from, "--sessions=8"])
    });
    steps.step("load over SMTP with pipelining", || {
        relay.load(&["smtp", &port, &from, "--sessions=8", "--pipelining"])
    });
    steps.step("load on the webapi", || {
        relay.load(&["webapi", &url, "--concurrency=8"])
    });
    steps.step("200 idle connections", || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", "idle", &port, "--connections=200"]);
        command.arg(format!("--pid={}", relay.running.id()));
        run_command(&mut command)
    });
    steps.step("the server ends", || {
        relay.running.kill()?;
        Ok(Done::Passed)
    });
}
