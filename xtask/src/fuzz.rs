//! Fuzzing with cargo-fuzz on the stable toolchain.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args as ClapArgs;

use crate::workspace::{cargo, parse_duration, root};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The target; without it the targets are listed
    target: Option<String>,
    /// How long; without it until it is stopped
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
        "there is no fuzz target {target:?}; there are: {}",
        targets.join(", ")
    );
    install()?;
    let mut command = cargo();
    // cargo-fuzz asks for sanitizers, which the stable compiler has but keeps behind this switch.
    command.env("RUSTC_BOOTSTRAP", "1");
    // With -O our crates keep their checks (see fuzz/Cargo.toml), and others' debug assertions are off.
    command.args(["fuzz", "run", "-O", target, "--"]);
    if let Some(time) = args.time {
        command.arg(format!("-max_total_time={}", time.as_secs().max(1)));
    }
    let status = command.status().context("failed to run cargo fuzz")?;
    ensure!(status.success(), "fuzzing {target} ended with {status}");
    Ok(())
}

/// The names of the files in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("failed to read {folder:?}"))?;
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

fn install() -> Result<()> {
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
