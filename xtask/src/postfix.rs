//! A Postfix of our own on loopback, with configuration, queue and data in a temporary folder. It
//! stops when the value is dropped. Only the programs of the installed Postfix are used. Its
//! configuration and its queue stay as they are.
//!
//! Postfix is tuned for speed: no chroot, no DNS, no address rewriting, no flow control between
//! input and delivery, many processes that live long. Delivery processes do not hand over
//! connections: on loopback a new connection costs less (1.06 against 1.53 CPU seconds per 1000
//! relayed messages). No setting that keeps a message safe is turned off.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Uid, User};
use tempfile::TempDir;

use crate::compare::{DNS, Target, Work};
use crate::keys::Certificate;
use crate::milters::Milters;
use crate::ports::{free_port, wait_for_port};
use crate::process::Processes;

pub(crate) struct Postfix {
    dir: TempDir,
    port: u16,
    master: u32,
    milters: Option<Milters>,
}

/// Fails if the programs are not installed, or if we may not run them.
pub(crate) fn check() -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "Postfix's master can be started by root only"
    );
    let output = Command::new("postconf")
        .args(["-h", "mail_version"])
        .output()
        .context("failed to run postconf (is Postfix installed? apt-get install postfix)")?;
    ensure!(output.status.success(), "postconf failed");
    Ok(())
}

impl Postfix {
    /// Makes an instance in a new folder under `parent` and starts it. With `tls` its port speaks
    /// TLS from the first byte. Each entry of `more` is a setting `NAME=VALUE` that replaces ours.
    pub(crate) fn start(
        parent: &Path,
        work: Work,
        sink: u16,
        tls: bool,
        more: &[String],
    ) -> Result<Self> {
        Self::start_with(parent, work, sink, tls, more, "")
    }

    /// The same with further services: lines of master.cf.
    pub(crate) fn start_with(
        parent: &Path,
        work: Work,
        sink: u16,
        tls: bool,
        more: &[String],
        services: &str,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("postfix-")
            .tempdir_in(parent)?;
        // Postfix's own user must be able to enter the folder.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let port = free_port()?;
        make_folders(dir.path())?;
        let config = dir.path().join("config");
        let mut main_cf = main_cf(dir.path(), work, sink)?;
        let milters = match work {
            Work::Receive => Some(Milters::start(&config, DNS)?),
            Work::Accept | Work::Relay => None,
        };
        if let Some(milters) = &milters {
            main_cf.push_str(&format!("smtpd_milters = {}\n", milters.setting()));
        }
        if tls {
            main_cf.push_str(&tls_settings(&Certificate::create(&config)?));
        }
        fs::write(config.join("main.cf"), replace(&main_cf, more))?;
        fs::write(config.join("master.cf"), master_cf(port) + services)?;
        postfix(&config, "start")?;
        let mut postfix = Self {
            dir,
            port,
            master: 0,
            milters,
        };
        postfix.master = postfix.master_pid()?;
        wait_for_port(port)?;
        Ok(postfix)
    }

    fn master_pid(&self) -> Result<u32> {
        let path = self.dir.path().join("queue/pid/master.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path:?}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{path:?} holds no process id"))
    }

    /// Stops it, and waits until all its processes have ended.
    pub(crate) fn stop(&self) -> Result<()> {
        postfix(&self.config(), "stop")
    }

    /// Lets go of the messages that it holds. The next start delivers them.
    pub(crate) fn release(&self) -> Result<()> {
        let mut release = Command::new("postsuper");
        release.arg("-c").arg(self.config()).args(["-H", "ALL"]);
        let status = release.stderr(Stdio::null()).status()?;
        ensure!(status.success(), "postsuper failed");
        Ok(())
    }

    /// Starts it again.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        postfix(&self.config(), "start")?;
        self.master = self.master_pid()?;
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// The port of its SMTP server.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the messages that it accepted and holds.
    pub(crate) fn held(&self) -> PathBuf {
        self.dir.path().join("queue/hold")
    }

    pub(crate) fn target(&self) -> Target {
        let milters = self.milters.iter().flat_map(Milters::ids);
        Target {
            port: self.port,
            webapi: None,
            from: "load@load.example".to_owned(),
            login: None,
            processes: Processes::new(std::iter::once(self.master).chain(milters).collect()),
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Err(error) = postfix(&self.config(), "abort") {
            eprintln!(
                "Postfix (process {}) was not stopped: {error:#}",
                self.master
            );
        }
    }
}

