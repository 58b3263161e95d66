//! The slow parts that only `--full` runs, and that are more than one cargo command.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::steps::{Done, Steps, run_command, run_within};
use crate::fuzz;
use crate::workspace::{Profile, build_postrider, cargo, metadata};

/// Builds the documentation of our crates with all items. So links to private items are fine.
pub(super) fn docs() -> Result<Done> {
    let mut command = cargo();
    command.env(
        "RUSTDOCFLAGS",
        "-Dwarnings -Arustdoc::private-intra-doc-links",
    );
    command.args(["doc", "--workspace", "--no-deps", "--locked"]);
    command.arg("--document-private-items");
    run_command(&mut command)
}

/// Four times the cases of proptest's default. Tests with a number of their own scale it alike.
const CASES: &str = "1024";

/// The time limit for the property tests with more cases.
const SIMULATION_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Runs the tests of all packages that use proptest, with more cases.
pub(super) fn simulation() -> Result<Done> {
    let mut command = cargo();
    command.env("PROPTEST_CASES", CASES);
    command.args(["test", "--locked"]);
    for package in packages_with("proptest")? {
        command.arg(format!("--package={package}"));
    }
    run_within(SIMULATION_LIMIT, &mut command)
}

/// New courses of the store's model in each of its two long tests.
const COURSES: &str = "2000";

/// Runs the store and its model side by side, in courses that are new each time.
pub(super) fn store_model() -> Result<Done> {
    let mut command = cargo();
    command.env("PROPTEST_CASES", COURSES);
    command.args(["test", "--locked", "--package=postrider-store", "--lib"]);
    command.args(["tests::model::runs::long_run", "--", "--ignored"]);
    run_command(&mut command)
}

/// Unpacks many packed bombs at once, in a process of its own, whose memory is measured.
pub(super) fn bombs() -> Result<Done> {
    let mut command = cargo();
    command.args(["test", "--locked", "--package=postrider-receive", "--lib"]);
    command.args(["many_bombs_at_once", "--", "--ignored"]);
    run_command(&mut command)
}

/// Runs the test that kills the server under load with more rounds.
pub(super) fn crash_rounds() -> Result<Done> {
    let mut command = cargo();
    command.env("POSTRIDER_CRASH_ROUNDS", "30");
    command.args(["test", "--locked", "--workspace", "--test=it"]);
    run_command(command.arg("crash::"))
}

/// The time limit for the week of the simulated internet, and for its small worlds.
const INTERNET_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Runs a week of the simulated internet with 100,000 messages for 2000 sites.
pub(super) fn internet_week() -> Result<Done> {
    let world = [
        ("SITES", "2000"),
        ("MESSAGES", "100000"),
        ("DAYS", "7"),
        ("SEED", "1"),
    ];
    internet(EACH_MESSAGE, &world)
}

/// Runs 100 small worlds, other ones each time.
pub(super) fn internet_worlds() -> Result<Done> {
    internet(EACH_MESSAGE, &[("RUNS", "100"), ("SEED", &new_seed()?)])
}

/// Runs 10 small worlds with signed zones, other ones each time.
pub(super) fn internet_signed() -> Result<Done> {
    internet(SIGNED_ZONES, &[("RUNS", "10"), ("SEED", &new_seed()?)])
}

const EACH_MESSAGE: &str = "every_message_of_a_day_ends_once_and_as_its_site_has_it";
const SIGNED_ZONES: &str = "so_it_is_where_zones_are_signed";

/// Runs a test of the simulated internet. It prints the seed of a world that fails.
fn internet(test: &str, world: &[(&str, &str)]) -> Result<Done> {
    let mut command = cargo();
    for (name, value) in world {
        command.env(format!("POSTRIDER_INTERNET_{name}"), value);
    }
    command.args(["test", "--locked", "--package=postrider-queue"]);
    command.args(["--test=internet", "--", "--exact", test]);
    run_within(INTERNET_LIMIT, &mut command)
}

/// A seed that was not used before.
fn new_seed() -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(now
        .context("the clock is before 1970")?
        .as_secs()
        .to_string())
}

/// The names of our packages that depend on this crate.
fn packages_with(dependency: &str) -> Result<Vec<String>> {
    let metadata = metadata()?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let names = packages
        .context("cargo metadata named no packages")?
        .iter()
        .filter(|package| {
            let dependencies = package.get("dependencies").and_then(Value::as_array);
            dependencies.is_some_and(|list| {
                list.iter()
                    .any(|one| one.get("name").and_then(Value::as_str) == Some(dependency))
            })
        })
        .filter_map(|package| Some(package.get("name")?.as_str()?.to_owned()));
    Ok(names.collect())
}

/// How long each fuzz target runs.
const FUZZ_TIME: Duration = Duration::from_secs(30);

/// Fuzzes each target for a short time.
pub(super) fn fuzz(steps: &mut Steps) {
    let installed = steps.step("install cargo-fuzz", || match fuzz::install() {
        Ok(()) => Ok(Done::Passed),
        Err(error) => Ok(Done::Skipped(format!("{error:#}"))),
    });
    if !installed {
        return;
    }
    let targets = match fuzz::targets() {
        Ok(targets) => targets,
        Err(error) => {
            steps.step("list the fuzz targets", || Err(error));
            return;
        }
    };
    for target in targets {
        steps.step(&format!("fuzz {target}"), || {
            run_command(&mut fuzz::command(&target, Some(FUZZ_TIME))?)
        });
    }
}

/// The size limit of the shipped binary.
const SIZE_LIMIT: u64 = 30_000_000;

/// Builds the binary that is shipped, checks its size and runs it.
pub(super) fn dist() -> Result<Done> {
    let binary = build_postrider(Profile::Dist)?;
    let size = fs::metadata(&binary)
        .with_context(|| format!("failed to read {binary:?}"))?
        .len();
    println!("{}: {size} bytes", binary.display());
    ensure!(
        size <= SIZE_LIMIT,
        "the binary has {size} bytes, more than {SIZE_LIMIT}"
    );
    run_command(Command::new(&binary).args(["config", "describe"]))
}
