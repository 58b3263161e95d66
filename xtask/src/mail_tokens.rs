//! Mail tokens of postrider log in at Dovecot, which asks postrider about each of them (RFC 7662).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::User;
use tempfile::TempDir;

use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, program};
use crate::workspace::{Kept, Profile, build_postrider, root, serve, set_password, write_private};

/// The user whose mailboxes they are.
const USER: &str = "nobody";
/// The address that logs in, and its password.
const ADDRESS: &str = "app@app.example";
const PASSWORD: &str = "the password of the app";

/// A postrider that gives out mail tokens, and a key with which Dovecot asks about them.
struct Server {
    _postrider: Kept,
    _dir: TempDir,
    port: u16,
    key: String,
}

impl Server {
    fn start() -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("tokens-").tempdir()?;
        let folder = dir.path().join("config");
        fs::create_dir(&folder)?;
        let port = free_port()?;
        let conf = folder.join("postrider.conf");
        fs::write(
            &conf,
            format!(
                "hostname = \"mail.app.example\"\nuser = \"\"\ndata_dir = \"data\"\nlog.level = \"warn\"\n\
                 resolver = {{ servers = [\"127.0.0.1:9\"], timeout = \"100ms\" }}\n\
                 postmaster.account = \"app\"\noauth.issuer = true\n\
                 [listeners.test]\nips = [\"127.0.0.1\"]\n\
                 mail_api_http = {{ enabled = true, port = {port} }}\n"
            ),
        )?;
        fs::write(
            folder.join("domains.conf"),
            format!(
                "[domains.\"app.example\"]\n[accounts.app]\ndomain = \"app.example\"\n\
                 destinations.\"{ADDRESS}\" = {{}}\ndestinations.\"other@app.example\" = {{}}\n"
            ),
        )?;
        let child = serve(&binary, &conf).spawn();
        let child = Kept(child.with_context(|| format!("failed to run {binary:?}"))?);
        wait_for_port(port)?;
        set_password(&binary, &conf, "app", PASSWORD)?;
        let made = Command::new(&binary)
            .arg("--config")
            .arg(&conf)
            .args(["apikey", "add", "dovecot", "--scope", "manage-read"])
            .output()?;
        ensure!(made.status.success(), "apikey add failed: {made:?}");
        Ok(Self {
            _postrider: child,
            _dir: dir,
            port,
            key: String::from_utf8(made.stdout)?.trim().to_owned(),
        })
    }

    /// The base of the mailbox API, with this login in it.
    fn api(&self, login: &str) -> String {
        format!("http://{login}127.0.0.1:{}/api/v1/", self.port)
    }
}

/// A Dovecot that serves IMAP to those who have a token.
struct Dovecot {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let config = self.dir.path().join("dovecot.conf");
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
    fn start(server: &Server) -> Result<Self> {
        let user = User::from_name(USER)?.with_context(|| format!("there is no user {USER}"))?;
        let dir = tempfile::Builder::new().prefix("dovecot-").tempdir()?;
        // Dovecot's own users must be able to enter the folder.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let mail = dir.path().join("mail");
        fs::create_dir(&mail)?;
        chown(&mail, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        let port = free_port()?;
        let (base, uid, gid) = (dir.path().display(), user.uid, user.gid);
        let url = server.api(&format!("dovecot:{}@", server.key));
        let oauth = dir.path().join("oauth2.conf");
        write_private(
            &oauth,
            format!(
                "introspection_mode = post\nintrospection_url = {url}auth/token/introspect\n\
                 username_attribute = username\nactive_attribute = active\nactive_value = true\n"
            )
            .as_bytes(),
        )?;
        let config = format!(
            "base_dir = {base}/run\nstate_dir = {base}/state\nlog_path = {base}/log\n\
             protocols = imap\nssl = no\nfirst_valid_uid = 1\ndisable_plaintext_auth = no\n\
             default_internal_user = {USER}\ndefault_login_user = {USER}\n\
             mail_location = maildir:{base}/mail/%n\n\
             userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={base}/mail/%n\n}}\n\
             passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  \
               args = {oauth}\n}}\n\
             auth_mechanisms = xoauth2 oauthbearer\n\
             service imap-login {{\n  inet_listener imap {{\n    address = 127.0.0.1\n    \
               port = {port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n",
            oauth = oauth.display()
        );
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

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Lets Python's imaplib log in with a good token, a wrong one, that of somebody else, and one that
/// was revoked.
pub(crate) fn check() -> Result<()> {
    let server = Server::start()?;
    let dovecot = Dovecot::start(&server)?;
    let script: &Path = &root().join("xtask/peers/imap_token.py");
    let port = dovecot.port.to_string();
    let ended = finish(program("python3").arg(script).args([
        server.api("").as_str(),
        &port,
        ADDRESS,
        PASSWORD,
    ]));
    ended
        .map(drop)
        .with_context(|| format!("the log of Dovecot: {}", dovecot.log()))
}
