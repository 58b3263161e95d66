//! `setpassword` and `setadminpassword`.

use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use postrider_admin::{
    face::client::{self, CallError},
    op::passwords,
};
use postrider_config::Static;
use postrider_store::{Clock, OpenError, Store, SystemClock};

use super::{load, load_static, output::print, runtime};
use crate::{privileges, services::store_options};

/// How long a server may take from opening its store to answering commands.
const SERVER_STARTS: Duration = Duration::from_secs(10);
/// The pause between two attempts to reach a server that starts.
const PAUSE: Duration = Duration::from_millis(50);

/// Sets the password of an account, through the running server or else in its store.
pub(super) fn set_account(conf: &Path, account: String) -> anyhow::Result<()> {
    let statics = load_static(conf)?;
    let password = read_password()?;
    let said = format!("password of account {account} set\n");
    let set = passwords::Set { account, password };
    runtime()?.block_on(async {
        let begun = Instant::now();
        loop {
            match client::ask(&statics.data_dir, &set).await {
                Err(CallError::NotRunning { .. }) => {}
                other => return Ok(other?),
            }
            match set_in_store(conf, &statics, &set).await {
                // Another process has the store: a server that starts, and will answer soon.
                Err(error)
                    if matches!(error.downcast_ref(), Some(OpenError::Locked { .. }))
                        && begun.elapsed() < SERVER_STARTS =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    })?;
    print(&said)
}

/// Sets a password while no server runs.
async fn set_in_store(conf: &Path, statics: &Static, set: &passwords::Set) -> anyhow::Result<()> {
    let (_, dynamic) = load(conf)?;
    // The files that the store makes must belong to the user of the server.
    privileges::drop_to(&statics.user, &statics.data_dir)?;
    let store = Store::open(store_options(statics))?;
    let (account, password, now) = (&set.account, &set.password, SystemClock.now());
    let result =
        passwords::set_account_password(&store, None, &dynamic, account, password, now).await;
    store.close().await;
    Ok(result?)
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
