//! Postfix's DSNs about a message that it accepted, and the events that postrider makes of them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::compare::Work;
use crate::events::Events;
use crate::ports::{free_port, wait_for_port};
use crate::postfix::Postfix;
use crate::programs::{finish, program};
use crate::sink::SinkProcess;
use crate::workspace::{Kept, Profile, build_postrider, root, serve, set_password};

/// The login whose messages each get a reverse-path of their own.
const LOGIN: &str = "app+unique@app.example";
const SENDER: &str = "app@app.example";
const PASSWORD: &str = "a password among programs";

/// Settings of our Postfix: one recipient domain for each action that a DSN can report.
fn settings(sink: u16) -> Vec<String> {
    vec![
        format!(
            "transport_maps = inline:{{ \
             {{ bounce.example = error:5.1.1 nobody is here }}, \
             {{ later.example = retry:4.3.0 not now }}, \
             {{ taken.example = discard:for good }}, \
             {{ plain.example = smtp:[127.0.0.1]:{sink} }} }}"
        ),
        "virtual_alias_maps = inline:{ { list@lists.example = a@taken.example b@taken.example } }"
            .to_owned(),
        "receive_override_options =".to_owned(),
        // The sender of a message that waits is told at once.
        "delay_warning_time = 1s".to_owned(),
        "minimal_backoff_time = 1s".to_owned(),
        "queue_run_delay = 1s".to_owned(),
    ]
}

/// Sends messages through a Postfix that reports their fate, and waits for the event of each DSN.
pub(crate) fn check() -> Result<()> {
    let sink = SinkProcess::start(false)?;
    let mx = free_port()?;
    // Postfix sends its DSNs back to us: we are its relay host.
    let postfix = Postfix::start(
        &std::env::temp_dir(),
        Work::Relay,
        mx,
        false,
        &settings(sink.port),
    )?;
    let mut server = Server::start(mx, postfix.port())?;
    let told = [
        ("x@bounce.example", "failed", "5.1.1", true),
        ("x@later.example", "delayed", "4.3.0", false),
        ("x@taken.example", "delivered", "", false),
        ("x@plain.example", "relayed", "", false),
        ("list@lists.example", "expanded", "", false),
    ];
    for (recipient, event, code, suppressing) in told {
        server.submit(recipient, event)?;
        let first = server.next(event, "delivered", false)?;
        let then = server.next(event, event, true)?;
        for field in ["QueueMsgID", "FromID", "MessageID"] {
            ensure!(
                first.get(field) == then.get(field),
                "{field} differs: {first} and {then}"
            );
        }
        let says =
            |field: &str, wanted: Value| -> bool { then.get(field).is_some_and(|v| *v == wanted) };
        ensure!(
            says("SMTPEnhancedCode", code.into()) && says("Suppressing", suppressing.into()),
            "{recipient}: {then}"
        );
    }
    Ok(())
}

/// A postrider that sends everything to a Postfix.
struct Server {
    _postrider: Kept,
    submission: u16,
    events: Events,
    _dir: TempDir,
}

impl Server {
    fn start(mx: u16, peer: u16) -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("returned-").tempdir()?;
        let (submission, events) = (free_port()?, Events::listen()?);
        let folder = dir.path().join("config");
        fs::create_dir(&folder)?;
        let conf = folder.join("postrider.conf");
        fs::write(&conf, postrider_conf(mx, submission, peer))?;
        fs::write(folder.join("domains.conf"), domains_conf(&events.url))?;
        set_password(&binary, &conf, "app", PASSWORD)?;
        let child = serve(&binary, &conf)
            .spawn()
            .with_context(|| format!("failed to run {binary:?}"))?;
        let server = Self {
            _postrider: Kept(child),
            submission,
            events,
            _dir: dir,
        };
        wait_for_port(submission)?;
        Ok(server)
    }

    fn submit(&self, recipient: &str, subject: &str) -> Result<()> {
        finish(
            program("python3")
                .arg(root().join("xtask/peers/notify.py"))
                .args([&self.submission.to_string(), LOGIN, PASSWORD, SENDER])
                .args([recipient, subject, "SUCCESS,FAILURE,DELAY"]),
        )?;
        Ok(())
    }

    /// Waits for an event about the message with this subject.
    fn next(&mut self, subject: &str, event: &str, dsn: bool) -> Result<Value> {
        let what = format!("{event} (by DSN: {dsn}) of {subject:?}");
        self.events.wait_for(&what, |payload| {
            payload.get("Subject").and_then(Value::as_str) == Some(subject)
                && payload.get("Event").and_then(Value::as_str) == Some(event)
                && payload.get("DSN").and_then(Value::as_bool) == Some(dsn)
        })
    }
}

fn postrider_conf(mx: u16, submission: u16, peer: u16) -> String {
    format!(
        r#"hostname = "mail.app.example"
user = ""
data_dir = "data"
log.level = "warn"
resolver = {{ servers = ["127.0.0.1:9"], timeout = "100ms" }}
postmaster.account = "app"
webhook.allow_private_addresses = true

[listeners.test]
ips = ["127.0.0.1"]
smtp = {{ enabled = true, port = {mx} }}
submission = {{ enabled = true, port = {submission}, require_tls = false }}

[transports.peer.smtp]
host = "127.0.0.1"
port = {peer}
no_starttls = true
"#
    )
}

fn domains_conf(webhook: &str) -> String {
    format!(
        r#"[domains."app.example"]
localpart_catchall_separators = ["+"]

[accounts.app]
domain = "app.example"
destinations."{SENDER}" = {{}}
from_id_login_addresses = ["{LOGIN}"]
keep_retired_message_period = "168h"
outgoing_webhook = {{ url = "{webhook}" }}
routes = [{{ transport = "peer" }}]
"#
    )
}
