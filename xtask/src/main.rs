//! The project's own tasks, run as `cargo xtask TASK`: what CI runs, the load driver and its sinks, the comparison with
//! other mail servers, fuzzing, benchmarks, and a
//! laboratory of DNS and remote servers to try the server against.
//!
//! Nothing here is part of the server, and nothing of the server is linked in: the tasks meet it only through its command
//! line, its sockets and `cargo`, as a user would. So the load driver measures any SMTP server in the same way.
//!
//! In reading order: [`test`] and [`peers`] (what CI runs), [`load`] with [`sink`] and [`hooks_sink`] (load and
//! counting), [`compare`] with [`postfix`] and [`postrider`] (side by side), [`crash`], then the small ones.

#![expect(
    clippy::print_stdout,
    reason = "these are command-line tasks, and what they print is their result"
)]

mod bench;
mod compare;
mod crash;
mod events;
mod examples;
mod fuzz;
mod hooks_sink;
mod http;
mod keys;
mod lab;
#[cfg(test)]
mod layers;
mod load;
mod peers;
mod postfix;
mod postrider;
mod process;
mod programs;
mod returned;
mod rfc;
mod sink;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's own tasks"
)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Runs all that CI runs: format, lints, tests, and the checks against real mail programs
    Test(test::Args),
    /// Puts load on an SMTP server or a webapi, and prints rate, latencies and the CPU time of given processes
    #[command(subcommand)]
    Load(load::Load),
    /// An SMTP server that takes everything, stores nothing and counts
    Sink(sink::Args),
    /// A receiver of webhooks that answers 200 to everything and counts
    HooksSink(hooks_sink::Args),
    /// Measures postrider and another mail server side by side, in alternating rounds
    Compare(compare::Args),
    /// Kills postrider under load, again and again, and counts whether all it accepted arrives
    Crash(crash::Args),
    /// Fuzzes one target, installing cargo-fuzz when it is missing
    Fuzz(fuzz::Args),
    /// Runs the benchmarks
    Bench(bench::Args),
    /// Lists the sections of RFCs that doc comments cite, by file
    Rfc(rfc::Args),
    /// Runs a DNS server and scripted SMTP servers on loopback, to try `postrider serve` against
    Lab(lab::Args),
}

fn main() -> ExitCode {
    let Some(task) = Cli::parse().task else {
        print!("{}", Cli::command().render_help());
        return ExitCode::SUCCESS;
    };
    let outcome = match task {
        Task::Test(args) => return test::run(&args),
        Task::Load(load) => load::run(load),
        Task::Sink(args) => sink::run(args),
        Task::HooksSink(args) => hooks_sink::run(args),
        Task::Compare(args) => compare::run(&args),
        Task::Crash(args) => crash::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
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
