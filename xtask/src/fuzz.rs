//! Fuzzing with cargo-fuzz on the stable toolchain.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args as ClapArgs;

use crate::duration::parse_duration;
use crate::workspace::{cargo, root};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The target; without a target the task lists all targets
    target: Option<String>,
    /// How long to run; without a time until it is stopped
    #[arg(long, value_parser = parse_duration)]
    time: Option<Duration>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    let Some(target) = &args.target else {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(());
    };
    ensure!(
        targets.contains(target),
        "there is no fuzz target {target:?}; the targets are: {}",
        targets.join(", ")
    );
    install()?;
    let status = command(target, args.time)?
        .status()
        .context("failed to run cargo fuzz")?;
    ensure!(status.success(), "fuzzing {target} ended with {status}");
    Ok(())
}

/// The command that fuzzes a target. New inputs go to `fuzz/corpus`. The inputs in `testdata/fuzz`
/// are seeds.
pub(crate) fn command(target: &str, time: Option<Duration>) -> Result<Command> {
    let corpus = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("failed to make {corpus:?}"))?;
    let mut command = cargo();
    // cargo-fuzz uses sanitizers. The stable compiler has them, but only with this variable.
    command.env("RUSTC_BOOTSTRAP", "1");
    // With -O our crates keep their checks (see fuzz/Cargo.toml), and the debug assertions of other
    // crates are off.
    command.args(["fuzz", "run", "-O", target]).arg(&corpus);
    let seeds = root().join("testdata/fuzz").join(target);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command.arg("--");
    if let Some(time) = time {
        command.arg(format!("-max_total_time={}", time.as_secs().max(1)));
    }
    Ok(command)
}

/// The names of the files in `fuzz/fuzz_targets`.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("failed to read {folder:?}"))?;
    let mut targets: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    targets.sort_unstable();
    Ok(targets)
}

/// Installs cargo-fuzz if it is missing.
pub(crate) fn install() -> Result<()> {
    let found = Command::new("cargo-fuzz")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if found {
        return Ok(());
    }
    eprintln!("cargo-fuzz is missing and gets installed");
    let status = cargo()
        .args(["install", "--locked", "cargo-fuzz"])
        .status()
        .context("failed to run cargo install")?;
    ensure!(status.success(), "installing cargo-fuzz failed");
    Ok(())
}
