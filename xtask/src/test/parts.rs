//! The list of parts: names, what each proves, and the steps of the plain ones.

use std::process::Command;

use super::steps::{cargo_step, run_command};
use super::{
    Args, Done, Steps, filters, generators, metrics, opinions, pigeonhole, schemathesis, slow,
    smoke,
};
use crate::browser;
use crate::check::{dependencies, prose};
use crate::crash::{self, Via};
use crate::hooked;
use crate::mx;
use crate::pebble;
use crate::peers;
use crate::workspace::{root, rust_files};

/// A group of steps that `--full NAME` runs alone.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// One sentence for `--list` and docs/testing.md.
    pub(super) proves: &'static str,
    pub(super) run: fn(&mut Steps, &Args),
}

/// The level of a run that a part belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// CI and every developer run it.
    Plain,
    /// Only `--full` runs it.
    Full,
}

/// The names of the plain parts with real mail programs and a real browser.
pub(super) const PEERS: [&str; 3] = ["peers", "mx", "browser"];

/// All parts in the order in which they run. Those of the plain level come first.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "format",
        level: Level::Plain,
        proves: "rustfmt would change nothing",
        run: |steps, _| {
            steps.step("format", format);
        },
    },
    Part {
        name: "dependencies",
        level: Level::Plain,
        proves: "every declared dependency is used",
        run: |steps, _| {
            steps.step("dependencies", || passed(dependencies::check()));
        },
    },
    Part {
        name: "prose",
        level: Level::Plain,
        proves: "no source file has more than 700 lines, and no comment line more than 100 columns",
        run: |steps, _| {
            steps.step("prose", || passed(prose::check()));
        },
    },
    Part {
        name: "lints",
        level: Level::Plain,
        proves: "clippy has no warning in any target",
        run: |steps, _| {
            steps.step("lints", lints);
        },
    },
    Part {
        name: "tests",
        level: Level::Plain,
        proves: "unit, property and whole-server tests pass, and so does the replay of the fuzz corpora",
        run: |steps, _| {
            // One run tells of all failures, not only of those of the first test binary.
            let arguments = ["test", "--workspace", "--locked", "--no-fail-fast"];
            steps.step("tests", || cargo_step(&arguments));
        },
    },
    Part {
        name: "crash",
        level: Level::Plain,
        proves: "a server killed 3 times under a load of 600 messages delivers all that it accepted",
        run: |steps, _| crashes(steps, crash::Args::small),
    },
    Part {
        name: "peers",
        level: Level::Plain,
        proves: "Postfix, Dovecot, swaks, msmtp, mutt, smtplib, nodemailer, curl, HAProxy, \
                 Knot DNS, a client in Go and the documented examples work",
        run: |steps, args| with_peers(steps, args, peers::run),
    },
    Part {
        name: "mx",
        level: Level::Plain,
        proves: "Postfix takes mail with TLS, DANE over zones of Knot DNS and MTA-STS, and mail to \
                 a Postfix that does not meet them, that refuses, defers or greylists ends as it should",
        run: |steps, args| with_peers(steps, args, mx::run),
    },
    Part {
        name: "browser",
        level: Level::Plain,
        proves: "three journeys through the web pages in Chromium end as they should, with JavaScript and \
                 without, and no page breaks its policy or has an error of a script",
        run: |steps, args| with_peers(steps, args, browser::plain),
    },
    Part {
        name: "opinions",
        level: Level::Plain,
        proves: "dkimpy, authheaders and OpenDKIM sign and verify 300 messages as we do",
        run: opinions_part,
    },
    Part {
        name: "metrics",
        level: Level::Full,
        proves: "promtool has nothing to say of the page of metrics and of the alerts, and each alert fires when it should and stays quiet when not",
        run: |steps, _| metrics::run(steps),
    },
    Part {
        name: "milters",
        level: Level::Full,
        proves: "OpenDKIM signs for logins and verifies, OpenDMARC and rspamd judge, and a filter \
                 made with python3-milter makes all changes that there are",
        run: |steps, _| filters::run(steps),
    },
    Part {
        name: "docs",
        level: Level::Full,
        proves: "the API documentation builds without a warning",
        run: |steps, _| {
            steps.step("API documentation", slow::docs);
        },
    },
    Part {
        name: "simulation",
        level: Level::Full,
        proves: "the property tests pass with four times the cases, the store does what its model does in 4000 new courses, and 500 packed bombs take little memory",
        run: |steps, _| {
            steps.step("property tests with more cases", slow::simulation);
            steps.step("the store's model in new courses", slow::store_model);
            steps.step("the memory that packed bombs take", slow::bombs);
            steps.step("crash tests with more rounds", slow::crash_rounds);
        },
    },
    Part {
        name: "internet",
        level: Level::Full,
        proves: "100,000 messages of a week for 2000 simulated sites, and those of 110 small worlds, end once and as their sites have it, and each has its whole story in traces and log",
        run: |steps, _| {
            steps.step("a week of the simulated internet", slow::internet_week);
            steps.step("100 small worlds", slow::internet_worlds);
            steps.step("10 worlds with signed zones", slow::internet_signed);
        },
    },
    Part {
        name: "crash-long",
        level: Level::Full,
        proves: "a server killed 20 times under a load of 10,000 messages delivers all that it accepted",
        run: |steps, _| crashes(steps, crash::Args::long),
    },
    Part {
        name: "acme",
        level: Level::Full,
        proves: "Pebble gives certificates by tls-alpn-01 and http-01, and they survive kill -9",
        run: |steps, args| pebble::run(steps, args.require_peers),
    },
    Part {
        name: "fuzz",
        level: Level::Full,
        proves: "each fuzz target finds nothing in 30 seconds",
        run: |steps, _| slow::fuzz(steps),
    },
    Part {
        name: "generators",
        level: Level::Full,
        proves: "the clients that two generators make of the API description import and compile",
        run: |steps, _| generators::run(steps),
    },
    Part {
        name: "schemathesis",
        level: Level::Full,
        proves: "each operation of the management API but the streams answers as its description says, also to requests that it does not allow",
        run: |steps, _| schemathesis::run(steps),
    },
    Part {
        name: "browser-all",
        level: Level::Full,
        proves: "all journeys in Chromium end as they should, and axe-core, a narrow window and the Tab key \
                 find nothing that keeps people from using a page",
        run: |steps, args| with_peers(steps, args, browser::all),
    },
    Part {
        name: "rspamd",
        level: Level::Full,
        proves: "rspamd decides about incoming mail over HTTP, and learns what users call junk",
        run: |steps, args| with_peers(steps, args, hooked::with_rspamd),
    },
    Part {
        name: "sieve",
        level: Level::Full,
        proves: "Pigeonhole, the Sieve of Dovecot, does the same as we do for 149 scripts and 7 messages",
        run: |steps, args| with_peers(steps, args, pigeonhole::run),
    },
    Part {
        name: "load",
        level: Level::Full,
        proves: "the load drivers deliver every message, and the server holds idle connections",
        run: |steps, _| smoke::run(steps),
    },
    Part {
        name: "dist",
        level: Level::Full,
        proves: "the binary that is shipped builds, starts, and has at most 30 MB",
        run: |steps, _| {
            steps.step("the binary that is shipped", slow::dist);
        },
    },
];

