//! What CI runs, step by step, each named and timed, and a line at the end that counts them.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;

use crate::crash::{self, Via};
use crate::peers;
use crate::process::within;
use crate::workspace::cargo;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Leave out the checks against real mail programs
    #[arg(long)]
    skip_peers: bool,
    /// Run only the checks against real mail programs
    #[arg(long, conflicts_with = "skip_peers")]
    only_peers: bool,
    /// Fail when a real mail program is missing, instead of skipping its check
    #[arg(long, conflicts_with = "skip_peers")]
    require_peers: bool,
}

/// How a step that did not fail ended.
pub(crate) enum Done {
    Passed,
    /// And why.
    Skipped(String),
}

/// Counts steps.
#[derive(Default)]
pub(crate) struct Steps {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Steps {
    /// Runs a step, says how it ended and how long it took, and gives whether it passed.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Done>) -> bool {
        println!("\n=== {name}");
        let begun = Instant::now();
        let outcome = step();
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(Done::Passed) => {
                println!("=== {name}: passed in {seconds:.1} s");
                self.passed += 1;
                true
            }
            Ok(Done::Skipped(why)) => {
                println!("=== {name}: skipped: {why}");
                self.skipped.push(format!("{name}: {why}"));
                false
            }
            Err(error) => {
                println!("=== {name}: FAILED after {seconds:.1} s: {error:#}");
                self.failed.push(format!("{name}: {error:#}"));
                false
            }
        }
    }

    /// Prints what failed, what was skipped, and the counts as the last line.
    fn finish(self) -> ExitCode {
        println!();
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
        for failed in &self.failed {
            println!("FAILED: {failed}");
        }
        println!(
            "xtask: {} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped.len()
        );
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut steps = Steps::default();
    if !args.only_peers {
        workspace(&mut steps);
    }
    if args.skip_peers {
        steps.step("real mail programs", || {
            Ok(Done::Skipped("--skip-peers was given".to_owned()))
        });
    } else {
        peers::run(&mut steps, args.require_peers);
    }
    steps.finish()
}

/// The steps over the workspace itself.
fn workspace(steps: &mut Steps) {
    steps.step("format", || cargo_step(&["fmt", "--all", "--check"]));
    steps.step("lints", || {
        cargo_step(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-Dwarnings",
        ])
    });
    steps.step("tests", || cargo_step(&["test", "--workspace", "--locked"]));
    for (via, name) in [
        (Via::Smtp, "kill -9 loses no message taken by SMTP"),
        (Via::Webapi, "kill -9 loses no message taken by the webapi"),
    ] {
        steps.step(name, || {
            crash::run(&crash::Args::small(via))?;
            Ok(Done::Passed)
        });
    }
}

/// How long one command may take: several times what a fresh build with all its tests does on two slow cores.
const COMMAND_LIMIT: Duration = Duration::from_secs(20 * 60);

fn cargo_step(args: &[&str]) -> Result<Done> {
    let mut command = cargo();
    command.args(args);
    run_command(&mut command)
}

/// Runs a command, whose output goes where ours goes.
pub(crate) fn run_command(command: &mut Command) -> Result<Done> {
    run_within(COMMAND_LIMIT, command)
}

/// Runs a command that fails, with all that it started, when it does not end in time.
fn run_within(limit: Duration, command: &mut Command) -> Result<Done> {
    let name = format!("{:?}", command.get_program());
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to run {name}"))?;
    let Some(status) = within(limit, child.id(), || child.wait()) else {
        bail!("{name} did not end within {limit:?}; it and what it started was killed");
    };
    match status? {
        status if status.success() => Ok(Done::Passed),
        status => bail!("{name} ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_started() {
        // Each of them holds the pipe open for writing as long as it lives.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 3600 & wait"]).stdout(writer);
        let Err(error) = run_within(Duration::from_millis(200), &mut command) else {
            panic!("it hangs");
        };
        assert!(error.to_string().contains("did not end within"), "{error}");
        drop(command);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn steps_are_counted_and_a_failure_is_the_exit_code() {
        let mut steps = Steps::default();
        assert!(steps.step("good", || Ok(Done::Passed)));
        assert!(!steps.step("absent", || Ok(Done::Skipped("no program".to_owned()))));
        assert_eq!((steps.passed, steps.skipped.len()), (1, 1));
        assert!(!steps.step("bad", || run_command(&mut Command::new("false"))));
        assert!(steps.failed[0].starts_with("bad: \"false\" ended with"));
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
