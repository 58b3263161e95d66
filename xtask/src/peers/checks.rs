//! The checks: each runs a program against localserve and waits for the result.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::localserve::Localserve;
use super::{LOGIN, PASSWORD};
use crate::programs::{finish, program};
use crate::workspace::root;

fn smtplib(server: &mut Localserve, mode: &str, port: u16, more: &[&str]) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let port = server.port(port).to_string();
    finish(
        program("python3")
            .arg(root().join("xtask/peers/submit.py"))
            .args([mode, &port, LOGIN, PASSWORD, LOGIN, &recipient, &subject])
            .args(more),
    )?;
    server.wait_for_delivery(&subject)
}

pub(super) fn smtplib_starttls(server: &mut Localserve) -> Result<()> {
    smtplib(server, "starttls", 1587, &[])
}

pub(super) fn smtplib_tls(server: &mut Localserve) -> Result<()> {
    smtplib(server, "tls", 1465, &[])?;
    smtplib(server, "tls", 1465, &["login"])
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

pub(super) fn swaks_starttls(server: &mut Localserve) -> Result<()> {
    swaks(server, "--tls", "PLAIN", 1587)
}

pub(super) fn swaks_tls(server: &mut Localserve) -> Result<()> {
    swaks(server, "--tls-on-connect", "LOGIN", 1465)
}

pub(super) fn msmtp(server: &mut Localserve) -> Result<()> {
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
        // A message as a script writes it: local line ends, no Date, no Message-ID.
        write!(
            input,
            "From: {LOGIN}\nTo: {recipient}\nSubject: {subject}\n\nfrom msmtp\n"
        )?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "msmtp ended with {status}");
    server.wait_for_delivery(&subject)
}

pub(super) fn curl(server: &mut Localserve) -> Result<()> {
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

pub(super) fn smtp_source(server: &mut Localserve) -> Result<()> {
    // Fifty messages in five sessions, as from a remote server. The program fails at the first
    // refusal.
    finish(
        program("smtp-source")
            .args(["-s", "5", "-m", "50", "-l", "4096"])
            .args(["-f", "sender@elsewhere.example", "-t", LOGIN])
            .arg(format!("127.0.0.1:{}", server.port(1025))),
    )?;
    Ok(())
}

pub(super) fn queue_list(server: &mut Localserve) -> Result<()> {
    // The delivery fails for now. So the message waits for its next attempt.
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

/// Exports the mail of the account, and reads it with Python's mailbox module.
pub(super) fn exports(server: &mut Localserve) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let port = server.port(1587).to_string();
    finish(
        program("python3")
            .arg(root().join("xtask/peers/submit.py"))
            .args(["starttls", &port, LOGIN, PASSWORD, LOGIN])
            .args([&recipient, &subject]),
    )?;
    server.wait_for_delivery(&subject)?;
    let dir = tempfile::Builder::new().prefix("export-").tempdir()?;
    let mut counts = Vec::new();
    for form in ["maildir", "mbox"] {
        let target = dir.path().join(form);
        let mut export = server.postrider();
        finish(export.args(["export", form]).arg(&target).arg("postrider"))?;
        let output = finish(
            program("python3")
                .arg(root().join("xtask/peers/mailboxes.py"))
                .arg(form)
                .arg(&target),
        )?;
        let found: Value = serde_json::from_slice(&output.stdout)?;
        let found = found.as_array().context("it printed no array")?;
        let has = |mail: &&Value| mail.get("subject").and_then(Value::as_str) == Some(&subject);
        ensure!(
            found.iter().any(|mail| has(&mail)),
            "{subject:?} is not in {found:?}"
        );
        counts.push(found.len());
        let again = server
            .postrider()
            .args(["export", form])
            .arg(&target)
            .arg("postrider")
            .output()?;
        ensure!(!again.status.success(), "{form} was written twice");
    }
    ensure!(counts.first() == counts.last(), "{counts:?} mails");
    Ok(())
}

/// A client with the types, the forms and the strictness of Go's library.
pub(super) fn contract(server: &mut Localserve) -> Result<()> {
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

pub(super) fn reports(server: &mut Localserve) -> Result<()> {
    let (recipient, subject) = server.recipient();
    // Each message of this login has a reverse-path of its own.
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
