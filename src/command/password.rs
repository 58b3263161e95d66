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
    let path = path.display();
    print(&format!("administrator's password set in {path}\n"))
}

/// Reads one line from standard input. From a terminal, reads it twice and without echo.
fn read_password() -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin
            .lock()
            .read_line(&mut line)
            .context("failed to read the password from standard input")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first =
        rpassword::prompt_password("new password: ").context("failed to read the password")?;
    let second =
        rpassword::prompt_password("once more: ").context("failed to read the password")?;
    if first != second {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(first)
}
