//! Checks against real mail programs: they submit to a `postrider localserve` of our own, as its users would, and a webhook
//! receiver of our own must be told of the delivery of each message.
//!
//! On Debian, as root, the programs that are missing get installed. Elsewhere each missing one skips its check, by name.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde_json::Value;
use tempfile::TempDir;

use crate::compare::wait_for_port;
use crate::events::{Events, PATIENCE};
use crate::examples;
use crate::postfix;
use crate::programs::{finish, present, program};
use crate::returned;
use crate::test::{Done, Steps};
use crate::workspace::{Profile, build_postrider, root};

const LOGIN: &str = "postrider@localhost";
const PASSWORD: &str = "postrider";

/// Debian's packages: the ones after the first three are what swaks needs for TLS.
const PACKAGES: &[&str] = &[
    "postfix",
    "swaks",
    "msmtp",
    "libnet-ssleay-perl",
    "libio-socket-ssl-perl",
    "curl",
    "golang-go",
];
const PROGRAMS: &[&str] = &["smtp-source", "swaks", "msmtp", "curl", "go"];

pub(crate) fn run(steps: &mut Steps, require: bool) {
    steps.step("install real mail programs", install);
    let mut server = None;
    let started = steps.step("start postrider localserve", || {
        server = Some(Localserve::start()?);
        Ok(Done::Passed)
    });
    let Some(mut server) = server.filter(|_| started) else {
        return;
    };
    let checks: &[(&str, &str, Check)] = &[
        (
            "python3",
            "Python's smtplib submits with STARTTLS",
            smtplib_starttls,
        ),
        ("python3", "Python's smtplib submits with TLS", smtplib_tls),
        ("swaks", "swaks submits with STARTTLS", swaks_starttls),
        ("swaks", "swaks submits with TLS", swaks_tls),
        ("msmtp", "msmtp submits", msmtp),
        ("curl", "the printed curl line sends", curl),
        ("smtp-source", "Postfix's smtp-source delivers", smtp_source),
        ("curl", "what waits is in queue list", queue_list),
        (
            "python3",
            "reports composed by Python's email package give events",
            reports,
        ),
        ("go", "a client in Go calls every method of v0", contract),
    ];
    for (program, name, check) in checks {
        steps.step(name, || {
            let missing = if !present(program) {
                Some(*program)
            } else if *program == "swaks" && !perl_has_tls() {
                Some("Net::SSLeay")
            } else {
                None
            };
            if let Some(missing) = missing {
                ensure!(!require, "{missing} is not installed");
                return Ok(Done::Skipped(format!("{missing} is not installed")));
            }
            check(&mut server)?;
            Ok(Done::Passed)
        });
    }
    for (language, name) in examples::LANGUAGES {
        steps.step(
            &format!("the examples of docs/webapi.md in {language} run"),
            || {
                if !present(name) {
                    ensure!(!require, "{name} is not installed");
                    return Ok(Done::Skipped(format!("{name} is not installed")));
                }
                examples::run("docs/webapi.md", (language, name), server.port(1080))?;
                Ok(Done::Passed)
            },
        );
    }
    steps.step("localserve ends when told to", || {
        server.stop()?;
        Ok(Done::Passed)
    });
    steps.step("Postfix's DSNs give events", || {
        let usable = postfix::check().and_then(|()| {
            ensure!(present("python3"), "python3 is not installed");
            Ok(())
        });
        if let Err(error) = usable {
            ensure!(!require, "{error:#}");
            return Ok(Done::Skipped(format!("{error:#}")));
        }
        returned::check()?;
        Ok(Done::Passed)
    });
}

type Check = fn(&mut Localserve) -> Result<()>;

/// Installs what is missing, if that can be done here.
fn install() -> Result<Done> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|name| !present(name))
        .chain((!perl_has_tls()).then_some(&"Net::SSLeay"))
        .collect();
    if missing.is_empty() {
        return Ok(Done::Passed);
    }
    if !Path::new("/etc/debian_version").exists() {
        return Ok(Done::Skipped(format!(
            "{missing:?} missing, and this is not Debian"
        )));
    }
    if !Uid::effective().is_root() {
        return Ok(Done::Skipped(format!(
            "{missing:?} missing, and we are not root"
        )));
    }
    let postfix_was_there = present("postfix");
    if !apt_install()? {
        // The lists of packages are old, or were never fetched.
        let updated = apt().arg("update").status()?.success();
        if !updated || !apt_install()? {
            return Ok(Done::Skipped(format!(
                "{missing:?} missing, and apt-get could not install them"
            )));
        }
    }
    // Debian's package may have started it, and only its programs are wanted.
    if !postfix_was_there && present("postfix") {
        let _ = Command::new("postfix")
            .arg("stop")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    Ok(Done::Passed)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null());
    command
}

