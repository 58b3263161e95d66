//! Runs the benchmarks of all crates, or of one.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;
use serde_json::Value;

use crate::workspace::{cargo, metadata};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Only the benchmarks of this package, such as postrider-store
    #[arg(long, short)]
    package: Option<String>,
    /// Arguments for each benchmark, such as a filter
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let benches = benches()?;
    let chosen: Vec<_> = benches
        .iter()
        .filter(|(package, _)| args.package.as_ref().is_none_or(|only| only == package))
        .collect();
    if chosen.is_empty() {
        bail!("there are no such benchmarks");
    }
    // One by one: `cargo bench --workspace` would pass the arguments to unit tests too, which do
    // not know them.
    for (package, bench) in chosen {
        let Bench { name, features } = bench;
        let status = cargo()
            .args(["bench", "--locked", "--package", package])
            .args(["--bench", name, "--features", features, "--"])
            .args(&args.rest)
            .status()
            .context("failed to run cargo bench")?;
        ensure!(status.success(), "benchmark {name} of {package} failed");
    }
    Ok(())
}

/// A benchmark, and the features of its package that it needs, with commas.
struct Bench {
    name: String,
    features: String,
}

/// The benchmarks, with their packages.
fn benches() -> Result<Vec<(String, Bench)>> {
    let metadata = metadata()?;
    let list = |value: &Value, key: &str| -> Vec<Value> {
        value
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let text = |value: &Value, key: &str| -> String {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut benches = Vec::new();
    for package in list(&metadata, "packages") {
        for target in list(&package, "targets") {
            if list(&target, "kind").contains(&Value::from("bench")) {
                let features = list(&target, "required-features");
                let features: Vec<_> = features.iter().filter_map(Value::as_str).collect();
                let bench = Bench {
                    name: text(&target, "name"),
                    features: features.join(","),
                };
                benches.push((text(&package, "name"), bench));
            }
        }
    }
    Ok(benches)
}
