//! Where things are in this workspace, and building what the other tasks run.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A `cargo` command that runs in the workspace's folder.
pub(crate) fn cargo() -> Command {
    // cargo names itself for what it runs, so that the same toolchain is used.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// What `cargo metadata` says of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

/// Which of cargo's profiles something is built in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds the `postrider` binary and gives its path.
pub(crate) fn build_postrider(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--package=postrider"]);
    command.arg("--bin=postrider");
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    let status = command.status().context("failed to run cargo build")?;
    ensure!(status.success(), "building postrider failed");
    let metadata = metadata()?;
    let Some(target) = metadata.get("target_directory").and_then(Value::as_str) else {
        bail!("cargo metadata named no target_directory");
    };
    Ok(Path::new(target).join(folder).join("postrider"))
}

/// Refuses to compare with an unoptimised driver: its own CPU time would be what is measured.
pub(crate) fn refuse_debug_build(task: &str) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "{task} measures nothing useful in a debug build; run: cargo run --release -p xtask -- {task} ..."
    );
    Ok(())
}

/// Says that figures of an unoptimised driver are not to be used.
pub(crate) fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a debug build, whose figures mean little; measure with cargo run --release -p xtask"
        );
    }
}

/// Reads a duration such as `250ms`, `4s`, `2m` or `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} does not begin with a number"))?;
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is none of ms, s, m, h")),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

/// A port that was free a moment ago, for programs that must be told theirs before they start.
///
/// It is below those that Linux gives to connections (ip_local_port_range in ip(7), from 32768 on): one of these could be
/// taken by any connection while a program is started again, even by one to that very port.
pub(crate) fn free_port() -> Result<u16> {
    /// Where this process looks next, so that it is not given one port twice.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 16 << 10;
    const PORTS: u16 = 16 << 10;
    // Processes at the same time begin at different places.
    let start = std::process::id().wrapping_mul(61) as u16;
    (0..PORTS)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no port from 16384 to 32767 is free on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_not_those_of_connections() {
        let (one, other) = (free_port().unwrap(), free_port().unwrap());
        assert_ne!(one, other);
        assert!(one.max(other) < 32768, "{one} {other}");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "4 days", "-1s", "4d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
