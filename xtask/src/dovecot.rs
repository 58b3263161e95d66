//! Dovecot as the server of the mailboxes: postrider gives it the mail by LMTP.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::User;
use tempfile::TempDir;

use crate::keys::Certificate;
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, program};
use crate::workspace::{Kept, Profile, build_postrider, root, serve};

/// How long the mail may take to its mailbox.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// The user whose mailboxes they are.
const USER: &str = "nobody";

/// A login that Dovecot knows.
pub(crate) const LOGIN: &str = "imap";
/// Its password.
pub(crate) const PASSWORD: &str = "x";

/// A Dovecot that serves LMTP on a Unix socket and on a port, and checks logins for other programs.
/// It is stopped when the value is dropped.
pub(crate) struct Dovecot {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let config = self.config();
        let stopped = program("dovecot")
            .arg("-c")
            .arg(&config)
            .arg("stop")
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Dovecot {
    /// Starts it. With `tls` its port offers STARTTLS, with a certificate of its own.
    pub(crate) fn start(tls: bool) -> Result<Self> {
        let user = User::from_name(USER)?.with_context(|| format!("there is no user {USER}"))?;
        let dir = tempfile::Builder::new().prefix("dovecot-").tempdir()?;
        // Dovecot's own users must be able to enter the folder.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let mail = dir.path().join("mail");
        fs::create_dir(&mail)?;
        chown(&mail, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        let port = free_port()?;
        let (base, uid, gid) = (dir.path().display(), user.uid, user.gid);
        let ssl = match tls {
            true => {
                let files = Certificate::create(dir.path())?;
                let [certificate, key] = [files.certificate, files.key];
                format!(
                    "ssl = yes\nssl_cert = <{}\nssl_key = <{}\n",
                    certificate.display(),
                    key.display()
                )
            }
            false => "ssl = no\n".to_owned(),
        };
        // The user `full` does not exist, and each other local-part is a user.
        let config = format!(
            "base_dir = {base}/run\nstate_dir = {base}/state\nlog_path = {base}/log\n\
             protocols = lmtp\n{ssl}first_valid_uid = 1\n\
             default_internal_user = {USER}\ndefault_login_user = {USER}\n\
             mail_location = maildir:{base}/mail/%n\n\
             userdb {{\n  driver = passwd-file\n  args = username_format=%n {base}/users\n\
               default_fields = uid={uid} gid={gid} home={base}/mail/%n\n}}\n\
             passdb {{\n  driver = passwd-file\n  args = username_format=%n {base}/users\n}}\n\
             auth_mechanisms = plain login scram-sha-1 scram-sha-256\n\
             service auth {{\n  unix_listener {base}/auth {{\n    mode = 0666\n  }}\n}}\n\
             service lmtp {{\n  unix_listener {base}/lmtp {{\n    mode = 0666\n  }}\n  \
               inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n}}\n"
        );
        fs::write(
            dir.path().join("users"),
            format!("{LOGIN}:{{PLAIN}}{PASSWORD}::::::\ntcp:{{PLAIN}}{PASSWORD}::::::\n"),
        )?;
        fs::write(dir.path().join("dovecot.conf"), config)?;
        let child = program("dovecot")
            .arg("-F")
            .arg("-c")
            .arg(dir.path().join("dovecot.conf"))
            .stdin(Stdio::null())
            .spawn()
            .context("failed to run dovecot")?;
        let dovecot = Self { dir, port, child };
        if let Err(error) = wait_for_port(port) {
            bail!("{error:#}; the log of Dovecot: {}", dovecot.log());
        }
        Ok(dovecot)
    }

    /// The socket at which other programs have logins checked.
    pub(crate) fn auth_socket(&self) -> PathBuf {
        self.dir.path().join("auth")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("dovecot.conf")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits for a mail of a user.
    fn mail(&self, user: &str) -> Result<String> {
        let folder = self.dir.path().join("mail").join(user).join("new");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(mut entries) = fs::read_dir(&folder)
                && let Some(entry) = entries.next()
            {
                return Ok(fs::read_to_string(entry?.path())?);
            }
            std::thread::sleep(PAUSE);
        }
        bail!(
            "no mail came to {folder:?}; the log of Dovecot: {}",
            self.log()
        )
    }
}

/// A postrider that gives the mail of its addresses to Dovecot.
struct Server {
    _postrider: Kept,
    mx: u16,
    _dir: TempDir,
}

impl Server {
    fn start(dovecot: &Dovecot) -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("lmtp-").tempdir()?;
        let folder = dir.path().join("config");
        fs::create_dir(&folder)?;
        let mx = free_port()?;
        let (port, socket) = (dovecot.port, dovecot.dir.path().join("lmtp"));
        fs::write(
            folder.join("postrider.conf"),
            format!(
                "hostname = \"mail.app.example\"\nuser = \"\"\ndata_dir = \"data\"\nlog.level = \"warn\"\n\
                 resolver = {{ servers = [\"127.0.0.1:9\"], timeout = \"100ms\" }}\n\
                 postmaster.account = \"app\"\n\
                 [listeners.test]\nips = [\"127.0.0.1\"]\n\
                 smtp = {{ enabled = true, port = {mx} }}\n\
                 [transports.socket.lmtp]\nsocket = {socket:?}\n\
                 [transports.port.lmtp]\nhost = \"127.0.0.1\"\nport = {port}\n"
            ),
        )?;
        fs::write(
            folder.join("domains.conf"),
            "[domains.\"app.example\"]\n[accounts.app]\ndomain = \"app.example\"\n\
             destinations.\"imap@app.example\" = { forward_lmtp = \"socket\" }\n\
             destinations.\"tcp@app.example\" = { forward_lmtp = \"port\" }\n",
        )?;
        let child = serve(&binary, &folder.join("postrider.conf"))
            .spawn()
            .with_context(|| format!("failed to run {binary:?}"))?;
        let server = Self {
            _postrider: Kept(child),
            mx,
            _dir: dir,
        };
        wait_for_port(mx)?;
        Ok(server)
    }

    fn send(&self, recipient: &str) -> Result<()> {
        let script: &Path = &root().join("xtask/peers/deliver.py");
        finish(
            program("python3")
                .arg(script)
                .args([&self.mx.to_string(), recipient]),
        )?;
        Ok(())
    }
}

/// Sends a message to an address behind each kind of transport, and reads it from the mailbox. Over
/// TCP it comes with TLS if Dovecot offers that, else in clear.
pub(crate) fn check() -> Result<()> {
    for tls in [false, true] {
        let dovecot = Dovecot::start(tls)?;
        let server = Server::start(&dovecot)?;
        for user in ["imap", "tcp"] {
            let recipient = format!("{user}@app.example");
            server.send(&recipient)?;
            let mail = dovecot.mail(user)?.replace("\r\n", "\n");
            let delivered = format!("Delivered-To: {recipient}");
            let with = match tls && user == "tcp" {
                true => "with LMTPS\n",
                false => "with LMTP\n",
            };
            for wanted in [
                "Return-Path: <bob@elsewhere.example>",
                delivered.as_str(),
                with,
                "Authentication-Results: mail.app.example; dmarc=temperror",
                "Subject: by LMTP",
                "\n.a line with a dot\n",
            ] {
                ensure!(mail.contains(wanted), "{wanted:?} is missing in {mail}");
            }
        }
    }
    Ok(())
}
