//! A postrider of our own for measurements: configuration and data in a temporary folder, one
//! submission listener on loopback, one account, and a smarthost for all mail. It is killed when
//! the value is dropped.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::compare::{DNS, MAILBOX_DOMAIN, MAILBOXES, Target, Work};
use crate::keys::{Certificate, create_dkim_key};
use crate::ports::{free_port, wait_for_port};
use crate::process::{Processes, threads};
use crate::workspace::{serve, set_password};

const DOMAIN: &str = "load.example";
const LOGIN: &str = "load@load.example";
const PASSWORD: &str = "a password for a server that is measured";
/// Login and password of the account.
pub(crate) const LOGIN_AND_PASSWORD: (&str, &str) = (LOGIN, PASSWORD);

/// The folder and the ports of an instance. They stay the same when the server stops and starts.
pub(crate) struct Instance {
    dir: TempDir,
    binary: PathBuf,
    /// The port of submission; for [`Work::Receive`], that of the MX.
    pub(crate) port: u16,
    /// The port of the webapi.
    pub(crate) http: u16,
    work: Work,
}

/// The settings that differ between instances.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) work: Work,
    /// The port of the smarthost. For [`Work::Accept`] the smarthost never greets. So the queue
    /// waits and delivers nothing.
    pub(crate) relay: u16,
    /// Whether submission speaks TLS from the first byte, or no TLS at all.
    pub(crate) tls: bool,
    /// Whether the smarthost is spoken to with TLS, with any certificate.
    pub(crate) relay_tls: bool,
    /// What outgoing messages are signed with.
    pub(crate) dkim: Option<Dkim>,
    /// The port of a stage hook that is asked about each message.
    pub(crate) hook: Option<u16>,
    /// Mail goes straight to the hosts that this DNS server names.
    pub(crate) resolver: Option<SocketAddr>,
}

/// The keys that outgoing messages are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dkim {
    /// A key of Ed25519
    Ed25519,
    /// A key of Ed25519 and one of RSA with 2048 bits: two signatures
    Both,
}

/// An instance that runs.
pub(crate) struct Running {
    child: Child,
}