fn apt_install() -> Result<bool> {
    let status = apt()
        .args(["install", "-y", "--no-install-recommends"])
        .args(PACKAGES)
        .status()
        .context("failed to run apt-get")?;
    Ok(status.success())
}

/// Whether swaks could speak TLS.
fn perl_has_tls() -> bool {
    let mut perl = program("perl");
    perl.args(["-MNet::SSLeay", "-e1"]).stderr(Stdio::null());
    perl.status().is_ok_and(|status| status.success())
}

/// A localserve that runs, and what its webhooks say.
struct Localserve {
    binary: PathBuf,
    dir: TempDir,
    offset: u16,
    child: Child,
    /// The command that it printed, to be pasted.
    curl_line: String,
    events: Events,
    checks: u32,
}

impl Localserve {
    fn start() -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("localserve-").tempdir()?;
        let offset = free_offset()?;
        // The first run makes the folder; the second has the webhook in its configuration.
        let (mut child, _) = spawn(&binary, dir.path(), offset)?;
        end(&mut child)?;
        let events = Events::listen()?;
        configure_webhook(&dir.path().join("config/domains.conf"), &events.url)?;
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

    fn port(&self, port: u16) -> u16 {
        port + self.offset
    }

    /// A recipient of its own for each check, by which the event is known.
    fn recipient(&mut self) -> (String, String) {
        self.checks += 1;
        let subject = format!("check {} of {}", self.checks, std::process::id());
        (format!("check{}@elsewhere.example", self.checks), subject)
    }

    fn wait_for_delivery(&mut self, subject: &str) -> Result<()> {
        self.events.wait_for(subject, |event| {
            event.get("Subject").and_then(Value::as_str) == Some(subject)
                && event.get("Event").and_then(Value::as_str) == Some("delivered")
        })?;
        Ok(())
    }

    fn postrider(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(self.dir.path().join("config/postrider.conf"));
        command.stdin(Stdio::null());
        command
    }

    fn stop(&mut self) -> Result<()> {
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
    // Different processes begin at different places.
    let begin = (std::process::id() % 200) as u16 * 100;
    // As free_port: below the ports of connections.
    (0..200)
        .map(|index| 10_000 + (begin + index * 100) % 20_000)
        .find(|offset| {
            [1025, 1080, 1443, 1465, 1587]
                .iter()
                .all(|port| free(port + offset))
        })
        .context("no offset has all ports free")
}

/// Starts localserve and gives it with the curl line that it prints.
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
    // The pipe is read to its end, so that the server never waits for us to read.
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

/// Reads what is printed up to the curl command, which may go on over several lines.
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

/// Tells a server to end and waits until it has.
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

fn smtplib(server: &mut Localserve, mode: &str, port: u16) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let port = server.port(port).to_string();
    finish(
        program("python3")
            .arg(root().join("xtask/peers/submit.py"))
            .args([mode, &port, LOGIN, PASSWORD, LOGIN, &recipient, &subject]),
    )?;
    server.wait_for_delivery(&subject)
}

fn smtplib_starttls(server: &mut Localserve) -> Result<()> {
    smtplib(server, "starttls", 1587)
}

fn smtplib_tls(server: &mut Localserve) -> Result<()> {
    smtplib(server, "tls", 1465)
}

fn swaks(server: &mut Localserve, tls: &str, auth: &str, port: u16) -> Result<()> {
    let (recipient, subject) = server.recipient();
    finish(
        program("swaks")
            .args(["--server", "127.0.0.1", tls, "--auth", auth])
            .args(["--port", &server.port(port).to_string()])
            .args(["--auth-user", LOGIN, "--auth-password", PASSWORD])
            .args(["--from", LOGIN, "--to", &recipient])
            .args(["--h-Subject", &subject, "--body", "from swaks"]),
    )?;
    server.wait_for_delivery(&subject)
}

fn swaks_starttls(server: &mut Localserve) -> Result<()> {
    swaks(server, "--tls", "PLAIN", 1587)
}

fn swaks_tls(server: &mut Localserve) -> Result<()> {
    swaks(server, "--tls-on-connect", "LOGIN", 1465)
}

fn msmtp(server: &mut Localserve) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let mut child = program("msmtp")
        .args(["--host=127.0.0.1", "--tls=on", "--tls-starttls=on"])
        .args(["--tls-certcheck=off", "--auth=plain"])
        .arg(format!("--port={}", server.port(1587)))
        .arg(format!("--user={LOGIN}"))
        .arg(format!("--passwordeval=echo {PASSWORD}"))
        .arg(format!("--from={LOGIN}"))
        .arg(&recipient)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // As a person's program writes it: local line ends, no Date, no Message-ID.
        write!(
            input,
            "From: {LOGIN}\nTo: {recipient}\nSubject: {subject}\n\nfrom msmtp\n"
        )?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "msmtp ended with {status}");
    server.wait_for_delivery(&subject)
}

