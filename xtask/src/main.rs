//! The tasks of the project, run as `cargo xtask TASK`: tests, load drivers and sinks, a comparison
//! with other mail servers, fuzzing, benchmarks, and a lab with DNS and remote servers.
//!
//! No code of the server is linked in. The tasks use the server as a user does: its command line,
//! its sockets and `cargo`. So the load driver measures any SMTP server in the same way.
//!
//! In reading order: [`mod@test`], [`check`] and [`peers`] (the test command), [`load`] with
//! [`sink`] and [`hooks_sink`] (load and counting), [`compare`] with [`postfix`] and [`postrider`]
//! (side by side), [`crash`], then the small tasks.

#![expect(
    clippy::print_stdout,
    reason = "the output of a command-line task is its result"
)]

mod bench;
mod browser;
mod check;
mod compare;
mod crash;
mod dovecot;
// The tasks read durations as the server does, and link none of its code. So they share this file.
#[expect(unreachable_pub, reason = "the file belongs to another crate")]
#[path = "../../config/src/duration.rs"]
mod duration;
mod events;
mod examples;
mod fuzz;
mod haproxy;
mod hooked;
mod hooks_sink;
mod http;
mod introspection;
mod keys;
mod knot;
mod lab;
mod load;
mod mail_tokens;
mod milters;
mod mx;
mod pages;
mod pebble;
mod peers;
mod ports;
mod postfix;
mod postrider;
mod process;
mod programs;
mod returned;
mod rfc;
mod sink;
mod sites;
mod smarthost;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The tasks of the project"
)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Runs everything that CI runs: format, lints, tests, and checks against real programs
    Test(test::Args),
    /// Lists unused dependencies
    Dependencies,
    /// Lists source files and comment lines that are too long
    Prose,
    /// Puts load on an SMTP server or a webapi, and prints rate, latencies and CPU time
    #[command(subcommand)]
    Load(load::Load),
    /// An SMTP server that accepts everything, stores nothing and counts
    Sink(sink::Args),
    /// A receiver of webhooks that answers 200 to everything and counts
    HooksSink(hooks_sink::Args),
    /// Measures postrider and another mail server side by side, in alternating rounds
    Compare(compare::Args),
    /// Measures deliveries to many sites of which some are dead or slow
    Sites(sites::Args),
    /// Measures the web pages of a server with long lists
    Pages(pages::Args),
    /// Kills postrider under load, again and again, and checks that every accepted message arrives
    Crash(crash::Args),
    /// Fuzzes one target, and installs cargo-fuzz if it is missing
    Fuzz(fuzz::Args),
    /// Makes the pictures of the documentation
    Docs(browser::Args),
    /// Runs the benchmarks
    Bench(bench::Args),
    /// Lists the sections of RFCs that doc comments cite, by file
    Rfc(rfc::Args),
    /// Runs a DNS server and scripted SMTP servers on loopback, to try `postrider serve` with
    Lab(lab::Args),
}

fn main() -> ExitCode {
    let Some(task) = Cli::parse().task else {
        print!("{}", Cli::command().render_help());
        return ExitCode::SUCCESS;
    };
    let outcome = match task {
        Task::Test(args) => return test::run(&args),
        Task::Dependencies => check::dependencies::check(),
        Task::Prose => check::prose::check(),
        Task::Load(load) => load::run(load),
        Task::Sink(args) => sink::run(args),
        Task::HooksSink(args) => hooks_sink::run(args),
        Task::Compare(args) => compare::run(&args),
        Task::Sites(args) => sites::run(&args),
        Task::Pages(args) => pages::run(&args),
        Task::Crash(args) => crash::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Docs(args) => browser::take_pictures(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Rfc(args) => rfc::run(&args),
        Task::Lab(args) => lab::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
