//! The real mail programs: which are missing, and their installation.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use crate::programs::{present, program};
use crate::test::Done;

/// Debian's packages. swaks needs the two Perl libraries for TLS.
const PACKAGES: &[&str] = &[
    "postfix",
    "swaks",
    "msmtp",
    "libnet-ssleay-perl",
    "libio-socket-ssl-perl",
    "curl",
    "golang-go",
    "knot",
    "knot-dnsutils",
];
/// The programs that the checks run. Python is expected to be there.
const PROGRAMS: &[&str] = &[
    "smtp-source",
    "swaks",
    "msmtp",
    "curl",
    "go",
    "knotd",
    "kdig",
];

/// Installs the missing programs, if this is Debian and we are root.
pub(super) fn install() -> Result<Done> {
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
            "{missing:?} missing, and only root can install programs"
        )));
    }
    let postfix_was_there = present("postfix");
    if !apt_install()? {
        // The package lists are old, or were never fetched.
        let updated = apt().arg("update").status()?.success();
        if !updated || !apt_install()? {
            return Ok(Done::Skipped(format!(
                "{missing:?} missing, and apt-get could not install them"
            )));
        }
    }
    // Debian's package may have started Postfix. The checks need only its programs.
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

/// Whether swaks can speak TLS.
pub(super) fn perl_has_tls() -> bool {
    let mut perl = program("perl");
    perl.args(["-MNet::SSLeay", "-e1"]).stderr(Stdio::null());
    perl.status().is_ok_and(|status| status.success())
}