fn passed(result: anyhow::Result<()>) -> anyhow::Result<Done> {
    result.map(|()| Done::Passed)
}

/// Checks each source file by its path: `cargo fmt` does not find modules that a macro declares.
fn format() -> anyhow::Result<Done> {
    let mut command = Command::new("rustfmt");
    command.args(["--check", "--edition", "2024"]);
    command.args(rust_files(&root())?);
    run_command(&mut command)
}

fn lints() -> anyhow::Result<Done> {
    cargo_step(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-Dwarnings",
    ])
}

/// Kills the server under load, once with messages over SMTP and once with messages of the webapi.
fn crashes(steps: &mut Steps, args: fn(Via) -> crash::Args) {
    for (via, name) in [
        (Via::Smtp, "kill -9 loses no message taken by SMTP"),
        (Via::Webapi, "kill -9 loses no message taken by the webapi"),
    ] {
        steps.step(name, || passed(crash::run(&args(via))));
    }
}

/// Runs checks with real programs, unless the arguments leave them out.
fn with_peers(steps: &mut Steps, args: &Args, run: fn(&mut Steps, bool)) {
    if args.skip_peers {
        steps.step("real programs", || {
            Ok(Done::Skipped("--skip-peers was given".to_owned()))
        });
    } else {
        run(steps, args.require_peers);
    }
}

fn opinions_part(steps: &mut Steps, args: &Args) {
    if args.skip_peers {
        steps.step("second opinions", || {
            Ok(Done::Skipped("--skip-peers was given".to_owned()))
        });
    } else {
        opinions::run(steps);
    }
}
