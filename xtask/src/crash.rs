//! The promise of durability, tried: a server under load is killed with SIGKILL and started again, over and over, and at
//! the end every message that was answered 250 (or 200) must have come to the sink.
//!
//! Messages may come more than once, since a crash between a delivery and its record makes it happen again. And messages
//! whose answer the crash cut off may come or not. Both are counted and neither is a fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use tempfile::TempDir;

use crate::compare::{Sink, Work};
use crate::postrider::{Instance, LOGIN_AND_PASSWORD, Setup};
use crate::workspace::{Profile, build_postrider};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// How often the server is killed
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// How many messages are sent in all
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// Sessions, or calls at the same time
    #[arg(long, default_value_t = 8)]
    sessions: usize,
    /// How the messages are submitted
    #[arg(long, value_enum, default_value = "smtp")]
    via: Via,
    /// Bytes of a message
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Where the server's folder is made
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The postrider binary; without it the workspace's is built
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// How messages are submitted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    Smtp,
    Webapi,
}

impl Args {
    /// As much as every run of the test suite can afford.
    pub(crate) fn small(via: Via) -> Self {
        Self {
            rounds: 3,
            messages: 600,
            sessions: 8,
            via,
            size: 4096,
            dir: None,
            binary: None,
        }
    }
}

/// How long the rest of the messages may take to arrive after the last restart.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        // As this task is built, so is the server: a quick try, or a run at full speed.
        None if cfg!(debug_assertions) => build_postrider(Profile::Dev)?,
        None => build_postrider(Profile::Release)?,
    };
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let results = tempfile::Builder::new().prefix("crash-").tempdir()?;
    let sink = Sink::start(false)?;
    let setup = Setup {
        work: Work::Relay,
        relay: sink.port,
        tls: false,
        dkim: false,
    };
    let instance = Instance::create(&dir, &binary, setup)?;
    let mut running = instance.start()?;
    instance.set_password()?;

    let mut driver = start_driver(args, &instance, &results)?;
    for round in 1..=args.rounds {
        // Spread over the run, by what has arrived; the last part of the run is without a kill.
        let arrived = args.messages * round / (args.rounds + 1);
        sink.wait_for(arrived)?;
        running.kill()?;
        running = instance.start()?;
        println!("killed after {arrived} messages had arrived, and started again");
    }
    let status = driver.wait()?;
    ensure!(status.success(), "the load driver ended with {status}");

    let accepted = read_numbers(&fs::read_to_string(accepted_file(&results))?)?;
    let report = wait_for_all(&sink, &accepted)?;
    running.kill()?;
    println!(
        "{} kills; {} of {} messages were accepted, and all of these arrived; {report}",
        args.rounds,
        accepted.len(),
        args.messages
    );
    Ok(())
}

fn accepted_file(results: &TempDir) -> PathBuf {
    Path::join(results.path(), "accepted")
}

fn start_driver(args: &Args, instance: &Instance, results: &TempDir) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load");
    let (login, password) = LOGIN_AND_PASSWORD;
    match args.via {
        Via::Smtp => {
            command.args(["smtp", &format!("--port={}", instance.port)]);
            command.arg(format!("--sessions={}", args.sessions));
        }
        Via::Webapi => {
            let url = format!("http://127.0.0.1:{}/webapi/v0/", instance.http);
            command.args(["webapi", &format!("--url={url}")]);
            command.arg(format!("--concurrency={}", args.sessions));
        }
    }
    if args.via == Via::Smtp {
        command.arg(format!("--from={login}"));
    }
    command
        .args(["--login", login, "--password", password])
        .arg(format!("--messages={}", args.messages))
        .arg(format!("--size={}", args.size))
        .arg("--patience=60s")
        .arg("--accepted")
        .arg(accepted_file(results))
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start the load driver")
}

/// Waits until every accepted message is at the sink. Gives what else came there.
fn wait_for_all(sink: &Sink, accepted: &BTreeSet<u64>) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let arrived = read_numbers(&sink.ask("/numbers")?)?;
        let missing: Vec<_> = accepted.difference(&arrived).collect();
        if missing.is_empty() {
            let unanswered = arrived.difference(accepted).count();
            let count: serde_json::Value = serde_json::from_str(&sink.ask("/count")?)?;
            let repeated = count.get("repeated").cloned().unwrap_or_default();
            return Ok(format!(
                "{repeated} came again, and {unanswered} came whose answer a crash cut off"
            ));
        }
        if Instant::now() > deadline {
            bail!(
                "{} accepted messages did not arrive within {PATIENCE:?}, the first of them: {:?}",
                missing.len(),
                missing.iter().take(10).collect::<Vec<_>>()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn read_numbers(text: &str) -> Result<BTreeSet<u64>> {
    text.lines()
        .map(|line| {
            line.parse()
                .with_context(|| format!("{line:?} is no number"))
        })
        .collect()
}