fn curl(server: &mut Localserve) -> Result<()> {
    let output = finish(Command::new("bash").arg("-c").arg(&server.curl_line))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON came: {}", String::from_utf8_lossy(&output.stdout)))?;
    let Some(message_id) = answer.get("MessageID").and_then(Value::as_str) else {
        bail!("the answer has no MessageID: {answer}");
    };
    server.events.wait_for(message_id, |event| {
        event.get("MessageID").and_then(Value::as_str) == Some(message_id)
            && event.get("Event").and_then(Value::as_str) == Some("delivered")
    })?;
    Ok(())
}

fn smtp_source(server: &mut Localserve) -> Result<()> {
    // Fifty messages in five sessions, as a remote server would send them; it fails at the first refusal.
    finish(
        program("smtp-source")
            .args(["-s", "5", "-m", "50", "-l", "4096"])
            .args(["-f", "sender@elsewhere.example", "-t", LOGIN])
            .arg(format!("127.0.0.1:{}", server.port(1025))),
    )?;
    Ok(())
}

fn queue_list(server: &mut Localserve) -> Result<()> {
    // Its delivery fails for now, so it waits for its next attempt.
    let (recipient, subject) = ("waits.temperror@elsewhere.example", "it waits");
    let request = serde_json::json!({
        "To": [{ "Address": recipient }],
        "Subject": subject,
        "Text": "temporary",
    });
    finish(
        program("curl")
            .args(["--silent", "--show-error", "--fail-with-body"])
            .args(["--user", &format!("{LOGIN}:{PASSWORD}")])
            .args(["--data-urlencode", &format!("request={request}")])
            .arg(format!(
                "http://127.0.0.1:{}/webapi/v0/Send",
                server.port(1080)
            )),
    )?;
    server.events.wait_for("a delayed message", |event| {
        event.get("Subject").and_then(Value::as_str) == Some(subject)
            && event.get("Event").and_then(Value::as_str) == Some("delayed")
    })?;
    let output = finish(server.postrider().args(["queue", "list", "--json"]))?;
    let listed: Value =
        serde_json::from_slice(&output.stdout).context("queue list printed no JSON")?;
    let items = listed.as_array().context("queue list printed no array")?;
    ensure!(
        items
            .iter()
            .any(|item| item.to_string().contains(recipient)),
        "{recipient} is not listed: {listed}"
    );
    Ok(())
}

/// The structs, forms and strictness of Go's library, as clients of this API use them.
fn contract(server: &mut Localserve) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let base = format!("http://127.0.0.1:{}/webapi/v0/", server.port(1080));
    finish(
        program("go")
            .arg("run")
            .arg(root().join("xtask/peers/contract.go"))
            .args([&base, LOGIN, PASSWORD, &recipient, &subject]),
    )?;
    server.wait_for_delivery(&subject)
}

fn reports(server: &mut Localserve) -> Result<()> {
    let (recipient, subject) = server.recipient();
    // Each message by this login has a reverse-path of its own.
    let login = LOGIN.replace('@', "+id@");
    let submission = server.port(1587).to_string();
    finish(
        program("python3")
            .arg(root().join("xtask/peers/submit.py"))
            .args(["starttls", &submission, &login, PASSWORD, LOGIN])
            .args([&recipient, &subject]),
    )?;
    let about = |event: &Value, name: &str, dsn: bool| {
        event.get("Subject").and_then(Value::as_str) == Some(&subject)
            && event.get("Event").and_then(Value::as_str) == Some(name)
            && event.get("DSN").and_then(Value::as_bool) == Some(dsn)
    };
    let sent = server
        .events
        .wait_for(&subject, |event| about(event, "delivered", false))?;
    let from_id = sent.get("FromID").and_then(Value::as_str);
    let from_id = from_id.filter(|id| !id.is_empty());
    let from_id = from_id.with_context(|| format!("it has no FromID: {sent}"))?;
    let returns_to = LOGIN.replace('@', &format!("+{from_id}@"));
    for (action, event, status, diagnostic) in [
        ("delayed", "delayed", "4.4.1", "421 4.4.1 no answer"),
        ("relayed", "relayed", "2.0.0", ""),
        ("delivered", "delivered", "2.1.5", ""),
        ("expanded", "expanded", "2.0.0", ""),
        ("failed", "failed", "5.1.1", "550 5.1.1 no such user"),
        ("lost", "unrecognized", "5.0.0", ""),
    ] {
        finish(
            program("python3")
                .arg(root().join("xtask/peers/report.py"))
                .args([&server.port(1025).to_string(), &returns_to, &recipient])
                .args([action, status, diagnostic]),
        )?;
        let told = server
            .events
            .wait_for(&format!("{event} by DSN"), |it| about(it, event, true))?;
        ensure!(told.get("FromID") == sent.get("FromID"), "{told}");
        let suppressing = told.get("Suppressing").and_then(Value::as_bool);
        ensure!(suppressing == Some(event == "failed"), "{told}");
    }
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
