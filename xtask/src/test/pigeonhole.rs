//! A second opinion about Sieve: Pigeonhole runs the same scripts for the same messages as we do.
//!
//! The comparison is a test of `postrider-receive`. Here are its installation and its settings.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Gid, Uid, User};
use tempfile::TempDir;

use super::steps::{Done, Steps, run_command};
use crate::peers::install_packages;
use crate::workspace::cargo;

/// Compares, or fails without Pigeonhole if it is required.
pub(super) fn run(steps: &mut Steps, required: bool) {
    let installed = steps.step("Pigeonhole", || {
        let done = install_packages(&["sieve-test"], &["dovecot-sieve"])?;
        if let Done::Skipped(why) = &done {
            ensure!(!required, "{why}");
        }
        Ok(done)
    });
    if installed {
        steps.step("Pigeonhole does the same as we do", compare);
    }
}

fn compare() -> Result<Done> {
    let folder = TempDir::new().context("failed to make a temporary folder")?;
    let conf = folder.path().join("dovecot.conf");
    fs::write(&conf, settings()?)?;
    let mut test = cargo();
    test.env(
        "POSTRIDER_SIEVE_TEST",
        format!("sieve-test -c {}", conf.display()),
    );
    test.args(["test", "--locked", "--package=postrider-receive", "--lib"]);
    run_command(test.args(["sieve::tests::pigeonhole", "--", "--ignored"]))
}

/// Dovecot never works as root, so root hands over to nobody.
fn settings() -> Result<String> {
    let (user, group) = match Uid::effective().is_root() {
        true => {
            let nobody = User::from_name("nobody")?.context("there is no user nobody")?;
            (nobody.uid, nobody.gid)
        }
        false => (Uid::effective(), Gid::effective()),
    };
    Ok(format!(
        "mail_uid = {user}\nmail_gid = {group}\nfirst_valid_uid = 1\nmail_home = /nonexistent\n\
         mail_location = maildir:/nonexistent/mail\nlog_path = /dev/stderr\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dovecot_does_not_get_root() {
        let settings = settings().unwrap();
        assert!(!settings.contains("uid = 0\n"), "{settings}");
    }
}
