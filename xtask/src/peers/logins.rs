//! The ways to log in, by programs that know more of them than PLAIN and LOGIN.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tempfile::{NamedTempFile, TempDir};

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

pub(super) fn msmtp_passwords(server: &mut Localserve) -> Result<()> {
    for method in ["login", "scram-sha-256", "scram-sha-1"] {
        msmtp(server, method, PASSWORD, &[])?;
    }
    Ok(())
}

pub(super) fn msmtp_oauth(server: &mut Localserve) -> Result<()> {
    msmtp(server, "oauthbearer", TOKEN, &[])?;
    msmtp(server, "xoauth2", TOKEN, &[])
}

pub(super) fn msmtp_external(server: &mut Localserve) -> Result<()> {
    let own = Certificate::create(server)?;
    let shown = [
        format!("--tls-cert-file={}", own.certificate),
        format!("--tls-key-file={}", own.key),
    ];
    msmtp(server, "external", "none", &shown)?;
    own.was_used(server)
}

/// A certificate that may log in.
struct Certificate {
    certificate: String,
    key: String,
    fingerprint: String,
    _dir: TempDir,
}

impl Certificate {
    fn create(server: &Localserve) -> Result<Self> {
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
        let fingerprint = String::from_utf8_lossy(&added.stdout).trim().to_owned();
        Ok(Self {
            certificate,
            key,
            fingerprint,
            _dir: dir,
        })
    }

    /// Fails unless the server noted a login with it.
    fn was_used(&self, server: &Localserve) -> Result<()> {
        let fingerprint = &self.fingerprint;
        let listed = finish(server.postrider().args(["tlspubkey", "list"]))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line = listed.lines().find(|line| line.starts_with(fingerprint));
        let line = line.with_context(|| format!("{fingerprint} is not listed: {listed}"))?;
        ensure!(!line.ends_with("never"), "the use was not noted: {line}");
        Ok(())
    }
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

/// Submits a message with curl, which chooses the mechanism by its login options.
fn curl(server: &mut Localserve, mechanism: &str, secret: &[&str]) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let mut message = NamedTempFile::new()?;
    write!(
        message,
        "From: {LOGIN}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nby {mechanism}\r\n"
    )?;
    let output = finish(
        program("curl")
            .args(["--verbose", "--show-error", "--ssl-reqd", "--insecure"])
            .args(secret)
            .args(["--login-options", &format!("AUTH={mechanism}")])
            .args(["--mail-from", LOGIN, "--mail-rcpt", &recipient])
            .arg("--upload-file")
            .arg(message.path())
            .arg(format!("smtp://127.0.0.1:{}", server.port(1587))),
    )?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        said.contains(&format!("> AUTH {mechanism}")),
        "curl did not use {mechanism}: {said}"
    );
    server.wait_for_delivery(&subject)
}

pub(super) fn curl_passwords(server: &mut Localserve) -> Result<()> {
    let both = format!("{LOGIN}:{PASSWORD}");
    curl(server, "PLAIN", &["--user", &both])?;
    curl(server, "LOGIN", &["--user", &both])
}

/// With a token curl prefers OAUTHBEARER, whatever its login options say.
pub(super) fn curl_oauth(server: &mut Localserve) -> Result<()> {
    let user = format!("{LOGIN}:");
    let secret = ["--user", &user, "--oauth2-bearer", TOKEN];
    curl(server, "OAUTHBEARER", &secret)
}

pub(super) fn curl_external(server: &mut Localserve) -> Result<()> {
    let own = Certificate::create(server)?;
    let user = format!("{LOGIN}:");
    let shown = ["--cert", &own.certificate, "--key", &own.key];
    let secret = [&["--user", &user], &shown[..]].concat();
    curl(server, "EXTERNAL", &secret)?;
    own.was_used(server)
}

/// Submits a message with mutt for each mechanism that it and the server know.
pub(super) fn mutt(server: &mut Localserve) -> Result<()> {
    for mechanism in [
        "plain",
        "login",
        "scram-sha-1",
        "scram-sha-256",
        "oauthbearer",
        "xoauth2",
    ] {
        let (recipient, subject) = server.recipient();
        let home = tempfile::tempdir()?;
        let settings = home.path().join("muttrc");
        fs::write(&settings, muttrc(server, mechanism))?;
        let body = home.path().join("body");
        fs::write(&body, "Grüße\n.\n")?;
        finish(
            program("mutt")
                .env("HOME", home.path())
                .env("LC_ALL", "C.UTF-8")
                .arg("-n")
                .arg("-F")
                .arg(&settings)
                .args(["-s", &subject, &recipient])
                .stdin(fs::File::open(&body)?),
        )
        .with_context(|| format!("mutt with {mechanism}"))?;
        server.wait_for_delivery(&subject)?;
    }
    Ok(())
}

fn muttrc(server: &Localserve, mechanism: &str) -> String {
    let user = LOGIN.replace('@', "%40");
    let port = server.port(1587);
    let certificate = server.certificate();
    format!(
        "set from = \"{LOGIN}\"\n\
         set use_from = yes\n\
         set use_envelope_from = yes\n\
         set hostname = \"localhost\"\n\
         set smtp_url = \"smtp://{user}@127.0.0.1:{port}\"\n\
         set smtp_pass = \"{PASSWORD}\"\n\
         set smtp_oauth_refresh_command = \"echo {TOKEN}\"\n\
         set smtp_authenticators = \"{mechanism}\"\n\
         set ssl_starttls = yes\n\
         set ssl_force_tls = yes\n\
         set certificate_file = \"{}\"\n\
         set copy = no\n\
         set record = \"\"\n",
        certificate.display()
    )
}

/// gsasl binds its logins to the TLS channel, unless it is told not to.
pub(super) fn gsasl(server: &mut Localserve) -> Result<()> {
    for (mechanism, more) in [
        ("SCRAM-SHA-256-PLUS", None),
        ("SCRAM-SHA-1-PLUS", None),
        ("SCRAM-SHA-256", Some("--no-cb")),
        ("SCRAM-SHA-1", Some("--no-cb")),
    ] {
        let output = finish(
            program("gsasl")
                .args(["--client", "--smtp", "--mechanism", mechanism])
                .args(["--connect", &format!("127.0.0.1:{}", server.port(1587))])
                .args(["--authentication-id", LOGIN, "--password", PASSWORD])
                .args(["--no-client-first", "--x509-ca-file="])
                .args(more)
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
