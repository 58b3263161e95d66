//! Steps: each one is named, timed and counted, and a line at the end gives the counts.

use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{Processes, within};
use crate::workspace::cargo;

/// How a step that did not fail ended.
pub(crate) enum Done {
    Passed,
    /// With the reason.
    Skipped(String),
}

/// The counts of passed, failed and skipped steps.
pub(crate) struct Steps {
    /// The time limit of a step.
    limit: Duration,
    /// The process whose descendants are killed after the limit: ourselves.
    root: u32,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Steps {
    /// No steps yet. Each one has this time limit.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            root: std::process::id(),
            passed: 0,
            failed: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Runs a step and prints how it ended and how long it took. True if the step passed.
    ///
    /// After the time limit all processes are killed that the step has started. That ends most
    /// waits. A step that still hangs ends the whole run.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Done>) -> bool {
        println!("\n=== {name}");
        let begun = Instant::now();
        let watch = Watch::start(name, self.limit, self.root);
        let outcome = watch.end(step());
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

    /// How many steps failed so far.
    pub(super) fn failures(&self) -> usize {
        self.failed.len()
    }

    /// How many steps passed so far.
    pub(super) fn passes(&self) -> usize {
        self.passed
    }

    /// Prints each failure and each skip, and the counts as the last line.
    pub(super) fn finish(self) -> ExitCode {
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

/// Watches over the time limit of a step.
struct Watch {
    ended: mpsc::Sender<()>,
    /// The outcome is the lines of what was killed, if the limit passed.
    watcher: JoinHandle<Option<Vec<String>>>,
}

/// How long a step may take to end after its processes were killed.
const MERCY: Duration = Duration::from_secs(60);

impl Watch {
    fn start(name: &str, limit: Duration, root: u32) -> Self {
        let (ended, hear) = mpsc::channel();
        let name = name.to_owned();
        let watcher = std::thread::spawn(move || {
            hear.recv_timeout(limit)
                .is_err_and(|error| error == RecvTimeoutError::Timeout)
                .then(|| {
                    let killed = Processes::new(vec![root]).kill_descendants();
                    if hear.recv_timeout(MERCY) == Err(RecvTimeoutError::Timeout) {
                        println!(
                            "=== {name}: FAILED: did not end within {limit:?}, nor after its \
                             processes were killed: {killed:?}"
                        );
                        std::process::exit(1);
                    }
                    killed
                })
        });
        Self { ended, watcher }
    }

    /// The outcome of the step, or an error if the limit had passed.
    fn end(self, outcome: Result<Done>) -> Result<Done> {
        drop(self.ended);
        match self.watcher.join() {
            Ok(None) => outcome,
            Ok(Some(killed)) => {
                let outcome = outcome.map_or_else(|error| format!("{error:#}"), |_| String::new());
                bail!("did not end in time, and its processes were killed: {killed:?}; {outcome}")
            }
            Err(_) => bail!("the watch over the time limit panicked"),
        }
    }
}

/// The time limit of one command. A cold build with all tests takes a fraction of it on two slow
/// cores.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs cargo with these arguments.
pub(super) fn cargo_step(args: &[&str]) -> Result<Done> {
    let mut command = cargo();
    command.args(args);
    run_command(&mut command)
}

/// Runs a command. Its output goes to our own output.
pub(crate) fn run_command(command: &mut Command) -> Result<Done> {
    run_within(COMMAND_LIMIT, command)
}

/// Runs a command with a time limit. After the limit the command and all its children are killed.
pub(super) fn run_within(limit: Duration, command: &mut Command) -> Result<Done> {
    let name = format!("{:?}", command.get_program());
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to run {name}"))?;
    let Some(status) = within(limit, child.id(), || child.wait()) else {
        bail!("{name} did not end within {limit:?}, and was killed with its children");
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
        // Both processes hold the pipe open for writing as long as they live.
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
    fn a_step_that_waits_for_a_hanging_process_fails() {
        let mut shell = Command::new("sh");
        let mut child = shell.args(["-c", "sleep 3600 & wait"]).spawn().unwrap();
        let mut steps = Steps {
            // Other tests of this process have children too.
            root: child.id(),
            ..Steps::new(Duration::from_millis(200))
        };
        let passed = steps.step("hangs", || {
            child.wait()?;
            Ok(Done::Passed)
        });
        assert!(!passed);
        let failure = &steps.failed[0];
        assert!(
            failure.contains("did not end in time") && failure.contains("sleep 3600"),
            "{failure}"
        );
    }

    #[test]
    fn steps_are_counted_and_a_failure_is_the_exit_code() {
        let mut steps = Steps::new(Duration::from_secs(60));
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