/// Runs `postfix -c CONFIG ACTION`. Its output is shown only if the command fails.
fn postfix(config: &Path, action: &str) -> Result<()> {
    let output = Command::new("postfix")
        .arg("-c")
        .arg(config)
        .arg(action)
        .stdin(Stdio::null())
        // The master inherits standard error. A pipe would stay open as long as the master runs.
        .stdout(Stdio::null())
        .stderr(fs::File::create(config.join("stderr"))?)
        .status()
        .context("failed to run postfix")?;
    if !output.success() {
        let said = fs::read_to_string(config.join("stderr")).unwrap_or_default();
        bail!("postfix {action} failed: {}", said.trim());
    }
    Ok(())
}

fn make_folders(dir: &Path) -> Result<()> {
    for name in ["config", "queue", "data"] {
        fs::create_dir(dir.join(name))?;
    }
    let user = User::from_name("postfix")?.context("there is no user postfix")?;
    chown(
        dir.join("data"),
        Some(user.uid.as_raw()),
        Some(user.gid.as_raw()),
    )?;
    Ok(())
}

fn main_cf(dir: &Path, work: Work, sink: u16) -> Result<String> {
    let dir = dir.to_str().context("the folder's name is not UTF-8")?;
    let daemons = postconf("daemon_directory")?;
    let commands = postconf("command_directory")?;
    let more = match work {
        // Messages go straight into the hold queue. Postfix does nothing else.
        Work::Accept => HOLD,
        Work::Relay => "",
        Work::Receive => RECEIVE,
    };
    Ok(format!(
        "compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
daemon_directory = {daemons}
command_directory = {commands}
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.example
mydomain = example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_reject_unlisted_recipient = no
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
smtp_dns_support_level = disabled
smtpd_tls_security_level = none
smtp_tls_security_level = none
address_verify_map =
append_dot_mydomain = no
local_header_rewrite_clients =
receive_override_options = no_address_mappings, no_header_body_checks
biff = no
in_flow_delay = 0
default_process_limit = 200
max_use = 100000
max_idle = 600
qmgr_message_active_limit = 100000
qmgr_message_recipient_limit = 100000
default_destination_concurrency_limit = 100
initial_destination_concurrency = 50
smtp_destination_concurrency_limit = 100
smtp_connection_cache_on_demand = no
minimal_backoff_time = 3600s
message_size_limit = 104857600
{more}"
    ))
}

/// Puts further settings at the end of main.cf, in the place of those with the same names. Postfix
/// would warn of a name that is there twice. Its postlogd would wait for ever to log that.
fn replace(main_cf: &str, more: &[String]) -> String {
    let name = |line: &str| line.split('=').next().map(str::trim).map(str::to_owned);
    let replaced: BTreeSet<_> = more.iter().map(|line| name(line)).collect();
    let kept = main_cf
        .lines()
        .filter(|line| !replaced.contains(&name(line)));
    let mut text = String::new();
    for line in kept.chain(more.iter().map(String::as_str)) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

const HOLD: &str = "smtpd_client_restrictions = check_client_access static:hold\n";

/// Mail of strangers behind a proxy, for a domain that is passed on. It goes into the hold queue.
const RECEIVE: &str = "smtpd_client_restrictions = check_client_access static:hold
smtpd_upstream_proxy_protocol = haproxy
relay_domains = sink.example
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unauth_destination
milter_default_action = tempfail
";

/// Replaces the setting that turns TLS off.
fn tls_settings(files: &Certificate) -> String {
    format!(
        "smtpd_tls_security_level = encrypt
smtpd_tls_wrappermode = yes
smtpd_tls_cert_file = {}
smtpd_tls_key_file = {}
",
        files.certificate.display(),
        files.key.display()
    )
}

fn postconf(name: &str) -> Result<String> {
    let output = Command::new("postconf").args(["-dh", name]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn master_cf(port: u16) -> String {
    let mut services = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    services.push_str(
        "pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
",
    );
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_replaces_the_one_with_its_name() {
        let more = ["b=3".to_owned(), "c = 4".to_owned()];
        assert_eq!(replace("a = 1\nb = 2\n", &more), "a = 1\nb=3\nc = 4\n");
    }

    #[test]
    fn every_service_has_eight_fields() {
        for line in master_cf(2525).lines() {
            assert_eq!(line.split_whitespace().count(), 8, "{line}");
        }
    }
}
