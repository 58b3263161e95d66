//! What CI runs (`cargo xtask test`), and the slow parts (`--full`).
//!
//! A part is a group of steps with a name and one sentence that says what it proves. The list is in
//! [`parts`]. docs/testing.md shows the same list with the last run of each part.

mod filters;
mod generators;
mod metrics;
mod opinions;
mod parts;
mod pigeonhole;
mod record;
mod schemathesis;
mod slow;
mod smoke;
mod steps;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args as ClapArgs;

pub(crate) use generators::install as install_from_registry;
use parts::{Level, PARTS, Part};
pub(crate) use steps::{Done, Steps, run_command};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Run the slow parts too, or only the part with this name
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = ALL)]
    full: Option<String>,
    /// List the parts and what each proves
    #[arg(long)]
    list: bool,
    /// Write commit and time of each part that passes into docs/testing.md
    #[arg(long)]
    record: bool,
    /// Leave out the checks against real mail programs and a real browser
    #[arg(long)]
    skip_peers: bool,
    /// Run only the checks against real mail programs and a real browser
    #[arg(long, conflicts_with_all = ["skip_peers", "full"])]
    only_peers: bool,
    /// Fail when a real program is missing, instead of skipping its check
    #[arg(long, conflicts_with = "skip_peers")]
    require_peers: bool,
}

/// The time limit of a step of the plain parts: a little more than that of one command.
const PLAIN_LIMIT: Duration = Duration::from_secs(25 * 60);
/// The time limit of a step with `--full`: some commands have an hour.
const FULL_LIMIT: Duration = Duration::from_secs(65 * 60);

/// The value of `--full` without a name.
const ALL: &str = "";

pub(crate) fn run(args: &Args) -> ExitCode {
    if args.list {
        list();
        return ExitCode::SUCCESS;
    }
    let Some(chosen) = choose(args) else {
        eprintln!("cargo xtask: there is no such part; `cargo xtask test --list` lists all parts");
        return ExitCode::from(2);
    };
    let mut steps = Steps::new(match args.full {
        None => PLAIN_LIMIT,
        Some(_) => FULL_LIMIT,
    });
    let mut rows = Vec::new();
    for part in chosen {
        println!("\n##### {}: {}", part.name, part.proves);
        let (failures, passes) = (steps.failures(), steps.passes());
        let begun = Instant::now();
        (part.run)(&mut steps, args);
        if steps.failures() == failures && steps.passes() > passes {
            rows.push(record::Row::new(part, begun.elapsed()));
        }
    }
    steps.step("the record of this run", || record_rows(args, &rows));
    steps.finish()
}

/// The parts that the arguments ask for. None if no part has the given name.
fn choose(args: &Args) -> Option<Vec<&'static Part>> {
    let all = PARTS.iter();
    if args.only_peers {
        return Some(
            all.filter(|part| parts::PEERS.contains(&part.name))
                .collect(),
        );
    }
    match args.full.as_deref() {
        None => Some(all.filter(|part| part.level == Level::Plain).collect()),
        Some(ALL) => Some(all.collect()),
        Some(name) => {
            let found: Vec<_> = all.filter(|part| part.name == name).collect();
            (!found.is_empty()).then_some(found)
        }
    }
}

fn list() {
    for part in PARTS {
        let level = match part.level {
            Level::Plain => "plain",
            Level::Full => "full",
        };
        println!("{:13} {level:6} {}", part.name, part.proves);
    }
}

/// Prints the rows of the parts that passed, and writes them into the documentation if asked to.
fn record_rows(args: &Args, rows: &[record::Row]) -> Result<Done> {
    for row in rows {
        println!("{row}");
    }
    if args.record {
        record::write(rows)?;
    }
    Ok(Done::Passed)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn chosen(arguments: &[&str]) -> Option<Vec<&'static str>> {
        let arguments = [&["test"], arguments].concat();
        let cli = Cli::try_parse_from(arguments).unwrap();
        let parts = choose(&cli.args)?;
        Some(parts.iter().map(|part| part.name).collect())
    }

    #[test]
    fn the_arguments_choose_the_parts() {
        let plain = chosen(&[]).unwrap();
        assert!(plain.contains(&"tests") && !plain.contains(&"fuzz"));
        let full = chosen(&["--full"]).unwrap();
        assert!(full.starts_with(&plain) && full.contains(&"fuzz"));
        assert_eq!(chosen(&["--full", "fuzz"]).unwrap(), ["fuzz"]);
        assert_eq!(
            chosen(&["--only-peers"]).unwrap(),
            ["peers", "mx", "browser"]
        );
        assert_eq!(chosen(&["--full", "nothing"]), None);
    }
}
