//! What each command does.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use postrider_admin::{
    control::{self, ControlError},
    password,
    request::Request,
};
use postrider_config::{Dynamic, Static};
use postrider_store::{Clock, OpenError, Store, SystemClock};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::info;

use crate::{
    cli::{self, Cli, Command},
    localserve, logging, privileges, queue_commands,
    server::{Options, Server},
    webapi_command,
};

/// How long a server may take from opening its store to answering commands.
const SERVER_STARTS: Duration = Duration::from_secs(10);

/// Runs a command to its end.
///
/// # Errors
/// A sentence for standard error.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Localserve(options) => run_localserve(&options),
        Command::Serve => serve(&cli.config),
        Command::Config(cli::Config::Test) => config_test(&cli.config),
        Command::Config(cli::Config::Describe) => print(&postrider_config::describe_text()),
        Command::Setpassword { account } => set_password(&cli.config, account),
        Command::Setadminpassword => set_admin_password(&cli.config),
        Command::Queue(command) => queue_commands::run(&cli.config, command),
        Command::Apikey(command) => queue_commands::keys(&cli.config, command),
        Command::Webapi(options) => webapi_command::run(options),
        Command::Version => print(&format!("postrider {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// Where domains.conf is: beside postrider.conf.
#[must_use]
pub fn dynamic_path(conf: &Path) -> PathBuf {
    conf.with_file_name("domains.conf")
}

pub(crate) fn load_static(conf: &Path) -> anyhow::Result<Static> {
    Static::load(conf)
        .map_err(anyhow::Error::new)
        .with_context(|| format!("{} can't be used", conf.display()))
}

fn load(conf: &Path) -> anyhow::Result<(Static, Dynamic)> {
    let statics = load_static(conf)?;
    let path = dynamic_path(conf);
    let dynamic = Dynamic::load(&path, &statics)
        .map_err(anyhow::Error::new)
        .with_context(|| format!("{} can't be used", path.display()))?;
    Ok((statics, dynamic))
}

pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")
}

fn serve(conf: &Path) -> anyhow::Result<()> {
    let (statics, dynamic) = load(conf)?;
    logging::start(&statics.log);
    let options = Options::new(statics, dynamic, dynamic_path(conf));
    runtime()?.block_on(async {
        let server = Server::start(options).await?;
        for (service, address) in server.addresses() {
            info!(service, %address, "listening");
        }
        run_until_signal(server).await
    })
}

fn run_localserve(options: &cli::Localserve) -> anyhow::Result<()> {
    let place = localserve::prepare(options)?;
    let (statics, dynamic) = load(&place.conf)?;
    logging::start(&statics.log);
    let mut server_options = Options::new(statics, dynamic, dynamic_path(&place.conf));
    server_options.simulate = !options.deliver;
    runtime()?.block_on(async {
        let server = Server::start(server_options).await?;
        server
            .ensure_password(localserve::ACCOUNT, localserve::PASSWORD)
            .await?;
        print(&localserve::banner(
            &place,
            options.ip,
            options.port_offset,
            options.deliver,
        ))?;
        run_until_signal(server).await
    })
}

/// SIGTERM and SIGINT stop in an orderly way; a second one at once. A store that can't go on ends the process, so that whoever
/// watches over it starts it again.
async fn run_until_signal(server: Server) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = server.store().clone();
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        error = store.stopped() => bail!("the store stopped: {error}; what was accepted is safe, start again when that is mended"),
    }
    let at_once = "stopped at once, at a second signal; nothing accepted is lost";
    tokio::select! {
        () = server.stop() => Ok(()),
        _ = terminate.recv() => bail!(at_once),
        _ = interrupt.recv() => bail!(at_once),
    }
}

/// Says what is no error, but should be looked at.
fn warn(warnings: &[String]) -> anyhow::Result<()> {
    warnings
        .iter()
        .try_for_each(|warning| print(&format!("warning: {warning}\n")))
}

fn config_test(conf: &Path) -> anyhow::Result<()> {
    let mut problems = String::new();
    match Static::load(conf) {
        Err(errors) => problems.push_str(&errors.to_string()),
        Ok(statics) => {
            warn(statics.warnings())?;
            match Dynamic::load(dynamic_path(conf), &statics) {
                Err(errors) => problems.push_str(&errors.to_string()),
                Ok(dynamic) => warn(dynamic.warnings())?,
            }
            for checked in [
                crate::services::check_certificates(&statics),
                privileges::check(&statics.user),
            ] {
                if let Err(error) = checked {
                    let line = if problems.is_empty() { "" } else { "\n" };
                    problems.push_str(&format!("{line}{error:#}"));
                }
            }
        }
    }
    if problems.is_empty() {
        return print("config OK\n");
    }
    bail!("the configuration has errors:\n{problems}")
}

/// One line from standard input, or from the terminal twice, without echo.
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

fn set_password(conf: &Path, account: String) -> anyhow::Result<()> {
    let statics = load_static(conf)?;
    let password = read_password()?;
    let request = Request::SetPassword {
        account: account.clone(),
        password: password.clone(),
    };
    runtime()?.block_on(async {
        let begun = Instant::now();
        loop {
            match control::call(&statics.data_dir, &request, |_| Ok(())).await {
                Err(ControlError::NotRunning { .. }) => {}
                other => return Ok(other?),
            }
            let set = set_password_in_store(conf, &statics, &account, &password).await;
            match set {
                // A server that has the store but does not answer yet is about to.
                Err(error)
                    if matches!(error.downcast_ref(), Some(OpenError::Locked { .. }))
                        && begun.elapsed() < SERVER_STARTS =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    })?;
    print(&format!("password of account {account} set\n"))
}

/// Without a running server the store is ours for a moment.
async fn set_password_in_store(
    conf: &Path,
    statics: &Static,
    account: &str,
    password: &str,
) -> anyhow::Result<()> {
    let (_, dynamic) = load(conf)?;
    // What is made must be the server's.
    privileges::drop_to(&statics.user, &statics.data_dir)?;
    let store = Store::open(crate::services::store_options(statics))?;
    let now = SystemClock.now();
    let set = password::set_account_password(&store, None, &dynamic, account, password, now).await;
    store.close().await;
    Ok(set?)
}

fn set_admin_password(conf: &Path) -> anyhow::Result<()> {
    let statics = load_static(conf)?;
    let Some(path) = &statics.admin_password_file else {
        bail!(
            "{} has no admin_password_file; set it to the file that shall hold the password's hash",
            conf.display()
        );
    };
    password::set_admin_password(path, &read_password()?)?;
    print(&format!(
        "administrator's password set in {}\n",
        path.display()
    ))
}

pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