impl Instance {
    /// Writes both configuration files, in a new folder under `parent`.
    pub(crate) fn create(parent: &Path, binary: &Path, setup: Setup) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("postrider-")
            .tempdir_in(parent)?;
        let instance = Self {
            binary: binary.to_owned(),
            port: free_port()?,
            http: free_port()?,
            work: setup.work,
            dir,
        };
        let config = instance.dir.path().join("config");
        fs::create_dir(&config)?;
        fs::write(instance.config(), instance.postrider_conf(setup))?;
        let mut domains = domains_conf(setup.resolver.is_none());
        if setup.tls {
            Certificate::create(&config)?;
        }
        if setup.work == Work::Receive {
            domains.push_str(&mailboxes());
        }
        if let Some(dkim) = setup.dkim {
            create_dkim_key(&config.join("ed25519.pem"), false)?;
            domains.push_str(match dkim {
                Dkim::Ed25519 => DKIM_ED25519,
                Dkim::Both => DKIM_BOTH,
            });
            if dkim == Dkim::Both {
                create_dkim_key(&config.join("rsa.pem"), true)?;
            }
        }
        fs::write(config.join("domains.conf"), domains)?;
        Ok(instance)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config/postrider.conf")
    }

    fn postrider_conf(&self, setup: Setup) -> String {
        let (port, http, relay) = (self.port, self.http, setup.relay);
        let submission = if setup.tls {
            format!(
                "submissions = {{ enabled = true, port = {port} }}\n\
                 tls.certs = [{{ cert_file = \"certificate.pem\", key_file = \"key.pem\" }}]"
            )
        } else {
            format!("submission = {{ enabled = true, port = {port}, require_tls = false }}")
        };
        // One stalled delivery is enough to make the queue wait.
        let connections = match setup.work {
            Work::Accept | Work::Receive => 1,
            Work::Relay => 10,
        };
        // Strangers come through a proxy, so that they have addresses of their own.
        let (submission, proxy, more) = match setup.work {
            Work::Receive => (
                format!("smtp = {{ port = {port} }}"),
                "proxy_from = [\"127.0.0.1\"]\n",
                receive(),
            ),
            Work::Accept | Work::Relay => (submission, "", String::new()),
        };
        let relay_tls = match setup.relay_tls {
            true => "insecure_skip_verify = true",
            false => "no_starttls = true",
        };
        let more = match setup.resolver {
            Some(resolver) => format!(
                "{more}resolver = {{ servers = [\"{resolver}\"], dnssec = false }}\n\
                 delivery.mta_sts = false\ndelivery.dane = false\n"
            ),
            None => more,
        };
        let hook = match setup.hook {
            Some(hook) => {
                format!("[hooks.asked]\nurl = \"http://127.0.0.1:{hook}/\"\nstages = [\"data\"]\n")
            }
            None => String::new(),
        };
        format!(
            r#"hostname = "load.example"
user = ""
log.level = "warn"
postmaster.account = "load"
limits.messages_per_connection = 1000000000
{more}
[queue.per_destination]
connections = {connections}

[listeners.load]
ips = ["127.0.0.1"]
{proxy}{submission}
webapi_http = {{ enabled = true, port = {http} }}

[transports.sink.smtp]
host = "127.0.0.1"
port = {relay}
{relay_tls}

{hook}"#
        )
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&self) -> Result<Running> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))?;
        let child = serve(&self.binary, &self.config())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to run {:?}", self.binary))?;
        let mut running = Running { child };
        if let Err(error) = wait_for_port(self.port) {
            let ended = running.child.try_wait().ok().flatten();
            bail!(
                "{error:#}; the server {}; {}",
                ended.map_or("runs".to_owned(), |status| format!("ended ({status})")),
                self.state_of(&running)
            );
        }
        Ok(running)
    }

    /// Threads and log of a server that does not do what it should, for an error.
    pub(crate) fn state_of(&self, running: &Running) -> String {
        format!(
            "its threads: {}; its log: {}",
            threads(running.id()),
            fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
        )
    }

    /// Runs a command about the queue of the running server.
    pub(crate) fn queue(&self, command: &str) -> Result<()> {
        let mut queue = Command::new(&self.binary);
        queue.arg("--config").arg(self.config());
        let status = queue
            .args(["queue", command])
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "postrider queue {command} failed");
        Ok(())
    }

    /// Sets the account's password on the running server.
    pub(crate) fn set_password(&self) -> Result<()> {
        set_password(&self.binary, &self.config(), "load", PASSWORD)
    }

    pub(crate) fn target(&self, running: &Running) -> Target {
        let login = (LOGIN.to_owned(), PASSWORD.to_owned());
        Target {
            port: self.port,
            webapi: None,
            from: LOGIN.to_owned(),
            // An MX has no logins.
            login: (self.work != Work::Receive).then_some(login),
            processes: Processes::new(vec![running.child.id()]),
        }
    }
}

impl Running {
    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server as a crash would: SIGKILL, at once.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an MX that is measured has besides: its DNS server, and limits that the load stays below.
fn receive() -> String {
    format!(
        "limits.messages_per_network = 1000000\n\
         policy.greylist = false\n\
         policy.first_time_sender_delay = \"0s\"\n\
         resolver = {{ servers = [\"{DNS}:53\"], dnssec = false }}\n"
    )
}

/// The accounts of an MX that is measured.
fn mailboxes() -> String {
    let mut text = format!("[domains.\"{MAILBOX_DOMAIN}\"]\n");
    for number in 1..=MAILBOXES {
        text.push_str(&format!(
            "[accounts.sink{number}]\ndomain = \"{MAILBOX_DOMAIN}\"\n\
             destinations.\"sink-{number}@{MAILBOX_DOMAIN}\" = {{}}\n"
        ));
    }
    text
}

/// The end of domains.conf if messages are signed.
const DKIM_ED25519: &str = r#"
[domains."load.example".dkim]
sign = ["e"]
selectors.e = { private_key_file = "ed25519.pem", algorithm = "ed25519" }
"#;
const DKIM_BOTH: &str = r#"
[domains."load.example".dkim]
sign = ["e", "r"]
selectors.e = { private_key_file = "ed25519.pem", algorithm = "ed25519" }
selectors.r = { private_key_file = "rsa.pem", algorithm = "rsa" }
"#;

fn domains_conf(routed: bool) -> String {
    let routes = match routed {
        true => "routes = [{ transport = \"sink\" }]\n",
        false => "",
    };
    format!(
        r#"[domains."{DOMAIN}"]

[accounts.load]
domain = "{DOMAIN}"
max_outgoing_messages_per_day = 1000000000
max_first_time_recipients_per_day = 1000000000
{routes}
[accounts.load.destinations."{LOGIN}"]
"#
    )
}
