//! A `postrider localserve` that runs as a child process, with a webhook to us.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::LOGIN;
use crate::events::{Events, PATIENCE};
use crate::introspection;
use crate::ports::wait_for_port;
use crate::workspace::{Profile, build_postrider};

/// A localserve that runs, and the events of its webhooks. It is killed when the value is dropped.
pub(super) struct Localserve {
    binary: PathBuf,
    dir: TempDir,
    offset: u16,
    child: Child,
    /// The curl command that it printed for its user.
    pub(super) curl_line: String,
    /// The events of its webhooks.
    pub(super) events: Events,
    /// How many checks asked for a recipient.
    checks: u32,
}

impl Localserve {
    /// Starts localserve, and configures the webhook.
    pub(super) fn start() -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("localserve-").tempdir()?;
        let offset = free_offset()?;
        // The first run makes the folder. The second run has the webhook in its configuration.
        let (mut child, _) = spawn(&binary, dir.path(), offset)?;
        end(&mut child)?;
        let events = Events::listen()?;
        configure_webhook(&dir.path().join("config/domains.conf"), &events.url)?;
        let introspection = introspection::listen(LOGIN)?;
        configure_oauth(&dir.path().join("config/postrider.conf"), &introspection)?;
        let (child, curl_line) = spawn(&binary, dir.path(), offset)?;
        Ok(Self {
            binary,
            dir,
            offset,
            child,
            curl_line,
            events,
            checks: 0,
        })
    }

    /// The real port for one of localserve's default ports.
    pub(super) fn port(&self, port: u16) -> u16 {
        port + self.offset
    }

    /// The file of its certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.path().join("config/localserve.crt")
    }

    /// A new recipient and subject for a check. The event has the same subject.
    pub(super) fn recipient(&mut self) -> (String, String) {
        self.checks += 1;
        let subject = format!("check {} of {}", self.checks, std::process::id());
        (format!("check{}@elsewhere.example", self.checks), subject)
    }

    /// Waits for the event that says that the message with this subject was delivered.
    pub(super) fn wait_for_delivery(&mut self, subject: &str) -> Result<()> {
        self.events.wait_for(subject, |event| {
            event.get("Subject").and_then(Value::as_str) == Some(subject)
                && event.get("Event").and_then(Value::as_str) == Some("delivered")
        })?;
        Ok(())
    }

    /// A postrider command with the configuration of this server.
    pub(super) fn postrider(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(self.dir.path().join("config/postrider.conf"));
        command.stdin(Stdio::null());
        command
    }

    /// Tells the server to end, and waits until it has ended.
    pub(super) fn stop(&mut self) -> Result<()> {
        end(&mut self.child)
    }
}

impl Drop for Localserve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An offset at which all of localserve's ports are free.
fn free_offset() -> Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Processes that run at the same time begin at different places.
    let begin = (std::process::id() % 200) as u16 * 100;
    // The ports are below the ports of connections, as in `free_port`.
    (0..200)
        .map(|index| 10_000 + (begin + index * 100) % 20_000)
        .find(|offset| {
            [1025, 1080, 1443, 1465, 1587]
                .iter()
                .all(|port| free(port + offset))
        })
        .context("no offset has all ports free")
}

/// Starts localserve, and returns the process and the curl command that it prints.
fn spawn(binary: &Path, dir: &Path, offset: u16) -> Result<(Child, String)> {
    let mut child = Command::new(binary)
        .args(["localserve", "--ip=127.0.0.1"])
        .arg("--dir")
        .arg(dir)
        .arg(format!("--port-offset={offset}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {binary:?}"))?;
    let output = child.stdout.take().context("no standard output")?;
    let (sender, lines) = channel();
    // The pipe is read to its end. So the server never waits for a reader.
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    match curl_line(&lines) {
        Ok(line) => {
            for port in [1025, 1080, 1443, 1465, 1587] {
                wait_for_port(port + offset)?;
            }
            Ok((child, line))
        }
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Reads the output up to the end of the curl command, which may have several lines.
fn curl_line(lines: &Receiver<String>) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut printed = String::new();
    let mut command = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            bail!("localserve printed no curl command, but: {printed}");
        };
        let _ = writeln!(printed, "{line}");
        let part = line.trim();
        if command.is_empty() && !part.starts_with("curl ") {
            continue;
        }
        match part.strip_suffix('\\') {
            Some(part) => command.push_str(part),
            None => return Ok(command + part),
        }
    }
}

/// Ends a server with SIGTERM, and waits until it has ended.
fn end(child: &mut Child) -> Result<()> {
    let pid = i32::try_from(child.id()).context("a process id that is too large")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "after SIGTERM it ended with {status}");
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {PATIENCE:?} of SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn configure_webhook(file: &Path, url: &str) -> Result<()> {
    const TABLE: &str = "[accounts.postrider]\n";
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {file:?}"))?;
    let with_hook = format!("{TABLE}outgoing_webhook = {{ url = \"{url}\" }}\n");
    let changed = text.replacen(TABLE, &with_hook, 1);
    ensure!(changed != text, "{file:?} has no table {}", TABLE.trim());
    fs::write(file, changed)?;
    Ok(())
}

/// Lets tokens of this authorization server log in.
fn configure_oauth(file: &Path, url: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {file:?}"))?;
    fs::write(file, format!("oauth.introspection_url = \"{url}\"\n{text}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curl_line_may_go_on() {
        let (sender, lines) = channel();
        for line in [
            "Addresses:",
            "  curl -u a:b \\",
            "    http://127.0.0.1/",
            "more",
        ] {
            sender.send(line.to_owned()).unwrap();
        }
        assert_eq!(curl_line(&lines).unwrap(), "curl -u a:b http://127.0.0.1/");
        drop(sender);
        assert!(curl_line(&lines).is_err());
    }

    #[test]
    fn the_webhook_goes_into_the_account() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("domains.conf");
        fs::write(
            &file,
            "# kept\n[accounts.postrider]\ndomain = \"localhost\"\n",
        )
        .unwrap();
        configure_webhook(&file, "http://127.0.0.1:1/").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(
            "[accounts.postrider]\noutgoing_webhook = { url = \"http://127.0.0.1:1/\" }\ndomain"
        ));
        fs::write(&file, "").unwrap();
        assert!(configure_webhook(&file, "x").is_err());
    }
}
