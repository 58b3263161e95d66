//! `setpassword` and `setadminpassword`.

use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
};

use anyhow::{Context, bail};
use postrider_admin::op::passwords;

use super::{desk::Desk, load_static, output::print};

/// Sets the password of an account, through the running server or else in its store.
pub(super) fn set_account(conf: &Path, account: String) -> anyhow::Result<()> {
    let desk = Desk::of(conf)?;
    let password = read_password()?;
    let said = format!("password of account {account} set\n");
    desk.ask(&passwords::Set { account, password })?;
    print(&said)
}

/// Sets the password of the administrator.
pub(super) fn set_admin(conf: &Path) -> anyhow::Result<()> {
    let statics = load_static(conf)?;
    let Some(path) = &statics.admin_password_file else {
        bail!(
            "{} has no admin_password_file; set it to a file for the hash of the password",
            conf.display()
        );
    };
    passwords::set_admin_password(path, &read_password()?)?;
    let shown = path.display();
    print(&format!("administrator's password set in {shown}\n"))?;
    let noted = Desk::of(conf)?.ask(&passwords::AdminSet {});
    if let Err(error) = noted {
        print(&format!(
            "warning: the audit log has no entry of this, and sessions of web pages with the old \
             password go on: {error:#}\n"
        ))?;
    }
    Ok(())
}

/// Reads a password. From a terminal, reads it twice.
fn read_password() -> anyhow::Result<String> {
    let first = read_secret("new password: ")?;
    if io::stdin().is_terminal() && first != read_secret("once more: ")? {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(first)
}

/// Reads a secret: one line of standard input, from a terminal without echo.
pub(super) fn read_secret(prompt: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return rpassword::prompt_password(prompt).context("failed to read from the terminal");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    read.context("failed to read from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
