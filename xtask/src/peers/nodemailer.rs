//! nodemailer, the mail library of most applications in JavaScript. It comes from its registry into
//! a temporary folder.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::localserve::Localserve;
use super::{LOGIN, PASSWORD};
use crate::introspection::TOKEN;
use crate::programs::{finish, program};
use crate::test::{Done, install_from_registry};
use crate::workspace::root;

const PACKAGE: &str = "nodemailer@7.0.13";

/// Installs the library below `folder`. The reason if that fails.
pub(super) fn install(folder: &Path) -> Option<String> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund"]);
    npm.args(["--prefix=.", PACKAGE]);
    match install_from_registry(&mut npm, folder) {
        Some(Done::Skipped(why)) => Some(why),
        _ => None,
    }
}

/// Logs in with PLAIN, LOGIN and XOAUTH2, over STARTTLS and over TLS, and submits each time.
pub(super) fn check(server: &mut Localserve, folder: &Path) -> Result<()> {
    let (recipient, subject) = server.recipient();
    let ports = [1587, 1465].map(|port| server.port(port).to_string());
    let output = finish(
        program("node")
            .env("NODE_PATH", folder.join("node_modules"))
            .arg(root().join("xtask/peers/submit.cjs"))
            .args(&ports)
            .args([LOGIN, PASSWORD, TOKEN, &recipient, &subject]),
    )?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let taken: u32 = printed
        .trim()
        .parse()
        .with_context(|| format!("it printed no number: {printed}"))?;
    ensure!(taken == 6, "{taken} messages were taken, not 6");
    for number in 0..taken {
        server.wait_for_delivery(&format!("{subject} {number}"))?;
    }
    Ok(())
}
