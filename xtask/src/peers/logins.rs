//! The ways to log in, by programs that know more of them than PLAIN and LOGIN.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::localserve::Localserve;
use super::{LOGIN, PASSWORD};
use crate::introspection::TOKEN;
use crate::programs::{finish, program};

/// Submits a message with msmtp, which logs in so.
fn msmtp(server: &mut Localserve, method: &str, secret: &str, more: &[String]) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let mut child = program("msmtp")
        .args(["--host=127.0.0.1", "--tls=on", "--tls-starttls=on"])
        .args(["--tls-certcheck=off", &format!("--auth={method}")])
        .arg(format!("--port={}", server.port(1587)))
        .arg(format!("--user={LOGIN}"))
        .arg(format!("--passwordeval=echo {secret}"))
        .arg(format!("--from={LOGIN}"))
        .args(more)
        .arg(&recipient)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        write!(
            input,
            "From: {LOGIN}\nTo: {recipient}\nSubject: {subject}\n\nby {method}\n"
        )?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "msmtp with {method} ended with {status}");
    server.wait_for_delivery(&subject)
}

pub(super) fn msmtp_scram(server: &mut Localserve) -> Result<()> {
    msmtp(server, "scram-sha-256", PASSWORD, &[])?;
    msmtp(server, "scram-sha-1", PASSWORD, &[])
}

pub(super) fn msmtp_oauth(server: &mut Localserve) -> Result<()> {
    msmtp(server, "oauthbearer", TOKEN, &[])?;
    msmtp(server, "xoauth2", TOKEN, &[])
}

pub(super) fn msmtp_external(server: &mut Localserve) -> Result<()> {
    let dir = tempfile::tempdir()?;
    finish(
        server
            .postrider()
            .args(["tlspubkey", "gen"])
            .arg(dir.path().join("client")),
    )?;
    let certificate = made(dir.path(), ".certificate.pem")?;
    let key = made(dir.path(), ".ed25519privatekey.pkcs8.pem")?;
    let added = finish(
        server
            .postrider()
            .args(["tlspubkey", "add", LOGIN, &certificate]),
    )?;
    let shown = [
        format!("--tls-cert-file={certificate}"),
        format!("--tls-key-file={key}"),
    ];
    msmtp(server, "external", "none", &shown)?;
    let fingerprint = String::from_utf8_lossy(&added.stdout).trim().to_owned();
    let listed = finish(server.postrider().args(["tlspubkey", "list"]))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let line = listed.lines().find(|line| line.starts_with(&fingerprint));
    let line = line.with_context(|| format!("{fingerprint} is not listed: {listed}"))?;
    ensure!(!line.ends_with("never"), "the use was not noted: {line}");
    Ok(())
}

/// The file in a folder whose name ends so.
fn made(dir: &Path, end: &str) -> Result<String> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path().display().to_string();
        if path.ends_with(end) {
            return Ok(path);
        }
    }
    anyhow::bail!("no file was made that ends with {end}")
}

/// curl chooses OAUTHBEARER or XOAUTH2 by its options.
pub(super) fn curl_oauth(server: &mut Localserve) -> Result<()> {
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        let (recipient, subject) = server.recipient();
        let mut message = tempfile::NamedTempFile::new()?;
        write!(
            message,
            "From: {LOGIN}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nby {mechanism}\r\n"
        )?;
        finish(
            program("curl")
                .args(["--silent", "--show-error", "--ssl-reqd", "--insecure"])
                .args(["--user", &format!("{LOGIN}:"), "--oauth2-bearer", TOKEN])
                .args(["--login-options", &format!("AUTH={mechanism}")])
                .args(["--mail-from", LOGIN, "--mail-rcpt", &recipient])
                .arg("--upload-file")
                .arg(message.path())
                .arg(format!("smtp://127.0.0.1:{}", server.port(1587))),
        )?;
        server.wait_for_delivery(&subject)?;
    }
    Ok(())
}

/// gsasl binds its logins to the TLS channel.
pub(super) fn gsasl_plus(server: &mut Localserve) -> Result<()> {
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"] {
        let output = finish(
            program("gsasl")
                .args(["--client", "--smtp", "--mechanism", mechanism])
                .args(["--connect", &format!("127.0.0.1:{}", server.port(1587))])
                .args(["--authentication-id", LOGIN, "--password", PASSWORD])
                .args(["--no-client-first", "--x509-ca-file="])
                .stdin(Stdio::null()),
        )?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        ensure!(
            said.contains("235 2.7.0") || said.contains("finished successfully"),
            "gsasl did not log in with {mechanism}: {said}"
        );
    }
    Ok(())
}
