//! A test of durability. A server under load is killed with SIGKILL and started again, many times.
//! At the end every message with the answer 250 (or 200) must be at the sink.
//!
//! A message may come twice: a crash between a delivery and its record repeats the delivery. A
//! message whose answer the crash cut off may come or not. Both are counted, and neither is a
//! fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use tempfile::TempDir;

use crate::compare::Work;
use crate::postrider::{Instance, LOGIN_AND_PASSWORD, Setup};
use crate::process::within;
use crate::sink::SinkProcess;
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
    /// The folder in which the server's folder is made
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The postrider binary; without it the task builds the workspace's binary
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
    /// A short run, for every run of the test suite.
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

    /// A long run, for `--full`.
    pub(crate) fn long(via: Via) -> Self {
        Self {
            rounds: 20,
            messages: 10_000,
            ..Self::small(via)
        }
    }
}

/// The time limit for the last messages to arrive after the last restart.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time limit for the driver to send what is left after the last restart.
const DRIVER_LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        // The server gets the same kind of build as this task.
        None if cfg!(debug_assertions) => build_postrider(Profile::Dev)?,
        None => build_postrider(Profile::Release)?,
    };
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let results = tempfile::Builder::new().prefix("crash-").tempdir()?;
    let sink = SinkProcess::start(false)?;
    let setup = Setup {
        hook: None,
        work: Work::Relay,
        relay: sink.port,
        tls: false,
        relay_tls: false,
        dkim: None,
        resolver: None,
    };
    let instance = Instance::create(&dir, &binary, setup)?;
    let mut running = instance.start()?;
    instance.set_password()?;

    let mut driver = start_driver(args, &instance, &results)?;
    for round in 1..=args.rounds {
        // The kills are spread over the run, by the messages that have arrived. The last part of
        // the run has no kill.
        let arrived = args.messages * round / (args.rounds + 1);
        sink.wait_for(arrived)?;
        running.kill()?;
        running = instance.start()?;
        println!("killed after {arrived} messages had arrived, and started again");
    }
    let Some(status) = within(DRIVER_LIMIT, driver.id(), || driver.wait()) else {
        bail!(
            "the load driver did not end within {DRIVER_LIMIT:?} after the last restart; {}",
            instance.state_of(&running)
        );
    };
    let status = status?;
    ensure!(
        status.success(),
        "the load driver ended with {status}; {}",
        instance.state_of(&running)
    );

    let accepted = read_numbers(&fs::read_to_string(accepted_file(&results))?)?;
    let report = wait_for_all(&sink, &accepted)?;
    running.kill()?;
    println!(
        "{} kills; {} of {} messages were accepted, and all of them arrived; {report}",
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
        .args(["--patience=60s", "--timeout=60s"])
        .arg("--accepted")
        .arg(accepted_file(results))
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start the load driver")
}

/// Waits until every accepted message is at the sink. Returns a sentence about the other messages.
fn wait_for_all(sink: &SinkProcess, accepted: &BTreeSet<u64>) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let arrived = read_numbers(&sink.ask("/numbers")?)?;
        let missing: Vec<_> = accepted.difference(&arrived).collect();
        if missing.is_empty() {
            let unanswered = arrived.difference(accepted).count();
            let count: serde_json::Value = serde_json::from_str(&sink.ask("/count")?)?;
            let repeated = count.get("repeated").cloned().unwrap_or_default();
            return Ok(format!(
                "{repeated} came again, and {unanswered} came without an answer to the client"
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
