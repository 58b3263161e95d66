//! The real mail programs: which are missing, and their installation.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use crate::hooked::has_python_milter;
use crate::programs::{present, program};
use crate::test::Done;

/// Debian's packages. swaks needs the two Perl libraries for TLS.
const PACKAGES: &[&str] = &[
    "postfix",
    "swaks",
    "msmtp",
    "mutt",
    "gsasl",
    "libnet-ssleay-perl",
    "libio-socket-ssl-perl",
    "curl",
    "golang-go",
    "dovecot-lmtpd",
    "dovecot-imapd",
    "knot",
    "knot-dnsutils",
    "haproxy",
    "opendkim",
    "python3-milter",
];
/// The programs that the checks run. Python is expected to be there.
const PROGRAMS: &[&str] = &[
    "smtp-source",
    "swaks",
    "msmtp",
    "mutt",
    "gsasl",
    "curl",
    "go",
    "dovecot",
    "knotd",
    "kdig",
    "haproxy",
    "opendkim",
];

/// Programs that Debian's packages may start as services, and the commands that stop those. The
/// checks need only the programs.
const SERVICES: &[(&str, &str, &[&str])] = &[
    ("postfix", "postfix", &["stop"]),
    ("postgrey", "service", &["postgrey", "stop"]),
    ("prometheus", "service", &["prometheus", "stop"]),
    ("opendkim", "service", &["opendkim", "stop"]),
    ("opendmarc", "service", &["opendmarc", "stop"]),
    ("rspamd", "service", &["rspamd", "stop"]),
];

/// Whether Dovecot serves IMAP. Its program for that is in no folder of programs.
pub(super) fn has_imap() -> bool {
    Path::new("/usr/lib/dovecot/imap").exists()
}

/// Installs the missing mail programs, if this is Debian and we are root.
pub(super) fn install() -> Result<Done> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|name| !present(name))
        .chain((!perl_has_tls()).then_some(&"Net::SSLeay"))
        .chain((!has_imap()).then_some(&"dovecot-imapd"))
        .chain((!has_python_milter()).then_some(&"python3-milter"))
        .copied()
        .collect();
    install_missing(&missing, PACKAGES)
}

/// Installs the packages if one of the programs is missing, this is Debian, and we are root.
pub(crate) fn install_packages(programs: &[&str], packages: &[&str]) -> Result<Done> {
    let missing = programs.iter().filter(|name| !present(name));
    let missing: Vec<&str> = missing.copied().collect();
    install_missing(&missing, packages)
}

fn install_missing(missing: &[&str], packages: &[&str]) -> Result<Done> {
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
            "{missing:?} missing, and only root can install programs"
        )));
    }
    let absent: Vec<_> = { SERVICES.iter() }
        .filter(|(name, ..)| !present(name))
        .collect();
    if !apt_install(packages)? {
        // The package lists are old, or were never fetched.
        let updated = apt().arg("update").status()?.success();
        if !updated || !apt_install(packages)? {
            return Ok(Done::Skipped(format!(
                "{missing:?} missing, and apt-get could not install them"
            )));
        }
    }
    for (name, command, stop) in absent {
        if present(name) {
            let _ = Command::new(command)
                .args(*stop)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
    Ok(Done::Passed)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null());
    command
}

fn apt_install(packages: &[&str]) -> Result<bool> {
    let status = apt()
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages)
        .status()
        .context("failed to run apt-get")?;
    Ok(status.success())
}

/// Whether swaks can speak TLS.
pub(super) fn perl_has_tls() -> bool {
    let mut perl = program("perl");
    perl.args(["-MNet::SSLeay", "-e1"]).stderr(Stdio::null());
    perl.status().is_ok_and(|status| status.success())
}
