//! Programs that are not ours: where they are, and how to run one to its end.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::within;

/// Whether a program is in PATH or in the folder of Debian's administration programs.
pub(crate) fn present(program: &str) -> bool {
    find(program).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A command that runs a program without input.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
    command.stdin(Stdio::null());
    command
}

/// The time limit of a program that does one thing and ends.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a command to its end. The error holds the output of the command.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    finish_within(LIMIT, command)
}

/// As [`finish`], with this time limit.
pub(crate) fn finish_within(limit: Duration, command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_owned();
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {name:?}"))?;
    let Some(output) = within(limit, child.id(), || child.wait_with_output()) else {
        bail!("{name:?} did not end within {limit:?} and was killed");
    };
    let output = output.with_context(|| format!("failed to run {name:?}"))?;
    if !output.status.success() {
        bail!(
            "{:?} ended with {}: {}{}",
            command.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}
