//! The commands of the command line. This file calls the right one.

mod alone;
mod apikey;
mod apppassword;
mod audit;
mod backup;
mod checks;
mod config;
mod delivery;
mod desk;
mod destinations;
mod dns;
mod export;
mod help;
mod history;
mod hold_rules;
mod hooks;
mod import;
mod junk;
mod log;
mod login;
mod output;
mod password;
mod queue;
mod quickstart;
mod refusals;
mod report;
mod reports;
mod restore;
mod running;
mod select;
mod serve;
mod stops;
mod suppression;
mod tlspubkey;
mod trace;
mod undelete;
mod verify;
pub mod visible;
mod webapi;
mod webhook;

use std::path::{Path, PathBuf};

use anyhow::Context;
use postrider_config::{Dynamic, Loaded, Static};
use tokio::runtime::Runtime;

use self::{alone::Alone, desk::Desk, output::print, running::Running};
use crate::cli::{Cli, Command};

/// The command line is wrong in a way that its types do not show.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    /// A wrong command line, with the sentence for standard error.
    #[must_use]
    pub const fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

/// Runs a command to its end.
///
/// # Errors
/// A sentence for standard error. It is a [`Usage`] if the command line is wrong.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let conf = &cli.config;
    match cli.command {
        Command::Localserve(options) => serve::localserve(&options),
        Command::Quickstart(options) => quickstart::run(&options),
        Command::Serve => serve::serve(conf),
        Command::Config(command) => config::run(conf, command),
        Command::Audit(command) => audit::run(&Desk::of(conf)?, command),
        Command::Refusals { all, json } => refusals::run(&Running::of(conf)?, all, json),
        Command::Setpassword { account } => password::set_account(conf, account),
        Command::Setadminpassword => password::set_admin(conf),
        Command::Queue(command) => queue::run(&Running::of(conf)?, command),
        Command::Apikey(command) => apikey::run(&Running::of(conf)?, command),
        Command::Apppassword(command) => apppassword::run(&Desk::of(conf)?, command),
        Command::Tlspubkey(command) => tlspubkey::run(conf, command),
        Command::Totp(command) => apppassword::totp(&Desk::of(conf)?, command),
        Command::Delivery(command) => delivery::run(&Running::of(conf)?, command),
        Command::Hooks(command) => hooks::run(&Running::of(conf)?, command),
        Command::Spf(command) => checks::spf(&Alone::of(conf)?, command),
        Command::Dkim(command) => checks::dkim(&Alone::of(conf)?, command),
        Command::Dmarc(command) => checks::dmarc(&Alone::of(conf)?, command),
        Command::Dns(command) => dns::run(conf, command),
        Command::Undelete(command) => undelete::run(&Desk::of(conf)?, command),
        Command::Purge(command) => undelete::purge(&Desk::of(conf)?, command),
        Command::Trace(options) => trace::run(&Desk::of(conf)?, &Running::of(conf)?, options),
        Command::Junk(command) => junk::run(&Running::of(conf)?, command),
        Command::Logs(options) => log::show(&Running::of(conf)?, options),
        Command::Loglevel(options) => log::level(&Running::of(conf)?, options),
        Command::Report(command) => report::run(&Running::of(conf)?, command),
        Command::Login(command) => login::run(&Running::of(conf)?, command),
        Command::Webapi(options) => webapi::run(options),
        Command::Completions { shell } => help::completions(shell),
        Command::Man { dir } => help::man(&dir),
        Command::Backup(options) => backup::run(conf, &options),
        Command::Export(export) => export::run(conf, export),
        Command::Verify(options) => verify::run(&options),
        Command::Restore(options) => restore::run(&options),
        Command::Version => print(&format!("postrider {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// The path of domains.conf: beside postrider.conf.
fn dynamic_path(conf: &Path) -> PathBuf {
    conf.with_file_name("domains.conf")
}

fn load_static(conf: &Path) -> anyhow::Result<Static> {
    Static::load(conf)
        .map_err(anyhow::Error::new)
        .with_context(|| format!("{} can't be used", conf.display()))
}

fn load(conf: &Path) -> anyhow::Result<(Static, Dynamic)> {
    both(Loaded::read(conf))
}

/// Both files, or all errors of both.
fn both(loaded: Loaded) -> anyhow::Result<(Static, Dynamic)> {
    let loaded = loaded.both().map_err(anyhow::Error::new);
    loaded.context("the configuration can't be used")
}

/// How many threads do work that blocks: reads of texts, signatures, hashes of passwords. Each
/// thread costs memory of its own, and more of them read no faster.
const BLOCKING_THREADS: usize = 16;

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")
}
