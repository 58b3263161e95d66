//! A postrider that delivers to MX hosts which DNS names.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::zones::Zones;
use crate::events::Events;
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, program};
use crate::workspace::{Kept, Profile, build_postrider, root, serve, set_password};

const SENDER: &str = "app@app.example";
const PASSWORD: &str = "a password among hosts";
/// The addresses that it connects from.
pub(super) const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 91, 2, 1),
    Ipv4Addr::new(127, 91, 2, 2),
    Ipv4Addr::new(127, 91, 2, 3),
    Ipv4Addr::new(127, 91, 2, 4),
];

/// It is killed when the value is dropped.
pub(super) struct Server {
    binary: PathBuf,
    conf: PathBuf,
    submission: u16,
    events: Events,
    _postrider: Kept,
}

impl Server {
    /// Starts the server. `folder` gets its files, and `ca` is a file with a CA that it trusts.
    pub(super) fn start(folder: &Path, zones: &Zones, ca: &Path) -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let (submission, events) = (free_port()?, Events::listen()?);
        let config = folder.join("config");
        fs::create_dir(&config)?;
        let conf = config.join("postrider.conf");
        fs::write(&conf, postrider_conf(submission, zones, ca))?;
        fs::write(config.join("domains.conf"), domains_conf(&events.url))?;
        set_password(&binary, &conf, "app", PASSWORD)?;
        let child = serve(&binary, &conf).spawn();
        let child = child.with_context(|| format!("failed to run {binary:?}"))?;
        let server = Self {
            binary,
            conf,
            submission,
            events,
            _postrider: Kept(child),
        };
        wait_for_port(submission)?;
        Ok(server)
    }

    /// Submits a message. Its subject is the recipient.
    pub(super) fn submit(&self, recipient: &str) -> Result<()> {
        finish(
            program("python3")
                .arg(root().join("xtask/peers/notify.py"))
                .args([&self.submission.to_string(), SENDER, PASSWORD, SENDER])
                .args([recipient, recipient, "NEVER"]),
        )?;
        Ok(())
    }

    /// Waits for the next event about the message to a recipient.
    pub(super) fn next_event(&mut self, recipient: &str) -> Result<Value> {
        let what = format!("the message to {recipient}");
        self.events.wait_for(&what, |event| {
            event.get("Subject").and_then(Value::as_str) == Some(recipient)
        })
    }

    /// Runs a command about the queue. Gives what it printed.
    pub(super) fn queue(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.conf).arg("queue");
        let output = finish(command.args(args))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn postrider_conf(submission: u16, zones: &Zones, ca: &Path) -> String {
    let (resolver, anchor) = (zones.address(), &zones.trust_anchor);
    let mut text = format!(
        r#"hostname = "mail.app.example"
user = ""
log.level = "warn"
tls.ca_files = [{ca:?}]
resolver = {{ servers = ["{resolver}"], trust_anchor_file = {anchor:?} }}
delivery.source_pool = "all"
postmaster.account = "app"
webhook.allow_private_addresses = true

[listeners.test]
ips = ["127.0.0.1"]
submission = {{ enabled = true, port = {submission}, require_tls = false }}

"#
    );
    for (number, ip) in SOURCES.iter().enumerate() {
        text.push_str(&format!("[sources.s{number}]\nip = \"{ip}\"\n"));
    }
    text.push_str("[pools.all.sources]\n");
    for number in 0..SOURCES.len() {
        text.push_str(&format!("s{number} = 1\n"));
    }
    text
}

fn domains_conf(webhook: &str) -> String {
    format!(
        r#"[domains."app.example"]

[accounts.app]
domain = "app.example"
destinations."{SENDER}" = {{}}
outgoing_webhook = {{ url = "{webhook}" }}
"#
    )
}
